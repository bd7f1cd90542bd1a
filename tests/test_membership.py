"""Membership on a seeded network: meeting, crashes, loss, pauses, cuts, splits; and single machines on bad input."""

from __future__ import annotations

import statistics
from dataclasses import replace
from random import Random

import pytest

from mesh.core.events import Effect, Received, Rejected, Send, Woke
from mesh.core.events.planes import HandedOver, MemberChanged, StartLeaving
from mesh.core.membership.facts import Admitted, Heard, Lagged, Leave
from mesh.core.membership.merge import MAX_JUMP
from mesh.core.membership.suspicion import suspicion_time
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import LAN, LOOPBACK, WAN, Tuning
from mesh.core.messages import NodeId
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
    Ping,
    PingReq,
    PushPull,
)
from tests.membership_kit import Network, Node, deaths, member

PRESETS = pytest.mark.parametrize("tuning", [LOOPBACK, LAN, WAN], ids=["loopback", "lan", "wan"])
SIZES = pytest.mark.parametrize("size", [2, 3, 4, 7])


def cluster(network: Network, size: int) -> list[Node]:
    """All know the address of the first only."""
    names = [f"n{number}" for number in range(size)]
    nodes = [network.start(member(name), ("n0",)) for name in names]
    network.run_until(network.converged, within=30_000)
    return nodes


# -- on a network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 10))
def test_all_meet_through_one_address(size: int) -> None:
    network = Network(seed=size)
    cluster(network, size)
    network.run(20_000)
    assert network.converged()
    assert deaths(network) == []


@PRESETS
@SIZES
def test_a_crash_is_seen_by_all_and_nobody_else_dies(size: int, tuning: Tuning) -> None:
    network = Network(seed=size, tuning=tuning)
    nodes = cluster(network, size)
    network.run(5_000)
    network.crash(nodes[-1])
    longest = 4 * tuning.verdict + suspicion_time(tuning, size, accusers=1)
    network.run_until(lambda: all(node.status(nodes[-1]) == DEAD for node in nodes[:-1]), within=longest)
    assert {dead for _, dead in deaths(network)} == {nodes[-1].me.name}


@pytest.mark.parametrize(("tuning", "usual"), [(LOOPBACK, 1_300), (LAN, 1_500), (WAN, 5_500)])
def test_half_of_all_crashes_are_seen_within_the_promised_time(tuning: Tuning, usual: int) -> None:
    times = []
    for seed in range(15):
        network = Network(seed, tuning)
        nodes = cluster(network, 5)
        network.run(3_000 + 97 * seed)
        network.crash(nodes[-1])
        times.append(network.run_until(lambda net=network: deaths(net), within=30_000))
    assert statistics.median(times) <= usual


@PRESETS
@SIZES
def test_a_pause_of_a_second_kills_nobody(size: int, tuning: Tuning) -> None:
    for seed in range(8):
        network = Network(seed, tuning)
        nodes = cluster(network, size)
        network.run(4_000 + 61 * seed)
        nodes[-1].paused_until = network.now + 1_000
        network.run(4 * tuning.verdict + tuning.suspicion)
        assert deaths(network) == []
        assert network.converged()
        if tuning is not WAN:  # there a second is not even suspicious
            assert nodes[-1].logged("member.refuting")


def test_a_node_that_slept_for_a_minute_does_not_declare_the_others_dead() -> None:
    network = Network(seed=4)
    nodes = cluster(network, 4)
    nodes[0].paused_until = network.now + 60_000
    network.run(60_000)
    network.run_until(network.converged, within=15_000)
    assert {dead for _, dead in deaths(network)} == {nodes[0].me.name}  # the others were right, it came back
    assert nodes[0].membership.me.incarnation > 0


@pytest.mark.parametrize("size", [2, 5])
def test_loss_and_delay_kill_nobody_in_ten_minutes(size: int) -> None:
    network = Network(seed=size, loss=0.1, delay=(20, 80))
    cluster(network, size)
    network.run(600_000)
    assert deaths(network) == []
    assert all(node.membership.me.incarnation < 200 for node in network.all)


@pytest.mark.parametrize("size", [3, 4, 6])
def test_a_link_cut_in_one_direction_kills_nobody_while_helpers_reach(size: int) -> None:
    network = Network(seed=size)
    cluster(network, size)
    network.cuts["n0", "n1"] = None
    network.run(60_000)
    assert deaths(network) == []


