"""A cluster without a network: processes that live, pause, end, are replaced and leave, and a planner that knows of it.

`World.step` lets the planner propose and takes the result as chosen, checks what must hold of it, and moves the states
of slots as the data plane would. The ground truth is kept here: which processes have which slot's state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from mesh.core.copying import MAX_HANDING
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, LEAVING, LEFT, READY, STAYING, SUSPECT, Member
from mesh.core.planner import first_table
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.succession import fault
from mesh.core.table import MAX_LEFT, WORKER, Seat, Table
from mesh.core.table_bytes import table_from_bytes, table_to_bytes
from mesh.core.transitions import most_moving, next_table

CLUSTER = b"c" * 16
Plan = Callable[[Table, Facts], Table | None]


def node(number: int) -> NodeId:
    return number.to_bytes(16)


def member(number: int, name: str, role: str = "worker") -> Member:
    return Member(node(number), name, f"tcp://{name}:1", f"{name}:2", role, "", 1, ALIVE)


@dataclass
class World:
    random: Random
    workers: int = 3
    witnesses: int = 0
    slots: int = 64
    plan: Plan = next_table
    members: dict[NodeId, Member] = field(default_factory=dict)
    started: int = 0  # processes

    def __post_init__(self) -> None:
        for number in range(self.workers + self.witnesses):
            self.start(f"n{number}", "worker" if number < self.workers else "witness")
        self.table = first_table(list(self.members.values()), CLUSTER, self.slots, 1)
        self.holders = [{self.table.owner_of(slot).node: 1} for slot in range(self.slots)]  # node -> term of its copy
        self.claims: dict[int, int] = {}
        self.rooted: dict[int, NodeId] = {}  # slot -> who cannot give it away
        self.moves = 0  # slots that began to move, or changed their target

    # -- what can happen to processes

    def start(self, name: str, role: str = "worker") -> NodeId:
        self.started += 1
        new = member(self.started, name, role)
        for old in list(self.members.values()):
            if old.name == name and old.status != LEFT:
                self.become(old.node, DEAD)
        self.members[new.node] = new
        return new.node

    def become(self, process: NodeId, status: int) -> None:
        self.members[process] = replace(self.members[process], status=status)

    def leave(self, process: NodeId, phase: int = LEAVING) -> None:
        self.members[process] = replace(self.members[process], leaving=phase)

    def living(self) -> list[Member]:
        return [each for each in self.members.values() if each.status <= SUSPECT]

    def has_ended(self, process: NodeId) -> bool:
        me = self.members[process]
        return me.status == LEFT or (
            me.status == DEAD and any(each.name == me.name and each is not me for each in self.living())
        )

    # -- what the planner and the data plane make of it

    def facts(self) -> Facts:
        ended = [each for each in self.members if self.has_ended(each)]
        return Facts(self.members, self.claims, [each.node for each in self.living()], ended, rooted=self.rooted)

    def step(self) -> bool:
        """One epoch on; False if nothing is to be done."""
        old, new = self.table, self.plan(self.table, self.facts())
        if new is None:
            return False
        assert fault(old, new) is None, fault(old, new)
        assert table_from_bytes(table_to_bytes(new)) == new
        assert len(new.left) <= MAX_LEFT
        moving = [sum(_moves(table, slot) for slot in table.slots) for table in (old, new)]
        most = MAX_HANDING if new.fills else most_moving(self.slots)
        assert moving[1] <= max(most, moving[0])
        self.table = new
        for slot in range(self.slots):
            self._follow(slot, old, new)
        return True

    def _follow(self, slot: int, old: Table, new: Table) -> None:
        before, after = old.slots[slot], new.slots[slot]
        owner = new.members[after.owner].node
        self.moves += after.term != before.term and after.status == PENDING
        if after.status == LOST != before.status:
            for holder in self.holders[slot]:
                assert self.has_ended(holder), f"slot {slot} is given up while {holder.hex()} has it"
        elif after.status == ACTIVE != before.status:
            term = self.holders[slot].get(owner)
            assert term == after.term, f"slot {slot}: its owner has the state of term {term}, not {after.term}"
            self.holders[slot] = {owner: term}
        elif after.status == PENDING:
            assert after.donor is not None
            donor = new.members[after.donor].node
            assert donor in self.holders[slot], f"slot {slot}: the donor has nothing"
            if after.term != before.term:
                self.holders[slot] = {donor: after.term if donor == owner else self.holders[slot][donor]}

    def transfer(self, chance: float = 1.0) -> None:
        """Donors that run hand over to owners that run; what these hold they claim."""
        for number, slot in enumerate(self.table.slots):
            if slot.status != PENDING or slot.donor is None or self.random.random() >= chance:
                continue
            owner, donor = self.table.members[slot.owner].node, self.table.members[slot.donor].node
            if self.runs(owner) and self.runs(donor) and (owner == donor or self.rooted.get(number) != donor):
                self.holders[number][owner] = slot.term
            if self.runs(owner) and self.holders[number].get(owner) == slot.term:
                self.claims[number] = slot.term

    def runs(self, process: NodeId) -> bool:
        return self.members[process].status <= SUSPECT

    def settle(self) -> int:
        """Until nothing is to be done; how many epochs that took."""
        for each in self.living():
            if each.leaving == LEAVING:
                self.leave(each.node, READY)
        for epochs in range(1_000):
            self.transfer()
            if not self.step():
                return epochs
        raise AssertionError("it never comes to rest")

    # -- what is true of a table at rest

    def pinned(self, slot: int) -> bool:
        """Only a process that is down, and may return, can have its state."""
        if self.table.slots[slot].status == LOST:
            return False
        configuration = self.table.slots[slot]
        owner = self.table.owner_of(slot).node
        unknown = [owner] if configuration.status == PENDING and not self.runs(owner) else []  # what it got, it knows
        may = [*self.holders[slot], *unknown]
        return not any(self.runs(each) for each in may) and not all(self.has_ended(each) for each in may)

    def stays(self, seat: Seat) -> bool:
        mine = self.members[seat.node]
        return seat.role == WORKER and mine.status <= SUSPECT and mine.leaving == STAYING


def _moves(table: Table, slot: Slot) -> bool:
    """It waits for nobody who is down."""
    return slot.status == PENDING and (slot.donor is None or table.members[slot.donor].up)
