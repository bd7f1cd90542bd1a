"""The data plane's machines as they are where slots have copies, and what that means for its work.

What is applied is a pack, and counts when it is committed: then its outputs are given out, and then whoever waits for
it is answered. Slots move in the lanes to their copies, and splits are parts of slots, so that neither dies with a
node.

States    of what is applied: in a pack -> committed -> given out -> over: its taker has committed it
          of a chunk of a split: read -> given out -> over -> before the split's place, which is a pack again
`settle`  comes after every event, and brings all of that as far as it gets.

Invariant while this node is fenced nothing is committed, given out, saved or answered.
"""

from __future__ import annotations

from functools import partial

from mesh.app.plan import Plan
from mesh.core.applying_kept import KeptApplying
from mesh.core.codec import Malformed
from mesh.core.departure import Departure
from mesh.core.emitting_kept import KeptEmitting
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import SinkWritten, SplitRead
from mesh.core.intake import Intake
from mesh.core.keeping import Keeping
from mesh.core.kept_reading import KeptReading
from mesh.core.listing_kept import KeptListing
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import PacksTaken
from mesh.core.numbers import Numbers
from mesh.core.owner import Owner
from mesh.core.packs import Pack, Shape
from mesh.core.posts import Posts
from mesh.core.progress import KeptProgress
from mesh.core.reads_kept import KeptReads
from mesh.core.reports import Reports
from mesh.core.router import Router
from mesh.core.shelf import WARM_BYTES, Shelf
from mesh.core.shelving import shelved
from mesh.core.slot_splits import Change, SlotSplits
from mesh.core.storing import Store


