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

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mesh.core.codec import MAX_INT, Malformed
from mesh.core.columns import slots_from_bytes, slots_to_bytes
from mesh.core.messages import NumberedRun

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
        found = Numbers()
        last = -1
        for index in indexes:
            run = bisect_right(self.starts, index) - 1
            if run != last:
                found.begin(self.producers[run])
                last = run
            found.numbers.append(self.numbers[index])
            found.origins.append(self.origins[index])
        return found

    # -- on the wire

    def to_runs(self) -> tuple[NumberedRun, ...]:
        found: list[NumberedRun] = []
        for producer, start, end in self.runs():
            numbers, origins = self.numbers[start:end], self.origins[start:end]
            for base, first, behind in _within_32_bits(numbers):
                above = numbers[first:behind] if base == 0 else [number - base for number in numbers[first:behind]]
                given = slots_to_bytes(origins[first:behind]) if producer[0] else b""
                found.append(NumberedRun(*producer, given, base, _little_endian(array("I", above)).tobytes()))
        return tuple(found)


def _within_32_bits(numbers: list[int]) -> Iterator[tuple[int, int, int]]:
    """(base, first, behind the last); usually one with base 0, which needs no arithmetic."""
    if max(numbers) < WIDE:
        yield 0, 0, len(numbers)
        return
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
    numbers = _little_endian(column).tolist()
    if numbers and run.base + max(numbers) > MAX_INT:
        raise Malformed("batch", "a number that is too large")
    return numbers if run.base == 0 else [run.base + number for number in numbers]


def _origins(run: NumberedRun, slots: int) -> list[int]:
    try:
        origins = list(slots_from_bytes(run.origins))
    except ValueError:
        raise Malformed("batch", "a slot that is cut") from None
    if origins and (not run.of_stage or max(origins) >= slots):
        raise Malformed("batch", "no such slot, or a slot where none belongs")
    return origins


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column
