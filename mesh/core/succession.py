"""Which table may follow which. Every acceptor and learner asks before it takes one, whoever proposes and whatever the
planner thinks: a slot's state can only be where these rules have let it go.

One copy:
    ACTIVE(t, A)               -> PENDING(t + 1, C, from A)      it moves: A ships the state; C may be A
    PENDING(t, C, from A)      -> ACTIVE(t, C)
    PENDING(t, C, from A)      -> PENDING(t + 1, D, from A)      another target; D may be A
More copies: B.. are backups, M.. all members, which are A and B..; `from` says who is the donor.
    ACTIVE(t, A; B..)          -> ACTIVE(t + 1, A; B..) joining C       C is to be filled
    ACTIVE(t, A; B..) joining C-> ACTIVE(t + 1, A; B.. and C)           A says that C is filled
    ACTIVE(t, A; B..)          -> ACTIVE(t + 1, A; fewer), joining any  nothing pauses; as many as wanted stay
    ACTIVE(t, A; B..)          -> ACTIVE(t + 1, A; B..) parting some    the same where fewer stay: A shall know of it
    ACTIVE(t, A; B..) parting  -> ACTIVE(t + 1, A; without these)       A says that it knows
    ACTIVE(t, A; B..) parting  -> ACTIVE(t + 1, A; B..) parting others  or none
    ACTIVE(t, A; B..)          -> PENDING(t + 1, B; other M.., from A)  hand-over: B of B.., A becomes a backup
    .. hands over, from A      -> ACTIVE(t, B; M..)                     all but A say that they have all of A
    .. hands over, from A      -> ACTIVE(t + 1, A; other M..)           called off: a new reign; fewer, or parting
    ACTIVE(t, A; B..)          -> PENDING(t + 1, B; other M.., from B)  promotion: A is down
    PENDING(t, any, M..)       -> PENDING(t + 1, X; other M.., from X)  promotion of any member
    .. promotes X              -> ACTIVE(t, X)                          X says that it is there; it goes on alone
Any:
    ACTIVE or PENDING (t, ..)  -> LOST(t + 1, anybody)           all that may have the state have ended
    LOST(t, X)                 -> LOST(t + 1, Y)
    LOST(t, X)                 -> ACTIVE(t + 1, Y)               an operator accepted the loss: it starts empty

In a durable cluster (see `table`) there is no moving, and a copy may have *returned*: its seat has passed to another
process of its home. That one has all that the former one ever acknowledged, but neither its memory nor what was on its
way to it. So it may be promoted, and nothing else: nobody goes on as owner or donor, as a copy of who owns, or as one
that a hand-over waits for, through a step in which it returns.
    ACTIVE(t, A; B..), A returns -> PENDING(t + 1, A or B; other M.., from it)  also A itself is asked again
    PENDING(t, any, M..)         -> as above, without those that return; or promotion of any, these included

While a slot with copies is PENDING its members stay the same, except for those whose seat is gone: so nobody is
forgotten who may be the last to have the state. Whose seat is gone, or who returns, is left out at once. A reign
(`since`) lasts while the owner stays and is not stopped; all else, also a hand-over that is called off, begins a new
one. `tools/model_copies.py` searches these rules for schedules that lose something.

So a new owner has the state of the last ACTIVE configuration (S1), and a term names one owner: one process. Seats keep
their order, new ones come last; a node keeps its name and role; who left is named once and does not come back. A seat
may pass in place to another process of its name and role, of the same home only to a later one. As that is another
node, every slot that the former one owned or gave gets another term, or is LOST, in the same step.

A node that was away may leap over epochs. What it missed it cannot check, but neither a term nor a `since` may have
fallen, and a term still names the same owner. A new generation, which an operator's `recovery` begins, may follow on
whatever was known before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import MAX_LEFT, Seat, Table
from mesh.core.table_bytes import table_from_bytes

GONE = -1  # the place of a seat that is not there any more


def value_fault(epoch: int, before: bytes | None, value: bytes, slots: int | None = None) -> str | None:
    """Why `value` may not be that epoch's, when `before` is the newest known; a sentence, or None.

    `slots`: how many this node was started for.
    """
    try:
        table = table_from_bytes(value)
    except ValueError as error:
        return str(error)
    if table.epoch != epoch:
        return f"a table of epoch {table.epoch} where one of epoch {epoch} belongs"
    if slots not in (None, len(table)):
        return f"a table of {len(table)} slots, where this node has {slots}"
    return fault(None if before is None else table_from_bytes(before), table)


def fault(old: Table | None, new: Table) -> str | None:
    """Why `new` may not follow `old`, directly or by a leap; None for `old`: nothing is known yet."""
    if old is None:
        return _founding_fault(new) if new.epoch == 1 else None
    if new.epoch <= old.epoch:
        return f"epoch {new.epoch} does not come after epoch {old.epoch}"
    if new.cluster_id != old.cluster_id or len(new) != len(old):
        return "another cluster, or another number of slots"
    if (new.founders, new.copies, new.durable) != (old.founders, old.copies, old.durable):
        return "other founders, or another number of copies, or another durability"
    if new.generation > old.generation:
        return None
    if new.epoch > old.epoch + 1:
        return next(_leap_faults(old, new), None)
    return _seats_fault(old, new) or next(_slot_faults(old, new), None) or _left_fault(old, new)


def _founding_fault(table: Table) -> str | None:
    fresh = all(slot.status == ACTIVE and slot.term == 1 for slot in table.slots)
    return None if fresh and not table.left else "a first table whose slots have a past"


def _places(old: Table, new: Table) -> list[int]:
    """For each seat of `old` its place in `new`."""
    place = {seat.node: number for number, seat in enumerate(new.members)}
    return [place.get(seat.node, GONE) for seat in old.members]


def _places_of_homes(old: Table, new: Table) -> tuple[list[int], tuple[int, ...]]:
    """The same, where a home counts; and the places in `new` of those that have returned."""
    places = _places(old, new)
    if not new.durable:
        return places, ()
    homes = {seat.home: number for number, seat in enumerate(new.members)}
    all_places = [
        homes.get(seat.home, GONE) if place == GONE else place for seat, place in zip(old.members, places, strict=True)
    ]
    return all_places, tuple(now for now, then in zip(all_places, places, strict=True) if now != then)


def _pairs(old: Table, new: Table) -> Iterator[tuple[int, Slot, Slot]]:
    """(a slot's number, before, after) of each pair that there is, once."""
    seen: dict[tuple[int, int], None] = {}  # equal configurations are usually one object
    for number, (before, after) in enumerate(zip(old.slots, new.slots, strict=True)):
        if (id(before), id(after)) not in seen:
            seen[id(before), id(after)] = None
            yield number, before, after


def _leap_faults(old: Table, new: Table) -> Iterator[str]:
    place = _places(old, new)
    for number, before, after in _pairs(old, new):
        falls = after.term < before.term or after.since < before.since
        if falls or (after.term == before.term and after.owner != place[before.owner]):
            yield f"slot {number} goes from {before} to {after}"


def _seats_fault(old: Table, new: Table) -> str | None:
    if any(seat.node in old.left for seat in new.members):
        return "a member that has left is back"
    before = {seat.node: seat for seat in old.members}
    for seat in new.members:
        same = before.get(seat.node)
        if same is not None and (seat.name, seat.role) != (same.name, same.role):
            return f"{same.name!r} becomes {seat.name!r}, {seat.role}"
    there = {seat.node for seat in new.members}
    heirs = {(seat.name, seat.role) for seat in new.members if seat.node not in before}
    stay = [seat for seat in old.members if seat.node in there or (seat.name, seat.role) in heirs]
    told = (_seat_fault(one, other) for one, other in zip(stay, new.members, strict=False))
    return next((fault for fault in told if fault), None)


def _seat_fault(before: Seat, after: Seat) -> str | None:
    if (before.name, before.role) != (after.name, after.role):
        return "members are not in the order of their service"
    same_home = before.home == after.home
    if before.node == after.node:
        return None if same_home and before.boot == after.boot else f"{after.name!r} has another home or boot"
    return f"{after.name!r} passes to an earlier process" if same_home and after.boot <= before.boot else None


def _slot_faults(old: Table, new: Table) -> Iterator[str]:
    place, returned = _places_of_homes(old, new)
    for number, before, after in _pairs(old, new):
        if not _follows(before, after, place, returned, new.durable, new.copies):
            yield f"slot {number} goes from {before} to {after}"


def _follows(
    before: Slot, after: Slot, place: Sequence[int], returned: Sequence[int], durable: bool, copies: int
) -> bool:
    then = _renumbered(before, place)
    if after.term == then.term:
        act = (then.owner,) if then.promotes else (*then.members, then.joining)
        same = after == then or (then.status == PENDING and after == then.activated())
        return same and not any(each in returned for each in act)
    if after.term != then.term + 1:
        return False
    if then.status == LOST:
        return after.status == LOST or (after.status == ACTIVE and after == Slot(after.term, after.owner))
    if after.status == ACTIVE:
        return _reigns_on(then, after, returned, copies)
    return after.status == LOST or (_waits(then, after, returned) if durable or then.backups else _moves(then, after))


def _renumbered(slot: Slot, place: Sequence[int]) -> Slot:
    donor, joining = (None if each is None else place[each] for each in (slot.donor, slot.joining))
    backups, parting = (tuple(place[each] for each in some) for some in (slot.backups, slot.parting))
    return replace(slot, owner=place[slot.owner], backups=backups, donor=donor, joining=joining, parting=parting)


def _reigns_on(then: Slot, after: Slot, returned: Sequence[int], wanted: int) -> bool:
    """The same reign with other backups; or, after a hand-over that is called off, the same owner in a new one."""
    if then.status == PENDING and not then.hands_over:
        return False
    lord = then.owner if then.donor is None else then.donor
    copies = [each for each in (*then.members, then.joining) if each is not None and each not in returned]
    since = after.term if then.hands_over else then.since
    same = (after.owner, after.since) == (lord, since) and lord in copies
    return same and all(each in copies for each in after.backups) and _leaves_enough(then, after, returned, wanted)


def _leaves_enough(then: Slot, after: Slot, returned: Sequence[int], wanted: int) -> bool:
    """As many copies as there shall be; or only those go of which the owner knew, or that have ended."""
    if len(after.members) - len(after.parting) >= wanted:
        return True
    left_out = [each for each in then.members if each not in after.members]
    return all(each in then.parting or each in returned or each == GONE for each in left_out)


def _moves(then: Slot, after: Slot) -> bool:
    return not after.backups and after.donor == (then.owner if then.donor is None else then.donor)


def _waits(then: Slot, after: Slot, returned: Sequence[int]) -> bool:
    if sorted(after.members) != sorted(each for each in then.members if each != GONE):
        return False
    if after.hands_over:
        same = (after.donor, after.since) == (then.owner, then.since)
        return then.status == ACTIVE and same and not any(each in returned for each in then.members)
    is_new = then.status == PENDING or after.owner != then.owner or then.owner in returned
    return after.donor == after.owner and is_new


def _left_fault(old: Table, new: Table) -> str | None:
    """Who left properly had a seat, has none, and lost nothing."""
    there = {seat.node for seat in new.members}
    removed = [seat.node for seat in old.members if seat.node not in there]
    gone = tuple(node for node in removed if node in new.left)
    if new.left != (*old.left, *gone)[-MAX_LEFT:]:
        return "who has left does not follow from whose seat is gone"
    for number, before, after in _pairs(old, new):
        had_it = before.members if before.backups else before.members[-1:]
        if after.status == LOST != before.status and any(old.members[place].node in gone for place in had_it):
            return f"slot {number} is lost by one that left properly"
    return None
