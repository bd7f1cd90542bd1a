"""Membership against whatever a peer may say, in any order: no error, the deadline moves, the own record stays."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.core.events import Effect, Received, Send, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.facts import Admitted, Heard, Lagged, Leave
from mesh.core.membership.merge import newer
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import LAN, LOOPBACK, WAN
from mesh.core.messages import Message, NodeId
from mesh.core.messages.members import ALIVE, LEFT, Ack, Gossip, Member, Nack, Ping, PingReq, PushPull
from tests.membership_kit import member

ME = member("me")
PEERS = [member(name) for name in ("alpha", "beta", "gamma", "delta")]
nodes = st.sampled_from([each.node for each in PEERS] + [ME.node, b"stranger........", b"short", b""])
texts = st.sampled_from(["me", "alpha", "", "x" * 100, "\x00"])
members = st.builds(
    Member,
    nodes,
    texts,
    st.sampled_from([ME.endpoint, PEERS[0].endpoint, "tcp://other:1", "nonsense"]),
    st.sampled_from(["", "a:80"]),
    st.sampled_from(["worker", "witness", "boss"]),
    texts,
    st.integers(0, 5) | st.integers(0, 2**63 - 1),
    st.integers(0, 5),
)
honest = st.builds(
    lambda peer, incarnation, status: replace(peer, incarnation=incarnation, status=status),
    st.sampled_from([*PEERS, ME]),
    st.integers(0, 9),
    st.integers(0, 3),
)
gossip = st.lists(honest | members, max_size=6).map(tuple)
numbers = st.integers(0, 30) | st.integers(0, 2**63 - 1)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, numbers, gossip),
    st.builds(Ack, numbers, gossip),
    st.builds(PingReq, numbers, nodes, gossip),
    st.builds(Nack, numbers),
    st.builds(PushPull, gossip, st.booleans()),
    st.builds(Gossip, gossip),
)


class AnyPeers(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 999), tuning=st.sampled_from([LOOPBACK, LAN, WAN]))
    def start(self, seed: int, tuning: object) -> None:
        self.machine = Membership(ME, tuning, Random(seed))  # type: ignore[arg-type]
        self.now = 5_000
        self.left = False
        self.best: dict[NodeId, Member] = {}

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.to != ME.node
            if isinstance(effect, MemberChanged):
                node = effect.member.node
                before = self.best.get(node)
                if before is not None:
                    assert newer(before, effect.member) == effect.member, "a belief went back"
                self.best[node] = effect.member

    @rule(sender=nodes, message=messages)
    def received(self, sender: NodeId, message: Message) -> None:
        self.perform(self.machine.handle(Received(sender, message), self.now))

    @rule(peer=st.sampled_from(PEERS), others=gossip)
    def admitted(self, peer: Member, others: tuple[Member, ...]) -> None:
        self.perform(self.machine.handle(Admitted(peer, others, peer.endpoint), self.now))

    @rule(sender=nodes)
    def heard(self, sender: NodeId) -> None:
        self.perform(self.machine.handle(Heard(sender), self.now))

    @rule(by=st.integers(0, 5_000))
    def lagged(self, by: int) -> None:
        self.perform(self.machine.handle(Lagged(by), self.now))

    @rule(by=st.integers(0, 500))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule(late=st.sampled_from([0, 0, 0, 1, 90, 3_000]), times=st.integers(1, 10))
    def wakes(self, late: int, times: int) -> None:
        for _ in range(times):
            deadline = self.machine.next_deadline()
            assert deadline is not None
            self.now = max(self.now, deadline + late)
            self.perform(self.machine.handle(Woke(), self.now))
            after = self.machine.next_deadline()
            assert after is not None
            assert after > self.now

    @precondition(lambda self: not self.left)
    @rule()
    def leaves_seldom(self) -> None:
        if self.now % 7 == 0:
            self.left = True
            self.perform(self.machine.handle(Leave(), self.now))

    @invariant()
    def the_own_record_stays(self) -> None:
        me = self.machine.me
        assert me.status == (LEFT if self.left else ALIVE)
        assert replace(me, incarnation=0, status=ALIVE) == ME

    @invariant()
    def alive_is_sorted_and_true(self) -> None:
        alive = self.machine.alive()
        assert [each.name for each in alive] == sorted(each.name for each in alive)
        assert all(each.status == ALIVE for each in alive)


AnyPeers.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyPeers = AnyPeers.TestCase
