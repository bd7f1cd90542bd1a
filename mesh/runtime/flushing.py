"""When sinks show what they have.

Without names a flush costs little: whenever there is nothing else to do, and twice a second on a busy node. With names
each flush is a part on the disk that readers see as a file of its own, and what waits for it is kept by every copy. So
flushes come soon at first and become rarer, for files shall not be without number: in its first minute a node makes a
hundred, later one in five seconds; and sooner than that only where many items wait.
"""

from __future__ import annotations

from mesh.core.events import Millis

FLUSH_MS = 500  # how long a busy node may keep its results to itself
FIRST_NAMED_MS = 100
LATER_MS = 10  # what each flush adds to the wait for the next one
MOST_NAMED_MS = 5_000
MANY_ITEMS = 1 << 16


class Flushing:
    """One node's pace."""

    def __init__(self, named: bool) -> None:
        self._named = named
        self._flushed_at: Millis = 0
        self._flushes = 0

    def due(self, now: Millis, idle: bool, waiting: int) -> bool:
        """Something was written; `waiting` are so many items that have names."""
        if self._named:
            return waiting >= MANY_ITEMS or now >= self.deadline()
        return idle or now >= self._flushed_at + FLUSH_MS

    def deadline(self) -> Millis:
        """Of items that were written."""
        wait = min(FIRST_NAMED_MS + LATER_MS * self._flushes, MOST_NAMED_MS) if self._named else FLUSH_MS
        return self._flushed_at + wait

    def flushed(self, now: Millis) -> None:
        self._flushed_at = now
        self._flushes += 1
