"""The simulated cluster: fixed seeds, fresh seeds, every fault, and what it once found."""

from __future__ import annotations

import dataclasses
from typing import Any

from mesh.core.membership.tuning import LOOPBACK
from mesh.sim.faults import Fault, SlowDisk
from mesh.sim.network import Conditions
from mesh.sim.scenario import Scenario, Setup, scenario_of
from mesh.sim.workload import StageShape, Workload
from mesh.sim.world import Summary, World

NUMBERS = tuple(range(60))


def small_workload(splits: int = 4) -> Workload:
    """A quick job of two stages."""
    lines = [
        tuple((f"0/{split}", 4 * place, NUMBERS[place : place + 4]) for place in range(20)) for split in range(splits)
    ]
    stages = (StageShape("step", 20, False), StageShape("fold", 5, False))
    return Workload(stages, (tuple(lines),), 3, False)


def scenario(*faults: Fault, workers: int = 3, witness: bool = False, disks: bool = False, **changes: Any) -> Scenario:
    """A healthy cluster of loopback nodes that start together, and what is done to it."""
    names = ("alpha", "beta", "gamma", "delta", "epsilon")[: workers + witness]
    setups = tuple(
        Setup(name, "worker" if place < workers else "witness", disks, 0, tuple(each for each in names if each != name))
        for place, name in enumerate(names)
    )
    plain = dataclasses.replace(
        scenario_of(0),
        mood="forced",
        setups=setups,
        expect=workers,
        slots=16,
        tuning=LOOPBACK,
        conditions=Conditions(),
        window_bytes=4 << 20,
        batch_records=64,
        workload=small_workload(),
        pace=100,
        faults=faults,
    )
    return dataclasses.replace(plain, **changes)


def run(scenario: Scenario) -> Summary:
    return World(scenario).run()


# -- what it found ----------------------------------------------------------------------------------------------------


def test_a_witness_that_learns_the_partition_last_hears_that_the_job_is_done() -> None:
    slow_disk = SlowDisk(0, 20_000, "gamma")
    assert run(scenario(slow_disk, workers=2, witness=True, disks=True, pace=0)).done


def test_what_a_node_says_of_its_work_never_goes_back() -> None:
    """The answer to an effect once overtook the effects that were asked for before it."""
    assert run(scenario(workers=2)).done
