"""People outside: producers that post numbered lines through any node, and try again through others; and notes.

A producer's lines are a stream of the workload like a split's; nobody reads them, they are posted to the last source.

    resting -> asking (a request for its present body is on its way, or at a node) -> committed: the next body, if any
                 ^______ it was refused, or nobody knows, or its patience is at its end: again, through another node

Requests and answers travel: either may be lost, or late, so that several requests for one body may be on their way at a
time, also when it is long committed. An answer that comes after its producer has asked again is not listened to.

A note has no number, and is sent once, in whatever way: asked for (`RecordAsked`), or posted without a name. It goes to
a stage of its own. Sometimes more of them come at once than a node takes.

Events    a client's own time; `answer` of a node
Invariant a producer posts a body only when all before it are committed. What nodes do with it all, and what they say,
          is looked at by `posted`.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from mesh.core.events import Event, Millis
from mesh.core.events.work import LinesPosted, RecordAsked
from mesh.sim.posted import COMMITTED, Attempt, Posted
from mesh.sim.workload import NOTED, NOTES, Line, Record, key_of_note

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

MOST_PATIENCE: Millis = 8_000  # a node answers sooner
AT_LEAST: Millis = 50  # after a refusal
LOOK_AGAIN: Millis = 300  # when nobody lives


@dataclass(frozen=True, slots=True)
class Producer:
    """`bodies`: how many lines each has; `loses`: of a thousand requests, and of as many answers."""

    starts: Millis
    bodies: tuple[int, ...]
    pause: Millis  # at most, before it asks, for whatever reason
    patience: Millis  # at first; it waits longer each time that it asks for the same body
    loses: int = 0
    late: Millis = 0  # at most, either way


@dataclass(frozen=True, slots=True)
class Note:
    """`numbers` of one, that is asked for, or of some that are posted together; `crowd`: so many of these at once."""

    at: Millis
    numbers: tuple[int, ...]
    asks: bool
    crowd: int = 1


class Clients:
    """All of them."""

    def __init__(self, world: World) -> None:
        scenario = world.scenario
        self.posted = Posted(scenario.workload, world.ledger)
        self.answered = 0
        self._world = world
        self._random = Random(f"clients {scenario.seed}")
        self._posting = [_Posting(self, world, place, each) for place, each in enumerate(scenario.producers)]
        self._notes = 0

    def begin(self) -> None:
        for producer in self._posting:
            self._world.at(producer.shape.starts, producer.ask, None)
        for note in self._world.scenario.notes:
            self._world.at(note.at, self._note, note)

    def waiting(self) -> str | None:
        """A producer that does not know that all its lines are committed."""
        return next((f"a producer waits: {each.words()}" for each in self._posting if not each.through()), None)

    def somebody(self) -> Process | None:
        """A node that lives, if any does."""
        living = [process for process in self._world.processes if process.alive]
        return self._random.choice(living) if living else None

    def send(self, process: Process, attempt: Attempt, event: Event) -> None:
        self.posted.sends(attempt, process)
        if not self._is_lost(attempt):
            self._world.at(self._world.now + self._delay(attempt), partial(self._arrive, attempt), event)

    def _arrive(self, attempt: Attempt, event: Event) -> None:
        assert attempt.process is not None
        attempt.arrived_at = self._world.now
        if attempt.process.alive:
            self._world.transcript.say(attempt.process.name, f"is sent {attempt.who}")
            attempt.process.ask(event)

    def _is_lost(self, attempt: Attempt) -> bool:
        """Once nothing goes wrong any more, none is; nor are notes."""
        loses = 0 if attempt.shape is None or self._world.calm_since else attempt.shape.loses
        return self._random.randrange(1_000) < loses

    def _delay(self, attempt: Attempt) -> Millis:
        return 0 if attempt.shape is None else self._random.randint(0, attempt.shape.late)

    def rest(self, shape: Producer) -> Millis:
        return self._random.randint(0, shape.pause)

    def answer(self, process: Process, ticket: int, outcome: str, body: bytes) -> None:
        """A node says what became of a request."""
        self.answered += 1
        self._world.transcript.say(process.name, f"says of {self.posted.who(ticket)}: {outcome}")
        attempt = self.posted.answered(process, ticket, outcome, json.loads(body) if body else None)
        if attempt.tell is not None and not self._is_lost(attempt):
            self._world.at(self._world.now + self._delay(attempt), attempt.tell, outcome)

    def late(self, long: Millis) -> str | None:
        """A request that was not answered for so long, by a node that lives."""
        for attempt in self.posted.open():
            process = attempt.process
            if process is not None and process.alive and 0 <= attempt.arrived_at < self._world.now - long:
                return f"{process.name} has not answered {attempt.who}"
        return None

    # -- notes

    def _note(self, note: Note) -> None:
        process = self.somebody()
        if process is None:
            self._world.at(self._world.now + LOOK_AGAIN, self._note, note)
            return
        for _ in range(note.crowd):
            records: list[Record] = [(NOTES, self._notes + place, each) for place, each in enumerate(note.numbers)]
            attempt = self.posted.attempt(f"notes from {self._notes}", records, asks=note.asks)
            self._notes += len(records)
            event: Event = LinesPosted(attempt.ticket, NOTES, [list(record) for record in records])
            if note.asks:
                record = records[0]
                event = RecordAsked(attempt.ticket, NOTED, key_of_note(record), list(record))
            self.send(process, attempt, event)


class _Posting:
    """One producer."""

    def __init__(self, clients: Clients, world: World, place: int, shape: Producer) -> None:
        workload = world.scenario.workload
        source = len(workload.sources) - 1
        self.shape = shape
        self._name = f"{source}/{place}"
        self._source = f"source-{source}"
        self._lines = workload.sources[source][place]
        self._clients = clients
        self._world = world
        self._body = 0
        self._first = 0  # the present body's first line
        self._asked: Attempt | None = None  # what it waits for
        self._patience = shape.patience
        world.ledger.reading(b"", self._name, 0, ())

    def through(self) -> bool:
        return self._body == len(self.shape.bodies)

    def words(self) -> str:
        return f"lines of {self._name} from {self._first}"

    def ask(self, _: None) -> None:
        """For its present body, whatever became of the request before."""
        process = self._clients.somebody()
        if self.through():
            return
        if process is None:
            self._world.at(self._world.now + LOOK_AGAIN, self.ask, None)
            return
        attempt = self._asked = self._attempt()
        self._clients.send(process, attempt, self._event(attempt.ticket))
        self._world.at(self._world.now + self._patience, self._lose_patience, attempt)
        self._patience = min(2 * self._patience, MOST_PATIENCE)

    def _present(self) -> tuple[Line, ...]:
        return self._lines[self._first : self._first + self.shape.bodies[self._body]]

    def _attempt(self) -> Attempt:
        lines, posted = self._present(), self._clients.posted
        if not posted.is_known((self._name, self._body)):
            self._world.ledger.reading(b"", self._name, self._first, lines)  # from now on it is owed
        records = [(name, first + place, each) for name, first, numbers in lines for place, each in enumerate(numbers)]
        attempt = posted.attempt(self.words(), records, (self._name, self._body))
        attempt.lines, attempt.shape = len(lines), self.shape
        attempt.tell = partial(self._told, attempt)
        return attempt

    def _event(self, ticket: int) -> LinesPosted:
        texts = [json.dumps(line) for line in self._present()]
        digests = [zlib.crc32(text.encode()) for text in texts]
        return LinesPosted(ticket, self._source, [*map(json.loads, texts)], self._name, self._first, digests)

    def _told(self, attempt: Attempt, outcome: str) -> None:
        if attempt is not self._asked:
            return  # it does not listen any more
        self._asked = None
        if outcome == COMMITTED:
            self._first += self.shape.bodies[self._body]
            self._body += 1
            self._patience = self.shape.patience
        rest = self._clients.rest(self.shape) + (0 if outcome == COMMITTED else AT_LEAST)
        self._world.at(self._world.now + rest, self.ask, None)

    def _lose_patience(self, attempt: Attempt) -> None:
        if attempt is self._asked:
            self._asked = None
            self.ask(None)
