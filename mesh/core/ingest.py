"""What comes by HTTP, where it comes in: any node takes lines of any source, and records for any key.

Events    `posted`, `asked` from outside; `answered`, `claimed` by owners; `set_table`, `farewell`, `overdue`
Answers   go out as `Answered`, once a request, at the latest when its time is over:
          committed, answered   all is applied, and its outputs are in a router's or a sink's hands
          bad-line, raised      the steps of the source, or of the stage, do not take it; nothing is applied
          conflict, too-old     a number was used for another line, or for one that is long past
          unknown-producer      it is not known, any more or yet, and does not begin with line 0
          too-far               it leaps ahead by more than is remembered
          busy, unavailable     nothing is applied, and it may be tried again
          unknown               some may be, or will be; to be tried again under the same numbers

The steps of the source are run on all lines (`lines`) before anything is sent. Sending begins when every record has an
owner who can be reached (`addressees`). What a source gives straight to a sink is written last: a request that is tried
again writes it again. How far each request is, and why a key's records stay in order, is in `requests`.

Bounds    MOST_REQUESTS wait; of each one piece an owner and stage is on its way: PIECE_RECORDS, about PIECE_BYTES.
Invariant a record is in one piece at a time; one that was not answered is not sent again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

from mesh.app.plan import Plan
from mesh.core import columns
from mesh.core.addressees import Addressees
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.emitting import Emitting
from mesh.core.events import Millis
from mesh.core.events.planes import TableAgreed, Transmit
from mesh.core.events.work import Answered, LinesPosted, RecordAsked
from mesh.core.inject import MOST_RECORDS, POSTS
from mesh.core.keys import BadKey, slot_of_key
from mesh.core.lines import read_lines
from mesh.core.messages import NodeId
from mesh.core.messages.outside import ClaimLines, Inject, Injected, LinesClaimed
from mesh.core.pace import Pace
from mesh.core.requests import Record, Request
from mesh.core.values import NotSerializable
from mesh.core.windows import INDEX_BITS, MOST_SEQ, REFUSALS, numbers_to_bytes

MOST_REQUESTS = 64  # each is an HTTP connection that waits; more would only wait longer
POST_MS = 5_000  # of lines: as long as a move of many slots takes
ASK_MS = 2_000  # of one record: as long as a person waits
PAUSE_MS = 20  # before what was refused is tried again
PIECE_RECORDS = MOST_RECORDS
PIECE_BYTES = 256 << 10
FIRST_LINES = 1  # in one unit of work: nobody knows yet how slow a step is
LINES_AT_ONCE = 1 << 12


class Ingest:
    """All requests of this node. `put_own` and `claim_own` are the ways to itself as an owner."""

    _must_claim = False  # else it goes on without, if nobody can be asked

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        slots: int,
        seed: int,
        emitting: Emitting,
        put_own: Callable[[Inject], None],
        claim_own: Callable[[ClaimLines], None],
        committed: Callable[[int, int], None],
        unreachable: Callable[[], Collection[NodeId]],
    ) -> None:
        """`committed(source, lines)` counts."""
        self._me = me
        self._plan = plan
        self._slots = slots
        self._shift = 33 - slots.bit_length()
        self._seed = seed
        self._emitting = emitting
        self._put_own = put_own
        self._claim_own = claim_own
        self._committed = committed
        self._to = to = Addressees(unreachable)
        self._owner, self._owners_of = to.owner, to.owners_of
        self._formed = False  # there is a table
        self._requests: dict[int, Request] = {}  # by ticket
        self._reading: deque[Request] = deque()
        self._pieces: dict[int, tuple[Request, NodeId, list[Record]]] = {}  # number -> on its way to whom
        self._claims: dict[int, tuple[Request, NodeId]] = {}
        self._last_number = 0
        self._pace = Pace(FIRST_LINES, LINES_AT_ONCE)
        self.closed = False  # this node is fenced, or goes: it takes nothing new

    def idle(self) -> bool:
        return not self._requests

    def next_deadline(self) -> Millis | None:
        """When something is given up, or tried again."""
        return min([request.due() for request in self._requests.values()]) if self._requests else None

    # -- from outside

    def posted(self, event: LinesPosted, now: Millis) -> None:
        found = [index for index, each in enumerate(self._plan.sources) if each.name == event.source]
        if not found or not getattr(self._plan.sources[found[0]].connector, "takes_posts", False):
            self._say(event.ticket, "unknown-source", {"exists": bool(found)})
        elif event.producer and not 0 <= event.first <= MOST_SEQ - len(event.values):
            self._say(event.ticket, "bad-line", {"line": 1, "detail": f"a line's number is below {MOST_SEQ}"})
        elif self._takes(event.ticket):
            request = Request(event.ticket, now + POST_MS, found[0], event.values, event.producer, event.first)
            request.digests, request.unclaimed = event.digests, bool(event.producer and event.values)
            self._requests[event.ticket] = request
            request.reading = True
            self._reading.append(request)

    def asked(self, event: RecordAsked, now: Millis) -> None:
        stage = self._plan.stage(event.stage)
        if stage is None:
            self._say(event.ticket, "unknown-stage")
            return
        try:
            slot = slot_of_key(event.key, self._seed, self._slots)
        except BadKey as error:
            self._say(event.ticket, "bad-line", {"line": 1, "detail": str(error)})
            return
        if self._takes(event.ticket):
            request = self._requests[event.ticket] = Request(event.ticket, now + ASK_MS, None)
            request.todo.append(Record(stage.index, slot, event.key, event.value, 0))
            self._go_on(request, now)

    def _takes(self, ticket: int) -> bool:
        if len(self._requests) >= MOST_REQUESTS:
            self._say(ticket, "busy")
            return False
        if not self._formed or self.closed:
            self._say(ticket, "unavailable")
            return False
        return True

    # -- the steps of a source

    def may_work(self) -> bool:
        return bool(self._reading)

    def work_one(self, now: Millis) -> tuple[Pace, int] | None:
        """Run the steps on some lines of one request, which then waits behind the others."""
        if not self._reading:
            return None
        request = self._reading.popleft()
        lines = min(self._pace.most, len(request.values) - request.read)
        problem = self._read(request, lines)
        if problem is not None:
            request.reading = False
            self._end(request, "bad-line", problem)
        elif request.read < len(request.values):
            self._reading.append(request)
        else:
            request.reading = False
            self._go_on(request, now)
        return self._pace, max(1, lines)

    def _read(self, request: Request, lines: int) -> dict[str, Any] | None:
        return read_lines(request, lines, self._plan, self._seed, self._shift)

    # -- the producer's numbers

    def _claim(self, request: Request, now: Millis) -> None:
        """Ask the owner of the producer's name whether these numbers may be used for these lines. With the answer,
        which may be there at once, it goes on."""
        if now < request.retry_at:
            return
        owner = self._owner(slot_of_key(request.producer, self._seed, self._slots))
        if owner is None:
            self._without_claim(request, now)
            return
        digests = numbers_to_bytes(request.digests)
        claim = ClaimLines(self._next_number(), request.producer, request.first, digests)
        request.claim = claim.number
        self._claims[claim.number] = request, owner
        if owner == self._me:
            self._claim_own(claim)
        else:
            self._emitting.effects.append(Transmit(owner, POSTS, encode_with_values(claim)))

    def claimed(self, sender: NodeId, answer: LinesClaimed, now: Millis) -> None:
        if answer.number not in self._claims or self._claims[answer.number][1] != sender:
            return
        request = self._claims.pop(answer.number)[0]
        request.claim = 0
        if answer.verdict == "unavailable":
            self._without_claim(request, now)
            return
        request.unclaimed = False
        if answer.verdict in REFUSALS:
            request.wrong, request.wrong_seq = answer.verdict, answer.seq
            request.todo.clear()
        self._go_on(request, now)

    def _without_claim(self, request: Request, now: Millis) -> None:
        """Nobody can say; somebody may soon."""
        if self._must_claim:
            request.retry_at = now + PAUSE_MS
        else:
            request.unclaimed = False
            self._go_on(request, now)

    # -- records go to their owners

    def _go_on(self, request: Request, now: Millis) -> None:
        """Send what may be sent; answer if nothing is left."""
        if request.claim:
            return
        if request.unclaimed:
            self._claim(request, now)
            return
        if request.wrong and not request.in_flight:
            self._end(request, request.wrong, {"seq": request.wrong_seq})
            return
        if (request.stale or request.todo) and not request.in_flight:
            self._give_to_owners(request, now)
        if not request.wrong and not request.stale:
            for lane in list(request.lanes):
                while request.lanes[lane] and lane not in request.in_flight:
                    self._send_piece(request, *lane)
        if request.done():
            self._finish(request)

    def _give_to_owners(self, request: Request, now: Millis) -> None:
        request.gather()
        if now < request.retry_at:
            return
        request.retry_at = now + PAUSE_MS
        owners = self._owners_of(request.todo)
        if not request.started and None in owners:
            return
        request.started, request.stale = True, False
        todo, request.todo = request.todo, deque()
        for record, owner in zip(todo, owners, strict=True):
            to = request.todo if owner is None else request.lanes.setdefault((owner, record.stage), deque())
            to.append(record)

    def _send_piece(self, request: Request, owner: NodeId, stage: int) -> None:
        """As much as fits; what cannot travel even alone is set aside, or told."""
        lane = request.lanes[owner, stage]
        records = list(islice(lane, PIECE_RECORDS))
        while True:
            inject = request.piece(self._next_number(), stage, records)
            try:
                payload = b"" if owner == self._me else encode_with_values(inject)
            except NotSerializable as error:
                if len(records) > 1:
                    records = records[: len(records) // 2]
                    continue
                self._cannot_travel(request, lane.popleft(), error)
                return
            if len(records) == 1 or len(payload) <= 2 * PIECE_BYTES:
                break
            records = records[: max(1, len(records) * PIECE_BYTES // len(payload))]
        for _ in records:
            lane.popleft()
        request.in_flight[owner, stage] = inject.number
        self._pieces[inject.number] = request, owner, records
        if payload:
            self._emitting.effects.append(Transmit(owner, POSTS, payload))
        else:
            self._put_own(inject)

    def _cannot_travel(self, request: Request, record: Record, error: NotSerializable) -> None:
        plan = self._plan.stages[record.stage]
        if request.source is None:
            request.error = str(error).encode("utf-8", "backslashreplace")
        else:
            self._emitting.failed(f"on the way to {plan.name}", plan.where, record.value, error)

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    # -- answers

    def answered(self, sender: NodeId, answer: Injected, now: Millis) -> None:
        """Raises Malformed. One that was not asked for, or comes late, changes nothing."""
        piece = self._pieces.get(answer.number)
        if piece is None or piece[1] != sender:
            return
        request, owner, records = piece
        before, refused = _indexes(answer.known), _indexes(answer.refused)
        others = {*before, *refused}
        if len(others) < len(before) + len(refused) or max(others, default=0) >= len(records):
            raise Malformed("injected", "indexes of records that were not sent, or one twice")
        del self._pieces[answer.number]
        del request.in_flight[owner, records[0].stage]
        fresh = self._fresh(request, records, before, refused) if others else records
        request.applied += len(records) - len(refused)
        request.fresh.update([record.place >> INDEX_BITS for record in fresh])
        if answer.wrong:
            request.wrong, request.wrong_seq = answer.wrong, answer.wrong_seq
        request.outputs, request.error = answer.outputs, answer.error
        self._go_on(request, now)

    def _fresh(self, request: Request, records: list[Record], before: list[int], refused: list[int]) -> list[Record]:
        """Those that were applied only now; what is to be known of the others is noted."""
        known = [index for index in before if not records[index].sent]
        request.known.update(records[index].place >> INDEX_BITS for index in known)
        if refused:
            self._refused(request, [records[index] for index in refused])
        others = {*known, *refused}
        return [record for index, record in enumerate(records) if index not in others]

    def _refused(self, request: Request, records: list[Record]) -> None:
        request.refused(records)

    def _finish(self, request: Request) -> None:
        if request.source is None:
            if request.error:
                self._end(request, "raised", {"detail": request.error.decode("utf-8", "replace")})
            else:
                self._end(request, "answered", None, b'{"outputs":%b}' % (request.outputs or b"[]"))
            return
        for sink, items in request.items:
            self._emitting.to_sink(sink, items)
        lines, duplicates = len(request.values), request.duplicates()
        self._committed(request.source, lines - duplicates)
        self._end(request, "committed", {"committed": lines, "duplicates": duplicates})

    def _end(self, request: Request, outcome: str, body: object = None, text: bytes = b"") -> None:
        del self._requests[request.ticket]
        for number in request.in_flight.values():
            del self._pieces[number]
        self._claims.pop(request.claim, None)
        self._say(request.ticket, outcome, body, text)

    def _say(self, ticket: int, outcome: str, body: object = None, text: bytes = b"") -> None:
        state = text or (b"" if body is None else json.dumps(body).encode())
        self._emitting.effects.append(Answered(ticket, outcome, state))

    # -- the partition, and time

    def set_table(self, table: TableAgreed, now: Millis) -> None:
        self._formed = True
        away = self._to.set_table(table)
        for number in [number for number, (_, whom) in self._claims.items() if whom in away]:
            self.claimed(self._claims[number][1], LinesClaimed(number, "unavailable", 0), now)
        for request in list(self._requests.values()):
            if not request.reading:
                request.stale, request.retry_at = True, 0
                self._go_on(request, now)

    def farewell(self, owner: NodeId, now: Millis) -> None:
        """This owner applies nothing any more: what it has not answered is refused."""
        self._to.depart(owner)
        for number in [number for number, (_, whom) in self._claims.items() if whom == owner]:
            self.claimed(owner, LinesClaimed(number, "unavailable", 0), now)
        for number, (_, whom, records) in list(self._pieces.items()):
            if whom == owner:
                refused = columns.slots_to_bytes(range(len(records)))
                self.answered(owner, Injected(number, b"", refused, "", 0, b"", b""), now)

    def overdue(self, now: Millis) -> None:
        """Try again what was refused; give up what takes too long."""
        for request in list(self._requests.values()):
            if now >= request.until:
                self._give_up(request)
            elif now >= request.due():
                request.stale = True
                self._go_on(request, now)

    def _give_up(self, request: Request) -> None:
        """What is on its way may be applied yet."""
        if request.reading:
            self._reading.remove(request)
        self._end(request, "unknown" if request.in_flight or request.applied else "unavailable")


def _indexes(column: bytes) -> list[int]:
    if len(column) % 2:
        raise Malformed("injected", "half an index")
    return list(columns.slots_from_bytes(column)) if column else []
