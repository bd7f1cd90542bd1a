"""Whole nodes on a made-up network and clock: what production runs, but for threads, sockets and disks.

The application counts records by key and tells every count it reaches, so that what comes out shows each record that
was lost, doubled or overtaken.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import mesh
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from mesh.core.control import Identity
from mesh.core.events import Departed, Effect, Envelope, Event, Log, Millis, Persist, Persisted, Stop, Woke
from mesh.core.events.work import JobDone
from mesh.core.membership.facts import Leave
from mesh.core.membership.tuning import LOOPBACK
from mesh.core.messages.members import ALIVE, Member
from mesh.core.node import Node
from mesh.core.planner import Declared
from mesh.runtime.worker import Worker

SLOTS = 32
TURN: Millis = 2  # a node works this often


class Collected:
    """A sink, and its own writer."""

    def __init__(self) -> None:
        self.items: list[tuple[str, int]] = []

    def open(self, writer: str) -> Collected:
        return self

    def write(self, items: Sequence[tuple[str, int]]) -> None:
        self.items.extend(items)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class Count:
    """No codec takes it."""

    def __init__(self) -> None:
        self.n = 0


def counted(count: Count, _: str) -> tuple[Count, int]:
    count.n += 1
    return count, count.n


def counting(records: int, keys: int, splits: int, rooted: bool = False) -> tuple[Plan, Collected]:
    """Each key is in one split only, so that its records have one order."""
    app = mesh.App("counting")
    per_split = keys // splits
    items = [
        f"k{split * per_split + number % per_split}" for split in range(splits) for number in range(records // splits)
    ]
    sink = Collected()
    words = app.source("words", mesh.items(items, splits=splits)).key_by(lambda word: word)
    (words.stateful("count", Count, counted) if rooted else words.fold("count", int, lambda n, _: n + 1)).to(sink)
    return compile_app(app), sink


@dataclass
class Process:
    node: Node
    worker: Worker
    alive: bool = True
    paused: bool = False
    done: bool = False
    departed: bool = False
    stopped: str = ""
    logs: list[Log] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.node.identity.me.name


class Nodes:
    def __init__(
        self, *names: str, records: int = 42_000, keys: int = 60, splits: int = 6, seed: int = 0, rooted: bool = False
    ) -> None:
        """`rooted`: no state can travel."""
        self.random = Random(seed)
        self.now: Millis = 1_000
        self.records, self.keys = records, keys
        self.plan, self.sink = counting(records, keys, splits, rooted)
        self.declared = tuple(Declared(name, "worker", "") for name in names)
        self.processes: dict[str, Process] = {}
        self.cut: set[str] = set()
        self._queue: list[tuple[Millis, int, Callable[[], None]]] = []
        self._count = 0
        for name in names:
            self.start(name)

    def start(self, name: str) -> Process:
        node = self.random.randbytes(16)
        me = Member(node, name, f"tcp://{name}:7400", f"{name}:7480", "worker", "", 1, ALIVE)
        seeds = tuple(f"tcp://{each.name}:7400" for each in self.declared if each.name != name)
        expect = len(self.declared)
        identity = Identity(me, "test", SLOTS, 0, "graph", self.now, self.declared, expect, 1, seeds)
        whole = Node(identity, self.plan, LOOPBACK, Random(self.random.getrandbits(64)), {}, 64 << 10, 64)
        worker = Worker(whole.data, f"{name}-{node[:3].hex()}", lambda: None, whole.inbox)
        process = self.processes[name] = Process(whole, worker)
        self._at(self.now + 1, lambda: self._turn(process))
        return process

    def kill(self, name: str) -> None:
        self.processes[name].alive = False

    def tell(self, name: str, event: Event) -> None:
        process = self.processes[name]
        self._perform(process, process.node.handle_control(event, self.now))

    def run(self, millis: int) -> None:
        end = self.now + millis
        while self._queue and self._queue[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._queue)
            happen()
        self.now = end

    def until(self, holds: Callable[[], bool], within: int = 60_000) -> int:
        start = self.now
        while not holds():
            assert self.now - start < within, f"not within {within} ms: {self.shown()}"
            self.run(10)
        return self.now - start

    # -- what is the case

    def living(self) -> list[Process]:
        return [each for each in self.processes.values() if each.alive and not each.paused]

    def settled(self) -> bool:
        tables = [each.node.control.table for each in self.living()]
        if None in tables or len({each.epoch for each in tables if each}) > 1 or tables[0] is None:
            return False
        up = sorted(seat.name for seat in tables[0].members if seat.up)
        return up == sorted(each.name for each in self.living()) and not tables[0].counts()["pending"]

    def finished(self) -> bool:
        return all(each.done for each in self.living())

    def shown(self) -> str:
        return f"{len(self.sink.items)} of {self.records} out; " + "; ".join(
            f"{each.name}: done {each.done}, {table and (table.epoch, table.counts(), table.owned_counts())}"
            for each in self.living()
            for table in [each.node.control.table]
        )

    def check(self) -> None:
        """Every record counted once and in order, so far."""
        counts: dict[str, int] = defaultdict(int)
        for key, count in self.sink.items:
            assert count == counts[key] + 1, f"{key}: {count} after {counts[key]}"
            counts[key] = count

    # -- the inside

    def _at(self, when: Millis, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, happen))

    def _turn(self, process: Process) -> None:
        if not process.alive:
            return
        self._at(self.now + TURN, lambda: self._turn(process))
        if process.paused:
            return
        due = process.node.control.next_deadline()
        if due is not None and due <= self.now:
            self._perform(process, process.node.handle_control(Woke(), self.now))
        effects = process.worker.turn(self.now)
        self._perform(process, process.node.absorb(effects, self.now))

    def _perform(self, process: Process, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Envelope(endpoint, parts):
                    self._send(process, endpoint, parts)
                case Persist(name):
                    self._perform(process, process.node.handle_control(Persisted(name), self.now))
                case JobDone():
                    process.done = True
                case Departed():
                    process.departed = True
                    self._perform(process, process.node.handle_control(Leave(), self.now))
                    process.alive = False
                case Stop(sentence):
                    process.stopped = sentence
                    process.alive = False
                case Log():
                    process.logs.append(effect)

    def _send(self, process: Process, endpoint: str, parts: list[bytes]) -> None:
        name = endpoint.removeprefix("tcp://").removesuffix(":7400")
        if (name in self.cut) == (process.name in self.cut):
            self._at(self.now + self.random.randint(1, 5), lambda: self._arrive(name, parts))

    def _arrive(self, name: str, parts: Sequence[Any]) -> None:
        process = self.processes.get(name)
        if process is None or not process.alive:
            return
        if process.paused:
            self._at(self.now + 10, lambda: self._arrive(name, parts))
            return
        self._perform(process, process.node.received(parts, self.now))
