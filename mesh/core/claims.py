"""What those say whom a slot's configuration asks: that they hold what it wants them to hold. This node's own claims,
repeated to the voters until the table answers them, and those of others, for the planner.

A claim names a slot and a term, and counts at exactly that term: an older one is of a state that may since have changed
somewhere else. What it says follows from the configuration: the owner has the state (it moves), or is there and goes on
alone (it is promoted); a copy has all that the donor ever applied (it is handed over); the owner has filled who joins,
and commits nothing without it any more, or it lives, and knows who parts (it is ACTIVE). A slot is heard of once all
that are asked have claimed it.

The donor of a slot that moves is not asked. If it claims all the same, a state in the slot cannot travel: it is rooted
there, as long as that process has it, since to try again would only pause it.

Invariant: all that is kept is of slots that wait for it in the table.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import byteorder

from mesh.core.events import Effect, Event, Millis, Received, Rejected, Send, Woke
from mesh.core.events.planes import SlotsInstalled, SlotsRooted
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import Installed
from mesh.core.slot import LOST, PENDING, Slot
from mesh.core.table import Table

REPEAT = 100  # ms


@dataclass(frozen=True, slots=True)
class Claimed(Effect):
    """The planner has something to look at."""


class Claims:
    """For the planner: `heard`, slot -> term, as claimed by all that are asked; `rooted`, slot -> who cannot give it
    away."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: Table | None = None
        self._own: dict[int, int] = {}
        self._repeat_at: Millis | None = None
        self.asking = 0  # slots that wait for a word in this table
        self._said: dict[tuple[int, NodeId], int] = {}
        self.heard: dict[int, int] = {}
        self.rooted: dict[int, NodeId] = {}

    def next_deadline(self) -> Millis | None:
        return self._repeat_at

    def agreed(self, table: Table) -> None:
        """What the table has answered is forgotten."""
        self._table, self.asking = table, table.asking()
        self._said = {(slot, who): term for (slot, who), term in self._said.items() if self._is_asked(slot, term, who)}
        self.heard = {slot: term for slot, term in self.heard.items() if self._complete(slot, term)}
        self.rooted = {slot: node for slot, node in self.rooted.items() if _who_has(table, slot) == node}
        self._own = {slot: term for slot, term in self._own.items() if self._may_claim(slot, term, self._me)}
        if not self._own:
            self._repeat_at = None

    def all_heard(self) -> bool:
        return len(self.heard) == self.asking

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
        before = len(self.heard), len(self.rooted)
        asked = {slot: term for slot, term in claims.items() if self._is_asked(slot, term, sender)}
        self._said |= {(slot, sender): term for slot, term in asked.items()}
        complete = {slot: term for slot, term in asked.items() if self._complete(slot, term)}
        is_new = bool(complete.items() - self.heard.items())
        self.heard.update(complete)
        self.rooted |= {slot: sender for slot in claims if slot not in asked}
        return [Claimed()] if is_new or before != (len(self.heard), len(self.rooted)) else []

    def _may_claim(self, slot: int, term: int, node: NodeId) -> bool:
        return self._is_asked(slot, term, node) or self._gives(slot, term, node)

    def _is_asked(self, slot: int, term: int, node: NodeId) -> bool:
        return node in self._asked(slot, term)

    def _complete(self, slot: int, term: int) -> bool:
        asked = self._asked(slot, term)
        return asked != [] and all(self._said.get((slot, who)) == term for who in asked)

    def _asked(self, slot: int, term: int) -> list[NodeId]:
        """Whose word the slot waits for at this term."""
        if self._table is None or slot >= len(self._table) or self._table.slots[slot].term != term:
            return []
        return [self._table.members[place].node for place in self._table.slots[slot].asked()]

    def _gives(self, slot: int, term: int, node: NodeId) -> bool:
        """Is it the donor of a slot that moves at this term?"""
        if self._table is None or slot >= len(self._table):
            return False
        each = self._table.slots[slot]
        moves = (each.status, each.term, each.backups) == (PENDING, term, ()) and not each.promotes
        return moves and _who_has(self._table, slot) == node


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
