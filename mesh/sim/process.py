"""One life of a node: the loop that `mesh.runtime.daemon` runs with threads, on a made-up clock and in one thread.

    main thread   pump what came, one turn of the data plane; the application's code takes time, and meanwhile
    heart         pumps now and then, as in production
    paused        nothing at all; messages wait

Time passes only between events: a turn that takes 300 ms changes the data plane at once, and what it has to say leaves
300 ms later. Every change is looked at by the checkers before anything else happens. All times in here are those of the
host's own clock.

    alive -> crashed (by the world), stopped (refused to take part), or left (Departed: it says goodbye and ends)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from mesh.core.control import Identity
from mesh.core.events import Departed, Effect, Envelope, Event, Log, Millis, Persist, Persisted, Rejected, Stop, Woke
from mesh.core.events.operator import AskToLeave
from mesh.core.events.planes import MemberChanged
from mesh.core.events.work import JobDone
from mesh.core.membership.facts import Lagged, Leave
from mesh.core.messages import NodeId
from mesh.core.messages.members import Member
from mesh.core.node import Node
from mesh.sim.instruments import Instruments, WatchedWorker
from mesh.sim.stores import Stores
from mesh.sim.violation import Violation
from mesh.sim.writing import Writing

if TYPE_CHECKING:
    from mesh.sim.host import Host
    from mesh.sim.world import World

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
        self.left = False  # properly, with nothing left to do
        self.job_done = False
        self.stopped = ""  # why it refused to take part
        self.beliefs: dict[NodeId, Member] = {}
        self.rejected: Counter[str] = Counter()
        self._world = world
        scenario = world.scenario
        self.instruments = Instruments(self, world)
        store, stores = host.disk.store if host.disk is not None else None, scenario.stores or Stores()
        self.node = Node(
            identity,
            scenario.workload.plan(self.instruments),
            scenario.tuning,
            Random(int.from_bytes(self.id)),
            dict(host.disk.records) if host.disk is not None else {},
            scenario.window_bytes,
            scenario.batch_records,
            store,
            stores.warm_bytes,
        )
        if store is not None:
            stores.fit(self.node.data)
        self.worker = WatchedWorker(self, world)
        self._received: deque[Sequence[bytes]] = deque()
        self._departs = False
        self._ran: Millis = world.now  # when it was paused, or ended
        self._pumped_at: Millis = self.now
        self._paused_until: Millis = self.now
        self._due: Millis = self.now  # when it would run if it were not paused
        self._wake_at: Millis | None = None
        self._busy_until: Millis | None = None  # the main thread is in the application's code
        self._said: list[Effect] = []  # what the turn under way has to say when it is over
        self.writing = Writing(self, world)
        self.schedule()

    @property
    def now(self) -> Millis:
        """By its own clock."""
        return self.host.clock.local(self._world.now)

    # -- from outside

    def arrive(self, parts: Sequence[bytes]) -> None:
        if len(self._received) >= RECEIVE_QUEUE:
            return
        self._received.append(parts)
        if self._busy_until is not None:
            self.schedule()
        elif self._due > self.now:
            self._wake(self.now)

    def post(self, event: Event) -> None:
        """Somebody at this node wants something of the data plane."""
        self.worker.post(event)
        self.schedule()

    def ask(self, question: Event) -> None:
        """Somebody comes to its door: the question is taken at once while the main thread waits for something to do."""
        is_free = self._busy_until is None and not self.paused and self.worker.rests()
        if not is_free or not self.node.data.is_quick(question):
            self.post(question)
            return
        self._world.current = self
        self.instruments.toil = 0
        self._absorb(self.worker.take(question, self.now), self.now)
        self.worker.settle(self.now)
        if self.instruments.toil:
            raise Violation("door", f"{self.name} runs the application's code while it takes a question")
        self.schedule()

    def ask_to_leave(self, node: NodeId) -> None:
        """An operator comes to this node."""
        self._world.current = self
        self._perform(self.node.handle_control(AskToLeave(node), self.now))
        self.schedule()

    def pause(self, lasting: Millis) -> None:
        self._ran = self.last_ran()
        until = self.host.clock.local(self._world.now + lasting)
        self._paused_until = max(self._paused_until, until)

    @property
    def paused(self) -> bool:
        return self.now < self._paused_until

    def last_ran(self) -> Millis:
        """In the world's time."""
        return self._world.now if self.alive and not self.paused else self._ran

    def crash(self, *, torn: bool = False) -> None:
        self._ran = self.last_ran()
        self.alive = False
        if self.host.disk is not None:
            self.host.disk.crash(self.random, torn=torn)

    # -- when to run next

    def schedule(self) -> None:
        self._wake(max(self.now, self._next_run()))

    def _wake(self, due: Millis) -> None:
        self._due = due if self._wake_at is None else min(due, self._due)
        wake_at = max(due, self._paused_until)
        if self._wake_at is None or wake_at < self._wake_at:
            self._wake_at = wake_at
            self._world.at(self.host.clock.world(wake_at), self._woken, wake_at)

    def _next_run(self) -> Millis:
        now = self.now
        due = now if self._received or self.writing.written else self.node.control.next_deadline()
        if self._busy_until is not None:
            beats = self._pumped_at + HEART_AFTER
            return min(self._busy_until, now + 1_000_000 if due is None else max(due, beats))
        if self.worker.busy(now):
            return now
        deadlines = [each for each in (due, self.worker.next_deadline()) if each is not None]
        return min(deadlines, default=now + 1_000)

    def _woken(self, wake_at: Millis) -> None:
        if wake_at != self._wake_at or not self.alive:
            return  # something else came first
        self._wake_at = None
        now = self.now
        if now < self._paused_until:
            self.schedule()
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
        if self._departs and self.alive and self._busy_until is None:
            self._go(now)
        if self.alive:
            self.schedule()

    def _go(self, now: Millis) -> None:
        """The seat is gone, and nothing is left to do."""
        self._perform(self.node.handle_control(Leave(), now))
        self.crash()
        self.left = True
        self._world.left(self)

    # -- the loop

    def _loop(self, now: Millis) -> None:
        for _ in range(MOST_TURNS):
            self._pump(now)
            if not self.alive or self._departs or not self._something_to_do(now):
                return
            self.instruments.toil = 0
            effects = self.worker.turn(now)
            if self.instruments.toil:
                self._said, self._busy_until = effects, now + self.instruments.toil
                return
            self._absorb(effects, now)
        raise Violation("deadline", f"{self.name} turns for ever without time passing")

    def _something_to_do(self, now: Millis) -> bool:
        deadline = self.worker.next_deadline()
        return (
            self.worker.busy(now)
            or bool(self._received or self.writing.written)
            or (deadline is not None and deadline <= now)
        )

    def _pump(self, now: Millis) -> None:
        node = self.node
        if now - self._due > LAG:
            self._perform(node.handle_control(Lagged(now - self._due), now))
        self._due = self._pumped_at = now
        while self.writing.written:
            self._perform(node.handle_control(Persisted(self.writing.written.popleft()), now))
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
                    if self.writing.persist(name, value):
                        self._perform(self.node.handle_control(Persisted(name), self.now))
                case Log():
                    world.checkers.touch.fences += effect.event == "node.fenced"
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
                case Departed():
                    self._departs = True
                case Stop(sentence):
                    self.stopped = sentence
                    self.crash()
                    world.checkers.stopped(self)
                case _:
                    raise AssertionError(f"nobody performs {effect}")
