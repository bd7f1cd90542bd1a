"""Who reads which split, and what to read next.

A source is cut into splits; each split is a stream of its own, read in order by exactly one node at a time. The workers
of the first partition list the same splits and deal them out by the same rule, so nobody has to be asked. Later a split
goes from one reader to another by a message, with its offset: `give` takes it away here, and it is read nowhere until
the other has answered: `given`, or `restored`.

States    per source: unlisted -> listed (own splits known) -> ended (own splits read to their end, none on its way).
Events    `listed(source, splits)`, `read(source, split, ...)`; `next_read()` says what to read now; `give`, `given`,
          `restored` and `received` move splits.
Invariant at most OPEN_SPLITS of a finite source are open at once (each may hold a file), and one that has records is
          read to its end; those of an endless source are all open and take turns. A split that had nothing to give goes
          to the back of the queue. So neither a quiet split nor a busy one silences the others.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from mesh.app.connectors import Split
from mesh.core.messages.work import SourceCount

OPEN_SPLITS = 16

T = TypeVar("T")
Place: TypeAlias = tuple[Split, int]  # a split, and the offset of what is next to read


class SplitsDiffer(Exception):
    """Two nodes list a source differently, so that they deal it differently."""


def fingerprint(splits: Sequence[Split]) -> int:
    """Of all that dealing looks at; never 0."""
    text = "\n".join(f"{split.size} {split.name}" for split in splits)
    return zlib.crc32(text.encode("utf-8", "backslashreplace")) or 1


def deal(splits: Sequence[Split], readers: Sequence[T]) -> list[T]:
    """The reader of each split: largest first, to and fro over the readers, so that counts differ by at most one.

    Going to and fro also keeps the readers' bytes close: whoever takes the largest of one round takes the smallest of
    the next. Integer arithmetic on the splits' sizes alone, so every node deals alike.
    """
    order = sorted(range(len(splits)), key=lambda index: (-splits[index].size, index))
    taken: list[T] = [readers[0]] * len(splits)
    for position, index in enumerate(order):
        turn, seat = divmod(position, len(readers))
        taken[index] = readers[seat if turn % 2 == 0 else len(readers) - 1 - seat]
    return taken


@dataclass(slots=True)
class _Reading:
    """One source on this node."""

    name: str
    endless: bool
    mine: int = 0  # those on their way to another reader included
    done: int = 0
    records: int = 0
    listed: bool = False
    listing: int = 0  # fingerprint of all nodes' splits
    waiting: deque[Place] = field(default_factory=deque)  # own splits that are not open
    open: deque[Place] = field(default_factory=deque)  # the next to read first
    in_vain: int = 0  # reads since the last one that gave something, or since a pause


class Sources:
    """This node's part of every source."""

    def __init__(self, names_and_endless: Sequence[tuple[str, bool]]) -> None:
        self._readings = [_Reading(name, endless) for name, endless in names_and_endless]
        self._is_endless = any(endless for _, endless in names_and_endless)

    def listed(self, source: int, mine: Sequence[Split], listing: int = 0) -> None:
        """The splits of this source that this node shall read, and the fingerprint of all there are."""
        self._readings[source].listed = True
        self._readings[source].listing = listing
        self.received(source, [(split, 0) for split in mine])

    def next_read(self, source: int) -> Place | None:
        """(split, offset) to read now; the answer comes as `read`."""
        reading = self._readings[source]
        if reading.waiting and not reading.open:
            reading.open.appendleft(reading.waiting.popleft())
        return reading.open[0] if reading.open else None

    def expects(self, source: int, split: Split) -> bool:
        """Is this the split whose turn it is? Not if it was given away since it was asked for records."""
        wanted = self.next_read(source)
        return wanted is not None and wanted[0].name == split.name

    def read(self, source: int, split: Split, records: int, next_offset: int, ended: bool) -> bool:
        """A chunk of the split came, perhaps empty, perhaps its last. True: none of this source has anything now."""
        reading = self._readings[source]
        assert self.expects(source, split), "one read at a time a source"
        reading.open.popleft()
        reading.records += records
        reading.in_vain = 0 if records or ended else reading.in_vain + 1
        if ended:
            reading.done += 1
        elif records and not reading.endless:
            reading.open.appendleft((split, next_offset))
        else:
            reading.open.append((split, next_offset))
        if reading.in_vain:
            self._open_another(reading)
        quiet = reading.in_vain >= max(1, len(reading.open))
        if quiet:
            reading.in_vain = 0
        return quiet

    def _open_another(self, reading: _Reading) -> None:
        """A split is quiet: let one that was never opened have a turn."""
        if reading.waiting and len(reading.open) < OPEN_SPLITS:
            reading.open.appendleft(reading.waiting.popleft())

    def ended(self) -> bool:
        """All own splits of all sources were read to their end, and no source is endless: others may have splits."""
        return not self._is_endless and self.nothing_left()

    def nothing_left(self) -> bool:
        """This node has nothing to read; others may have."""
        return all(each.listed and each.done == each.mine for each in self._readings)

    def posted(self, source: int, records: int) -> None:
        """So many came otherwise than by splits."""
        self._readings[source].records += records

    # -- splits that move

    def unfinished(self) -> Iterator[Split]:
        for reading in self._readings:
            for split, _ in (*reading.open, *reading.waiting):
                yield split

    def unread(self, source: int) -> int:
        """Splits that nobody has opened yet."""
        return sum(offset == 0 for _, offset in self._readings[source].waiting)

    def give_unread(self, source: int, most: int) -> list[Place]:
        """So many of those, the last ones; `given` or `restored` follows."""
        reading = self._readings[source]
        kept: deque[Place] = deque()
        given: deque[Place] = deque()
        while reading.waiting and len(given) < most:
            place = reading.waiting.pop()
            (given if place[1] == 0 else kept).appendleft(place)
        reading.waiting += kept
        return list(given)

    def give_all(self, source: int) -> list[Place]:
        """Every split that has not ended, the next to read first; `given` or `restored` follows."""
        reading = self._readings[source]
        given = [*reading.open, *reading.waiting]
        reading.open.clear()
        reading.waiting.clear()
        return given

    def given(self, source: int, count: int) -> None:
        """Another node reads them now."""
        self._readings[source].mine -= count

    def forget(self, source: int, is_gone: Callable[[Split], bool]) -> None:
        """These are not read here any more, wherever this node stood in them."""
        reading = self._readings[source]
        for places in (reading.open, reading.waiting):
            left = [place for place in places if not is_gone(place[0])]
            reading.mine -= len(places) - len(left)
            places.clear()
            places.extend(left)

    def restored(self, source: int, places: Sequence[Place]) -> None:
        """They stay here after all."""
        reading = self._readings[source]
        (reading.open if reading.endless else reading.waiting).extendleft(reversed(places))

    def received(self, source: int, places: Sequence[Place]) -> None:
        """This node reads them from now on."""
        reading = self._readings[source]
        reading.mine += len(places)
        (reading.open if reading.endless else reading.waiting).extend(places)

    def counts(self) -> tuple[SourceCount, ...]:
        return tuple(
            SourceCount(each.name, each.records, each.mine, each.done, each.endless, each.listing)
            for each in self._readings
        )
