"""Networks that really break: real daemons in network namespaces, real cuts. Needs root and iproute2 on Linux."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster_kit import NodeProcess, eventually
from tests.namespace_kit import HostedCluster, connections, hosted, why_not
from tests.split_kit import HALF, JOB, KEYS, applied, epoch, finish, goes_on, one_table, owner, states, stopped

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

NAMES = ("alpha", "beta", "gamma", "delta", "omega")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[int], HostedCluster]]:
    """So many nodes, each with a namespace, half way through their job."""
    with ExitStack() as stack:

        def start(count: int) -> HostedCluster:
            made = stack.enter_context(hosted(tmp_path, *NAMES[:count], app=JOB))
            made.start()
            made.until_ready()
            eventually(lambda: applied(made) == HALF, "half of the job")
            return made

        yield start


def picked(made: HostedCluster, names: tuple[str, ...]) -> list[NodeProcess]:
    return [made[name] for name in names]


def healed(made: HostedCluster) -> None:
    """One table, nobody missing, and the job's second half comes out right."""
    made.net.heal()
    eventually(lambda: one_table(made), "one table everywhere")
    for node in made:
        eventually(lambda node=node: set(states(node).values()) == {"alive"}, "all alive")  # type: ignore[misc]
    finish(made)
    assert made.noise() == []


@pytest.mark.parametrize(
    ("count", "minority"),
    [(3, ("gamma",)), (3, ("alpha",)), (4, ("gamma", "delta")), (5, ("alpha", "beta"))],
    ids=["one-of-three", "the-eldest-of-three", "half-without-the-eldest", "two-of-five"],
)
def test_the_minority_stops_and_says_so_and_the_majority_goes_on(
    started: Callable[[int], HostedCluster], count: int, minority: tuple[str, ...]
) -> None:
    made = started(count)
    majority = tuple(name for name in made.names if name not in minority)
    before = max(epoch(node) for node in made)
    made.net.split(minority, majority)
    eventually(lambda: stopped(*picked(made, minority)), "the minority stops")
    eventually(lambda: goes_on(picked(made, majority), before), "the majority goes on")
    for name in minority:
        made[name].until("node.fenced")
        assert made[name].get("/healthz").code == 200
        told = made.mesh(name, "status")
        assert f"{name} is not ready: a majority of the voters is out of touch" in told.out, told
        assert "a majority of the voters is out of touch" in made[name].get("/readyz").body["detail"]
        assert epoch(made[name]) == before
        own = next(key for key in map(str, range(KEYS)) if owner(made[name], key) == name)
        refused = made[name].get("/v1/state/seen", key=own, key_type="int")
        assert (refused.code, refused.body["error"]) == (503, "unavailable")
    served = [made[name].get("/v1/state/seen", key=str(key), key_type="int") for key in range(40) for name in majority]
    assert {answer.code for answer in served} == {200, 503}, "what the majority holds is read, the rest is not"
    for name in majority:
        assert {states(made[name])[other] for other in minority} == {"dead"}
        assert "not ready" not in made.mesh(name, "status").out
    healed(made)


def test_records_that_come_during_a_split_are_applied_once_when_it_heals(
    started: Callable[[int], HostedCluster],
) -> None:
    made = started(3)
    made.net.split(["beta"], ["alpha", "gamma"])
    (made.folder / "go").touch()
    eventually(lambda: stopped(made["beta"]), "the minority stops")
    eventually(lambda: goes_on(picked(made, ("alpha", "gamma")), 1), "the majority goes on")
    healed(made)


def test_a_connection_into_the_void_is_given_up_before_it_hardly_tries_any_more(
    started: Callable[[int], HostedCluster],
) -> None:
    made = started(3)
    gamma = made.hosted("gamma")
    made.net.split(["gamma"], ["alpha", "beta"])
    repeats = [0]

    def given_up() -> bool:
        now = connections(gamma)
        repeats.extend(each.repeats for each in now)
        return not now

    eventually(given_up, "no connection is left")
    assert 0 < max(repeats) <= 5, "from 0.2 s on, each pause is twice the one before"
    healed(made)


