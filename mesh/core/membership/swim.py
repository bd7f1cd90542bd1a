"""SWIM with Lifeguard (signatures first; the body follows)."""

from __future__ import annotations

from random import Random

from mesh.core.events import Effect, Event, Millis
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import ALIVE, Member, NodeId


class Membership:
    """What this node believes of all others; emits MemberChanged, Send, Rejected, Log."""

    def __init__(self, me: Member, tuning: Tuning, random: Random) -> None:
        self._me = me.node
        self.members: dict[NodeId, Member] = {me.node: me}

    @property
    def me(self) -> Member:
        """This node's own record, with its present incarnation."""
        return self.members[self._me]

    def alive(self) -> list[Member]:
        """The members whose status is ALIVE, this node included, by name."""
        return sorted((each for each in self.members.values() if each.status == ALIVE), key=lambda m: (m.name, m.node))

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received, Woke, Lagged, Heard, Admitted, Leave."""
        raise NotImplementedError

    def next_deadline(self) -> Millis | None:
        """When to wake next."""
        raise NotImplementedError
