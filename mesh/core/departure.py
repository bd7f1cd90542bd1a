"""How a node's data plane leaves: it gives its splits away, waits until it has nothing left, says farewell to all, and
has that confirmed.

    staying -> leaving -> empty (nothing to read, to send, to apply, to hand over) -> all others have heard -> gone

Why a farewell: a sender must know of each record whether it was applied. While the link lives the answer comes; once
this process has exited it never will. After its farewell a node applies nothing, so what it has not answered by then is
refused, and since the farewell travels behind the answers, who has confirmed it has them all.

Who is away, dead, paused or cut off, is waited for as long as it has a seat: it may return with records that this node
has, or has not, applied, and nobody else could tell it which; and what waits here for its slots is nowhere else. Once
it has ended (it said goodbye, or a new process has its name) the table has no seat of it any more, what only it could
answer or apply is lost, and nothing waits for that. Until then the operator is told whom this node waits for.

In kept mode (no `reading`) splits go where their slots go, and every record has a number: who returns asks the slots'
owners, and needs no answer of this node. So it waits for nobody who is down.

Invariant HandedOver is said once, after every other worker of the table (in kept mode: that is up) has confirmed.
"""

from __future__ import annotations

from mesh.core.codec import encode_with_values
from mesh.core.events import Effect, Log
from mesh.core.events.planes import HandedOver, TableAgreed, Transmit
from mesh.core.messages import NodeId
from mesh.core.messages.members import STAYING, Member
from mesh.core.messages.work import Farewell
from mesh.core.reading import Reading
from mesh.core.reports import Reports

CONTROL = 0  # the channel


class Departure:
    """`leaving` from StartLeaving on."""

    def __init__(self, me: NodeId, reading: Reading | None, reports: Reports) -> None:
        self._me = me
        self._reading = reading
        self._reports = reports
        self.table: TableAgreed | None = None
        self.leaving = False
        self.heard: dict[NodeId, bool] = {}  # who was told -> has confirmed
        self._leavers: dict[NodeId, None] = {}
        self._gone = False
        self._names: dict[NodeId, str] = {}
        self._waits_for: list[NodeId] = []  # who is down, as the operator was told

    def member_changed(self, member: Member) -> None:
        self._names[member.node] = member.name
        if member.leaving != STAYING:
            self._leavers[member.node] = None

    def takers(self) -> list[NodeId]:
        """Who may still take splits; nobody if one of them cannot be told."""
        if self.table is None or self._reading is None or not self._reading.may_be_taken():
            return []
        away = (self._me, *self.table.down, *self._reports.unreachable, *self._leavers)
        there = [node for node in self.table.workers if node not in away and not self._has_claimed(node)]
        return self._reading.moves.takers(there)

    def _has_claimed(self, node: NodeId) -> bool:
        report = self._reports.others.get(node)
        return report is not None and report.drained > 0

    def step(self, empty: bool) -> list[Effect]:
        """What to say now; `empty`: this node has nothing left."""
        if self.table is None or not self.leaving:
            return []
        return self._tell_operator(self.table) + (self._say_farewell(self.table) if empty or self.heard else [])

    def _tell_operator(self, table: TableAgreed) -> list[Effect]:
        if self._reading is None:
            return []
        away = [node for node in table.down if node != self._me and not self.heard.get(node) and not self._gone]
        if away == self._waits_for:
            return []
        self._waits_for = away
        names = [self._names.get(node, node.hex()[:12]) for node in away]
        why = "they may return with records that only this node can answer for; start them again, or let them return"
        return [Log("node.leave_waits", {"for": names, "why": why}, "warning")] if away else []

    def _say_farewell(self, table: TableAgreed) -> list[Effect]:
        needless = () if self._reading is not None else table.down
        others = [node for node in table.workers if node != self._me and node not in needless]
        untold = [node for node in others if node not in self.heard]
        self.heard |= dict.fromkeys(untold, False)
        farewell = encode_with_values(Farewell(table.epoch))
        effects: list[Effect] = [Transmit(node, CONTROL, farewell) for node in untold]
        if not self._gone and all(self.heard[node] for node in others):
            self._gone = True
            effects.append(HandedOver())
        return effects

    def confirmed(self, sender: NodeId) -> None:
        if sender in self.heard:
            self.heard[sender] = True
