"""What a durable world is, beside what its seed means without stores: disks, and what only disks survive.

Every node has a disk there, and every worker a store on it. Whoever crashes is started again later, and no disk tears
what it writes: what a directory has is part of the cluster, so without it nothing could come right by itself. Beside
the faults of its mood such a world has outages, counted from the founding: one, some or all nodes lose their power at
once; a disk is full, or slow, for a while; or an old copy of a directory is put back, which the cluster must refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from mesh.core.events import Millis
from mesh.core.shelf import WARM_BYTES, Much
from mesh.sim.faults import EMPTY, OLD, BackUp, Crash, Fault, Restart, SlowDisk
from mesh.sim.stores import Stores

if TYPE_CHECKING:
    from mesh.sim.scenario import Scenario
    from mesh.sim.world import World

BACK_AFTER = (10, 300, 1_000, 3_000)
LAST_OUTAGE: Millis = 5_000
CALM = ("quiet", "splits", "pauses", "resets", "storms")  # moods in which nobody ends


@dataclass(frozen=True, slots=True)
class PowerLoss(Fault):
    """These processes end at once, wherever they are; each host has its power back some time later."""

    back: tuple[tuple[str, Millis], ...] = ()  # host, and after how long

    def begin(self, world: World) -> None:
        ended = [each for each in self.back if world.hosts[each[0]].living() is not None]
        for name, _ in ended:
            world.crash(name)
        for name, after in ended:
            world.at(world.now + after, world.start, name)

    def words(self) -> str:
        told = ", ".join(f"{name} is back after {after} ms" for name, after in self.back)
        return f"the power fails: {told}"


@dataclass(frozen=True, slots=True)
class FullDisk(Fault):
    """A store has no room, neither for what is put nor for a commit that is under way; records still fit."""

    host: str = ""

    def begin(self, world: World) -> None:
        self._fill(world, full=True)

    def end(self, world: World) -> None:
        self._fill(world, full=False)

    def _fill(self, world: World, *, full: bool) -> None:
        disk = world.hosts[self.host].disk
        if disk is not None and disk.store is not None:
            disk.store.full = full

    def words(self) -> str:
        return f"the disk of {self.host} is full for {self.lasting} ms"


def with_stores(scenario: Scenario) -> Scenario:
    """The durable world of the same seed."""
    random = Random(f"outages {scenario.seed}")
    stores = Stores(random.choice((0, 1_000, WARM_BYTES)), random.choice((1, 20, 200, Much().changes)))
    setups, joiners = (
        tuple(replace(each, has_disk=True) for each in some) for some in (scenario.setups, scenario.joiners)
    )
    return replace(
        scenario,
        setups=setups,
        joiners=joiners,
        faults=_with_returns(random, scenario.faults),
        at_founding=(*_with_returns(random, scenario.at_founding), *_outages(random, scenario)),
        stores=stores,
    )


def _with_returns(random: Random, faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    whole = [replace(each, torn=False) if isinstance(each, Crash) else each for each in faults]
    back = [each.host for each in whole if isinstance(each, Restart)]
    crashes = [each for each in whole if isinstance(each, Crash) and each.host not in back]
    returns = [Restart(each.at + random.choice(BACK_AFTER), 0, each.host) for each in crashes]
    return (*whole, *returns)


def _outages(random: Random, scenario: Scenario) -> list[Fault]:
    workers = [setup.name for setup in scenario.setups if setup.role == "worker"]
    if scenario.copies > 1 and len(workers) > 2 and scenario.mood in CALM and random.random() < 0.5:
        return _old_copy(random, random.choice(workers))
    kinds = random.choices((_power_loss, _power_loss, _some_crash, _full_disk, _slow_disk), k=random.randint(1, 4))
    times = [random.randrange(random.choice((100, LAST_OUTAGE, LAST_OUTAGE))) for _ in kinds]
    return [kind(random, scenario, at) for kind, at in zip(kinds, times, strict=True)]


def _power_loss(random: Random, scenario: Scenario, at: Millis) -> Fault:
    return _fails(random, at, scenario.names)


def _some_crash(random: Random, scenario: Scenario, at: Millis) -> Fault:
    names = scenario.names
    return _fails(random, at, tuple(random.sample(names, random.randint(1, max(1, len(names) // 2)))))


def _fails(random: Random, at: Millis, names: tuple[str, ...]) -> Fault:
    back = tuple((name, random.choice(BACK_AFTER)) for name in names)
    return PowerLoss(at, max(after for _, after in back) + 1, back)


def _full_disk(random: Random, scenario: Scenario, at: Millis) -> Fault:
    return FullDisk(at, random.choice((300, 2_000, 6_000)), random.choice(scenario.names))


def _slow_disk(random: Random, scenario: Scenario, at: Millis) -> Fault:
    return SlowDisk(at, random.choice((500, 3_000)), random.choice(scenario.names))


def _old_copy(random: Random, name: str) -> list[Fault]:
    """The third start is with what was copied in the first; it is told to stop, and the directory is moved away."""
    copied = random.randrange(2_000)
    crashed = copied + random.randrange(1_000)
    again = crashed + 6_000 + random.randrange(3_000)
    return [
        BackUp(copied, 0, name),
        Crash(crashed, 0, name),
        Restart(crashed + random.choice(BACK_AFTER), 0, name),
        Crash(again, 0, name),
        Restart(again + random.choice(BACK_AFTER), 0, name, OLD),
        Restart(again + 12_000, 0, name, EMPTY),
    ]
