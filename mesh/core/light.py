"""The data plane's machines as they are when each slot has one copy, in memory, and what that means for its work.

What is applied counts at once. A slot is handed over by its living owner (`handoff`), a split by its living reader
(`reading`), and whoever ends takes along what it had. Where that may not be, see `kept`.
"""

from __future__ import annotations

from mesh.app.plan import Plan
from mesh.core.applying import Applying
from mesh.core.codec import Malformed
from mesh.core.departure import Departure
from mesh.core.emitting import Emitting
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import SinkWritten, SplitRead
from mesh.core.handoff import HandOff
from mesh.core.intake import Intake
from mesh.core.listing import Listing
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import ChunksTaken
from mesh.core.messages.work import SplitsTaken, TakeSplits
from mesh.core.owner import Owner
from mesh.core.posts import Posts
from mesh.core.progress import Progress
from mesh.core.reading import Reading
from mesh.core.reads import Reads
from mesh.core.reports import Reports
from mesh.core.router import Router


class Light:
    """All machines; `emitting.effects` is the one list of effects."""

    def __init__(self, me: NodeId, plan: Plan, slots: int, seed: int, window_bytes: int, batch_records: int) -> None:
        self._plan = plan
        self.owner = Owner(plan.stages, slots, seed)
        self.router = Router(me, [stage.level for stage in plan.stages], slots, seed, window_bytes, batch_records)
        self.intake = Intake(plan.stages)
        self.emitting = Emitting(plan, self.router, self.intake)
        self.progress = Progress(plan.levels + 1)
        self.reports = Reports(me, self.progress)
        self.handoff = HandOff(me, self.owner, slots, seed, self.router.unsettled, window_bytes)
        self.reading = Reading(me, plan, self.emitting.may_emit)
        self.departure = Departure(me, self.reading, self.reports)
        self.applying = Applying(
            me, plan, self.intake, self.owner, self.handoff, self.router, self.emitting, self.departure.heard
        )
        holdings = self.handoff.holdings
        self.reads = Reads(me, plan.stages, slots, seed, self.owner, holdings)
        self.listing = Listing(me, plan.stages, slots, seed, self.owner, holdings, lambda: self.reports.unreachable)
        self.posts = Posts(
            me, plan, slots, seed, self.owner, self.handoff, self.emitting, self.reading.sources.posted,
            lambda: self.reports.unreachable,
        )  # fmt: skip

    # -- events

    def set_table(self, table: TableAgreed) -> None:
        self.emitting.effects += self.handoff.set_table(table)

    def set_readers(self, before: TableAgreed | None, table: TableAgreed) -> None:
        if before is None:
            self.emitting.effects += self.reading.begin(table)
        else:
            self.emitting.effects += self.reading.set_table(before, table, leaving=self.departure.leaving)

    def came(self, event: SplitRead, now: Millis) -> None:
        """A chunk of a source."""
        values = self.reading.came(event, now)
        if values:
            self.emitting.run(self._plan.sources[event.source].fragment, None, values)

    def written(self, event: SinkWritten) -> None:
        """Nobody here waits for that."""

    def cargo(self, sender: NodeId, message: Message) -> list[Effect]:
        """What is said only in this mode; raises Malformed."""
        match message:
            case ChunksTaken(number):
                self.handoff.chunks_taken(sender, number)
            case TakeSplits():
                may_take = not self.departure.leaving and self.progress.drained == 0
                return self.reading.moves.asked(sender, message, may_take=may_take)
            case SplitsTaken():
                self.reading.moves.answered(sender, message)
            case _:
                raise Malformed("cargo", f"{type(message).__name__} does not travel on a link")
        return []

    def durable(self, number: int) -> None:
        """There is no store."""

    def farewell(self, sender: NodeId) -> None:
        self.reading.moves.farewell(sender)

    def next_deadline(self, *, fenced: bool) -> Millis | None:
        """Nothing here has a time of its own."""
        return None

    def settle(self, _now: Millis, *, fenced: bool) -> None:
        """After every event."""
        self.emitting.effects += self.handoff.tell_settled()

    # -- how far it is

    def settled(self) -> bool:
        """Is nothing under way that neither the router nor the intake knows of?"""
        return True

    def waits_for(self) -> set[NodeId]:
        """Who has not worked off what is theirs."""
        return self.router.waits_for()

    def give_away(self) -> None:
        """A leaving node: what others may have."""
        takers = self.departure.takers()
        if takers:
            self.emitting.effects += self.reading.give_away(takers, self.router.at_rest_for)

    def reads_on(self) -> bool:
        """May a leaving node read?"""
        return not self.departure.takers()

    def empty(self) -> bool:
        """Has a leaving node nothing left, beside what waits in its queues?"""
        at_rest = self.reading.nothing_left() and self.router.at_rest()
        return at_rest and not self.handoff.holdings.named() and not self.handoff.busy()
