"""Nothing moves that need not (rule I4): a step from one table to the next takes no more slots from members that stay
than the lower bound, which is what they hold beyond their shares.

It is counted here by itself, not by the planner's own `rebalance`. A slot counts for where it is, or is going; what is
lost is nobody's; what a member holds that is down stays. With copies only a hand-over is a move. Whom the proposer knew
to be leaving cannot be seen: of those who were asked to, any subset will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST, Slot
from mesh.core.table import WORKER, Table


def moves_fault(before: Table, after: Table, asked_to_leave: Collection[NodeId]) -> str | None:
    """What is wrong with this step, as a sentence."""
    asked = [seat.node for seat in before.members if seat.node in asked_to_leave]
    faults = [_fault(before, after, leaving) for leaving in _subsets(asked)]
    return None if None in faults else faults[0]


def _subsets(nodes: Sequence[NodeId]) -> Iterator[tuple[NodeId, ...]]:
    for size in range(len(nodes) + 1):
        yield from combinations(nodes, size)


def _fault(before: Table, after: Table, leaving: Collection[NodeId]) -> str | None:
    up = [seat.node for seat in after.members if seat.up and seat.role == WORKER]
    staying = [node for node in up if node not in leaving] or up[:1]
    held = dict.fromkeys(staying, 0)
    moved = total = 0
    for old, new in zip(before.slots, after.slots, strict=True):
        copied = before.copies > 1
        holder = _copy_holder(before, after, old, new, staying) if copied else _holder(before, old, new, up, staying)
        if holder is None:
            continue
        total += 1
        if holder in held:
            held[holder] += 1
            steps = _sets_out(old, new) if copied else new.term != old.term
            moved += steps and after.members[new.owner].node != holder
    allowed = _beyond_their_shares(list(held.values()), total)
    return None if moved <= allowed else f"{moved} slots move, and {allowed} would do"


def _holder(before: Table, old: Slot, new: Slot, up: Collection[NodeId], staying: Collection[NodeId]) -> bytes | None:
    """Whom a slot counts for; nobody: b""; None: it is pinned, and counts for nobody's share."""
    owner = before.members[old.owner].node
    arrived = new.term == old.term and new.status == ACTIVE  # its donor does not matter any more
    donor = owner if old.donor is None or arrived else before.members[old.donor].node
    if old.status != LOST and new.status == LOST:
        return b""
    if old.status != LOST and donor not in up:
        return None
    return next((node for node in (owner, donor) if node in staying), b"")


def _copy_holder(before: Table, after: Table, old: Slot, new: Slot, staying: Collection[NodeId]) -> bytes | None:
    """With copies: whoever of them is there, the owner first; before a hand-over, but after a promotion."""
    if new.status == LOST != old.status:
        return b""
    table, slot = (before, old) if _sets_out(old, new) or new.status == LOST else (after, new)
    nodes = [table.members[place].node for place in slot.members]
    up = [table.members[place].up for place in slot.members]
    return next((node for node in nodes if node in staying), b"" if any(up) else None)


def _sets_out(old: Slot, new: Slot) -> bool:
    return new.hands_over and old.status == ACTIVE


def _beyond_their_shares(held: Sequence[int], total: int) -> int:
    """The largest holders may keep one more where the shares do not come out even."""
    if not held:
        return 0
    share, left_over = divmod(total, len(held))
    largest = sorted(held, reverse=True)
    return sum(max(0, count - share - (place < left_over)) for place, count in enumerate(largest))
