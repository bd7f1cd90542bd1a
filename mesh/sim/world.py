"""The clock, and who acts when: one heap of things to happen, one thread, no real time.

Two things that happen in the same millisecond happen in the order in which they were asked for, so a run is the same
every time. Nothing here iterates over a set or asks the machine for anything.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mesh.core.control import Identity
from mesh.core.events import Millis
from mesh.core.leaving import refusal
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, STAYING, Member
from mesh.core.table import WORKER
from mesh.sim import goals
from mesh.sim.checkers import Checkers
from mesh.sim.clients import Clients
from mesh.sim.faults import Fault
from mesh.sim.host import Clock, Disk, Host
from mesh.sim.kept_ledger import KeptLedger
from mesh.sim.ledger import Ledger
from mesh.sim.network import Letter, Network
from mesh.sim.process import Process
from mesh.sim.reads import Reads
from mesh.sim.scenario import Scenario, Setup
from mesh.sim.stores import ForgetfulStore
from mesh.sim.transcript import Transcript
from mesh.sim.violation import Violation

STARTED = 1_700_000_000_000  # the world's first millisecond, in Unix time
LOOK_EVERY: Millis = 250
ASK_AGAIN: Millis = 3_000
MOST_EVENTS = 3_000_000


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
    requests: int  # of clients, that were answered
    fences: int  # of nodes that were cut off from a majority
    moved: int  # slots that went from one living process to another
    left: int
    done: bool


class World:
    """One run of a scenario; `run` raises Violation."""

    def __init__(self, scenario: Scenario, transcript: Transcript | None = None) -> None:
        self.scenario = scenario
        self.transcript = transcript or Transcript()
        self.now: Millis = 0
        self.random = Random(f"world {scenario.seed}")
        self.processes: list[Process] = []  # all that ever were
        self.leaving: dict[NodeId, None] = {}  # who was asked to leave
        self.current: Process | None = None  # who acts in this event
        self.events = 0
        self.calm_since: Millis = 0
        self._heap: list[tuple[Millis, int, Callable[[Any], None], Any]] = []
        self._over = False
        self.going_on = 0  # faults that have not ended
        self.network = Network(scenario.conditions, Random(f"network {scenario.seed}"), self.at, self._deliver)
        self.ledger = _ledger(self)
        self.checkers = Checkers(self)
        self.reads = Reads(self)
        self.clients = Clients(self)
        setups, stores = (*scenario.setups, *scenario.joiners), scenario.stores is not None
        self.hosts = {setup.name: _host(setup, stores=stores) for setup in setups}
        self._names = {_endpoint(name): name for name in self.hosts}

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
        self.clients.begin()
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
        if self.going_on:
            self.at(self.now + LOOK_EVERY, self._calm, None)
            return
        self.calm_since = self.now
        self.transcript.fault("nothing goes wrong any more")
        self.network.conditions = replace(self.network.conditions, lost=0, doubled=0)
        self._look(None)

    def _look(self, _: None) -> None:
        """Is everything as it must be in the end?"""
        if self.going_on:  # the founding came late, and with it more faults
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
            self.clients.answered,
            self.checkers.touch.fences,
            self.checkers.epochs.moved,
            sum(process.left for process in self.processes),
            self.ledger.complete(),
        )

    # -- faults

    def founded(self) -> None:
        """The first node knows the partition."""
        for fault in self.scenario.at_founding:
            self._expect(fault, self.now + fault.at)

    def _expect(self, fault: Fault, at: Millis) -> None:
        self.going_on += 1
        self.at(at, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        self.transcript.fault(fault.words())
        fault.begin(self)
        if fault.lasting:
            self.at(self.now + fault.lasting, self._end, fault)
        else:
            self.going_on -= 1

    def _end(self, fault: Fault) -> None:
        self.transcript.fault(f"over: {fault.words()}")
        fault.end(self)
        self.going_on -= 1

    # -- hosts

    def start(self, name: str) -> None:
        """A new process; nothing if one lives there."""
        host = self.hosts[name]
        if host.living() is None:
            told = host.prepare()
            if told:
                self.transcript.say(name, told)
            identity = self._identity(host.setup)
            random = Random(self.random.getrandbits(64))
            self.transcript.say(name, f"starts as {identity.me.node[:4].hex()}")
            self.current = Process(self, host, identity, random)
            host.processes.append(self.current)
            self.processes.append(self.current)

    def crash(self, name: str, *, torn: bool = False) -> None:
        process = self.hosts[name].living()
        if process is not None:
            process.crash(torn=torn)

    def pause(self, name: str, lasting: Millis) -> None:
        process = self.hosts[name].living()
        if process is not None:
            process.pause(lasting)

    def ask_to_leave(self, name: str) -> Process | None:
        """Somebody comes to any node that answers, and wants this member to leave; who is asked, if it may."""
        leaver = self.hosts[name].living()
        willing = [each for each in self.processes if each.alive and not each.paused and _may_ask(each, name)]
        if leaver is None or not willing:
            return None
        asked = self.random.choice(willing)
        self.transcript.say(asked.name, f"is asked to make {name} leave")
        self.leaving[leaver.id] = None
        asked.ask_to_leave(leaver.id)
        self.at(self.now + ASK_AGAIN, self._ask_again, leaver)
        return leaver

    def _ask_again(self, leaver: Process) -> None:
        """Who was asked may have left itself, or crashed, before it could tell."""
        stays = leaver.alive and leaver.node.control.membership.me.leaving == STAYING
        if stays and self.ask_to_leave(leaver.name) is None:
            self.at(self.now + ASK_AGAIN, self._ask_again, leaver)

    def left(self, process: Process) -> None:
        self.transcript.say(process.name, "says goodbye and ends")
        self.checkers.left(process)

    def _identity(self, setup: Setup) -> Identity:
        scenario = self.scenario
        node = self.random.randbytes(16)
        home, boot = self.hosts[setup.name].count_start(node)
        at = _endpoint(setup.name)
        return Identity(
            me=Member(node, setup.name, at, f"{setup.name}:7480", setup.role, "", 1, ALIVE, STAYING, home, boot),
            cluster=f"seed-{scenario.seed}",
            slots=scenario.slots,
            seed=0,
            graph="watched",
            started=STARTED + self.now,
            declared=scenario.declared,
            expect=scenario.expect,
            copies=scenario.copies,
            durable=scenario.stores is not None,
            seeds=tuple(_endpoint(name) for name in setup.knows),
        )

    # -- the network

    def post(self, process: Process, endpoint: str, parts: list[bytes]) -> None:
        receiver = self._names[endpoint]
        self.checkers.votes.posted(process, parts[1])
        if self.transcript.verbose:
            self.transcript.message(process.name, receiver, parts)
        self.network.send((process.name, receiver), parts, self.now)

    def _deliver(self, letter: Letter) -> None:
        receiver = self.hosts[letter.pair[1]].living()
        if receiver is not None:
            receiver.arrive(letter.parts)


def _ledger(world: World) -> Ledger | KeptLedger:
    workload = world.scenario.workload
    if not world.scenario.keeps:
        return Ledger(workload)
    return KeptLedger(workload, lambda worker, key: world.checkers.owners.reign_of(worker, key))


def _may_ask(process: Process, name: str) -> bool:
    """Does this node know such a member, that is not the last worker?"""
    control = process.node.control
    return refusal(control.table, control.membership.members, name) is None


def _host(setup: Setup, *, stores: bool) -> Host:
    store = ForgetfulStore() if stores and setup.role == WORKER else None
    return Host(setup, Disk(store) if setup.has_disk else None, Clock(*setup.clock))


def _endpoint(name: str) -> str:
    return f"tcp://{name}:7400"
