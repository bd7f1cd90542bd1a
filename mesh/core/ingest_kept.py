"""What comes by HTTP, where it comes in, when slots have copies: an owner that does not answer may have a successor.

When the reign of a slot ends, what a producer with a name sent there is sent again to the next owner, which knows by
its numbers whether the former one had it committed. The whole piece is: whoever lives and has the rest of it knows
that, too. Without a name nobody could know; then the piece waits, as long as the former owner may still answer, and
who sent it is told in the end that nobody can say.

A line that cannot travel is told to who sent it, wherever its owner is: what it became could not be copied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mesh.core.codec import encode_with_values
from mesh.core.events import Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import RecordAsked
from mesh.core.ingest import Ingest
from mesh.core.keys import slot_of_key
from mesh.core.messages import NodeId
from mesh.core.messages.outside import Inject, LinesClaimed
from mesh.core.requests import Record, Request
from mesh.core.router import Reign, reigns_of
from mesh.core.values import NotSerializable


class KeptIngest(Ingest):
    """All requests of this node."""

    _must_claim = True

    _reigns: list[Reign | None] | None = None  # as of the table that is known

    def set_table(self, table: TableAgreed, now: Millis) -> None:
        before, self._reigns = self._reigns or [], reigns_of(table)
        pairs = zip(before, self._reigns, strict=False)
        ended = {slot: None for slot, (old, new) in enumerate(pairs) if old != new}
        self._take_back(ended, table.down)
        super().set_table(table, now)
        self._forget_claims(ended, now)

    def asked(self, event: RecordAsked, now: Millis) -> None:
        problem = _cannot_travel([event.value], 1)
        if problem is None:
            super().asked(event, now)
        else:
            self._say(event.ticket, "bad-line", problem)

    def _read(self, request: Request, lines: int) -> dict[str, Any] | None:
        first = request.read
        return _cannot_travel(request.values[first : first + lines], first + 1) or super()._read(request, lines)

    def _take_back(self, ended: dict[int, None], down: Collection[NodeId]) -> None:
        """What is on its way to slots whose reign has ended; a late answer of theirs is nobody's."""
        for number, (request, owner, records) in list(self._pieces.items()):
            if number not in self._pieces or not any(record.slot in ended for record in records):
                continue
            if request.producer:
                del self._pieces[number]
                del request.in_flight[owner, records[0].stage]
                request.applied += len(records)  # perhaps
                self._refused(request, records)
            elif owner in down:
                self._give_up(request)

    def _forget_claims(self, ended: dict[int, None], now: Millis) -> None:
        """Whoever owns the slot now is asked."""
        for number, (request, owner) in list(self._claims.items()):
            if slot_of_key(request.producer, self._seed, self._slots) in ended:
                self.claimed(owner, LinesClaimed(number, "unavailable", 0), now)

    def _refused(self, request: Request, records: list[Record]) -> None:
        """Also what was refused may have been applied, by an owner that lost the slot before it had it committed."""
        for record in records:
            record.sent = True
        super()._refused(request, records)


def _cannot_travel(lines: Sequence[Any], first: int) -> dict[str, Any] | None:
    """What is wrong with a line, if anything."""
    try:
        encode_with_values(Inject(0, 0, [], list(lines), "", b"", b"", False))
    except NotSerializable as error:
        if len(lines) == 1:
            return {"line": first, "detail": str(error)}
        half = len(lines) // 2
        return _cannot_travel(lines[:half], first) or _cannot_travel(lines[half:], first + half)
    return None