class Kept:
    """All machines; `emitting.effects` is the one list of effects."""

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        slots: int,
        seed: int,
        window_bytes: int,
        batch_records: int,
        store: Store | None = None,
        warm_bytes: int = WARM_BYTES,
    ) -> None:
        self._plan = plan
        levels = [stage.level for stage in plan.stages]
        splits = SlotSplits()
        self._shelf = None if store is None else Shelf(store, window_bytes)
        shelving = None
        if self._shelf is None:
            self.owner = Owner(plan.stages, slots, seed, splits)
        else:
            self.owner, shelving = shelved(plan, slots, seed, splits, self._shelf, warm_bytes)
        self.router = Router(me, levels, slots, seed, window_bytes, batch_records, numbered=True)
        self.intake = Intake(plan.stages, numbered=True, sources=len(plan.sources), slots=slots)
        shape = Shape(len(plan.sources), len(plan.stages), len(plan.stages) + len(plan.sinks), slots, seed)
        self.handoff = Keeping(me, self.owner, shape, window_bytes, shelving=shelving)
        self.emitting = KeptEmitting(plan, self.router, self.intake, self.owner, self.handoff.next_output)
        self.progress = KeptProgress(plan.levels + 1)
        self.reports = Reports(me, self.progress)
        self.reading = KeptReading(plan, slots, splits, self.emitting.may_emit)
        self.departure = Departure(me, None, self.reports)
        self.applying = KeptApplying(
            me, plan, self.intake, self.owner, self.handoff, self.router, self.emitting, self.departure.heard
        )
        holdings, wait, effects = self.handoff.holdings, self.handoff.wait, self.emitting.effects
        self.reads = KeptReads(me, plan.stages, slots, seed, self.owner, holdings, wait=wait, effects=effects)
        self.listing = KeptListing(
            me, plan.stages, slots, seed, self.owner, holdings, lambda: self.reports.unreachable,
            wait=wait, effects=effects,
        )  # fmt: skip
        self.posts = Posts(
            me, plan, slots, seed, self.owner, self.handoff, self.emitting, self.reading.posted,
            lambda: self.reports.unreachable,
        )  # fmt: skip

    # -- events

    def set_table(self, table: TableAgreed) -> None:
        self.emitting.effects += self.handoff.set_table(table)

    def set_readers(self, _before: TableAgreed | None, table: TableAgreed) -> None:
        self.emitting.effects += self.reading.set_table(table, self.handoff.holdings.active)

    def came(self, event: SplitRead, now: Millis) -> None:
        """A chunk of a source."""
        values = self.reading.came(event, now)
        if values:
            number = partial(self.reading.number, event.source, event.split)
            self.emitting.read(event.source, event.split.name, values, number)
            self.reading.through()

    def written(self, event: SinkWritten) -> None:
        for names in self.emitting.written(event.sink, event.count):
            self._over(len(self._plan.stages) + event.sink, names)

    def durable(self, number: int) -> None:
        """All that was put into the store up to this one."""
        self.emitting.effects += self.handoff.durable(number)

    def cargo(self, sender: NodeId, message: Message) -> list[Effect]:
        """What is said only in this mode; raises Malformed."""
        if not isinstance(message, PacksTaken):
            raise Malformed("cargo", f"{type(message).__name__} does not travel on a link")
        self.handoff.packs_taken(sender, message)
        return []

    def farewell(self, sender: NodeId) -> None:
        """Splits go with their slots."""

    def next_deadline(self, *, fenced: bool) -> Millis | None:
        """When a place is to be saved, or a put to be tried again."""
        retry_at = self.handoff.retry_at()
        saves_at = None if fenced else self.reading.changes_due()
        return min((each for each in (retry_at, saves_at) if each is not None), default=None)

    # -- what it has come to

    def settle(self, now: Millis, *, fenced: bool) -> None:
        """After every event."""
        if not fenced:
            for stage, out in self.handoff.adopted():
                self.emitting.give(stage, [out])
            while self._commit() or self._save(now):
                pass
        self.emitting.effects += self.handoff.take_effects() + self.handoff.store_effects(now)
        self.emitting.send(self.router.released())

    def _commit(self) -> bool:
        """Was there anything?"""
        committed = self.handoff.committed()
        for each in committed:
            self.emitting.give(each.pack.stage, each.outputs)
            each.token(each.withdrawn)
        taken_over = self.router.take_over()
        for stage, names in taken_over:
            self._over(stage, names)
        return bool(committed or taken_over)

    def _over(self, target: int, names: Numbers) -> None:
        """Whoever took these has committed them; or they were set aside."""
        self.reading.over(target, names)
        for (of_stage, producer, _), start, end in names.runs():
            if of_stage:
                whole = end - start == len(names)
                self.handoff.over(producer, names if whole else names.part(start, end))

    def _save(self, now: Millis) -> bool:
        """How far splits are read."""
        changes = self.reading.changes(now)
        if changes:
            slots, keys, states = (list(column) for column in zip(*changes, strict=True))
            pack = Pack(b"", 0, len(self._plan.stages) + 1, slots, keys, states)
            self.handoff.add(pack, partial(self._saved, changes))
        return bool(changes)

    def _saved(self, changes: list[Change], withdrawn: dict[int, None]) -> None:
        self.reading.saved([each for each in changes if each[0] not in withdrawn])

    # -- how far it is

    def settled(self) -> bool:
        """Is nothing under way that neither the router nor the intake knows of?"""
        return not self.handoff.busy()

    def waits_for(self) -> set[NodeId]:
        """Who has not worked off what is theirs, or acknowledged their copies."""
        lanes = self.handoff.committing.lanes()
        return self.router.waits_for() | {each.node for each in lanes if each.carried and each.acked < each.last_number}

    def give_away(self) -> None:
        """A leaving node's slots are taken from it."""

    def reads_on(self) -> bool:
        """A leaving node reads as long as it has slots."""
        return True

    def empty(self) -> bool:
        """Has a leaving node nothing left, beside what waits in its queues?"""
        return self.router.at_rest() and not self.handoff.holdings.named() and not self.handoff.busy()
