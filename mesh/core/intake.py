"""Batches that have come and are not applied yet, a queue a stage.

States    waiting for its epoch, or for a gate -> its turn has come -> taken. Batches of a stage are taken in the order
          in which they came: one that waits holds up those behind it, for as long as an epoch takes to arrive.
Bounds    what came over a link is within that link's credit, which is given back when the batch has been applied; this
          node's own are within the window of the router's lane to itself.

Taken is what workers send, in their numbering. What a batch may change is for the holdings to say. Where records are
numbered every record of a batch has its number, and else none has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core import columns
from mesh.core.codec import Malformed
from mesh.core.events.planes import Delivered
from mesh.core.messages import Message, NodeId
from mesh.core.messages.work import Batch
from mesh.core.numbers import Numbers, checked


@dataclass(slots=True)
class Waiting:
    """A batch that waits to be applied, or a part of one."""

    sender: NodeId | None  # None: this node itself
    number: int
    epoch: int  # its sender's
    size: int  # bytes of link credit to give back
    keys: list[Any]
    values: list[Any]
    slots: bytes | list[int]
    start: int = 0  # index of the first record in the whole batch
    refused: dict[int, int] = field(default_factory=dict)  # slot -> start of the part in which it was, for all parts
    _slot_set: frozenset[int] | None = None
    numbers: Numbers | None = None  # one a record, where records are numbered

    def slot_list(self) -> Sequence[int]:
        return columns.slots_from_bytes(self.slots) if isinstance(self.slots, bytes) else self.slots

    def slot_set(self) -> frozenset[int]:
        """Made when it is needed, which is rare."""
        if self._slot_set is None:
            self._slot_set = frozenset(self.slot_list())
        return self._slot_set

    def part(self, start: int, end: int) -> Waiting:
        keys = self.keys[start:end]
        values = keys if self.values is self.keys else self.values[start:end]
        slots = self.slots[2 * start : 2 * end] if isinstance(self.slots, bytes) else self.slots[start:end]
        numbers = None if self.numbers is None else self.numbers.part(start, end)
        start += self.start
        return replace(self, keys=keys, values=values, slots=slots, start=start, _slot_set=None, numbers=numbers)

    def without(self, refused: Collection[int]) -> Waiting:
        """The same records but for those of some slots, which is noted."""
        for slot in refused:
            self.refused.setdefault(slot, self.start)
        return self.only([slot not in self.refused for slot in self.slot_list()])

    def only(self, chosen: Sequence[bool]) -> Waiting:
        """Those of its records that are chosen, in their order; of a part it is still the same part."""
        keys = [*compress(self.keys, chosen)]
        values = keys if self.values is self.keys else [*compress(self.values, chosen)]
        slots = [*compress(self.slot_list(), chosen)]
        numbers = None if self.numbers is None else self.numbers.only(chosen)
        return replace(self, keys=keys, values=values, slots=slots, _slot_set=None, numbers=numbers)


class Intake:
    """The queues of all stages."""

    def __init__(
        self, stages: Sequence[StagePlan], *, numbered: bool = False, sources: int = 0, slots: int = 0
    ) -> None:
        """How many `sources` and `slots` there are need be known only where records are `numbered`."""
        self._stages = stages
        self._numbered = numbered
        self._sources, self._slots = sources, slots
        self._queues: list[deque[Waiting]] = [deque() for _ in stages]
        self._epoch = 0
        self._workers: tuple[NodeId, ...] = ()
        self._numbers: dict[tuple[NodeId, int], int] = {}  # (sender, stage) -> its last batch

    def set_table(self, epoch: int, workers: tuple[NodeId, ...]) -> None:
        self._epoch, self._workers = epoch, workers
        known = {*workers, *(each.sender for queue in self._queues for each in queue)}
        self._numbers = {key: last for key, last in self._numbers.items() if key[0] in known}

    def delivered(self, event: Delivered, batch: Message) -> None:
        """Queue a peer's batch; raises Malformed, and then nothing is queued."""
        if not isinstance(batch, Batch) or batch.stage >= len(self._stages):
            raise Malformed("batch", "not a batch of a stage that is here")
        if event.channel != self._stages[batch.stage].level:
            raise Malformed("batch", f"stage {batch.stage} does not travel on channel {event.channel}")
        values = batch.keys if batch.values is None else batch.values
        if not len(batch.keys) == len(values) == len(batch.slots) / 2 or not columns.all_keys_good(batch.keys):
            raise Malformed("batch", "columns of different lengths, or bad keys")
        numbers = self._numbers_of(batch)
        self._check_carrier(event.sender, batch)
        size = len(event.payload)
        self._queues[batch.stage].append(
            Waiting(event.sender, batch.number, batch.epoch, size, batch.keys, values, batch.slots, numbers=numbers)
        )

    def _numbers_of(self, batch: Batch) -> Numbers | None:
        if not self._numbered:
            if batch.runs:
                raise Malformed("batch", "numbers where none are kept")
            return None
        if not columns.are_slots(batch.slots, self._slots):
            raise Malformed("batch", "a record of no slot")  # its mark would have no place
        return checked(batch.runs, len(batch.keys), self._sources, len(self._stages), self._slots)

    def _check_carrier(self, sender: NodeId, batch: Batch) -> None:
        last = self._numbers.get((sender, batch.stage), 0)
        if batch.epoch <= self._epoch and sender not in self._workers:
            raise Malformed("batch", f"its sender is no worker in epoch {self._epoch}")
        if batch.number != last + 1:
            raise Malformed("batch", f"batch {batch.number} of stage {batch.stage} came after {last}")
        self._numbers[sender, batch.stage] = batch.number

    def put_own(self, stage: int, batch: Waiting) -> None:
        self._queues[stage].append(batch)

    def ready(self, stage: int, shut: Collection[int]) -> bool:
        """May the next batch be taken? It has none of the slots that are shut."""
        queue = self._queues[stage]
        if not queue or queue[0].epoch > self._epoch:
            return False
        return not shut or queue[0].slot_set().isdisjoint(shut)

    def take(self, stage: int, most: int) -> tuple[Waiting, bool]:
        """At most so many records of the next batch; and whether these are its last, so that it is done with them."""
        batch = self._queues[stage].popleft()
        if len(batch.keys) > most:
            self._queues[stage].appendleft(batch.part(most, len(batch.keys)))
            return batch.part(0, most), False
        return batch, True

    def empty(self) -> bool:
        return not any(self._queues)
