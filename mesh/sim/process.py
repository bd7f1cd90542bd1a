"""One life of a node: the loop that `mesh.runtime.daemon` runs with threads, on a made-up clock and in one thread.

    main thread   pump what came, one turn of the data plane; the application's code takes time, and meanwhile
    heart         pumps now and then, as in production
    paused        nothing at all; messages wait

Time passes only between events: a turn that takes 300 ms changes the data plane at once, and what it has to say leaves
300 ms later. Every change is looked at by the checkers before anything else happens.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from mesh.core.control import Identity
from mesh.core.events import (
    Effect,
    Envelope,
    Event,
    JobDone,
    Log,
    MemberChanged,
    Millis,
    Persist,
    Persisted,
    Rejected,
    Stop,
    Woke,
)
from mesh.core.membership.facts import Lagged
from mesh.core.messages import Member, NodeId
from mesh.core.node import Node
from mesh.runtime.worker import Worker
from mesh.sim.violation import Violation
from mesh.sim.workload import Line, Record

if TYPE_CHECKING:
    from mesh.sim.world import Host, World

RECEIVE_AT_ONCE = 64
RECEIVE_QUEUE = 20_000  # messages that wait in a process; more are lost, as at a high-water mark
HEART_AFTER: Millis = 50
HEART_EVERY: Millis = 25
LAG: Millis = 200
MOST_TURNS = 2_000  # without time passing; a loop that stands still is a bug


class Process:
    """`node` and `worker` are what production runs."""

    def __init__(self, world: World, host: Host, identity: Identity, random: Random) -> None:
        self.host = host
        self.id: NodeId = identity.me.node
        self.name = identity.me.name
        self.random = random  # for what surrounds the node
        self.alive = True
        self.job_done = False
        self.stopped = ""  # why it refused to take part
        self.beliefs: dict[NodeId, Member] = {}
        self.rejected: Counter[str] = Counter()
        self._world = world
        scenario = world.scenario
        self.node = Node(
            identity,
            scenario.workload.plan(_Instruments(self, world)),
            scenario.tuning,
            Random(int.from_bytes(self.id)),
            dict(host.disk or {}),
            scenario.window_bytes,
            scenario.batch_records,
        )
        part = f"{self.name}-{self.id[:3].hex()}"
        self.worker = _Worker(self.node.data, part, lambda: None, self.node.inbox, lambda: self._toil)
        self.worker.answered = lambda *answer: world.reads.answer(self, *answer)
        self._received: deque[Sequence[bytes]] = deque()
        self._pumped_at: Millis = world.now
        self._paused_until: Millis = 0
        self._due: Millis = world.now  # when it would run if it were not paused
        self._wake_at: Millis | None = None
        self._busy_until: Millis | None = None  # the main thread is in the application's code
        self._said: list[Effect] = []  # what the turn under way has to say when it is over
        self._toil: Millis = 0  # what the application's code has taken in this turn
        self._writes: deque[tuple[str, bytes]] = deque()  # the first is under way to the disk
        self._written: deque[str] = deque()  # on the disk, and the node does not know it yet
        self._schedule()

    # -- from outside

    def arrive(self, parts: Sequence[bytes]) -> None:
        if len(self._received) >= RECEIVE_QUEUE:
            return
        self._received.append(parts)
        if self._busy_until is not None:
            self._schedule()
        elif self._due > self._world.now:
            self._wake(self._world.now)

    def post(self, event: Event) -> None:
        """Somebody at this node wants something of the data plane."""
        self.worker.post(event)
        self._schedule()

    def pause(self, until: Millis) -> None:
        self._paused_until = max(self._paused_until, until)

    def crash(self) -> None:
        """What was under way to the disk has got there, up to some point, or not."""
        self.alive = False
        if self.host.disk is not None:
            for _ in range(self.random.randint(0, len(self._writes))):
                name, value = self._writes.popleft()
                self.host.disk[name] = value

    # -- when to run next

    def _schedule(self) -> None:
        self._wake(max(self._world.now, self._next_run()))

    def _wake(self, due: Millis) -> None:
        self._due = due if self._wake_at is None else min(due, self._due)
        wake_at = max(due, self._paused_until)
        if self._wake_at is None or wake_at < self._wake_at:
            self._wake_at = wake_at
            self._world.at(wake_at, self._woken, wake_at)

    def _next_run(self) -> Millis:
        now = self._world.now
        due = now if self._received or self._written else self.node.control.next_deadline()
        if self._busy_until is not None:
            beats = self._pumped_at + HEART_AFTER
            return min(self._busy_until, now + 1_000_000 if due is None else max(due, beats))
        if self.worker.busy(now):
            return now
        deadlines = [each for each in (due, self.node.data.next_deadline()) if each is not None]
        return min(deadlines, default=now + 1_000)

    def _woken(self, wake_at: Millis) -> None:
        if wake_at != self._wake_at or not self.alive:
            return  # something else came first
        self._wake_at = None
        now = self._world.now
        if now < self._paused_until:
            self._schedule()
            return
        self._world.current = self
        if self._busy_until is None:
            self._loop(now)
        elif now < self._busy_until:
            self._pump(now)
        else:
            self._busy_until = None
            said, self._said = self._said, []
            self._absorb(said, now)
            self._loop(now)
        if self.alive:
            self._schedule()

    # -- the loop

    def _loop(self, now: Millis) -> None:
        for _ in range(MOST_TURNS):
            self._pump(now)
            if not self.alive or not self._something_to_do(now):
                return
            self._toil = 0
            effects = self.worker.turn(now)
            if self._toil:
                self._said, self._busy_until = effects, now + self._toil
                return
            self._absorb(effects, now)
        raise Violation("deadline", f"{self.name} turns for ever without time passing")

    def _something_to_do(self, now: Millis) -> bool:
        deadline = self.node.data.next_deadline()
        return (
            self.worker.busy(now) or bool(self._received or self._written) or (deadline is not None and deadline <= now)
        )

    def _pump(self, now: Millis) -> None:
        node = self.node
        if now - self._due > LAG:
            self._perform(node.handle_control(Lagged(now - self._due), now))
        self._due = self._pumped_at = now
        while self._written:
            self._perform(node.handle_control(Persisted(self._written.popleft()), now))
        for _ in range(min(len(self._received), RECEIVE_AT_ONCE)):
            before = len(node.inbox)
            effects = node.received(self._received.popleft(), now)
            self._world.checkers.delivered(self, before)
            self._perform(effects)
        deadline = node.control.next_deadline()
        if deadline is not None and deadline <= now:
            self._perform(node.handle_control(Woke(), now))
            self._world.checkers.woken(self)
        self._world.checkers.pumped(self)

    def _absorb(self, effects: list[Effect], now: Millis) -> None:
        self._world.checkers.transmitted(self, effects)
        self._perform(self.node.absorb(effects, now))

    def _perform(self, effects: list[Effect]) -> None:
        world = self._world
        for effect in effects:
            match effect:
                case Envelope(endpoint, parts):
                    world.post(self, endpoint, parts)
                case Persist(name, value):
                    self._persist(name, value)
                case Log():
                    world.transcript.log(self, effect)
                case Rejected():
                    self.rejected[effect.reason] += 1
                    world.checkers.rejected(self, effect)
                    world.transcript.rejected(self, effect)
                case MemberChanged(member):
                    world.checkers.believes(self, member)
                    self.beliefs[member.node] = member
                case JobDone():
                    self.job_done = True
                    world.checkers.job_done(self)
                    world.transcript.say(self.name, "says that the job is done")
                case Stop(sentence):
                    self.stopped = sentence
                    self.crash()
                    world.checkers.stopped(self)
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    # -- the disk

    def _persist(self, name: str, value: bytes) -> None:
        """Memory is at once all there is; a disk takes its time, one write after the other."""
        if self.host.disk is None:
            self._perform(self.node.handle_control(Persisted(name), self._world.now))
            return
        self._writes.append((name, value))
        if len(self._writes) == 1:
            self._write()

    def _write(self) -> None:
        self._world.at(self._world.now + self.host.disk_takes(self.random), self._write_done, None)

    def _write_done(self, _: None) -> None:
        if self.alive and self.host.disk is not None:
            name, value = self._writes.popleft()
            self.host.disk[name] = value
            self._written.append(name)
            if self._writes:
                self._write()
            self._schedule()

    # -- the application's code

    def toiled(self, usual: Millis) -> None:
        """A call into the application's code took its time."""
        if self._world.now < self.host.slow_code_until:
            self._toil += self.random.choice((10, 100, 1_000, 2_500))
        else:
            self._toil += usual


class _Worker(Worker):
    """Answers are looked at instead of waited for."""

    answered: Callable[[int, str, bytes], None]

    def _answer(self, number: int, outcome: str, state: bytes) -> None:
        self.answered(number, outcome, state)


class _Instruments:
    """What the application on this process tells."""

    def __init__(self, process: Process, world: World) -> None:
        self._process = process
        self._world = world

    def reading(self, stream: str, offset: int, lines: Sequence[Line]) -> None:
        self._process.toiled(self._process.random.randint(1, 1 + 2 * self._world.scenario.pace))
        self._world.ledger.reading(self._process.id, stream, offset, lines)

    def stepping(self, stage: int, record: Record, count: int) -> None:
        if self._process._toil == 0:
            self._process.toiled(self._process.random.randint(0, 2))
        self._world.checkers.stepping(self._process, stage, record)
        self._world.ledger.stepping(self._process.id, stage, record, count)

    def writing(self, sink: str, items: Sequence[Any]) -> None:
        self._world.ledger.writing(sink, items)

    def random(self) -> Random:
        return self._process.random
