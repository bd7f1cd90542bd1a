"""What nodes tell each other about their work: who is told when, and when a report that came is counted.

A report counts from the moment on at which this node has the epoch of its sender, since it may be about members that
this node does not know before. It is told when something in it has changed: at once if it is a claim, else now and
then, and when a table has taken back all claims; to who is a member and can be reached; and the last one to who becomes
that.
"""

from __future__ import annotations

from mesh.core.codec import encode_with_values
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed, Transmit
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, SUSPECT, Member
from mesh.core.messages.work import Report
from mesh.core.progress import KeptProgress, Progress

CONTROL = 0  # the channel
REPORT_MS = 500  # how stale another node's counts may be


class Reports:
    """This node's newest report, and everybody else's."""

    def __init__(self, me: NodeId, progress: Progress | KeptProgress) -> None:
        self._me = me
        self._progress = progress
        self.others: dict[NodeId, Report] = {}  # the newest of every other member
        self.unreachable: dict[NodeId, None] = {}
        self.next_at: Millis = 0
        self._early: dict[NodeId, Report] = {}  # of an epoch that is not known here
        self._told: Report | None = None
        self._table: TableAgreed | None = None

    def set_table(self, table: TableAgreed, now: Millis) -> list[Effect]:
        before, self._table = self._table, table
        again = self._progress.set_table(self._me, table)
        early, self._early = self._early, {}
        for sender, report in early.items():
            self.received(sender, report)
        if before is None or again:
            self.next_at = now
        return self._send([node for node in table.members if before is None or node not in before.members])

    def received(self, sender: NodeId, report: Report) -> None:
        if self._table is None or report.epoch > self._table.epoch:
            self._early[sender] = report
        elif sender in self._table.members:
            self.others[sender] = report
            self._progress.heard(sender, report)

    def due(self, now: Millis, drained: int, reading: bool) -> bool:
        """Is it time to tell? The counts can wait, a claim cannot."""
        told = self._told
        return now >= self.next_at or told is None or told.drained != drained or told.reading != reading

    def tell(self, report: Report, now: Millis) -> list[Effect]:
        self.next_at = now + REPORT_MS
        if report == self._told:
            return []
        self._told = report
        return self._send(() if self._table is None else self._table.members)

    def _send(self, nodes: tuple[NodeId, ...] | list[NodeId]) -> list[Effect]:
        if self._told is None or self._table is None or self._me not in self._table.members:
            return []
        payload = encode_with_values(self._told)
        others = [node for node in nodes if node != self._me and node not in self.unreachable]
        return [Transmit(node, CONTROL, payload) for node in others]  # an unreachable one's link would keep them all

    def member_changed(self, member: Member) -> list[Effect]:
        if member.status not in (ALIVE, SUSPECT):
            self.unreachable[member.node] = None
        elif member.node in self.unreachable:
            del self.unreachable[member.node]
            if self._table is not None and member.node in self._table.members:
                return self._send([member.node])
        return []
