"""The majority is lost for good, and an operator says so at one node: its newest table without those that are dead.

Nobody votes on it, so it is a *generation* of its own: its epoch is a multiple of GENERATION, higher than any epoch
that those who are gone may have agreed on. Learners take it whatever they know, and who is not in it stops. If the
majority was only cut off, what it did since is given up by this: that is why it takes a person.

    asked -> waiting (who is alive and knows a newer epoch tells it in that time) -> the new table, or a refusal

Invariants: every process in it is believed alive; what they own they keep, at the same term, if all its copies are in
it too; a slot of which only some copies are is promoted, and one of which none is is LOST, both at a term that no other
table has named. In a durable cluster a later process of a home has what its seat had, and can only be promoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mesh.core.copying import renumbered
from mesh.core.electorate import MAX_VOTERS
from mesh.core.events import Effect, Event, Log, Millis
from mesh.core.events.operator import Recover
from mesh.core.messages import NodeId
from mesh.core.messages.members import SUSPECT, Member
from mesh.core.seating import new_seat
from mesh.core.slot import LOST, PENDING, Slot
from mesh.core.table import GENERATION, WORKER, Seat, Table

WAIT = 2_500  # ms; everybody asks everybody for newer epochs more often than that


def recovered(table: Table, members: Mapping[NodeId, Member]) -> Table | None:
    """The first table of the next generation; None if no worker would be in it."""
    living = [each for each in members.values() if each.status <= SUSPECT and each.node not in table.left]
    seats: list[Seat] = []
    place_of: dict[int, int] = {}
    returned: list[int] = []
    for place, seat in enumerate(table.members):
        same = members.get(seat.node)
        if same in living:
            place_of[place] = len(seats)
            seats.append(replace(seat, up=True))
        elif (heir := _heir(seat, living, table)) is not None:
            if table.durable and heir.home == seat.home:
                place_of[place] = len(seats)
                returned.append(place)
            seats.append(new_seat(heir, voter=True))
    workers = [place for place, seat in enumerate(seats) if seat.role == WORKER]
    if not workers:
        return None
    voting = tuple(replace(seat, voter=place < MAX_VOTERS) for place, seat in enumerate(seats))
    epoch = (table.generation + 1) * GENERATION
    lost = Slot(epoch, workers[0], (), LOST)  # terms never exceed epochs, so this one is new
    stay = {place: new for place, new in place_of.items() if place not in returned}
    slots = tuple(_kept(slot, stay) or _promoted(slot, stay, place_of, epoch) or lost for slot in table.slots)
    return replace(table, epoch=epoch, members=voting, slots=slots)


def _heir(seat: Seat, living: list[Member], table: Table) -> Member | None:
    """The one process that lives under a seat's name and has no seat of its own."""
    seated = {each.node for each in table.members}
    found = [each for each in living if (each.name, each.role) == (seat.name, seat.role) and each.node not in seated]
    return max(found, key=lambda each: (each.home == seat.home, each.boot, each.node), default=None)


def _kept(slot: Slot, place_of: Mapping[int, int]) -> Slot | None:
    named = slot.members if slot.joining is None else (*slot.members, slot.joining)
    if slot.status == LOST or any(place not in place_of for place in named):
        return None
    return renumbered(slot, place_of)


def _promoted(slot: Slot, stay: Mapping[int, int], place_of: Mapping[int, int], term: int) -> Slot | None:
    """Rather one that stays than one that returns."""
    places = sorted((place for place in slot.members if place in place_of), key=lambda place: place not in stay)
    living = [] if slot.moves else [place_of[place] for place in places]
    if slot.status == LOST or not living:
        return None
    return Slot(term, living[0], tuple(sorted(living[1:])), PENDING, living[0])


class Recovery:
    """Waits; `due` says when the control plane shall make the table."""

    def __init__(self) -> None:
        self._due: Millis | None = None

    def next_deadline(self) -> Millis | None:
        return self._due

    def handle(self, event: Event, now: Millis, *, fenced: bool) -> list[Effect]:
        """Understands Recover."""
        match event:
            case Recover() if not fenced:
                why = "a decisive set of the voters is in touch: there is nothing to recover from"
                return [Log("cluster.recovery_refused", {"detail": why}, "error")]
            case Recover() if self._due is None:
                self._due = now + WAIT
                return [Log("cluster.recovering", {"wait_ms": WAIT}, "warning")]
        return []

    def is_due(self, now: Millis) -> bool:
        """Once."""
        if self._due is None or now < self._due:
            return False
        self._due = None
        return True
