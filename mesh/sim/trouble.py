"""Which faults a mood means: drawn one by one from the scenario's random numbers.

Faults that are about a formed cluster are counted from its founding. A host ends at most once without a word, but in a
rolling restart, so that who remembers what stays easy to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from mesh.core.events import Millis
from mesh.core.table import WORKER
from mesh.sim.comings import Join, Leave, RollingRestart
from mesh.sim.faults import KEPT, OLD, BackUp, Crash, Cut, Fault, Pause, Reset, Restart, SlowCode, SlowDisk, Storm, Torn

if TYPE_CHECKING:
    from mesh.sim.scenario import Setup

MOODS = (
    "quiet", "splits", "odd splits", "pauses", "resets", "storms", "founding", "early crash", "late crash",
    "old directories", "joins", "leaves", "comings and goings", "rolling restart", "everything",
)  # fmt: skip
WITH_CRASHES = ("founding", "early crash", "late crash", "old directories")
WITH_COMINGS = ("joins", "leaves", "comings and goings", "rolling restart")
LAST_FAULT: Millis = 7_000  # formation takes up to three seconds, work a few more

_Faults: TypeAlias = tuple[Fault, ...]


def faults_of(
    random: Random, mood: str, setups: tuple[Setup, ...], joiners: tuple[Setup, ...], may_forget: int
) -> tuple[_Faults, _Faults]:
    """By the clock, and from the founding on. `may_forget`: how many workers may lose their memory, and no vote is."""
    maker = _Maker(random, setups, joiners, may_forget)
    network = (maker.split, maker.one_way, maker.reset, maker.storm)
    node = (maker.pause, maker.slow_code, maker.slow_disk)
    odd = (maker.ring, maker.bridge, maker.flapping)
    makers: dict[str, tuple[Callable[[Millis], None], ...]] = {
        "quiet": (),
        "splits": (maker.split, maker.split, maker.one_way),
        "odd splits": (random.choice(odd), random.choice(odd)),
        "pauses": node,
        "resets": (maker.reset,),
        "storms": (maker.storm, maker.reset),
        "founding": (maker.split, maker.one_way, maker.slow_disk_from_the_start),
        "early crash": (maker.early_restart, maker.split, maker.slow_disk),
        "late crash": (maker.late_crash, maker.split),
        "old directories": (maker.slow_disk,),
        "everything": (*network, *odd, *node),
    }
    for each in makers.get(mood, (random.choice((maker.nothing, *network, *odd, *node)),)):
        maker.some(each)
    faults = maker.taken()
    afterwards: dict[str, tuple[Callable[[], None], ...]] = {
        "founding": (maker.founding,),
        "old directories": (maker.old_directory,),
        "joins": (maker.joins,),
        "leaves": (maker.leaves,),
        "comings and goings": (maker.joins, maker.leaves),
        "rolling restart": (maker.rolling_restart,),
    }
    for make in afterwards.get(mood, ()):
        make()
    return faults, maker.taken()


class _Maker:
    """Draws single faults."""

    def __init__(self, random: Random, setups: tuple[Setup, ...], joiners: tuple[Setup, ...], may_forget: int) -> None:
        self._faults: list[Fault] = []
        self._random = random
        self._setups = setups
        self._joiners = joiners
        self._names = [setup.name for setup in (*setups, *joiners)]
        self._may_forget = may_forget
        self._unbroken = list(setups)

    def some(self, make: Callable[[Millis], None]) -> None:
        for _ in range(self._random.randint(1, 3)):
            make(self._random.randrange(LAST_FAULT))

    def taken(self) -> _Faults:
        """So far, in the order of time."""
        faults, self._faults = self._faults, []
        return tuple(sorted(faults, key=lambda fault: fault.at))

    def nothing(self, at: Millis) -> None:
        pass

    # -- the network

    def split(self, at: Millis) -> None:
        self._cut(at, both=True)

    def one_way(self, at: Millis) -> None:
        self._cut(at, both=False)

    def _cut(self, at: Millis, *, both: bool) -> None:
        if len(self._names) > 1:
            shuffled = self._shuffled()
            here = self._random.randint(1, len(shuffled) - 1)
            lasting = self._random.choice((100, 800, 2_000, 5_000, 9_000))
            self._faults.append(Cut(at, lasting, tuple(sorted(shuffled[:here])), tuple(sorted(shuffled[here:])), both))

    def ring(self, at: Millis) -> None:
        """Everybody hears a majority, and no two the same one: the neighbours on a circle."""
        names, count = self._shuffled(), len(self._names)
        reach = (count // 2 + 1) // 2  # to either side
        distance = [
            (place, other, min((place - other) % count, (other - place) % count))
            for place in range(count)
            for other in range(count)
        ]
        pairs = [(names[place], names[other]) for place, other, far in distance if far > reach]
        self._torn(at, "a ring", pairs)

    def bridge(self, at: Millis) -> None:
        """Two halves, and one node that hears both."""
        names = self._shuffled()
        half = len(names) // 2
        here, there = names[:half], names[half + 1 :]
        pairs = [(sender, receiver) for sender in here for receiver in there]
        self._torn(at, f"a bridge at {names[half]}", pairs + [(receiver, sender) for sender, receiver in pairs])

    def _torn(self, at: Millis, shape: str, pairs: list[tuple[str, str]]) -> None:
        if pairs:
            self._faults.append(Torn(at, self._random.choice((800, 3_000, 8_000)), shape, tuple(pairs)))

    def flapping(self, at: Millis) -> None:
        """A link that breaks and comes back, again and again."""
        if len(self._names) > 1:
            here, there = self._random.sample(self._names, 2)
            both, beat = self._random.random() < 0.5, self._random.choice((100, 400, 1_500))
            for beats in range(self._random.randint(3, 8)):
                self._faults.append(Cut(at + 2 * beat * beats, beat, (here,), (there,), both))

    def _shuffled(self) -> list[str]:
        return self._random.sample(self._names, len(self._names))

    def reset(self, at: Millis) -> None:
        if len(self._names) > 1:
            for _ in range(self._random.randint(1, 10)):
                sender, receiver = self._random.sample(self._names, 2)
                self._faults.append(Reset(at + self._random.randrange(1_000), 0, sender, receiver))

    def storm(self, at: Millis) -> None:
        lost, doubled = self._random.choice((50, 300, 600)), self._random.choice((0, 100, 300))
        lasting, jitter = self._random.choice((500, 2_000, 4_000)), self._random.choice((20, 100, 300))
        self._faults.append(Storm(at, lasting, lost, doubled, jitter))

    # -- a node

    def pause(self, at: Millis) -> None:
        self._faults.append(Pause(at, self._random.choice((50, 300, 1_000, 4_000)), self._some_name()))

    def slow_code(self, at: Millis) -> None:
        self._faults.append(SlowCode(at, self._random.choice((500, 3_000)), self._some_name()))

    def slow_disk(self, at: Millis) -> None:
        self._faults.append(SlowDisk(at, self._random.choice((500, 3_000)), self._some_name()))

    def founding(self) -> None:
        """Some crash and start again while only some know of the partition, and those are cut off."""
        for _ in range(self._random.randint(1, 3)):
            self._crash(self._random.choice((0, 0, 1, 10, 40, 300)), restarts=True)
        for _ in range(self._random.randint(0, 2)):
            self.split(self._random.choice((0, 0, 1, 5, 20)))

    def slow_disk_from_the_start(self, at: Millis) -> None:
        self._faults.append(SlowDisk(0, at, self._some_name()))

    def early_restart(self, at: Millis) -> None:
        """Around the founding."""
        self._crash_started(at // 3, restarts=True)

    def late_crash(self, at: Millis) -> None:
        """After it, or so."""
        self._crash_started(LAST_FAULT // 4 + at * 3 // 4, restarts=self._random.random() < 0.5)

    def _crash_started(self, at: Millis, *, restarts: bool) -> None:
        self._crash(max([at, *(setup.starts + 1 for setup in self._setups)]), restarts=restarts)

    def _crash(self, at: Millis, *, restarts: bool, disk: str = KEPT, name: str = "") -> None:
        choices = [setup for setup in self._unbroken if name in ("", setup.name)]
        if not choices:
            return
        setup = self._random.choice(choices)
        self._unbroken.remove(setup)
        may_forget = setup.role != WORKER or self._may_forget > 0
        torn = setup.has_disk and may_forget and self._random.random() < 0.2
        self._faults.append(Crash(at, 0, setup.name, torn))
        forgets = torn or not setup.has_disk
        if restarts and (may_forget or not forgets):
            self._may_forget -= forgets and setup.role == WORKER
            after = self._random.choice((10, 300, 1_000, 3_000))
            self._faults.append(Restart(at + after, 0, setup.name, disk))

    def old_directory(self) -> None:
        """Directories are copied, and a copy is put back later; a disk tears what it writes. Only after another start
        a copy is an old one; and somebody else must know of that start."""
        put_back = self._random.choice((OLD, OLD, KEPT)) if len(self._setups) > 1 else KEPT
        for setup in self._random.sample(self._setups, min(2, len(self._setups))):
            copied = self._random.randrange(3_000)
            self._faults.append(BackUp(copied, 0, setup.name))
            at = copied + self._random.randrange(4_000)
            if setup.has_disk:
                started = at + self._random.choice((10, 300, 1_000))
                self._faults += [Crash(at, 0, setup.name), Restart(started, 0, setup.name)]
                at = started + self._random.randrange(3_000)
            self._crash(at, restarts=True, disk=put_back, name=setup.name)
            put_back = KEPT

    # -- members

    def joins(self) -> None:
        together = self._random.random() < 0.5
        at = self._random.randrange(LAST_FAULT)
        for setup in self._joiners:
            self._faults.append(Join(at if together else self._random.randrange(LAST_FAULT), 0, setup.name))

    def leaves(self) -> None:
        """The first stays, as joiners may know nobody else."""
        at = self._random.randrange(LAST_FAULT)
        for setup in self._setups[1 : 1 + self._random.choice((1, 1, 2))]:
            self._faults.append(Leave(at, 0, setup.name, self._random.choice((None, 10, 2_000))))
            at += self._random.choice((0, 500, 3_000))

    def rolling_restart(self) -> None:
        names = tuple(setup.name for setup in self._setups)
        crashes = len(names) > 2 and self._random.random() < 0.5
        self._faults.append(RollingRestart(1_000 + self._random.randrange(3_000), 0, names, crashes))

    def _some_name(self) -> str:
        return self._random.choice(self._names)
