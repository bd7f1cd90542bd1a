"""The sources' side of the data plane: what is read here (`turns` says when), and how splits change their reader.

Events    `begin` (the first table), `listed`, `came` (a chunk), `set_table` (a later one), `give_away`.

Who founded the cluster shares the splits; whoever comes later is given some (`split_moves`). A leaving node reads on
only as long as nobody could take its splits. A chunk of a split that was given away while it was read is thrown away:
another node reads it again, from the offset that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mesh.app.plan import Fragment, Plan
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import ListSplits, ReadSplit, SplitRead, SplitsListed
from mesh.core.messages import NodeId
from mesh.core.messages.work import Report
from mesh.core.pace import Pace
from mesh.core.sources import Sources, SplitsDiffer, deal, fingerprint
from mesh.core.split_moves import SplitMoves, can_travel
from mesh.core.turns import QUIET_MS as QUIET_MS
from mesh.core.turns import Turns


class Reading:
    """All sources of this node."""

    def __init__(self, me: NodeId, plan: Plan, may_emit: Callable[[Fragment], bool]) -> None:
        self._me = me
        self._plans = plan.sources
        self.sources = Sources([(each.name, each.connector.endless) for each in plan.sources])
        self.moves = SplitMoves(self.sources, len(plan.sources))
        self._turns = Turns(plan.sources, self.sources, may_emit)
        self._founders: tuple[NodeId, ...] = ()
        self._differ: dict[str, None] = {}  # sources that another node lists differently

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
        if self.sources.nothing_left() or self._turns.reads_on():
            return []
        stages = sorted({stage for plan in self._plans for stage in plan.fragment.stages})
        return self.moves.give_away(takers) if is_applied(stages) else []

    # -- reading

    def next_at(self) -> Millis | None:
        """When the first of what could be read now has rested."""
        return self._turns.next_at()

    def read_one(self, now: Millis) -> tuple[ReadSplit, Pace] | None:
        """What to read now, and whose pace it is."""
        return self._turns.read_one(now)

    def came(self, event: SplitRead, now: Millis) -> list[Any]:
        """The values of a chunk."""
        self._turns.came_back(event.source)
        if not self.sources.expects(event.source, event.split):
            return []  # given away meanwhile
        if self.sources.read(event.source, event.split, len(event.values), event.next_offset, event.ended):
            self._turns.rests(event.source, now)
        return [value for value in event.values if value is not None]  # None means nothing, also from a source
