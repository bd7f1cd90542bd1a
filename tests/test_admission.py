"""Who meets whom, and who yields: on the seeded network, and against one machine."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest

from mesh.core.events import Approach, Effect, Log, Received, Rejected, Stop, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.admission import (
    LONGEST_PAUSE,
    MAX_HELLOS,
    MAX_HELLOS_EACH,
    MAX_RIVALS,
    NAME_PATIENCE,
    Admission,
    standing,
)
from mesh.core.membership.facts import Admitted
from mesh.core.messages.members import ALIVE, DEAD, Hello, Introduction, Member, Refused, Welcome
from tests.membership_kit import Network, Node, deaths, introduction, member

FIELDS = pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [("cluster", "worlds", "words"), ("slots", 512, 1024), ("seed", 7, 0), ("graph", "0ther", "f1ng3r")],
)


def stops(network: Network) -> list[tuple[str, Stop]]:
    return [(node.me.name, each) for node in network.all for each in node.stopped]


def trio(network: Network) -> list[Node]:
    names = ("a", "b", "c")
    return [network.start(member(name), names) for name in names]


# -- on a network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_nodes_meet_in_any_order_seconds_apart_through_loss(seed: int) -> None:
    network = Network(seed, loss=0.2, delay=(1, 60))
    names = ["a", "b", "c", "d", "e"]
    hub = network.random.choice(names)
    network.random.shuffle(names)
    for name in names:
        network.start(member(name), (hub, "nobody"))
        network.run(network.random.randrange(8_000))
    network.run_until(network.converged, within=30_000)


def test_two_foundings_of_one_name_tell_each_other_loudly_and_neither_yields() -> None:
    network = Network(seed=3)
    one = network.start(member("a"), ("b",), formed=True, founding=b"1" * 16)
    other = network.start(member("b"), ("a",), formed=True, founding=b"2" * 16)
    network.run(10_000)
    for node in (one, other):
        told = [each for _, each in node.effects if isinstance(each, Log) and each.level == "error"]
        assert {each.event for each in told} == {"admission.refused", "admission.ignored"}
        assert {each.fields["field"] for each in told} == {"founding"}
        assert node.alive() == [node.me.name]
    assert stops(network) == []


def test_who_belongs_to_no_founding_yet_fits_one_that_does() -> None:
    network = Network(seed=3)
    network.start(member("a"), ("b",), formed=True, founding=b"1" * 16)
    network.start(member("b"), ("a",))
    network.run_until(network.converged, within=10_000)


def test_a_chain_of_addresses_is_enough() -> None:
    network = Network(seed=1)
    for number in range(6):
        network.start(member(f"n{number}"), (f"n{number - 1}",) if number else ())
    network.run_until(network.converged, within=10_000)


def test_the_first_knows_nobody_and_is_found_by_one_that_comes_later() -> None:
    network = Network(seed=1)
    network.start(member("a"))
    network.run(60_000)
    network.start(member("b"), ("a",))
    network.run_until(network.converged, within=1_000)


def test_a_node_may_be_in_its_own_list_under_another_address() -> None:
    network = Network(seed=1)
    a = network.start(member("a"), ("alias", "b"))
    network.at["tcp://alias:7400"] = a
    network.start(member("b"))
    network.run_until(network.converged, within=2_000)
    network.run(30_000)
    assert stops(network) == []
    assert a.admission.next_deadline() is None, "nobody is left to approach"


def test_hellos_end_when_all_have_met() -> None:
    network = Network(seed=3)
    nodes = trio(network)
    network.run_until(network.converged, within=5_000)
    network.run(10_000)
    assert [each.admission.next_deadline() for each in nodes] == [None] * 3


@FIELDS
@pytest.mark.parametrize("late", [0, 5_000])
def test_the_one_that_does_not_fit_stops_with_both_values_and_the_others_go_on(
    field: str, wrong: object, right: object, late: int
) -> None:
    network = Network(seed=5)
    trio(network)
    network.run(late)
    network.start(member("odd"), ("a", "b", "c"), **{field: wrong})
    network.run(20_000)
    ((name, stop),) = stops(network)
    assert name == "odd"
    assert stop.exit_code == 2
    for part in (field, str(wrong), str(right), "odd", "tcp://odd:7400"):
        assert part in stop.sentence
    assert any(f"{each!r} at tcp://{each}:7400" in stop.sentence for each in "abc")
    assert network.converged()
    assert len(network.living()) == 3


@pytest.mark.parametrize("seed", range(10))
def test_the_odd_one_yields_even_when_it_started_first(seed: int) -> None:
    network = Network(seed, loss=0.1, delay=(1, 50))
    network.start(member("odd"), ("a", "b", "c"), slots=512)
    network.run(800)
    trio(network)
    network.run(30_000)
    assert [name for name, _ in stops(network)] == ["odd"]


def test_it_yields_to_nodes_that_do_not_list_it_and_that_it_does_not_list() -> None:
    """Only one side knows the other's address; the lower one is asked."""
    network = Network(seed=6)
    network.start(member("odd"), slots=512)
    network.run(1_000)
    for name in ("a", "b"):
        network.start(member(name), ("a", "b", "odd"))
    network.run(20_000)
    assert [name for name, _ in stops(network)] == ["odd"]


