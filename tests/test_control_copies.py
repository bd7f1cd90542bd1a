"""Whole control planes of a cluster with copies, on a network: who dies is followed, and what is missing is filled."""

from __future__ import annotations

from random import Random

import pytest

from mesh.core.events.operator import AcceptLoss
from mesh.core.planner import ABSENCE
from mesh.core.table import Table
from tests.control_network import SLOTS, Cluster

LONG = 20_000  # ms


def founded(*names: str, copies: int = 2, seed: int = 0, durable: bool = False) -> Cluster:
    cluster = Cluster(*names, seed=seed, copies=copies, durable=durable, disks=names if durable else ())
    cluster.until(cluster.settled, LONG)
    cluster.run(1_500)
    return cluster


def table(cluster: Cluster) -> Table:
    return cluster.living()[0].table


def all_active(cluster: Cluster) -> bool:
    return cluster.one_table() and table(cluster).counts()["active"] == SLOTS


def names(cluster: Cluster) -> dict[str, int]:
    """Of all copies, how many each has."""
    held = zip(table(cluster).owned_counts(), table(cluster).backup_counts(), strict=True)
    return {seat.name: sum(both) for seat, both in zip(table(cluster).members, held, strict=True)}


def test_who_dies_is_followed_at_once_and_its_copies_are_filled_elsewhere_before_anything_is_levelled() -> None:
    cluster = founded("a", "b", "c", "d")
    before = table(cluster).owners()
    cluster.kill("b")
    cluster.until(lambda: table(cluster).counts()["active"] < SLOTS, LONG)
    assert cluster.until(lambda: all_active(cluster), LONG) < 1_000
    cluster.until(lambda: names(cluster)["b"] == 0, 5_000)
    after = table(cluster).owners()
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "b")
    cluster.until(cluster.settled, ABSENCE + LONG)
    assert all_active(cluster)


def test_two_of_three_copies_die_together_and_nothing_is_lost() -> None:
    cluster = founded("a", "b", "c", "d", "e", copies=3)
    cluster.kill("b", "d")
    cluster.until(cluster.settled, ABSENCE + LONG)
    assert table(cluster).counts()["active"] == SLOTS


