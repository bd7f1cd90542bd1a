"""The table of members: what is believed, who is dead since when, and what must not be forgotten of the forgotten.

Dead and left members stay in the table for a long time, so that stale news of them loses its comparison. Then they
become graves: no longer gossiped or shown, but their last record still wins over stale news, so nobody rises at an
incarnation that was buried (M2). Who speaks from its grave, after a split that outlasted memory, is dead in the table
again, and so is told of its death and can refute it.

Invariants: this node's own record is always there; members and graves have no id in common; both are bounded.
"""

from __future__ import annotations

from dataclasses import replace

from mesh.core.events import Millis
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.merge import MAX_MEMBERS, implausible, leaps, newer
from mesh.core.messages import NodeId
from mesh.core.messages.members import DEAD, SUSPECT, Member

MAX_GRAVES = MAX_MEMBERS  # as many again; past that the oldest is dropped, which only very old news could notice


class Roster:
    """Beliefs, merged by `newer`."""

    def __init__(self, me: Member) -> None:
        self._me = me.node
        self.members: dict[NodeId, Member] = {me.node: me}
        self._gone_since: dict[NodeId, Millis] = {}  # dead and left members, the oldest first
        self._graves: dict[NodeId, Member] = {}

    def refusal(self, claim: Member) -> tuple[str, str] | None:
        """The reason and the detail why a claim may not be merged."""
        why = implausible(claim)
        if why is not None:
            return "implausible-member", why
        known = self.members.get(claim.node) or self._graves.get(claim.node)
        if leaps(claim.incarnation, known.incarnation if known else 0):
            return "incarnation-leap", f"{claim.name!r} at {claim.incarnation}"
        if claim.node not in self.members and len(self.members) >= MAX_MEMBERS and not self._gone_since:
            return "members-full", f"no room for {claim.name!r} beside {MAX_MEMBERS} members"
        return None

    def soften(self, claim: Member) -> Member:
        """A death known from a table, not from a detector, is a suspicion: the other side of a split held it too."""
        known = self.members.get(claim.node)
        if claim.status == DEAD and known is not None and known.status <= SUSPECT:
            return replace(claim, status=SUSPECT)
        return claim

    def merge(self, claim: Member, now: Millis) -> MemberChanged | None:
        """Take a claim that `refusal` let pass; the change of belief, if it is one."""
        known = self.members.get(claim.node)
        grave = self._graves.get(claim.node)
        believed = known or grave
        if believed is not None and newer(believed, claim) == believed:
            return None
        if known is None and len(self.members) >= MAX_MEMBERS:
            self._bury(next(iter(self._gone_since)))
        self._graves.pop(claim.node, None)
        self.members[claim.node] = claim
        self._note_status(claim, now)
        return MemberChanged(claim, believed.status if believed else None)

    def _note_status(self, member: Member, now: Millis) -> None:
        if member.status < DEAD:
            self._gone_since.pop(member.node, None)
        elif member.node != self._me:
            self._gone_since.setdefault(member.node, now)

    def forget(self, before: Millis) -> None:
        """Bury whom nobody has seen since `before`."""
        for node, since in list(self._gone_since.items()):
            if since >= before:
                return
            self._bury(node)

    def exhume(self, node: NodeId, now: Millis) -> None:
        """A buried node speaks."""
        grave = self._graves.get(node)
        if grave is None or grave.status != DEAD:
            return
        if len(self.members) >= MAX_MEMBERS:
            if not self._gone_since:
                return
            self._bury(next(iter(self._gone_since)))
        self.members[node] = self._graves.pop(node)
        self._note_status(grave, now)

    def _bury(self, node: NodeId) -> None:
        del self._gone_since[node]
        self._graves[node] = self.members.pop(node)
        if len(self._graves) > MAX_GRAVES:
            del self._graves[next(iter(self._graves))]

    def others(self) -> list[Member]:
        """All that may be alive, but this node."""
        return [each for each in self.members.values() if each.status <= SUSPECT and each.node != self._me]

    def lost(self) -> list[Member]:
        """The dead whose address nobody has taken over: a split may have hidden them."""
        taken = {each.endpoint for each in self.members.values() if each.status <= SUSPECT}
        return [each for each in self.members.values() if each.status == DEAD and each.endpoint not in taken]
