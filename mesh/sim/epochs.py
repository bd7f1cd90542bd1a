"""What may be said of the epochs: one value each (I1), each follows from the one before by the rules (A2), by the votes
of a decisive set (I2), by no move too many (I4), by no copy too few (I7, I10). A cluster is founded by enough workers
(A6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST, PENDING
from mesh.core.succession import fault
from mesh.core.table import Table
from mesh.core.table_bytes import table_from_bytes, table_to_bytes
from mesh.sim.bound import moves_fault
from mesh.sim.copies import copies_fault
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World


class Epochs:
    """The history, as the nodes have told it."""

    def __init__(self, world: World) -> None:
        self.newest: Table | None = None
        self.history: dict[int, Table] = {}
        self.moved = 0  # slots that have arrived at another member
        self.seated: dict[NodeId, str] = {}  # who was ever a member, and its role
        self._world = world
        self._known: dict[NodeId, int] = {}

    def pumped(self, process: Process) -> bool:
        """Has it learnt a new one?"""
        table = process.node.control.table
        known = self._known.get(process.id, 0)
        if table is None or table.epoch == known:
            return False
        if table.epoch < known:
            raise Violation("I1", f"{process.name} goes back from epoch {known} to {table.epoch}")
        self._known[process.id] = table.epoch
        if table.epoch not in self.history:
            self._first_seen(table)
        if self.history[table.epoch] != table:
            raise Violation("I1", f"{process.name} holds another epoch {table.epoch} than others")
        return True

    def _first_seen(self, table: Table) -> None:
        """A node that was away may leap over epochs; of the one before, somebody's memory is asked."""
        table.invariants(target=table.epoch == 1)
        before = self.history.get(table.epoch - 1) or self._remembered(table.epoch - 1)
        if table.epoch == 1 or before is not None:
            self._check(table, before)
        self.history[table.epoch] = table
        self.seated |= {seat.node: seat.role for seat in table.members}
        if self.newest is None:
            self._world.founded()
        if self.newest is None or table.epoch > self.newest.epoch:
            self.newest = table

    def _remembered(self, epoch: int) -> Table | None:
        values = (each.node.control.agreement._history.get(epoch) for each in self._world.processes)
        return next((table_from_bytes(value) for value in values if value is not None), None)

    def _check(self, table: Table, before: Table | None) -> None:
        told = fault(before, table)
        if told is not None:
            raise Violation("A2", f"epoch {table.epoch}: {told}")
        self._check_votes(table, before)
        if before is None and len(table.workers()) < self._world.scenario.expect:
            raise Violation("A6", f"a cluster of {len(table.workers())} workers was founded")
        if before is not None:
            self._check_moves(before, table)

    def _check_moves(self, before: Table, table: Table) -> None:
        told = moves_fault(before, table, self._world.leaving)
        if told is not None:
            raise Violation("I4", f"epoch {table.epoch}: {told}")
        if table.fills:
            self._check_copies(before, table)
        pairs = zip(before.slots, table.slots, strict=True)
        self.moved += sum((old.status, new.status) == (PENDING, ACTIVE) for old, new in pairs)

    def _check_copies(self, before: Table, table: Table) -> None:
        alive = {process.id: None for process in self._world.processes if process.alive}
        told = _given_up(before, table) or copies_fault(before, table, self._world.leaving, lambda node: node in alive)
        if told is not None:
            raise Violation("I10" if "fewer" in told else "I7", f"epoch {table.epoch}: {told}")

    def _check_votes(self, table: Table, before: Table | None) -> None:
        held = [process for process in self._world.processes if _has_accepted(process, table)]
        if before is None:
            names = {each.name for each in held}
            declared = self._world.scenario.declared
            voted = [each.name for each in declared if each.role == "worker" and each.name in names]
            enough = len(voted) >= self._world.scenario.expect
        else:
            homes = {each.node.identity.me.home for each in held}
            voted = [seat.name for seat in before.voters() if seat.home in homes]
            enough = before.electorate().enough(voted)
        if not enough:
            raise Violation("I2", f"epoch {table.epoch} was chosen by {voted} alone")


def _given_up(before: Table, table: Table) -> str | None:
    """What is on a disk is given up by people alone, of whom there are none here."""
    pairs = enumerate(zip(before.slots, table.slots, strict=True)) if table.durable else ()
    return next((f"slot {at} is given up" for at, (old, new) in pairs if new.status == LOST != old.status), None)


def _has_accepted(process: Process, table: Table) -> bool:
    """Or holds it, or a later one: then it has learnt that this one was chosen."""
    agreement = process.node.control.agreement
    return agreement._vote.accepted == table_to_bytes(table) or agreement.epoch >= table.epoch
