"""What a step from one table to the next may do to slots with copies: no planned move lowers their number (I10), and
nothing is given up while a process that has a copy lives (I7). And how a slot must stand in the end (I17).

Whom the proposer knew to be leaving, or to be dead, cannot be seen: who was asked to leave need not be counted, and who
is not up in the new table, or has ended and is waited for, is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST, Slot
from mesh.core.table import WORKER, Table


def copies_fault(
    before: Table, after: Table, asked_to_leave: Collection[NodeId], may_return: Callable[[NodeId], bool]
) -> str | None:
    """What is wrong with this step, as a sentence; `may_return`: what a process had may be there again."""
    if after.generation > before.generation:
        return None
    up = [seat.node for seat in after.members if seat.up and seat.role == WORKER and may_return(seat.node)]
    staying = [node for node in up if node not in asked_to_leave]
    for number, (old, new) in enumerate(zip(before.slots, after.slots, strict=True)):
        if old is new or old == new:
            continue
        had = [before.members[place].node for place in old.members]
        if new.status == LOST != old.status and any(may_return(node) for node in had):
            return f"slot {number} is given up, and a copy of it may return: {old}"
        if _drops(old, new, had, after, up) and len(new.members) < min(after.copies, max(1, len(staying))):
            return f"slot {number} has fewer copies, and nobody is down: {old}, then {new}"
    return None


def _drops(old: Slot, new: Slot, had: list[NodeId], after: Table, up: Collection[NodeId]) -> bool:
    """Whether somebody who is there is no copy any more, though the owner is the same, or hands over."""
    if old.status != ACTIVE and not old.hands_over:
        return False
    has = [after.members[place].node for place in new.members]
    return any(node in up and node not in has for node in had)


def unfinished(table: Table, number: int, living: Collection[NodeId], leaving: Collection[NodeId]) -> str | None:
    """What a slot of which a process with a copy lives still lacks."""
    slot = table.slots[number]
    if slot.status == LOST or not any(table.members[place].node in living for place in slot.members):
        return None
    staying = [seat.node for seat in table.workers() if seat.up and seat.node not in leaving]
    if slot.status != ACTIVE or slot.joining is not None or slot.parting:
        return f"slot {number} is on its way: {slot}"
    if len(slot.members) != min(table.copies, max(1, len(staying))):
        return f"slot {number} has {len(slot.members)} copies"
    away = [table.members[place].name for place in slot.members if table.members[place].node not in staying]
    return f"slot {number} has a copy at {away[0]}" if away and staying else None
