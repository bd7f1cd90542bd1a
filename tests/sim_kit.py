"""Scenarios that a test writes down instead of drawing them, and how a test says which seed failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from mesh.core.membership.tuning import LOOPBACK
from mesh.sim.faults import Fault
from mesh.sim.network import Conditions
from mesh.sim.scenario import NAMES, Scenario, Setup, scenario_of
from mesh.sim.violation import Violation
from mesh.sim.workload import StageShape, Workload
from mesh.sim.world import Summary, World


def small_workload(splits: int = 4, *stages: StageShape, lines: int = 20) -> Workload:
    """Two stages, unless others are named; `4 * splits * lines` records."""
    contents = tuple(
        tuple((f"0/{split}", 4 * line, tuple(range(4 * line, 4 * line + 4))) for line in range(lines))
        for split in range(splits)
    )
    shapes = stages or (StageShape("step", 20, False), StageShape("fold", 5, False))
    return Workload(shapes, (contents,), 3, False)


def scenario(*faults: Fault, workers: int = 3, witness: bool = False, disks: bool = False, **changes: Any) -> Scenario:
    """A healthy cluster of nodes that start together, with three seconds of work, and what is done to it."""
    names = NAMES[: workers + witness]
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
        pace=200,
        faults=faults,
        reads=tuple(range(1_000, 3_000, 40)),
    )
    return dataclasses.replace(plain, **changes)


def finished(scenario: Scenario) -> tuple[World, Summary]:
    """The world after its run."""
    world = World(scenario)
    return world, world.run()


def survive(seed: int) -> Summary:
    """A seed's world holds, or the test says how to see why not."""
    try:
        return World(scenario_of(seed)).run()
    except Violation as violation:
        pytest.fail(f"{violation}\nreplay it: python tools/simulate.py --seed {seed}", pytrace=False)


def first_violation(scenarios: Iterable[Scenario]) -> Violation | None:
    """Of these worlds, in order: what a mutant is caught by."""
    for each in scenarios:
        try:
            World(each).run()
        except Violation as violation:
            return violation
    return None
