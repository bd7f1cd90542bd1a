"""Where the router keeps records until their owner has answered for them: the lanes of one stage, and what is held.

    put -> open columns of a lane -> parts -> in flight -> applied
                 |    a hold pulls back    |        |
                 +------> held <-----------+ <------+ refused

Each (owner, stage) has a lane, each slot that may not leave now has a `Held`. The epoch in which records were put stays
with them, whatever happens to them: columns of two epochs are never joined.

What is lost: batches that a process had which is no worker any more, and never answered; records behind these; records
of slots that are LOST. They are kept, and nothing may wait for them. What such a process had of a slot that is LOST is
taken back, and leaves when the slot starts again, empty.

Numbered  records have their numbers wherever they wait, and an owner knows those it has taken. So when the reign of a
          slot ends, what was sent and not answered is taken back at once and goes to the next owner; the batch stays
          where it is, without these records, since its owner may still answer it.

Invariant unsent records of a slot are either in its owner's lane or in its `Held`, never in both; within each they are
          in the order in which they were put, and what was refused stands before them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mesh.core import columns
from mesh.core.messages import NodeId
from mesh.core.numbers import Numbers, OpenNumbers, Producer
from mesh.core.records import Records, Sent

GUESS_BYTES = 256  # a record that nothing is known about yet


class Buffer:
    """Open columns: emptied, never replaced, since `appenders` holds their append methods."""

    def __init__(self, numbered: bool = False) -> None:
        self.keys: list[Any] = []
        self.values: list[Any] = []  # unused while every value of the stage is its own key
        self.slots: list[int] = []
        self.numbers = OpenNumbers() if numbered else None
        self.parts: deque[Records] = deque()  # taken out of these, and next to leave
        self.appenders: columns.Appenders = (self.keys.append, self.values.append, self.slots.append)
        if self.numbers is not None:
            self.appenders += (self.numbers.numbers.append, self.numbers.origins.append)

    def take(self, epoch: int, same: bool) -> Records:
        keys = self.keys.copy()
        numbers = None if self.numbers is None else self.numbers.take()
        taken = Records(epoch, keys, keys if same else self.values.copy(), self.slots.copy(), numbers)
        for column in (self.keys, self.values, self.slots):
            column.clear()
        return taken

    def close(self, epoch: int, same: bool) -> None:
        """What is in the columns was put in this epoch, and more of another one comes."""
        if self.slots:
            self.parts.append(self.take(epoch, same))


class Lane(Buffer):
    """One (owner, stage): what is to be sent there, the batches' numbers, and the window."""

    def __init__(self, stage: int, owner: NodeId, numbered: bool = False) -> None:
        super().__init__(numbered)
        self.stage = stage
        self.owner = owner
        self.full_at = 1  # records; the first batch is small and shows how large they are
        self.last_number = 0
        self.in_flight: deque[Sent] = deque()  # oldest first
        self.bytes_in_flight = 0  # invariant: the sum over in_flight
        self.blocked = False  # invariant: its window is full, or parts wait
        self.awaited: dict[int, list[int]] = {}  # batch -> held slots whose newest unanswered records are in it

    def free(self, sent: Sent) -> None:
        """It counts against the window no more."""
        self.bytes_in_flight -= sent.size
        sent.size = 0

    def waits(self) -> bool:
        """Is there anything that its owner has not answered, or not been sent?"""
        return bool(self.parts or self.slots) or any(sent.count for sent in self.in_flight)


class Held(Buffer):
    """Records of one slot of one stage that may not leave now."""

    def __init__(self, numbered: bool = False) -> None:
        super().__init__(numbered)
        self.refused: list[Records] = []  # before all others
        self.behind = False  # a batch with records of this slot is unanswered

    def empty(self) -> bool:
        return not (self.refused or self.parts or self.slots)

    def all_parts(self, epoch: int, same: bool) -> Iterator[Records]:
        """In their order; afterwards this is empty."""
        self.close(epoch, same)
        yield from self.refused
        yield from self.parts
        self.refused.clear()
        self.parts.clear()


