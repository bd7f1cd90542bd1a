"""Who is outside of the data planes of `kept_kit`: producers that post, one that asks, and one that reads.

A producer sends one request after the other, each until it is answered, and sometimes once more before that; whoever it
asked may have died. What may be answered is looked at here, what was answered must be true in the end (`kept_checks`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol

from mesh.core.events import Event
from mesh.core.events.work import Answered, LinesPosted, LookupAsked, RecordAsked
from mesh.core.messages import NodeId
from tests.kept_checks import ASKS, Id, Job, Truth

AGAIN = ("unavailable", "unknown", "busy")


class Somebody(Protocol):
    """A process that can be asked."""

    id: NodeId


@dataclass
class Attempt:
    """A request at a node; `least`: what a read must show."""

    node: NodeId
    records: list[Id]
    of: int | None = None  # the producer
    read: tuple[int, Any] | None = None
    least: Any = None
    outcome: str = ""


@dataclass
class Producer:
    """Sends one request after the other, each until it is answered."""

    bodies: Sequence[int]
    sent: int = 0
    first: int = 0
    attempt: int = 0  # the ticket


class People:
    """`give` passes something to a process; `note` counts, `tell` is the story."""

    def __init__(
        self,
        job: Job,
        random: Random,
        truth: Truth,
        give: Callable[[Any, Event], None],
        note: Callable[[str], None],
        tell: Callable[..., None],
    ) -> None:
        self._job, self._random, self._truth = job, random, truth
        self._give, self._note, self._tell = give, note, tell
        self.producers = [Producer(each) for each in job.bodies]
        self.asks, self.reads = job.asks, job.reads
        self.attempts: dict[int, Attempt] = {}

    def waiting(self) -> list[Attempt]:
        return [each for each in self.attempts.values() if not each.outcome]

    def are_content(self) -> bool:
        """All that was to be asked is, and answered."""
        unsent = any(each.sent < len(each.bodies) for each in self.producers)
        return not (self.waiting() or self.asks or self.reads or unsent)

    def outside(self, nodes: Sequence[Somebody]) -> bool:
        """Somebody posts, asks, or reads, at one of these nodes."""
        ways: list[Callable[[Somebody], None]] = []
        for number, producer in enumerate(self.producers):
            waits = [each for each in self.attempts.values() if each.of == number and not each.outcome]
            impatient = len(waits) < 3 and self._random.random() < 0.03
            if producer.sent < len(producer.bodies) and (not producer.attempt or impatient):
                ways.append(partial(self._post, number))
        ways += [self._ask] * bool(self.asks) + [self._read] * bool(self.reads)
        if not ways or not nodes:
            return False
        self._random.choice(ways)(self._random.choice(nodes))
        return True

    def _attempt(self, attempt: Attempt) -> int:
        ticket = len(self.attempts) + 1
        self.attempts[ticket] = attempt
        return ticket

    def _post(self, number: int, node: Somebody) -> None:
        producer, stream = self.producers[number], f"p{number}"
        seqs = range(producer.first, producer.first + producer.bodies[producer.sent])
        records = [record for seq in seqs for record in self._job.parts(stream, seq)]
        producer.attempt = self._attempt(Attempt(node.id, records, of=number))
        lines = [{"stream": stream, "seq": seq} for seq in seqs]
        self._give(node, LinesPosted(producer.attempt, "lines", lines, stream, producer.first, [*seqs]))

    def _ask(self, node: Somebody) -> None:
        self.asks -= 1
        record = (ASKS, self.asks, 0)
        ticket = self._attempt(Attempt(node.id, [record]))
        self._give(node, RecordAsked(ticket, "first", self._job.first_key(record), record))

    def _read(self, node: Somebody) -> None:
        self.reads -= 1
        stage = self._random.randrange(2)
        key = self._random.randrange(self._job.keys[stage])
        ticket = self._attempt(Attempt(node.id, [], read=(stage, key), least=self._truth.asked(stage, key)))
        self._give(node, LookupAsked(ticket, ("first", "second")[stage], key))

    def answered(self, node: Somebody, answer: Answered) -> None:
        attempt = self.attempts[answer.ticket]
        assert attempt.node == node.id, "another node answers"
        assert not attempt.outcome, "answered twice"
        body = json.loads(answer.state) if answer.state else None
        self._tell(node, "answers", answer.ticket, answer.outcome, f"{body!r:.200}")
        if attempt.read is not None:
            if answer.outcome in ("found", "absent"):
                state = [tuple(record) for record in body or ()]
                self._truth.read(str(node), *attempt.read, state, attempt.least)
        elif answer.outcome in ("committed", "answered"):
            self._truth.answer(attempt.records)
        elif answer.outcome != "raised" or not self._job.raises(attempt.records[0]):
            assert answer.outcome in AGAIN, (answer, body)
        self.has_outcome(answer.ticket, answer.outcome)

    def has_outcome(self, ticket: int, outcome: str) -> None:
        attempt = self.attempts[ticket]
        attempt.outcome = outcome
        self._note(outcome)
        if attempt.of is None:
            return
        producer = self.producers[attempt.of]
        if producer.attempt == ticket:
            producer.attempt = 0
            if outcome == "committed":
                producer.first += producer.bodies[producer.sent]
                producer.sent += 1
