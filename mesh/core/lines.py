"""What becomes of lines that somebody posted: the steps between a source and its stages, run on each of them.

All lines of a request are read before anything of it is sent, so one that the steps do not take is told to who sent it,
and nothing is set aside. A line becomes at most MOST_OF_A_LINE records: each has a number of its own behind its line's.
"""

from __future__ import annotations

from typing import Any

from mesh.app.plan import Plan
from mesh.core import columns
from mesh.core.requests import Record, Request
from mesh.core.set_aside import told
from mesh.core.windows import INDEX_BITS
from mesh.core.windows import MOST_RECORDS as MOST_OF_A_LINE


def read_lines(request: Request, lines: int, plan: Plan, seed: int, shift: int) -> dict[str, Any] | None:
    """What is wrong with one of the next lines, if anything; else their records wait to be sent."""
    assert request.source is not None
    run = plan.sources[request.source].fragment.run
    collected = _Collected()
    for line in range(request.read, request.read + lines):
        value = request.values[line]
        if value is None:
            continue  # None means nothing, also from a source
        collected.begin(line)
        run(None, [value], collected)
        if collected.problem:
            return {"line": line + 1, "detail": collected.problem}
    request.read += lines
    for stage, (keys, values, places) in collected.stages.items():
        if not columns.all_keys_good(keys):
            index, error = next(iter(columns.bad_keys(keys).items()))
            return {"line": (places[index] >> INDEX_BITS) + 1, "detail": f"{plan.stages[stage].name}: {error}"}
        slots = columns.slots_of(keys, seed, shift)
        rows = zip(slots, keys, values, places, strict=True)
        request.todo.extend(Record(stage, *row) for row in rows)
    request.items += collected.items
    return None


class _Collected:
    """The `Emit` of a source's steps while they are run on lines: what becomes of each."""

    def __init__(self) -> None:
        self.stages: dict[int, tuple[list[Any], list[Any], list[int]]] = {}  # keys, values, places
        self.items: list[tuple[int, list[Any]]] = []
        self.problem = ""
        self._place = 0
        self._most = 0

    def begin(self, line: int) -> None:
        self._place = line << INDEX_BITS
        self._most = self._place + MOST_OF_A_LINE

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        if self._place + len(keys) >= self._most:
            self.problem = self.problem or f"it becomes more than {MOST_OF_A_LINE} records"
            return
        columns_of_stage = self.stages.setdefault(stage, ([], [], []))
        columns_of_stage[0].extend(keys)
        columns_of_stage[1].extend(values)
        columns_of_stage[2].extend(range(self._place, self._place + len(keys)))
        self._place += len(keys)

    def to_sink(self, sink: int, items: list[Any]) -> None:
        self.items.append((sink, items))

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        self.problem = self.problem or f"{step} ({where}): {told(error)}"