class StageLanes:
    """The lanes of one stage, and where the records of each slot go."""

    def __init__(self, stage: int, level: int, slots: int, numbered: bool = False) -> None:
        self.stage = stage
        self.level = level
        self.numbered = numbered
        self.lanes: dict[NodeId, Lane] = {}
        self.held: dict[int, Held] = {}
        self.to: list[columns.Appenders] = [(_nowhere,) * (5 if numbered else 3)] * slots
        self.same = True  # every value so far was its own key
        self.buffered = 0  # invariant: records in all lanes, not in flight
        self.held_back = 0  # invariant: records in all of `held`
        self.blocked = 0  # invariant: lanes that are blocked
        self.record_bytes = GUESS_BYTES
        self.unanswered: dict[int, int] = {}  # epoch of putting -> records, wherever they are; none is 0

    def entered(self, epoch: int, records: int) -> None:
        self.unanswered[epoch] = self.unanswered.get(epoch, 0) + records

    def over(self, epoch: int, records: int) -> None:
        """Applied, or set aside."""
        left = self.unanswered[epoch] - records
        if left:
            self.unanswered[epoch] = left
        else:
            del self.unanswered[epoch]

    def waits(self, before: int, epoch: int, workers: Collection[NodeId], lost: Collection[int]) -> bool:
        """Is something unanswered that was put before this epoch, and not lost? Open columns are of `epoch`."""
        unanswered = sum(count for put, count in self.unanswered.items() if put < before)
        return unanswered > 0 and unanswered > self._lost(before, epoch, workers, lost)

    def _lost(self, before: int, epoch: int, workers: Collection[NodeId], lost: Collection[int]) -> int:
        ended = [lane for owner, lane in self.lanes.items() if owner not in workers]
        slots = {*lost, *(slot for lane in ended for behind in lane.awaited.values() for slot in behind)}
        batches = [sent for lane in ended for sent in lane.in_flight]
        held = [each for slot, each in self.held.items() if slot in slots]
        parts = [part for each in held for part in (*each.refused, *each.parts)]
        columns_of_now = sum(len(each.slots) for each in held) if epoch < before else 0
        sent_before = sum(sent.count for sent in batches if sent.epoch < before)
        return sent_before + sum(len(part) for part in parts if part.epoch < before) + columns_of_now

    def mix(self) -> None:
        """A value came that is not its key: from now on, for good, values have columns of their own."""
        self.same = False
        for buffer in (*self.lanes.values(), *self.held.values()):
            buffer.values.extend(buffer.keys)

    def lane(self, owner: NodeId) -> Lane:
        if owner not in self.lanes:
            self.lanes[owner] = Lane(self.stage, owner, self.numbered)
        return self.lanes[owner]

    def close(self, epoch: int) -> None:
        """All columns were put in this epoch, and another one begins."""
        for buffer in (*self.lanes.values(), *self.held.values()):
            buffer.close(epoch, self.same)

    # -- numbers

    def scatter(self, keys: list[Any], values: list[Any], slots: list[int], numbers: Numbers) -> None:
        """Records that are numbered, to the columns of their slots."""
        for producer, start, end in numbers.runs():
            run = slice(start, end)
            origins = numbers.origins[run] if producer[0] else None
            self._begin(producer, slots[run])
            columns.scatter_numbered(
                keys[run], None if self.same else values[run], slots[run], numbers.numbers[run], origins, self.to
            )

    def _begin(self, producer: Producer, slots: Collection[int]) -> None:
        """The records of this producer come next, to these slots."""
        for lane in self.lanes.values():
            if lane.numbers is not None:
                lane.numbers.begin(producer)
        for slot in dict.fromkeys(slots) if self.held else ():
            held = self.held.get(slot)
            if held is not None and held.numbers is not None:
                held.numbers.begin(producer)

    # -- holding back

    def hold(self, slots: Collection[int], epoch: int) -> None:
        """Nothing more for these slots leaves; what has not left yet comes back."""
        new = {slot: Held(self.numbered) for slot in slots if slot not in self.held}
        if not new:
            return
        for slot, held in new.items():
            self.held[slot] = held
            self.to[slot] = held.appenders
        for lane in self.lanes.values():
            self._pull_back(lane, new, epoch)
            self._wait_behind(lane, new)

    def _pull_back(self, lane: Lane, slots: dict[int, Held], epoch: int) -> None:
        lane.close(epoch, self.same)
        kept: deque[Records] = deque()
        for part in lane.parts:
            if slots.keys().isdisjoint(part.slots):
                kept.append(part)
                continue
            found, rest = part.by_slot(dict.fromkeys(slots, 0))
            for slot, records in found.items():
                self.held[slot].parts.append(records)
            if rest:
                kept.append(rest)
            self.buffered -= len(part) - len(rest)
            self.held_back += len(part) - len(rest)
        lane.parts = kept

    def _wait_behind(self, lane: Lane, slots: dict[int, Held]) -> None:
        left = {slot for slot, held in slots.items() if not held.behind}
        for sent in reversed(lane.in_flight):
            if not left:
                return
            found = sorted(left.intersection(sent.slots()).difference(sent.taken))
            for slot in found:
                slots[slot].behind = True
            if found:
                lane.awaited.setdefault(sent.number, []).extend(found)
                left.difference_update(found)

    def take_back(self, slot: int, refused: Records) -> None:
        """An owner refused these; the slot is held."""
        self.held[slot].refused.append(refused)
        self.held_back += len(refused)

    def take_back_from_ended(self, workers: Collection[NodeId], lost: Collection[int]) -> None:
        """What ended processes never answered for these LOST slots, which are held: it comes back, to be applied should
        they start again, since the only state that it may be in is gone."""
        for lane in self.lanes.values():
            if lane.owner not in workers and lane.in_flight:
                for sent in list(lane.in_flight):
                    self._take_back_sent(lane, sent, dict.fromkeys(sorted({*sent.slots()}.intersection(lost)), 0))
                for number, slots in lane.awaited.items():
                    lane.awaited[number] = [slot for slot in slots if slot not in lost]

    def _take_back_sent(self, lane: Lane, sent: Sent, slots: dict[int, int]) -> None:
        if not slots:
            return
        found, rest = sent.all_records().by_slot(slots)
        for slot, records in found.items():
            self.take_back(slot, records)
            self.held[slot].behind = False
        place = lane.in_flight.index(sent)
        if rest:
            lane.in_flight[place] = Sent(sent.number, sent.size, sent.epoch, b"", rest, b"", len(rest))
        else:
            del lane.in_flight[place]
            lane.bytes_in_flight -= sent.size

    def take_back_all(self, slots: Mapping[int, int], ended: Collection[NodeId]) -> None:
        """Their reign is over: what was sent and not answered comes back, to be sent to the next owner. These slots are
        held. Whoever has `ended` may never answer, so that what is empty by then must not fill its window."""
        for lane in self.lanes.values():
            for sent in lane.in_flight:
                found = sorted(slots.keys() & {*sent.slots()} - sent.taken.keys()) if sent.count else []
                for slot, records in (sent.take_back(dict.fromkeys(found, 0)) if found else {}).items():
                    self.take_back(slot, records)
                if not sent.count and lane.owner in ended:
                    lane.free(sent)
            for number, behind in lane.awaited.items():
                lane.awaited[number] = [slot for slot in behind if slot not in slots]
        for slot in slots:
            self.held[slot].behind = False

    def release(self, owner_of: dict[int, NodeId], epoch: int) -> None:
        """These held slots may leave, to these owners."""
        gathered: dict[NodeId, dict[int, Records]] = {}  # owner -> epoch of putting -> records
        for slot, owner in owner_of.items():
            lane = self.lane(owner)
            self.to[slot] = lane.appenders
            parts = gathered.setdefault(owner, {})
            for part in self.held.pop(slot).all_parts(epoch, self.same):
                parts.setdefault(part.epoch, Records(part.epoch)).extend(part)
                self.held_back -= len(part)
                self.buffered += len(part)
        for owner, by_epoch in gathered.items():
            lane = self.lane(owner)
            lane.close(epoch, self.same)
            lane.parts.extend(by_epoch[each] for each in sorted(by_epoch))


def _nowhere(_: Any) -> None:
    raise AssertionError("a record came before the partition")
