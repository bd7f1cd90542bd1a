"""What an operator gives up: slots that are LOST and shall start again, empty; and, by name, slots of a durable cluster
that are unavailable, as the homes that have them will not come back: these become LOST first.

Whoever is asked names the slots, and their terms, to all voters again and again until the table answers: whoever comes
to propose must have heard of it. A loss counts only at exactly the term at which it was accepted, so that nothing that
is lost later is given up by an old message. It waits for a lease, counted from when a decisive set of voters is known
to hold that the slot is LOST: until then these may confirm the epoch before to a former owner that is cut off, and it
may still work, and be read.

Invariant: all that is kept is of slots that are LOST in the table, or may be given up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sys import byteorder

from mesh.core.events import Effect, Event, Log, Millis, Received, Rejected, Send, Woke
from mesh.core.events.operator import AcceptLoss
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import LossAccepted
from mesh.core.slot import LOST
from mesh.core.table import Table

REPEAT = 500  # ms
WAIT = 4_000  # ms that a slot is known to be LOST at least; the lease of `contact`


@dataclass(frozen=True, slots=True)
class GivenUp(Effect):
    """The planner has something to look at."""


class Losses:
    """For the planner, slot -> term: `accepted`, once it has waited long enough; `given_up`, of what is unavailable."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: Table | None = None
        self._since: dict[int, Millis | None] = {}  # of each LOST slot: when a decisive set was first known to hold it
        self.waits_for_holders = False  # `held` is to be told once a decisive set of voters holds the newest epoch
        self._own: dict[int, None] = {}  # asked for here
        self._heard: dict[int, int] = {}
        self._repeat_at: Millis | None = None
        self._ripe_at: Millis | None = None
        self.accepted: dict[int, int] = {}
        self._waiting: dict[int, int] = {}  # unavailable slots that may be given up, and their terms
        self.given_up: dict[int, int] = {}

    def next_deadline(self) -> Millis | None:
        return min((due for due in (self._repeat_at, self._ripe_at) if due is not None), default=None)

    def agreed(self, table: Table, now: Millis) -> None:
        """What the table has answered is forgotten; a slot that stays LOST at another term stays asked for."""
        self._table = table
        lost = {number: slot.term for number, slot in enumerate(table.slots) if slot.status == LOST}
        self._since = {slot: self._since.get(slot) for slot in lost}
        self.waits_for_holders = None in self._since.values()
        self._waiting = _unavailable(table) if table.durable else {}
        self.given_up = {slot: term for slot, term in self.given_up.items() if self._waiting.get(slot) == term}
        self._own = {slot: None for slot in self._own if slot in lost or slot in self._waiting}
        self._heard = {slot: term for slot, term in self._heard.items() if lost.get(slot) == term}
        self._heard |= {slot: lost[slot] for slot in self._own if slot in lost}
        self.given_up |= {slot: self._waiting[slot] for slot in self._own if slot in self._waiting}
        self.accepted = {slot: term for slot, term in self.accepted.items() if lost.get(slot) == term}
        self._look_later(now)
        if not self._own:
            self._repeat_at = None

    def held(self, now: Millis) -> None:
        """From now on no decisive set confirms an epoch in which a slot was not LOST."""
        self.waits_for_holders = False
        self._since = {slot: now if since is None else since for slot, since in self._since.items()}
        self._look_later(now)

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands AcceptLoss, Received (LossAccepted), Woke."""
        match event:
            case AcceptLoss(slots):
                return self._ask(slots or tuple(self._since), now)
            case Received(sender, LossAccepted() as message):
                return self._received(sender, message, now)
            case Woke():
                return self._woke(now)
        return []

    def _ask(self, slots: Iterable[int], now: Millis) -> list[Effect]:
        asked = {slot: None for slot in slots if slot in self._since or slot in self._waiting}
        if not asked:
            return []
        self._own |= asked
        self._repeat_at = now + REPEAT
        told = Log("partition.loss_accepting", {"slots": len(asked), "nodes": self._keepers(asked)}, "warning")
        return [told, *self._hear(self._terms(asked), now), *self._tell()]

    def _keepers(self, slots: Iterable[int]) -> list[str]:
        """Who could bring back those of them that are only unavailable."""
        assert self._table is not None
        members, configurations = self._table.members, self._table.slots
        return sorted(
            {members[each].name for slot in slots if slot in self._waiting for each in configurations[slot].members}
        )

    def _terms(self, slots: Iterable[int]) -> dict[int, int]:
        assert self._table is not None
        return {slot: self._table.slots[slot].term for slot in slots}

    def _tell(self) -> list[Effect]:
        assert self._table is not None
        terms = self._terms(self._own)
        message = LossAccepted(self._table.epoch, packed(terms), tuple(terms.values()))
        return [Send(seat.node, message) for seat in self._table.voters() if seat.node != self._me]

    def _received(self, sender: NodeId, message: LossAccepted, now: Millis) -> list[Effect]:
        if len(message.slots) != 2 * len(message.terms):
            return [Rejected("loss", f"{len(message.slots)} bytes of slots with {len(message.terms)} terms")]
        claims = zip(unpacked(message.slots), message.terms, strict=True)
        return self._hear(dict(claims), now)

    def _is_lost(self, slot: int, term: int) -> bool:
        return self._table is not None and slot in self._since and self._table.slots[slot].term == term

    def _hear(self, claims: Mapping[int, int], now: Millis) -> list[Effect]:
        self._heard |= {slot: term for slot, term in claims.items() if self._is_lost(slot, term)}
        new = {slot: term for slot, term in claims.items() if self._waiting.get(slot) == term} | self.given_up
        effects: list[Effect] = [] if new == self.given_up else [GivenUp()]
        self.given_up = new
        return effects + self._ripen(now)

    def _ripen(self, now: Millis) -> list[Effect]:
        ripe = {slot: term for slot, term in self._heard.items() if self._is_ripe(slot, now)}
        new = ripe.keys() - self.accepted.keys()
        self.accepted |= ripe
        self._look_later(now)
        return [GivenUp()] if new else []

    def _is_ripe(self, slot: int, now: Millis) -> bool:
        since = self._since[slot]
        return since is not None and now >= since + WAIT

    def _look_later(self, now: Millis) -> None:
        held = (self._since[slot] for slot in self._heard if slot not in self.accepted)
        waits = [since + WAIT for since in held if since is not None]
        self._ripe_at = max(now + 1, min(waits)) if waits else None

    def _woke(self, now: Millis) -> list[Effect]:
        effects: list[Effect] = []
        if self._ripe_at is not None and now >= self._ripe_at:
            effects += self._ripen(now)
        if self._repeat_at is not None and now >= self._repeat_at:
            self._repeat_at = now + REPEAT
            effects += self._tell()
        return effects


def _unavailable(table: Table) -> dict[int, int]:
    return {number: slot.term for number, slot in enumerate(table.slots) if table.state_of(number) == "unavailable"}


def packed(slots: Iterable[int]) -> bytes:
    """Slot numbers as they travel."""
    column = array("H", slots)
    if byteorder == "big":
        column.byteswap()
    return column.tobytes()


def unpacked(data: bytes) -> array[int]:
    column = array("H", data)
    if byteorder == "big":
        column.byteswap()
    return column
