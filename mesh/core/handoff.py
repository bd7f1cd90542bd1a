"""How a slot's state gets from its donor to its PENDING owner, and when it counts.

States    at the donor: see `giving`
          at the owner, per slot: nothing -> staged, chunk by chunk -> installed (said once) -> taken, or thrown away
Events    `set_table`; chunks, their acknowledgements and SlotSettled from peers; `send_some`; `tell_settled`.

A donor seals a slot the moment it learns that it is PENDING: nothing is applied to it from then on, so what is sent is
what it will be. The owner stages it beside its own states and takes it when the table says ACTIVE at exactly that term;
the donor deletes it only then (S11). When the table changes its mind, what was staged is thrown away and the donor
begins again with whoever is named now. A chunk is judged by a table of its receiver that is at least as new as that of
its sender: one of another term, or from somebody else than the donor, is of no use any more. A chunk of a newer epoch
waits, without credit, and so does what follows it.

Outputs. What a donor's stage gave out for a slot may still be in its router, held or unanswered, while the slot's next
owner already gives out more: a stream (stage, slot) must not overtake itself. So the new owner applies nothing to that
slot at a stage of level n before the donor has said that no record of it for a deeper level is left (`gates`). It can
not wait for ever: what a gate waits for is applied at deeper levels, and the deepest has no gates. A donor that had a
gate itself passes it on. Who is gone without a word opens its gates: what it had is lost.

Bounds    on what is on its way: see `giving`. What is staged is state.
Invariants what is staged complete is exactly what the donor sealed at that term; what is installed is said once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.core import columns
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.events import Effect
from mesh.core.events.planes import Consumed, Delivered, SlotsInstalled, TableAgreed, Transmit
from mesh.core.giving import REPLICATION, WINDOW_BYTES, Given, Giving
from mesh.core.holdings import Holdings, Moves
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import ChunksTaken, SlotChunk, SlotSettled
from mesh.core.owner import Owner
from mesh.core.slot import ACTIVE

CONTROL = 0  # the channel of acknowledgements

_Name: TypeAlias = tuple[NodeId, int, int]  # of a hand-over: (donor, slot, term)


@dataclass(slots=True)
class _Gate:
    """What the former holder of a slot has not settled yet; it changes, and whoever passes it on sees that."""

    name: _Name
    unsettled: int


@dataclass(slots=True)
class _Debt:
    """A slot that this node gave away, and what of its outputs is still to be told."""

    given: Given
    gate: _Gate | None  # this node's own, when it gave the slot away
    told: int


@dataclass(slots=True)
class _Staged:
    term: int
    donor: NodeId
    parts: list[tuple[int, list[Any], list[Any]]] = field(default_factory=list)  # (stage, keys, states)
    complete: bool = False
    unsettled: int = 0


class HandOff:
    """All slots on their way from and to this node."""

    def __init__(
        self, me: NodeId, owner: Owner, slots: int, seed: int, unsettled: Callable[[int], int],
        window_bytes: int = WINDOW_BYTES,
    ) -> None:  # fmt: skip
        """`unsettled(epoch)`: the deepest level for which the router has records that were put before it."""
        self._owner = owner
        self._slots = slots
        self._seed = seed
        self._shift = 33 - slots.bit_length()
        self._unsettled = unsettled
        self.holdings = Holdings(me)
        self._table: TableAgreed | None = None
        self._giving = Giving(owner, window_bytes)
        self._arrived: dict[NodeId, deque[tuple[SlotChunk | SlotSettled, int]]] = {}  # not looked at, and their sizes
        self._numbers: dict[NodeId, int] = {}  # of the last chunk that arrived
        self._staged: dict[int, _Staged] = {}
        self._gates: dict[int, _Gate] = {}  # of slots that are here
        self._shut: dict[_Name, _Gate] = {}  # these, and those that this node passes on; those that are open are gone
        self._debts: list[_Debt] = []
        self._effects: list[Effect] = []

    # -- the partition

    def set_table(self, table: TableAgreed) -> list[Effect]:
        self._table = table
        moves = self.holdings.set_table(table)
        self._giving.forget(self._is_wanted, table.workers)
        for slot in moves.take:
            self._take(slot, table.status_of_slot[slot])
        for slot in moves.changed:
            if self._staged.get(slot) and self.holdings.promised.get(slot) != self._staged[slot].term:
                del self._staged[slot]
        self._give_and_drop(moves)
        self._forget(table)
        if moves.keep:
            self._effects.append(SlotsInstalled(tuple(moves.keep)))
        for sender in list(self._arrived):
            self._judge_arrived(sender)
        return self._taken()

    def _is_wanted(self, given: Given) -> bool:
        assert self._table is not None
        return self._table.term_of_slot[given.slot] == given.term and given.slot in self.holdings.here

    def _give_and_drop(self, moves: Moves) -> None:
        for slot, term, target in moves.give:
            self._giving.give(Given(slot, term, target, self.holdings.epoch))
        for slot in moves.drop:
            self._owner.drop(slot)
            self._gates.pop(slot, None)

    def _take(self, slot: int, status: int) -> None:
        """One that goes on already may have been lost, and have started empty here, in tables that were skipped."""
        staged = self._staged.pop(slot, None)
        if staged is None or not staged.complete:
            assert status != ACTIVE, f"slot {slot} is to be here, and has not arrived"
            return
        for stage, keys, states in staged.parts:
            if keys:
                self._owner.parts[stage].put(keys, states)
        if staged.unsettled:
            name = staged.donor, slot, staged.term
            self._gates[slot] = self._shut[name] = _Gate(name, staged.unsettled)

    def _forget(self, table: TableAgreed) -> None:
        """Who is no worker any more neither gives nor gets anything."""
        for gate in list(self._shut.values()):
            if gate.name[0] not in table.workers:
                self._lower(gate, 0)
        known = (*table.workers, *self._arrived)
        self._numbers = {node: last for node, last in self._numbers.items() if node in known}
        self._debts = [debt for debt in self._debts if debt.given.target in table.workers]

    def _lower(self, gate: _Gate, unsettled: int) -> None:
        gate.unsettled = min(gate.unsettled, unsettled)
        if not gate.unsettled:
            del self._shut[gate.name]
            self._gates = {slot: each for slot, each in self._gates.items() if each is not gate}

    def _taken(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # -- the donor

    def may_send(self) -> bool:
        return self._giving.may_send()

    def send_some(self) -> list[Effect]:
        effects, through = self._giving.send_some(self.holdings.epoch, self._owed)
        for given, unsettled in through:
            if unsettled:
                self._debts.append(_Debt(given, self._gates.get(given.slot), unsettled))
        return effects

    def _owed(self, given: Given) -> int:
        gate = self._gates.get(given.slot)
        return max(self._unsettled(given.epoch), 0 if gate is None else gate.unsettled)

    def chunks_taken(self, sender: NodeId, number: int) -> None:
        self._giving.taken(sender, number)

    def tell_settled(self) -> list[Effect]:
        """To the new owners: what of the outputs has been applied since they were last told."""
        if not self._debts:
            return []
        now = {epoch: self._unsettled(epoch) for epoch in sorted({debt.given.epoch for debt in self._debts})}
        for debt in self._debts:
            unsettled = max(now[debt.given.epoch], 0 if debt.gate is None else debt.gate.unsettled)
            if unsettled < debt.told:
                debt.told = unsettled
                told = SlotSettled(debt.given.slot, debt.given.term, unsettled)
                payload = encode_with_values(told)  # behind the chunks, so that it cannot overtake them
                self._effects.append(Transmit(debt.given.target, REPLICATION, payload))
        self._debts = [debt for debt in self._debts if debt.told]
        return self._taken()

    # -- the new owner

    def delivered(self, event: Delivered, message: Message) -> list[Effect]:
        """Keep what came, or let it wait for its epoch; raises Malformed, and then nothing is changed."""
        if isinstance(message, SlotChunk):
            self._check(event.sender, message)
            self._numbers[event.sender] = message.number
        elif not isinstance(message, SlotSettled):
            raise Malformed("chunk", f"{type(message).__name__} does not travel on channel {REPLICATION}")
        self._arrived.setdefault(event.sender, deque()).append((message, len(event.payload)))
        self._judge_arrived(event.sender)
        return self._taken()

    def _check(self, sender: NodeId, chunk: SlotChunk) -> None:
        last = self._numbers.get(sender, 0)
        if chunk.number != last + 1:
            raise Malformed("chunk", f"chunk {chunk.number} came after {last}")
        if chunk.slot >= self._slots or chunk.stage >= len(self._owner.parts):
            raise Malformed("chunk", f"there is no slot {chunk.slot} or no stage {chunk.stage}")
        if len(chunk.keys) != len(chunk.states) or not columns.all_keys_good(chunk.keys):
            raise Malformed("chunk", "columns of different lengths, or bad keys")
        if chunk.stage == len(self._owner.stages):
            self._owner.windows.check(chunk.slot, chunk.keys, chunk.states)
        elif any(slot != chunk.slot for slot in columns.slots_of(chunk.keys, self._seed, self._shift)):
            raise Malformed("chunk", f"a key that is not of slot {chunk.slot}")

    def _judge_arrived(self, sender: NodeId) -> None:
        waiting = self._arrived[sender]
        number = 0
        while waiting:
            message, size = waiting[0]
            if isinstance(message, SlotSettled):
                self._settled(sender, message)
            elif message.epoch <= self.holdings.epoch:
                self._judge(sender, message)
                number = message.number
            else:
                break
            waiting.popleft()
            self._effects.append(Consumed(sender, REPLICATION, size))
        if number:
            self._effects.append(Transmit(sender, CONTROL, encode_with_values(ChunksTaken(number))))
        if not waiting:
            del self._arrived[sender]

    def _judge(self, sender: NodeId, chunk: SlotChunk) -> None:
        if not self._is_expected(sender, chunk):
            return
        staged = self._staged.setdefault(chunk.slot, _Staged(chunk.term, sender))
        if staged.complete:
            return
        staged.parts.append((chunk.stage, chunk.keys, chunk.states))
        if chunk.last:
            staged.complete = True
            staged.unsettled = chunk.unsettled
            self._effects.append(SlotsInstalled(((chunk.slot, chunk.term),)))

    def _is_expected(self, sender: NodeId, chunk: SlotChunk) -> bool:
        """Is it the donor's, for the term at which the slot is promised to this node?"""
        if self._table is None or self.holdings.promised.get(chunk.slot) != chunk.term:
            return False
        return self._table.workers[self._table.donor_of_slot[chunk.slot]] == sender

    def _settled(self, sender: NodeId, told: SlotSettled) -> None:
        staged, gate = self._staged.get(told.slot), self._shut.get((sender, told.slot, told.term))
        if staged is not None and (staged.donor, staged.term) == (sender, told.term):
            staged.unsettled = min(staged.unsettled, told.unsettled)
        elif gate is not None:
            self._lower(gate, told.unsettled)

    def shut(self, level: int) -> Sequence[int]:
        """Slots to which nothing may be applied yet at stages of this level."""
        return [slot for slot, gate in self._gates.items() if gate.unsettled > level]

    def busy(self) -> bool:
        return bool(self._staged or self._debts or self._arrived or self._giving.busy())
