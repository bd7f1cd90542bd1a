"""What PENDING owners say that they hold, and donors that they cannot give away: this node's own claims, repeated to
the voters until the table answers them, and those of others, for the planner.

A claim names a slot and a term. It counts only from that slot's owner or donor, while the slot is PENDING at exactly
that term: an older one is of a state that may since have changed somewhere else.

    owner   it holds the state              `heard`, until the table answers
    donor   a state in it cannot travel     `rooted`, as long as that process has the slot: it would only pause it again

Invariant: claims, own and heard, are subsets of what is PENDING in the table.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import byteorder

from mesh.core.events import Effect, Event, Millis, Received, Rejected, Send, SlotsInstalled, SlotsRooted, Woke
from mesh.core.messages import Installed, NodeId
from mesh.core.table import LOST, PENDING, Slot, Table

REPEAT = 100  # ms


@dataclass(frozen=True, slots=True)
class Claimed(Effect):
    """The planner has something to look at."""


class Claims:
    """For the planner: `heard`, slot -> term, as its owner claims; `rooted`, slot -> who cannot give it away."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: Table | None = None
        self._own: dict[int, int] = {}
        self._repeat_at: Millis | None = None
        self.heard: dict[int, int] = {}
        self.rooted: dict[int, NodeId] = {}

    def next_deadline(self) -> Millis | None:
        return self._repeat_at

    def agreed(self, table: Table) -> None:
        """What the table has answered is forgotten."""
        self._table = table
        self.heard = {slot: term for slot, term in self.heard.items() if _waits(table, slot, term)}
        self.rooted = {slot: node for slot, node in self.rooted.items() if _who_has(table, slot) == node}
        self._own = {slot: term for slot, term in self._own.items() if self._may_claim(slot, term, self._me)}
        if not self._own:
            self._repeat_at = None

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands SlotsInstalled, SlotsRooted, Received (Installed), Woke."""
        match event:
            case SlotsInstalled(slots) | SlotsRooted(slots):
                return self._claim(slots, now)
            case Received(sender, Installed() as message):
                return self._received(sender, message)
            case Woke() if self._repeat_at is not None and now >= self._repeat_at:
                self._repeat_at = now + REPEAT
                return self._tell(self._own)
        return []

    def _claim(self, slots: Iterable[tuple[int, int]], now: Millis) -> list[Effect]:
        new = {slot: term for slot, term in slots if self._may_claim(slot, term, self._me)}
        if not new:
            return []
        self._own |= new
        if self._repeat_at is None:
            self._repeat_at = now + REPEAT
        return self._hear(self._me, new) + self._tell(new)

    def _tell(self, claims: Mapping[int, int]) -> list[Effect]:
        assert self._table is not None
        message = Installed(self._table.epoch, _packed(claims), tuple(claims.values()))
        return [Send(seat.node, message) for seat in self._table.voters() if seat.node != self._me]

    def _received(self, sender: NodeId, message: Installed) -> list[Effect]:
        if len(message.slots) != 2 * len(message.terms):
            return [Rejected("installed", f"{len(message.slots)} bytes of slots with {len(message.terms)} terms")]
        claims = zip(_unpacked(message.slots), message.terms, strict=True)
        return self._hear(sender, {slot: term for slot, term in claims if self._may_claim(slot, term, sender)})

    def _hear(self, sender: NodeId, claims: Mapping[int, int]) -> list[Effect]:
        assert self._table is not None or not claims
        is_new = False
        for slot, term in claims.items():
            if self._table is not None and _owner_of(self._table, slot) == sender:
                is_new = is_new or self.heard.get(slot) != term
                self.heard[slot] = term
            else:
                is_new = is_new or self.rooted.get(slot) != sender
                self.rooted[slot] = sender
        return [Claimed()] if is_new else []

    def _may_claim(self, slot: int, term: int, node: NodeId) -> bool:
        table = self._table
        if table is None or not _waits(table, slot, term):
            return False
        return node in (_owner_of(table, slot), _who_has(table, slot))


def _waits(table: Table, slot: int, term: int) -> bool:
    """Is the slot PENDING at this term?"""
    return slot < len(table) and (table.slots[slot].status, table.slots[slot].term) == (PENDING, term)


def _owner_of(table: Table, slot: int) -> NodeId:
    return table.members[table.slots[slot].owner].node


def _who_has(table: Table, slot: int) -> NodeId | None:
    """The owner of the last ACTIVE configuration."""
    each: Slot = table.slots[slot]
    return None if each.status == LOST else table.members[each.owner if each.donor is None else each.donor].node


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
