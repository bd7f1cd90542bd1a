"""Who reads which split, and what to read next.

A source is cut into splits; each split is a stream of its own, read in order by exactly one node. All nodes list the
same splits and deal them out by the same rule, so nobody has to be asked.

States    per source: unlisted -> listed (own splits known) -> ended (all own splits read to their end).
Events    `listed(source, splits)`, `read(source, split, ...)`; `next_read()` says what to read now.
Invariant at most OPEN_SPLITS of a finite source are open at once (each may hold a file), and one that has records is
          read to its end; those of an endless source are all open and take turns. A split that had nothing to give goes
          to the back of the queue. So neither a quiet split nor a busy one silences the others.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.app.connectors import Split
from mesh.core.messages import SourceCount

OPEN_SPLITS = 16

T = TypeVar("T")


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
    mine: int = 0
    done: int = 0
    records: int = 0
    listed: bool = False
    listing: int = 0  # fingerprint of all nodes' splits
    waiting: deque[Split] = field(default_factory=deque)  # own splits not opened yet
    open: deque[tuple[Split, int]] = field(default_factory=deque)  # (split, next offset), the next to read first
    in_vain: int = 0  # reads since the last one that gave something, or since a pause


class Sources:
    """This node's part of every source."""

    def __init__(self, names_and_endless: Sequence[tuple[str, bool]]) -> None:
        self._readings = [_Reading(name, endless) for name, endless in names_and_endless]

    def listed(self, source: int, mine: Sequence[Split], listing: int = 0) -> None:
        """The splits of this source that this node shall read, and the fingerprint of all there are."""
        reading = self._readings[source]
        reading.listed = True
        reading.listing = listing
        reading.mine = len(mine)
        if reading.endless:
            reading.open.extend((split, 0) for split in mine)
        else:
            reading.waiting.extend(mine)

    def next_read(self, source: int) -> tuple[Split, int] | None:
        """(split, offset) to read now; the answer comes as `read`."""
        reading = self._readings[source]
        if reading.waiting and not reading.open:
            reading.open.appendleft((reading.waiting.popleft(), 0))
        return reading.open[0] if reading.open else None

    def read(self, source: int, split: Split, records: int, next_offset: int, ended: bool) -> bool:
        """A chunk of the split came, perhaps empty, perhaps its last. True: none of this source has anything now."""
        reading = self._readings[source]
        assert reading.open[0][0] is split, "one read at a time a source"
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
            reading.open.appendleft((reading.waiting.popleft(), 0))

    def ended(self) -> bool:
        """All own splits of all sources were read to their end."""
        return all(reading.listed and reading.done == reading.mine for reading in self._readings)

    def counts(self) -> tuple[SourceCount, ...]:
        return tuple(
            SourceCount(each.name, each.records, each.mine, each.done, each.endless, each.listing)
            for each in self._readings
        )
