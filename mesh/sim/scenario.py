"""What a seed means: how many nodes, which network, which workload, and what goes wrong when.

Everything is drawn from `Random(seed)` here, before the world begins, so a scenario can be printed, and a test can take
one and change it. Moods keep most worlds simple: one kind of trouble at a time finds bugs that are easy to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mesh.core.events import Millis
from mesh.core.membership.tuning import LAN, LOOPBACK, Tuning
from mesh.core.planner import Declared
from mesh.core.table import WITNESS, WORKER
from mesh.sim.faults import Crash, Cut, Fault, Pause, Reset, Restart, SlowCode, SlowDisk, Storm
from mesh.sim.network import Conditions
from mesh.sim.workload import Workload, random_workload

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")
MOODS = ("quiet", "splits", "pauses", "resets", "storms", "founding", "early crash", "late crash", "everything")
LAST_FAULT: Millis = 7_000  # formation takes up to three seconds, work a few more
CALM_PAUSE: Millis = 500


@dataclass(frozen=True, slots=True)
class Setup:
    """One declared node."""

    name: str
    role: str
    has_disk: bool
    starts: Millis
    knows: tuple[str, ...]  # names whose addresses it approaches


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    mood: str
    setups: tuple[Setup, ...]
    expect: int
    slots: int
    tuning: Tuning
    conditions: Conditions
    window_bytes: int
    batch_records: int
    workload: Workload
    pace: Millis  # what reading a chunk takes; such that the job lasts for some seconds, or is done at once
    faults: tuple[Fault, ...]
    reads: tuple[Millis, ...] = ()  # when somebody asks for the state of some key
    at_founding: tuple[Fault, ...] = ()  # counted from the moment at which the first node knows the partition

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(setup.name for setup in self.setups)

    @property
    def declared(self) -> tuple[Declared, ...]:
        return tuple(Declared(setup.name, setup.role, "") for setup in self.setups)

    @property
    def workers(self) -> int:
        return sum(setup.role == WORKER for setup in self.setups)

    @property
    def calm_at(self) -> Millis:
        """All are started, the last fault has ended, but for those that wait for the founding."""
        ends = [fault.at + fault.lasting for fault in self.faults]
        return max([*ends, *(setup.starts for setup in self.setups)]) + CALM_PAUSE

    def words(self) -> list[str]:
        """The scenario for people."""
        kind = "loopback" if self.tuning is LOOPBACK else "LAN"
        stages = ", ".join(f"{stage.kind} over {stage.keys} keys" for stage in self.workload.stages) or "no stages"
        with_disk = [setup.name for setup in self.setups if setup.has_disk]
        roles = [setup.name + (" (witness)" if setup.role == WITNESS else "") for setup in self.setups]
        return [
            f"seed {self.seed}: {self.mood}",
            f"nodes: {', '.join(roles)}; expect {self.expect}; disks: {' '.join(with_disk) or 'none'}",
            f"network: {kind} timing, {self.conditions}",
            f"work: {self.workload.records()} records, {stages}; {self.slots} slots",
            f"flow: windows of {self.window_bytes} bytes, batches of {self.batch_records} records",
        ]


def scenario_of(seed: int, nodes: int | None = None, mood: str | None = None) -> Scenario:
    """The scenario of a seed; `nodes` overrides how many, `mood` what kind of trouble."""
    random = Random(seed)
    drawn = random.choice(MOODS)
    mood = mood or drawn
    setups = _setups(random, nodes, mood)
    workers = sum(setup.role == WORKER for setup in setups)
    expect = workers if random.random() < (0.2 if mood == "founding" else 0.7) else len(setups) // 2 + 1
    workload = random_workload(random, random.choice((0, 100, 400, 1_000)))
    faults, at_founding = _faults(random, mood, setups, 2 * expect - workers - 1)
    return Scenario(
        seed=seed,
        mood=mood,
        setups=setups,
        expect=expect,
        slots=random.choice((8, 16, 64, 256)),
        tuning=random.choice((LOOPBACK, LAN, LAN)),
        conditions=_conditions(random),
        window_bytes=random.choice((300, 2_000, 4 << 20)),
        batch_records=random.choice((1, 8, 64, 4096)),
        workload=workload,
        pace=random.choice((0, 2_000, 5_000, 5_000)) * workers // max(workload.chunks(), workers),
        faults=faults,
        reads=tuple(random.randrange(LAST_FAULT) for _ in range(random.choice((0, 5, 30)))),
        at_founding=at_founding,
    )


def _setups(random: Random, nodes: int | None, mood: str) -> tuple[Setup, ...]:
    sizes = (3, 3, 3, 4, 5) if mood == "founding" else (1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 7)
    names = NAMES[: nodes or random.choice(sizes)]
    witness = names[-1] if len(names) > 2 and random.random() < 0.15 else None
    disks = 1.0 if mood == "founding" else random.choice((0.0, 0.5, 1.0))
    spread = random.choice((0, 300, 3_000))
    crashes = mood in ("founding", "early crash", "late crash")  # who crashes may be the only link of a sparse graph
    shape = "all" if crashes else random.choice(("all", "chain", "hub"))
    return tuple(
        Setup(
            name,
            WITNESS if name == witness else WORKER,
            random.random() < disks,
            random.randint(0, spread),
            _knows(place, names, shape),
        )
        for place, name in enumerate(names)
    )


def _knows(place: int, names: tuple[str, ...], shape: str) -> tuple[str, ...]:
    """Any connected graph of addresses will do; gossip does the rest."""
    others = tuple(name for name in names if name != names[place])
    if shape == "chain":
        return names[place - 1 : place]
    return others if shape == "all" else others[:1] if place else ()


def _conditions(random: Random) -> Conditions:
    return Conditions(
        delay=random.choice((0, 1, 5, 20)),
        jitter=random.choice((0, 2, 10, 40)),
        lost=random.choice((0, 0, 0, 10, 50, 150)),
        doubled=random.choice((0, 0, 0, 20, 100)),
        in_order=random.random() < 0.5,
        holds_back=random.random() < 0.5,
    )


def _faults(
    random: Random, mood: str, setups: tuple[Setup, ...], may_forget: int
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """By the clock, and from the founding on. `may_forget`: how many workers may lose their memory, and no vote is."""
    maker = _Maker(random, setups, may_forget)
    network, node = (
        (maker.split, maker.one_way, maker.reset, maker.storm),
        (maker.pause, maker.slow_code, maker.slow_disk),
    )
    makers = {
        "quiet": (),
        "splits": (maker.split, maker.split, maker.one_way),
        "pauses": node,
        "resets": (maker.reset,),
        "storms": (maker.storm, maker.reset),
        "founding": (maker.split, maker.one_way, maker.slow_disk_from_the_start),
        "early crash": (maker.early_restart, maker.split, maker.slow_disk),
        "late crash": (maker.late_crash, maker.split),
        "everything": (*network, *node),
    }
    for each in makers[mood]:
        maker.some(each)
    faults = maker.sorted()
    if mood == "founding":
        maker.faults.clear()
        maker.founding()
        return faults, maker.sorted()
    return faults, ()


class _Maker:
    """Draws single faults. A host crashes at most once, so that who remembers what stays easy to tell."""

    def __init__(self, random: Random, setups: tuple[Setup, ...], may_forget: int) -> None:
        self.faults: list[Fault] = []
        self._random = random
        self._setups = setups
        self._names = [setup.name for setup in setups]
        self._may_forget = may_forget
        self._unbroken = list(setups)

    def some(self, make: Callable[[Millis], None]) -> None:
        for _ in range(self._random.randint(1, 3)):
            make(self._random.randrange(LAST_FAULT))

    # -- the network

    def split(self, at: Millis) -> None:
        self._cut(at, both=True)

    def one_way(self, at: Millis) -> None:
        self._cut(at, both=False)

    def _cut(self, at: Millis, *, both: bool) -> None:
        if len(self._names) > 1:
            shuffled = self._random.sample(self._names, len(self._names))
            here = self._random.randint(1, len(shuffled) - 1)
            lasting = self._random.choice((100, 800, 2_000, 5_000))
            self.faults.append(Cut(at, lasting, tuple(sorted(shuffled[:here])), tuple(sorted(shuffled[here:])), both))

    def reset(self, at: Millis) -> None:
        if len(self._names) > 1:
            for _ in range(self._random.randint(1, 10)):
                sender, receiver = self._random.sample(self._names, 2)
                self.faults.append(Reset(at + self._random.randrange(1_000), 0, sender, receiver))

    def storm(self, at: Millis) -> None:
        lost, doubled = self._random.choice((50, 300, 600)), self._random.choice((0, 100, 300))
        lasting, jitter = self._random.choice((500, 2_000, 4_000)), self._random.choice((20, 100, 300))
        self.faults.append(Storm(at, lasting, lost, doubled, jitter))

    # -- a node

    def pause(self, at: Millis) -> None:
        self.faults.append(Pause(at, self._random.choice((50, 300, 1_000, 4_000)), self._some_name()))

    def slow_code(self, at: Millis) -> None:
        self.faults.append(SlowCode(at, self._random.choice((500, 3_000)), self._some_name()))

    def slow_disk(self, at: Millis) -> None:
        self.faults.append(SlowDisk(at, self._random.choice((500, 3_000)), self._some_name()))

    def founding(self) -> None:
        """Some crash and start again while only some know of the partition, and those are cut off."""
        for _ in range(self._random.randint(1, 3)):
            self._crash(self._random.choice((0, 0, 1, 10, 40, 300)), restarts=True)
        for _ in range(self._random.randint(0, 2)):
            self.split(self._random.choice((0, 0, 1, 5, 20)))

    def sorted(self) -> tuple[Fault, ...]:
        """So far, in the order of time."""
        return tuple(sorted(self.faults, key=lambda fault: fault.at))

    def slow_disk_from_the_start(self, at: Millis) -> None:
        self.faults.append(SlowDisk(0, at, self._some_name()))

    def early_restart(self, at: Millis) -> None:
        """Around the founding."""
        self._crash_started(at // 3, restarts=True)

    def late_crash(self, at: Millis) -> None:
        """After it, or so."""
        self._crash_started(LAST_FAULT // 4 + at * 3 // 4, restarts=self._random.random() < 0.5)

    def _crash_started(self, at: Millis, *, restarts: bool) -> None:
        self._crash(max([at, *(setup.starts + 1 for setup in self._setups)]), restarts=restarts)

    def _crash(self, at: Millis, *, restarts: bool) -> None:
        if not self._unbroken:
            return
        setup = self._unbroken.pop(self._random.randrange(len(self._unbroken)))
        self.faults.append(Crash(at, 0, setup.name))
        forgets = setup.role == WORKER and not setup.has_disk
        if restarts and (not forgets or self._may_forget > 0):
            self._may_forget -= forgets
            self.faults.append(Restart(at + self._random.choice((10, 300, 1_000, 3_000)), 0, setup.name))

    def _some_name(self) -> str:
        return self._random.choice(self._names)
