"""Each fault at least once, on purpose: it does what it says, and the cluster comes right."""

from __future__ import annotations

import pytest

from mesh.sim.faults import Crash, Cut, Fault, Pause, Reset, Restart, SlowCode, SlowDisk, Storm
from mesh.sim.network import Conditions
from mesh.sim.process import Process
from mesh.sim.world import World
from tests.sim_kit import finished, scenario, small_workload

HERE, THERE = ("alpha",), ("beta", "gamma")


def last(world: World, name: str) -> Process:
    """Who lives, or lived last, at this host."""
    process = world.hosts[name].process
    assert process is not None
    return process


def before(world: World, name: str) -> Process:
    return next(process for process in world.processes if process.name == name)


def test_a_healthy_cluster_does_its_job_without_suspecting_anybody() -> None:
    world, summary = finished(scenario())
    assert summary.done
    assert summary.suspicions == summary.lost == 0
    assert len({process.node.data.owner.key_count() for process in world.processes} - {0}) >= 1


@pytest.mark.parametrize(
    "fault",
    [
        Cut(1_000, 4_000, HERE, THERE),
        Cut(1_000, 4_000, HERE, THERE, both=False),
        Cut(1_000, 4_000, THERE, HERE, both=False),
        Storm(200, 4_000, lost=500, doubled=300, jitter=300),
        Pause(1_000, 4_000, "beta"),
    ],
    ids=lambda fault: fault.words(),
)
@pytest.mark.parametrize("holds_back", [False, True])
def test_false_suspicion_breaks_nothing(fault: Fault, holds_back: bool) -> None:
    _, summary = finished(scenario(fault, conditions=Conditions(holds_back=holds_back)))
    assert summary.suspicions
    assert summary.done


def test_a_cut_that_loses_and_one_that_holds_back_differ() -> None:
    cut = Cut(500, 3_000, HERE, THERE)
    losing, _ = finished(scenario(cut))
    holding, _ = finished(scenario(cut, conditions=Conditions(holds_back=True)))
    assert losing.network.lost > 0 == losing.network.held
    assert holding.network.held > 0 == holding.network.lost


def test_resets_lose_the_middle_of_a_stream_and_the_links_close_the_hole() -> None:
    pairs = [(sender, receiver) for sender in ("alpha", "beta") for receiver in ("beta", "gamma") if sender != receiver]
    resets = [Reset(at, 0, *pair) for at in range(300, 3_000, 20) for pair in pairs]
    _, summary = finished(scenario(*resets, conditions=Conditions(delay=15), pace=50))
    assert summary.lost > 20
    assert summary.done


def test_a_doubling_and_overtaking_network_is_as_good_as_any() -> None:
    _, summary = finished(scenario(Storm(0, 5_000, lost=0, doubled=400, jitter=80)))
    assert summary.doubled > 100
    assert summary.done


def test_the_heart_answers_while_the_applications_code_takes_seconds() -> None:
    world, summary = finished(scenario(SlowCode(300, 4_000, "beta")))
    assert summary.done
    assert summary.suspicions == 0
    assert world.now > 4_000


def test_full_windows_stop_the_sources_and_open_again() -> None:
    world = World(scenario(Pause(300, 4_000, "beta"), window_bytes=200, batch_records=4))
    full: list[bool] = []
    world.at(4_200, lambda _: full.append(not last(world, "alpha").node.data.router.open_for(0)), None)
    assert world.run().done
    assert full == [True]


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_survivors_go_on_with_what_needs_no_dead_node_and_never_say_that_the_job_is_done() -> None:
    world, summary = finished(scenario(Crash(1_000, 0, "gamma")))
    assert not summary.done
    assert not any(process.job_done for process in world.processes)
    dead = before(world, "gamma").id
    waiting = [(key, owed) for (place, _, key), owed in world.ledger.owed.items() if place == 0 and owed.seqs]
    left_over = [key for key, owed in waiting if any(producer != dead for producer in owed.seqs.values())]
    assert {world.checkers.owner_of(key) for key in left_over} == {dead}
    assert world.ledger.arrived > 0


def test_records_for_a_dead_owner_fill_its_window_and_stop_the_sources() -> None:
    world, _ = finished(
        scenario(Crash(600, 0, "gamma"), window_bytes=300, batch_records=4, workload=small_workload(lines=200))
    )
    assert not world.ledger.everything_read()
    assert last(world, "alpha").node.data.router.bytes_in_flight() > 0


@pytest.mark.parametrize("disks", [False, True])
def test_who_starts_again_is_another_member_and_what_its_name_had_is_lost(disks: bool) -> None:
    world, summary = finished(scenario(Crash(1_000, 0, "gamma"), Restart(2_000, 0, "gamma"), disks=disks))
    again = last(world, "gamma")
    assert again is not before(world, "gamma")
    table = again.node.control.table
    assert table is not None, "it is told of the partition"
    assert table.seat_of(again.id) is not None
    assert table.seat_of(before(world, "gamma").id) is None
    assert table.counts()["lost"] >= 5
    assert not summary.done


def test_a_disk_remembers_the_partition_when_nobody_can_be_asked() -> None:
    alone = Cut(1_900, 3_000, ("gamma",), ("alpha", "beta"))
    world = World(scenario(Crash(1_000, 0, "gamma"), Restart(2_000, 0, "gamma"), alone, disks=True))
    seen: list[bool] = []
    world.at(2_500, lambda _: seen.append(last(world, "gamma").node.control.table is not None), None)
    world.run()
    assert seen == [True]


@pytest.mark.parametrize("disks", [False, True])
def test_who_starts_again_before_the_founding_takes_part(disks: bool) -> None:
    early = [Crash(40, 0, "gamma"), Restart(60, 0, "gamma")]
    world, summary = finished(scenario(*early, disks=disks, conditions=Conditions(delay=20)))
    table = last(world, "gamma").node.control.table
    assert table is not None
    assert table.seat_of(last(world, "gamma").id) is not None
    assert summary.done


def test_a_crash_in_the_middle_of_the_founding_founds_one_cluster_or_none() -> None:
    """At every moment of it, with and without what the disk had not finished."""
    for at in range(20, 160, 5):
        faults = [Crash(at, 0, "alpha"), Restart(at + 500, 0, "alpha"), SlowDisk(0, 300, "beta")]
        world, _ = finished(scenario(*faults, disks=True, conditions=Conditions(delay=10), pace=0))
        assert world.checkers.table is not None


def test_too_few_nodes_found_nothing() -> None:
    world, summary = finished(scenario(Crash(1, 0, "beta"), Crash(1, 0, "gamma"), expect=2))
    assert world.checkers.table is None
    assert not summary.done
