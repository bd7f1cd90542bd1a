"""What one node believes of each other one, and what it takes from others.

    (unknown) -> ALIVE -> SUSPECT -> DEAD        the detector: failed probes, then an accuser's verdict
    SUSPECT, DEAD -> ALIVE                       only by a higher incarnation: the node itself refuted
    any -> LEFT                                  the node said goodbye; final

Who is believed dead may refute, but its news of third nodes is not taken: a node that can send but not receive suspects
everybody, and would be refuted for ever. What others say of this node itself is only ever a reason to refute.

Invariants: this node's own record is ALIVE until it leaves, then LEFT; a suspicion exists for exactly those members
that are SUSPECT; every change of belief is reported and becomes news.
"""

from __future__ import annotations

from dataclasses import replace

from mesh.core.events import Effect, Log, Millis, Rejected
from mesh.core.membership.gossip import Rumours
from mesh.core.membership.probe import Prober
from mesh.core.membership.roster import Roster
from mesh.core.membership.suspicion import Suspicions
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, LEFT, SUSPECT, Member


class Beliefs:
    """Takes claims; appends MemberChanged, Rejected, Log to `effects`."""

    def __init__(self, me: Member, prober: Prober, suspicions: Suspicions, effects: list[Effect]) -> None:
        self._me = me.node
        self._prober = prober
        self._suspicions = suspicions
        self._effects = effects
        self.roster = Roster(me)
        self.rumours = Rumours()

    @property
    def members(self) -> dict[NodeId, Member]:
        return self.roster.members

    @property
    def me(self) -> Member:
        return self.roster.members[self._me]

    def leave(self, now: Millis) -> None:
        """The own record becomes LEFT."""
        self._change(replace(self.me, status=LEFT), now)

    def start_leaving(self, phase: int, now: Millis) -> None:
        """The own record says LEAVING or READY from now on."""
        self._change(replace(self.me, leaving=phase, incarnation=self.me.incarnation + 1), now)

    def hear(self, sender: NodeId, claims: list[Member], most: int, now: Millis) -> None:
        """Take what a message says: first of its sender, then of others if the sender is not believed dead."""
        refused: dict[str, tuple[int, str]] = {}
        if len(claims) > most:
            refused["gossip-too-long"] = (1, f"{len(claims)} members in one message")
            claims = claims[:most]
        for claim in [each for each in claims if each.node == sender]:
            self._weigh(claim, sender, refused, now)
        known = self.members.get(sender)
        trusted = known is not None and known.status <= SUSPECT
        for claim in claims:
            if claim.node != sender and (trusted or (known is not None and claim.node == self._me)):
                self._weigh(claim, sender, refused, now)
        for reason, (count, first) in refused.items():
            self._effects.append(Rejected(reason, f"{count} of {len(claims)} from {sender.hex()}: {first}"))

    def _weigh(self, claim: Member, sender: NodeId, refused: dict[str, tuple[int, str]], now: Millis) -> None:
        refusal = self.roster.refusal(claim)
        if refusal is None and claim.node == self._me and claim.status == LEFT and self.me.status == ALIVE:
            refusal = "not-left", f"{claim.name!r} is said to have left and is here"
        if refusal is not None:
            reason, detail = refusal
            count, first = refused.get(reason, (0, detail))
            refused[reason] = (count + 1, first)
        elif claim.node == self._me:
            self._weigh_own(claim, now)
        else:
            self.take(claim, sender, now)

    def _weigh_own(self, claim: Member, now: Millis) -> None:
        """Whatever beats the own record is false: rise above it and say so at once."""
        me = self.me
        if me.status == LEFT or claim.incarnation < me.incarnation or claim == me:
            return
        self._change(replace(me, incarnation=claim.incarnation + 1), now)
        self._prober.adjust(+1)
        self._log("member.refuting", self.me, "warning")

    def take(self, claim: Member, teller: NodeId, now: Millis) -> None:
        """Merge a claim about another node and act on the change."""
        before = self.members.get(claim.node)
        if not self._change(claim, now):
            return
        if claim.status != SUSPECT:
            self._suspicions.drop(claim.node)
        if claim.status == SUSPECT:
            self._suspicions.hear(claim.node, teller)
            self._log("member.suspect", claim, "warning")
        elif claim.status == ALIVE:
            self._rose(claim, before, now)
        elif before is not None:
            self._log("member.dead" if claim.status == DEAD else "member.left", claim, "warning")
        if claim.status <= SUSPECT and (claim.name, claim.endpoint) == (self.me.name, self.me.endpoint):
            self.take(replace(claim, status=DEAD), self._me, now)  # who was at this node's address before it

    def _rose(self, member: Member, before: Member | None, now: Millis) -> None:
        if before is None or before.status >= DEAD:
            self._prober.join(member.node)
            self._log("member.alive", member, "info")
        elif before.status == SUSPECT:
            self._log("member.refuted", member, "warning")

    def _change(self, claim: Member, now: Millis) -> bool:
        change = self.roster.merge(claim, now)
        if change is None:
            return False
        self._effects.append(change)
        self.rumours.add(claim.node)
        return True

    def _log(self, event: str, member: Member, level: str) -> None:
        fields = {"member": member.name, "endpoint": member.endpoint, "incarnation": member.incarnation}
        self._effects.append(Log(event, fields, level))
