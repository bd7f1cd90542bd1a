"""Members that come and go in the middle of a job, and networks that are torn: each once, on purpose."""

from __future__ import annotations

import dataclasses

import pytest

from mesh.core.membership.tuning import LAN
from mesh.sim.comings import Join, Leave, RollingRestart
from mesh.sim.faults import EMPTY, OLD, BackUp, Crash, Cut, Fault, Pause, Restart, SlowDisk, Torn
from mesh.sim.scenario import NAMES, scenario_of
from mesh.sim.world import Summary, World
from tests.sim_kit import coming, finished, scenario

BUSY = 1_500  # the job is under way


def came_right(world: World, summary: Summary) -> dict[str, int]:
    """The slots of each member; all work is done, and every slot has an owner that is there."""
    assert summary.done
    table = world.checkers.table
    assert table is not None
    assert table.counts()["active"] == len(table)
    assert table.spread() <= 1
    return {seat.name: count for seat, count in zip(table.members, table.owned_counts(), strict=True)}


def test_who_joins_gets_its_share_and_the_job_goes_on() -> None:
    world, summary = finished(coming(Join(BUSY, 0, "delta")))
    assert came_right(world, summary) == {"alpha": 4, "beta": 4, "gamma": 4, "delta": 4}
    assert summary.moved == 4


def test_who_leaves_gives_away_what_it_has_and_ends() -> None:
    world, summary = finished(coming(Leave(BUSY, 0, "beta")))
    assert sorted(came_right(world, summary)) == ["alpha", "gamma"]
    assert (summary.left, summary.suspicions) == (1, 0)


def test_two_joins_and_a_leave_at_once() -> None:
    arrivals = [Join(BUSY, 0, "delta"), Join(BUSY, 0, "epsilon")]
    world, summary = finished(coming(*arrivals, Leave(BUSY, 0, "gamma")))
    assert sorted(came_right(world, summary)) == ["alpha", "beta", "delta", "epsilon"]


def test_a_split_may_change_its_reader_when_that_leaves() -> None:
    world, _ = finished(coming(Leave(BUSY, 0, "beta")))
    assert any(len(world.ledger.readers(f"0/{split}")) == 2 for split in range(4))


def test_who_left_may_come_back_under_its_name() -> None:
    world, summary = finished(coming(Leave(BUSY, 0, "beta", 10)))
    assert sorted(came_right(world, summary)) == ["alpha", "beta", "gamma"]
    assert len(world.hosts["beta"].processes) == 2


def test_who_leaves_before_it_knows_of_its_seat_takes_nothing_along() -> None:
    """It once went at once, by its old table, and was missed for ever."""
    _, summary = finished(scenario_of(5706, copies=1, durable=False))
    assert summary.done


@pytest.mark.parametrize("seed", [102252, 200102])
def test_worlds_that_went_wrong_once(seed: int) -> None:
    """A leave asked for in a cut was forgotten; what one that was down had given away counted for nobody."""
    _, summary = finished(scenario_of(seed, copies=1, durable=False))
    assert summary.done


def test_a_network_that_splits_during_a_join_and_a_leave_delays_them() -> None:
    split = Cut(BUSY + 50, 6_000, ("alpha", "delta"), ("beta", "gamma"))
    world, summary = finished(coming(Join(BUSY, 0, "delta"), Leave(BUSY, 0, "gamma"), split))
    assert sorted(came_right(world, summary)) == ["alpha", "beta", "delta"]
    assert summary.fences >= 2


@pytest.mark.parametrize("disks", [False, True])
def test_a_rolling_restart_of_leaving_nodes_loses_nothing(disks: bool) -> None:
    world, summary = finished(coming(RollingRestart(BUSY, 0, NAMES[:3]), disks=disks))
    assert sorted(came_right(world, summary)) == ["alpha", "beta", "gamma"]
    assert [len(world.hosts[name].processes) for name in NAMES[:3]] == [2, 2, 2]


@pytest.mark.parametrize("disks", [False, True])
def test_after_a_rolling_restart_of_killed_nodes_they_agree_again(disks: bool) -> None:
    world, summary = finished(coming(RollingRestart(BUSY, 0, NAMES[:3], crashes=True), disks=disks))
    assert not summary.done
    table = world.checkers.table
    assert table is not None
    assert table.counts() == {"active": 0, "pending": 0, "unavailable": 0, "lost": 16}


def test_nodes_with_disks_go_on_after_all_of_them_have_crashed_at_once() -> None:
    crashes: list[Fault] = [Crash(BUSY, 0, name) for name in NAMES[:3]]
    world, _ = finished(coming(*crashes, *(Restart(BUSY + 500, 0, name) for name in NAMES[:3]), disks=True))
    assert world.checkers.table is not None
    assert {seat.node for seat in world.checkers.table.members} == {each.id for each in world.processes[3:]}


