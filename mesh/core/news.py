"""What a new table means to the data plane, and to whoever reads the log."""

from __future__ import annotations

from mesh.core.events import Log
from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST
from mesh.core.table import Table


def table_agreed(table: Table) -> TableAgreed:
    workers = table.workers()
    place = {seat.node: index for index, seat in enumerate(workers)}
    index_of = {number: place[seat.node] for number, seat in enumerate(table.members) if seat.node in place}
    return TableAgreed(
        table.epoch,
        tuple(seat.node for seat in table.members),
        tuple(seat.node for seat in workers),
        tuple(index_of[slot.owner] for slot in table.slots),
        tuple(-1 if slot.donor is None else index_of[slot.donor] for slot in table.slots),
        tuple(slot.status for slot in table.slots),
        tuple(slot.term for slot in table.slots),
        table.cluster_id,
        tuple(seat.node for seat in workers if not seat.up),
        table.left,
        table.founders,
        tuple(slot.since for slot in table.slots),
        tuple(tuple(index_of[place] for place in slot.backups) for slot in table.slots),
        tuple(-1 if slot.joining is None else index_of[slot.joining] for slot in table.slots),
        tuple(number for number, slot in enumerate(table.slots) if slot.parting),
    )


def told(before: Table | None, table: Table, me: NodeId) -> list[Log]:
    """One line for what matters to an operator; what merely moves on is for debugging."""
    names = [seat.name for seat in table.members]
    if before is None:
        seat = table.seat_of(me)
        own = "none" if seat is None else table.slots_in_words(seat.name)
        fields = {"epoch": table.epoch, "members": names, "slots": len(table.slots), "own": own}
        return [Log("partition.agreed", fields)]
    lines = []
    old, new = _members(before), _members(table)
    if old != new:
        changes = {
            "joined": [table_name for node, (table_name, _) in new.items() if node not in old],
            "gone": [name for node, (name, _) in old.items() if node not in new],
            "down": [name for name, up in new.values() if not up],
        }
        lines.append(Log("partition.members", {"epoch": table.epoch, "members": names} | changes))
    if table.generation > before.generation:
        fields = {"epoch": table.epoch, "members": names, "lost": table.counts()["lost"]}
        lines.append(Log("cluster.recovered", fields, "warning"))
    pairs = zip(before.slots, table.slots, strict=True)
    if again := sum(old.status == LOST and new.status == ACTIVE for old, new in pairs):
        lines.append(Log("partition.loss_accepted", {"epoch": table.epoch, "slots": again}, "warning"))
    counts, former = table.counts(), before.counts()
    if counts["lost"] > former["lost"]:
        lines.append(Log("partition.lost", {"epoch": table.epoch, "slots": counts["lost"]}, "error"))
    if former["pending"] and not counts["pending"]:
        lines.append(Log("partition.settled", {"epoch": table.epoch} | counts))
    return lines or [Log("partition.moving", {"epoch": table.epoch} | counts, "debug")]


def _members(table: Table) -> dict[NodeId, tuple[str, bool]]:
    return {seat.node: (seat.name, seat.up) for seat in table.members}
