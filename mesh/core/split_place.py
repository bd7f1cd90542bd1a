"""One split that is read here: how far it is read, and up to where all that came of it is over.

States    of a chunk: coming (its records are being numbered) -> read -> over. What is read is over in any order.
Events    `came`, `number`, `through`; `over`; `put` when the place went into a pack.

The place is the end of a chunk, with the number behind its last record per target. It moves when no record below those
numbers is left that is not over; so whoever reads on from it reads every record that is not.

A record is over by its name, not by being counted: told twice, or told of an earlier reading of the same split that had
given it the same number, it is over once. What this reading has not given out yet is not over for it, whoever says so:
it will be read and, since it is known to its owner, told again.

Invariants the place never moves back, and never beyond a record that is not over; `ended` means that all are.
Bounds    a chunk without a record of its own belongs to the one before it: there are no more chunks than records that
          are not over. A byte for each record from the lowest that is not over on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.app.connectors import Split
from mesh.core.slot_splits import Place


@dataclass(slots=True)
class _Chunk:
    """Where it ends."""

    behind: list[int]  # per target
    offset: int
    records: int
    ended: bool


class SplitPlace:
    """`place`: all before it is over. `records`: values that the source gave until now, from the split's beginning."""

    __slots__ = (
        "_chunks",
        "_coming",
        "_low",
        "_next",
        "_over",
        "forgotten",
        "key",
        "place",
        "records",
        "source",
        "split",
    )

    def __init__(self, key: bytes, source: int, split: Split, place: Place) -> None:
        self.key = key
        self.source = source
        self.split = split
        self.place = place
        self.records = place.records
        self.forgotten = False  # another reads it, or this node anew
        self._next = list(place.counters)  # per target, the number of its next record
        self._low = list(place.counters)  # per target, the lowest number that is not over
        self._over = [bytearray() for _ in place.counters]  # per target, from there on: 1 for each that is
        self._chunks: list[_Chunk] = []  # that are not over, in order
        self._coming: tuple[int, bool] | None = None

    # -- it is read

    def came(self, records: int, next_offset: int, ended: bool) -> None:
        self.records += records
        self._coming = next_offset, ended

    def number(self, target: int, count: int) -> int:
        """Of the first of so many records of the chunk that is coming."""
        assert self._coming is not None, "records of no chunk"
        first = self._next[target]
        self._next[target] += count
        return first

    def through(self) -> None:
        """All records of the chunk have their numbers."""
        assert self._coming is not None, "the end of no chunk"
        offset, ended = self._coming
        self._coming = None
        if not self._chunks or self._chunks[-1].behind != self._next:
            self._chunks.append(_Chunk(self._next.copy(), offset, self.records, ended))
        else:
            last = self._chunks[-1]
            last.offset, last.records, last.ended = offset, self.records, ended
        self._move()

    # -- it is over

    def over(self, target: int, numbers: Sequence[int]) -> None:
        """The owners of these have answered."""
        low, behind = self._low[target], self._next[target]
        if min(numbers) < low or max(numbers) >= behind:
            numbers = [number for number in numbers if low <= number < behind]
        over = self._over[target]
        over.extend(bytes(behind - low - len(over)))
        for number in numbers:
            over[number - low] = 1
        left = over.find(0)
        done = len(over) if left < 0 else left
        del over[:done]
        self._low[target] += done
        self._move()

    def _move(self) -> None:
        done = list(self._done())
        if done:
            last = done[-1]
            self.place = Place(last.offset, tuple(last.behind), last.ended, self.place.size, last.records)
            del self._chunks[: len(done)]

    def _done(self) -> Iterator[_Chunk]:
        for chunk in self._chunks:
            if any(low < behind for low, behind in zip(self._low, chunk.behind, strict=True)):
                return
            yield chunk
