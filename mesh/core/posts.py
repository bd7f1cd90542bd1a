"""What comes by HTTP, in the data plane: composes the side that was asked (`ingest`) and the owner's (`inject`).

They know each other only through pieces and answers; between two nodes these are cargo of links, here they are passed
on. Pieces and claims travel on a channel of their own, so that a record that somebody waits for does not stand behind
megabytes of batches; answers travel on the control channel, before a farewell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mesh.app.plan import Plan
from mesh.core.emitting import Emitting
from mesh.core.emitting_kept import KeptEmitting
from mesh.core.events import Millis
from mesh.core.events.planes import Delivered, TableAgreed
from mesh.core.events.work import LinesPosted, RecordAsked
from mesh.core.handoff import HandOff
from mesh.core.ingest import Ingest
from mesh.core.ingest_kept import KeptIngest
from mesh.core.inject import Injects
from mesh.core.inject_kept import KeptInjects
from mesh.core.keeping import Keeping
from mesh.core.messages import Message, NodeId
from mesh.core.messages.outside import Injected, LinesClaimed
from mesh.core.owner import Owner
from mesh.core.pace import Pace


class Posts:
    """Both sides. `now` is set by who calls, before anything else."""

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        slots: int,
        seed: int,
        owner: Owner,
        handoff: HandOff | Keeping,
        emitting: Emitting,
        committed: Callable[[int, int], None],
        unreachable: Callable[[], Collection[NodeId]],
    ) -> None:
        self._me = me
        self._emitting = emitting
        if isinstance(handoff, Keeping):
            assert isinstance(emitting, KeptEmitting)
            self._injects: Injects = KeptInjects(plan, slots, seed, owner, handoff, emitting, self._answered_here)
        else:
            self._injects = Injects(plan, slots, seed, owner, handoff, emitting, self._answered_here)
        put_own, claim_own = self._injects.put_own, self._injects.claim_own
        kind = KeptIngest if isinstance(handoff, Keeping) else Ingest
        self._ingest = kind(me, plan, slots, seed, emitting, put_own, claim_own, committed, unreachable)
        self._reads_next = False  # both sides have work: who is next

    @property
    def records_keyed(self) -> int:
        return self._injects.records_keyed

    def idle(self) -> bool:
        """Nobody waits, and nothing of others waits here."""
        return self._ingest.idle() and self._injects.empty()

    def next_deadline(self) -> Millis | None:
        return self._ingest.next_deadline()

    def overdue(self) -> None:
        self._ingest.overdue(self._emitting.now)

    # -- events

    def asked(self, event: LinesPosted | RecordAsked, *, closed: bool) -> None:
        """Somebody outside gives records; not to a node that is `closed`."""
        self._ingest.closed = closed
        if isinstance(event, LinesPosted):
            self._ingest.posted(event, self._emitting.now)
        else:
            self._ingest.asked(event, self._emitting.now)

    def delivered(self, event: Delivered, message: Message) -> None:
        """From another node that was asked; raises Malformed."""
        self._injects.delivered(event, message)

    def answered(self, sender: NodeId, message: Injected | LinesClaimed) -> None:
        """By an owner; raises Malformed."""
        if isinstance(message, Injected):
            self._ingest.answered(sender, message, self._emitting.now)
        else:
            self._ingest.claimed(sender, message, self._emitting.now)

    def _answered_here(self, answer: Injected | LinesClaimed) -> None:
        self.answered(self._me, answer)

    def end(self) -> None:
        """Every worker has claimed that it takes nothing from outside any more. Who has come since has not, and may be
        asked: what it passes on is refused."""
        self._injects.ended = True

    def set_table(self, table: TableAgreed) -> None:
        self._ingest.set_table(table, self._emitting.now)

    def farewell(self, sender: NodeId) -> None:
        self._ingest.farewell(sender, self._emitting.now)

    # -- work

    def may_work(self) -> bool:
        return self._ingest.may_work() or self._injects.may_work()

    def work_one(self) -> tuple[Pace, int] | None:
        """One unit; records that are here already before lines that are not read yet, but not always."""
        self._reads_next = not self._reads_next and self._ingest.may_work()
        if self._reads_next or not self._injects.may_work():
            return self._ingest.work_one(self._emitting.now)
        return self._injects.work_one()
