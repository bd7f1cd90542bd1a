"""Who of the voters is in touch, and who holds which epoch: the fence of F1, and what the planner must know of joiners.

Every ASK ms each voter is asked to confirm the newest epoch known here; the answer counts from when the question was
sent, so that one which travelled long proves little. An owner works only while a decisive set of voters confirmed
within LEASE: a minority stops by itself, whatever it believes of the others. Confirmations outlast an epoch, as epochs
may follow one another faster than answers travel: an answer counts if it names the epoch that was asked for, or a later
one that is known here by now. Who is behind gets none. They are of homes, as votes are.

    (no table) -> in touch -> fenced -> in touch -> ...        reported as Fenced

Invariants: `fenced` is what was last reported; what is remembered is bounded by the members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.electorate import Electorate
from mesh.core.events import Effect, Event, Log, Millis, Received, Send, Woke
from mesh.core.events.planes import Fenced, MayVote, MemberChanged
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import EpochHeld, EpochKnown
from mesh.core.messages.members import DEAD
from mesh.core.voices import Voice, Voices

ASK = 1_000  # ms between two questions to each voter
ASK_AGAIN = 200  # ms, at least, after a new epoch: its holders decide who may go
LEASE = 4_000  # ms; F1


@dataclass(frozen=True, slots=True)
class CaughtUp(Effect):
    """A node has shown that it holds the newest epoch."""

    node: NodeId


class Contact:
    """Asks voters, hears answers and the questions of others."""

    def __init__(self, me: NodeId, home: bytes = b"", boot: int = 1, confirmed: bool = True) -> None:
        self._me = me
        self._voices = Voices(me, Voice("", home or me, boot))
        self._votes = confirmed  # this process counts itself
        self._epoch = 0
        self._electorate: Electorate | None = None
        self._confirmed: dict[bytes, Millis] = {}  # voter's home -> when the question was sent that it last confirmed
        self._held: dict[NodeId, int] = {}  # node -> the newest epoch that it is known to hold
        self._granted: Millis = 0  # in touch until then: the first table has only just been decided
        self._asked: Millis = -ASK
        self._asked_epoch = 0  # of the last question
        self._ask_at: Millis | None = None
        self.caught_up: dict[NodeId, None] = {}
        self.fenced = False
        self._until: Millis | None = None  # invariant: `_in_touch_until()`; it is asked for at every turn

    def next_deadline(self) -> Millis | None:
        until = self._until
        if self._ask_at is None or self.fenced or until is None:
            return self._ask_at
        return min(self._ask_at, until + 1)

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received (EpochKnown, EpochHeld), MemberChanged, MayVote, Woke."""
        effects: list[Effect] = []
        match event:
            case Received(sender, EpochKnown(epoch)):
                effects += self._holds(sender, epoch)
            case Received(sender, EpochHeld(epoch, number)):
                effects += self._holds(sender, epoch)
                self._confirms(sender, epoch, number, now)
                self._until = self._in_touch_until()
            case MayVote(may):
                self._votes = may
                self._until = self._in_touch_until()
            case MemberChanged(member) if member.status < DEAD:
                self._voices.know(member)
                self._until = self._in_touch_until()
            case MemberChanged(member):
                self._voices.forget(member.node)
                self._held.pop(member.node, None)
                self.caught_up.pop(member.node, None)
                self._until = self._in_touch_until()
            case Woke() if self._ask_at is not None and now >= self._ask_at:
                effects += self._ask(now)
        return effects + self._fence(now)

    def agreed(self, epoch: int, voters: Electorate, now: Millis) -> list[Effect]:
        """There is a new epoch; `voters` decide on the next one. They are asked when this is over: who chose it is the
        first to know it, and has yet to tell them."""
        first = self._electorate is None
        if first:
            self._granted = now + LEASE
        self._epoch = epoch
        self._electorate = voters
        homes = {voter.home for voter in voters.voters}
        self._confirmed = {home: at for home, at in self._confirmed.items() if home in homes}
        self._until = self._in_touch_until()
        self._ask_at = max(now + 1, self._asked + ASK_AGAIN)
        return (self._ask(now) if first else []) + self._fence(now)

    def is_held(self) -> bool:
        """Whether a decisive set of the voters is known to hold the newest epoch."""
        if self._electorate is None:
            return False
        holders = [node for node, epoch in self._held.items() if epoch >= self._epoch]
        voters = [self._voices.voter(self._electorate, node) for node in holders]
        return self._enough([voter.home for voter in voters if voter is not None])

    # -- the inside

    def _ask(self, now: Millis) -> list[Effect]:
        assert self._electorate is not None
        self._asked, self._asked_epoch, self._ask_at = now, self._epoch, now + ASK
        others = [node for _, node in self._voices.speakers(self._electorate) if node != self._me]
        return [Send(node, EpochKnown(self._epoch, max(now, 1))) for node in others]

    def _holds(self, node: NodeId, epoch: int) -> list[Effect]:
        self._held[node] = max(epoch, self._held.get(node, 0))
        if epoch < self._epoch or not self._epoch or node in self.caught_up:
            return []
        self.caught_up[node] = None
        return [CaughtUp(node)]

    def _confirms(self, sender: NodeId, epoch: int, number: int, now: Millis) -> None:
        voter = None if self._electorate is None else self._voices.voter(self._electorate, sender)
        if voter is not None and self._asked_epoch <= epoch <= self._epoch and number <= now:
            self._confirmed[voter.home] = max(number, self._confirmed.get(voter.home, number))

    def _enough(self, homes: Sequence[bytes]) -> bool:
        """Do these and this node decide?"""
        voters = self._electorate
        if voters is None:
            return False
        own = self._voices.voter(voters, self._me) if self._votes else None
        return voters.enough([each.name for each in voters.voters if each is own or each.home in homes])

    def _in_touch_until(self) -> Millis | None:
        """How long the confirmations of a decisive set last; None: for ever, as this node decides by itself."""
        if self._electorate is None or self._enough([]):
            return None
        latest = sorted(self._confirmed, key=lambda home: -self._confirmed[home])
        decisive = (home for count, home in enumerate(latest, 1) if self._enough(latest[:count]))
        weakest = next(decisive, None)
        return self._granted if weakest is None else max(self._granted, self._confirmed[weakest] + LEASE)

    def _fence(self, now: Millis) -> list[Effect]:
        until = self._until
        fenced = until is not None and now > until
        if fenced == self.fenced:
            return []
        self.fenced = fenced
        return [Fenced(fenced), Log("node.fenced" if fenced else "node.unfenced", {"epoch": self._epoch}, "warning")]
