"""Whole simulated clusters with stores: any of them die, all at once too, and what was acknowledged is there again.

Then deliberate mistakes, each of which one of these worlds catches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import pytest

from mesh.core.storing import StoreFull
from mesh.core.table import WORKER
from mesh.sim.faults import EMPTY, OLD, BackUp, Crash, Fault, Restart, SlowDisk
from mesh.sim.host import Disk
from mesh.sim.outages import FullDisk, PowerLoss
from mesh.sim.process import Process
from mesh.sim.scenario import Scenario, scenario_of
from mesh.sim.stores import ForgetfulStore, Stores
from mesh.sim.transcript import Transcript
from mesh.sim.world import World
from tests import test_shelf_worlds as mistakes
from tests.sim_kit import finished, first_violation, is_caught, scenario

Patch = pytest.MonkeyPatch

NAMES = ("alpha", "beta", "gamma")
LITTLE = Stores(warm_bytes=0, journal=20)


def durable(*faults: Fault, copies: int = 1, pace: int = 60) -> Scenario:
    return scenario(*faults, disks=True, copies=copies, stores=LITTLE, pace=pace)


def all_die(at: int, *, back: int = 300) -> PowerLoss:
    return PowerLoss(at, back + 1, tuple((name, back) for name in NAMES))


# -- clusters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2])
def test_all_lose_their_power_in_the_middle_of_a_job_and_it_is_done_all_the_same(copies: int) -> None:
    """Twice; and without stores it never is."""
    faults = all_die(2_000), all_die(4_500)
    world, summary = finished(durable(*faults, copies=copies, pace=200))
    assert summary.done
    assert [len(world.hosts[name].processes) for name in NAMES] == [3, 3, 3]
    _, without = finished(scenario(*faults, disks=True, copies=copies))
    assert not without.done


def test_with_one_copy_a_slot_waits_for_its_owner_and_nothing_is_lost() -> None:
    world = World(durable(Crash(2_000, 0, "beta"), Restart(7_000, 0, "beta"), pace=200))
    seen: list[dict[str, int]] = []

    def look(_: None) -> None:
        assert world.checkers.table is not None
        seen.append(world.checkers.table.counts())

    world.at(6_900, look, None)
    assert world.run().done
    assert seen[0]["unavailable"] >= 5
    assert seen[0]["lost"] == 0


def test_who_never_comes_back_is_waited_for_and_the_job_is_never_called_done() -> None:
    world, summary = finished(durable(Crash(2_000, 0, "beta"), pace=200))
    assert not summary.done
    assert not any(process.job_done for process in world.processes)


def test_what_waits_for_a_slow_commit_is_seen_by_nobody() -> None:
    """Its owner alone has applied it: no sink has an item of it."""
    world = World(durable(*(SlowDisk(40, 4_000, name) for name in NAMES)))
    seen: list[tuple[int, int]] = []

    def look(_: None) -> None:
        keyed = sum(process.node.data.records_keyed for process in world.processes)
        seen.append((keyed, world.ledger.arrived))

    world.at(500, look, None)
    assert world.run().done
    assert seen[0][0] > 20
    assert seen[0][1] == 0


def test_a_full_disk_stops_its_node_which_goes_on_by_itself_once_there_is_room() -> None:
    lines: list[str] = []
    world = World(durable(FullDisk(1_500, 3_000, "beta"), pace=200), Transcript(lines.append))
    applied: list[int] = []

    def look(process: Process) -> None:
        applied.append(process.node.data.records_keyed)

    for time in (2_500, 4_400):
        world.at(time, lambda _: look(world.processes[1]), None)
    assert world.run().done
    assert applied[0] == applied[1]
    told = [line for line in lines if "store." in line]
    assert ["store.full" in told[0], "store.goes_on" in told[-1], len(told)] == [True, True, 2]


def test_who_dies_while_its_disk_is_full_has_what_it_had_acknowledged() -> None:
    full = FullDisk(1_500, 3_000, "beta"), Crash(2_500, 0, "beta"), Restart(3_000, 0, "beta")
    _, summary = finished(durable(*full, pace=200))
    assert summary.done


def test_an_old_copy_of_a_directory_is_refused_and_an_empty_one_is_filled() -> None:
    faults = [
        BackUp(1_500, 0, "beta"),
        Crash(1_600, 0, "beta"), Restart(1_700, 0, "beta"),
        Crash(6_000, 0, "beta"), Restart(6_300, 0, "beta", OLD), Restart(9_000, 0, "beta", EMPTY),
    ]  # fmt: skip
    world, summary = finished(durable(*faults, copies=2, pace=200))
    assert summary.done
    _, _, old, new = world.hosts["beta"].processes
    assert "an old copy" in old.stopped
    assert not new.stopped
    assert new.host.memory == 2


# -- one store --------------------------------------------------------------------------------------------------------


def puts(store: ForgetfulStore, *numbers: int) -> None:
    for number in numbers:
        store.put([(0, 0, b"%d" % number, b"here"), (1, 0, b"%d" % number, b"here")], {0: b"meta"})


def found(store: ForgetfulStore) -> list[int]:
    both = [[int(key) for _, key, _ in store.scan(slot).states] for slot in (0, 1)]
    assert both[0] == both[1], "a put is whole"
    return both[0]


def test_a_crash_leaves_what_is_durable_and_a_part_of_what_was_put_since() -> None:
    left = []
    for seed in range(20):
        store = ForgetfulStore()
        puts(store, 1, 2)
        covered = store.begin()
        puts(store, 3, 4)
        store.commit(covered)
        assert found(store) == [1, 2, 3, 4]
        after = store.crash(Random(seed))
        assert after.metas() == {0: b"meta"}
        left.append(found(after))
    assert sorted(map(len, left))[:: len(left) - 1] == [2, 4]
    assert all(each == [1, 2, 3, 4][: len(each)] for each in left)


def test_a_copy_of_a_directory_has_what_was_durable_then_and_stays_as_full_as_the_disk() -> None:
    disk = Disk(ForgetfulStore())
    assert disk.store is not None
    disk.records = {"identity": b"first", "agreement.epoch.1": b"table"}
    puts(disk.store, 1)
    disk.store.commit()
    puts(disk.store, 2)
    disk.copy()
    disk.store.commit()
    disk.store.full = True
    with pytest.raises(StoreFull):
        puts(disk.store, 3)
    disk.crash(Random(0), torn=False)
    assert found(disk.store) == [1, 2]
    disk.records["identity"] = b"second"
    assert disk.restore()
    assert found(disk.store) == [1]
    assert disk.store.full
    disk.empty()
    assert not found(disk.store)


# -- what a seed means ------------------------------------------------------------------------------------------------


def test_that_a_world_is_durable_changes_nothing_else_of_it_but_disks_and_outages() -> None:
    for seed in range(40):
        drawn, plain = scenario_of(seed, durable=True), scenario_of(seed, durable=False)
        assert all(setup.has_disk for setup in (*drawn.setups, *drawn.joiners))
        assert not any(isinstance(each, Crash) and each.torn for each in (*drawn.faults, *drawn.at_founding))
        for name in ("setups", "joiners"):
            assert [setup.name for setup in getattr(drawn, name)] == [setup.name for setup in getattr(plain, name)]
        others = ("setups", "joiners", "faults", "at_founding", "stores")
        same = dataclasses.replace(drawn, **{name: getattr(plain, name) for name in others})
        assert same == plain
        assert scenario_of(seed) in (drawn, plain)
    assert ", durable: " in scenario_of(3).words()[-2]


def test_durable_worlds_have_every_kind_of_outage_and_whoever_ends_is_started_again() -> None:
    kinds: list[str] = []
    for seed in range(60):
        drawn = scenario_of(seed, durable=True)
        faults = (*drawn.faults, *drawn.at_founding)
        back = [each.host for each in faults if isinstance(each, Restart)]
        assert all(each.host in back for each in faults if isinstance(each, Crash))
        kinds += [type(each).__name__ for each in faults]
        lost = [len(each.back) for each in faults if isinstance(each, PowerLoss)]
        kinds += ["all" if count == len(drawn.names) else "some" for count in lost]
    assert {"PowerLoss", "FullDisk", "SlowDisk", "BackUp", "all", "some"} <= {*kinds}


def test_only_workers_have_stores() -> None:
    world = World(dataclasses.replace(scenario(witness=True, disks=True), stores=LITTLE))
    for host in world.hosts.values():
        assert host.disk is not None
        assert (host.disk.store is not None) == (host.setup.role == WORKER)


# -- mistakes ---------------------------------------------------------------------------------------------------------


def commits_without_the_end_of_the_journal(patch: Patch) -> None:
    """It says that all is durable, and the last record is not."""
    commit = ForgetfulStore.commit

    def careless(self: ForgetfulStore, puts: int | None = None) -> None:
        covered = len(self._puts) if puts is None else puts
        if covered:
            del self._puts[covered - 1]
        commit(self, max(0, covered - 1))

    patch.setattr(ForgetfulStore, "commit", careless)


def begins_with_an_empty_store(patch: Patch) -> None:
    """Though there was one."""
    patch.setattr(ForgetfulStore, "crash", lambda self, random: ForgetfulStore())


ALL_DIE = [durable(all_die(at), copies=copies) for at in (2_000, 2_150, 2_300, 2_450) for copies in (1, 2)]
NOTHING_IS_COMMITTED = [
    durable(*(SlowDisk(1_400, 600, name) for name in NAMES), all_die(at)) for at in range(1_900, 2_400, 50)
]
COPIES_ARE_SLOW = [  # and the owner comes back when a copy has followed it
    durable(SlowDisk(at - 600, 1_000, "beta"), PowerLoss(at, 6_001, (("alpha", 6_000), ("beta", 3_000))), copies=2)
    for at in (2_000, 2_150)
]
FULL = [durable(FullDisk(1_500, 400, "beta"), Crash(2_700, 0, "beta"), Restart(3_000, 0, "beta"), pace=100)]
FILLED_AGAIN = [
    durable(Crash(at, 0, "beta"), Restart(at + 300, 0, "beta"), all_die(at + 2_500), copies=2, pace=150)
    for at in (1_500, 1_650)
]
SIMULATED_MUTANTS: list[tuple[Callable[[Patch], None], str, list[Scenario]]] = [
    (commits_without_the_end_of_the_journal, "I7 I8 I9 I11 I13", ALL_DIE),
    (begins_with_an_empty_store, "I7", ALL_DIE),
    (mistakes.answers_before_it_is_durable, "I7", NOTHING_IS_COMMITTED),
    (mistakes.takes_what_is_put_for_durable, "I7", NOTHING_IS_COMMITTED),
    (mistakes.acknowledges_a_commit_that_was_begun_before, "I7", NOTHING_IS_COMMITTED),
    (mistakes.acknowledges_packs_before_they_are_durable, "I7", COPIES_ARE_SLOW),
    (mistakes.puts_no_marks, "I8 I9", ALL_DIE),
    (mistakes.puts_marks_in_a_put_of_their_own, "I8 I9", NOTHING_IS_COMMITTED),
    (mistakes.puts_no_outputs, "I9", ALL_DIE),
    (mistakes.settles_a_part_and_takes_it_for_all, "I13", ALL_DIE),
    (mistakes.forgets_what_waits_for_room, "I13", FULL),
    (mistakes.forgets_at_once_that_a_copy_is_filled, "I7", FILLED_AGAIN),
]


@pytest.mark.parametrize(
    ("mutant", "rules", "worlds"), SIMULATED_MUTANTS, ids=[mutant.__name__ for mutant, _, _ in SIMULATED_MUTANTS]
)
def test_a_mutant_is_caught_by_its_rule(
    mutant: Callable[[Patch], None], rules: str, worlds: list[Scenario], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_caught(rules, worlds)


def test_without_a_mutant_these_worlds_hold() -> None:
    assert (
        first_violation(ALL_DIE[:2] + NOTHING_IS_COMMITTED[:1] + COPIES_ARE_SLOW[:1] + FULL + FILLED_AGAIN[:1]) is None
    )
