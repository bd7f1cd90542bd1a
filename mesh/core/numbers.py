"""The numbers that records carry from their producer to the slot that takes them, beside their keys and values.

A record is known by its stream, which is a split of a source or what one slot of a stage gave, and by its number there.
Producers give numbers as they put records: a chunk of a split, or the outputs of one pack, is one run. Wherever records
wait, are cut, held back or taken back, their numbers go with them; so what is sent again has the numbers it had.

A stage numbers all its outputs on this node by one counter. Of each slot's stream the numbers rise, and that is all
that marks need; a slot that comes from another node lifts the counter above whatever that one gave.

Invariants runs are in the order of the records and cover all of them; two that follow each other differ in producer.
          On the wire a number is 32 bits above its run's base; in memory it is what it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TypeAlias

from mesh.core.codec import MAX_INT, Malformed
from mesh.core.columns import are_slots, little_endian, slots_from_bytes, slots_to_bytes
from mesh.core.messages.work import NumberedRun

Producer: TypeAlias = tuple[bool, int, str]  # is it a stage; its number, or that of the source; the split
WIDE = 1 << 32


@dataclass(slots=True)
class Numbers:
    """One number a record, and who gave it."""

    numbers: list[int] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)  # of what a stage gave: the slot; of a split: 0
    starts: list[int] = field(default_factory=list)  # of each run, its first record
    producers: list[Producer] = field(default_factory=list)  # of each run

    def __len__(self) -> int:
        return len(self.numbers)

    def begin(self, producer: Producer) -> None:
        """What is appended to the columns from here on, it gives."""
        if self.producers and self.producers[-1] == producer:
            return
        if self.starts and self.starts[-1] == len(self.numbers):
            self.starts.pop()
            self.producers.pop()
            self.begin(producer)
            return
        self.starts.append(len(self.numbers))
        self.producers.append(producer)

    def runs(self) -> Iterator[tuple[Producer, int, int]]:
        """(who, first record, the one behind the last) of each."""
        ends = [*self.starts[1:], len(self.numbers)][: len(self.starts)]
        for producer, start, end in zip(self.producers, self.starts, ends, strict=True):
            if start < end:
                yield producer, start, end

    def extend(self, more: Numbers) -> None:
        for producer, start, end in more.runs():
            self.begin(producer)
            self.numbers += more.numbers[start:end]
            self.origins += more.origins[start:end]

    def part(self, start: int, end: int) -> Numbers:
        found = Numbers()
        for producer, first, behind in self.runs():
            if first < end and start < behind:
                found.begin(producer)
                found.numbers += self.numbers[max(first, start) : min(behind, end)]
                found.origins += self.origins[max(first, start) : min(behind, end)]
        return found

    def chosen(self, indexes: Sequence[int]) -> Numbers:
        """Of these records, in this order."""
        numbers, origins = [self.numbers[index] for index in indexes], [self.origins[index] for index in indexes]
        found = Numbers(numbers, origins)
        if len(self.producers) == 1 and indexes:
            found.starts, found.producers = [0], self.producers.copy()
            return found
        first, behind = 0, 0  # of the run that the last one is in
        for place, index in enumerate(indexes):
            if not first <= index < behind:
                run = bisect_right(self.starts, index) - 1
                first, behind = self.starts[run], [*self.starts[run + 1 : run + 2], len(self.numbers)][0]
                if not found.producers or found.producers[-1] != self.producers[run]:
                    found.starts.append(place)
                    found.producers.append(self.producers[run])
        return found

    def only(self, chosen: Sequence[bool]) -> Numbers:
        """Of the records that are chosen."""
        return self.chosen([*compress(range(len(self.numbers)), chosen)])

    # -- on the wire

    def to_runs(self) -> tuple[NumberedRun, ...]:
        found: list[NumberedRun] = []
        for producer, start, end in self.runs():
            numbers = self.numbers[start:end]
            given = slots_to_bytes(self.origins[start:end]) if producer[0] else b""
            try:
                found.append(NumberedRun(*producer, given, 0, _to_bytes(numbers)))  # usually; it needs no arithmetic
            except OverflowError:
                for base, first, behind in _within_32_bits(numbers):
                    above = _to_bytes([number - base for number in numbers[first:behind]])
                    found.append(NumberedRun(*producer, given[2 * first : 2 * behind], base, above))
        return tuple(found)

    @classmethod
    def from_runs(cls, runs: Sequence[NumberedRun]) -> Numbers:
        """Back from `to_runs`, on the node that made them."""
        found = cls()
        for run in runs:
            numbers = _above(run)
            found.begin((run.of_stage, run.producer, run.split))
            found.numbers += numbers
            found.origins += slots_from_bytes(run.origins) if run.of_stage else [0] * len(numbers)
        return found


class OpenNumbers:
    """Columns that grow record by record, by the append methods of `numbers` and, for what a stage gave, `origins`."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.origins: list[int] = []  # of what stages gave only
        self._starts: list[int] = []
        self._producers: list[Producer] = []

    def begin(self, producer: Producer) -> None:
        """What is appended from here on, it gives."""
        if self._starts and self._starts[-1] == len(self.numbers):
            self._starts.pop()
            self._producers.pop()
        if not self._producers or self._producers[-1] != producer:
            self._starts.append(len(self.numbers))
            self._producers.append(producer)

    def take(self) -> Numbers:
        """All there is; afterwards this is empty, and the next run is begun."""
        taken = Numbers(self.numbers.copy(), [], self._starts.copy(), self._producers.copy())
        if taken.starts and taken.starts[-1] == len(taken.numbers):
            taken.starts.pop()
            taken.producers.pop()
        place = 0
        for (of_stage, _, _), start, end in taken.runs():
            taken.origins += self.origins[place : place + end - start] if of_stage else [0] * (end - start)
            place += end - start if of_stage else 0
        for column in (self.numbers, self.origins, self._starts, self._producers):
            column.clear()
        return taken


