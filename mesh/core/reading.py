"""The sources' side of the data plane: which split is read next and when, and how splits change their reader.

States    per source: free -> asked (a read is under way, one at a time) -> free. One that had nothing rests QUIET_MS.
Events    `begin` (the first table), `listed`, `came` (a chunk), `set_table` (a later one), `give_away`.

Who founded the cluster shares the splits; whoever comes later is given some (`split_moves`). A leaving node reads on
only as long as nobody could take its splits. A chunk of a split that was given away while it was read is thrown away:
another node reads it again, from the offset that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mesh.app.plan import Fragment, Plan
from mesh.core.events import Effect, ListSplits, Millis, ReadSplit, SplitRead, SplitsListed, TableAgreed
from mesh.core.messages import NodeId, Report
from mesh.core.pace import Pace
from mesh.core.sources import Sources, SplitsDiffer, deal, fingerprint
from mesh.core.split_moves import SplitMoves, can_travel

CHUNK_BYTES = 64 << 10  # of a source in one unit of work: ~10,000 words, a few milliseconds
FIRST_BYTES = 1  # of the first unit: nobody knows yet how slow a step is, how much a line becomes
QUIET_MS = 10  # a source that had nothing to give is asked again after this


class Reading:
    """All sources of this node."""

    def __init__(self, me: NodeId, plan: Plan, may_emit: Callable[[Fragment], bool]) -> None:
        self._me = me
        self._plans = plan.sources
        self._may_emit = may_emit
        self.sources = Sources([(each.name, each.connector.endless) for each in plan.sources])
        self.moves = SplitMoves(self.sources, len(plan.sources))
        self._founders: tuple[NodeId, ...] = ()
        self._asked = [False] * len(plan.sources)  # a read was asked for and has not come back
        self._not_before: list[Millis] = [0] * len(plan.sources)
        self._differ: dict[str, None] = {}  # sources that another node lists differently
        self._turn = 0  # the source to read next
        self._paces = [Pace(FIRST_BYTES, CHUNK_BYTES) for _ in plan.sources]

    # -- who reads what

    def begin(self, table: TableAgreed) -> list[Effect]:
        """The first table that this node has."""
        self._founders = table.founders
        if self._me in self._founders:
            return [ListSplits(source) for source in range(len(self._plans))]
        for source in range(len(self._plans)):
            self.sources.listed(source, [])
        return []

    def listed(self, event: SplitsListed) -> None:
        readers = deal(event.splits, self._founders)
        mine = [split for split, reader in zip(event.splits, readers, strict=True) if reader == self._me]
        self.sources.listed(event.source, mine, fingerprint(event.splits))

    def differing(self, others: Iterable[Report]) -> list[tuple[str, int, SplitsDiffer]]:
        """(source, own splits, error), once a source: who lists it differently deals it differently, and some of it is
        read twice and some by nobody."""
        found: list[tuple[str, int, SplitsDiffer]] = []
        for report in others:
            for mine, other in zip(self.sources.counts(), report.sources, strict=False):
                if mine.listing and other.listing and mine.listing != other.listing and mine.name not in self._differ:
                    self._differ[mine.name] = None
                    error = SplitsDiffer("another node lists other splits, or other sizes; all must see the same")
                    found.append((mine.name, mine.splits, error))
        return found

    def set_table(self, before: TableAgreed, table: TableAgreed, *, leaving: bool) -> list[Effect]:
        """Not the first one: share with those who joined; who has ended does not answer any more."""
        self.moves.ended(table.workers)
        if leaving:
            return []
        newcomers = [node for node in table.workers if node not in before.workers and node != self._me]
        return self.moves.joined(newcomers, len(table.workers) - len(table.down)) if newcomers else []

    def nothing_left(self) -> bool:
        return self.sources.nothing_left() and not self.moves.pending()

    def ended(self) -> bool:
        """For good, if this node takes no more splits."""
        return self.sources.ended() and not self.moves.pending()

    def may_be_taken(self) -> bool:
        """Could another node be told of all splits that are left?"""
        return all(can_travel(split) for split in self.sources.unfinished())

    def give_away(self, takers: Sequence[NodeId], is_applied: Callable[[Sequence[int]], bool]) -> list[Effect]:
        """All that is left, once `is_applied` all that was read for these stages."""
        if self.sources.nothing_left() or self._reads_on():
            return []
        stages = sorted({stage for plan in self._plans for stage in plan.fragment.stages})
        return self.moves.give_away(takers) if is_applied(stages) else []

    def _reads_on(self) -> bool:
        """A read is under way that will come back soon; one that blocks may never come back."""
        return any(asked and not plan.connector.blocking for asked, plan in zip(self._asked, self._plans, strict=True))

    # -- reading

    def readable(self) -> list[int]:
        """Sources that could be read now, but perhaps rest."""
        return [
            source
            for source, plan in enumerate(self._plans)
            if not self._asked[source] and self.sources.next_read(source) is not None and self._may_emit(plan.fragment)
        ]

    def due(self) -> list[Millis]:
        """When these have rested."""
        return [self._not_before[source] for source in self.readable()]

    def read_one(self, now: Millis) -> tuple[ReadSplit, Pace] | None:
        """What to read now, and whose pace it is."""
        ready = [source for source in self.readable() if self._not_before[source] <= now]
        if not ready:
            return None
        source = next((each for each in ready if each >= self._turn), ready[0])
        next_read = self.sources.next_read(source)
        assert next_read is not None
        self._turn = source + 1
        self._asked[source] = True
        return ReadSplit(source, *next_read, self._paces[source].most), self._paces[source]

    def came(self, event: SplitRead, now: Millis) -> list[Any]:
        """The values of a chunk."""
        self._asked[event.source] = False
        if not self.sources.expects(event.source, event.split):
            return []  # given away meanwhile
        if self.sources.read(event.source, event.split, len(event.values), event.next_offset, event.ended):
            self._not_before[event.source] = now + QUIET_MS
        return [value for value in event.values if value is not None]  # None means nothing, also from a source
