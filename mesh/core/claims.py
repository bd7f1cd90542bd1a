"""What PENDING owners say that they hold: this node's own claims, repeated to the voters until the table answers them,
and those of others, for the planner.

A claim names a slot and a term. It counts only from that slot's owner, while the slot is PENDING at exactly that term:
an older one is of a state that may since have changed somewhere else.

Invariant: both are subsets of what is PENDING in the table.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import byteorder

from mesh.core.events import Effect, Event, Millis, Received, Rejected, Send, SlotsInstalled, Woke
from mesh.core.messages import Installed, NodeId
from mesh.core.table import PENDING, Table

REPEAT = 100  # ms


@dataclass(frozen=True, slots=True)
class Claimed(Effect):
    """The planner has something to look at."""


class Claims:
    """`heard` is for the planner: slot -> term, as claimed by its owner."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: Table | None = None
        self._own: dict[int, int] = {}
        self._repeat_at: Millis | None = None
        self.heard: dict[int, int] = {}

    def next_deadline(self) -> Millis | None:
        return self._repeat_at

    def agreed(self, table: Table) -> None:
        """What the table has answered is forgotten."""
        self._table = table
        self.heard = {slot: term for slot, term in self.heard.items() if _waits(table, slot, term, None)}
        self._own = {slot: term for slot, term in self._own.items() if _waits(table, slot, term, self._me)}
        if not self._own:
            self._repeat_at = None

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands SlotsInstalled, Received (Installed), Woke."""
        match event:
            case SlotsInstalled(slots):
                return self._claim(slots, now)
            case Received(sender, Installed() as message):
                return self._received(sender, message)
            case Woke() if self._repeat_at is not None and now >= self._repeat_at:
                self._repeat_at = now + REPEAT
                return self._tell(self._own)
        return []

    def _claim(self, slots: Iterable[tuple[int, int]], now: Millis) -> list[Effect]:
        new = {slot: term for slot, term in slots if self._waits(slot, term, self._me)}
        if not new:
            return []
        self._own |= new
        if self._repeat_at is None:
            self._repeat_at = now + REPEAT
        return self._hear(new) + self._tell(new)

    def _tell(self, claims: Mapping[int, int]) -> list[Effect]:
        assert self._table is not None
        message = Installed(self._table.epoch, _packed(claims), tuple(claims.values()))
        return [Send(seat.node, message) for seat in self._table.voters() if seat.node != self._me]

    def _received(self, sender: NodeId, message: Installed) -> list[Effect]:
        if len(message.slots) != 2 * len(message.terms):
            return [Rejected("installed", f"{len(message.slots)} bytes of slots with {len(message.terms)} terms")]
        claims = zip(_unpacked(message.slots), message.terms, strict=True)
        return self._hear({slot: term for slot, term in claims if self._waits(slot, term, sender)})

    def _hear(self, claims: Mapping[int, int]) -> list[Effect]:
        new = claims.items() - self.heard.items()
        self.heard.update(claims)
        return [Claimed()] if new else []

    def _waits(self, slot: int, term: int, owner: NodeId) -> bool:
        return self._table is not None and _waits(self._table, slot, term, owner)


def _waits(table: Table, slot: int, term: int, owner: NodeId | None) -> bool:
    """Is the slot PENDING at this term, with this owner?"""
    if slot >= len(table):
        return False
    configuration = table.slots[slot]
    fits = configuration.status == PENDING and configuration.term == term
    return fits and owner in (None, table.members[configuration.owner].node)


def _packed(slots: Iterable[int]) -> bytes:
    column = array("H", slots)
    if byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _unpacked(data: bytes) -> array[int]:
    column = array("H", data)
    if byteorder == "big":
        column.byteswap()
    return column
