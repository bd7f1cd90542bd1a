"""What becomes of a slot that has copies: pure, one slot and one step at a time. `transitions` asks for every slot.

What is urgent comes first, whoever shall own what: claims are answered; a copy that is down is left out, as its owner
commits nothing without it; an owner that is down is followed by a copy that is up; a hand-over that lacks somebody is
called off, or, without its donor, becomes a promotion. What is left is brought to its target in steps that never lower
the number of copies: fill who is missing, one at a time; hand over to a copy; drop who is not wanted.

Where fewer copies than wanted would stay, who is left out *parts* first, until the owner has said that it knows. A copy
that is called dead may live, and the owner may have died unnoticed: then nobody has said so, and that copy is promoted.

Who returns in a durable cluster (see `succession`) has lost what was on its way to it: it is left out, and filled
again; or promoted, if nobody else is up.

A fill that was begun goes on even if the target has changed: what it made is often wanted then, and else dropped.

Fills and hand-overs take turns (`in_turn`). What a hand-over waits for stands behind what is on its way to the same
nodes, so none begins while its donor fills one of them. A slot that lacks a copy is filled at once; others only if
their owner has nothing else under way: a large move goes in parts, and only few slots have a copy too many, which all
that is applied goes to, too. A fill that does not end, because who joins is slow, or the owner's disk is full, holds up
what its owner has for the same nodes, and nobody else.

Invariant: each step follows by `succession`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from mesh.core.rebalance import PINNED, assign_backups
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot

MAX_FILLING = 1024  # slots with somebody joining at once; the bytes on their way have a bound of their own
MAX_FETCHING = 256  # slots that lack no copy, and are filled at once: each has one too many until it has moved
MAX_HANDING = 128  # slots that are handed over at once: only these pause


def urgent(
    slot: Slot,
    claimed: bool,
    there: Sequence[bool],
    gone: Collection[int] = (),
    returned: Collection[int] = (),
    *,
    copies: int,
) -> Slot:
    """What cannot wait; `claimed`: all whose word it waits for have given it; `gone`: places whose seats go now;
    `returned`: those that pass to another process of the same home, which has what the former one had on its disk."""
    if slot.status == PENDING:
        return _answered(slot, claimed, there, gone, returned, copies)
    if slot.status == LOST:
        return Slot(slot.term + 1, slot.owner, (), LOST) if slot.owner in returned else slot
    fails = slot.joining is not None and (not there[slot.joining] or slot.joining in returned)
    if not there[slot.owner] or slot.owner in returned:
        left_over = tuple(place for place in slot.backups if place not in gone)
        if any(there[place] for place in (slot.owner, *slot.backups)) or slot.owner in gone:
            return promoted(slot, there, gone, returned)
        return slot if left_over == slot.backups and not fails else _reigning(slot, slot.owner, left_over)
    filled = [slot.joining] if claimed and slot.joining is not None and not fails else []
    parting = tuple(place for place in slot.parting if not there[place])
    known = parting if claimed else ()
    backups = [place for place in (*slot.backups, *filled) if place not in (*gone, *returned, *known)]
    out = [place for place in backups if not there[place]]
    new = _without(slot, slot.owner, slot.since, backups, out, copies)
    return slot if (new.backups, new.parting) == (slot.backups, parting) and not fails else new


def _answered(
    slot: Slot, claimed: bool, there: Sequence[bool], gone: Collection[int], returned: Collection[int], copies: int
) -> Slot:
    lacks = any(place in gone for place in slot.members)
    acts = [is_there and place not in returned for place, is_there in enumerate(there)]
    if not slot.hands_over:
        if acts[slot.owner] and (claimed or not lacks):
            return slot.activated() if claimed else slot
        return promoted(slot, there, gone, returned)
    assert slot.donor is not None
    if claimed and acts[slot.owner] and not lacks and not any(place in returned for place in slot.members):
        return slot.activated()
    if not acts[slot.donor]:
        return promoted(slot, there, gone, returned)
    others = [place for place in slot.members if place != slot.donor]
    if all(acts[place] for place in others):
        return slot
    backups = [place for place in others if place not in (*gone, *returned)]
    out = [place for place in backups if not there[place]]
    return _without(slot, slot.donor, slot.term + 1, backups, out, copies)


def _without(slot: Slot, owner: int, since: int, backups: Sequence[int], out: Collection[int], copies: int) -> Slot:
    """ACTIVE, with these backups; those that shall be `out` only part, if too few would stay."""
    staying = tuple(sorted(place for place in backups if place not in out))
    if len(staying) + 1 >= copies:
        return Slot(slot.term + 1, owner, staying, ACTIVE, None, since)
    parting = tuple(sorted(out))
    return Slot(slot.term + 1, owner, tuple(sorted(backups)), ACTIVE, None, since, None, parting)


def _reigning(slot: Slot, owner: int, backups: tuple[int, ...], joining: int | None = None) -> Slot:
    return Slot(slot.term + 1, owner, backups, ACTIVE, None, slot.since, joining)


def promoted(slot: Slot, there: Sequence[bool], gone: Collection[int] = (), returned: Collection[int] = ()) -> Slot:
    """The first copy that is up shall go on, rather one that does not just return; if none is, it waits for any, and
    names only those that may be there again."""
    staying = [place for place in slot.members if place not in gone]
    up = sorted((place in returned, order) for order, place in enumerate(staying) if there[place])
    heir = staying[up[0][1]] if up else None
    if heir is None and len(staying) in (0, len(slot.members)):
        return slot
    heir = staying[0] if heir is None else heir
    others = tuple(sorted(place for place in staying if place != heir))
    return Slot(slot.term + 1, heir, others, PENDING, heir)


def settled(slot: Slot, claimed: bool, owner: int, backups: Sequence[int], copies: int) -> Slot:
    """One step of an ACTIVE slot, of which all are up, towards these."""
    if slot.parting:
        return _parted(slot, claimed, (owner, *backups))
    if slot.joining is not None:
        return slot
    missing = [place for place in (owner, *backups) if place not in slot.members]
    if missing:
        return _reigning(slot, slot.owner, slot.backups, missing[0])
    if owner != slot.owner:
        others = tuple(sorted(place for place in slot.members if place != owner))
        return Slot(slot.term + 1, owner, others, PENDING, slot.owner, slot.since)
    out = [place for place in slot.backups if place not in backups]
    return _without(slot, owner, slot.since, slot.backups, out, copies) if out else slot


def _parted(slot: Slot, claimed: bool, wanted: Sequence[int]) -> Slot:
    """Who is back, or wanted after all, or until somebody else is filled, stays; else it goes once the owner knows."""
    staying = tuple(place for place in slot.backups if place not in slot.parting)
    if sorted(wanted) != sorted((slot.owner, *staying)):
        return _reigning(slot, slot.owner, slot.backups)
    return _reigning(slot, slot.owner, staying) if claimed else slot


def in_turn(others: Iterable[Slot], steps: Mapping[int, Slot], copies: int) -> dict[int, Slot]:
    """Those of the steps of ACTIVE slots that may be taken now; `others` are under way, or have a copy too many, and do
    not wait for anybody who is down."""
    moving = [*others]
    filling = sum(slot.joining is not None for slot in moving)
    handing = sum(slot.hands_over for slot in moving)
    fills = [number for number, new in steps.items() if new.joining is not None]
    over = [number for number, new in steps.items() if new.hands_over]
    begun = [number for number in fills if len(steps[number].members) < copies][: max(0, MAX_FILLING - filling)]
    lanes = dict.fromkeys((slot.owner, slot.joining) for slot in [*moving, *(steps[each] for each in begun)])
    free = [
        number for number in over if not any((steps[number].donor, each) in lanes for each in steps[number].members)
    ]
    busy = dict.fromkeys(owner for owner, joining in lanes if joining is not None)
    busy |= dict.fromkeys(slot.donor for slot in [*moving, *(steps[each] for each in over)] if slot.donor is not None)
    rest = [number for number in fills if len(steps[number].members) >= copies and steps[number].owner not in busy]
    waiting = dict.fromkeys([*over, *fills])
    room = MAX_FETCHING - sum(len(slot.members) + (slot.joining is not None) > copies for slot in moving)
    begun += free[: max(0, MAX_HANDING - handing)] + rest[: max(0, room)]
    return {number: new for number, new in steps.items() if number not in waiting} | {n: steps[n] for n in begun}


def backups_for(
    slots: Sequence[Slot], owners: Sequence[str], names: Sequence[str], members: Mapping[str, str], copies: int
) -> list[tuple[str, ...]]:
    """The backups of each slot as they shall be, by name, none for what is PINNED; `owners` are as they shall be, and
    `names` are those of all places; `members` name -> zone, are eligible."""
    numbers = [number for number, owner in enumerate(owners) if owner != PINNED]
    kinds = {id(slot): tuple(names[place] for place in _copies(slot)) for slot in {id(s): s for s in slots}.values()}
    present = tuple(kinds[id(slots[number])] for number in numbers)
    found = _assigned(tuple(owners[number] for number in numbers), tuple(members.items()), copies, present)
    of_slot = dict(zip(numbers, found, strict=True))
    return [of_slot.get(number, ()) for number in range(len(owners))]


def _copies(slot: Slot) -> tuple[int, ...]:
    """Whoever joins is as good as there."""
    if slot.status == LOST:
        return ()
    return slot.members if slot.joining is None else (slot.joining, *slot.members)


@lru_cache(maxsize=4)  # at rest the same is asked again and again
def _assigned(
    owners: tuple[str, ...], members: tuple[tuple[str, str], ...], copies: int, present: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    return assign_backups(owners, members, copies, present)


def renumbered(slot: Slot, place_of: Mapping[int, int]) -> Slot:
    """The same with other places."""
    donor, joining = (None if place is None else place_of[place] for place in (slot.donor, slot.joining))
    backups, parting = (tuple(sorted(place_of[place] for place in some)) for some in (slot.backups, slot.parting))
    return replace(slot, owner=place_of[slot.owner], donor=donor, backups=backups, joining=joining, parting=parting)
