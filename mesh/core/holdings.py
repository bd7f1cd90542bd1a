"""Which slots' states are on this node, and which of them it may change: a function of the tables that it has learnt.

States    of a slot, as this node sees it
          elsewhere -> promised (PENDING, to here) -> active (ACTIVE here) -> sealed (PENDING, from here) -> elsewhere
          sealed -> promised and sealed (PENDING, from here to here: this node was chosen again) -> active
          LOST keeps whatever is here, untouched: nobody has it. LOST -> active (its loss is accepted): empty.
Events    `set_table`; what follows from it is returned as `Moves`, and done by `handoff`.

Epochs may be skipped, so what matters is in what one table says: `holder`, the owner of the last ACTIVE configuration,
has the state. A node becomes the holder only after it said that it has installed the state, hence after it saw the slot
PENDING to itself: that is the one thing that no node skips. That it starts empty, after an accepted loss, it may skip.

    refused(epoch, slots)   which slots of a batch, packed under `epoch`, must not be applied here and now

A record may be applied if its slot is active here and was so already in the epoch under which its sender packed it:
`since` is one more than the last epoch in which this node saw the slot PENDING, so every table in between that names
this node as the owner means the same term. A batch under an epoch that is not known here waits for it.

Invariants a slot is in at most one of `active` and `promised`; what is active is `here`. Since epoch `settled` neither
          has changed: what a sender packed under it or a later one is, without a look, for slots that are active here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, LOST, PENDING


@dataclass(slots=True)
class Moves:
    """What a new table asks for, slot by slot."""

    take: list[int] = field(default_factory=list)  # what was installed is the state from now on
    drop: list[int] = field(default_factory=list)  # another node is its holder
    give: list[tuple[int, int, NodeId]] = field(default_factory=list)  # (slot, term, to)
    keep: list[tuple[int, int]] = field(default_factory=list)  # (slot, term) that this node gives to itself
    unseen: list[int] = field(default_factory=list)  # started empty here, and goes on, in tables that were skipped
    changed: list[int] = field(default_factory=list)  # whatever was under way for these is over


class Holdings:
    """This node's slots."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._table: TableAgreed | None = None
        self.here: dict[int, None] = {}  # slots whose states are in the owner's hands
        self.active: dict[int, int] = {}  # slot -> since which epoch
        self.promised: dict[int, int] = {}  # slot -> term
        self.settled = 0

    @property
    def epoch(self) -> int:
        return 0 if self._table is None else self._table.epoch

    def set_table(self, table: TableAgreed) -> Moves:
        before, self._table = self._table, table
        moves = Moves()
        if before is None:
            self.settled = table.epoch  # what was before is not known
        for slot in _changed(before, table):
            moves.changed.append(slot)
            concerned = slot in self.active or slot in self.promised
            self._follow(slot, before, table, moves)
            if concerned or slot in self.active or slot in self.promised or slot in moves.unseen:
                self.settled = table.epoch
        return moves

    def _follow(self, slot: int, before: TableAgreed | None, table: TableAgreed, moves: Moves) -> None:
        status, term, owner = (
            table.status_of_slot[slot],
            table.term_of_slot[slot],
            table.workers[table.owner_of_slot[slot]],
        )
        self.active.pop(slot, None)
        promised = self.promised.pop(slot, None)
        if status == LOST:
            return
        if status == PENDING and owner == self._me:
            self.promised[slot] = term
        holder = owner if status == ACTIVE else table.workers[table.donor_of_slot[slot]]
        if holder != self._me:
            if slot in self.here:
                del self.here[slot]
                moves.drop.append(slot)
            return
        if status == ACTIVE and before is not None and promised != term:
            self._start_empty(slot, before, table, moves)
        elif slot not in self.here:
            self._arrive(slot, before, promised, term, moves)
        if status == ACTIVE:
            self.active[slot] = 1 if before is None else before.epoch + 1
        elif owner == self._me:
            moves.keep.append((slot, term))
        else:
            moves.give.append((slot, term, owner))

    def _arrive(self, slot: int, before: TableAgreed | None, promised: int | None, term: int, moves: Moves) -> None:
        self.here[slot] = None
        if before is None:
            return  # the founding's: nothing has been applied to it yet
        if promised is not None:
            moves.take.append(slot)
            return
        skipped = term - before.term_of_slot[slot] - (before.status_of_slot[slot] != LOST)
        assert skipped > 1, f"slot {slot} came here and nobody was asked"  # it is lost, starts again, and is to move
        moves.unseen.append(slot)

    def _start_empty(self, slot: int, before: TableAgreed, table: TableAgreed, moves: Moves) -> None:
        """Nobody asked whether the state is here: it was lost, and that is accepted. A leap may miss the loss."""
        leap = table.epoch > before.epoch + 1
        assert leap or before.status_of_slot[slot] == LOST, f"slot {slot} became active here and nobody was asked"
        if slot in self.here:
            moves.drop.append(slot)
        self.here[slot] = None

    # -- may it be applied

    def refused(self, epoch: int, slots: Callable[[], Collection[int]]) -> list[int]:
        """The slots of a batch, made under this epoch, to which it may not be applied; `slots` is called if need be."""
        if epoch >= self.settled:
            return []
        active = self.active
        return sorted(slot for slot in slots() if active.get(slot, epoch + 1) > epoch)

    def named(self) -> bool:
        """Does the table say that this node has, gets or gives anything?"""
        table = self._table
        if table is None or self._me not in table.workers:
            return False
        me = table.workers.index(self._me)
        return me in table.owner_of_slot or me in table.donor_of_slot


def _changed(before: TableAgreed | None, table: TableAgreed) -> Collection[int]:
    """A configuration that changes is of another term, or becomes ACTIVE at its term."""
    if before is None:
        return range(len(table.term_of_slot))
    pairs = zip(before.term_of_slot, before.status_of_slot, table.term_of_slot, table.status_of_slot, strict=True)
    return [slot for slot, (a, b, c, d) in enumerate(pairs) if a != c or b != d]
