"""How a slot's state gets from its donor to its PENDING owner, and when it counts.

States    at the donor, per target: slots to give, one after the other -> chunks on their way, in a window -> given
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

Bounds    CHUNK_BYTES a chunk (or one state), WINDOW_BYTES in flight to a target. What is staged is state.
Invariants what is staged complete is exactly what the donor sealed at that term; what is installed is said once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.core import columns
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.events import Consumed, Delivered, Effect, Log, SlotsInstalled, TableAgreed, Transmit
from mesh.core.holdings import Holdings, Moves
from mesh.core.messages import ChunksTaken, Message, NodeId, SlotChunk, SlotSettled
from mesh.core.owner import Owner
from mesh.core.values import NotSerializable, show

CONTROL, REPLICATION = 0, 15  # channels
CHUNK_BYTES = 128 << 10  # a few milliseconds of packing
WINDOW_BYTES = 1 << 20  # ~8 chunks: enough to keep a link busy
FIRST_KEYS = 256  # of a chunk, before anything is known of the states' sizes

_Name: TypeAlias = tuple[NodeId, int, int]  # of a hand-over: (donor, slot, term)


@dataclass(slots=True)
class _Gate:
    """What the former holder of a slot has not settled yet; it changes, and whoever passes it on sees that."""

    name: _Name
    unsettled: int


@dataclass(slots=True)
class _Debt:
    """A slot that this node gave away, and what of its outputs is still to be told."""

    slot: int
    term: int
    target: NodeId
    epoch: int  # outputs were put into the router before it
    gate: _Gate | None  # this node's own, when it gave the slot away
    told: int


@dataclass(slots=True)
class _Giving:
    slot: int
    term: int
    epoch: int  # in which it was sealed
    stage: int = 0
    key: int = 0  # the next one of that stage


@dataclass(slots=True)
class _Target:
    """What one new owner is sent."""

    giving: deque[_Giving] = field(default_factory=deque)
    last_number: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (number, bytes)
    bytes_in_flight: int = 0
    at_once: int = FIRST_KEYS


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
        self._window = min(WINDOW_BYTES, window_bytes)
        self.holdings = Holdings(me)
        self._table: TableAgreed | None = None
        self._targets: dict[NodeId, _Target] = {}
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
        for target in self._targets.values():
            target.giving = deque(each for each in target.giving if self._is_wanted(each))
        for slot in moves.take:
            self._take(slot)
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

    def _is_wanted(self, giving: _Giving) -> bool:
        assert self._table is not None
        return self._table.term_of_slot[giving.slot] == giving.term and giving.slot in self.holdings.here

    def _give_and_drop(self, moves: Moves) -> None:
        for slot, term, target in moves.give:
            self._targets.setdefault(target, _Target()).giving.append(_Giving(slot, term, self.holdings.epoch))
        for slot in moves.drop:
            self._owner.drop(slot)
            self._gates.pop(slot, None)

    def _take(self, slot: int) -> None:
        staged = self._staged.pop(slot, None)
        assert staged is not None, f"slot {slot} is to be here, and was never handed over"
        assert staged.complete, f"slot {slot} is to be here, and has not arrived"
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
        self._targets = {node: target for node, target in self._targets.items() if node in table.workers}
        known = (*table.workers, *self._arrived)
        self._numbers = {node: last for node, last in self._numbers.items() if node in known}
        self._debts = [debt for debt in self._debts if debt.target in table.workers]

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
        return any(each.giving and each.bytes_in_flight < self._window for each in self._targets.values())

    def send_some(self) -> list[Effect]:
        """The next chunk to each target that has room; before the first one, all keys are filed by their slots."""
        if not self.may_send() or not self._owner.file_some():
            return []
        for node, target in self._targets.items():
            if target.giving and target.bytes_in_flight < self._window:
                self._send_chunk(node, target, target.giving[0])
        return self._taken()

    def _send_chunk(self, node: NodeId, target: _Target, giving: _Giving) -> None:
        while not self._keys(giving)[giving.key :] and giving.stage + 1 < len(self._owner.parts):
            giving.stage, giving.key = giving.stage + 1, 0
        unsettled = self._owed(giving)
        payload, keys = self._packed(target, giving, unsettled)
        if not payload:
            target.giving.popleft()
            return
        target.last_number += 1
        target.in_flight.append((target.last_number, len(payload)))
        target.bytes_in_flight += len(payload)
        giving.key += keys
        self._effects.append(Transmit(node, REPLICATION, payload))
        if self._is_last(giving, 0):
            target.giving.popleft()
            if unsettled:
                gate = self._gates.get(giving.slot)
                self._debts.append(_Debt(giving.slot, giving.term, node, giving.epoch, gate, unsettled))

    def _owed(self, giving: _Giving) -> int:
        gate = self._gates.get(giving.slot)
        return max(self._unsettled(giving.epoch), 0 if gate is None else gate.unsettled)

    def _is_last(self, giving: _Giving, more: int) -> bool:
        """Is nothing left of the slot after `more` keys?"""
        later = self._owner.parts[giving.stage + 1 :]
        return giving.key + more >= len(self._keys(giving)) and not any(part.keys_of(giving.slot) for part in later)

    def _keys(self, giving: _Giving) -> Sequence[Any]:
        return self._owner.parts[giving.stage].keys_of(giving.slot)

    def _packed(self, target: _Target, giving: _Giving, unsettled: int) -> tuple[bytes, int]:
        """The next chunk and how many keys are in it; empty if a state cannot travel: then the slot stays."""
        at_once = target.at_once
        while True:
            keys = list(self._keys(giving)[giving.key : giving.key + at_once])
            states = list(map(self._owner.parts[giving.stage].states.__getitem__, keys))
            last = self._is_last(giving, len(keys))
            chunk = SlotChunk(
                self.holdings.epoch, target.last_number + 1, giving.slot, giving.term, giving.stage,
                keys, states, last, unsettled,
            )  # fmt: skip
            try:
                payload = encode_with_values(chunk)
            except NotSerializable as error:
                if len(keys) > 1:
                    at_once = max(1, len(keys) // 2)
                    continue
                self._cannot_move(giving, keys, error)
                return b"", 0
            if len(keys) > 1 and len(payload) > 2 * CHUNK_BYTES:
                at_once = max(1, len(keys) * CHUNK_BYTES // len(payload))
                continue
            if keys:
                target.at_once = max(1, min(2 * len(keys) + FIRST_KEYS, CHUNK_BYTES * len(keys) // len(payload)))
            return payload, len(keys)

    def _cannot_move(self, giving: _Giving, keys: list[Any], error: NotSerializable) -> None:
        name = self._owner.parts[giving.stage].name
        fields = {"slot": giving.slot, "stage": name, "key": show(keys[0]), "error": str(error)}
        self._effects.append(Log("slot.cannot_move", fields, "error"))

    def chunks_taken(self, sender: NodeId, number: int) -> None:
        target = self._targets.get(sender)
        if target is None:
            return  # no worker any more
        if number > target.last_number:
            raise Malformed("chunks-taken", f"chunk {number} was never sent, the last is {target.last_number}")
        while target.in_flight and target.in_flight[0][0] <= number:
            target.bytes_in_flight -= target.in_flight.popleft()[1]

    def tell_settled(self) -> list[Effect]:
        """To the new owners: what of the outputs has been applied since they were last told."""
        if not self._debts:
            return []
        now = {epoch: self._unsettled(epoch) for epoch in sorted({debt.epoch for debt in self._debts})}
        for debt in self._debts:
            unsettled = max(now[debt.epoch], 0 if debt.gate is None else debt.gate.unsettled)
            if unsettled < debt.told:
                debt.told = unsettled
                told = SlotSettled(
                    debt.slot, debt.term, unsettled
                )  # behind the chunks, so that it cannot overtake them
                self._effects.append(Transmit(debt.target, REPLICATION, encode_with_values(told)))
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
        return bool(self._staged or self._debts or self._arrived or any(each.giving for each in self._targets.values()))
