"""The clock, and who acts when: one heap of things to happen, one thread, no real time.

Two things that happen in the same millisecond happen in the order in which they were asked for, so a run is the same
every time. Nothing here iterates over a set or asks the machine for anything.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from mesh.core.control import Identity
from mesh.core.events import Millis
from mesh.core.messages import ALIVE, Member
from mesh.sim import goals
from mesh.sim.checkers import Checkers
from mesh.sim.faults import Fault
from mesh.sim.ledger import Ledger
from mesh.sim.network import Letter, Network
from mesh.sim.process import Process
from mesh.sim.reads import Reads
from mesh.sim.scenario import Scenario, Setup
from mesh.sim.transcript import Transcript
from mesh.sim.violation import Violation

STARTED = 1_700_000_000_000  # the world's first millisecond, in Unix time
LOOK_EVERY: Millis = 250
MOST_EVENTS = 3_000_000


@dataclass(slots=True)
class Host:
    """A place where one process after the other lives, under one name and address."""

    setup: Setup
    disk: dict[str, bytes] | None
    process: Process | None = None
    slow_code_until: Millis = 0
    slow_disk_until: Millis = 0
    now: Callable[[], Millis] = field(default=lambda: 0)

    def disk_takes(self, random: Random) -> Millis:
        return random.randint(500, 3_000) if self.now() < self.slow_disk_until else random.randint(0, 10)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run was like."""

    simulated: Millis
    events: int
    records: int  # that arrived at a stage or a sink
    messages: int
    lost: int
    doubled: int
    suspicions: int
    reads: int
    done: bool


