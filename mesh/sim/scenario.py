"""What a seed means: how many nodes, which network, which workload, and what goes wrong when.

Everything is drawn from `Random(seed)` here, before the world begins, so a scenario can be printed, and a test can take
one and change it. Moods keep most worlds simple: one kind of trouble at a time finds bugs that are easy to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mesh.core.events import Millis
from mesh.core.membership.tuning import LAN, LOOPBACK, Tuning
from mesh.core.planner import Declared
from mesh.core.table import WITNESS, WORKER
from mesh.sim.clients import Note, Producer
from mesh.sim.drawn import clients_of, random_workload
from mesh.sim.faults import Fault
from mesh.sim.network import Conditions
from mesh.sim.outages import with_stores
from mesh.sim.stores import Stores
from mesh.sim.trouble import LAST_FAULT, MOODS, WITH_COMINGS, WITH_CRASHES, faults_of
from mesh.sim.workload import Workload

GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota")
MANY = 50
NAMES = (*GREEK, *(f"node-{number}" for number in range(len(GREEK), MANY)))
FOR_MANY = ("quiet", "splits", "joins", "leaves", "late crash")
CALM_PAUSE: Millis = 500
COPIES = (1, 1, 2, 3)  # a world with copies takes twice as long
DURABLE = 0.15  # and with stores again


@dataclass(frozen=True, slots=True)
class Setup:
    """One node."""

    name: str
    role: str
    has_disk: bool
    starts: Millis
    knows: tuple[str, ...]  # names whose addresses it approaches
    clock: tuple[int, Millis] = (1_000, 0)  # its rate, and where it starts


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
    joiners: tuple[Setup, ...] = ()  # who may come; no topology names them
    copies: int = 1
    producers: tuple[Producer, ...] = ()  # with them the job has no end
    notes: tuple[Note, ...] = ()
    stores: Stores | None = None  # it is durable

    @property
    def keeps(self) -> bool:
        """Does what an owner has outlive its process?"""
        return self.copies > 1 or self.stores is not None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(setup.name for setup in (*self.setups, *self.joiners))

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

    def _copies_in_words(self) -> str:
        stored = "" if self.stores is None else f", durable: {self.stores.words()}"
        return ("" if self.copies == 1 else f", {self.copies} copies of each") + stored

    def words(self) -> list[str]:
        """The scenario for people."""
        kind = "loopback" if self.tuning is LOOPBACK else "LAN"
        stages = ", ".join(f"{stage.kind} over {stage.keys} keys" for stage in self.workload.stages) or "no stages"
        with_disk = [setup.name for setup in self.setups if setup.has_disk]
        roles = [setup.name + (" (witness)" if setup.role == WITNESS else "") for setup in self.setups]
        joiners = ", ".join(setup.name for setup in self.joiners)
        return [
            f"seed {self.seed}: {self.mood}",
            f"nodes: {', '.join(roles)}; expect {self.expect}; disks: {' '.join(with_disk) or 'none'}",
            *([f"may come: {joiners}"] if joiners else []),
            f"network: {kind} timing, {self.conditions}",
            f"work: {self.workload.records()} records, {stages}; {self.slots} slots{self._copies_in_words()}",
            *([f"clients: {len(self.producers)} producers, {len(self.notes)} notes"] if self.workload.notes else []),
            f"flow: windows of {self.window_bytes} bytes, batches of {self.batch_records} records",
        ]


def scenario_of(
    seed: int,
    nodes: int | None = None,
    mood: str | None = None,
    copies: int | None = None,
    durable: bool | None = None,
) -> Scenario:
    """The scenario of a seed; `nodes` overrides how many, `mood` what kind of trouble, `copies` of each slot, `durable`
    whether there are stores. The last two are drawn by themselves: all else is as it is without."""
    random = Random(seed)
    drawn = random.choice(MOODS)
    many = random.random() < 0.004 if nodes is None else nodes > len(GREEK)
    mood = mood or (random.choice(FOR_MANY) if many else drawn)
    setups = _setups(random, nodes or (MANY if many else _size(random, mood)), mood)
    joiners = _joiners(random, setups, mood)
    workers = sum(setup.role == WORKER for setup in setups)
    expect = workers if random.random() < (0.2 if mood == "founding" else 0.7) else len(setups) // 2 + 1
    workload = random_workload(random, random.choice((0, 100, 400, 1_000)))
    faults, at_founding = faults_of(random, mood, setups, joiners, 2 * expect - workers - 1)
    paces = (2_000, 5_000, 8_000) if mood in WITH_COMINGS else (0, 2_000, 5_000, 5_000)
    readers = 1 if many else workers  # a long job of fifty nodes would take minutes
    with_clients, producers, notes = clients_of(seed, workload)  # by themselves: all else is as it is without
    scenario = Scenario(
        seed=seed,
        mood=mood,
        setups=setups,
        expect=expect,
        slots=256 if many else random.choice((8, 16, 64, 256)),
        tuning=LAN if many else random.choice((LOOPBACK, LAN, LAN)),
        conditions=_conditions(random),
        window_bytes=random.choice((300, 2_000, 4 << 20)),
        batch_records=random.choice((1, 8, 64, 4096)),
        workload=with_clients,
        pace=random.choice(paces) * readers // max(workload.chunks(), workers),
        faults=faults,
        reads=tuple(random.randrange(LAST_FAULT) for _ in range(random.choice((0, 5, 30)))),
        at_founding=at_founding,
        joiners=joiners,
        copies=copies or Random(f"copies {seed}").choice(COPIES),  # likewise
        producers=producers,
        notes=notes,
    )
    if durable is None:
        durable = not many and Random(f"stores {seed}").random() < DURABLE
    return with_stores(scenario) if durable else scenario


def _size(random: Random, mood: str) -> int:
    if mood == "founding":
        return random.choice((3, 3, 3, 4, 5))
    if mood in WITH_COMINGS:
        return random.choice((1, 2, 2, 3, 3, 3, 4, 5, 6))
    return random.choice((1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9))


def _setups(random: Random, nodes: int, mood: str) -> tuple[Setup, ...]:
    names = NAMES[:nodes]
    witness = names[-1] if len(names) > 2 and random.random() < 0.15 else None
    disks = 1.0 if mood in ("founding", "old directories") else random.choice((0.0, 0.5, 1.0))
    spread = random.choice((0, 300, 3_000))
    ends = mood in WITH_CRASHES or mood in WITH_COMINGS  # who ends may be the only link of a sparse graph
    shape = "all" if ends else random.choice(("all", "chain", "hub"))
    drifts = random.random() < 0.4
    return tuple(
        Setup(
            name,
            WITNESS if name == witness else WORKER,
            random.random() < disks,
            random.randint(0, spread),
            _knows(place, names, shape),
            (random.randint(900, 1_100), random.randrange(1_000_000)) if drifts else (1_000, 0),
        )
        for place, name in enumerate(names)
    )


def _joiners(random: Random, setups: tuple[Setup, ...], mood: str) -> tuple[Setup, ...]:
    """Each knows some members that were there from the beginning; the first of these never leaves."""
    if mood not in ("joins", "comings and goings"):
        return ()
    names = NAMES[len(setups) : len(setups) + random.choice((1, 1, 2, 2, 3))]
    knows = tuple(setup.name for setup in setups[: random.choice((1, 2, len(setups)))])
    return tuple(
        Setup(name, WITNESS if random.random() < 0.1 else WORKER, random.random() < 0.5, 0, knows) for name in names
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
