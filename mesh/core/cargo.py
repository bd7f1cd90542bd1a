"""What comes by links: each payload goes to the machine that it is for, and what is bad is told and changes nothing.

Credit of what is handled at once is given back at once; whoever lets something wait gives it back when it is worked
off.
"""

from __future__ import annotations

from mesh.app.plan import Plan
from mesh.core import codec
from mesh.core.columns import slots_from_bytes
from mesh.core.events import Rejected
from mesh.core.events.planes import Consumed, Delivered, Transmit
from mesh.core.giving import REPLICATION
from mesh.core.handoff import CONTROL
from mesh.core.inject import POSTS
from mesh.core.kept import Kept
from mesh.core.light import Light
from mesh.core.messages import Message, NodeId
from mesh.core.messages.outside import Found, Injected, KeysAsked, KeysTold, LinesClaimed, Lookup
from mesh.core.messages.work import BatchDone, Farewell, FarewellHeard, Report


class Cargo:
    """Of one data plane, whose machines are `work`."""

    def __init__(self, plan: Plan, work: Light | Kept) -> None:
        self._plan = plan
        self._work = work
        self._effects = work.emitting.effects

    def delivered(self, event: Delivered) -> None:
        work = self._work
        try:
            message = codec.decode_with_values(event.payload)
            if event.channel == REPLICATION:
                self._effects += work.handoff.delivered(event, message)
                return  # credit is given back when it has been looked at, or
            if event.channel == POSTS:
                work.posts.delivered(event, message)
                return
            if event.channel != CONTROL:
                work.intake.delivered(event, message)
                return  # when it has been applied
            self._handle(event.sender, message)
        except codec.Malformed as error:
            self._effects.append(Rejected(error.reason, error.detail))
        self._effects.append(Consumed(event.sender, event.channel, len(event.payload)))

    def _handle(self, sender: NodeId, message: Message) -> None:
        work = self._work
        match message:
            case Report():
                if message.drained > self._plan.levels + 2:
                    raise codec.Malformed("report", f"{message.drained} levels of {self._plan.levels}")
                work.reports.received(sender, message)
                self.compare_listings()
            case BatchDone():
                self._batch_done(sender, message)
            case Lookup():
                self._effects += work.reads.asked_by_peer(sender, message)
            case Found():
                self._effects += work.reads.found(sender, message)
            case KeysAsked():
                self._effects += work.listing.asked_by_peer(sender, message)
            case KeysTold():
                self._effects += work.listing.told(sender, message)
            case Injected() | LinesClaimed():
                work.posts.answered(sender, message)
            case Farewell(epoch):
                work.router.farewell(sender, epoch)
                work.posts.farewell(sender)
                work.farewell(sender)
                self._effects.append(Transmit(sender, CONTROL, codec.encode_with_values(FarewellHeard(epoch))))
            case FarewellHeard():
                work.departure.confirmed(sender)
            case _:
                self._effects += work.cargo(sender, message)

    def _batch_done(self, sender: NodeId, done: BatchDone) -> None:
        if len(done.refused) != 2 * len(done.starts):
            raise codec.Malformed("batch-done", "columns of different lengths")
        refused = dict(zip(slots_from_bytes(done.refused), done.starts, strict=True))
        wrong = self._work.router.done(sender, done.stage, done.number, done.epoch, refused)
        if wrong is not None:
            raise codec.Malformed("batch-done", wrong)

    def compare_listings(self) -> None:
        """Nodes that list a source differently deal it differently: that is told."""
        for source, splits, error in self._work.reading.differing(self._work.reports.others.values()):
            self._work.emitting.failed(f"source {source}", "its list of splits", splits, error)