@pytest.mark.parametrize("size", [3, 4, 6])
def test_a_node_that_can_send_but_not_receive_is_dead_and_kills_nobody_for_long(size: int) -> None:
    network = Network(seed=size)
    nodes = cluster(network, size)
    deaf, others = nodes[0], nodes[1:]
    for each in others:
        network.cuts[each.me.name, deaf.me.name] = None
    network.run(30_000)
    names = [each.me.name for each in others]
    assert all(each.status(deaf) == DEAD for each in others)
    assert all(each.alive() == names for each in others)
    quiet = len(deaths(network))
    network.run(60_000)
    assert len(deaths(network)) == quiet, "they must not die and refute for ever"


@pytest.mark.parametrize(("one", "other"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_a_healed_split_becomes_one_cluster_again(one: int, other: int) -> None:
    network = Network(seed=one + other)
    nodes = cluster(network, one + other)
    network.split(nodes[:one], nodes[one:])
    network.run(60_000)
    assert all(a.status(b) == DEAD for a in nodes[:one] for b in nodes[one:])
    network.cuts.clear()
    network.run_until(network.converged, within=60_000)
    network.run(30_000)
    assert network.converged()


def test_who_leaves_is_left_for_good_and_nobody_suspects_it() -> None:
    network = Network(seed=1)
    nodes = cluster(network, 4)
    for effect in nodes[0].membership.handle(Leave(), network.now):
        if isinstance(effect, Send):
            network._post(nodes[0], nodes[0].membership.members[effect.to].endpoint, effect.to, effect.message)
    network.crash(nodes[0])
    network.run(200)
    assert all(node.status(nodes[0]) == LEFT for node in nodes[1:])
    network.run(20_000)
    assert deaths(network) == []


def test_a_process_that_starts_again_replaces_the_one_before() -> None:
    network = Network(seed=2)
    nodes = cluster(network, 4)
    network.crash(nodes[1])
    again = network.start(member("n1", number=1), ("n0",))
    took = network.run_until(
        lambda: all(each.status(nodes[1]) == DEAD and each.status(again) == ALIVE for each in network.living()), 5_000
    )
    assert took < LAN.suspicion, "nobody had to wait for the detector"


# -- one machine ------------------------------------------------------------------------------------------------------


def machine(*others: Member) -> Membership:
    membership = Membership(member("me"), LAN, Random(1))
    for other in others:
        membership.handle(Admitted(other, (), other.endpoint), now=0)
    return membership


def changes(effects: list[Effect]) -> list[MemberChanged]:
    return [each for each in effects if isinstance(each, MemberChanged)]


def reasons(effects: list[Effect]) -> list[str]:
    return [each.reason for each in effects if isinstance(each, Rejected)]


A, B, C, D = (member(name) for name in "abcd")


def test_the_dead_do_not_rise_at_their_incarnation_and_do_at_a_higher() -> None:
    membership = machine(A, B)
    membership.handle(Received(A.node, Gossip((replace(B, incarnation=3, status=DEAD),))), now=1)
    for stale in (2, 3):
        effects = membership.handle(Received(A.node, Gossip((replace(B, incarnation=stale),))), now=2)
        assert changes(effects) == []
    effects = membership.handle(Received(A.node, Gossip((replace(B, incarnation=4),))), now=3)
    assert changes(effects) == [MemberChanged(replace(B, incarnation=4), DEAD)]


def test_a_leap_of_incarnation_is_refused_and_counted_once_a_message() -> None:
    membership = machine(A, B)
    absurd = (replace(B, incarnation=MAX_JUMP + 1), replace(C, incarnation=2**63 - 1), replace(D, endpoint="what?"))
    before = dict(membership.members)
    effects = membership.handle(Received(A.node, Gossip(absurd)), now=1)
    assert reasons(effects) == ["incarnation-leap", "implausible-member"]
    assert membership.members == before


def test_only_so_much_gossip_is_taken_from_one_message() -> None:
    membership = machine(A)
    flood = tuple(member(f"x{number}") for number in range(1_000))
    effects = membership.handle(Received(A.node, Gossip(flood)), now=1)
    assert reasons(effects) == ["gossip-too-long"]
    assert len(membership.members) < 100


def test_gossip_of_a_stranger_and_of_the_dead_is_not_taken() -> None:
    membership = machine(A, B)
    effects = membership.handle(Received(C.node, Gossip((replace(B, status=DEAD),))), now=1)
    assert reasons(effects) == ["unknown-sender"]
    membership.handle(Received(B.node, Gossip((replace(A, status=DEAD),))), now=1)
    membership.handle(Received(A.node, Gossip((replace(B, status=DEAD),))), now=1)
    assert membership.members[A.node].status == DEAD
    assert membership.members[B.node].status == ALIVE


def test_a_ping_of_a_stranger_that_names_itself_is_answered() -> None:
    membership = machine()
    effects = membership.handle(Received(A.node, Ping(7, (A,))), now=1)
    assert [each.to for each in effects if isinstance(each, Send)] == [A.node]
    assert membership.alive()[0] == A


@pytest.mark.parametrize("lie", [{"status": SUSPECT}, {"status": DEAD, "incarnation": 5}, {"name": "you"}])
def test_a_lie_about_this_node_is_refuted_at_once(lie: dict[str, object]) -> None:
    membership = machine(A)
    claim = replace(membership.me, **lie)  # type: ignore[arg-type]
    effects = membership.handle(Received(A.node, Gossip((claim,))), now=1)
    assert membership.me == replace(member("me"), incarnation=claim.incarnation + 1)
    told = [each.message for each in effects if isinstance(each, Send)]
    assert any(isinstance(each, Gossip) and each.gossip[0] == membership.me for each in told)


def test_nobody_else_can_say_that_this_node_left() -> None:
    membership = machine(A)
    effects = membership.handle(Received(A.node, Gossip((replace(membership.me, status=LEFT, incarnation=9),))), now=1)
    assert reasons(effects) == ["not-left"]
    assert membership.me == member("me")


def test_one_believed_dead_is_told_so_when_it_pings() -> None:
    membership = machine(A, B)
    dead = replace(B, status=DEAD)
    membership.handle(Received(A.node, Gossip((dead,))), now=1)
    (answer,) = [each for each in membership.handle(Received(B.node, Ping(1, (B,))), now=2) if isinstance(each, Send)]
    assert isinstance(answer.message, Ack)
    assert dead in answer.message.gossip


def test_a_death_in_a_table_is_only_a_suspicion() -> None:
    membership = machine(A, B)
    membership.handle(Received(A.node, PushPull((replace(B, status=DEAD), replace(C, status=DEAD)), False)), now=1)
    assert membership.members[B.node].status == SUSPECT
    assert membership.members[C.node].status == DEAD  # never known alive


def test_a_flood_of_push_pulls_is_not_answered_with_a_flood_of_tables() -> None:
    membership = machine(A)
    effects = [each for _ in range(50) for each in membership.handle(Received(A.node, PushPull((A,), True)), now=1)]
    assert len([each for each in effects if isinstance(each, Send)]) == 1


def test_a_flood_of_probe_requests_is_bounded() -> None:
    membership = machine(A, B)
    effects = [
        each
        for number in range(3_000)
        for each in membership.handle(Received(A.node, PingReq(number, B.node, ())), now=1)
    ]
    assert len([each for each in effects if isinstance(each, Send)]) == 1_024
    assert set(reasons(effects)) == {"too-many-relays"}


def woken(membership: Membership, until: int, answered: tuple[NodeId, ...] = ()) -> list[tuple[int, Effect]]:
    """Wake at every deadline; these targets answer their Pings at once."""
    seen: list[tuple[int, Effect]] = []
    while (deadline := membership.next_deadline() or 0) <= until:
        for effect in membership.handle(Woke(), deadline):
            seen.append((deadline, effect))
            if isinstance(effect, Send) and isinstance(effect.message, Ping) and effect.to in answered:
                known = membership.members[effect.to]
                answer = Received(effect.to, Ack(effect.message.number, (replace(known, status=ALIVE),)))
                seen += [(deadline, each) for each in membership.handle(answer, deadline)]
    return seen


def pinged(seen: list[tuple[int, Effect]], node: NodeId) -> int:
    return sum(isinstance(each, Send) and isinstance(each.message, Ping) and each.to == node for _, each in seen)


def test_traffic_saves_probes_but_not_all_of_them() -> None:
    counts = []
    for busy in (False, True):
        membership = machine(A)
        seen: list[tuple[int, Effect]] = []
        for now in range(0, 10_000, 20):
            if busy:
                membership.handle(Heard(A.node), now)
            seen += woken(membership, now, answered=(A.node,))
        counts.append(pinged(seen, A.node))
    assert 0 < counts[1] < counts[0] / 3


@pytest.mark.parametrize("lag", ["none", "told by the driver", "noticed by a late wake-up"])
def test_own_lag_is_not_held_against_others(lag: str) -> None:
    """The same silence of A, once watched all the time, twice slept through."""
    membership = machine(A)
    woken(membership, LAN.period + LAN.verdict + 1)
    assert membership.members[A.node].status == SUSPECT
    late = LAN.period + LAN.verdict + LAN.suspicion + 50
    if lag == "none":
        woken(membership, late)
    elif lag == "told by the driver":
        membership.handle(Lagged(late), late)
    membership.handle(Woke(), late)
    assert membership.members[A.node].status == (DEAD if lag == "none" else SUSPECT)


def suspected_at(membership: Membership, node: NodeId) -> int:
    seen: list[tuple[int, Effect]] = []
    while membership.members[node].status != SUSPECT:
        seen += woken(membership, membership.next_deadline() or 0)
    return seen[-1][0]


def test_an_accuser_keeps_asking_the_suspect_and_tells_it_so() -> None:
    membership = machine(A)
    start = suspected_at(membership, A.node)
    seen = woken(membership, start + LAN.suspicion - 1)
    pings = [each.message for _, each in seen if isinstance(each, Send) and isinstance(each.message, Ping)]
    assert len(pings) >= LAN.suspicion // LAN.urge - 1
    assert all(replace(A, status=SUSPECT) in each.gossip for each in pings)


def test_a_late_answer_gives_the_suspect_its_time_again() -> None:
    membership = machine(A)
    start = suspected_at(membership, A.node)
    seen = woken(membership, start + LAN.suspicion - 100)
    number = next(e.message.number for _, e in seen if isinstance(e, Send) and isinstance(e.message, Ping))
    membership.handle(Received(A.node, Ack(number, (A,))), start + LAN.suspicion - 100)
    woken(membership, start + 2 * LAN.suspicion - 200)
    assert membership.members[A.node].status == SUSPECT
    woken(membership, start + 2 * LAN.suspicion)
    assert membership.members[A.node].status == DEAD


def tables_sent(seen: list[tuple[int, Effect]]) -> list[NodeId]:
    return [each.to for _, each in seen if isinstance(each, Send) and isinstance(each.message, PushPull)]


def test_whole_tables_are_exchanged_now_and_then() -> None:
    membership = machine(A)
    assert len(tables_sent(woken(membership, 10 * LAN.sync, answered=(A.node,)))) in (9, 10)


def test_the_dead_are_asked_now_and_then_unless_they_left_or_were_replaced() -> None:
    new_d = replace(member("d", number=1), incarnation=1)
    membership = machine(B, C, D)
    gone = (replace(B, status=DEAD), replace(C, status=LEFT), replace(D, status=DEAD), new_d)
    membership.handle(Received(D.node, Gossip((new_d,))), now=0)
    membership.handle(Received(new_d.node, Gossip(gone)), now=0)
    seen = woken(membership, 10 * LAN.reconnect, answered=(new_d.node,))
    assert tables_sent(seen).count(B.node) in (9, 10)
    assert C.node not in tables_sent(seen)
    assert D.node not in tables_sent(seen)


def test_who_is_admitted_at_the_place_of_another_ends_it() -> None:
    membership = machine(A, B)
    again = member("a", number=1)
    membership.handle(Admitted(again, (), again.endpoint), now=1)
    assert membership.members[A.node].status == DEAD
    membership.handle(Admitted(A, (), A.endpoint), now=2)  # a late Hello of the old process
    assert [each.node for each in membership.alive()] == [again.node, B.node, membership.me.node]


def test_a_node_knows_that_who_was_at_its_own_place_is_gone() -> None:
    membership = machine(A)
    membership.handle(Received(A.node, PushPull((member("me", number=7),), False)), now=1)
    assert membership.members[member("me", number=7).node].status == DEAD


def test_one_admitted_that_was_declared_dead_is_told_so() -> None:
    membership = machine(A, B)
    membership.handle(Received(A.node, Gossip((replace(B, status=DEAD),))), now=1)
    (told,) = [each for each in membership.handle(Admitted(B, (), B.endpoint), now=2) if isinstance(each, Send)]
    assert told.to == B.node
    assert isinstance(told.message, PushPull)
    assert replace(B, status=DEAD) in told.message.members


def test_alone_among_four_an_accuser_needs_the_longest_time_and_two_need_less() -> None:
    times = [suspicion_time(LAN, members=4, accusers=count) for count in (1, 2, 3)]
    assert times == sorted(times, reverse=True)
    assert times[0] == LAN.suspicion * LAN.stretch
    assert times[0] > times[1] > times[2] == LAN.suspicion
    assert suspicion_time(LAN, members=3, accusers=1) == suspicion_time(LAN, members=2, accusers=1) == LAN.suspicion
    assert suspicion_time(LAN, members=1_000, accusers=4) == 3 * LAN.suspicion


def test_who_only_heard_of_a_suspicion_never_declares_it() -> None:
    membership = machine(A, B)
    membership.handle(Received(A.node, Gossip((replace(B, status=SUSPECT),))), now=0)
    seen = woken(membership, 60_000, answered=(A.node, B.node))
    assert not [each for _, each in seen if isinstance(each, MemberChanged) and each.member.status == DEAD]


def test_news_is_told_a_bounded_number_of_times() -> None:
    membership = machine(A, B)
    membership.handle(Received(A.node, Gossip((replace(C, status=DEAD),))), now=0)
    seen = woken(membership, 30_000, answered=(A.node, B.node))
    told = [
        each
        for _, each in seen
        if isinstance(each, Send) and isinstance(each.message, Ping | Gossip | Ack)
        if any(record.node == C.node for record in each.message.gossip)
    ]
    assert len(told) == LAN.spread


@pytest.mark.parametrize("others", [(B,), (B, C)], ids=["two", "three"])
def test_nodes_that_have_told_their_news_say_no_more(others: tuple[Member, ...]) -> None:
    membership = machine(*others)
    membership.handle(Received(B.node, Gossip((B, replace(membership.me, status=SUSPECT)))), now=0)
    assert membership.me.incarnation == 1, "its own refutation is news, too"
    seen = woken(membership, 30_000, answered=tuple(each.node for each in others))
    gossip = [at for at, each in seen if isinstance(each, Send) and isinstance(each.message, Gossip)]
    assert max(gossip) < 2_000


def test_the_same_seed_does_the_same() -> None:
    logs = []
    for _ in range(2):
        network = Network(seed=9, loss=0.1, delay=(1, 50))
        cluster(network, 4)
        network.run(5_000)
        logs.append((network.sent, [node.effects for node in network.all]))
    assert logs[0] == logs[1]


def test_a_leaving_node_says_so_phase_by_phase_and_still_when_it_refutes() -> None:
    membership = machine(member("b"))
    assert membership.handle(HandedOver(), 1) == []  # it is not leaving
    for event, phase in ((StartLeaving(), LEAVING), (StartLeaving(), LEAVING), (HandedOver(), READY)):
        told = [each.message.gossip[0] for each in membership.handle(event, 1)
                if isinstance(each, Send) and isinstance(each.message, Gossip)]  # fmt: skip
        assert {each.leaving for each in told} <= {phase}
        assert membership.me.leaving == phase
    assert membership.me.incarnation == 2
    lie = replace(membership.me, status=SUSPECT)
    membership.handle(Received(member("b").node, Gossip((member("b"), lie))), 2)
    assert (membership.me.leaving, membership.me.incarnation, membership.me.status) == (READY, 3, ALIVE)


def test_others_hear_that_a_node_is_leaving_and_only_from_the_node_itself() -> None:
    membership = machine(member("b"))
    for claim in (replace(member("b"), leaving=LEAVING), replace(member("b"), leaving=READY, incarnation=7)):
        membership.handle(Received(member("b").node, Gossip((claim,))), 1)
        assert membership.members[member("b").node].leaving == claim.leaving
    (reason,) = reasons(membership.handle(Received(member("b").node, Gossip((replace(claim, leaving=3),))), 1))
    assert reason == "implausible-member"
