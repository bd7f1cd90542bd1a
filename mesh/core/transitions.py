"""What the next table should be: a pure function of the present one and of what its proposer believes.

Beliefs about members come first, see `seating`. Then the slots that can move are levelled among the workers that are
up and stay. What a member holds that is down stays pinned where it is, and is not counted: it may return with it. So
does what its holder cannot give away, though it goes on working there; it goes back if it was to move. Who has ended
loses what it had; what is LOST starts again, empty, where an operator accepts that. Only few slots are PENDING at once,
so that most of a busy mesh works on while some of it moves; the next ones follow as these arrive.

Where slots have copies, `copying` says what becomes of each; that a slot is given up, or pinned, then needs all of them
to have ended, or to be down. Who is down for a short time is expected back: until then nothing is levelled, and its
slots, which others own by then, are filled again elsewhere.

In a durable cluster a process takes its home's seat with all that is on its disk (`succession` says what that is good
for). Nothing is LOST there unless an operator gives it up: any home may return.

A merely suspected member changes nothing. A table that nothing speaks against yields None.

Invariants: the result follows by `succession`; the number of moves is the lower bound of `rebalance`; nothing becomes
LOST while a process that may have it lives; there is always a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mesh.core.copying import backups_for, in_turn, renumbered, settled, urgent
from mesh.core.messages.members import READY
from mesh.core.rebalance import PINNED, rebalance
from mesh.core.seating import Facts, Seating
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import MAX_LEFT, Table

T = TypeVar("T")

LEAST_MOVING = 16  # slots that are shipped at once: each pauses for as long as all of them take
MOVING_PART = 64  # of many slots, which have the fewer keys, one part in so many


def most_moving(slots: int) -> int:
    """How many of so many slots are shipped at once."""
    return max(LEAST_MOVING, slots // MOVING_PART)


def next_table(table: Table, facts: Facts) -> Table | None:
    """The table to propose, or None if this one is as it should be."""
    draft = _Draft(table, facts)
    draft.follow()
    draft.welcome()
    draft.move()
    return draft.result()


def _once(method: Callable[[_Draft, Slot], T]) -> Callable[[_Draft, Slot], T]:
    """Equal configurations are usually one object, and what is asked of one depends on nothing that a draft changes."""

    def asked(draft: _Draft, slot: Slot) -> T:
        known = draft.known.setdefault(method, {})
        found = known.get(id(slot))
        if found is None:
            found = known[id(slot)] = slot, method(draft, slot)
        answer: T = found[1]
        return answer

    return asked


class _Draft:
    """Places are those of the present table until `result`; new seats come after them."""

    def __init__(self, table: Table, facts: Facts) -> None:
        self.table = table
        self.facts = facts
        self.seating = seating = Seating(table, facts)
        self.seats, self.ended, self.there = seating.seats, seating.ended, seating.there  # the same lists
        self.slots = list(table.slots)
        self.busy: dict[int, None] = {}  # slots that this step has changed
        self.losers: dict[int, None] = {}  # places whose slots become LOST in this step
        self.shares: dict[int, str] = {}  # by place, the names of those that shall own the slots
        self.known: dict[object, dict[int, tuple[Slot, Any]]] = {}  # see `_once`; slots are kept: no other has their id

    def welcome(self) -> None:
        claims = self.seating.claimants()
        if claims:
            self.seating.welcome(claims, self._bound())

    def _bound(self) -> set[int]:
        """Places that some slot will name whatever is done in this step."""
        pinned = [slot for slot in self.slots if self._is_pinned(slot)]
        copies = {place for slot in self.slots if slot.backups and not self._is_lost(slot) for place in slot.members}
        owners = {slot.owner for slot in pinned if not self._waits_in_vain(slot)}
        return copies | owners | {slot.donor for slot in pinned if slot.donor is not None}

    # -- slots

    def follow(self) -> None:
        """Activate what has arrived, and whatever else cannot wait."""
        gone = self._going()
        known: dict[tuple[int, bool], Slot] = {}
        for number, slot in enumerate(self.table.slots):
            claimed = self.facts.installed.get(number) == slot.term
            new = known.get((id(slot), claimed))
            if new is None:
                new = known[id(slot), claimed] = self._followed(slot, claimed, gone)
            if self.facts.given_up and self._is_given_up(number, slot):
                new = self._lost(slot, slot.owner)
            if new is not slot:
                self.slots[number] = new
                self.busy[number] = None

    def _followed(self, slot: Slot, claimed: bool, gone: Collection[int]) -> Slot:
        if slot.status == PENDING and not slot.backups and not self.table.durable:
            return slot.activated() if claimed and self.there[slot.owner] else slot
        new = slot if self._is_lost(slot) else self._urgent(slot, claimed, gone)
        return slot if new == slot else new

    def _urgent(self, slot: Slot, claimed: bool, gone: Collection[int]) -> Slot:
        return urgent(slot, claimed, self.there, gone, self.seating.returned, copies=self.table.copies)

    def _going(self) -> set[int]:
        """Places that no slot shall name any more after this step, so that they go: of those that have ended."""
        if self.seating.waiting or not any(self.ended) or not self.seating.eligible() or self.table.durable:
            return set()
        doomed = [slot for slot in self.slots if slot.status != LOST and all(self.ended[each] for each in slot.members)]
        held = {place for slot in doomed if not self._is_lost(slot) for place in slot.members}
        return {place for place, has_ended in enumerate(self.ended) if has_ended and place not in held}

    def move(self) -> None:
        """Give up what is lost, and level the rest."""
        eligible = {self.seats[place].name: place for place in self.seating.eligible()}
        if self.seating.waiting or not eligible:
            return  # who follows shall find its share where it is
        self.shares = {place: name for name, place in eligible.items()}
        target = self._target(eligible)
        if self.table.fills:
            self._level_copies(target, eligible)
        else:
            self._level(target, eligible)

    def _target(self, eligible: Mapping[str, int]) -> Sequence[str]:
        """Who shall own each slot."""
        holders = [self._holder(number, slot) for number, slot in enumerate(self.slots)]
        if not self.facts.absent:
            return rebalance(holders, list(eligible))
        target = rebalance([PINNED if name else name for name in holders], list(eligible))
        return [name if holder is None else holder for name, holder in zip(target, holders, strict=True)]

    def _level(self, target: Sequence[str], eligible: Mapping[str, int]) -> None:
        moving = sum(slot.status == PENDING and not self._is_pinned(slot) for slot in self.slots)
        most = most_moving(len(self.slots))
        for number, (slot, name) in enumerate(zip(self.slots, target, strict=True)):
            root = self._root(number, slot)
            if name == PINNED and root is None and self._waits_in_vain(slot):
                self.slots[number] = self._towards(slot, next(iter(eligible.values())), number)
            if (name == PINNED and root is None) or number in self.busy:
                continue
            to = eligible[name] if root is None else root
            starts = slot.status == ACTIVE and not self._is_lost(slot) and slot.owner != to
            if not starts or moving < most:
                self.slots[number] = self._towards(slot, to, number)
                moving += starts

    def _level_copies(self, target: Sequence[str], eligible: Mapping[str, int]) -> None:
        names = [seat.name for seat in self.seats]
        zones = {name: self.seats[place].zone for name, place in eligible.items()}
        backups = backups_for(self.slots, target, names, zones, self.table.copies)
        steps: dict[int, Slot] = {}
        known: dict[tuple[int, bool, str, tuple[str, ...]], Slot] = {}
        for number, (slot, name) in enumerate(zip(self.slots, target, strict=True)):
            if name == PINNED or number in self.busy:
                continue
            if slot.status == LOST or self._is_lost(slot):
                self.slots[number] = self._towards(slot, eligible[name], number)
            elif slot.status == ACTIVE and all(self.there[each] for each in slot.parting):
                claimed = self.facts.installed.get(number) == slot.term
                kind = id(slot), claimed, name, backups[number]  # busy slots stay: this one is the table's
                new = known.get(kind)
                if new is None:
                    others = [eligible[each] for each in backups[number]]
                    new = known[kind] = settled(slot, claimed, eligible[name], others, self.table.copies)
                if new is not slot:
                    steps[number] = new
        most = self.table.copies
        busy = (slot for slot in self.slots if slot.joining is not None or slot.hands_over or len(slot.members) > most)
        moving = (slot for slot in busy if not self._is_pinned(slot))
        for number, new in in_turn(moving, steps, most).items():
            self.slots[number] = new

    def _is_given_up(self, number: int, slot: Slot) -> bool:
        """A durable slot that an operator does not want to wait for."""
        asked = self.facts.given_up.get(number) == slot.term and slot.status != LOST and self.table.durable
        return asked and not any(self.there[each] for each in slot.members)

    @_once
    def _is_lost(self, slot: Slot) -> bool:
        """All processes that may have the state have ended, and what they sent has arrived or never will."""
        if self.table.durable:
            return False
        if slot.backups:
            return all(self.ended[each] and self.seats[each].node in self.facts.mourned for each in slot.members)
        has_it = slot.owner if slot.donor is None else slot.donor
        if slot.status == LOST or not self.ended[has_it] or self.seats[has_it].node not in self.facts.mourned:
            return False
        return slot.donor is None or self.ended[slot.owner] or self.there[slot.owner]

    def _waits_in_vain(self, slot: Slot) -> bool:
        """Its owner-to-be has ended; whoever it is given to instead waits for the donor."""
        return slot.status == PENDING and self.ended[slot.owner] and not slot.backups and not self.table.durable

    @_once
    def _is_pinned(self, slot: Slot) -> bool:
        """It can only wait, for a member that is down or for a claim."""
        if slot.backups or self.table.durable:
            away = slot.status != LOST and not any(self.there[each] for each in slot.members)
            return away and not self._is_lost(slot)
        has_it = slot.owner if slot.donor is None else slot.donor
        return slot.status != LOST and not self.there[has_it] and not self._is_lost(slot)

    def _root(self, number: int, slot: Slot) -> int | None:
        """The place of who has this slot, is there, and cannot give it away."""
        if not self.facts.rooted:
            return None
        has_it = slot.owner if slot.donor is None else slot.donor
        rooted = slot.status != LOST and self.facts.rooted.get(number) == self.seats[has_it].node
        return has_it if rooted and self.there[has_it] else None

    def _holder(self, number: int, slot: Slot) -> str | None:
        """Whose share a slot is counted to before it is levelled."""
        return self._sharer(slot) if self._root(number, slot) is None else PINNED

    @_once
    def _sharer(self, slot: Slot) -> str | None:
        """Where it is going, else where it comes from."""
        if self._is_pinned(slot):
            return PINNED
        places = [] if self._is_lost(slot) else [slot.owner, slot.donor, *slot.backups]
        return next((self.shares[place] for place in places if place in self.shares), None)

    def _towards(self, slot: Slot, owner: int, number: int) -> Slot:
        if self._is_lost(slot):
            return self._lost(slot, owner)
        if slot.status == LOST and self.facts.accepted.get(number) == slot.term:
            return Slot(slot.term + 1, owner, (), ACTIVE)
        if slot.owner == owner:
            return slot
        if slot.status == LOST:
            return Slot(slot.term + 1, owner, (), LOST)
        return Slot(slot.term + 1, owner, (), PENDING, slot.owner if slot.donor is None else slot.donor)

    def _lost(self, slot: Slot, owner: int) -> Slot:
        self.losers |= dict.fromkeys(slot.members if slot.backups else slot.members[-1:])
        return Slot(slot.term + 1, owner, (), LOST)

    # -- the table

    def result(self) -> Table | None:
        gone = self.seating.gone(self._named())
        stay = self.seating.order(gone)
        seats = self.seating.with_votes(stay)
        if not self.seating.can_decide(seats):
            return None
        left = tuple(self.seats[place].node for place in gone if self._left_properly(place))
        place_of = {old: new for new, old in enumerate(stay)}
        slots = _renumbered(self.slots, place_of) if gone else tuple(self.slots)
        table = replace(self.table, members=seats, slots=slots, left=(*self.table.left, *left)[-MAX_LEFT:])
        return None if table == self.table else replace(table, epoch=self.table.epoch + 1)

    def _named(self) -> set[int | None]:
        distinct = {id(slot): slot for slot in self.slots}.values()
        return {place for slot in distinct for place in (*slot.members, slot.joining)}

    def _left_properly(self, place: int) -> bool:
        return self.seating.leaving(self.seats[place]) == READY and place not in self.losers


def _renumbered(slots: Sequence[Slot], place_of: Mapping[int, int]) -> tuple[Slot, ...]:
    known = {name: renumbered(slot, place_of) for name, slot in {id(slot): slot for slot in slots}.items()}
    return tuple(known[id(slot)] for slot in slots)
