"""Which source is read next, and how much at once.

States    per source: free -> asked (a read is under way, one at a time) -> free. One that had nothing rests QUIET_MS.
Events    `read_one`, `came_back`.

Sources take turns; which of its splits a source reads next is in `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.app.plan import Fragment, SourcePlan
from mesh.core.events import Millis
from mesh.core.events.work import ReadSplit
from mesh.core.pace import Pace
from mesh.core.sources import Sources

CHUNK_BYTES = 64 << 10  # of a source in one unit of work: ~10,000 words, a few milliseconds
FIRST_BYTES = 1  # of the first unit: nobody knows yet how slow a step is, how much a line becomes
QUIET_MS = 10  # a source that had nothing to give is asked again after this


class Turns:
    """Of all sources of this node."""

    def __init__(self, plans: Sequence[SourcePlan], sources: Sources, may_emit: Callable[[Fragment], bool]) -> None:
        self._plans = plans
        self._sources = sources
        self._may_emit = may_emit
        self._asked = [False] * len(plans)  # a read was asked for and has not come back
        self._not_before: list[Millis] = [0] * len(plans)
        self._next = 0  # the source to read next
        self._paces = [Pace(FIRST_BYTES, CHUNK_BYTES) for _ in plans]

    def readable(self) -> list[int]:
        """Sources that could be read now, but perhaps rest."""
        return [
            source
            for source, plan in enumerate(self._plans)
            if not self._asked[source] and self._sources.next_read(source) is not None and self._may_emit(plan.fragment)
        ]

    def next_at(self) -> Millis | None:
        """When the first of these has rested."""
        readable = self.readable()
        return min([self._not_before[source] for source in readable]) if readable else None

    def read_one(self, now: Millis) -> tuple[ReadSplit, Pace] | None:
        """What to read now, and whose pace it is."""
        ready = [source for source in self.readable() if self._not_before[source] <= now]
        if not ready:
            return None
        source = next((each for each in ready if each >= self._next), ready[0])
        next_read = self._sources.next_read(source)
        assert next_read is not None
        self._next = source + 1
        self._asked[source] = True
        return ReadSplit(source, *next_read, self._paces[source].most), self._paces[source]

    def came_back(self, source: int) -> None:
        """What was read is here."""
        self._asked[source] = False

    def rests(self, source: int, now: Millis) -> None:
        """It had nothing to give."""
        self._not_before[source] = now + QUIET_MS

    def reads_on(self) -> bool:
        """A read is under way that will come back soon; one that blocks may never come back."""
        return any(asked and not plan.connector.blocking for asked, plan in zip(self._asked, self._plans, strict=True))
