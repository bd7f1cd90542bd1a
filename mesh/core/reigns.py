"""Which slots' states are in the owner's hands on this node, and which of them it may change, where slots have copies.

States    of a slot, as this node sees it
          elsewhere -> active (ACTIVE, owner here) -> sealed (PENDING, from here) -> elsewhere, or active
          active -> promoted (PENDING, from here to here: others may have had it since) -> active, as it was
          active -> LOST (kept, untouched: nobody has it) -> active (its loss is accepted): empty
Events    `set_table`, with the configurations that changed; what follows from it is returned as `Turns`.

    refused(epoch, slots)   which slots of a batch, packed under `epoch`, must not be applied here and now

A record may be applied if its slot is active here and was so already in the epoch under which its sender packed it, as
far as this node knows. Epochs may be skipped, and what counts is what this node has refused: once it has refused a
record, it takes none that was packed before its sender could know of that. Who never saw itself sealed has refused
nothing. So a pause that it leapt over is none, even if another reign has begun: it takes the rest of what was sent in
the former one, and marks know what its senders send again. (Who leaves out a part in between loses it: marks rise.)

Invariants what is active is `here`. Since epoch `settled` nothing of `active` has changed, nor could it, unseen: what a
          sender packed under it or a later one is, without a look, for slots that are active here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mesh.core.configuration import Configuration
from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST


@dataclass(slots=True)
class Turns:
    """What a new table asks for."""

    leave: list[int] = field(default_factory=list)  # their states are another's now
    take: list[int] = field(default_factory=list)  # what there is of them is the owner's now
    empty: list[int] = field(default_factory=list)  # they are here, and begin again


class Reigns:
    """This node's slots."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: TableAgreed | None = None
        self.here: dict[int, None] = {}  # slots whose states are in the owner's hands
        self.active: dict[int, int] = {}  # slot -> since which epoch
        self.settled = 0
        self._lost: dict[int, None] = {}  # of those here
        self._asked: dict[int, None] = {}  # of which this node is, was or shall be the owner: it may be soon, unseen

    @property
    def epoch(self) -> int:
        return 0 if self._table is None else self._table.epoch

    def set_table(self, table: TableAgreed, changed: Mapping[int, Configuration]) -> Turns:
        before, self._table = self._table, table
        known, turns = 0 if before is None else before.epoch, Turns()
        if before is None:
            self.settled = table.epoch
        for slot, now in changed.items():
            reign, concerned = self.active.get(slot), slot in self._asked
            self._follow(slot, now, known, turns)
            concerned = concerned or slot in self._asked
            if concerned and (reign is None or reign != self.active.get(slot)):
                self.settled = table.epoch
        return turns

    def _follow(self, slot: int, now: Configuration, known: int, turns: Turns) -> None:
        if self._me in (now.owner, now.source):
            self._asked[slot] = None
        else:
            self._asked.pop(slot, None)
        if now.status != ACTIVE or now.owner != self._me:
            self.active.pop(slot, None)
        if now.status == LOST:
            if slot in self.here:
                self._lost[slot] = None
            return
        was_lost = slot in self._lost
        self._lost.pop(slot, None)
        if slot in self.here and (now.source != self._me or now.promotes):
            del self.here[slot]
            turns.leave.append(slot)
        if now.source != self._me:
            return
        if was_lost:
            turns.empty.append(slot)
        if slot not in self.here and (now.status == ACTIVE or now.owner != self._me):
            self.here[slot] = None
            turns.take.append(slot)
        if now.status == ACTIVE and slot not in self.active:
            self.active[slot] = known + 1

    # -- may it be applied

    def refused(self, epoch: int, slots: Callable[[], Collection[int]]) -> list[int]:
        """The slots of a batch, made under this epoch, to which it may not be applied; `slots` is called if need be."""
        if epoch >= self.settled:
            return []
        active = self.active
        return sorted(slot for slot in slots() if active.get(slot, epoch + 1) > epoch)

    def named(self) -> bool:
        """Does the table say that this node has, gets, gives or copies anything?"""
        table = self._table
        if table is None or self._me not in table.workers:
            return False
        me = table.workers.index(self._me)
        copied = any(me in backups for backups in table.backups_of_slot)
        return copied or me in table.owner_of_slot or me in table.donor_of_slot or me in table.joining_of_slot
