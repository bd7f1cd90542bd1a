"""How a member is made to leave: whoever is asked tells it, again and again, until it says of itself that it leaves.

Then the planner takes its slots away and the data plane gives away what else it has to do; once its seat is gone, and a
decisive set of voters knows (A5), it may exit.

    staying -> asked (StartLeaving) -> LEAVING -> all handed over: READY -> no seat any more -> Departed
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.core.events import Effect, Event, Log, Millis, Received, Rejected, Send, Woke
from mesh.core.events.operator import AskToLeave
from mesh.core.events.planes import MemberChanged, StartLeaving
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import LeaveAsked
from mesh.core.messages.members import LEFT, STAYING, SUSPECT, Member
from mesh.core.table import WORKER, Table

REPEAT = 500  # ms
MAX_ASKED = 1_000  # members that are being asked


def refusal(table: Table | None, members: Mapping[NodeId, Member], name: str) -> str | None:
    """Why a member cannot leave: `unknown`, `unreachable` (it alone could) or `last-worker`; None if it can."""
    named = [each for each in members.values() if each.name == name and each.status <= SUSPECT]
    if not named:
        return "unknown" if table is None or table.seat_named(name) is None else "unreachable"
    if table is None or any(each.role != WORKER or each.leaving for each in named):
        return None
    return (
        None if any(_stays(members.get(seat.node)) for seat in table.workers() if seat.name != name) else "last-worker"
    )


def _stays(member: Member | None) -> bool:
    return member is not None and member.status <= SUSPECT and member.leaving == STAYING


class Leaving:
    """Repeats what operators ask; emits StartLeaving when it is this node's turn."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._asked: dict[NodeId, None] = {}
        self._repeat_at: Millis | None = None
        self._started = False

    def next_deadline(self) -> Millis | None:
        return self._repeat_at

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands AskToLeave, Received (LeaveAsked), MemberChanged, Woke."""
        match event:
            case AskToLeave(node) if node == self._me:
                return self._start()
            case AskToLeave(node) if len(self._asked) < MAX_ASKED:
                self._asked[node] = None
                self._repeat_at = now + REPEAT
                return [Send(node, LeaveAsked(node))]
            case Received(sender, LeaveAsked(node)):
                if node != self._me:
                    return [Rejected("leave", f"{sender.hex()[:12]} asks this node to make {node.hex()[:12]} leave")]
                return self._start()
            case MemberChanged(member) if member.leaving or member.status == LEFT:  # the dead may be back
                self._asked.pop(member.node, None)
            case Woke() if self._repeat_at is not None and now >= self._repeat_at:
                self._repeat_at = now + REPEAT if self._asked else None
                return [Send(node, LeaveAsked(node)) for node in self._asked]
        return []

    def _start(self) -> list[Effect]:
        if self._started:
            return []
        self._started = True
        return [StartLeaving(), Log("node.leaving")]
