"""Scenarios that a test writes down instead of drawing them, and how a test says which seed failed."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest

from mesh.core.membership.tuning import LOOPBACK
from mesh.sim.clients import Note, Producer
from mesh.sim.drawn import with_clients
from mesh.sim.faults import Fault
from mesh.sim.network import Conditions, Letter, Network
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
        at_founding=(),
        joiners=(),
        copies=1,
        stores=None,
    )
    return dataclasses.replace(plain, **changes)


def coming(*faults: Fault, workers: int = 3, joiners: int = 2, disks: bool = False) -> Scenario:
    """Such a cluster, and who may come to it; each knows one address."""
    names = NAMES[workers : workers + joiners]
    setups = tuple(Setup(name, "worker", disks, 0, (NAMES[0],)) for name in names)
    return scenario(*faults, workers=workers, disks=disks, joiners=setups, pace=400)


EAGER = Producer(1_000, (8,) * 12, 200, 50, loses=300, late=100)  # it asks again before it can be answered


def posted(plain: Scenario, producer: Producer = EAGER, many: int = 2, notes: tuple[Note, ...] = ()) -> Scenario:
    """Such a cluster in which nothing is read, and these producers post all that there is."""
    producers = (producer,) * many
    workload = Workload(plain.workload.stages, (), 3, False)
    with_lines = with_clients(workload, Random(1), producers)
    return dataclasses.replace(plain, workload=with_lines, producers=producers, notes=notes)


def noted(plain: Scenario, notes: tuple[Note, ...]) -> Scenario:
    """Such a cluster with its job, and notes that come meanwhile."""
    return dataclasses.replace(plain, workload=with_clients(plain.workload, Random(1), ()), notes=notes)


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


def is_caught(rules: str, scenarios: Iterable[Scenario]) -> None:
    """A mutant: in one of these worlds one of these rules is seen to be broken, and no other."""
    violation = first_violation(scenarios)
    assert violation is not None, "the mutant lives"
    assert violation.rule in rules.split(), violation


class SimulatedPair:
    """The simulated network as the contract of tests/test_transport.py wants a network: two nodes, and time passes."""

    def __init__(self) -> None:
        self._now = 0
        self._heap: list[tuple[int, int, Callable[[Letter], None], Letter]] = []
        self._arrived: list[list[bytes]] = []
        self._sent = 0
        conditions = Conditions(delay=1, jitter=20)
        self._network = Network(
            conditions, Random(7), self._at, lambda letter: self._arrived.append(list(letter.parts))
        )

    def _at(self, time: int, function: Callable[[Letter], None], letter: Letter) -> None:
        self._sent += 1
        heapq.heappush(self._heap, (time, self._sent, function, letter))

    def send(self, parts: list[bytes]) -> bool:
        self._network.send(("a", "b"), parts, self._now)
        return True

    def receive(self) -> list[list[bytes]]:
        self._now += 50
        while self._heap and self._heap[0][0] <= self._now:
            _, _, function, letter = heapq.heappop(self._heap)
            function(letter)
        arrived, self._arrived = self._arrived, []
        return arrived

    def interrupt(self) -> None:
        self._network.reset(("a", "b"))
        self._network.reset(("b", "a"))

    def close(self) -> None:
        pass
