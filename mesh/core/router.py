"""The sender's side: which node owns each record's key, one batch an owner, and how much may be on its way.

States    per (owner, stage) a lane: columns that grow to a batch, and a window: the batches sent and not yet answered.
          Per (slot, stage) that may not leave now a place where its records are held. See `lanes`.
Events    `put` (records of a stage), `flush`, `done` (an owner answered a batch: applied, but for the refused slots),
          `set_table`, `farewell` (an owner leaves: what it has not answered is refused).
Bounds    of what is on its way to an owner: see `packing`. What is held counts against a window of its own; beyond
          either `open_for` says no, and the producers wait. While an owner is unreachable its slots are held.

A slot's records leave only while the table says that it is ACTIVE and its owner is up. In between they are held:

    leaving -> the table changes it, or its owner refuses a record -> held -> ACTIVE again, and nothing before it is
    unanswered, and the table is as new as that of whoever refused it -> leaving

Exactly once and in order over a move. From hold to hold a slot's records go to one owner at one term, in numbered
batches under epochs that never fall. That owner applies a record only if its slot is ACTIVE here since that epoch or
longer, so once it has refused one it refuses all that follow: what is applied is a prefix of what left. Every batch is
answered, since the link has no holes and the owner lives; what it refused comes back in front of what was held, and
only then the next owner is sent anything. If the owner died the batch stays unanswered and its slots' records wait:
nobody can say what was applied. Once it has ended they are lost, as the records of slots that are LOST: they stay
unanswered, but nothing else waits for them (`at_rest`, `unsettled`).

Invariants batches of one (owner, stage) are numbered from 1 without holes and leave in that order. A record leaves in
          one batch at a time. No record of a slot leaves while an older one of it is unanswered at another owner or
          term. `unanswered` counts every record that was put until it is applied or set aside.

Numbered  records are for owners that know those they have taken. All of the above holds but for one thing: nothing
          waits for the answer of an owner whose reign is over. When (owner, since) of a slot is another than before,
          all that is on its way comes back to its place, in front, and leaves to the new owner; what the former one
          says of it later is ignored. Within a reign nothing is sent twice, and a change of backups, which no owner
          stops for, holds nothing. `take_over` says which numbers are over: answered for, or set aside.

With fifty nodes and eight stages there are four hundred lanes and a unit of work may be one record, so nothing here
looks at all lanes to learn that nothing is to be done: what it would find is counted where it changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from mesh.core import columns
from mesh.core.events.planes import TableAgreed
from mesh.core.lanes import Lane, StageLanes
from mesh.core.messages import NodeId
from mesh.core.numbers import Numbers
from mesh.core.packing import BATCH_RECORDS, WINDOW_BYTES, Packed, Packer
from mesh.core.records import Sent
from mesh.core.slot import ACTIVE, LOST, PENDING

Reign: TypeAlias = tuple[NodeId, int]  # the owner, and the term at which it began

_NONE: Mapping[int, int] = {}
HELD_BYTES = 128  # of a record that is held, beyond its bytes on the wire: its objects and its places in three columns


class Router:
    """All lanes of this node."""

    def __init__(
        self,
        me: NodeId,
        levels: Sequence[int],
        slots: int,
        seed: int,
        window_bytes: int = WINDOW_BYTES,
        batch_records: int = BATCH_RECORDS,
        *,
        numbered: bool = False,
    ) -> None:
        """`levels`: of each stage."""
        self._me = me
        self._shift = 33 - slots.bit_length()  # slots is a power of two: hash >> shift == hash * slots >> 32
        self._seed = seed
        self._window_bytes = window_bytes
        self._packer = Packer(me, window_bytes, batch_records)
        self._epoch = 0
        self._terms: Sequence[int] = ()
        self._reigns: list[Reign | None] = [None] * slots  # where records are numbered
        self._owner_of_slot: list[NodeId | None] = [None] * slots  # None: nobody can be sent its records
        self._table: TableAgreed | None = None
        self._refused_at: dict[int, int] = {}  # slot -> epoch of the owner that refused it, while that is a later one
        self._departed: dict[NodeId, None] = {}  # said farewell, perhaps before a table here has them
        self._numbered = numbered
        self._over: list[tuple[int, Numbers]] = []
        self._stages = [StageLanes(stage, level, slots, numbered) for stage, level in enumerate(levels)]
        self._released = False
        self._lost: dict[int, None] = {}  # slots that are LOST
        self._has_lost = False  # there are such slots, or lanes of who has ended

    # -- the partition

    def set_table(self, table: TableAgreed) -> None:
        """A new epoch: what it changes is held, and what it allows is released."""
        owners = _reachable_owners(table, self._departed)
        before = zip(self._terms or [0] * len(owners), self._owner_of_slot, strict=True)
        after = zip(table.term_of_slot, owners, strict=True)
        changed = [slot for slot, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        ended = self._ended_reigns(table) if self._numbered else _NONE
        if self._numbered:
            still = [slot for slot in changed if slot not in ended and self._may_have_stopped(slot, table, owners)]
            changed = [*ended, *still]
        for stage in self._stages:
            stage.close(self._epoch)
        self._table = table
        self._epoch, self._terms, self._owner_of_slot = table.epoch, table.term_of_slot, owners
        self._refused_at = {slot: epoch for slot, epoch in self._refused_at.items() if epoch > table.epoch}
        self._departed = {node: None for node in self._departed if node not in table.left}
        self._lost = {slot: None for slot, status in enumerate(table.status_of_slot) if status == LOST}
        for stage in self._stages:
            stage.hold(changed, self._epoch)
            if self._numbered:
                stage.take_back_all(
                    ended, [each for each in stage.lanes if each in table.down or each not in table.workers]
                )
                self._packer.note_blocked_all(stage)
            elif self._lost:
                stage.take_back_from_ended(table.workers, self._lost)
                self._packer.note_blocked_all(stage)
            self._release(stage, list(stage.held))
            self._forget_lanes(stage, table.workers)
        self._has_lost = bool(self._lost) or any(lane.owner not in table.workers for lane in self.lanes())

    def _may_have_stopped(self, slot: int, table: TableAgreed, owners: Sequence[NodeId | None]) -> bool:
        """May its owner refuse some that it is sent before this table, and not those after? A change of backups, which
        no owner stops for, is one term; to stop and to go on are two."""
        return owners[slot] != self._owner_of_slot[slot] or table.term_of_slot[slot] > self._terms[slot] + 1

    def _ended_reigns(self, table: TableAgreed) -> dict[int, int]:
        """Slots, all of whose records that are on their way shall come back: slot -> 0."""
        before, self._reigns = self._reigns, reigns_of(table)
        both = enumerate(zip(before, self._reigns, strict=True))
        return {slot: 0 for slot, (old, new) in both if old != new}

    def _release(self, stage: StageLanes, slots: Iterable[int]) -> None:
        """Those of them that may leave."""
        owner_of = {slot: owner for slot in slots if (owner := self._may_leave(stage, slot)) is not None}
        if owner_of:
            stage.release(owner_of, self._epoch)
            self._packer.note_blocked_all(stage)
            self._released = True

    def _may_leave(self, stage: StageLanes, slot: int) -> NodeId | None:
        held = stage.held.get(slot)
        return None if held is None or held.behind or slot in self._refused_at else self._owner_of_slot[slot]

    def _forget_lanes(self, stage: StageLanes, workers: Collection[NodeId]) -> None:
        """Of who is no worker any more; a batch that is unanswered stays so."""
        for owner in [owner for owner in stage.lanes if owner not in workers]:
            lane = stage.lanes[owner]
            if not lane.in_flight or (self._numbered and not lane.waits()):
                assert not lane.parts
                assert not lane.slots
                stage.blocked -= lane.blocked
                del stage.lanes[owner]

    def farewell(self, owner: NodeId, epoch: int) -> None:
        """This owner applies nothing any more, from its `epoch` on: what it has not answered is refused."""
        self._departed[owner] = None
        lost = [slot for slot, each in enumerate(self._owner_of_slot) if each == owner]
        for slot in lost:
            self._owner_of_slot[slot] = None
        for stage in self._stages:
            stage.hold(lost, self._epoch)
            lane = stage.lanes.get(owner)
            while lane is not None and lane.in_flight:
                self._answered(stage, lane, dict.fromkeys(sorted(set(lane.in_flight[0].slots())), 0), epoch)
            if lane is not None:
                self._packer.note_blocked(stage, lane)

    # -- records in

    def put(self, stage: int, keys: list[Any], values: list[Any], numbers: Numbers | None = None) -> None:
        """Route the records of one stage; bad keys are set aside."""
        assert (numbers is not None) == self._numbered
        if not columns.all_keys_good(keys):
            keys, values, numbers = self._without_bad_keys(stage, keys, values, numbers)
        if not keys:
            return
        to = self._stages[stage]
        if values is not keys and to.same:
            to.mix()  # for good: mixed columns are rare, and then values cost no more than elsewhere
        slots = columns.slots_of(keys, self._seed, self._shift)
        if numbers is None:
            columns.scatter(keys, values, slots, to.to, with_values=not to.same)
        else:
            to.scatter(keys, values, slots, numbers)
        to.entered(self._epoch, len(keys))
        held = sum(map(to.held.__contains__, slots)) if to.held else 0
        to.held_back += held
        to.buffered += len(keys) - held

    def _without_bad_keys(
        self, stage: int, keys: list[Any], values: list[Any], numbers: Numbers | None
    ) -> tuple[list[Any], list[Any], Numbers | None]:
        bad = columns.bad_keys(keys)
        self._packer.set_aside += [(stage, values[index], error) for index, error in bad.items()]
        good = [index for index in range(len(keys)) if index not in bad]
        if numbers is not None:
            self._over.append((stage, numbers.chosen([*bad])))
            numbers = numbers.chosen(good)
        good_keys = [keys[index] for index in good]
        return good_keys, good_keys if values is keys else [values[index] for index in good], numbers

    # -- batches out

    def full_batches(self, stages: Iterable[int]) -> list[Packed]:
        """What has grown to a batch, of the stages that were just given records."""
        lanes = [lane for stage in stages if self._stages[stage].buffered for lane in self._lanes_of(stage)]
        ready = [lane for lane in lanes if lane.parts or len(lane.slots) >= lane.full_at]
        return [packed for lane in ready for packed in self._pack(lane, flush=False)]

    def released(self) -> list[Packed]:
        """What may leave since an answer or a new table let it go."""
        if not self._released:
            return []
        self._released = False
        return self.full_batches(range(len(self._stages)))

    def flush(self) -> list[Packed]:
        """All that is buffered and may leave, however small: called when there is nothing else to do."""
        return [packed for lane in list(self._flushable()) for packed in self._pack(lane, flush=True)]

    def may_flush(self) -> bool:
        return next(self._flushable(), None) is not None

    def _pack(self, lane: Lane, *, flush: bool) -> list[Packed]:
        return self._packer.pack(self._stages[lane.stage], lane, self._epoch, flush=flush)

    def set_aside(self) -> list[tuple[int, Any, Exception]]:
        """(stage, value, why) of records that could not be used since the last call."""
        found, self._packer.set_aside = self._packer.set_aside, []
        return found

    def take_over(self) -> list[tuple[int, Numbers]]:
        """(stage, numbers) of records that were answered for, or set aside, since the last call."""
        if not self._over and not self._packer.over:
            return []
        found = self._over + self._packer.over
        self._over, self._packer.over = [], []
        return found

    def _lanes_of(self, stage: int) -> Iterable[Lane]:
        return self._stages[stage].lanes.values()

    def _flushable(self) -> Iterator[Lane]:
        for stage in self._stages:
            if stage.buffered:
                yield from (
                    lane for lane in stage.lanes.values() if (lane.slots or lane.parts) and self._packer.is_open(lane)
                )

    # -- answers

    def done(
        self, owner: NodeId, stage: int, number: int, epoch: int = 0, refused: Mapping[int, int] = _NONE
    ) -> str | None:
        """The owner worked off all batches up to `number`, but for records in the last one: those of each refused slot
        from a given index on. Returns what is wrong with that claim, if anything."""
        lane = self._stages[stage].lanes.get(owner) if stage < len(self._stages) else None
        if lane is None:
            ended = self._has_ended(owner) and stage < len(self._stages)
            return None if owner in self._departed or ended else "not an owner of ours"
        if number > lane.last_number:
            return f"batch {number} was never sent, the last is {lane.last_number}"
        if refused and owner not in self._departed:
            sent = next((each for each in lane.in_flight if each.number == number), None)
            if sent is None or not {*sent.slots(), *sent.taken}.issuperset(refused):
                return f"batch {number} is answered, or has no records of some slots that are refused"
        while lane.in_flight and lane.in_flight[0].number <= number:
            last = lane.in_flight[0].number == number
            self._answered(self._stages[stage], lane, refused if last else _NONE, epoch)
        self._packer.note_blocked(self._stages[stage], lane)
        return None

    def _has_ended(self, owner: NodeId) -> bool:
        """And had been sent something, perhaps: what it had was taken back, and its lane is forgotten."""
        return self._numbered and self._table is not None and owner not in self._table.workers

    def _answered(self, stage: StageLanes, lane: Lane, refused: Mapping[int, int], epoch: int) -> None:
        sent = lane.in_flight.popleft()
        lane.bytes_in_flight -= sent.size
        left = sent.count
        if sent.taken:
            refused = {slot: start for slot, start in refused.items() if slot not in sent.taken}
        if refused:
            left -= self._take_back(stage, sent, refused, epoch)
        if left:
            stage.over(sent.epoch, left)
            if self._numbered:
                self._over.append((stage.stage, sent.numbers_but(refused)))
        if lane.awaited:
            free = lane.awaited.pop(sent.number, [])
            for slot in free:
                stage.held[slot].behind = False
            self._release(stage, free)

    def _take_back(self, stage: StageLanes, sent: Sent, refused: Mapping[int, int], epoch: int) -> int:
        if epoch > self._epoch:
            for slot in refused:
                self._refused_at[slot] = max(epoch, self._refused_at.get(slot, 0))
        stage.hold(refused, self._epoch)
        found = sent.all_records().of_slots(refused)
        for slot, records in found.items():
            stage.take_back(slot, records)
        count = sum(map(len, found.values()))
        self._release(stage, list(refused))
        return count

    # -- how much is under way

    def open_for(self, stage: int) -> bool:
        """May records for this stage be produced? Not while any owner of it has all that it may be sent, or as much
        is held."""
        lanes = self._stages[stage]
        held_bytes = lanes.held_back * (lanes.record_bytes + HELD_BYTES)
        return not lanes.blocked and held_bytes < self._window_bytes

    def idle(self) -> bool:
        """Nothing buffered or held, nothing on its way."""
        return not any(stage.unanswered for stage in self._stages)

    def at_rest(self) -> bool:
        """Idle, but for what is lost."""
        return self.at_rest_for(range(len(self._stages)))

    def _waits(self, stage: StageLanes, before: int) -> bool:
        if not self._has_lost or self._table is None:
            return any(put < before for put in stage.unanswered)
        return stage.waits(before, self._epoch, self._table.workers, self._lost)

    def at_rest_for(self, stages: Iterable[int]) -> bool:
        return not any(self._waits(self._stages[stage], self._epoch + 1) for stage in stages)

    def unsettled(self, epoch: int) -> int:
        """The deepest level for which something that was put before this epoch is neither applied nor set aside, and
        not lost."""
        return max((each.level for each in self._stages if self._waits(each, epoch)), default=0)

    def waits_for(self) -> set[NodeId]:
        """The owners who have not worked off, or not been sent, all that is theirs."""
        owners = {lane.owner for lane in self.lanes() if lane.waits()}
        if self._table is not None:
            held = {
                slot
                for stage in self._stages
                for slot, each in stage.held.items()
                if not (each.behind or each.empty())  # else it waits for whoever it is behind, first of all
            }
            held -= self._lost.keys()
            owners |= {self._table.workers[self._table.owner_of_slot[slot]] for slot in held}
        return owners

    def bytes_in_flight(self) -> int:
        return sum(lane.bytes_in_flight for lane in self.lanes())

    def lanes(self) -> Iterator[Lane]:
        """For whoever checks."""
        for stage in self._stages:
            yield from stage.lanes.values()


def reigns_of(table: TableAgreed) -> list[Reign | None]:
    """The owner of each slot, and since which term. While it is handed over the donor still answers for what it has
    taken; of all slots that are PENDING, only the reign of these is older than their term."""
    since = table.since_of_slot or table.term_of_slot
    configurations = zip(table.status_of_slot, table.term_of_slot, since, strict=True)
    places = [
        table.donor_of_slot[slot] if status == PENDING and began < term else table.owner_of_slot[slot]
        for slot, (status, term, began) in enumerate(configurations)
    ]
    return [(table.workers[place], began) for place, began in zip(places, since, strict=True)]


def _reachable_owners(table: TableAgreed, departed: Collection[NodeId]) -> list[NodeId | None]:
    owners = [None if node in table.down or node in departed else node for node in table.workers]
    return [
        owners[place] if status == ACTIVE else None
        for place, status in zip(table.owner_of_slot, table.status_of_slot, strict=True)
    ]
