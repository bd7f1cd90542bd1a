"""The sender's side: which node owns each record's key, one batch an owner, and how much may be on its way.

States    per (owner, stage) a buffer of columns that grows to a batch, and a window: the batches sent and not yet
          reported done, in bytes. Bounds: a buffer holds less than BATCH_RECORDS + one chunk; a window is open below
          `window_bytes`, so what an owner has not worked off is at most that plus one batch.
Events    `put` (records of a stage), `flush`, `done` (the owner worked batches off), `set_table`.
Invariant batches of one (owner, stage) are numbered from 1 without holes and leave in that order, so a key's records
          keep their order; a record leaves in exactly one batch. While an owner is unreachable its window stays full,
          `open_for` says no, and the sources wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.core import columns
from mesh.core.codec import encode_with_values
from mesh.core.messages import Batch, NodeId
from mesh.core.values import NotSerializable

BATCH_RECORDS = 4096  # large enough that per-batch costs vanish (~30 us over 4096 records), small enough to flow
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
class _Buffer:
    """What waits to become a batch; `values` is unused while every value is its own key."""

    keys: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    same: bool = True  # all values so far are the keys themselves


class _Lane:
    """One (owner, stage): its buffer, its numbers, its window."""

    def __init__(self) -> None:
        self.buffer = _Buffer()
        self.last_number = 0
        self.in_flight: deque[tuple[int, int]] = deque()  # (number, bytes), oldest first
        self.bytes_in_flight = 0  # invariant: the sum over in_flight


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
        self._stages = stages
        self._shift = 33 - slots.bit_length()  # slots is a power of two: hash >> shift == hash * slots >> 32
        self._seed = seed
        self._window_bytes = window_bytes
        self._batch_records = batch_records
        self._epoch = 0
        self._owners: tuple[NodeId, ...] = ()  # in the table's order
        self._owner_of_slot: Sequence[int] = ()
        self._lanes: list[list[_Lane]] = []  # [stage][owner]
        self.refused: list[tuple[int, Any, Exception]] = []  # (stage, value, why); the data plane takes them away

    def set_table(self, epoch: int, owners: tuple[NodeId, ...], owner_of_slot: Sequence[int]) -> None:
        """The partition that everyone agreed on. There is one in a cluster's life, until membership may change."""
        assert not self._owners, "a second table needs sessions and re-sending"
        self._epoch = epoch
        self._owners = owners
        self._owner_of_slot = owner_of_slot
        self._lanes = [[_Lane() for _ in owners] for _ in range(self._stages)]

    # -- records in

    def put(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        """Route the records of one stage; bad keys are set aside in `refused`."""
        if not columns.all_keys_good(keys):
            keys, values = self._without_bad_keys(stage, keys, values)
        if not keys:
            return
        lanes = self._lanes[stage]
        if values is keys and not all(lane.buffer.same for lane in lanes):
            values = list(keys)  # this stage also gets records whose values are not their keys
        if values is not keys:
            for lane in lanes:
                _write_values_out(lane.buffer)
        slots = columns.slots_of(keys, self._seed, self._shift)
        appenders = [(lane.buffer.keys.append, lane.buffer.values.append, lane.buffer.slots.append) for lane in lanes]
        columns.scatter(keys, values, slots, [appenders[owner] for owner in self._owner_of_slot])

    def _without_bad_keys(self, stage: int, keys: list[Any], values: list[Any]) -> tuple[list[Any], list[Any]]:
        bad = columns.bad_keys(keys)
        self.refused += [(stage, values[index], error) for index, error in bad.items()]
        good = [index for index in range(len(keys)) if index not in bad]
        good_keys = [keys[index] for index in good]
        return good_keys, good_keys if values is keys else [values[index] for index in good]

    # -- batches out

    def full_batches(self) -> list[Packed]:
        """The buffers that have grown to a batch."""
        return self._pack(self._batch_records)

    def flush(self) -> list[Packed]:
        """All buffers, however small: called when there is nothing else to do."""
        return self._pack(1)

    def _pack(self, at_least: int) -> list[Packed]:
        return [
            packed
            for stage, lanes in enumerate(self._lanes)
            for owner, lane in zip(self._owners, lanes, strict=True)
            if len(lane.buffer.keys) >= at_least
            for packed in self._pack_lane(stage, owner, lane)
        ]

    def _pack_lane(self, stage: int, owner: NodeId, lane: _Lane) -> list[Packed]:
        buffer, lane.buffer = lane.buffer, _Buffer()
        if owner == self._me:
            return [Packed(owner, stage, keys=buffer.keys, values=buffer.keys if buffer.same else buffer.values)]
        payload = self._encode(stage, lane.last_number + 1, buffer)
        if payload is None:
            return []
        lane.last_number += 1
        lane.in_flight.append((lane.last_number, len(payload)))
        lane.bytes_in_flight += len(payload)
        return [Packed(owner, stage, payload)]

    def _encode(self, stage: int, number: int, buffer: _Buffer) -> bytes | None:
        for _ in range(2):
            values = None if buffer.same else buffer.values
            batch = Batch(stage, self._epoch, number, columns.slots_to_bytes(buffer.slots), buffer.keys, values)
            try:
                return encode_with_values(batch) if buffer.keys else None
            except NotSerializable:
                buffer = self._without_unserializable(stage, buffer)
        raise AssertionError("a batch of serializable values did not serialize")

    def _without_unserializable(self, stage: int, buffer: _Buffer) -> _Buffer:
        kept = _Buffer(same=False)
        for key, value, slot in zip(buffer.keys, buffer.values, buffer.slots, strict=True):
            try:
                encode_with_values(Batch(stage, 0, 0, b"", [key], [value]))
            except NotSerializable as error:
                self.refused.append((stage, value, error.with_traceback(None)))
                continue
            kept.keys.append(key)
            kept.values.append(value)
            kept.slots.append(slot)
        return kept

    # -- windows

    def done(self, owner: NodeId, stage: int, number: int) -> str | None:
        """The owner worked off all batches up to `number`. Returns what is wrong with that claim, if anything."""
        if owner not in self._owners or owner == self._me or not 0 <= stage < self._stages:
            return "not an owner of ours"
        lane = self._lanes[stage][self._owners.index(owner)]
        if number > lane.last_number:
            return f"batch {number} was never sent, the last is {lane.last_number}"
        while lane.in_flight and lane.in_flight[0][0] <= number:
            lane.bytes_in_flight -= lane.in_flight.popleft()[1]
        return None

    def open_for(self, stage: int) -> bool:
        """May records for this stage be produced? Not while any owner of it has a full window."""
        return all(lane.bytes_in_flight < self._window_bytes for lane in self._lanes[stage])

    def has_buffered(self) -> bool:
        return any(lane.buffer.keys for lanes in self._lanes for lane in lanes)

    def idle(self) -> bool:
        """Nothing buffered, nothing on its way."""
        return not any(lane.buffer.keys or lane.in_flight for lanes in self._lanes for lane in lanes)

    def bytes_in_flight(self) -> int:
        return sum(lane.bytes_in_flight for lanes in self._lanes for lane in lanes)


def _write_values_out(buffer: _Buffer) -> None:
    """The values so far were the keys themselves; now others come."""
    if buffer.same:
        buffer.values = list(buffer.keys)
        buffer.same = False
