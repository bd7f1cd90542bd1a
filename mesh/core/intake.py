"""Batches that have come and are not applied yet, a queue a stage.

Taken is what the partition's owners send under its epoch, in their numbering: whoever has the same epoch has the same
table, so what came is for a key of this node.

Bounds: what came over a link is within that link's credit, which is given back when the batch has been applied; of this
node's own batches at most LOCAL_BATCHES a stage are let wait before their producers stop (`has_room`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core import columns
from mesh.core.codec import Malformed
from mesh.core.events import Delivered
from mesh.core.messages import Batch, Message, NodeId

LOCAL_BATCHES = 8  # a chunk of a source makes two or three; more would only be memory


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch that waits to be applied."""

    sender: NodeId | None  # None: this node itself, which needs no acknowledgement
    number: int
    size: int  # bytes of link credit to give back
    keys: list[Any]
    values: list[Any]

    def part(self, start: int, end: int | None) -> Waiting:
        keys = self.keys[start:end]
        values = keys if self.values is self.keys else self.values[start:end]
        return Waiting(self.sender, self.number, self.size, keys, values)


class Intake:
    """The queues of all stages."""

    def __init__(self, stages: Sequence[StagePlan]) -> None:
        self._stages = stages
        self._queues: list[deque[Waiting]] = [deque() for _ in stages]
        self._local = [0] * len(stages)  # invariant: own batches in each queue
        self._epoch = 0
        self._numbers: dict[tuple[NodeId, int], int] = {}  # (sender, stage) -> its last batch

    def set_table(self, epoch: int, senders: Iterable[NodeId]) -> None:
        self._epoch = epoch
        self._numbers = {(sender, stage.index): 0 for sender in senders for stage in self._stages}

    def delivered(self, event: Delivered, batch: Message) -> None:
        """Queue a peer's batch; raises Malformed, and then nothing is queued."""
        if not isinstance(batch, Batch) or batch.stage >= len(self._stages):
            raise Malformed("batch", "not a batch of a stage that is here")
        if event.channel != self._stages[batch.stage].level:
            raise Malformed("batch", f"stage {batch.stage} does not travel on channel {event.channel}")
        values = batch.keys if batch.values is None else batch.values
        if not len(batch.keys) == len(values) == len(batch.slots) / 2 or not columns.all_keys_good(batch.keys):
            raise Malformed("batch", "columns of different lengths, or bad keys")
        self._check_carrier(event.sender, batch)
        size = len(event.payload)
        self._queues[batch.stage].append(Waiting(event.sender, batch.number, size, batch.keys, values))

    def _check_carrier(self, sender: NodeId, batch: Batch) -> None:
        last = self._numbers.get((sender, batch.stage))
        if last is None or batch.epoch != self._epoch:
            raise Malformed("batch", f"epoch {batch.epoch}, or its sender is no owner in epoch {self._epoch}")
        if batch.number != last + 1:
            raise Malformed("batch", f"batch {batch.number} of stage {batch.stage} came after {last}")
        self._numbers[sender, batch.stage] = batch.number

    def put_own(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        self._local[stage] += 1
        self._queues[stage].append(Waiting(None, 0, 0, keys, values))

    def waiting_at(self, stage: int) -> bool:
        return bool(self._queues[stage])

    def take(self, stage: int, most: int) -> tuple[Waiting, bool]:
        """At most so many records of the next batch; and whether these are its last, so that it is done with them."""
        batch = self._queues[stage].popleft()
        if len(batch.keys) > most:
            self._queues[stage].appendleft(batch.part(most, None))
            return batch.part(0, most), False
        if batch.sender is None:
            self._local[stage] -= 1
        return batch, True

    def has_room(self, stage: int) -> bool:
        return self._local[stage] < LOCAL_BATCHES

    def empty(self) -> bool:
        return not any(self._queues)