MESSAGES = pytest.mark.parametrize("mesh_port", [True, False], ids=["messages", "packets"])


@MESSAGES
@pytest.mark.parametrize("direction", [("gamma", "alpha"), ("alpha", "gamma")], ids=["to-alpha", "from-alpha"])
def test_a_one_way_cut_between_two_of_three_kills_neither_and_they_still_agree(
    started: Callable[[int], HostedCluster], direction: tuple[str, str], mesh_port: bool
) -> None:
    """`messages`: those that one sends the other. `packets`: all, so that no connection of the two works."""
    made = started(4)
    before = max(epoch(node) for node in made)
    three = picked(made, ("alpha", "beta", "gamma"))
    made.net.cut(*direction, mesh_port=mesh_port)
    made.net.split(["delta"], ["alpha", "beta", "gamma"])  # something to agree on
    eventually(lambda: goes_on(three, before), "the three go on")
    eventually(lambda: stopped(made["delta"]), "the fourth stops")
    assert [event["member"] for node in three for event in node.all_of("member.dead")] == ["delta"] * 3
    healed(made)


@MESSAGES
@pytest.mark.parametrize("fault", ["deaf", "mute"])
def test_a_node_that_only_hears_or_only_speaks_stops_and_the_others_go_on(
    started: Callable[[int], HostedCluster], fault: str, mesh_port: bool
) -> None:
    made = started(3)
    before = max(epoch(node) for node in made)
    for other in ("alpha", "beta"):
        made.net.cut(*(("gamma", other) if fault == "mute" else (other, "gamma")), mesh_port=mesh_port)
    eventually(lambda: stopped(made["gamma"]), "it stops")
    eventually(lambda: goes_on(picked(made, ("alpha", "beta")), before), "the others go on")
    healed(made)


def test_halves_that_both_see_one_node_stay_one_cluster(started: Callable[[int], HostedCluster]) -> None:
    made = started(5)
    before = max(epoch(node) for node in made)
    four = picked(made, ("alpha", "beta", "gamma", "delta"))
    made.net.split(["alpha", "beta"], ["delta"])  # gamma sees all
    made.net.split(["omega"], ["alpha", "beta", "gamma", "delta"])  # something to agree on
    eventually(lambda: goes_on(four, before), "the four go on")
    assert [event["member"] for node in four for event in node.all_of("member.dead")] == ["omega"] * 4
    healed(made)


def test_who_is_in_touch_with_too_few_stops_although_all_know_it_lives_and_another_proposes(
    started: Callable[[int], HostedCluster],
) -> None:
    """alpha, whose turn it is to propose, sees only beta, who sees all."""
    made = started(5)
    before = max(epoch(node) for node in made)
    others = ("beta", "gamma", "delta")
    made.net.split(["alpha"], ["gamma", "delta", "omega"])
    eventually(lambda: stopped(made["alpha"]), "alpha stops")
    assert {states(made[name])["alpha"] for name in others} <= {"alive", "suspect"}
    assert {epoch(node) for node in made} == {before}, "so there is nothing to agree on"
    made.net.split(["omega"], ["alpha", *others])
    eventually(lambda: goes_on(picked(made, others), before), "the others go on")
    eventually(lambda: stopped(made["omega"]), "omega stops")
    assert [event["member"] for name in others for event in made[name].all_of("member.dead")] == ["omega"] * 3
    healed(made)


def test_a_link_that_goes_up_and_down_leaves_one_table_and_no_record_out(
    started: Callable[[int], HostedCluster],
) -> None:
    made = started(3)
    for _ in range(20):
        made.net.link("gamma", "down")
        made.net.link("gamma", "up")
    for state in ("suspect", "dead", "suspect", "dead"):
        made.net.link("gamma", "down")
        eventually(lambda state=state: states(made["alpha"])["gamma"] in (state, "dead"), state)  # type: ignore[misc]
        made.net.link("gamma", "up")
        eventually(lambda: states(made["alpha"])["gamma"] == "alive", "it is back")
    healed(made)
