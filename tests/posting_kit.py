"""Producers that post to nodes among which slots move, and try again through others, under the same numbers.

Each line becomes some records, of several keys; a stage notes every record that it gets, and gives it out to a deeper
stage, which notes it again. A producer with a name sends its next lines when the last ones are committed, whatever
that takes; one without a name never tries again. Others ask for the outputs of single records. Nodes leave while they
have requests; then nobody answers these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import mesh
from mesh.app.plan import Plan, compile
from mesh.core.events import Effect
from mesh.core.events.work import Answered, LinesPosted, RecordAsked
from mesh.core.messages import NodeId
from tests.data_kit import Node, Nowhere
from tests.moves_kit import Job, Moving, Seat

Record = tuple[str, int, int, int]  # producer, seq of the line, place within it, key

COMMITTED, ANSWERED = "committed", "answered"
AGAIN = ("unavailable", "unknown", "busy")


@dataclass
class Attempt:
    """One request at one node."""

    node: NodeId
    lines: list[Any]
    asks: bool = False
    outcome: str = ""
    body: Any = None


@dataclass
class Producer:
    """Sends `bodies`, one after the other; without a name each of them once."""

    name: str
    named: bool
    bodies: list[list[Any]]
    first: int = 0  # seq of the first line of the present body
    attempt: int = 0  # ticket of the request under way
    attempts: list[int] = field(default_factory=list)
    sent: int = 0  # bodies that are done with

    def bodies_left(self) -> bool:
        return self.sent < len(self.bodies)

    def present(self) -> list[Any]:
        return self.bodies[self.sent]

    def records(self) -> list[Record]:
        return [record for body in self.bodies for line in body for record in records_of(line)]


def records_of(line: Any) -> list[Record]:
    return [(line["producer"], line["seq"], place, key) for place, key in enumerate(line["keys"])]


def digest(line: Any) -> int:
    return int(line["seq"]) * 1_000_003 + sum(line["keys"])


class Posting(Moving):
    """A cluster whose sources are producers."""

    def __init__(self, random: Random, producers: list[Producer], asks: int, **settings: Any) -> None:
        self.seen: tuple[Counter[Record], Counter[Record]] = (Counter(), Counter())
        self.orders: dict[tuple[str, int], list[int]] = {}  # (producer, key) -> seqs, in the order of being applied
        self.producers = producers
        self.asks = asks
        self.asked: list[tuple[int, Record]] = []
        self.attempts: dict[int, Attempt] = {}
        super().__init__(Job((), (1, 1), False, endless=True), random, **settings)

    def _plan(self, node: NodeId) -> Plan:
        app = mesh.App("posting")
        records = app.source("lines", mesh.http()).flat_map(records_of)
        first = records.key_by(lambda record: record[3]).stateful("first", tuple, self._step(0))
        second = first.values().key_by(lambda record: record[3] % 3).stateful("second", tuple, self._step(1))
        second.to(Nowhere())
        return compile(app)

    def _step(self, stage: int) -> Callable[[Any, Any], Any]:
        def step(state: Any, record: Any) -> Any:
            record = tuple(record)
            self.seen[stage][record] += 1
            if stage == 0:
                self.orders.setdefault((record[0], record[3]), []).append(record[1])
            return (*state, record), record

        return step

    # -- requests

    def _choices(self) -> list[Callable[[], None]]:
        choices = super()._choices()
        if self.random.random() < 0.2:
            ready = [each for each in self.producers if self._may_post(each)]
            choices += [lambda each=each: self._post(each) for each in ready]  # type: ignore[misc]
            if self.asks:
                choices.append(self._ask)
        return choices

    def _may_post(self, producer: Producer) -> bool:
        """One with a name may lose its patience, and try again before it is answered."""
        impatient = producer.named and self.random.random() < 0.1
        return producer.bodies_left() and (not producer.attempt or impatient)

    def _some_node(self) -> Seat | None:
        there = [each for each in self.present() if self.runs(each) and each.known]
        return self.random.choice(there) if there else None

    def _post(self, producer: Producer) -> None:
        seat = self._some_node()
        if seat is None:
            return
        ticket = self._attempt(seat, producer.present())
        producer.attempt = ticket
        producer.attempts.append(ticket)
        lines = producer.present()
        name, digests = (producer.name, [digest(line) for line in lines]) if producer.named else ("", [])
        self.give(seat.node, LinesPosted(ticket, "lines", lines, name, producer.first, digests))

    def _attempt(self, seat: Seat, lines: list[Any], *, asks: bool = False) -> int:
        ticket = len(self.attempts) + 1
        self.attempts[ticket] = Attempt(seat.node.id, lines, asks)
        return ticket

    def _ask(self) -> None:
        seat = self._some_node()
        if seat is None:
            return
        self.asks -= 1
        record = "asker", self.asks, 0, self.random.randrange(40)
        ticket = self._attempt(seat, [record], asks=True)
        self.asked.append((ticket, record))
        self.give(seat.node, RecordAsked(ticket, "first", record[3], record))

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answered):
                self._answered(node, effect)
            else:
                super()._perform(node, [effect])

    def _answered(self, node: Node, answer: Answered) -> None:
        attempt = self.attempts[answer.ticket]
        assert attempt.node == node.id
        assert not attempt.outcome, "answered twice"
        attempt.outcome = answer.outcome
        attempt.body = json.loads(answer.state) if answer.state else None
        for producer in self.producers:
            if producer.attempt == answer.ticket:
                self._told(producer, attempt)

    def _told(self, producer: Producer, attempt: Attempt) -> None:
        producer.attempt = 0
        if attempt.outcome == COMMITTED:
            assert attempt.body["committed"] == len(attempt.lines)
            assert 0 <= attempt.body["duplicates"] <= len(attempt.lines)
            assert producer.named or not attempt.body["duplicates"]
            for line in attempt.lines:
                for record in records_of(line):
                    assert self.seen[0][record] == 1, f"{record} is committed, and applied {self.seen[0][record]} times"
        else:
            assert attempt.outcome in AGAIN, attempt
        if attempt.outcome == COMMITTED or not producer.named:
            producer.first += len(attempt.lines)
            producer.sent += 1

    def _exit(self, seat: Seat) -> None:
        super()._exit(seat)
        for attempt in self.attempts.values():
            if attempt.node == seat.node.id and not attempt.outcome:
                attempt.outcome = "gone"
        for producer in self.producers:
            if producer.attempt and self.attempts[producer.attempt].outcome == "gone":
                attempt = self.attempts[producer.attempt]
                producer.attempt = 0
                if not producer.named:
                    producer.first += len(attempt.lines)
                    producer.sent += 1

    # -- the end

    def progress(self) -> object:
        """Answers: who loses patience often has much looked at that was applied before, and nothing else moves."""
        return sum(bool(attempt.outcome) for attempt in self.attempts.values())

    def through(self) -> bool:
        """Everybody has sent everything, was answered, and nothing is on its way."""
        known = all(each.known == len(self.history) for each in self.present())
        sent = not self.asks and all(not each.bodies_left() for each in self.producers)
        answered = all(attempt.outcome for attempt in self.attempts.values())
        at_rest = all(each.node.data.quiet() for each in self.present())
        return known and sent and answered and at_rest and not self.changes and self.settled() and not self._choices()

    def check(self) -> None:
        """Nothing twice; what is committed once; what came to nothing, not at all; all of it at the deeper stage."""
        for seen in self.seen:
            assert not [record for record, count in seen.items() if count > 1], "applied twice"
        assert self.seen[0] == self.seen[1], "what one stage gave out, the next did not get"
        for producer in self.producers:
            if producer.named:
                assert all(self.seen[0][record] == 1 for record in producer.records())
        for attempt in self.attempts.values():
            records = attempt.lines if attempt.asks else [each for line in attempt.lines for each in records_of(line)]
            if attempt.outcome in (COMMITTED, ANSWERED):
                assert all(self.seen[0][record] == 1 for record in records)
            elif attempt.outcome in ("unavailable", "busy") and records and not self._is_named(records[0][0]):
                assert not any(self.seen[0][record] for record in records), "told that it came to nothing"
            if attempt.outcome == ANSWERED:
                assert attempt.body == {"outputs": [list(records[0])]}
        for (producer, _), seqs in self.orders.items():
            assert producer == "asker" or seqs == sorted(seqs), "out of order"

    def _is_named(self, name: str) -> bool:
        return any(producer.name == name and producer.named for producer in self.producers)

    def check_windows(self) -> None:
        """What producers sent is remembered where its slot is, and there alone."""
        for seat in self.present():
            here = {slot for slot, each in enumerate(self.configs) if each.owner == seat.node.id}
            assert set(seat.node.data.owner.windows.slots_here()) <= here


def some_producers(random: Random) -> list[Producer]:
    """Named ones and others, with bodies of some lines."""
    producers = []
    for number in range(random.randint(1, 4)):
        named = random.random() < 0.7
        name, seq, bodies = f"p{number}", 0, []
        for _ in range(random.randint(1, 4)):
            body = []
            for _ in range(random.choice((0, 1, 3, 20))):
                keys = [random.randrange(40) for _ in range(random.choice((0, 1, 1, 2)))]
                body.append({"producer": name, "seq": seq, "keys": keys})
                seq += 1
            bodies.append(body)
        producers.append(Producer(name, named, bodies))
    return producers
