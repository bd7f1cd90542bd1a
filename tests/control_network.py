"""Control planes on a made-up network and clock, each with a stand-in for the data plane: it hands slots over and
claims them, and has nothing else to give away. Messages pass through the codec; links are not used.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from mesh.core import codec
from mesh.core.boots import IDENTITY, next_boot
from mesh.core.control import ControlPlane, Identity
from mesh.core.events import Departed, Effect, Event, Log, Millis, Persist, Persisted, Post, Received, Stop, Woke
from mesh.core.events.operator import AskToLeave
from mesh.core.events.planes import Fenced, HandedOver, SlotsInstalled, StartLeaving, TableAgreed
from mesh.core.membership.facts import Leave
from mesh.core.membership.tuning import LOOPBACK
from mesh.core.messages import Message, NodeId
from mesh.core.messages.members import ALIVE, STAYING, Member
from mesh.core.planner import Declared
from mesh.core.slot import LOST, Slot
from mesh.core.succession import fault
from mesh.core.table import Table
from mesh.sim.copies import copies_fault

SLOTS = 64


@dataclass
class Process:
    name: str
    node: NodeId
    control: ControlPlane
    alive: bool = True
    paused: bool = False
    waiting: list[Event] = field(default_factory=list)  # while paused
    agreed: TableAgreed | None = None
    fenced: list[tuple[Millis, bool]] = field(default_factory=list)
    departed: Millis | None = None
    stopped: str = ""
    logs: list[Log] = field(default_factory=list)

    @property
    def table(self) -> Table:
        assert self.control.table is not None
        return self.control.table


class Cluster:
    def __init__(
        self,
        *names: str,
        witnesses: tuple[str, ...] = (),
        seed: int = 0,
        expect: int | None = None,
        disks: tuple[str, ...] = (),
        control: type[ControlPlane] = ControlPlane,
        copies: int = 1,
        durable: bool = False,
    ) -> None:
        self.kind = control
        self.copies, self.durable = copies, durable
        self.slots, self.graph = SLOTS, "graph"  # of what is started from now on
        self.disks: dict[str, dict[str, bytes]] = {name: {} for name in disks}  # of those that have a directory
        self.deaf: Callable[[str, str, Message], bool] = lambda sender, receiver, message: False  # what gets lost
        self.random = Random(seed)
        self.now: Millis = 1_000
        self.loss = 0.0
        self.delay = 10
        self.transfer = (1, 40)  # ms that the state of a slot takes
        self.cut: set[str] = set()  # names on the other side of a split
        self.processes: dict[str, Process] = {}
        self.lives = 0
        self.history: dict[int, Table] = {}
        self.leaving: dict[NodeId, None] = {}  # who was asked to
        self.newest = 0
        self.declared = tuple(
            [Declared(name, "worker", "") for name in names] + [Declared(name, "witness", "") for name in witnesses]
        )
        self.expect = expect or len(names)
        self._queue: list[tuple[Millis, int, Callable[[], None]]] = []
        self._count = 0
        for each in self.declared:
            self.start(each.name, each.role)

    # -- what can happen

    def start(self, name: str, role: str = "worker") -> Process:
        self.lives += 1
        node = self.random.randbytes(4) + self.lives.to_bytes(12)
        disk = self.disks.get(name)
        home, boot = node, 1
        if disk is not None:
            home, boot, disk[IDENTITY] = next_boot(disk.get(IDENTITY), node)
        me = Member(node, name, f"tcp://{name}:7400", f"{name}:7480", role, "", 1, ALIVE, STAYING, home, boot)
        seeds = tuple(f"tcp://{each.name}:7400" for each in self.declared if each.name != name)
        identity = Identity(
            me, "test", self.slots, 0, self.graph, self.now, self.declared, self.expect, self.copies, seeds,
            self.durable,
        )  # fmt: skip
        control = self.kind(identity, LOOPBACK, Random(self.random.getrandbits(64)), dict(disk or {}))
        process = self.processes[name] = Process(name, node, control)
        self._at(self.now + 1, lambda: self._handle(process, Woke()))
        return process

    def kill(self, *names: str) -> None:
        for name in names:
            self.processes[name].alive = False

    def tell(self, name: str, event: Event) -> None:
        """An operator wants something of a node."""
        self._handle(self.processes[name], event)

    def say_goodbye(self, name: str) -> None:
        """A process that is stopped, without having been asked to leave."""
        self._handle(self.processes[name], Leave())
        self.kill(name)

    def ask_to_leave(self, at: str, name: str) -> None:
        self.leaving[self.processes[name].node] = None
        self._handle(self.processes[at], AskToLeave(self.processes[name].node))

    def resume(self, name: str) -> None:
        process = self.processes[name]
        process.paused = False
        waiting, process.waiting = process.waiting, []
        for event in waiting:
            self._handle(process, event)
        self._handle(process, Woke())

    def run(self, millis: int) -> None:
        end = self.now + millis
        while self._queue and self._queue[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._queue)
            happen()
        self.now = end

    def until(self, holds: Callable[[], bool], within: int) -> int:
        """Milliseconds until something is the case."""
        start = self.now
        while not holds():
            assert self.now - start < within, f"not within {within} ms; {self.shown()}"
            self.run(10)
        return self.now - start

    # -- what is the case

    def living(self) -> list[Process]:
        return [each for each in self.processes.values() if each.alive and not each.paused and not each.stopped]

    def one_table(self) -> bool:
        epochs = [0 if each.control.table is None else each.control.agreement.epoch for each in self.living()]
        return min(epochs) > 0 and min(epochs) == max(epochs)

    def settled(self) -> bool:
        """One table, of just the living, nothing moves, and all have a share."""
        if not self.one_table():
            return False
        table = self.living()[0].table
        counts = table.counts()
        up = sorted(seat.name for seat in table.members if seat.up)
        level = up == sorted(each.name for each in self.living()) and not counts["pending"] and table.spread() <= 1
        return level and all(self._has_copies(slot) for slot in table.slots)

    def _has_copies(self, slot: Slot) -> bool:
        workers = sum(each.control.identity.me.role == "worker" for each in self.living())
        return slot.status == LOST or (len(slot.members) == min(self.copies, workers) and slot.joining is None)

    def shown(self) -> str:
        tables = [(each.name, each.control.table) for each in self.living()]
        return "; ".join(
            f"{name}: {t and (t.epoch, [(s.name, s.up, s.voter) for s in t.members], t.counts(), t.owned_counts())}"
            for name, t in tables
        )

    # -- the inside

    def _at(self, when: Millis, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, happen))

    def _later(self, millis: Millis, process: Process, event: Event) -> None:
        self._at(self.now + millis, lambda: self._handle(process, event))

    def _handle(self, process: Process, event: Event) -> None:
        if not process.alive or process.stopped:
            return
        if process.paused:
            if not isinstance(event, Woke):
                process.waiting.append(event)
            return
        self._perform(process, process.control.handle(event, self.now))
        due = process.control.next_deadline()
        if due is not None:
            self._at(max(due, self.now + 1), lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        due = process.control.next_deadline()
        if due is not None and due <= self.now:
            self._handle(process, Woke())

    def _perform(self, process: Process, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Post():
                    self._post(process, effect)
                case Persist(name, value):
                    if process.name in self.disks:
                        self.disks[process.name][name] = value
                    self._handle(process, Persisted(name))
                case TableAgreed():
                    process.agreed = effect
                    self._agreed(process)
                case Fenced(fenced):
                    process.fenced.append((self.now, fenced))
                case StartLeaving():
                    self._later(50, process, HandedOver())
                case Departed():
                    process.departed = self.now
                    self._handle(process, Leave())
                    process.alive = False
                case Stop(sentence):
                    process.stopped = sentence
                case Log():
                    process.logs.append(effect)

    def _post(self, process: Process, post: Post) -> None:
        name = post.endpoint.removeprefix("tcp://").removesuffix(":7400")
        target = self.processes.get(name)
        if target is None or (name in self.cut) != (process.name in self.cut) or self.random.random() < self.loss:
            return
        if post.target not in (b"", target.node):
            return
        message = codec.decode(codec.encode(post.message))
        if self.deaf(process.name, name, message):
            return
        self._later(self.random.randint(1, self.delay), target, Received(process.node, message, post.payload))

    def _agreed(self, process: Process) -> None:
        table = process.table
        known = self.history.setdefault(table.epoch, table)
        assert known == table, f"two tables of epoch {table.epoch}"
        self.newest = max(self.newest, table.epoch)
        before = self.history.get(table.epoch - 1)
        assert before is None or fault(before, table) is None
        assert before is None or copies_fault(before, table, [*self.leaving], self._may_return) is None
        for number, slot in enumerate(table.slots):
            needed = (slot.donor, slot.joining, *slot.backups) if slot.joining is not None else (slot.donor,)
            nodes = [table.members[place].node for place in needed if place is not None]
            if process.node in [table.members[place].node for place in slot.asked()]:
                if table.fills:
                    self._at(self.now + self.random.randint(*self.transfer), self._claim(process, number, slot, nodes))
                elif all(map(self._acts, nodes)):
                    self._later(self.random.randint(*self.transfer), process, SlotsInstalled(((number, slot.term),)))

    def _claim(self, process: Process, number: int, slot: Slot, needed: list[NodeId]) -> Callable[[], None]:
        """As soon as all that it takes are there, unless it is asked something else by then."""

        def look() -> None:
            if process.table.slots[number].term != slot.term:
                return
            if all(map(self._acts, needed)):
                self._handle(process, SlotsInstalled(((number, slot.term),)))
            elif process.alive:
                self._at(self.now + 50, look)

        return look

    def _acts(self, node: NodeId) -> bool:
        return any(each.node == node and each.alive and not each.paused for each in self.processes.values())

    def _may_return(self, node: NodeId) -> bool:
        return self.copies > 1 and any(each.node == node and each.alive for each in self.processes.values())
