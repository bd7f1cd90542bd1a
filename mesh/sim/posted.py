"""What nodes say to clients, and what they then do: rule E6.

A producer's records are the ledger's like any others': each once, in order, none left out. Here is what answers add.
A note has no number, so nobody may try again; its stage's states have a book here.

    request   sent -> answered, once, by the node that it was sent to; or never, if that ended
    body      of a producer: all requests with the same lines

    committed, answered   everything of it is applied, and is in every later reign
    unavailable, busy     this request applied nothing, and never will
    unknown               it may have applied some, or will; also any that was not answered
    anything else is an answer to what nobody sent

So what is applied must be of a body with a request that was not refused; a note is in a state at most once; and what a
key of the notes gave out (the count that it made) is what its state was. When a job is done, or nothing is left to do,
the sink of the notes has every one that counts, and who has said so applies none any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesh.sim.branches import Branches
from mesh.sim.kept_ledger import KeptLedger
from mesh.sim.ledger import Ledger
from mesh.sim.violation import Violation
from mesh.sim.workload import Record, Workload, key_of_note

if TYPE_CHECKING:
    from mesh.sim.clients import Producer
    from mesh.sim.process import Process

RULE = "E6"
COMMITTED, ANSWERED = "committed", "answered"
REFUSED = ("unavailable", "busy")
UNKNOWN = "unknown"


@dataclass(eq=False, slots=True)
class Attempt:
    """A request."""

    ticket: int
    who: str
    records: Sequence[Record]
    body: Body
    asks: bool
    lines: int
    process: Process | None = None
    arrived_at: int = -1
    outcome: str = ""
    shape: Producer | None = None
    tell: Callable[[str], None] | None = None  # who waits


@dataclass(eq=False, slots=True)
class Body:
    attempts: list[Attempt] = field(default_factory=list)
    applied: bool = False  # some of it, by anybody

    def is_refused(self) -> bool:
        return all(attempt.outcome in REFUSED for attempt in self.attempts)


class Posted:
    """`attempt`, `sends`, `answered` are called by the clients, `taking`, `noting`, `writing` by who applies."""

    def __init__(self, workload: Workload, ledger: Ledger | KeptLedger) -> None:
        self.outcomes: dict[str, int] = {}  # how often each was told
        self._workload = workload
        self._ledger = ledger
        self._attempts: dict[int, Attempt] = {}
        self._open: dict[int, Attempt] = {}
        self._bodies: dict[tuple[str, int], Body] = {}  # the nth of a producer
        self._body_of: dict[Record, Body] = {}
        self._noted: dict[int, Branches] = {}
        self._written: dict[Record, None] = {}

    # -- requests

    def is_known(self, place: tuple[str, int]) -> bool:
        return place in self._bodies

    def attempt(
        self, who: str, records: list[Record], place: tuple[str, int] | None = None, *, asks: bool = False
    ) -> Attempt:
        """`place`: the nth body of a producer; None: it is a note."""
        body = Body() if place is None else self._bodies.setdefault(place, Body())
        self._body_of.update(dict.fromkeys(records, body))
        ticket = -1 - len(self._attempts)  # those above are the reads'
        attempt = self._attempts[ticket] = Attempt(ticket, who, records, body, asks, len(records))
        return attempt

    def sends(self, attempt: Attempt, process: Process) -> None:
        attempt.process = process
        self._open[attempt.ticket] = attempt
        attempt.body.attempts.append(attempt)

    def open(self) -> Iterator[Attempt]:
        return iter(self._open.values())

    def who(self, ticket: int) -> str:
        return self._attempts[ticket].who

    def answered(self, process: Process, ticket: int, outcome: str, told: Any) -> Attempt:
        """Raises Violation; first what was found when it was applied."""
        if self._ledger.found:
            raise self._ledger.found[0]
        attempt = self._open.pop(ticket, None)
        if attempt is None or attempt.process is not process:
            raise Violation(RULE, f"{process.name} answers request {ticket}, which it was not asked, or again")
        attempt.outcome = outcome
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        said = f"{process.name} says {outcome} to {attempt.who}"
        if outcome == (ANSWERED if attempt.asks else COMMITTED):
            self._all_applied(attempt, said)
            self._is_true(attempt, said, told)
        elif outcome in REFUSED:
            if attempt.body.applied and attempt.body.is_refused():
                raise Violation(RULE, f"{said}, and some of it is applied")
        elif outcome != UNKNOWN:
            raise Violation(RULE, f"{said}: {told}")
        return attempt

    def _all_applied(self, attempt: Attempt, said: str) -> None:
        for record in attempt.records:
            stream, seq, number = record
            if attempt.shape is None:
                applied = self._at(key_of_note(record)).answered(record)
            else:
                applied = not self._workload.has_key(0, number) or self._ledger.acknowledged(0, stream, seq, number)
            if not applied:
                raise Violation(RULE, f"{said}, and record {seq} of it is not applied")

    def _is_true(self, attempt: Attempt, said: str, told: Any) -> None:
        if attempt.asks:
            record = attempt.records[0]
            place = self._at(key_of_note(record)).committed.index(record)
            if told != {"outputs": [[place + 1, record[1]]]}:
                raise Violation(RULE, f"{said}: {told}, and it was the {place + 1}th")
        elif told["committed"] != attempt.lines or not 0 <= told["duplicates"] <= attempt.lines:
            raise Violation(RULE, f"{said}: {told}, and it has {attempt.lines} lines")
        elif told["duplicates"] and len(attempt.body.attempts) == 1:
            raise Violation(RULE, f"{said}: {told}, and nobody sent it before")

    # -- what is applied; whoever applies it is inside the application's code, so what is found waits

    def taking(self, record: Record) -> None:
        """A record of a producer, or a note."""
        body = self._body_of.get(record)
        if body is None:
            return  # somebody read it
        body.applied = True
        if body.is_refused():
            self._fault(f"record {record[1]} of {record[0]} is applied, and its sender was told that nothing was")

    def noting(self, reign: int, note: Record, count: int, *, is_done: bool) -> None:
        """`count`: as many as the state will have taken with this one; `is_done`: says who takes it of the job."""
        self.taking(note)
        if is_done:
            self._ledger.found.append(Violation("E7", f"who has said that the job is done applies note {note[1]}"))
        branches = self._at(key_of_note(note))
        try:
            state = branches.state(reign, count - 1)
            if note in state:
                self._fault(f"note {note[1]} is applied again")
            branches.take(reign, count - 1, note)
        except Violation as violation:
            self._ledger.found.append(violation)

    def writing(self, items: Sequence[Any]) -> None:
        """(key, (count, seq)) of notes."""
        for key, (count, seq) in items:
            try:
                self._write(self._at(key), count, seq)
            except Violation as violation:
                self._ledger.found.append(violation)

    def _write(self, branches: Branches, count: int, seq: int) -> None:
        branches.seen(count)
        note = branches.committed[count - 1]
        if note[1] != seq:
            self._fault(f"note {seq} is written as the {count}th of its key, and {note[1]} counts")
        if note in self._written and isinstance(self._ledger, Ledger):
            self._fault(f"note {seq} is written again")
        self._written[note] = None

    def unwritten(self) -> str | None:
        """A note that counts, and is in no sink."""
        notes = [note for branches in self._noted.values() for note in branches.committed]
        return next((f"the sink lacks note {note[1]}" for note in notes if note not in self._written), None)

    def counts(self) -> dict[int, int]:
        """The notes of each key that count."""
        return {key: len(branches.committed) for key, branches in self._noted.items() if branches.committed}

    def _at(self, key: int) -> Branches:
        if key not in self._noted:
            self._noted[key] = Branches(f"key {key} of the notes")
        return self._noted[key]

    def _fault(self, detail: str) -> None:
        self._ledger.found.append(Violation(RULE, detail))
