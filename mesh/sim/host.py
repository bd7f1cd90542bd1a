"""A place where one process after the other lives, under one name and address: its clock, and its disk.

A clock starts anywhere and runs a little too fast or too slow, as monotonic clocks do. A disk keeps records; each is
there whole or not at all, in the order of writing, unless it tears the one that it writes when the process ends: then
the directory is damaged, and a production node would not start with it. In a durable world a worker's store is in
the same directory (see `stores`): it is made for its first process, and later ones have what is left of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from mesh.core.boots import IDENTITY, next_boot
from mesh.core.events import Millis
from mesh.sim.stores import ForgetfulStore

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.scenario import Setup


@dataclass(frozen=True, slots=True)
class Clock:
    """`rate`: milliseconds that it counts in a second."""

    rate: int = 1_000
    start: Millis = 0

    def local(self, time: Millis) -> Millis:
        return self.start + time * self.rate // 1_000

    def world(self, local: Millis) -> Millis:
        """The first moment at which this clock shows `local`."""
        return -(-(local - self.start) * 1_000 // self.rate)


class Disk:
    """A directory: `records` and `store` are what a restart finds."""

    def __init__(self, store: ForgetfulStore | None = None) -> None:
        self.records: dict[str, bytes] = {}
        self.store = store
        self.damaged = False
        self.slow_until: Millis = 0
        self._copy: dict[str, bytes] = {}
        self._store_copy: ForgetfulStore | None = None
        self._writes: deque[tuple[str, bytes]] = deque()  # the first is under way

    def takes(self, now: Millis, random: Random) -> Millis:
        return random.randint(500, 3_000) if now < self.slow_until else random.randint(0, 10)

    def write(self, name: str, value: bytes) -> bool:
        """True: nothing else is under way, so it begins now."""
        self._writes.append((name, value))
        return len(self._writes) == 1

    def written(self) -> tuple[str, bool]:
        """What was under way is kept: its name, and whether there is more to write."""
        name, value = self._writes.popleft()
        self.records[name] = value
        return name, bool(self._writes)

    def crash(self, random: Random, *, torn: bool) -> None:
        """What was under way has got there, up to some point, or not."""
        torn = torn and bool(self._writes)
        for _ in range(random.randint(0, len(self._writes) - torn)):
            self.written()
        self.damaged = torn
        self._writes.clear()
        if self.store is not None:
            self._keep(self.store.crash(random))

    def _keep(self, store: ForgetfulStore) -> None:
        """Another store in the place of this one: it has as much room."""
        store.full = self.store is not None and self.store.full
        self.store = store

    # -- what people do to a directory

    def copy(self) -> None:
        """Somebody makes a backup."""
        self._copy = dict(self.records)
        self._store_copy = self.store.copied() if self.store is not None else None

    def restore(self) -> bool:
        """The backup is copied back, if it knows of a cluster; without one a founding's promises would be forgotten.

        One that was made since the latest start cannot be told from what it is a copy of.
        """
        knows = any(name.startswith("agreement.epoch.") for name in self._copy)
        knows = knows and self._copy[IDENTITY] != self.records.get(IDENTITY)
        if knows:
            self.records = dict(self._copy)
            if self._store_copy is not None:
                self._keep(self._store_copy.copied())
        return knows

    def empty(self) -> None:
        self.records.clear()
        self.damaged = False
        if self.store is not None:
            self._keep(ForgetfulStore())


@dataclass(slots=True)
class Host:
    setup: Setup
    disk: Disk | None
    clock: Clock = field(default_factory=Clock)
    processes: list[Process] = field(default_factory=list)  # one after the other
    memory: int = 0  # counts how often what was kept here was lost
    slow_code_until: Millis = 0
    is_old: bool = False  # the directory that the process found was an old copy

    @property
    def process(self) -> Process | None:
        """Who lives here, or lived last."""
        return self.processes[-1] if self.processes else None

    def living(self) -> Process | None:
        return self.process if self.process is not None and self.process.alive else None

    def count_start(self, node: bytes) -> tuple[bytes, int]:
        """(home, boot) of a new process, as the directory of a real one has them."""
        if self.disk is None:
            return node, 1
        kept = self.disk.records
        home, boot, kept[IDENTITY] = next_boot(kept.get(IDENTITY), node)
        return home, boot

    def prepare(self) -> str:
        """Before a process starts: what there is to say about the disk."""
        if self.disk is None:
            self.memory += 1
        elif self.disk.damaged:
            self.disk.empty()
            self.memory += 1
            return "finds its directory damaged, and gets an empty one"
        return ""
