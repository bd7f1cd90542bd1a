"""An application made for being watched: every record carries the stream it belongs to and its number therein.

    lines of numbers -> record (stream, seq, number) -> stage 0 -> stage 1 -> ... -> sink

A stage has its own way to make a key of the number, counts and adds up per key, and gives out the number again as the
next record of the stream "stage:key". So the order within every stream, and what each state must be in the end, are
known without knowing who worked when. Some numbers have no key, a bad key, a step that raises, or no output.

The lines of the last source may be posted instead of read, and then the job has no end (see `clients`). Beside all of
this stands a stage of notes, which nobody can know beforehand: it counts them by key, and writes down which was which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeAlias

import mesh
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from mesh.sim.connectors import Door, MadeUp, Watched

Record: TypeAlias = tuple[str, int, int]  # stream, seq, number
Line: TypeAlias = tuple[str, int, tuple[int, ...]]  # stream, seq of the first number, numbers
Tally: TypeAlias = tuple[int, int]  # how many records a key has had, and the sum of their numbers

OUT, QUIET, RAISES = "out", "quiet", "raises"
KINDS = ("step", "fold", "in place")
NOTES, NOTED = "notes", "noted"  # a source, and its stage and sink
_NOTE_KEYS = 7


class Observer(Protocol):
    """Who wants to know what the application does, on one node."""

    def reading(self, stream: str, offset: int, lines: Sequence[Line]) -> None: ...

    def stepping(self, stage: int, record: Record, count: int) -> None: ...

    def writing(self, sink: str, items: Sequence[Any]) -> None: ...

    def noting(self, note: Record, count: int) -> None: ...

    def random(self) -> Random: ...


@dataclass(frozen=True, slots=True)
class StageShape:
    """One stage: `keys` distinct keys, its kind, and whether some of its records are troublesome."""

    kind: str
    keys: int
    troubled: bool


@dataclass(frozen=True, slots=True)
class Workload:
    """The shape of the application and the contents of its sources."""

    stages: tuple[StageShape, ...]
    sources: tuple[tuple[tuple[Line, ...], ...], ...]  # source -> split -> lines
    chunk_lines: int
    side_sink: bool  # stage 0 also has a sink
    posted: bool = False  # the last source is
    notes: bool = False

    # -- what the numbers mean

    def key(self, stage: int, number: int) -> Any:
        """str, int and bytes by turns; at the first stage now and then none, or a bad one."""
        shape = self.stages[stage]
        if stage == 0 and shape.troubled:
            if number % 97 == 96:
                return None
            if number % 101 == 100:
                return 1.5
        place = (number * 31 + stage) % shape.keys
        return (f"key-{place}", place - shape.keys // 2, b"\xff%d" % place)[stage % 3]

    def has_key(self, stage: int, number: int) -> bool:
        return isinstance(self.key(stage, number), str | int | bytes)

    def good_number(self, number: int) -> bool:
        """May it be posted? A line with a bad key is refused."""
        return self.key(0, number) is None or self.has_key(0, number)

    def fate(self, stage: int, number: int) -> str:
        """What the stage's step does with a record."""
        shape = self.stages[stage]
        if shape.troubled and shape.kind == "step" and number % 53 == 52:
            return RAISES
        return QUIET if shape.troubled and shape.kind != "fold" and number % 13 == 12 else OUT

    def stream(self, stage: int, key: Any) -> str:
        """The stream that a stage gives out for a key."""
        return f"{stage}:{key}"

    def sinks(self, stage: int) -> list[str]:
        """The sinks below a stage; -1 stands for the sources."""
        last = ["last"] if stage == len(self.stages) - 1 else []
        return [*last, "side"] if stage == 0 and self.side_sink else last

    @property
    def read_sources(self) -> int:
        return len(self.sources) - self.posted

    def records(self) -> int:
        return sum(len(numbers) for splits in self.sources for lines in splits for _, _, numbers in lines)

    def chunks(self) -> int:
        """About how many reads it takes."""
        return sum(len(lines) for splits in self.sources for lines in splits) * 2 // (self.chunk_lines + 1)

    def expected(self) -> list[dict[Any, Tally]]:
        """The states that one process would end with, by stage: the oracle."""
        numbers = [number for splits in self.sources for lines in splits for _, _, line in lines for number in line]
        states: list[dict[Any, Tally]] = []
        for stage in range(len(self.stages)):
            numbers = [number for number in numbers if self.has_key(stage, number)]
            tallies: dict[Any, Tally] = {}
            passed = []
            for number in numbers:
                fate = self.fate(stage, number)
                if fate == RAISES:
                    continue
                key = self.key(stage, number)
                count, total = tallies.get(key, (0, 0))
                tallies[key] = (count + 1, total + number)
                if fate == OUT:
                    passed.append(number)
            states.append(tallies)
            numbers = passed
        return states

    # -- the application

    def plan(self, observer: Observer) -> Plan:
        """A node's own copy."""
        return compile_app(self.app(observer))

    def app(self, observer: Observer) -> mesh.App:
        app = mesh.App("watched")
        streams = [app.source(f"source-{place}", self._source(place, observer)) for place in range(len(self.sources))]
        stream = streams[0].merge(*streams[1:]) if len(streams) > 1 else streams[0]
        records = stream.flat_map(_records)
        if not self.stages:
            records.to(Watched("last", observer))
            return app
        for stage, shape in enumerate(self.stages):
            keyed = records.key_by(self._key_function(stage))
            outputs = self._stage(keyed, stage, shape, observer)
            for sink in self.sinks(stage):
                outputs.to(Watched(sink, observer))
            if stage + 1 < len(self.stages):
                records = outputs.items().map(self._record_function(stage))
        if self.notes:
            self._add_notes(app, outputs.items(), observer)
        return app

    def _source(self, place: int, observer: Observer) -> Any:
        is_posted = self.posted and place == len(self.sources) - 1
        return mesh.http() if is_posted else MadeUp(self, place, observer)

    def _add_notes(self, app: mesh.App, last: Any, observer: Observer) -> None:
        """Behind the last stage, which never gives it anything: so the stages' places are as without it."""

        def step(count: int, note: Any) -> tuple[int, tuple[int, int]]:
            observer.noting(tuple(note), count + 1)
            return count + 1, (count + 1, note[1])

        notes = app.source(NOTES, Door()).merge(last.filter(lambda _: False))
        notes.key_by(key_of_note).stateful(NOTED, int, step).to(Watched(NOTED, observer))

    def _key_function(self, stage: int) -> Callable[[Record], Any]:
        return lambda record: self.key(stage, record[2])

    def _record_function(self, stage: int) -> Callable[[tuple[Any, Any]], Record]:
        return lambda item: (self.stream(stage, item[0]), item[1][0], item[1][-1])

    def _stage(self, keyed: Any, stage: int, shape: StageShape, observer: Observer) -> Any:
        name = f"stage-{stage}"
        if shape.kind == "fold":
            return keyed.fold(name, lambda: (0, 0, 0), lambda state, record: self._fold(stage, state, record, observer))
        if shape.kind == "step":
            return keyed.stateful(
                name, lambda: (0, 0), lambda state, record: self._step(stage, state, record, observer)
            )
        return keyed.stateful(name, Count, lambda state, record: self._count(stage, state, record, observer))

    def _fold(self, stage: int, state: tuple[int, int, int], record: Record, observer: Observer) -> Any:
        observer.stepping(stage, record, state[0] + 1)
        return state[0] + 1, state[1] + record[2], record[2]

    def _step(
        self, stage: int, state: Tally, record: Record, observer: Observer
    ) -> tuple[Tally, tuple[int, int] | None]:
        observer.stepping(stage, record, state[0] + 1)
        number = record[2]
        fate = self.fate(stage, number)
        if fate == RAISES:
            raise ValueError(f"{number} is refused")
        count = state[0] + 1
        return (count, state[1] + number), (count, number) if fate == OUT else None

    def _count(self, stage: int, state: Count, record: Record, observer: Observer) -> tuple[Count, Any]:
        (state.count, state.total), out = self._step(stage, (state.count, state.total), record, observer)
        return state, out


@dataclass
class Count:
    """A state that changes in place. Another node must find it under its name, so it stands here, and not in a plan."""

    count: int = 0
    total: int = 0


def tally(state: Any) -> Tally:
    """Any kind of state as what the oracle knows."""
    return (state.count, state.total) if isinstance(state, Count) else (state[0], state[1])


def key_of_note(note: Sequence[Any]) -> int:
    return int(note[2]) % _NOTE_KEYS


def _records(line: Line) -> list[Record]:
    stream, first, numbers = line
    return [(stream, first + place, number) for place, number in enumerate(numbers)]
