"""Where records go when a fragment is through with them: to the router, to a sink, or aside.

This is the `Emit` of every fragment. What leaves the router becomes `Transmit`, or waits in this node's own intake;
what could not be used is counted and told. The data plane takes the effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.app.plan import Fragment, Plan
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import Transmit
from mesh.core.events.work import WriteSink
from mesh.core.intake import Intake, Waiting
from mesh.core.packing import Packed
from mesh.core.router import Router
from mesh.core.set_aside import SetAside


class Emitting:
    """`now` is set by who calls."""

    def __init__(self, plan: Plan, router: Router, intake: Intake) -> None:
        self._plan = plan
        self._router = router
        self._intake = intake
        self.set_aside = SetAside()
        self.records_out = 0
        self.now: Millis = 0
        self.effects: list[Effect] = []  # the data plane's own list

    def run(self, fragment: Fragment, keys: list[Any] | None, items: list[Any]) -> None:
        """What a producer gave out."""
        fragment.run(keys, items, self)
        self.send(self._router.full_batches(fragment.stages))

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        self._router.put(stage, keys, values)
        self._tell_set_aside()

    def to_sink(self, sink: int, items: list[Any]) -> None:
        self.records_out += len(items)
        self.effects.append(WriteSink(sink, items))

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        log = self.set_aside.record(step, where, value, error, self.now)
        if log is not None:
            self.effects.append(log)

    def send(self, batches: Iterable[Packed]) -> None:
        """Batches that the router lets go."""
        for batch in batches:
            own = batch.records
            if own is not None:
                waiting = Waiting(
                    None, batch.number, batch.epoch, 0, own.keys, own.values, own.slots, numbers=own.numbers
                )
                self._intake.put_own(batch.stage, waiting)
            else:
                self.effects.append(Transmit(batch.owner, self._plan.stages[batch.stage].level, batch.payload))
        self._tell_set_aside()

    def _tell_set_aside(self) -> None:
        for stage, value, error in self._router.set_aside():
            plan = self._plan.stages[stage]
            self.failed(f"on the way to {plan.name}", plan.where, value, error)

    def may_emit(self, fragment: Fragment) -> bool:
        """May the producer of this fragment go on?"""
        return all(self._router.open_for(stage) for stage in fragment.stages)