def test_an_old_directory_has_no_vote_and_its_node_refuses_to_start() -> None:
    restarts = [Crash(BUSY + 200, 0, "gamma"), Restart(BUSY + 300, 0, "gamma")]
    back = [Crash(BUSY + 6_000, 0, "gamma"), Restart(BUSY + 6_300, 0, "gamma", OLD)]
    world, _ = finished(coming(BackUp(BUSY, 0, "gamma"), *restarts, *back, disks=True))
    last = world.hosts["gamma"].process
    assert last is not None
    assert "an old copy" in last.stopped


def test_an_old_directory_is_refused_however_often_it_is_started() -> None:
    restarts = [Crash(BUSY + 200, 0, "gamma"), Restart(BUSY + 300, 0, "gamma")]
    back = [Crash(BUSY + 6_000, 0, "gamma"), Restart(BUSY + 6_300, 0, "gamma", OLD)]
    again = [Restart(BUSY + 12_000 + number * 4_000, 0, "gamma") for number in range(3)]
    world, _ = finished(coming(BackUp(BUSY, 0, "gamma"), *restarts, *back, *again, disks=True))
    stopped = [each.stopped for each in world.hosts["gamma"].processes[2:]]
    assert len(stopped) == 4
    assert all("an old copy" in each for each in stopped)


def test_a_torn_write_costs_a_node_its_directory_and_nothing_else() -> None:
    crashes = [SlowDisk(BUSY, 4_000, "gamma"), Crash(BUSY + 2_500, 0, "gamma", torn=True)]
    world, _ = finished(coming(Leave(BUSY, 0, "beta"), *crashes, Restart(BUSY + 3_000, 0, "gamma"), disks=True))
    assert world.hosts["gamma"].memory == 1


def test_a_node_may_start_again_with_an_empty_directory() -> None:
    world, _ = finished(coming(Crash(BUSY, 0, "gamma"), Restart(BUSY + 300, 0, "gamma", EMPTY), disks=True))
    first, second = world.hosts["gamma"].processes
    assert first.node.identity.me.home != second.node.identity.me.home


# -- torn networks ----------------------------------------------------------------------------------------------------

FIVE = NAMES[:5]
RING = tuple((a, b) for i, a in enumerate(FIVE) for j, b in enumerate(FIVE) if (i - j) % 5 in (2, 3))
BRIDGE = tuple(pair for a in FIVE[:2] for b in FIVE[3:] for pair in ((a, b), (b, a)))


@pytest.mark.parametrize(("shape", "pairs"), [("ring", RING), ("bridge", BRIDGE)])
def test_where_no_two_see_the_same_majority_nothing_is_lost(shape: str, pairs: tuple[tuple[str, str], ...]) -> None:
    world, summary = finished(scenario(Torn(BUSY, 8_000, shape, pairs), workers=5, pace=400))
    came_right(world, summary)


def test_a_link_that_flaps_loses_nothing() -> None:
    flaps = [Cut(BUSY + 800 * beat, 400, ("alpha",), ("beta",)) for beat in range(8)]
    world, summary = finished(scenario(*flaps, pace=400))
    came_right(world, summary)


def test_clocks_that_drift_apart_disturb_nobody() -> None:
    plain = scenario(pace=400)
    clocks = [(900, 7), (1_000, 123_456), (1_100, 99)]
    setups = tuple(dataclasses.replace(each, clock=clock) for each, clock in zip(plain.setups, clocks, strict=True))
    world, summary = finished(dataclasses.replace(plain, setups=setups))
    came_right(world, summary)
    assert summary.suspicions == 0
    assert world.processes[2].now > world.now > world.processes[0].now


def test_a_minority_stops_and_goes_on_when_the_network_heals() -> None:
    world, summary = finished(scenario(Cut(BUSY, 9_000, ("alpha",), ("beta", "gamma")), pace=2_000))
    assert summary.fences == 1
    came_right(world, summary)


def test_a_pause_that_is_taken_for_death_costs_no_state() -> None:
    world, summary = finished(scenario(Pause(BUSY, 9_000, "beta"), pace=2_000))
    came_right(world, summary)
    assert world.checkers.table is not None
    assert world.checkers.table.epoch > 2


# -- many -------------------------------------------------------------------------------------------------------------


def test_twenty_nodes_bear_a_join_and_a_leave_and_seven_of_them_vote() -> None:
    """Fifty take 15 s: now and then a seed has as many."""
    plain = coming(Join(BUSY, 0, NAMES[20]), Leave(BUSY, 0, NAMES[3]), workers=20, joiners=1)
    world, summary = finished(dataclasses.replace(plain, slots=256, tuning=LAN, reads=()))
    assert len(came_right(world, summary)) == 20
    assert world.checkers.table is not None
    assert len(world.checkers.table.voters()) == 7