def _to_bytes(numbers: list[int]) -> bytes:
    return little_endian(array("I", numbers)).tobytes()


def _within_32_bits(numbers: list[int]) -> Iterator[tuple[int, int, int]]:
    """(base, first, behind the last)."""
    first = 0
    low = high = numbers[0]
    for place, number in enumerate(numbers):
        if max(high, number) - min(low, number) >= WIDE:
            yield low, first, place
            first, low, high = place, number, number
        low, high = min(low, number), max(high, number)
    yield low, first, len(numbers)


def checked(runs: Sequence[NumberedRun], records: int, sources: int, stages: int, slots: int) -> Numbers:
    """Those of a batch of so many records; raises Malformed."""
    found = Numbers()
    for run in runs:
        numbers, origins = _above(run), _origins(run, slots)
        if run.producer >= (stages if run.of_stage else sources) or (run.of_stage and run.split):
            raise Malformed("batch", "a run of no producer")
        if not run.of_stage:
            origins = [0] * len(numbers)
        if not numbers or len(origins) != len(numbers):
            raise Malformed("batch", "an empty run, or columns of different lengths")
        found.begin((run.of_stage, run.producer, run.split))
        found.numbers += numbers
        found.origins += origins
    if len(found) != records:
        raise Malformed("batch", f"{len(found)} numbers for {records} records")
    return found


def _above(run: NumberedRun) -> list[int]:
    column = array("I")
    try:
        column.frombytes(run.numbers)
    except ValueError:
        raise Malformed("batch", "a number that is cut") from None
    numbers = little_endian(column).tolist()
    if run.base > MAX_INT - WIDE and numbers and run.base + max(numbers) > MAX_INT:
        raise Malformed("batch", "a number that is too large")
    return numbers if run.base == 0 else [run.base + number for number in numbers]


def _origins(run: NumberedRun, slots: int) -> list[int]:
    try:
        origins = list(slots_from_bytes(run.origins))
    except ValueError:
        raise Malformed("batch", "a slot that is cut") from None
    if origins and not (run.of_stage and are_slots(run.origins, slots)):
        raise Malformed("batch", "no such slot, or a slot where none belongs")
    return origins