def test_one_that_is_formed_never_yields() -> None:
    network = Network(seed=7)
    lonely = network.start(member("old"), ("a",), slots=512, formed=True)
    network.run(3_000)
    trio(network)
    network.run(60_000)
    assert lonely.stopped == []
    assert stops(network)[0][0] == "a", "a is refused by one that stands higher"
    log = [each for _, each in lonely.effects if isinstance(each, Log) and each.event == "admission.refused"]
    assert len(log) == 1, "said once, though it went on"


@pytest.mark.parametrize("seed", range(8))
def test_of_two_with_one_name_the_newcomer_stops(seed: int) -> None:
    network = Network(seed)
    trio(network)
    network.run(3_000)
    twin = replace(member("b", number=1), endpoint="tcp://elsewhere:7400")
    network.start(twin, ("a",))
    network.run(20_000)
    ((_, stop),) = stops(network)
    assert stop.exit_code == 2
    assert "b at tcp://elsewhere:7400" in stop.sentence
    assert "b at tcp://b:7400" in stop.sentence
    assert network.at["tcp://elsewhere:7400"].stopped
    assert deaths(network) == []


@pytest.mark.parametrize("seed", range(8))
def test_twins_that_are_let_in_at_two_ends_find_out_and_one_stops(seed: int) -> None:
    network = Network(seed, delay=(5, 60))
    network.start(member("a"))
    network.start(member("b"))
    network.start(member("c", number=1), ("a",))
    network.start(replace(member("c", number=2), endpoint="tcp://elsewhere:7400"), ("b",))
    network.run(400)
    network.start(member("bridge"), ("a", "b"))
    network.run(30_000)
    assert [name for name, _ in stops(network)] == ["c"]
    assert network.converged()


def test_a_process_moved_to_another_address_waits_until_the_old_one_is_seen_dead() -> None:
    network = Network(seed=8)
    nodes = trio(network)
    network.run(3_000)
    for node in nodes:
        node.admission.formed = True
    network.crash(nodes[1])
    moved = network.start(replace(member("b", number=1), endpoint="tcp://elsewhere:7400"), ("a", "c"))
    network.run(NAME_PATIENCE + 5_000)
    assert moved.stopped == []
    assert network.converged()


# -- one machine ------------------------------------------------------------------------------------------------------

ME = member("me")


def machine(*seeds: str, **changes: object) -> Admission:
    return Admission(introduction(ME, **changes), tuple(f"tcp://{seed}:7400" for seed in seeds), Random(1))


def hello(me: Member, at: str = "tcp://me:7400", **changes: object) -> Received:
    return Received(me.node, Hello(introduction(me, **changes), at))


def answers(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(each.endpoint, type(each.message).__name__) for each in effects if isinstance(each, Approach)]


def reasons(effects: list[Effect]) -> list[str]:
    return [each.reason for each in effects if isinstance(each, Rejected)]


def test_standing_is_formed_then_met_then_age_then_id() -> None:
    def intro(formed: bool, met: int, started: int, number: int) -> Introduction:
        return introduction(member("x", number), formed=formed, met=met, started=started)

    ascending = [intro(False, 1, 9, 0), intro(False, 1, 9, 1), intro(False, 1, 8, 0), intro(False, 2, 9, 0)]
    ascending.append(intro(True, 1, 9, 0))
    ranks = [standing(each) for each in ascending]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


def test_a_fitting_hello_is_welcomed_and_admitted_a_second_one_too() -> None:
    admission = machine()
    for _ in range(2):
        effects = admission.handle(hello(member("a")), now=1)
        assert answers(effects) == [("tcp://a:7400", "Welcome")]
        assert any(isinstance(each, Admitted) and each.member == member("a") for each in effects)


def test_a_welcome_names_all_that_live_and_not_the_dead() -> None:
    admission = machine()
    for each in (member("a"), member("b")):
        admission.handle(MemberChanged(each, None), now=1)
    admission.handle(MemberChanged(member("a", status=DEAD), ALIVE), now=2)
    admission.handle(MemberChanged(member("b", incarnation=1), ALIVE), now=2)
    (welcome,) = [each.message for each in admission.handle(hello(member("c")), 3) if isinstance(each, Approach)]
    assert isinstance(welcome, Welcome)
    assert [each.name for each in welcome.members] == ["me", "b"]
    assert welcome.introduction.met == 3, "met does not fall"


