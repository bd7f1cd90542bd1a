"""As `moving_kit`, with copies: which process holds which version of a slot is the ground truth here.

A slot's version rises with what its owner applies; it is committed when all copies have it. `work` lets owners apply,
`transfer` fills, hands over and claims.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mesh.core.messages import NodeId
from mesh.core.planner import first_table
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, Slot
from mesh.core.table import Table
from tests.moving_kit import CLUSTER, World


@dataclass
class Copies(World):
    copies: int = 2
    absent: tuple[NodeId, ...] = ()
    held: list[dict[NodeId, int]] = field(default_factory=list)  # of each slot: process -> version
    committed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.table = first_table(list(self.members.values()), CLUSTER, self.slots, self.copies)
        self.held = [dict.fromkeys(self.nodes(slot.members), 0) for slot in self.table.slots]
        self.committed = [0] * self.slots

    def nodes(self, places: tuple[int, ...]) -> list[NodeId]:
        return [self.table.members[place].node for place in places]

    # -- what data planes do

    def work(self, chance: float = 0.5) -> None:
        for number, slot in enumerate(self.table.slots):
            owner = self.table.members[slot.owner].node
            if slot.status != ACTIVE or not self.runs(owner) or self.random.random() >= chance:
                continue
            version = self.held[number][owner] = self.held[number][owner] + 1
            joins = slot.joining if self.claims.get(number) == slot.term else None
            others = self.nodes(slot.backups if joins is None else (*slot.backups, joins))
            for other in others:
                if self.runs(other):
                    self.held[number][other] = version
            if all(self.runs(other) for other in others):
                self.committed[number] = version

    def transfer(self, chance: float = 1.0) -> None:
        for number, slot in enumerate(self.table.slots):
            if slot.asked() and self.random.random() < chance:
                self.answer(number, slot)

    def answer(self, number: int, slot: Slot) -> None:
        asked = self.nodes(slot.asked())
        giver = self.nodes((slot.owner if slot.donor is None else slot.donor,))[0]
        takers = asked if slot.joining is None else self.nodes((slot.joining,))
        if self.runs(giver) and all(self.runs(each) for each in (*asked, *takers)):
            self.held[number] |= dict.fromkeys(takers, self.held[number][giver])
            self.claims[number] = slot.term

    # -- what must hold of every step

    def _follow(self, slot: int, old: Table, new: Table) -> None:
        before, after = old.slots[slot], new.slots[slot]
        owner = new.members[after.owner].node
        copies = [old.members[place].node for place in before.members]
        self.moves += after.hands_over and after.term != before.term
        if after.status == LOST != before.status:
            assert self.may_be_lost(slot, copies), f"slot {slot} is given up while a copy may return"
        if after.status != ACTIVE:
            return
        if before.status == LOST:
            self.held[slot], self.committed[slot] = {owner: 0}, 0
        versions = [held for each, held in self.held[slot].items() if self.homes([each]) == self.homes([owner])]
        assert max(versions, default=-1) >= self.committed[slot], f"slot {slot}: what was committed is gone"
        members = [new.members[place].node for place in after.members]
        self._check_number(slot, before, after, [each for each in copies if each not in members])
        homes = self.homes(members)
        self.held[slot] = {each: held for each, held in self.held[slot].items() if self.homes([each])[0] in homes}

    def may_be_lost(self, slot: int, copies: list[NodeId]) -> bool:
        return all(self.has_ended(each) for each in copies)

    def homes(self, nodes: Iterable[NodeId]) -> list[bytes]:
        """Where what they hold is kept."""
        return list(nodes)

    def _check_number(self, slot: int, before: Slot, after: Slot, dropped: list[NodeId]) -> None:
        """A step that is not a promotion leaves out who is down, or who is more than enough."""
        if before.status != ACTIVE or not any(self.runs(each) for each in dropped):
            return
        staying = sum(self.stays(seat) and seat.up for seat in self.table.workers())
        assert len(after.members) >= min(self.copies, staying), f"slot {slot} has fewer copies, and nobody is down"

    def pinned(self, slot: int) -> bool:
        configuration = self.table.slots[slot]
        copies = self.nodes(configuration.members)
        if configuration.status == LOST or any(self.runs(each) for each in copies):
            return False
        return not all(self.has_ended(each) for each in copies)


@dataclass
class Durable(Copies):
    """With disks: whoever starts again under its name has what the process before it held, and nothing that came
    later."""

    given_up: dict[int, int] = field(default_factory=dict)  # slot -> term

    def __post_init__(self) -> None:
        super().__post_init__()
        self.table = first_table(list(self.members.values()), CLUSTER, self.slots, self.copies, durable=True)

    def start(self, name: str, role: str = "worker") -> NodeId:
        before = [each for each in self.members.values() if each.name == name]
        new = super().start(name, role)
        if before and before[-1].role == role:
            home, boot = before[-1].home or before[-1].node, before[-1].boot + 1
            self.members[new] = replace(self.members[new], home=home, boot=boot)
            for held in self.held:
                if before[-1].node in held:
                    held[new] = held.pop(before[-1].node)
        else:
            self.members[new] = replace(self.members[new], home=new)
        return new

    def facts(self) -> Facts:
        return replace(super().facts(), given_up=self.given_up)

    def may_be_lost(self, slot: int, copies: list[NodeId]) -> bool:
        return slot in self.given_up and not any(self.runs(each) for each in copies)

    def homes(self, nodes: Iterable[NodeId]) -> list[bytes]:
        return [self.members[each].home for each in nodes]

    def pinned(self, slot: int) -> bool:
        configuration = self.table.slots[slot]
        return configuration.status != LOST and not any(self.runs(each) for each in self.nodes(configuration.members))
