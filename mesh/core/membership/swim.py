"""Membership: SWIM with Lifeguard's corrections. It finds and spreads; it decides nothing.

This file is the conversation: who is asked what, and when. What is believed, and of whom, is in `beliefs`.

Every message with gossip begins with the sender's own record, and with what is believed of the receiver if that is not
ALIVE: one round trip with a suspect is enough to clear it, and a stranger's Ping can be answered.

A death learnt from a whole table is taken as a suspicion, so that the two sides of a healed split do not bury each
other's living. Time in which this node did not run is added to every deadline (`Lagged`, or a wake-up that comes late).

Invariants: the next deadline is later than the last `Woke`; every table is bounded (see roster, gossip, probe,
suspicion).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from mesh.core.events import Effect, Event, Millis, Received, Rejected, Send, Woke
from mesh.core.events.planes import HandedOver, StartLeaving
from mesh.core.membership.beliefs import Beliefs
from mesh.core.membership.facts import Admitted, Heard, Lagged, Leave, Missed
from mesh.core.membership.gossip import times_to_tell
from mesh.core.membership.merge import MAX_MEMBERS
from mesh.core.membership.probe import Probe, Prober
from mesh.core.membership.suspicion import Suspicion, Suspicions
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import Message, NodeId
from mesh.core.messages.members import (
    ALIVE,
    DEAD,
    LEAVING,
    LEFT,
    READY,
    SUSPECT,
    Ack,
    Gossip,
    Member,
    Nack,
    Ping,
    PingReq,
    PushPull,
)

MAX_GOSSIP = 64  # members taken from one message of gossip; honest ones carry `Tuning.records`
FAREWELLS = 64  # members told directly of a leave; gossip tells the others


class Membership:
    """What this node believes of all others; emits MemberChanged, Send, Rejected, Log."""

    def __init__(self, me: Member, tuning: Tuning, random: Random) -> None:
        assert me.status == ALIVE, me
        self._me = me.node
        self._tuning = tuning
        self._random = random
        self._effects: list[Effect] = []  # of the event being handled
        self._prober = Prober(tuning, random)
        self._suspicions = Suspicions(tuning)
        self._beliefs = Beliefs(me, self._prober, self._suspicions, self._effects)
        self._roster = self._beliefs.roster
        self._rumours = self._beliefs.rumours
        self._synced_at: dict[NodeId, Millis] = {}  # when a member's push-pull was last answered
        self._started = False
        self._next_probe = self._next_gossip = self._next_sync = self._next_reconnect = 0

    @property
    def members(self) -> dict[NodeId, Member]:
        """All that are believed in, the dead included."""
        return self._roster.members

    @property
    def me(self) -> Member:
        """This node's own record, with its present incarnation."""
        return self._beliefs.me

    def knows(self, node: NodeId, now: Millis) -> bool:
        """Whether a sender is one of them; who was forgotten as dead is so again, as it speaks."""
        self._roster.exhume(node, now)
        return node in self._roster.members

    def spoke(self, node: NodeId, now: Millis) -> bool:
        """Something came that is not for this machine. False: nobody here knows the sender."""
        if not self.knows(node, now):
            return False
        self._prober.heard(node, now)
        return True

    def alive(self) -> list[Member]:
        """The members whose status is ALIVE, this node included, by name."""
        return sorted((each for each in self.members.values() if each.status == ALIVE), key=lambda m: (m.name, m.node))

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received, Woke, Lagged, Heard, Admitted, Missed, StartLeaving, HandedOver, Leave."""
        if not self._started:
            self._start(now)
        match event:
            case Received(sender, message):
                self._received(sender, message, now)
            case Woke():
                self._woke(now)
            case Lagged(by):
                self._lagged(by)
            case Heard(sender):
                self.heard(sender, now)
            case Admitted():
                self._admitted(event, now)
            case Missed(members):
                self._missed(members, now)
            case StartLeaving():
                self._start_leaving(LEAVING, now)
            case HandedOver():
                self._start_leaving(READY, now)
            case Leave():
                self._leave(now)
        if self._rumours and self._next_gossip <= now:
            self._next_gossip = now + self._tuning.gossip_every // 4  # news comes in bursts: tell it together
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    def next_deadline(self) -> Millis | None:
        """When to wake next."""
        if not self._started:
            return 0
        deadlines = [self._next_probe, self._next_sync, self._next_reconnect, *self._prober.deadlines()]
        if self._rumours:
            deadlines.append(self._next_gossip)
        suspicion = self._suspicions.next_deadline()
        return min(deadlines if suspicion is None else [*deadlines, suspicion])

    def _start(self, now: Millis) -> None:
        self._started = True
        self._next_probe = now + 1 + self._random.randrange(self._tuning.period)
        self._next_sync = now + 1 + self._random.randrange(self._tuning.sync)
        self._next_reconnect = now + 1 + self._random.randrange(self._tuning.reconnect)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _received(self, sender: NodeId, message: Message, now: Millis) -> None:
        if sender == self._me:
            return
        self._roster.exhume(sender, now)
        match message:
            case Ping(_, gossip) | Ack(_, gossip) | PingReq(_, _, gossip) | Gossip(gossip):
                self._hear(sender, gossip, MAX_GOSSIP, now)
            case PushPull(members):
                self._hear(sender, [self._roster.soften(each) for each in members], MAX_MEMBERS, now)
        if sender not in self.members:
            self._effects.append(Rejected("unknown-sender", f"{type(message).__name__} from {sender.hex()}"))
            return
        self.heard(sender, now)
        match message:
            case Ping(number):
                self._effects.append(Send(sender, Ack(number, self._news(sender))))
            case Ack(number):
                self._acked(sender, number, now)
            case PingReq(number, target):
                self._asked(sender, number, target, now)
            case Nack(number):
                self._nacked(sender, number, now)
            case PushPull(_, reply):
                self._synced(sender, reply, now)

    def heard(self, sender: NodeId, now: Millis) -> None:
        """Some word of a member's; also as an event, `Heard`."""
        if sender in self.members:
            self._prober.heard(sender, now)

    def _acked(self, sender: NodeId, number: int, now: Millis) -> None:
        probe = self._prober.probes.get(number)
        relay = self._prober.relays.get(number)
        if probe is not None and sender in (probe.target, *probe.helpers):
            self._prober.succeeded(probe)
        elif relay is not None and sender == relay.target:
            del self._prober.relays[number]
            self._effects.append(Send(relay.requester, Ack(relay.number, self._news(relay.requester))))
        elif self._suspicions.target(number) is not None:  # a late answer, from the target or by a helper
            self._suspicions.answered(number, self._size(), now)

    def _asked(self, sender: NodeId, number: int, target: NodeId, now: Millis) -> None:
        if target == self._me:
            self._effects.append(Send(sender, Ack(number, self._news(sender))))
        elif target in self.members:
            own = self._prober.relay(target, sender, number, now)
            if own is None:
                self._effects.append(Rejected("too-many-relays", f"PingReq from {self.members[sender].name!r}"))
            else:
                self._ping(target, own)

    def _nacked(self, sender: NodeId, number: int, now: Millis) -> None:
        probe = self._prober.probes.get(number)
        target = self._suspicions.target(number)
        if probe is not None and sender in probe.helpers:
            probe.nacks[sender] = None
        elif target is not None and sender != target and self.members[sender].status == ALIVE:
            self._suspicions.confirm(number, sender, self._size(), now)

    def _synced(self, sender: NodeId, reply: bool, now: Millis) -> None:
        last = self._synced_at.get(sender)
        if reply and (last is None or now - last >= self._tuning.gossip_every):  # a flood gets no megabytes back
            self._synced_at[sender] = now
            self._effects.append(Send(sender, PushPull(tuple(self.members.values()), False)))

    def _hear(self, sender: NodeId, claims: Iterable[Member], most: int, now: Millis) -> None:
        before = self.me.incarnation
        self._beliefs.hear(sender, list(claims), most, now)
        if self.me.incarnation > before:
            self._tell(self._pick_others(self._tuning.fanout))  # refuted: no time to lose

    def _take(self, claim: Member, now: Millis) -> None:
        self._beliefs.take(claim, self._me, now)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _lagged(self, by: Millis) -> None:
        self._prober.shift(by)
        self._suspicions.shift(by)
        if by >= self._tuning.timeout:
            self._prober.adjust(+1)

    def _woke(self, now: Millis) -> None:
        late = now - (self.next_deadline() or now)
        if late >= self._tuning.timeout // 2:
            self._lagged(late)
        for probe in self._prober.due(now):
            self._advance(probe, now)
        for relay in self._prober.give_up(now):
            self._effects.append(Send(relay.requester, Nack(relay.number)))
        for suspicion in self._suspicions.due(now):
            self._press(suspicion, now)
        if now >= self._next_probe:
            self._probe(now)
        if now >= self._next_sync:
            self._sync(now)
        if now >= self._next_reconnect:
            self._reconnect(now)
        if self._rumours and now >= self._next_gossip:
            self._next_gossip = now + self._tuning.gossip_every
            self._tell(self._pick_others(self._tuning.fanout))

    def _probe(self, now: Millis) -> None:
        self._next_probe = now + self._tuning.period * (1 + self._prober.awareness)
        if self.me.status == LEFT:
            return
        targets = {each.node: None for each in self._roster.others() if not self._suspicions.accused(each.node)}
        target = self._prober.choose(targets, now)
        if target is not None:
            self._ping(target, self._prober.start(target, now).number)
        elif not targets:
            self._prober.adjust(-1)  # nobody to do well or badly with

    def _advance(self, probe: Probe, now: Millis) -> None:
        """A probe has got no answer yet: try other ways, then suspect."""
        if probe.fail_at <= now:
            self._prober.failed(probe)
            self._accuse(probe, now)
        else:
            probe.asked = True
            probe.helpers = self._ask_helpers(probe.target, probe.number)
            self._ping(probe.target, probe.number)

    def _accuse(self, probe: Probe, now: Millis) -> None:
        target = self.members.get(probe.target)
        if target is None or target.status >= DEAD or self._suspicions.accused(probe.target):
            return
        if target.status == ALIVE:
            self._take(replace(target, status=SUSPECT), now)
        self._suspicions.accuse(probe.target, probe.number, [self._me, *probe.nacks], self._size(), now)

    def _press(self, suspicion: Suspicion, now: Millis) -> None:
        """An accuser's duty: the verdict when time is up, else let the target refute, else find witnesses."""
        if suspicion.deadline <= now:
            self._take(replace(self.members[suspicion.node], status=DEAD), now)
            return
        if suspicion.next_urge <= now:
            suspicion.next_urge = now + self._tuning.urge
            self._ping(suspicion.node, suspicion.number)
        if suspicion.next_ask <= now:
            suspicion.next_ask = now + self._tuning.period
            self._ask_helpers(suspicion.node, suspicion.number)

    def _sync(self, now: Millis) -> None:
        self._next_sync = now + self._tuning.sync
        self._roster.forget(now - self._tuning.forget_after)
        self._prober.keep_only(self.members)
        self._synced_at = {node: at for node, at in self._synced_at.items() if node in self.members}
        self._push_pull(self._roster.others())

    def _reconnect(self, now: Millis) -> None:
        self._next_reconnect = now + self._tuning.reconnect
        self._push_pull(self._roster.lost())

    def _push_pull(self, members: list[Member]) -> None:
        if members and self.me.status != LEFT:
            target = self._random.choice(members)
            self._effects.append(Send(target.node, PushPull(tuple(self.members.values()), True)))

    # -- joining and leaving ------------------------------------------------------------------------------------------

    def _admitted(self, event: Admitted, now: Millis) -> None:
        known = self.knows(event.member.node, now)
        self._hear(event.member.node, [event.member], MAX_GOSSIP, now)
        member = self.members.get(event.member.node)
        if member is None or member.node == self._me:
            return
        if not known:
            self._replace(member, now)
        if member.status > SUSPECT:
            self._push_pull([member])  # it does not know that it was declared dead
        self._hear(member.node, [self._roster.soften(each) for each in event.members], MAX_MEMBERS, now)

    def _missed(self, members: Iterable[Member], now: Millis) -> None:
        """They are suspected until they are heard of, also where this node believes in another process: nobody here
        knows which of the two is the later one."""
        for member in members:
            if member.node not in self.members and self._roster.refusal(member) is None:
                self._take(member, now)

    def _replace(self, newcomer: Member, now: Millis) -> None:
        """A process that starts again at its old address ends the one before (A7)."""
        for old in self._roster.others():
            same_place = (old.name, old.endpoint) == (newcomer.name, newcomer.endpoint)
            if same_place and old.node != newcomer.node:
                self._take(replace(old, status=DEAD), now)

    def _start_leaving(self, phase: int, now: Millis) -> None:
        """It goes through the phases in order, and says so at once."""
        if self.me.leaving == phase - 1 and self.me.status != LEFT:
            self._beliefs.start_leaving(phase, now)
            self._tell(self._pick_others(FAREWELLS))

    def _leave(self, now: Millis) -> None:
        if self.me.status != LEFT:
            self._beliefs.leave(now)
            self._tell(self._pick_others(FAREWELLS))

    # -- sending ------------------------------------------------------------------------------------------------------

    def _ping(self, target: NodeId, number: int) -> None:
        self._effects.append(Send(target, Ping(number, self._news(target))))

    def _ask_helpers(self, target: NodeId, number: int) -> tuple[NodeId, ...]:
        able = [each.node for each in self._roster.others() if each.status == ALIVE and each.node != target]
        helpers = tuple(self._random.sample(able, min(self._tuning.helpers, len(able))))
        self._effects += [Send(each, PingReq(number, target, self._news(each))) for each in helpers]
        return helpers

    def _tell(self, nodes: list[NodeId]) -> None:
        others = self._roster.others()
        if not others:
            self._rumours.clear()
        elif len(others) == 1:
            self._rumours.drop(others[0].node)  # it knows of itself, and nobody else is there
        self._effects += [Send(node, Gossip(self._news(node))) for node in nodes]

    def _pick_others(self, count: int) -> list[NodeId]:
        others = [each.node for each in self._roster.others()]
        return self._random.sample(others, min(count, len(others)))

    def _news(self, to: NodeId) -> tuple[Member, ...]:
        """The gossip of a message: the own record, what its receiver should know of itself, the freshest news."""
        receiver = self.members.get(to)  # None: buried a moment ago
        records = [self.me] if receiver is None or receiver.status == ALIVE else [self.me, receiver]
        limit = times_to_tell(self._tuning.spread, self._size())
        picked = self._rumours.pick(self._tuning.records - len(records), limit, (self._me, to))
        self._rumours.told(self._me, limit)  # it goes along anyway
        return (*records, *(self.members[node] for node in picked if node in self.members))

    def _size(self) -> int:
        return len(self._roster.others()) + 1
