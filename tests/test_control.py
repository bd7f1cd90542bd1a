from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from mesh.core.contact import LEASE
from mesh.core.leaving import refusal
from mesh.core.membership.tuning import LOOPBACK
from mesh.core.messages.members import DEAD, LEFT
from tests.control_network import SLOTS, Cluster

LONG = 20_000  # ms


def founded(*names: str, witnesses: tuple[str, ...] = (), seed: int = 0) -> Cluster:
    cluster = Cluster(*names, witnesses=witnesses, seed=seed)
    cluster.until(cluster.settled, LONG)
    cluster.run(1_500)
    return cluster


def counts(cluster: Cluster) -> dict[str, int]:
    table = cluster.living()[0].table
    return {seat.name: count for seat, count in zip(table.members, table.owned_counts(), strict=True)}


def test_a_joiner_gets_its_share_within_the_time_and_then_a_vote() -> None:
    cluster = founded("a", "b", "c")
    cluster.start("d")
    assert cluster.until(cluster.settled, LONG) <= 1_500
    assert counts(cluster) == {"a": 16, "b": 16, "c": 16, "d": 16}
    cluster.until(lambda: len(cluster.processes["d"].table.voters()) == 4, within=1_000)


def test_a_joining_witness_gets_its_vote_once_it_has_caught_up() -> None:
    cluster = founded("a", "b")
    cluster.start("w", "witness")
    cluster.until(lambda: len(cluster.processes["a"].table.voters()) == 3, within=1_000)


def test_a_claim_that_comes_when_all_is_quiet_is_acted_on_at_once() -> None:
    cluster = founded("a", "b", "c")
    cluster.transfer = (500, 510)
    cluster.start("d")
    assert cluster.until(cluster.settled, LONG) <= 1_000


def test_a_leaver_hands_over_and_goes_when_a_majority_knows() -> None:
    cluster = founded("a", "b", "c")
    cluster.ask_to_leave("a", "b")
    leaver = cluster.processes["b"]
    cluster.until(lambda: leaver.departed is not None and cluster.settled(), LONG)
    table = cluster.living()[0].table
    assert table.counts() == {"active": SLOTS, "pending": 0, "unavailable": 0, "lost": 0}
    assert table.left == (leaver.node,)
    assert cluster.processes["a"].agreed is not None
    assert cluster.processes["a"].agreed.left == (leaver.node,)
    assert leaver.table.seat_of(leaver.node) is None
    holders = [each for each in cluster.living() if each.table.epoch >= leaver.table.epoch]
    assert len(holders) == 2


def test_a_leaver_waits_until_it_has_heard_that_a_majority_knows() -> None:
    cluster = founded("a", "b", "c")
    leaver = cluster.processes["b"]
    cluster.ask_to_leave("a", "b")
    while leaver.table.seat_of(leaver.node) is not None:
        cluster.run(1)
    cluster.cut = {"b"}
    cluster.run(5_000)
    assert leaver.departed is None
    cluster.cut = set()
    cluster.until(lambda: leaver.departed is not None, LONG)


def test_a_leave_that_nobody_hears_at_first_is_asked_again() -> None:
    cluster = founded("a", "b", "c")
    cluster.cut = {"b"}
    cluster.ask_to_leave("a", "b")
    cluster.run(400)
    cluster.cut = set()
    cluster.until(lambda: cluster.processes["b"].departed is not None, LONG)


def test_two_joins_and_a_leave_at_once() -> None:
    cluster = founded("a", "b", "c")
    cluster.start("d")
    cluster.start("e")
    cluster.ask_to_leave("c", "a")
    cluster.until(lambda: not cluster.processes["a"].alive and len(counts(cluster)) == 4 and cluster.settled(), LONG)
    assert sorted(counts(cluster)) == ["b", "c", "d", "e"]
    assert set(counts(cluster).values()) == {16}
    assert cluster.living()[0].table.counts()["active"] == SLOTS


def test_the_last_worker_cannot_leave_even_if_all_are_asked() -> None:
    cluster = founded("a", "b", witnesses=("w",))
    members = cluster.processes["a"].control.membership.members
    table = cluster.processes["a"].table
    assert refusal(table, members, "a") is None
    assert refusal(table, members, "w") is None
    assert refusal(table, members, "nobody") == "unknown"
    for name in ("a", "b", "w"):
        cluster.ask_to_leave("a", name)
    cluster.run(LONG)
    assert [each.name for each in cluster.living()] == ["a"]
    assert counts(cluster) == {"a": SLOTS}
    assert cluster.processes["a"].table.counts()["active"] == SLOTS
    assert refusal(cluster.processes["a"].table, members, "a") is None  # it is leaving already, as well as it can


