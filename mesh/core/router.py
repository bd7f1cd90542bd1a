"""The sender's side: which node owns each record's key, one batch an owner, and how much may be on its way.

States    per (owner, stage) a lane: columns that grow to a batch, and a window: the batches sent and not yet reported
          done, in bytes. Bounds: a lane packs at BATCH_RECORDS or about BATCH_BYTES (known from its last batch), so it
          holds that plus what one chunk adds; a batch leaves only through an open window, below `window_bytes`, so
          what an owner has not worked off is at most that plus one batch.
Events    `put` (records of a stage), `flush`, `done` (the owner worked batches off), `set_table`.
Invariant batches of one (owner, stage) are numbered from 1 without holes and leave in that order, so a key's records
          keep their order; a record leaves in exactly one batch. While an owner is unreachable its window stays full,
          `open_for` says no, and the sources wait.

With fifty nodes and eight stages there are four hundred lanes and a unit of work may be one record, so nothing here
looks at all lanes to learn that nothing is to be done: what it would find is counted where it changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.core import columns
from mesh.core.codec import encode_with_values
from mesh.core.messages import Batch, NodeId
from mesh.core.values import NotSerializable, pack

BATCH_RECORDS = 4096  # large enough that per-batch costs vanish (~30 us over 4096 records), small enough to flow
BATCH_BYTES = 256 << 10  # a sixteenth of a window; what is twice as large is cut, down to single records
GUESS_BYTES = 256  # a record of a local batch whose value cannot be measured
WINDOW_BYTES = 4 << 20  # per (owner, stage): ~50 batches of short records, 10 ms of work at full speed


@dataclass(slots=True)
class Packed:
    """A batch that leaves: `payload` for a remote owner; for this node itself the columns as they are."""

    owner: NodeId
    stage: int
    payload: bytes = b""
    keys: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Columns:
    """Records on their way into a batch; `values is keys` when every value is its own key."""

    keys: list[Any]
    values: list[Any]
    slots: list[int]

    def cut(self, most: int) -> list[_Columns]:
        """In parts of at most so many records, in order."""
        if len(self.keys) <= most:
            return [self]
        return [self._part(start, start + most) for start in range(0, len(self.keys), most)]

    def _part(self, start: int, end: int) -> _Columns:
        keys = self.keys[start:end]
        return _Columns(keys, keys if self.values is self.keys else self.values[start:end], self.slots[start:end])


class _Lane:
    """One (owner, stage): its columns, its numbers, its window."""

    def __init__(self, stage: int, owner: NodeId) -> None:
        self.stage = stage
        self.owner = owner
        self.keys: list[Any] = []  # these three are emptied, never replaced: `to` holds their append methods
        self.values: list[Any] = []  # unused while every value of the stage is its own key
        self.slots: list[int] = []
        self.parts: deque[_Columns] = deque()  # taken out of these, and next to leave
        self.full_at = 1  # records; the first batch is small and shows how large they are
        self.last_number = 0
        self.in_flight: deque[tuple[int, int]] = deque()  # (number, bytes), oldest first
        self.bytes_in_flight = 0  # invariant: the sum over in_flight
        self.blocked = False  # invariant: its window is full, or parts wait

    def take(self, same: bool) -> _Columns:
        keys = self.keys.copy()
        taken = _Columns(keys, keys if same else self.values.copy(), self.slots.copy())
        for column in (self.keys, self.values, self.slots):
            column.clear()
        return taken


class _Stage:
    """The lanes of one stage."""

    def __init__(self, stage: int, owners: Sequence[NodeId], owner_of_slot: Sequence[int]) -> None:
        self.lanes = [_Lane(stage, owner) for owner in owners]
        appenders = [(lane.keys.append, lane.values.append, lane.slots.append) for lane in self.lanes]
        self.to: list[columns.Appenders] = [appenders[owner] for owner in owner_of_slot]
        self.same = True  # every value so far was its own key
        self.buffered = 0  # invariant: records in all lanes
        self.blocked = 0  # invariant: lanes that are blocked


class Router:
    """All lanes of this node."""

    def __init__(
        self,
        me: NodeId,
        stages: int,
        slots: int,
        seed: int,
        window_bytes: int = WINDOW_BYTES,
        batch_records: int = BATCH_RECORDS,
    ) -> None:
        self._me = me
        self._stage_count = stages
        self._shift = 33 - slots.bit_length()  # slots is a power of two: hash >> shift == hash * slots >> 32
        self._seed = seed
        self._window_bytes = window_bytes
        self._batch_records = batch_records
        self._batch_bytes = min(BATCH_BYTES, window_bytes)
        self._epoch = 0
        self._place: dict[NodeId, int] = {}  # of the owners, in the table's order
        self._stages: list[_Stage] = []
        self._lanes: list[list[_Lane]] = []  # [stage][owner]
        self._in_flight = 0  # invariant: batches on their way
        self.refused: list[tuple[int, Any, Exception]] = []  # (stage, value, why); the data plane takes them away

    def set_table(self, epoch: int, owners: tuple[NodeId, ...], owner_of_slot: Sequence[int]) -> None:
        """The partition that everyone agreed on. There is one in a cluster's life, until membership may change."""
        assert not self._place, "a second table needs sessions and re-sending"
        self._epoch = epoch
        self._place = {owner: place for place, owner in enumerate(owners)}
        self._stages = [_Stage(stage, owners, owner_of_slot) for stage in range(self._stage_count)]
        self._lanes = [stage.lanes for stage in self._stages]

    # -- records in

    def put(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        """Route the records of one stage; bad keys are set aside in `refused`."""
        if not columns.all_keys_good(keys):
            keys, values = self._without_bad_keys(stage, keys, values)
        if not keys:
            return
        to = self._stages[stage]
        if values is not keys and to.same:
            to.same = False  # for good: mixed columns are rare, and then values cost no more than elsewhere
            for lane in to.lanes:
                lane.values.extend(lane.keys)
        slots = columns.slots_of(keys, self._seed, self._shift)
        columns.scatter(keys, values, slots, to.to, with_values=not to.same)
        to.buffered += len(keys)

    def _without_bad_keys(self, stage: int, keys: list[Any], values: list[Any]) -> tuple[list[Any], list[Any]]:
        bad = columns.bad_keys(keys)
        self.refused += [(stage, values[index], error) for index, error in bad.items()]
        good = [index for index in range(len(keys)) if index not in bad]
        good_keys = [keys[index] for index in good]
        return good_keys, good_keys if values is keys else [values[index] for index in good]

    # -- batches out

    def full_batches(self, stages: Iterable[int]) -> list[Packed]:
        """What has grown to a batch, of the stages that were just given records."""
        lanes = [lane for stage in stages if self._stages[stage].buffered for lane in self._lanes[stage]]
        ready = [lane for lane in lanes if lane.parts or len(lane.keys) >= lane.full_at]
        return [packed for lane in ready for packed in self._pack(lane, flush=False)]

    def flush(self) -> list[Packed]:
        """All that is buffered and may leave, however small: called when there is nothing else to do."""
        return [packed for lane in self._flushable() for packed in self._pack(lane, flush=True)]

    def may_flush(self) -> bool:
        return any(True for _ in self._flushable())

    def _flushable(self) -> Iterator[_Lane]:
        for stage in self._stages:
            if stage.buffered:
                yield from (lane for lane in stage.lanes if (lane.keys or lane.parts) and self._is_open(lane))

    def _is_open(self, lane: _Lane) -> bool:
        return lane.bytes_in_flight < self._window_bytes

    def _pack(self, lane: _Lane, *, flush: bool) -> list[Packed]:
        if lane.owner == self._me:
            return [self._packed_here(lane)]
        packed: list[Packed] = []
        while self._is_open(lane):
            if not lane.parts:
                if len(lane.keys) < (1 if flush else lane.full_at):
                    break
                taken = lane.take(self._stages[lane.stage].same)
                lane.parts += taken.cut(2 * self._batch_records)  # one line can become any number of records
            payload = self._encode(lane, lane.parts.popleft())
            if payload:
                packed.append(Packed(lane.owner, lane.stage, payload))
        self._note_blocked(lane)
        return packed

    def _note_blocked(self, lane: _Lane) -> None:
        blocked = bool(lane.parts) or not self._is_open(lane)
        if blocked != lane.blocked:
            lane.blocked = blocked
            self._stages[lane.stage].blocked += 1 if blocked else -1

    def _packed_here(self, lane: _Lane) -> Packed:
        taken = lane.take(self._stages[lane.stage].same)
        self._stages[lane.stage].buffered -= len(taken.keys)
        try:
            size = len(pack((taken.keys[-1], taken.values[-1])))
        except NotSerializable:
            size = GUESS_BYTES
        self._measured(lane, 1, size)
        return Packed(lane.owner, lane.stage, keys=taken.keys, values=taken.values)

    def _encode(self, lane: _Lane, part: _Columns) -> bytes:
        """The next batch; or nothing, and the part is cut and waits again, since it is too large or something in it
        cannot travel. What cannot even alone is refused."""
        slots, values = columns.slots_to_bytes(part.slots), None if part.values is part.keys else part.values
        batch = Batch(lane.stage, self._epoch, lane.last_number + 1, slots, part.keys, values)
        records = len(part.keys)
        try:
            payload = encode_with_values(batch)
        except NotSerializable as error:
            if records > 1:
                return self._again(lane, part, 2)
            self.refused.append((lane.stage, part.values[0], error.with_traceback(None)))
            self._stages[lane.stage].buffered -= 1
            return b""
        self._measured(lane, records, len(payload))
        if records > 1 and len(payload) > 2 * self._batch_bytes:
            return self._again(lane, part, min(records, len(payload) // self._batch_bytes))
        self._stages[lane.stage].buffered -= records
        self._sent(lane, len(payload))
        return payload

    def _again(self, lane: _Lane, part: _Columns, pieces: int) -> bytes:
        lane.parts.extendleft(reversed(part.cut(-(-len(part.keys) // pieces))))
        return b""

    def _measured(self, lane: _Lane, records: int, size: int) -> None:
        """A batch of so many records had this size: let the next one be as large as it should."""
        lane.full_at = max(1, min(self._batch_records, self._batch_bytes * records // max(1, size)))

    def _sent(self, lane: _Lane, size: int) -> None:
        lane.last_number += 1
        lane.in_flight.append((lane.last_number, size))
        lane.bytes_in_flight += size
        self._in_flight += 1

    # -- windows

    def done(self, owner: NodeId, stage: int, number: int) -> str | None:
        """The owner worked off all batches up to `number`. Returns what is wrong with that claim, if anything."""
        if owner not in self._place or owner == self._me or not 0 <= stage < self._stage_count:
            return "not an owner of ours"
        lane = self._lanes[stage][self._place[owner]]
        if number > lane.last_number:
            return f"batch {number} was never sent, the last is {lane.last_number}"
        while lane.in_flight and lane.in_flight[0][0] <= number:
            lane.bytes_in_flight -= lane.in_flight.popleft()[1]
            self._in_flight -= 1
        self._note_blocked(lane)
        return None

    def open_for(self, stage: int) -> bool:
        """May records for this stage be produced? Not while any owner of it has all that it may be sent."""
        return not self._stages[stage].blocked

    def idle(self) -> bool:
        """Nothing buffered, nothing on its way."""
        return not self._in_flight and not any(stage.buffered for stage in self._stages)

    def waits_for(self) -> set[NodeId]:
        """The owners who have not worked off, or not been sent, all that is theirs."""
        lanes = [lane for lanes in self._lanes for lane in lanes]
        return {lane.owner for lane in lanes if lane.in_flight or lane.parts or lane.keys}

    def bytes_in_flight(self) -> int:
        return sum(lane.bytes_in_flight for lanes in self._lanes for lane in lanes)
