"""Run an application in a test: in this thread, on records that the test gives, and look at what comes out.

result = mesh.testing.run(app, {"lines": ["to be or not to be"]})
assert result.states["count"] == {"to": 2, "be": 2, "or": 1, "not": 1}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mesh.app.builder import App
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from mesh.runtime.embedded import Embedded

CHUNK_RECORDS = 1_000


@dataclass(frozen=True, slots=True)
class Result:
    """What an application made of its records."""

    outputs: dict[str, list[Any]] = field(default_factory=dict)  # by sink name, in order
    states: dict[str, dict[Any, Any]] = field(default_factory=dict)  # by stage name: key -> state


class RecordFailed(AssertionError):
    """A record was set aside: the application's own code raised, or a key was no key."""


def run(app: App, records: Mapping[str, Iterable[Any]], *, allow_failures: bool = False) -> Result:
    """Feed each named source its records and run to the end. Sources that are not named get none.

    Raises AppError if the app has mistakes, KeyError for a source that it has not, and RecordFailed for the first
    record that could not be used, unless `allow_failures`.
    """
    plan = compile_app(app, all_sinks=True)
    unknown = sorted(set(records) - {source.name for source in plan.sources})
    if unknown:
        raise KeyError(f"{app.name} has no source {unknown[0]!r}; it has {[source.name for source in plan.sources]}")
    collected: dict[str, list[Any]] = {sink.name: [] for sink in plan.sinks}
    embedded = Embedded(_with_records(plan, records, collected), slots=16)
    result = embedded.run()
    if result.failed and not allow_failures:
        raise RecordFailed(f"{result.failed} set aside; the first: {result.first_failure}")
    return Result(collected, {stage.plan.name: dict(stage.states) for stage in embedded.data.owner.stages})


def _with_records(plan: Plan, records: Mapping[str, Iterable[Any]], collected: dict[str, list[Any]]) -> Plan:
    sources = tuple(replace(each, connector=_Given(list(records.get(each.name, ())))) for each in plan.sources)
    sinks = tuple(replace(each, connector=_Collected(collected[each.name])) for each in plan.sinks)
    return replace(plan, sources=sources, sinks=sinks)


class _Given:
    """A source of given records; one split, so that they stay in order. It is its own reader."""

    endless = False
    blocking = False

    def __init__(self, records: list[Any]) -> None:
        self._records = records
        self._offset = 0

    def splits(self) -> list[Split]:
        return [Split("given", len(self._records))]

    def open(self, split: Split, offset: int) -> _Given:
        self._offset = offset
        return self

    def read(self, max_bytes: int) -> Chunk[Any]:
        start, self._offset = self._offset, self._offset + CHUNK_RECORDS
        return Chunk(self._records[start : self._offset], self._offset, self._offset >= len(self._records))

    def close(self) -> None:
        pass


class _Collected:
    """A sink that keeps its items. It is its own writer."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def open(self, writer: str) -> _Collected:
        return self

    def write(self, items: Sequence[Any]) -> None:
        self._items.extend(items)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