def test_the_last_worker_is_refused() -> None:
    cluster = founded("a", "b", "c")
    cluster.kill("b")
    cluster.until(cluster.settled, LONG)
    cluster.ask_to_leave("a", "c")
    cluster.until(lambda: cluster.processes["c"].departed is not None, LONG)
    control = cluster.processes["a"].control
    assert refusal(control.table, control.membership.members, "a") == "last-worker"
    assert refusal(control.table, control.membership.members, "b") == "unreachable"
    cluster.until(lambda: refusal(control.table, control.membership.members, "c") == "unknown", LONG)


def test_a_killed_node_keeps_its_seat_and_its_successor_finds_its_slots_lost() -> None:
    cluster = founded("a", "b", "c")
    cluster.kill("b")
    assert cluster.until(cluster.settled, LONG) <= 2_000
    assert cluster.living()[0].table.counts() == {"active": 43, "pending": 0, "unavailable": 21, "lost": 0}
    assert cluster.processes["a"].agreed is not None
    assert cluster.processes["a"].agreed.down == (cluster.processes["b"].node,)
    cluster.start("b")
    cluster.until(cluster.settled, LONG)
    assert cluster.living()[0].table.counts() == {"active": 43, "pending": 0, "unavailable": 0, "lost": 21}
    assert counts(cluster) == {"a": 22, "b": 21, "c": 21}
    assert cluster.living()[0].table.left == ()


def test_who_was_paused_and_found_dead_returns_with_all_it_had() -> None:
    cluster = founded("a", "b", "c")
    before = cluster.processes["b"].table.slots
    cluster.processes["b"].paused = True
    cluster.until(cluster.settled, LONG)
    cluster.start("d")
    cluster.until(lambda: "d" in counts(cluster) and cluster.settled(), LONG)
    assert counts(cluster) == {"a": 15, "b": 21, "c": 14, "d": 14}
    cluster.resume("b")
    cluster.until(cluster.settled, LONG)
    after = cluster.processes["b"].table
    assert after.counts()["active"] == SLOTS
    assert all(slot in after.slots for slot in before if slot.owner != 1)
    cluster.run(3_000)
    assert [each.fenced[-1][1] for each in cluster.living() if each.fenced] in ([], [False])


def test_who_was_paused_while_another_process_took_its_place_stops() -> None:
    cluster = founded("a", "b", "c")
    old = cluster.processes["b"]
    old.paused = True
    cluster.until(cluster.settled, LONG)
    cluster.start("b")
    cluster.until(cluster.settled, LONG)
    new = cluster.processes["b"]
    cluster.processes = {"a": cluster.processes["a"], "c": cluster.processes["c"], "b": old, "new": new}
    new.paused = True  # one address: messages to it reach the old process again
    old.name = "b"
    cluster.resume("b")
    cluster.until(lambda: old.stopped != "", LONG)
    assert "has taken this one's place" in old.stopped


def test_a_rolling_restart_of_all_ends_with_new_processes_everywhere() -> None:
    cluster = founded("a", "b", "c")
    for name in ("a", "b", "c"):
        cluster.kill(name)
        cluster.run(300)
        cluster.start(name)
        cluster.until(cluster.settled, LONG)
        cluster.run(2_500)
    table = cluster.living()[0].table
    assert {seat.node for seat in table.voters()} == {each.node for each in cluster.living()}
    assert table.counts()["lost"] == SLOTS


@pytest.mark.parametrize("minority", [("e",), ("a", "b"), ("d", "e")])
def test_the_minority_of_a_split_stops_within_five_seconds_and_returns_when_it_heals(minority: tuple[str, ...]) -> None:
    cluster = founded("a", "b", "c", "d", "e")
    cluster.cut = {*minority}
    start = cluster.now
    cluster.run(6_000)
    for each in cluster.living():
        if each.name in minority:
            (at, fenced) = each.fenced[-1]
            assert fenced
            assert LEASE - 1_500 <= at - start <= 5_000
            assert each.table.epoch < cluster.processes["c"].table.epoch
        else:
            assert not each.fenced
            assert {seat.name for seat in each.table.members if not seat.up} == {*minority}
    cluster.run(8_000)
    cluster.cut = set()
    assert cluster.until(cluster.settled, LONG) <= 10_000
    assert cluster.living()[0].table.counts()["active"] == SLOTS
    cluster.run(2_000)
    assert not any(each.control.contact.fenced for each in cluster.living())
    assert len(cluster.living()[0].table.voters()) == 5


