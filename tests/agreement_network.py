"""A seeded network of Agreement machines: delay, loss, duplication, reorder, splits, slow disks, crashes, restarts.

Each process has its directory's start confirmed by `Boots`, as in a node. After every event it checks what must always
hold: one value an epoch, each following on the one before, epochs reported in rising order, and a durable acceptance of
a decisive set of voters behind every chosen value. A value names its voters and the value that it follows on, so voters
may change with every epoch.
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from msgpack import unpackb

from mesh.core.agreement import KEEPER, Agreement
from mesh.core.ballots import Vote
from mesh.core.boots import IDENTITY, Boots, next_boot
from mesh.core.boots import KEEPER as BOOTS
from mesh.core.durable import Durable
from mesh.core.electorate import Electorate, electorate, founding_electorate
from mesh.core.events import Effect, Event, Persist, Persisted, Received, Send, Stop, Woke
from mesh.core.events.planes import EpochChosen, MayVote, MemberChanged, Propose
from mesh.core.history import EPOCH_BYTES
from mesh.core.messages import Message, NodeId
from mesh.core.messages.epochs import Booted, BootKnown
from mesh.core.messages.members import ALIVE, DEAD, STAYING, Member


class Violation(AssertionError):
    """An invariant is broken; the message names the seed."""


def value(epoch: int, tag: str, voters: Iterable[tuple[str, NodeId]], before: bytes | None = None) -> bytes:
    return json.dumps([epoch, tag, [[name, node.hex()] for name, node in voters], _mark(before)]).encode()


def _mark(data: bytes | None) -> int:
    return 0 if data is None else zlib.crc32(data)


def fault(epoch: int, before: bytes | None, data: bytes) -> str | None:
    """Directly after `before` comes only what names it."""
    try:
        voters_of(epoch, data)
    except ValueError as error:
        return str(error)
    follows = before is not None and json.loads(before)[0] == epoch - 1
    return f"not what follows on {before!r}" if follows and json.loads(data)[3] != _mark(before) else None


def voters_of(epoch: int, data: bytes) -> Electorate:
    try:
        of, _, voters, _ = json.loads(data)
        pairs = [(str(name), bytes.fromhex(node)) for name, node in voters]
    except (ValueError, TypeError) as error:
        raise ValueError(f"a value that is none: {error}") from None
    if of != epoch:
        raise ValueError(f"a value of epoch {of}")
    return electorate(pairs)


def member(name: str, node: NodeId, status: int, home: bytes = b"", boot: int = 1) -> Member:
    return Member(node, name, "tcp://h:1", "", "worker", "", 1, status, STAYING, home, boot)


@dataclass
class Values:
    """What `Boots` asks of a table: here it names homes only."""

    voters: Electorate
    members: tuple[()] = ()

    def electorate(self) -> Electorate:
        return self.voters

    def seat_of(self, node: NodeId) -> None:
        return None


@dataclass
class Process:
    """One life of a node."""

    name: str
    node: NodeId
    me: Member
    machine: Agreement
    boots: Boots
    disk: dict[str, bytes]  # outlives the process
    writing: list[Persist] = field(default_factory=list)
    reported: int = 0
    alive: bool = True
    stopped: bool = False

    @property
    def home(self) -> bytes:
        return self.me.home

    def next_deadline(self) -> int | None:
        due = [each for each in (self.machine.next_deadline(), self.boots.next_deadline()) if each is not None]
        return min(due, default=None)


@dataclass
class Faults:
    loss: float = 0.0
    twice: float = 0.0
    delay: int = 20  # ms, at most
    disk: int = 10  # ms, at most


class Network:
    def __init__(
        self,
        seed: int,
        names: list[str],
        expect: int,
        kind: type[Agreement] = Agreement,
        mutate: Callable[[Electorate], Electorate] = lambda each: each,
        boots: type[Boots] = Boots,
    ) -> None:
        self.boots = boots
        self.copies: dict[str, dict[str, bytes]] = {}  # of directories
        self.refused = 0  # old copies that were told to stop
        self.seed = seed
        self.random = Random(seed)
        self.kind = kind
        self.mutate = mutate
        self.founders = founding_electorate(names, expect)
        self.now = 0
        self.faults = Faults()
        self.split: set[str] = set()  # names cut off from the others
        self.processes: dict[str, Process] = {}
        self.lives = 0
        self.leaps = 0
        self.voters_change = False
        self.chosen: dict[int, bytes] = {}
        self.accepted: dict[tuple[int, int, bytes], set[str]] = {}  # (epoch, ballot, value) -> names, durably
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        for name in names:
            self.start(name)

    # -- what can happen

    def start(self, name: str, keep: bool = True) -> None:
        """A process begins; with `keep` and a former life it is the same node with its disk."""
        former = self.processes.get(name)
        self.lives += 1
        node, disk = b"%s/%d" % (name.encode(), self.lives), dict[str, bytes]()
        node = self.random.randbytes(4) + node.rjust(12, b".")[-12:]
        if former is not None and keep:
            disk = former.disk
        home, boot, disk[IDENTITY] = next_boot(disk.get(IDENTITY), node)
        me = member(name, node, ALIVE, home, boot)
        founders = self.mutate(self.founders)
        boots = self.boots(me, dict(disk))
        machine = self.kind(
            node, name, founders, self._voters_of, fault, self._fork(), dict(disk), home, boot, boots.confirmed
        )
        process = self.processes[name] = Process(name, node, me, machine, boots, disk)
        self._wake_later(process)
        for other in self.living():
            if other is not process:
                self._later(self.faults.delay, self._tell_of, other, process, ALIVE)
                self._later(self.faults.delay, self._tell_of, process, other, ALIVE)

    def crash(self, name: str) -> None:
        process = self.processes[name]
        process.alive = False
        for write in process.writing[: self.random.randrange(len(process.writing) + 1)]:
            self._written(process, write)
        for other in self.living():
            if self.random.random() < 0.5:
                self._later(500, self._tell_of, other, process, DEAD)

    def copy(self, name: str) -> None:
        """Somebody makes a backup of a directory."""
        self.copies[name] = dict(self.processes[name].disk)

    def put_back(self, name: str) -> bool:
        """The backup is put back, if all others know of a later start than the one that will be made from it."""
        process, copy = self.processes[name], self.copies.get(name)
        if copy is None or process.alive:
            return False
        home, boot, _ = next_boot(copy[IDENTITY], b"")
        for other in self.processes.values():
            known = {} if BOOTS not in other.disk else {each[0]: each[1] for each in unpackb(other.disk[BOOTS])}
            if other is not process and (not other.alive or known.get(home, 0) < boot):
                return False
        process.disk.clear()
        process.disk.update(copy)
        return True

    def propose(self, name: str, epoch: int, data: bytes) -> None:
        self._handle(self.processes[name], Propose(epoch, data))

    def living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.alive]

    def epochs(self) -> list[int]:
        return [process.reported for process in self.living()]

    def run(self, millis: int) -> None:
        end = self.now + millis
        while self._queue and self._queue[0][0] <= end:
            self.now, _, happen = heapq.heappop(self._queue)
            happen()
        self.now = end

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(f"seed {self.seed} at {self.now} ms: {what}")

    # -- the inside

    def _voters_of(self, epoch: int, data: bytes) -> Electorate:
        return self.mutate(voters_of(epoch, data))

    def _fork(self) -> Random:
        return Random(self.random.getrandbits(64))

    def _later(self, most: int, happen: Callable[..., None], *about: object) -> None:
        self._at(self.now + self.random.randint(1, most), happen, *about)

    def _at(self, when: int, happen: Callable[..., None], *about: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, lambda: happen(*about)))

    def _wake_later(self, process: Process) -> None:
        due = process.next_deadline()
        if due is not None:
            self._at(max(due, self.now), self._wake, process)

    def _wake(self, process: Process) -> None:
        due = process.next_deadline()
        if process.alive and due is not None and due <= self.now:
            self._handle(process, Woke())
            due = process.next_deadline()
            self.check(due is None or due > self.now, f"{process.name} woke and its deadline did not move")

    def _tell_of(self, process: Process, other: Process, status: int) -> None:
        self._handle(process, MemberChanged(replace(other.me, status=status), None))

    def _handle(self, process: Process, event: Event) -> None:
        if not process.alive:
            return
        to_boots = isinstance(event, Received) and isinstance(event.message, Booted | BootKnown)
        effects = [] if to_boots else process.machine.handle(event, self.now)
        if to_boots or isinstance(event, MemberChanged | Persisted | Woke):
            effects = [*effects, *process.boots.handle(event, self.now)]
        for each in effects:
            self._perform(process, each)
        self._wake_later(process)

    def _perform(self, process: Process, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._post(process, to, message)
            case Persist():
                process.writing.append(effect)
                if len(process.writing) == 1:
                    self._later(self.faults.disk, self._write, process)
            case EpochChosen(epoch, data):
                self._report(process, epoch, data)
                table: Any = Values(self._voters_of(epoch, data))
                for each in process.boots.agreed(table, self.now):
                    self._perform(process, each)
            case MayVote():
                self._handle(process, effect)
            case Stop():
                process.alive, process.stopped = False, True
                self.refused += 1

    def _post(self, process: Process, to: NodeId, message: Message) -> None:
        target = next((each for each in self.living() if each.node == to), None)
        if target is None or (target.name in self.split) != (process.name in self.split):
            return
        copies = 0 if self.random.random() < self.faults.loss else 2 if self.random.random() < self.faults.twice else 1
        for _ in range(copies):
            self._later(self.faults.delay, self._handle, target, Received(process.node, message))

    def _write(self, process: Process) -> None:
        if not process.alive:
            return
        write = process.writing.pop(0)
        self._written(process, write)
        if process.writing:
            self._later(self.faults.disk, self._write, process)
        self._handle(process, Persisted(write.name))

    def _written(self, process: Process, write: Persist) -> None:
        process.disk[write.name] = write.value
        if write.name in (BOOTS, IDENTITY):
            return
        if write.name != KEEPER:
            self._known(process, int.from_bytes(write.value[:EPOCH_BYTES]), write.value[EPOCH_BYTES:])
        else:
            vote = Vote.from_bytes(write.value)
            if vote.accepted_ballot:
                self.accepted.setdefault((vote.epoch, vote.accepted_ballot, vote.accepted), set()).add(process.name)

    def _report(self, process: Process, epoch: int, data: bytes) -> None:
        self.check(epoch > process.reported, f"{process.name} reports epoch {epoch} after {process.reported}")
        self.leaps += epoch > process.reported + 1 > 1
        process.reported = epoch
        self._known(process, epoch, data)

    def _known(self, process: Process, epoch: int, data: bytes) -> None:
        first = self.chosen.setdefault(epoch, data)
        self.check(first == data, f"two values of epoch {epoch}: {first!r} and, at {process.name}, {data!r}")
        before = self.chosen.get(epoch - 1)
        self.check(epoch == 1 or before is not None, f"epoch {epoch} is chosen before anybody holds the one before")
        self.check(fault(epoch, before, data) is None, f"epoch {epoch} does not follow on the one before")
        voters = self.founders if epoch == 1 else voters_of(epoch - 1, self.chosen[epoch - 1])
        behind = [names for (of, _, what), names in self.accepted.items() if (of, what) == (epoch, data)]
        self.check(any(voters.enough(names) for names in behind), f"nobody decisive accepted epoch {epoch}")


class HastyDurable(Durable):
    """For a mutant: says it before it is on the disk."""

    def persist(self, name: str, value: bytes, then: object) -> list[Effect]:
        return [Persist(name, value), *then]  # type: ignore[misc]
