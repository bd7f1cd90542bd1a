"""What somebody gave this node by HTTP, and how far it is: the lines of a producer, or one record for one key.

States    reading (the source's steps are run on its lines) -> claiming (the producer's numbers) -> waiting for a
          partition in which every record has an owner -> sending -> answered, or given up.

    todo -> of an owner -> piece on its way -> applied (or known)
      ^_______|________________| refused; a new table

All of an owner's records of a stage wait in one queue and leave in pieces, one at a time. Before records are given to
owners anew, every piece has been answered. So of the records of a slot at most one piece is on its way, what was
refused stands before what was not sent, and a key's records stay in order whatever moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.core.events import Millis
from mesh.core.messages import NodeId
from mesh.core.messages.outside import Inject
from mesh.core.windows import INDEX_BITS, numbers_to_bytes

Lane: TypeAlias = tuple[NodeId, int]  # an owner, and a stage of its


@dataclass(slots=True)
class Record:
    stage: int
    slot: int
    key: Any
    value: Any
    place: int  # line of the body from 0, shifted, and which of the line's records it is
    sent: bool = False  # before, to an owner that may have applied it: if it is known now, it was this request's


@dataclass(eq=False, slots=True)
class Request:
    """Given `until`, or it is given up."""

    ticket: int
    until: Millis
    source: int | None  # None: one record, whose outputs are wanted
    values: Sequence[Any] = ()
    producer: str = ""
    first: int = 0
    digests: Sequence[int] = ()
    reading: bool = False  # the steps have not been run on all lines
    read: int = 0  # lines that they have been run on
    unclaimed: bool = False  # the producer's numbers are not claimed yet
    claim: int = 0  # number of the question for the producer's numbers, while it is on its way
    started: bool = False  # something was sent
    stale: bool = True  # the table has changed since records were given to owners, or some were refused
    retry_at: Millis = 0
    todo: deque[Record] = field(default_factory=deque)  # to be given to owners
    lanes: dict[Lane, deque[Record]] = field(default_factory=dict)
    in_flight: dict[Lane, int] = field(default_factory=dict)  # number of the piece
    items: list[tuple[int, list[Any]]] = field(default_factory=list)  # that go to sinks without a stage
    applied: int = 0  # records, of pieces that were answered
    fresh: set[int] = field(default_factory=set)  # lines of which a record was applied
    known: set[int] = field(default_factory=set)  # lines of which a record had been applied before
    wrong: str = ""
    wrong_seq: int = 0
    outputs: bytes = b""
    error: bytes = b""

    def due(self) -> Millis:
        """When it is given up, or tried again, since nothing of it is under way."""
        is_held_up = (self.todo or self.unclaimed) and not self.in_flight and not self.claim and not self.reading
        return min(self.until, self.retry_at) if is_held_up else self.until

    def done(self) -> bool:
        return not (self.todo or self.in_flight or any(self.lanes.values()))

    def duplicates(self) -> int:
        """Lines of which nothing had to be applied."""
        return len(self.known - self.fresh)

    def piece(self, number: int, stage: int, records: Sequence[Record]) -> Inject:
        """Some of an owner's records of a stage, as they travel."""
        ids = digests = b""
        if self.producer:
            start = self.first << INDEX_BITS
            ids = numbers_to_bytes([start + record.place for record in records])
            digests = numbers_to_bytes([self.digests[record.place >> INDEX_BITS] for record in records])
        keys, values = [record.key for record in records], [record.value for record in records]
        return Inject(number, stage, keys, values, self.producer, ids, digests, self.source is None)

    def gather(self) -> None:
        """What has not been sent is to be given to owners anew, behind what was refused."""
        for lane in self.lanes.values():
            self.todo.extend(lane)
        self.lanes.clear()

    def refused(self, records: Sequence[Record]) -> None:
        """They were not applied; they stand before all of theirs."""
        self.todo.extend(records)
        self.stale = True