def test_half_of_an_even_cluster_goes_on_and_the_other_stops() -> None:
    cluster = founded("a", "b", "c", "d")
    cluster.cut = {"a", "b"}
    cluster.run(6_000)
    assert [each.control.contact.fenced for each in cluster.processes.values()] == [False, False, True, True]
    cluster.cut = set()
    cluster.until(cluster.settled, LONG)


def test_a_minority_s_view_of_the_dead_is_not_decided_when_the_network_heals() -> None:
    cluster = founded("a", "b", "c")
    cluster.cut = {"a"}  # the lowest-named: it would propose at once
    cluster.run(10_000)
    assert {each.name: each.control.membership.members[cluster.processes["b"].node].status >= DEAD
            for each in cluster.living()}["a"]  # fmt: skip
    cluster.cut = set()
    cluster.until(cluster.settled, LONG)
    down = [seat.name for table in cluster.history.values() for seat in table.members if not seat.up]
    assert down
    assert {*down} == {"a"}


def test_who_was_away_for_many_epochs_leaps_to_the_newest() -> None:
    cluster = founded("a", "b", "c")
    cluster.processes["c"].paused = True
    cluster.until(cluster.settled, LONG)
    for name in ("d", "e", "f"):
        cluster.start(name)
        cluster.until(cluster.settled, LONG)
    missed = cluster.processes["a"].table.epoch - cluster.processes["c"].table.epoch
    assert missed > 4
    cluster.resume("c")
    cluster.until(cluster.settled, LONG)
    assert cluster.processes["c"].table.counts()["active"] == SLOTS


@pytest.mark.parametrize("away", [("c",), ("d",), ("c", "d")])
def test_a_split_that_outlasts_memory_heals_too(away: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.control_network.LOOPBACK", replace(LOOPBACK, forget_after=20_000))
    cluster = founded("a", "b", "c")
    cluster.start("d")  # it is nobody's seed
    cluster.until(lambda: len(cluster.living()[0].table.voters()) == 4, LONG)
    cluster.cut = {*away}
    cluster.run(60_000)
    members = cluster.processes["a"].control.membership.members
    assert not any(cluster.processes[name].node in members for name in away)  # dead, and forgotten
    cluster.cut = set()
    cluster.until(cluster.settled, LONG)
    assert cluster.living()[0].table.counts()["active"] == SLOTS
    cluster.run(2_000)  # what was said in the split is answered
    suspected = sum(log.event == "member.suspect" for each in cluster.living() for log in each.logs)
    cluster.run(20_000)
    assert sum(log.event == "member.suspect" for each in cluster.living() for log in each.logs) == suspected


def test_a_goodbye_without_a_leave_loses_what_the_node_had() -> None:
    cluster = founded("a", "b", "c")
    cluster.say_goodbye("b")
    cluster.until(cluster.settled, LONG)
    assert cluster.living()[0].table.counts()["unavailable"] == 21
    cluster.until(lambda: cluster.living()[0].table.counts()["lost"] == 21, within=1_500)
    members = cluster.processes["a"].control.membership.members
    assert members[cluster.processes["b"].node].status == LEFT


@pytest.mark.parametrize("seed", range(12))
def test_through_storms_of_joins_leaves_deaths_and_splits_one_table_comes_out(seed: int) -> None:
    random = Random(seed)
    cluster = founded("a", "b", "c", witnesses=("w",) if seed % 2 else (), seed=seed)
    for _ in range(8):
        cluster.loss = random.choice([0.0, 0.05, 0.2])
        cluster.delay = random.choice([5, 30, 80])
        names = sorted(cluster.processes)
        name = random.choice(names)
        process = cluster.processes[name]
        match random.randrange(5):
            case 0:
                cluster.start(f"n{len(names)}")
            case 1 if process in cluster.living() and len(cluster.living()) > 3:
                process.paused = True
            case 2 if process.paused:
                cluster.resume(name)
            case 3 if process in cluster.living() and len(cluster.living()) > 3:
                cluster.ask_to_leave(cluster.living()[0].name, name)
            case 4:
                cluster.cut = {each for each in names if random.random() < 0.3}
        cluster.run(random.choice([50, 500, 3_000]))
    cluster.loss, cluster.delay, cluster.cut = 0.0, 10, set()
    for name, process in list(cluster.processes.items()):
        if process.paused:
            cluster.resume(name)
    cluster.until(cluster.settled, 60_000)
    cluster.run(10_000)
    assert cluster.settled(), cluster.shown()
    counts = cluster.living()[0].table.counts()
    assert counts["active"] == SLOTS, counts
    assert not any(each.control.contact.fenced for each in cluster.living())