class World:
    """One run of a scenario; `run` raises Violation."""

    def __init__(self, scenario: Scenario, transcript: Transcript | None = None) -> None:
        self.scenario = scenario
        self.transcript = transcript or Transcript()
        self.now: Millis = 0
        self.random = Random(f"world {scenario.seed}")
        self.processes: list[Process] = []  # all that ever were
        self.current: Process | None = None  # who acts in this event
        self.events = 0
        self.calm_since: Millis = 0
        self._heap: list[tuple[Millis, int, Callable[[Any], None], Any]] = []
        self._over = False
        self._going_on = 0  # faults that have not ended
        self.network = Network(scenario.conditions, Random(f"network {scenario.seed}"), self.at, self._deliver)
        self.ledger = Ledger(scenario.workload)
        self.checkers = Checkers(self)
        self.reads = Reads(self)
        self.hosts = {setup.name: self._host(setup) for setup in scenario.setups}
        self._names = {_endpoint(name): name for name in self.hosts}

    def _host(self, setup: Setup) -> Host:
        return Host(setup, {} if setup.has_disk else None, now=lambda: self.now)

    def at(self, time: Millis, function: Callable[[Any], None], argument: Any) -> None:
        self.events += 1
        heapq.heappush(self._heap, (time, self.events, function, argument))

    # -- the run

    def run(self) -> Summary:
        for setup in self.scenario.setups:
            self.at(setup.starts, self.start, setup.name)
        for fault in self.scenario.faults:
            self._expect(fault, fault.at)
        for time in self.scenario.reads:
            self.at(time, self.reads.ask, None)
        self.at(self.scenario.calm_at, self._calm, None)
        while not self._over:
            self._step()
        return self._summary()

    def _step(self) -> None:
        self.now, _, function, argument = heapq.heappop(self._heap)
        self.transcript.now = self.now
        self.current = None
        try:
            function(argument)
        except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
            who = self.current.name if self.current is not None else "the world"
            raise Violation("raised", f"{who}: {type(error).__name__}: {error}") from error
        if self.current is not None:
            self.checkers.after(self.current)
        if self.ledger.found:
            raise self.ledger.found[0]
        if self.events > MOST_EVENTS:
            raise Violation("I17", f"{self.events} events, and no end")

    def _calm(self, _: None) -> None:
        """From now on nothing is lost or doubled; late it may be."""
        if self._going_on:
            self.at(self.now + LOOK_EVERY, self._calm, None)
            return
        self.calm_since = self.now
        self.transcript.fault("nothing goes wrong any more")
        self.network.conditions = replace(self.network.conditions, lost=0, doubled=0)
        self._look(None)

    def _look(self, _: None) -> None:
        """Is everything as it must be in the end?"""
        if self._going_on:  # the founding came late, and with it more faults
            self._calm(None)
            return
        lacking = goals.unmet(self)
        if lacking is None:
            self._over = True
            self.transcript.say("*****", self._verdict())
        elif self.now > self.calm_since + goals.PATIENCE + goals.SLOW_READS * self.scenario.pace:
            raise Violation("I17", f"{(self.now - self.calm_since) // 1000} s after the last fault {lacking}")
        else:
            self.at(self.now + LOOK_EVERY, self._look, None)

    def _verdict(self) -> str:
        if self.ledger.complete():
            return f"all is done and right: {self.ledger.arrived} arrivals, each once and in order"
        return f"nothing more can be done without the dead: {self.ledger.arrived} of {self.ledger.sent} have arrived"

    def _summary(self) -> Summary:
        network = self.network
        return Summary(
            self.now,
            self.events,
            self.ledger.arrived,
            network.sent,
            network.lost,
            network.doubled,
            self.checkers.suspicions,
            self.reads.answered,
            self.ledger.complete(),
        )

    # -- faults

    def founded(self) -> None:
        """The first node knows the partition."""
        for fault in self.scenario.at_founding:
            self._expect(fault, self.now + fault.at)

    def _expect(self, fault: Fault, at: Millis) -> None:
        self._going_on += 1
        self.at(at, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        self.transcript.fault(fault.words())
        fault.begin(self)
        if fault.lasting:
            self.at(self.now + fault.lasting, self._end, fault)
        else:
            self._going_on -= 1

    def _end(self, fault: Fault) -> None:
        self.transcript.fault(f"over: {fault.words()}")
        fault.end(self)
        self._going_on -= 1

    # -- hosts

    def start(self, name: str) -> None:
        """A new process; nothing if one lives there."""
        host = self.hosts[name]
        if host.process is None or not host.process.alive:
            identity = self._identity(host.setup)
            random = Random(self.random.getrandbits(64))
            self.transcript.say(name, f"starts as {identity.me.node[:4].hex()}")
            host.process = self.current = Process(self, host, identity, random)
            self.processes.append(host.process)

    def crash(self, name: str) -> None:
        process = self.hosts[name].process
        if process is not None and process.alive:
            process.crash()

    def pause(self, name: str, until: Millis) -> None:
        process = self.hosts[name].process
        if process is not None and process.alive:
            process.pause(until)

    def _identity(self, setup: Setup) -> Identity:
        scenario = self.scenario
        node = self.random.randbytes(16)
        return Identity(
            me=Member(node, setup.name, _endpoint(setup.name), f"{setup.name}:7480", setup.role, "", 1, ALIVE),
            cluster=f"seed-{scenario.seed}",
            slots=scenario.slots,
            seed=0,
            graph="watched",
            started=STARTED + self.now,
            declared=scenario.declared,
            expect=scenario.expect,
            copies=1,
            seeds=tuple(_endpoint(name) for name in setup.knows),
        )

    # -- the network

    def post(self, process: Process, endpoint: str, parts: list[bytes]) -> None:
        receiver = self._names[endpoint]
        if self.transcript.verbose:
            self.transcript.message(process.name, receiver, parts)
        self.network.send((process.name, receiver), parts, self.now)

    def _deliver(self, letter: Letter) -> None:
        receiver = self.hosts[letter.pair[1]].process
        if receiver is not None and receiver.alive:
            receiver.arrive(letter.parts)


def _endpoint(name: str) -> str:
    return f"tcp://{name}:7400"
