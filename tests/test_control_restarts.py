"""Restarts with and without data directories, old copies of them, accepted losses, majorities that are gone."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from mesh.core.contact import LEASE, Contact
from mesh.core.events import Effect, Received, Rejected
from mesh.core.events.operator import AcceptLoss, Recover
from mesh.core.membership.merge import MAX_MEMBERS
from mesh.core.membership.swim import MAX_GOSSIP
from mesh.core.messages import Message
from mesh.core.messages.epochs import (
    Accept,
    Accepted,
    Booted,
    BootKnown,
    Chosen,
    EpochHeld,
    EpochKnown,
    Installed,
    LeaveAsked,
    LossAccepted,
    Outbid,
    Prepare,
    Promise,
)
from mesh.core.messages.members import ALIVE, DEAD, LEFT, Gossip, Member, PushPull
from mesh.core.table import GENERATION
from mesh.core.table_bytes import table_from_bytes, table_to_bytes
from tests.control_network import SLOTS, Cluster

LONG = 20_000  # ms
ALL = ("a", "b", "c")


def founded(*names: str, disks: tuple[str, ...] = (), seed: int = 0) -> Cluster:
    cluster = Cluster(*names, disks=disks, seed=seed)
    cluster.until(cluster.settled, LONG)
    cluster.run(1_500)
    return cluster


def restart(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.start(name)


def all_vote(cluster: Cluster) -> bool:
    """All that live have seats and votes, and work."""
    if not cluster.settled():
        return False
    voters = [seat.node for seat in cluster.living()[0].table.voters()]
    fenced = any(each.control.contact.fenced for each in cluster.living())
    return sorted(voters) == sorted(each.node for each in cluster.living()) and not fenced


def logged(cluster: Cluster, event: str) -> int:
    return sum(log.event == event for each in cluster.processes.values() for log in each.logs)


# -- with directories


def test_a_mesh_that_restarts_as_a_whole_agrees_again_and_says_what_is_lost() -> None:
    cluster = founded(*ALL, disks=ALL)
    before = cluster.processes["a"].table
    cluster.kill(*ALL)
    cluster.run(3_000)
    restart(cluster, *ALL)
    assert cluster.until(lambda: all_vote(cluster), LONG) <= 6_000
    table = cluster.living()[0].table
    assert [seat.name for seat in table.members] == ["a", "b", "c"]
    assert [seat.home for seat in table.members] == [seat.home for seat in before.members]
    assert [seat.boot for seat in table.members] == [2, 2, 2]
    assert table.counts()["lost"] == SLOTS
    assert logged(cluster, "node.vote_kept") == 3
    cluster.start("d")  # and it goes on from here
    cluster.until(lambda: all_vote(cluster), LONG)
    cluster.kill(*ALL, "d")
    restart(cluster, *ALL, "d")
    cluster.until(lambda: all_vote(cluster), LONG)
    assert {seat.boot for seat in cluster.living()[0].table.members} == {1, 3}


@pytest.mark.parametrize("back", [("a", "b"), ("b", "c")])
def test_two_of_three_that_come_back_are_enough(back: tuple[str, ...]) -> None:
    cluster = founded(*ALL, disks=ALL)
    cluster.kill(*ALL)
    restart(cluster, *back)
    cluster.until(lambda: all_vote(cluster), LONG)
    table = cluster.living()[0].table
    assert table.counts()["lost"] + table.counts()["unavailable"] == SLOTS
    assert table.counts()["unavailable"] > 0  # the third may return, for all that anybody knows
    restart(cluster, *{*ALL} - {*back})
    cluster.until(lambda: all_vote(cluster) and len(cluster.living()) == 3, LONG)


def test_one_of_three_that_come_back_without_data_gets_a_seat_from_the_two_others() -> None:
    cluster = founded(*ALL, disks=("a", "b"))
    cluster.kill(*ALL)
    restart(cluster, *ALL)
    cluster.until(lambda: all_vote(cluster), LONG)
    assert cluster.living()[0].table.counts()["lost"] == SLOTS


@pytest.mark.parametrize("disks", [(), ("a", "c"), ALL])
@pytest.mark.parametrize("down", [0, 400, 4_000])
def test_a_rolling_restart_ends_with_all_seated_and_voting(disks: tuple[str, ...], down: int) -> None:
    cluster = founded(*ALL, disks=disks)
    for name in ALL:
        cluster.kill(name)
        cluster.run(down)
        epoch = cluster.newest
        cluster.start(name)
        cluster.until(lambda epoch=epoch: cluster.newest > epoch and all_vote(cluster), LONG)  # type: ignore[misc]
    assert [seat.name for seat in cluster.living()[0].table.members] == ["a", "b", "c"]
    assert cluster.living()[0].table.counts()["lost"] == SLOTS


def test_a_majority_that_is_replaced_without_data_leaves_the_rest_fenced() -> None:
    cluster = founded(*ALL)
    cluster.kill("b", "c")
    restart(cluster, "b", "c")
    cluster.run(LONG)
    assert cluster.processes["a"].control.contact.fenced
    assert cluster.processes["a"].table.epoch == 1


def test_who_restarts_with_another_graph_yields_with_a_sentence_though_its_directory_knows_the_cluster() -> None:
    cluster = founded(*ALL, disks=ALL)
    cluster.kill("c")
    cluster.graph = "changed"
    restart(cluster, "c")
    cluster.run(8_000)
    assert "graph is 'changed' at this node" in cluster.processes["c"].stopped
    assert [each.stopped for each in cluster.living()] == ["", ""]
    cluster.graph = "graph"
    restart(cluster, "c")
    cluster.until(lambda: all_vote(cluster), LONG)


def test_a_directory_of_a_cluster_with_another_number_of_slots_is_refused_at_the_start() -> None:
    cluster = founded(*ALL, disks=ALL)
    cluster.kill("c")
    cluster.slots = 2 * SLOTS
    with pytest.raises(ValueError, match="64 slots, where this node has 128"):
        restart(cluster, "c")


def test_a_table_with_another_number_of_slots_is_not_learnt() -> None:
    cluster = Cluster(*ALL)
    cluster.until(lambda: len(cluster.processes["a"].control.membership.members) == 3, LONG)
    other = Cluster(*ALL, seed=1)
    other.until(other.settled, LONG)
    table = other.processes["a"].table
    half = replace(table, slots=table.slots[: SLOTS // 2])
    told = Received(cluster.processes["b"].node, Chosen(1, table_to_bytes(half)))
    assert rejected(cluster.processes["a"].control.handle(told, cluster.now)) == ["value"]


# -- old copies


def test_an_old_copy_of_a_directory_does_not_vote_and_stops() -> None:
    cluster = founded(*ALL, disks=ALL)
    copy = dict(cluster.disks["b"])
    cluster.kill("b")
    restart(cluster, "b")
    cluster.until(lambda: all_vote(cluster), LONG)
    cluster.run(3_000)  # all voters have heard of it by now
    cluster.kill("b")
    cluster.disks["b"] = copy
    cluster.start("b")
    cluster.until(lambda: cluster.processes["b"].stopped != "", 3_000)
    assert "is an old copy" in cluster.processes["b"].stopped
    assert "this is start 2" in cluster.processes["b"].stopped
    del cluster.disks["b"]  # as it is told: an empty one, as a new member
    cluster.start("b")
    cluster.until(lambda: all_vote(cluster), LONG)


def test_the_longest_serving_of_two_does_not_decide_alone_about_its_own_directory() -> None:
    cluster = founded("a", "b", disks=("a", "b"))
    copy = dict(cluster.disks["a"])
    cluster.kill("a")
    restart(cluster, "a")
    cluster.until(lambda: all_vote(cluster), LONG)
    cluster.kill("a", "b")
    cluster.disks["a"] = copy
    cluster.start("a")
    cluster.run(LONG)
    assert cluster.processes["a"].stopped == ""
    assert not cluster.processes["a"].control.boots.confirmed
    cluster.start("b")
    cluster.until(lambda: cluster.processes["a"].stopped != "", LONG)


def test_of_two_processes_of_one_directory_the_later_start_stays() -> None:
    cluster = founded(*ALL, disks=ALL)
    cluster.kill("b")
    restart(cluster, "b")
    cluster.until(lambda: all_vote(cluster), LONG)
    cluster.disks["twin"] = dict(cluster.disks["b"])
    cluster.start("twin")  # somebody copied it while it was in use, and gave the other one another name
    cluster.until(lambda: cluster.processes["b"].stopped != "", LONG)
    cluster.run(3_000)
    assert cluster.processes["twin"].stopped == ""


class AsksNobody(Cluster):
    """For a mutant: whoever restarts takes itself for confirmed."""

    def start(self, name: str, role: str = "worker"):  # type: ignore[no-untyped-def]
        process = super().start(name, role)
        process.control.boots._settled = process.control.boots.confirmed = True
        process.control.agreement._confirmed = process.control.contact._votes = True
        return process


def copied_back(kind: type[Cluster]) -> Cluster:
    """B and C decide while A is away; then B works from an old copy, with A, while C is away."""
    cluster = kind(*ALL, disks=ALL)
    cluster.until(cluster.settled, LONG)
    cluster.run(1_500)
    cluster.kill("b")
    cluster.start("b")
    cluster.until(lambda: all_vote(cluster), LONG)
    copy = dict(cluster.disks["b"])
    cluster.kill("b")
    cluster.start("b")
    cluster.until(lambda: all_vote(cluster), LONG)
    cluster.run(3_000)
    cluster.cut = {"a"}
    cluster.start("d")
    cluster.run(3_000)
    cluster.kill("b", "c", "d")
    cluster.cut = set()
    cluster.disks["b"] = copy
    cluster.start("b")
    cluster.run(LONG)
    return cluster


def test_an_old_directory_and_a_node_that_was_away_decide_nothing_anew() -> None:
    cluster = copied_back(Cluster)
    assert "is an old copy" in cluster.processes["b"].stopped
    assert cluster.processes["a"].control.contact.fenced


def test_mutant_a_vote_across_boots_without_confirmation_decides_an_epoch_twice() -> None:
    with pytest.raises(AssertionError, match="two tables of epoch"):
        copied_back(AsksNobody)


# -- losses that are accepted


def test_what_is_lost_starts_again_once_an_operator_accepts_it_and_the_lease_is_over() -> None:
    cluster = founded(*ALL)
    cluster.kill("b")
    restart(cluster, "b")
    cluster.until(all_lost_are_known(cluster), LONG)
    lost_at = cluster.now
    lost = [slot for slot in range(SLOTS) if cluster.processes["c"].table.state_of(slot) == "lost"]
    cluster.tell("c", AcceptLoss(tuple(lost[:3])))
    cluster.until(lambda: cluster.processes["a"].table.counts()["lost"] == len(lost) - 3, LONG)
    assert LEASE - 100 <= cluster.now - lost_at <= LEASE + 1_000
    table = cluster.processes["a"].table
    assert {table.state_of(slot) for slot in lost[:3]} == {"active"}
    assert {table.slots[slot].term for slot in lost[:3]} == {3}
    cluster.tell("b", AcceptLoss())
    cluster.until(lambda: cluster.processes["a"].table.counts()["active"] == SLOTS, 1_000)
    assert cluster.processes["a"].table.spread() <= 1
    assert logged(cluster, "partition.loss_accepted") > 0


def test_the_lease_of_a_loss_is_counted_from_when_a_majority_knows_of_it() -> None:
    cluster = founded(*ALL, "d", "e")
    cluster.kill("e")
    cluster.until(cluster.settled, LONG)
    kept = {each: cluster.processes[each] for each in "abcd"}
    cluster.deaf = lambda sender, receiver, message: (
        isinstance(message, Chosen) and table_from_bytes(message.value).counts()["lost"] > 0
    )
    restart(cluster, "e")
    cluster.until(lambda: kept["a"].table.counts()["lost"] > 0, LONG)
    deciding = (Prepare, Promise, Accept, Accepted, Outbid, Chosen, EpochKnown, EpochHeld)
    cluster.deaf = lambda sender, receiver, message: isinstance(message, deciding)
    cluster.tell("a", AcceptLoss())
    cluster.run(2 * LEASE)
    assert kept["b"].table.counts()["lost"] == 0  # and may have confirmed that to an owner until now
    cluster.deaf = lambda sender, receiver, message: False
    assert LEASE - 100 <= cluster.until(lambda: kept["a"].table.counts()["active"] == SLOTS, LONG) <= LEASE + 3_000


def all_lost_are_known(cluster: Cluster):  # type: ignore[no-untyped-def]
    return lambda: cluster.settled() and cluster.living()[0].table.counts()["lost"] > 0


def test_a_loss_that_is_accepted_before_the_voters_hear_is_asked_for_again() -> None:
    cluster = founded(*ALL)
    cluster.kill("b")
    restart(cluster, "b")
    cluster.until(all_lost_are_known(cluster), LONG)
    cluster.cut = {"b"}
    cluster.tell("b", AcceptLoss())
    cluster.run(900)
    cluster.cut = set()
    cluster.until(lambda: cluster.processes["a"].table.counts()["active"] == SLOTS, LONG)


def test_what_is_lost_later_is_not_given_up_by_an_older_word() -> None:
    cluster = founded(*ALL)
    cluster.tell("a", AcceptLoss())  # nothing is lost yet
    cluster.kill("b")
    restart(cluster, "b")
    cluster.until(all_lost_are_known(cluster), LONG)
    cluster.tell("a", AcceptLoss())
    cluster.until(lambda: cluster.processes["a"].table.counts()["active"] == SLOTS, LONG)
    cluster.kill("c")
    restart(cluster, "c")
    cluster.until(all_lost_are_known(cluster), LONG)
    cluster.run(LONG)
    assert cluster.processes["a"].table.counts()["lost"] == 21


# -- a majority that is gone


def test_an_operator_has_the_rest_go_on_without_the_majority() -> None:
    cluster = founded("a", "b", "c", "d", "e")
    survivors = ("b", "d")
    cluster.kill("a", "c", "e")
    cluster.run(8_000)
    assert cluster.processes["b"].control.contact.fenced
    cluster.tell("d", Recover())
    cluster.until(lambda: all_vote(cluster), LONG)
    table = cluster.processes["b"].table
    assert table.generation == 1
    assert [seat.name for seat in table.members] == [*survivors]
    assert table.counts()["active"] > 0
    assert table.counts()["lost"] == SLOTS - table.counts()["active"]
    assert logged(cluster, "cluster.recovered") == 2
    cluster.tell("b", AcceptLoss())
    cluster.until(lambda: cluster.processes["b"].table.counts()["active"] == SLOTS, LONG)
    cluster.start("f")
    cluster.until(lambda: all_vote(cluster), LONG)


def test_a_recovery_is_refused_where_a_majority_is_in_touch() -> None:
    cluster = founded(*ALL)
    cluster.kill("c")
    cluster.run(8_000)
    epoch = cluster.newest
    cluster.tell("a", Recover())
    cluster.run(8_000)
    assert cluster.newest == epoch
    assert logged(cluster, "cluster.recovery_refused") == 1


def test_who_was_only_cut_off_learns_of_the_recovery_and_stops() -> None:
    cluster = founded(*ALL)
    cluster.cut = {"a"}
    cluster.run(8_000)
    assert cluster.processes["b"].table.epoch > 1  # the majority went on, and an operator did not know
    cluster.tell("a", Recover())
    cluster.run(4_000)
    assert cluster.processes["a"].table.epoch == GENERATION
    cluster.cut = set()
    cluster.until(lambda: all_vote(cluster), LONG)
    for name in "bc":  # it was told in time, or it was taken in again before it was
        process = cluster.processes[name]
        assert f"recovered without node '{name}'" in process.stopped or process.table.generation == 1
    assert {each.stopped == "" for each in cluster.processes.values()} == {True, False}


def test_the_rest_of_a_restart_recovers_with_what_its_directories_know() -> None:
    cluster = founded(*ALL, disks=ALL)
    cluster.kill(*ALL)
    cluster.start("c")
    cluster.run(8_000)
    cluster.tell("c", Recover())
    cluster.until(lambda: all_vote(cluster), LONG)
    assert cluster.processes["c"].table.counts()["lost"] == SLOTS


# -- what stirs the planner


def late(cluster: Cluster, kind: type[Message], name: str) -> None:
    """For a while nothing of this kind from `name` arrives; everything else is over by then."""
    cluster.deaf = lambda sender, receiver, message: isinstance(message, kind) and name in (sender, receiver)
    cluster.start(name, "witness" if kind is EpochKnown else "worker")
    cluster.run(6_000)
    cluster.deaf = lambda sender, receiver, message: False


def test_who_shows_late_that_it_has_caught_up_gets_its_vote_then() -> None:
    cluster = founded("a", "b")
    late(cluster, EpochKnown, "w")
    assert len(cluster.processes["a"].table.voters()) == 2
    cluster.until(lambda: len(cluster.processes["a"].table.voters()) == 3, within=2_000)


def test_mutant_a_planner_that_is_not_stirred_by_who_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = Contact._holds

    def silent(self: Contact, node: bytes, epoch: int) -> list[Effect]:
        holds(self, node, epoch)
        return []

    monkeypatch.setattr(Contact, "_holds", silent)
    cluster = founded("a", "b")
    late(cluster, EpochKnown, "w")
    cluster.run(LONG)
    assert len(cluster.processes["a"].table.voters()) == 2


# -- anything may happen


@pytest.mark.parametrize("seed", range(16))
def test_through_storms_of_restarts_with_and_without_directories_one_table_comes_out(seed: int) -> None:
    """One process at a time, or all that have directories, restarts; never is a majority of memories gone."""
    random = Random(seed)
    disks = ALL if seed % 2 else ("a", "b")
    cluster = founded(*ALL, disks=disks, seed=seed)
    for _ in range(8):
        cluster.loss = random.choice([0.0, 0.05, 0.2])
        cluster.delay = random.choice([5, 30, 80])
        match random.randrange(4):
            case 0:
                _bounce(cluster, random, disks)
            case 1:
                _bounce(cluster, random, (random.choice(ALL),))
                cluster.loss, cluster.delay = 0.0, 10
                cluster.until(lambda: all_vote(cluster), 60_000)
            case 2:
                cluster.cut = {each for each in ALL if random.random() < 0.3}
            case 3:
                cluster.tell(random.choice(ALL), AcceptLoss())
        cluster.run(random.choice([50, 500, 3_000]))
        cluster.cut = set()
    cluster.loss, cluster.delay = 0.0, 10
    cluster.until(lambda: all_vote(cluster), 60_000)
    cluster.tell("a", AcceptLoss())
    cluster.until(lambda: cluster.living()[0].table.counts()["active"] == SLOTS, LONG)
    assert not any(each.stopped for each in cluster.processes.values())


def _bounce(cluster: Cluster, random: Random, names: tuple[str, ...]) -> None:
    cluster.kill(*names)
    cluster.run(random.choice([0, 100, 2_000]))
    restart(cluster, *names)


# -- bad input


def rejected(effects: list[Effect]) -> list[str]:
    return [each.reason for each in effects if isinstance(each, Rejected)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (BootKnown(b"x" * 16, 9, False), "boot"),
        (BootKnown(b"x" * 16, 1, True), "boot"),
        (Booted(b"x" * 16, 7), "boot"),
        (Installed(1, b"abc", (1,)), "installed"),
        (LossAccepted(1, b"abc", (1,)), "loss"),
        (LeaveAsked(b"x" * 16), "leave"),
    ],
)
def test_what_nobody_asked_for_or_speaks_of_another_node_is_counted_and_stops_nobody(
    message: Message, reason: str
) -> None:
    cluster = founded(*ALL, disks=ALL)
    told = cluster.processes["a"].control.handle(Received(cluster.processes["b"].node, message), cluster.now)
    assert reason in rejected(told)
    cluster.run(3_000)
    assert all_vote(cluster)


def absurd(cluster: Cluster) -> dict[str, list[Member]]:
    mine = cluster.processes["a"].control.membership.me
    third = cluster.processes["c"].control.membership.me
    crowd = [replace(third, node=n.to_bytes(16), name=f"x{n}", endpoint=f"tcp://x:{n + 1}") for n in range(2_000)]
    return {
        "incarnation": [replace(third, incarnation=1 << 62, status=DEAD), replace(mine, incarnation=1 << 62)],
        "boot": [replace(third, boot=1 << 62), replace(third, boot=0), replace(third, home=b"short")],
        "status": [replace(third, status=77), replace(third, leaving=9), replace(third, role="king")],
        "own": [replace(mine, status=DEAD, incarnation=5), replace(mine, status=LEFT)],
        "crowd": crowd,
    }


@pytest.mark.parametrize("kind", ["incarnation", "boot", "status", "own", "crowd"])
def test_absurd_gossip_is_counted_and_bounded_and_changes_no_table(kind: str) -> None:
    cluster = founded(*ALL)
    told = absurd(cluster)[kind]
    epoch, liar, victim = cluster.newest, cluster.processes["b"], cluster.processes["a"]
    reasons = rejected(victim.control.handle(Received(liar.node, Gossip(tuple(told))), cluster.now))
    assert reasons
    assert len(victim.control.membership.members) <= 3 + MAX_GOSSIP
    assert victim.control.membership.me.status == ALIVE
    cluster.run(500)
    assert cluster.newest == epoch or kind == "crowd"  # who is said to have come is a newcomer, until it is found dead
    assert [seat.up for seat in victim.table.members[:3]] == [True, True, True]


def test_a_whole_table_of_strangers_is_bounded() -> None:
    cluster = founded(*ALL)
    third = cluster.processes["c"].control.membership.me
    crowd = [replace(third, node=n.to_bytes(16), name=f"x{n}", status=DEAD) for n in range(MAX_MEMBERS + 500)]
    victim = cluster.processes["a"].control
    told = victim.handle(Received(cluster.processes["b"].node, PushPull(tuple(crowd), False)), cluster.now)
    assert "gossip-too-long" in rejected(told)
    assert len(victim.membership.members) <= MAX_MEMBERS
    assert victim.table is not None
    assert len(victim.table.members) == 3
