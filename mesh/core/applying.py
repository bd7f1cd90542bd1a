"""A unit of the owner's work: a batch, or as much of it as a unit may take on, is applied, and its sender answered.

Invariant what is applied is active here since the epoch of its sender or longer (`holdings`), and behind no gate
(`handoff`). A batch is answered once, after its last record, with the slots that were refused; by then its outputs are
in the router or in a sink's hands, so that a slot which moves away leaves nothing behind that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.app.plan import Plan
from mesh.core.codec import MAX_ITEMS, encode_with_values
from mesh.core.columns import slots_to_bytes
from mesh.core.emitting import Emitting
from mesh.core.events.planes import Consumed, Transmit
from mesh.core.handoff import CONTROL, HandOff
from mesh.core.intake import Intake, Waiting
from mesh.core.keeping import Keeping
from mesh.core.messages import NodeId
from mesh.core.messages.work import BatchDone
from mesh.core.owner import Owner
from mesh.core.pace import Pace
from mesh.core.router import Router

FIRST_RECORDS = 1  # of the first unit: nobody knows yet how slow a step is


class Applying:
    """`told_farewell` names those who need no answers any more: whatever they have not got by now is refused."""

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        intake: Intake,
        owner: Owner,
        handoff: HandOff | Keeping,
        router: Router,
        emitting: Emitting,
        told_farewell: Mapping[NodeId, bool],
    ) -> None:
        self._me = me
        self._plan = plan
        self._intake = intake
        self._owner = owner
        self._handoff = handoff
        self._router = router
        self._emitting = emitting
        self._told_farewell = told_farewell
        self._paces = [Pace(FIRST_RECORDS, MAX_ITEMS) for _ in plan.stages]
        self.records_keyed = 0

    def next_stage(self) -> int | None:
        """The deepest that has a batch and may emit: deeper ones first, so that there is room for what is above."""
        if self._intake.empty():
            return None
        return next((stage for stage in reversed(range(len(self._plan.stages))) if self._may_apply(stage)), None)

    def _may_apply(self, stage: int) -> bool:
        plan = self._plan.stages[stage]
        return self._intake.ready(stage, self._handoff.shut(plan.level)) and self._emitting.may_emit(plan.fragment)

    def apply_one(self) -> tuple[Pace, int] | None:
        """One unit, if there is any; whose pace it is, and how much it was."""
        stage = self.next_stage()
        if stage is None:
            return None
        pace = self._paces[stage]
        batch, is_last = self._intake.take(stage, pace.most)
        refused = self._handoff.holdings.refused(batch.epoch, batch.slot_set)
        self._apply(stage, batch.without(refused) if refused else batch)
        if is_last:
            self._answer(stage, batch)
        return pace, len(batch.keys)

    def _apply(self, stage: int, batch: Waiting) -> None:
        plan = self._plan.stages[stage]
        applied = self._owner.apply(stage, batch.keys, batch.values)
        self.records_keyed += len(batch.keys)
        for index, error in applied.failures:
            self._emitting.failed(plan.name, plan.where, (batch.keys[index], batch.values[index]), error)
        if applied.outs:
            self._emitting.run(plan.fragment, applied.out_keys, applied.outs)

    def _answer(self, stage: int, batch: Waiting) -> None:
        epoch, refused = self._handoff.holdings.epoch, batch.refused
        if batch.sender is None:
            wrong = self._router.done(self._me, stage, batch.number, epoch, refused)
            assert wrong is None, wrong
            return
        if batch.sender not in self._told_farewell:
            done = BatchDone(stage, batch.number, epoch, slots_to_bytes([*refused]), (*refused.values(),))
            self._emitting.effects.append(Transmit(batch.sender, CONTROL, encode_with_values(done)))
        self._emitting.effects.append(Consumed(batch.sender, self._plan.stages[stage].level, batch.size))
