"""A unit of the owner's work where slots have copies: what came of it is a pack, and counts when that is committed.

States    of a batch, or of a part of one: taken -> applied here, and what is known left out -> its pack is committed ->
          its outputs are given out -> after its last part the sender is answered

Records that are known (`keeping.news`) were applied before, perhaps a moment ago: their marks are in the pack once
more, so that they are answered for when that counts, and if their slot goes to another owner before, are refused.

Invariant what is answered for is committed at every copy; of a slot that was withdrawn all in the batch from the first
          such part on is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from mesh.app.plan import Plan
from mesh.core.applying import Applying
from mesh.core.emitting_kept import KeptEmitting
from mesh.core.intake import Intake, Waiting
from mesh.core.keeping import Keeping
from mesh.core.messages import NodeId
from mesh.core.owner import Owner
from mesh.core.pace import Pace
from mesh.core.packs import Pack
from mesh.core.router import Router


class KeptApplying(Applying):
    """`keeping` takes the packs and brings them back; `settled` calls their tokens."""

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        intake: Intake,
        owner: Owner,
        keeping: Keeping,
        router: Router,
        emitting: KeptEmitting,
        told_farewell: Mapping[NodeId, bool],
    ) -> None:
        super().__init__(me, plan, intake, owner, keeping, router, emitting, told_farewell)
        self._keeping = keeping
        self._kept_emitting = emitting

    def next_stage(self) -> int | None:
        return super().next_stage() if self._keeping.open_for() else None

    def apply_one(self) -> tuple[Pace, int] | None:
        stage = self.next_stage()
        if stage is None:
            return None
        pace = self._paces[stage]
        batch, is_last = self._intake.take(stage, pace.most)
        refused = self._refused(batch)
        pack = self._applied(stage, batch.without(refused) if refused else batch)
        self._keeping.add(pack, partial(self._committed, stage, batch, is_last))
        return pace, len(batch.keys)

    def _refused(self, batch: Waiting) -> Collection[int]:
        """What is not active here has no copies: a peer that sends it all the same changes nothing."""
        holdings = self._keeping.holdings
        refused = holdings.refused(batch.epoch, batch.slot_set)
        if batch.sender is None or batch.slot_set() <= holdings.active.keys():
            return refused
        return sorted({*refused, *(batch.slot_set() - holdings.active.keys())})

    def _applied(self, stage: int, part: Waiting) -> Pack:
        assert part.numbers is not None
        slots, numbers = part.slot_list(), part.numbers
        news = self._keeping.news(stage, slots, numbers)
        known = None
        if news is not None:
            known, part = part.only([not new for new in news]), part.only(news)
        plan = self._plan.stages[stage]
        applied = self._owner.apply(stage, part.keys, part.values)
        self.records_keyed += len(part.keys)
        for index, error in applied.failures:
            self._emitting.failed(plan.name, plan.where, (part.keys[index], part.values[index]), error)
        pack = self._kept_emitting.packed(stage, part.keys, part.slot_list(), applied)
        for each in (known, part):
            if each is not None and each.numbers is not None:
                pack.mark(each.slot_list(), each.numbers)
        return pack

    def _committed(self, stage: int, batch: Waiting, is_last: bool, withdrawn: Collection[int]) -> None:
        for slot in withdrawn:
            batch.refused[slot] = min(batch.start, batch.refused.get(slot, batch.start))
        if is_last:
            self._answer(stage, batch)