def test_an_unreachable_address_is_approached_ever_more_slowly_and_for_ever() -> None:
    admission = machine("nobody")
    times = []
    for _ in range(60):
        deadline = admission.next_deadline()
        assert deadline is not None
        assert answers(admission.handle(Woke(), deadline)) == [("tcp://nobody:7400", "Hello")]
        times.append(deadline)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 300
    assert all(LONGEST_PAUSE * 3 // 4 <= gap <= LONGEST_PAUSE * 5 // 4 for gap in gaps[6:])
    assert len(set(gaps[6:])) > 10, "with jitter"


def test_an_address_is_approached_again_when_who_lived_there_dies() -> None:
    admission = machine("a")
    admission.handle(Woke(), 1)
    admission.handle(MemberChanged(member("a"), None), now=2)
    assert admission.next_deadline() is None
    admission.handle(MemberChanged(member("a", status=DEAD), ALIVE), now=3)
    assert admission.next_deadline() is not None


def test_a_flood_of_hellos_is_bounded_in_all_and_from_each() -> None:
    admission = machine()
    one = [each for _ in range(100) for each in admission.handle(hello(member("a")), now=5_000)]
    assert len(answers(one)) == MAX_HELLOS_EACH
    many = [each for number in range(999) for each in admission.handle(hello(member(f"x{number}")), now=5_001)]
    assert len(answers(many)) == MAX_HELLOS - MAX_HELLOS_EACH
    assert set(reasons(many)) == {"hello-flood"}
    assert answers(admission.handle(hello(member("a")), now=6_000)), "the next second is another one"


def test_a_flood_of_unfit_strangers_opens_few_addresses() -> None:
    admission = machine()
    for number in range(100):
        admission.handle(hello(member(f"x{number}"), slots=8, met=99), now=5_000)
    effects = admission.handle(Woke(), now=6_000)
    assert len(answers(effects)) == MAX_RIVALS
    for _ in range(2_000):
        deadline = admission.next_deadline()
        if deadline is None:
            break
        admission.handle(Woke(), deadline)
    assert admission.next_deadline() is None, "strangers are not tried for ever"


@pytest.mark.parametrize("kind", [Welcome, Refused])
def test_an_answer_that_nobody_asked_for_changes_nothing(kind: type) -> None:
    admission = machine("a")
    theirs = introduction(member("evil"), slots=8, formed=True, met=9_999)
    at = "tcp://elsewhere:7400"
    message = Welcome(theirs, (), at) if kind is Welcome else Refused("slots", "1024", "8", theirs, at)
    effects = admission.handle(Received(theirs.member.node, message), now=1)
    assert reasons(effects) == ["unasked-answer"]
    assert len(effects) == 1


def test_who_introduces_another_or_nonsense_is_rejected() -> None:
    admission = machine()
    a = introduction(member("a"))
    assert reasons(admission.handle(Received(member("b").node, Hello(a)), 1)) == ["implausible-introduction"]
    nonsense = replace(a, member=replace(a.member, endpoint="tcp://"))
    assert reasons(admission.handle(Received(a.member.node, Hello(nonsense)), 1)) == ["implausible-introduction"]


def test_a_welcome_that_does_not_fit_admits_nobody() -> None:
    admission = machine("a")
    theirs = introduction(member("a"), graph="other")
    effects = admission.handle(Received(theirs.member.node, Welcome(theirs, (), "tcp://a:7400")), now=1)
    assert reasons(effects) == ["unfit-welcome"]
    assert admission.next_deadline() == 0, "still to be approached"


def refusal(field: str, formed: bool) -> Received:
    theirs = introduction(member("a"), slots=8, formed=formed, met=5)
    return Received(theirs.member.node, Refused(field, "1024", "8", theirs, "tcp://a:7400"))


def test_a_formed_cluster_is_yielded_to_at_once_and_another_after_a_while() -> None:
    assert any(isinstance(each, Stop) for each in machine("a").handle(refusal("slots", True), 1))
    patient = machine("a")
    assert not any(isinstance(each, Stop) for each in patient.handle(refusal("slots", False), 1))
    assert any(isinstance(each, Stop) for each in patient.handle(refusal("slots", False), 2_500))


def test_nothing_comes_after_stop() -> None:
    admission = machine("a")
    admission.handle(refusal("slots", True), 1)
    assert admission.handle(hello(member("b")), 2) == []
    assert admission.next_deadline() is None


def test_an_old_dispute_does_not_count_for_a_new_one() -> None:
    admission = machine("a")
    admission.handle(refusal("slots", False), 1)
    effects = admission.handle(refusal("slots", False), 3_600_000)
    assert not any(isinstance(each, Stop) for each in effects)


def test_who_is_formed_ignores_refusals_and_says_so_once() -> None:
    admission = machine("a")
    admission.formed = True
    effects = [each for now in range(20) for each in admission.handle(refusal("slots", True), now * 9_000)]
    assert [each.event for each in effects if isinstance(each, Log)] == ["admission.ignored"]
    assert not any(isinstance(each, Stop) for each in effects)
