"""Who works on what: only a slot's owner, by the table that its data plane knows and that was agreed (I3); never two at
one term, and never at a term below one at which somebody has worked (I13). And a minority does not work (`touch`).

Everything here is called in the application's code, where raising would be taken for its own: what is found is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh.core.keys import hash_key, slot_of_hash
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, Slot
from mesh.core.table import Table
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World


class Owners:
    """What was worked on, by slot; and who owns a key by the newest table, and by nothing that a node computes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slots: dict[Any, int] = {}  # of keys
        self._reigns: dict[tuple[int, int], NodeId] = {}  # slot and since -> who worked on it then; with copies
        self._worked: dict[int, tuple[int, NodeId]] = {}  # slot -> the highest term at which it was worked on, by whom

    def stepping(self, process: Process, stage: int, key: Any) -> None:
        known = process.node.data.table
        table = None if known is None else self._world.checkers.epochs.history.get(known.epoch)
        found = self._world.checkers.touch.working(process)
        if table is None:
            found = Violation("I3", f"{process.name} works on {key!r} before there is a partition")
        else:
            number = self.slot_of(key)
            found = self._by_table(process, table, table.slots[number], f"{key!r} at stage {stage}") or found
            slot = table.slots[number]
            if not self._world.scenario.keeps:
                found = found or self._by_term(process, number, slot.term)
            else:
                found = found or self._by_reign(process, number, slot.since)
        if found is not None:
            self._world.ledger.found.append(found)

    def _by_table(self, process: Process, table: Table, slot: Slot, what: str) -> Violation | None:
        if table.members[slot.owner].node == process.id and slot.status == ACTIVE:
            return None
        return Violation("I3", f"{process.name} works on {what} and does not own it: {slot}")

    def _by_term(self, process: Process, slot: int, term: int) -> Violation | None:
        last, worker = self._worked.get(slot, (0, process.id))
        if term < last or (term == last and worker != process.id):
            return Violation("I13", f"{process.name} works on slot {slot} at term {term}, after another at {last}")
        self._worked[slot] = term, process.id
        return None

    def _by_reign(self, process: Process, slot: int, since: int) -> Violation | None:
        """Who does not know that it is deposed works on, and it counts for nothing; but a reign has one process."""
        worker = self._reigns.setdefault((slot, since), process.id)
        if worker == process.id:
            return None
        return Violation("I13", f"{process.name} works on slot {slot} in the reign of another, since term {since}")

    def reign_of(self, worker: NodeId, key: Any) -> int:
        """Under which reign it has a key, as far as it knows."""
        process = next(each for each in self._world.processes if each.id == worker)
        known = process.node.data.table
        return 0 if known is None else known.since_of_slot[self.slot_of(key)]

    def owner_of(self, key: Any) -> NodeId:
        table = self._world.checkers.table
        assert table is not None
        return table.owner_of(self.slot_of(key)).node

    def is_active(self, key: Any) -> bool:
        """Its slot has an owner that is there, and the voters can still decide."""
        table = self._world.checkers.table
        return table is not None and table.state_of(self.slot_of(key)) == "active" and self.can_decide()

    def can_decide(self) -> bool:
        """Whether enough of the newest table's voters live, and none of them must decide about itself alone."""
        table = self._world.checkers.table
        if table is None:
            return False
        living = {each.node.identity.me.home: each for each in self._world.processes if each.alive}
        voters = [seat for seat in table.voters() if seat.home in living]
        known = len(voters) > 1 or any(living[seat.home].node.control.boots.confirmed for seat in voters)
        return known and table.electorate().enough(seat.name for seat in voters)

    def slot_of(self, key: Any) -> int:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = slot_of_hash(hash_key(key, 0), self._world.scenario.slots)
        return slot
