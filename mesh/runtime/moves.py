"""How far the slots are on their way: what a person who watches a join or a leave wants to know.

An episode starts with the first slot that moves, and ends when the partition is at rest and level. One table says what
is on its way, and how much must still start is arithmetic; what has arrived already is known against the partition as
it was at the start. Epochs may be skipped, so nothing is counted from one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from mesh.core.messages import NodeId
from mesh.core.messages.members import STAYING, SUSPECT, Member
from mesh.core.slot import ACTIVE, PENDING
from mesh.core.table import WORKER, Table
from mesh.runtime.status import Moving, Transfer


class MoveWatch:
    """Told of every table that this node comes to know; they are many, so what costs time is left to `now`."""

    def __init__(self) -> None:
        self._start: Table | None = None  # the last one at rest before the present episode
        self._rest: Table | None = None  # the newest one at rest

    def agreed(self, table: Table, members: Mapping[NodeId, Member]) -> None:
        if not table.counts()["pending"] and not still_to_start(table, members):
            self._start, self._rest = None, table
        elif self._start is None:
            self._start = self._rest or table

    def now(self, table: Table, members: Mapping[NodeId, Member]) -> Moving:
        start = self._start
        if start is None:
            return Moving(0, 0, ())
        arrived = sum(
            slot.status == ACTIVE and table.members[slot.owner].node != start.members[before.owner].node
            for slot, before in zip(table.slots, start.slots, strict=True)
        )
        transfers = under_way(table)
        waiting = sum(each.slots for each in transfers)
        return Moving(arrived, arrived + waiting + still_to_start(table, members), transfers)


def under_way(table: Table) -> tuple[Transfer, ...]:
    """Who hands how many slots to whom just now."""
    counts: dict[tuple[str, str], int] = {}
    for slot, group in groupby(table.slots):
        if slot.status == PENDING and slot.donor is not None and slot.donor != slot.owner:
            pair = table.members[slot.donor].name, table.members[slot.owner].name
            counts[pair] = counts.get(pair, 0) + sum(1 for _ in group)
    return tuple(Transfer(giver, taker, slots) for (giver, taker), slots in sorted(counts.items()))


def still_to_start(table: Table, members: Mapping[NodeId, Member]) -> int:
    """How many slots must yet set out until the workers that are up and stay have equal shares."""
    owned = zip(table.members, table.owned_counts(), strict=True)
    up = [(_stays(members.get(seat.node)), count) for seat, count in owned if seat.role == WORKER and seat.up]
    staying = sorted((count for stays, count in up if stays), reverse=True)
    if not staying:
        return 0
    share, larger = divmod(sum(count for _, count in up), len(staying))
    return sum(max(0, share + (place < larger) - count) for place, count in enumerate(staying))


def _stays(member: Member | None) -> bool:
    return member is None or member.leaving == STAYING or member.status > SUSPECT
