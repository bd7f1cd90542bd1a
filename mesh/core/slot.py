"""One slot's configuration in an epoch: who owns it, who has copies, and what it waits for.

A term rises by one whenever the slot's configuration changes, so that what was said under an older one is known to be
old. LOST: every process that had the state has ended. PENDING has one of three forms, which succession goes on from in
different ways:

    moves       no backups, another donor    the donor, who alone has the state, ships it to the owner
    hands over  the donor is a backup        all have the state; the donor stops, and the owner goes on
    promotes    the donor is the owner       it has the state, and shall go on alone, whoever else has it (or has not)

`joining`: who is being filled by the owner, and becomes a backup when the owner says that it is; a fill belongs to one
term. `parting`: backups that are to be left out although fewer copies than wanted stay. They count as before, and may
be promoted, until the owner says that it knows: so nobody who lives is left out in favour of an owner that has died
meanwhile. `since`: the term at which this reign began; it never falls, and a change of backups leaves it as it is, so
that who sends to an owner need not care. Whatever stops an owner ends its reign: after a hand-over that is called off
it is an owner anew, so that what was said before is told from what is said after it.

Owners, donors, backups and who joins are places in the table's `members`.

Invariants: the owner is a worker and not among the backups; there is a donor, a worker, exactly while the slot is
PENDING; backups are distinct workers, and who joins is another one, of an ACTIVE slot; who parts is a backup of an
ACTIVE slot that nobody joins; what is LOST has none; a reign is at most as old as the slot, and begins with the term if
the slot is LOST, moves, or is promoted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

PENDING, ACTIVE, LOST = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot's configuration. Equal ones are usually the same object."""

    term: int  # from 1
    owner: int  # place in members
    backups: tuple[int, ...] = ()  # places in members
    status: int = ACTIVE  # PENDING | ACTIVE | LOST
    donor: int | None = None  # while PENDING: the owner of the last ACTIVE configuration, or who is promoted
    since: int = 0  # the term at which its owner, or the donor that hands over, became the owner; 0: this one
    joining: int | None = None  # place in members; while ACTIVE: who is being filled
    parting: tuple[int, ...] = ()  # of the backups; while ACTIVE: those that are left out once the owner knows

    def __post_init__(self) -> None:
        if not self.since:
            object.__setattr__(self, "since", self.term)

    @property
    def members(self) -> tuple[int, ...]:
        """Who may hold the state: the copies of the last ACTIVE configuration, and who it is shipped to."""
        donors = () if self.donor is None or self.donor in (self.owner, *self.backups) else (self.donor,)
        return (self.owner, *self.backups, *donors)

    @property
    def moves(self) -> bool:
        """It is shipped by the only one that has it."""
        return self.status == PENDING and not self.backups and self.donor != self.owner

    @property
    def hands_over(self) -> bool:
        return self.status == PENDING and self.donor in self.backups

    @property
    def promotes(self) -> bool:
        return self.status == PENDING and self.donor == self.owner

    def activated(self) -> Slot:
        """What it becomes, while it is PENDING, once all whose word it waits for have given it."""
        return Slot(self.term, self.owner, self.backups if self.hands_over else ())

    def asked(self) -> tuple[int, ...]:
        """Whose word this configuration waits for: that they hold, or have filled, what it asks of them."""
        if self.hands_over:
            return tuple(place for place in (self.owner, *self.backups) if place != self.donor)
        return (self.owner,) if self.status == PENDING or self.joining is not None or self.parting else ()

    def fault(self, workers: Collection[int]) -> str | None:
        """The first broken invariant, as a sentence; `workers` are places."""
        places = (self.owner, *self.backups)
        if len(set(places)) < len(places):
            return f"owner and backups are not distinct: {self}"
        if any(place not in workers for place in places):
            return f"owner or a backup is no worker: {self}"
        if (self.donor is not None) != (self.status == PENDING):
            return f"a donor without need, or none where one is needed: {self}"
        if self.donor is not None and self.donor not in workers:
            return f"the donor is no worker: {self}"
        return _reign_fault(self) or _joining_fault(self, workers) or _parting_fault(self)


def _reign_fault(slot: Slot) -> str | None:
    if slot.status == LOST and slot.backups:
        return f"what is lost has backups: {slot}"
    if slot.status == PENDING and slot.backups and slot.donor not in slot.members[: 1 + len(slot.backups)]:
        return f"the donor is none of the copies: {slot}"
    if not 1 <= slot.since <= slot.term:
        return f"a reign that is younger than its term: {slot}"
    if slot.since == slot.term and slot.hands_over:
        return f"a hand-over by an owner that has just begun: {slot}"
    if slot.since < slot.term and slot.status != ACTIVE and not slot.hands_over:
        return f"a reign that is over, and is said to last: {slot}"
    return None


def _joining_fault(slot: Slot, workers: Collection[int]) -> str | None:
    if slot.joining is None:
        return None
    if slot.status != ACTIVE or slot.joining not in workers or slot.joining in slot.members:
        return f"who joins is no other worker, or the slot is not active: {slot}"
    return None


def _parting_fault(slot: Slot) -> str | None:
    if not slot.parting:
        return None
    among = len(set(slot.parting)) == len(slot.parting) and all(place in slot.backups for place in slot.parting)
    if slot.status != ACTIVE or slot.joining is not None or not among:
        return f"who parts is no backup, or the slot is not active, or somebody joins: {slot}"
    return None
