"""One chosen value an epoch: single-decree Paxos, once for every epoch, each decided by the voters of the one before.

    proposer   idle -> preparing (Prepare out, Promises in) -> accepting (Accept out, Accepted in) -> chosen
               outbid: wait a random while, then a higher ballot; unanswered: again, then a higher ballot
    acceptor   one durable vote for the next epoch: what is promised to whom, what is accepted
    learner    epochs 1, 2, 3 ...; who lags is told what it lacks, and everybody asks around now and then

A vote (the proposer's own promise, which makes its ballot number used, included) and an epoch are durable before
anything that depends on them leaves this machine. Only the newest epochs are kept (`history`): each value is complete,
so who was away for longer is told the newest one and leaps. What it had voted on is settled by then, whatever it was.

Invariants. One value an epoch: any two sets of voters that are `enough` share a voter, who accepts no ballot lower than
it promised, and a proposer that finds an accepted value among its promises carries that one on, not its own. One value
a ballot. Before the founding a voter is a name, and in one ballot one node speaks for it. The epochs that a node
reports rise, and each is of the one history; a gap is a leap. Nobody votes on an epoch without holding the one before.
No value is voted for or learnt that may not follow what is known here (`fault`).

A vote belongs to a home: the memory of a data directory, or of one process if there is none. A process that restarts
with its directory votes and proposes again once it is `confirmed` (`boots` knows when); until then it only learns. One
that restarts without it is another home of the same name, which knows nothing of promises made: at the founding, where
names vote, that is safe as long as any two sets of `expect` declared workers share one that kept its memory; with the
default, `expect` = all, it takes the restart of all of them to found a second cluster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import TypeAlias

from mesh.core import ballots
from mesh.core.ballots import Ballot, Vote
from mesh.core.durable import Durable
from mesh.core.electorate import Electorate
from mesh.core.events import Effect, Event, Log, Millis, Persisted, Received, Rejected, Send
from mesh.core.events.planes import EpochChosen, MayVote, MemberChanged, Propose, Withdraw
from mesh.core.history import History, record, record_name
from mesh.core.messages import Message, NodeId
from mesh.core.messages.epochs import Accept, Accepted, Chosen, EpochHeld, EpochKnown, Outbid, Prepare, Promise
from mesh.core.messages.members import DEAD, Member
from mesh.core.voices import Voice, Voices

RESEND = 200  # ms until an unanswered ballot is sent again
PATIENCE = 5  # sends of one ballot before a higher one is tried
BACK_OFF = 100  # ms, doubled with every ballot that was outbid
BACK_OFF_MOST = 2_000
GOSSIP = 1_000  # ms between two questions "do you know a newer epoch?"
ROUNDS_AHEAD = 1 << 16  # a ballot further ahead than this is a broken peer's: it would use up the numbers
KEEPER = "agreement.vote"

Fault: TypeAlias = Callable[[int, bytes | None, bytes], str | None]


class Agreement:
    """`founders` choose epoch 1; `voters_of(epoch, value)` says who follows up on it.

    `fault(epoch, before, value)` says why a value may not be that epoch's, where `before` is the newest known here.
    Raises ValueError if what is stored may not be an epoch of this node's.
    """

    def __init__(
        self,
        me: NodeId,
        name: str,
        founders: Electorate,
        voters_of: Callable[[int, bytes], Electorate],
        fault: Fault,
        random: Random,
        stored: Mapping[str, bytes],
        home: bytes = b"",
        boot: int = 1,
        confirmed: bool = True,
    ) -> None:
        self._me = me
        self._voices = Voices(me, Voice(name, home or me, boot))
        self._confirmed = confirmed
        self._electorate = founders
        self._voters_of = voters_of
        self._random = random
        self._fault = fault
        self._history = History(stored)
        self._unreported: list[Effect] = []
        self._restore(stored)
        self._durable = Durable()
        self._wish: bytes | None = None
        self._ballot: Ballot | None = None
        self._outbid_times = 0
        self._try_at: Millis | None = None  # invariant: set as long as there is a wish
        self._gossip_at: Millis = 0

    @property
    def epoch(self) -> int:
        """The newest epoch known here; it may still be on its way to the disk."""
        return self._history.epoch

    @property
    def newest(self) -> bytes | None:
        """The value of that epoch."""
        return self._history.newest

    def next_deadline(self) -> Millis | None:
        if self._unreported:
            return 0
        return self._gossip_at if self._try_at is None else min(self._try_at, self._gossip_at)

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        effects: list[Effect] = [*self._unreported]
        self._unreported = []
        match event:
            case Received(sender, message):
                effects += self._received(sender, message, now)
            case Persisted(name):
                effects += self._durable.persisted(name)
            case Propose(epoch, value):
                self._propose(epoch, value, now)
            case Withdraw(epoch):
                self._withdraw(epoch)
            case MayVote(may):
                self._may_vote(may)
            case MemberChanged(member):
                effects += self.know(member) if member.status < DEAD else self.forget(member.node)
        return list(self._performed_here(effects + self._due(now), now))

    def know(self, member: Member) -> list[Effect]:
        """A node can be reached; at the founding it speaks for its name, later for its home."""
        return [Send(member.node, EpochKnown(self.epoch, 0))] if self._voices.know(member) else []

    def forget(self, node: NodeId) -> list[Effect]:
        """A node cannot be reached. What it has voted stands."""
        self._voices.forget(node)
        return []

    def decree(self, epoch: int, value: bytes) -> list[Effect]:
        """Without a vote, as an operator says that the majority is lost; `epoch` is of another generation."""
        nodes = [node for node in self._voices.nodes() if node != self._me]
        learned = self._learn(epoch, value)
        return learned + [Send(node, Chosen(epoch, value)) for node in nodes]

    def _may_vote(self, may: bool) -> None:
        self._confirmed = may
        if not may:
            self._wish = self._ballot = self._try_at = None

    def _is_confirmed(self) -> bool:
        """At the founding there is nobody yet who could."""
        return self._confirmed or self.epoch == 0

    # -- all roles

    def _restore(self, stored: Mapping[str, bytes]) -> None:
        newest = self._history.newest
        if newest is not None:
            if (fault := self._fault(self.epoch, None, newest)) is not None:
                raise ValueError(fault)
            self._electorate = self._voters_of(self.epoch, newest)
            self._unreported.append(EpochChosen(self.epoch, newest))
        kept = stored.get(KEEPER)
        vote = Vote.from_bytes(kept) if kept is not None else None
        self._vote = vote if vote is not None and vote.epoch == self.epoch + 1 else Vote(self.epoch + 1)
        self._round = ballots.round_of(self._vote.promised)

    def _received(self, sender: NodeId, message: Message, now: Millis) -> list[Effect]:
        match message:
            case Chosen():
                return self._on_chosen(sender, message)
            case EpochKnown():
                return self._on_epoch_known(sender, message)
            case Prepare() | Promise() | Accept() | Accepted() | Outbid():
                if message.epoch != self.epoch + 1:
                    return self._misplaced(sender, message.epoch)
                return self._on_vote(sender, message, now)
        return []

    def _on_vote(
        self, sender: NodeId, message: Prepare | Promise | Accept | Accepted | Outbid, now: Millis
    ) -> list[Effect]:
        voter = self._voter(sender)
        if voter is None:
            return [Rejected("not-a-voter", f"{_shown(sender)} has no vote on epoch {message.epoch}")]
        if ballots.round_of(message.ballot) > self._round + ROUNDS_AHEAD:
            return [Rejected("ballot", f"{_shown(sender)} names ballot {message.ballot}, far beyond any other")]
        if isinstance(message, Prepare | Accept) and not self._is_confirmed():
            return []  # it will be asked again
        match message:
            case Prepare():
                return self._on_prepare(sender, message)
            case Accept():
                return self._on_accept(sender, message)
            case Promise():
                return self._on_promise(voter, sender, message)
            case Accepted():
                return self._on_accepted(voter, sender, message)
            case Outbid():
                return self._on_outbid(message, now)

    def _misplaced(self, sender: NodeId, epoch: int) -> list[Effect]:
        """A message about an epoch that is not the next: someone lags."""
        if epoch > self.epoch + 1:
            return [Send(sender, EpochKnown(self.epoch, 0))]
        return self._tell(sender, epoch)

    def _voter(self, node: NodeId) -> str | None:
        """Whose vote a node carries."""
        voter = self._voices.voter(self._electorate, node)
        return None if voter is None else voter.name

    def _speakers(self) -> list[tuple[str, NodeId]]:
        """(voter, node) of all nodes that can speak for a voter, as far as known."""
        return [(voter.name, node) for voter, node in self._voices.speakers(self._electorate)]

    def _nodes(self) -> list[NodeId]:
        return [node for _, node in self._speakers()]

    def _bad_value(self, sender: NodeId, epoch: int, value: bytes) -> list[Effect]:
        fault = self._fault(epoch, self._history.newest, value)
        return [] if fault is None else [Rejected("value", f"{_shown(sender)} sent for epoch {epoch}: {fault}")]

    def _bind(self, vote: Vote, then: Effect) -> list[Effect]:
        """Bind this voter, then say so."""
        if vote == self._vote:
            return self._durable.after_all(then)
        self._vote = vote
        return self._durable.persist(KEEPER, vote.to_bytes(), [then])

    def _performed_here(self, effects: list[Effect], now: Millis) -> Iterator[Effect]:
        """What this node says to itself it hears at once."""
        queue = deque(effects)
        while queue:
            effect = queue.popleft()
            if isinstance(effect, Send) and effect.to == self._me:
                queue.extendleft(reversed(self._received(self._me, effect.message, now)))
            else:
                yield effect

    # -- acceptor

    def _on_prepare(self, sender: NodeId, message: Prepare) -> list[Effect]:
        if refusal := self._refusal(sender, message.ballot):
            return refusal
        vote = replace(self._vote, promised=message.ballot, promised_to=sender)
        promise = Promise(message.epoch, message.ballot, vote.accepted_ballot, vote.accepted)
        return self._bind(vote, Send(sender, promise))

    def _on_accept(self, sender: NodeId, message: Accept) -> list[Effect]:
        if refusal := self._refusal(sender, message.ballot) or self._bad_value(sender, message.epoch, message.value):
            return refusal
        if self._vote.accepted_ballot == message.ballot and self._vote.accepted != message.value:
            return [Rejected("ballot", f"{_shown(sender)} sent two values under ballot {message.ballot}")]
        vote = Vote(message.epoch, message.ballot, sender, message.ballot, message.value)
        return self._bind(vote, Send(sender, Accepted(message.epoch, message.ballot)))

    def _refusal(self, sender: NodeId, ballot: int) -> list[Effect]:
        vote = self._vote
        if self._voter(self._me) is None:
            return [Rejected("not-a-voter", f"{_shown(sender)} asks this node for a vote on epoch {vote.epoch}")]
        if not ballots.fits(ballot, sender):
            return [Rejected("ballot", f"{_shown(sender)} uses ballot {ballot}, which is another node's")]
        if not vote.allows(ballot, sender):
            return [Send(sender, Outbid(vote.epoch, vote.promised))]
        self._round = max(self._round, ballots.round_of(ballot))
        return []

    # -- proposer

    def _propose(self, epoch: int, value: bytes, now: Millis) -> None:
        if epoch != self.epoch + 1 or self._voter(self._me) is None or not self._is_confirmed():
            return
        fault = self._fault(epoch, self._history.newest, value)
        assert fault is None, fault  # our own planner's
        self._wish = value
        if self._try_at is None:
            self._try_at = now

    def _withdraw(self, epoch: int) -> None:
        if epoch == self.epoch + 1:
            self._wish = self._ballot = self._try_at = None

    def _due(self, now: Millis) -> list[Effect]:
        effects: list[Effect] = []
        if self._try_at is not None and now >= self._try_at:
            effects += self._try(now)
        if now >= self._gossip_at:
            self._gossip_at = now + GOSSIP + self._random.randrange(GOSSIP // 4)
            others = [node for node in self._voices.nodes() if node != self._me]
            effects += [Send(self._random.choice(others), EpochKnown(self.epoch, 0))] if others else []
        return effects

    def _try(self, now: Millis) -> list[Effect]:
        """A new ballot, or the present one once more to those who have not answered."""
        self._try_at = now + RESEND
        if self._durable:
            return []  # a slow disk; what waits for it will go out
        if self._ballot is None or self._ballot.sends >= PATIENCE:
            return self._new_ballot()
        self._ballot.sends += 1
        answered = self._ballot.promises if self._ballot.value is None else self._ballot.votes
        return self._ask(self._ballot, [node for voter, node in self._speakers() if voter not in answered])

    def _new_ballot(self) -> list[Effect]:
        """Its number is used once, also if this process restarts: our own promise is durable before anybody hears."""
        self._round += 1
        ballot = self._ballot = Ballot(ballots.number(self._round, self._me), sends=1)
        self._vote = replace(self._vote, promised=ballot.number, promised_to=self._me)
        return self._durable.persist(KEEPER, self._vote.to_bytes(), self._ask(ballot, self._nodes()))

    def _ask(self, ballot: Ballot, nodes: list[NodeId]) -> list[Effect]:
        return [Send(node, self._request(ballot)) for node in nodes]

    def _request(self, ballot: Ballot) -> Message:
        if ballot.value is None:
            return Prepare(self.epoch + 1, ballot.number)
        return Accept(self.epoch + 1, ballot.number, ballot.value)

    def _on_promise(self, voter: str, sender: NodeId, message: Promise) -> list[Effect]:
        ballot = self._ballot
        if ballot is None or ballot.number != message.ballot or ballot.value is not None:
            return []
        if message.accepted_ballot and (bad := self._bad_value(sender, message.epoch, message.accepted)):
            return bad
        if ballot.speaks(voter, sender):
            ballot.promises[voter] = (message.accepted_ballot, message.accepted)
        if not self._electorate.enough(ballot.promises):
            return []
        ballot.value = self._value_for(ballot)
        ballot.sends = 1
        return self._ask(ballot, self._nodes())

    def _value_for(self, ballot: Ballot) -> bytes:
        accepted = ballot.accepted_before()
        assert self._wish is not None
        return self._wish if accepted is None else accepted

    def _on_accepted(self, voter: str, sender: NodeId, message: Accepted) -> list[Effect]:
        ballot = self._ballot
        if ballot is None or ballot.number != message.ballot or ballot.value is None:
            return []
        if ballot.speaks(voter, sender):
            ballot.votes[voter] = None
        if not self._electorate.enough(ballot.votes):
            return []
        value = ballot.value
        nodes = dict.fromkeys([*self._voices.nodes(), *self._nodes()])
        learned = self._learn(message.epoch, value)
        return learned + [Send(node, Chosen(message.epoch, value)) for node in nodes if node != self._me]

    def _on_outbid(self, message: Outbid, now: Millis) -> list[Effect]:
        if self._ballot is None or message.ballot <= self._ballot.number:
            return []
        self._round = max(self._round, ballots.round_of(message.ballot))
        self._ballot = None
        longest = min(BACK_OFF << self._outbid_times, BACK_OFF_MOST)
        self._outbid_times = min(self._outbid_times + 1, 8)
        self._try_at = now + 1 + self._random.randrange(longest)
        return []

    # -- learner

    def _learn(self, epoch: int, value: bytes) -> list[Effect]:
        """Act on it only when it is durable; the next epoch's votes start afresh."""
        self._history.add(epoch, value)
        self._electorate = self._voters_of(epoch, value)
        self._vote = Vote(self.epoch + 1)
        self._round = self._outbid_times = 0
        self._wish = self._ballot = self._try_at = None
        report: list[Effect] = [EpochChosen(epoch, value), Log("epoch.chosen", {"epoch": epoch}, "debug")]
        return self._durable.persist(record_name(epoch), record(epoch, value), report)

    def _on_chosen(self, sender: NodeId, message: Chosen) -> list[Effect]:
        """A member says that it is chosen; between members that is enough, however far ahead it is."""
        if message.epoch > self.epoch:
            return self._bad_value(sender, message.epoch, message.value) or self._learn(message.epoch, message.value)
        if message.epoch < 1 or self._history.get(message.epoch) not in (None, message.value):
            return [Rejected("history", f"{_shown(sender)} knows another epoch {message.epoch} than this node")]
        return []

    def _on_epoch_known(self, sender: NodeId, message: EpochKnown) -> list[Effect]:
        if message.epoch > self.epoch:
            return [Send(sender, EpochKnown(self.epoch, 0))]
        effects = self._tell(sender, message.epoch + 1)
        if message.number and self._is_confirmed():
            effects += self._durable.after_all(Send(sender, EpochHeld(self.epoch, message.number)))
        return effects

    def _tell(self, node: NodeId, first: int) -> list[Effect]:
        """Epochs from `first` on, or only the newest if that one is forgotten."""
        return [Send(node, Chosen(epoch, value)) for epoch, value in self._history.since(first)]


def _shown(node: NodeId) -> str:
    return node.hex()[:12]