def test_who_was_away_for_a_while_owns_again_what_it_owned_before() -> None:
    cluster = founded("a", "b", "c")
    shares = table(cluster).owned_counts()
    cluster.processes["b"].paused = True
    cluster.until(lambda: not all(seat.up for seat in table(cluster).members), LONG)
    cluster.run(ABSENCE // 2)
    assert sorted(names(cluster).values()) == [0, SLOTS, SLOTS]
    cluster.resume("b")
    cluster.until(cluster.settled, LONG)
    assert sorted(table(cluster).owned_counts()) == sorted(shares)


def test_joiners_and_leavers_leave_every_slot_with_its_copies() -> None:
    cluster = founded("a", "b", "c")
    cluster.start("d")
    cluster.until(cluster.settled, LONG)
    cluster.ask_to_leave("a", "b")
    cluster.until(lambda: cluster.processes["b"].departed is not None and cluster.settled(), LONG)
    assert table(cluster).counts()["active"] == SLOTS
    assert sorted(names(cluster)) == ["a", "c", "d"]


def test_a_new_process_without_the_memory_of_the_former_one_is_filled_like_any_other() -> None:
    cluster = founded("a", "b", "c")
    cluster.kill("b")
    cluster.start("b")
    cluster.until(cluster.settled, LONG)
    assert table(cluster).counts()["active"] == SLOTS


def test_all_copies_of_a_slot_end_and_only_these_slots_are_lost() -> None:
    cluster = founded("a", "b", "c", "d", "e")
    both = {seat.name: place for place, seat in enumerate(table(cluster).members)}
    doomed = [slot for slot in table(cluster).slots if {*slot.members} == {both["b"], both["d"]}]
    assert doomed
    for name in ("b", "d"):
        cluster.say_goodbye(name)
    cluster.until(lambda: table(cluster).counts()["lost"] > 0, LONG)
    cluster.until(cluster.settled, ABSENCE + LONG)
    assert table(cluster).counts() == {
        "active": SLOTS - len(doomed), "pending": 0, "unavailable": 0, "lost": len(doomed)}  # fmt: skip


# -- with disks


@pytest.mark.parametrize("copies", [1, 2])
def test_a_whole_cluster_ends_and_returns_with_all_it_had(copies: int) -> None:
    cluster = founded("a", "b", "c", copies=copies, durable=True)
    cluster.kill("a", "b", "c")
    for name in "abc":
        cluster.start(name)
    cluster.until(lambda: cluster.settled() and {seat.boot for seat in table(cluster).members} == {2}, LONG)
    assert table(cluster).counts()["active"] == SLOTS


def test_with_one_copy_what_a_node_had_waits_for_it_and_is_active_soon_after_it_is_back() -> None:
    cluster = founded("a", "b", "c", copies=1, durable=True)
    owners = table(cluster).owners()
    cluster.kill("b")
    cluster.until(lambda: table(cluster).counts()["unavailable"] > 0, LONG)
    cluster.run(ABSENCE + LONG)
    assert table(cluster).counts()["unavailable"] == owners.count("b")
    cluster.start("b")
    cluster.until(lambda: all_active(cluster), 5_000)
    assert table(cluster).owners() == owners


def test_with_one_copy_a_joiner_is_given_its_share_and_a_leaver_gives_away_what_it_has() -> None:
    cluster = founded("a", "b", "c", copies=1, durable=True)
    cluster.start("d")
    cluster.until(cluster.settled, LONG)
    cluster.ask_to_leave("a", "b")
    cluster.until(lambda: cluster.processes["b"].departed is not None and cluster.settled(), LONG)
    assert table(cluster).counts()["active"] == SLOTS


def test_an_operator_gives_up_by_name_what_nobody_comes_back_for() -> None:
    cluster = founded("a", "b", "c", copies=1, durable=True)
    mine = tuple(number for number in range(SLOTS) if table(cluster).owner_of(number).name == "b")
    cluster.kill("b")
    cluster.until(lambda: table(cluster).counts()["unavailable"] > 0, LONG)
    cluster.tell("a", AcceptLoss(()))
    cluster.run(LONG)
    assert table(cluster).counts()["unavailable"] == len(mine)
    cluster.tell("a", AcceptLoss(mine[:5]))
    cluster.until(lambda: table(cluster).counts()["lost"] == 5, LONG)
    cluster.until(lambda: table(cluster).counts()["active"] == SLOTS - len(mine) + 5, LONG)
    assert table(cluster).counts()["unavailable"] == len(mine) - 5


@pytest.mark.parametrize("seed", range(10))
def test_through_storms_every_slot_comes_out_with_its_copies(seed: int) -> None:
    random = Random(seed)
    cluster = founded("a", "b", "c", "d", copies=2 + seed % 2, seed=seed)
    for _ in range(8):
        cluster.loss = random.choice([0.0, 0.05, 0.2])
        cluster.delay = random.choice([5, 30, 80])
        here = sorted(cluster.processes)
        name = random.choice(here)
        process = cluster.processes[name]
        match random.randrange(6):
            case 0:
                cluster.start(f"n{len(here)}")
            case 1 if process in cluster.living() and len(cluster.living()) > 3:
                process.paused = True
            case 2 if process.paused:
                cluster.resume(name)
            case 3 if process in cluster.living() and len(cluster.living()) > 3:
                cluster.ask_to_leave(cluster.living()[0].name, name)
            case 4:
                cluster.cut = {each for each in here if random.random() < 0.3}
            case 5 if process in cluster.living() and len(cluster.living()) > 3 and cluster.settled():
                cluster.kill(name)
        cluster.run(random.choice([50, 500, 3_000]))
    cluster.loss, cluster.delay, cluster.cut = 0.0, 10, set()
    for name, process in list(cluster.processes.items()):
        if process.paused:
            cluster.resume(name)
    cluster.until(cluster.settled, 60_000)
    cluster.run(5_000)
    assert cluster.settled(), cluster.shown()
    assert table(cluster).counts()["active"] == SLOTS, table(cluster).counts()
