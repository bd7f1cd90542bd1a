"""How the columns of a lane become batches: as large as pays, as small as must be, and only through an open window.

Bounds    a lane packs at `batch_records` or about BATCH_BYTES (known from its last batch), so it holds that plus what
          one chunk adds; a batch leaves only while less than `window_bytes` are on their way, so what an owner has not
          worked off is at most that plus one batch. Of this node's own at most OWN_BATCHES are on their way.
Invariant batches of one lane are numbered from 1 without holes and leave in that order. The records of a batch were put
          in one epoch. What cannot travel even alone is set aside, and nothing else; if it has a number, that is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mesh.core import columns
from mesh.core.codec import encode_with_values
from mesh.core.lanes import GUESS_BYTES, Lane, StageLanes
from mesh.core.messages import NodeId
from mesh.core.messages.work import Batch
from mesh.core.numbers import Numbers
from mesh.core.records import Records, Sent
from mesh.core.values import NotSerializable, pack

BATCH_RECORDS = 4096  # large enough that per-batch costs vanish (~30 us over 4096 records), small enough to flow
BATCH_BYTES = 256 << 10  # a sixteenth of a window; what is twice as large is cut, down to single records
OWN_BATCHES = 8  # of this node's own a stage: a chunk of a source makes two or three; more would only be memory
WINDOW_BYTES = 4 << 20  # per (owner, stage): ~50 batches of short records, 10 ms of work at full speed


@dataclass(slots=True)
class Packed:
    """A batch that leaves: `payload` for a remote owner; for this node itself the records as they are."""

    owner: NodeId
    stage: int
    number: int
    epoch: int
    payload: bytes
    records: Records | None


class Packer:
    """Makes the batches of all lanes."""

    def __init__(self, me: NodeId, window_bytes: int, batch_records: int) -> None:
        self._me = me
        self._window_bytes = window_bytes
        self._batch_records = batch_records
        self._batch_bytes = min(BATCH_BYTES, window_bytes)
        self.set_aside: list[tuple[int, Any, Exception]] = []  # (stage, value, why)
        self.over: list[tuple[int, Numbers]] = []  # likewise

    def is_open(self, lane: Lane) -> bool:
        if lane.owner == self._me:
            return len(lane.in_flight) < OWN_BATCHES
        return lane.bytes_in_flight < self._window_bytes

    def pack(self, stage: StageLanes, lane: Lane, epoch: int, *, flush: bool) -> list[Packed]:
        """What may leave this lane under this epoch: full batches, or all there is."""
        packed: list[Packed] = []
        if lane.owner == self._me:
            lane.close(epoch, stage.same)
            while lane.parts and self.is_open(lane):
                packed.append(self._packed_here(stage, lane, epoch))
            self.note_blocked(stage, lane)
            return packed
        while self.is_open(lane):
            if not lane.parts:
                if len(lane.slots) < (1 if flush else lane.full_at):
                    break
                lane.close(epoch, stage.same)
            part = lane.parts.popleft()
            if len(part) > 2 * self._batch_records:  # one line can become any number of records
                lane.parts.extendleft(reversed(part.cut(2 * self._batch_records)))
            elif (sent := self._encode(stage, lane, part, epoch)) is not None:
                packed.append(Packed(lane.owner, lane.stage, sent.number, epoch, sent.payload, None))
        self.note_blocked(stage, lane)
        return packed

    def note_blocked(self, stage: StageLanes, lane: Lane) -> None:
        blocked = bool(lane.parts) or not self.is_open(lane)
        if blocked != lane.blocked:
            lane.blocked = blocked
            stage.blocked += 1 if blocked else -1

    def note_blocked_all(self, stage: StageLanes) -> None:
        for lane in stage.lanes.values():
            self.note_blocked(stage, lane)

    def _packed_here(self, stage: StageLanes, lane: Lane, epoch: int) -> Packed:
        taken = lane.parts.popleft()
        stage.buffered -= len(taken)
        try:
            size = len(pack((taken.keys[-1], taken.values[-1])))
        except NotSerializable:
            size = GUESS_BYTES
        self._measured(stage, lane, 1, size)
        sent = self._sent(lane, Sent(lane.last_number + 1, 0, taken.epoch, b"", taken, b"", len(taken)))
        return Packed(lane.owner, lane.stage, sent.number, epoch, b"", taken)

    def _encode(self, stage: StageLanes, lane: Lane, part: Records, epoch: int) -> Sent | None:
        """The next batch; or nothing, and the part is cut and waits again, since it is too large or something in it
        cannot travel. What cannot even alone is set aside."""
        slots, values = columns.slots_to_bytes(part.slots), None if part.values is part.keys else part.values
        runs = () if part.numbers is None else part.numbers.to_runs()
        batch = Batch(lane.stage, epoch, lane.last_number + 1, slots, part.keys, values, runs)
        records = len(part)
        try:
            payload = encode_with_values(batch)
        except NotSerializable as error:
            if records > 1:
                self._again(lane, part, 2)
                return None
            self.set_aside.append((lane.stage, part.values[0], error.with_traceback(None)))
            if part.numbers is not None:
                self.over.append((lane.stage, part.numbers))
            stage.buffered -= 1
            stage.over(part.epoch, 1)
            return None
        self._measured(stage, lane, records, len(payload))
        if records > 1 and len(payload) > 2 * self._batch_bytes:
            self._again(lane, part, min(records, len(payload) // self._batch_bytes))
            return None
        stage.buffered -= records
        return self._sent(lane, Sent(batch.number, len(payload), part.epoch, payload, None, slots, records, runs))

    def _again(self, lane: Lane, part: Records, pieces: int) -> None:
        lane.parts.extendleft(reversed(part.cut(-(-len(part) // pieces))))

    def _measured(self, stage: StageLanes, lane: Lane, records: int, size: int) -> None:
        """A batch of so many records had this size: let the next one be as large as it should."""
        stage.record_bytes = max(1, size // records)
        lane.full_at = max(1, min(self._batch_records, self._batch_bytes * records // max(1, size)))

    def _sent(self, lane: Lane, sent: Sent) -> Sent:
        lane.last_number = sent.number
        lane.in_flight.append(sent)
        lane.bytes_in_flight += sent.size
        return sent
