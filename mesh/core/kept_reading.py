"""The sources' side of the data plane where slots have copies: a split is part of a slot, and who owns that reads it.

States    of an own slot, per source: unlisted -> registered (its splits are known) -> saved (committed) -> all ended
          of a split: waiting -> read (`split_place`) -> at its end -> ended (committed)
Events    `set_table` (what slots are active here), `listed`; `came`, `number`, `through`; `over`; `changes`, `saved`.

How far a split is read is a state of its slot (`slot_splits`) and goes wherever the slot goes. So nobody gives splits
away: who loses a slot forgets its readings, who takes one reads on from the places that it finds. What it reads again
has the numbers that it had before, hence is known to whoever has taken it. That a deposed owner still reads, out of
touch with the others, does no harm for the same reason: it gives out the same records under the same names, and no copy
takes a place from it.

Which splits are a slot's is known from the source's listing alone (`registering`), and is written into the slot once,
by its first owner: who finds it there lists nothing, even if the listing has changed since. An accepted loss empties a
slot, and its next owner lists anew.

    came -> number, as its records come out of the fragment -> through         (all in one event)
    changes -> a pack -> saved, when it is committed

Of a target, records must be numbered in an order that does not depend on how the split was cut into chunks: that of the
values. A traced fragment gives them so.

Invariants a chunk that was asked for by a reading that is forgotten since is thrown away, also if the same split is
          read here again: it may begin elsewhere. A place is saved at most every SAVE_MS, and at once when it is the
          end. The end counts when it is committed. Who forgets a place that is not committed, and finds it in its slot
          again, takes it for what it is: whatever is before a place is over, whoever says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.app.connectors import ConnectorError, Split
from mesh.app.plan import Fragment, Plan
from mesh.core.codec import MAX_INT
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import ReadSplit, SplitRead, SplitsListed
from mesh.core.messages.work import Report, SourceCount
from mesh.core.numbers import Numbers
from mesh.core.pace import Pace
from mesh.core.registering import Registering, Told
from mesh.core.slot_splits import Change, Place, SlotSplits, State, registration_key, slot_of, source_of, split_of
from mesh.core.sources import Sources
from mesh.core.split_place import SplitPlace
from mesh.core.turns import Turns
from mesh.core.values import show

SAVE_MS = 100  # so much of a split is read again when its reader dies, and so often a pack says how far it is


@dataclass(slots=True)
class _OwnSlot:
    since: int
    readings: list[SplitPlace] = field(default_factory=list)
    listings: dict[int, int] = field(default_factory=dict)  # source -> fingerprint, once registered
    unfinished: int = 0  # splits and registrations whose end is not committed


@dataclass(slots=True)
class _Count:
    """Of one source, over own slots."""

    name: str
    endless: bool
    records: int = 0
    splits: int = 0
    done: int = 0
    posted: int = 0


class KeptReading:
    """All splits of this node's slots."""

    def __init__(self, plan: Plan, slots: int, splits: SlotSplits, may_emit: Callable[[Fragment], bool]) -> None:
        self._splits = splits
        names = [each.name for each in plan.sources]
        self._registering = Registering(names, len(plan.stages) + len(plan.sinks), slots)
        self._counts = [_Count(each.name, each.connector.endless) for each in plan.sources]
        self._is_endless = any(each.endless for each in self._counts)
        self._queues = Sources([(each.name, each.endless) for each in self._counts])
        self._turns = Turns(plan.sources, self._queues, may_emit)
        self._asked: list[SplitPlace | None] = [None] * len(names)  # whose chunk is under way
        self._running: SplitPlace | None = None  # whose records are being numbered
        self._begun = False
        self._own: dict[int, _OwnSlot] = {}
        self._unfinished = 0  # of all own slots
        self._readings: dict[tuple[int, str], list[SplitPlace]] = {}  # not ended; one, unless the listing has changed
        self._moved: dict[bytes, SplitPlace] = {}  # whose place is in no pack yet
        self._unsaved: dict[bytes, State] = {}  # in a pack that is not committed
        self._at_end = False  # one that has moved has ended
        self._save_at: Millis = 0

    @property
    def sources(self) -> KeptReading:
        """As `Reading.sources`: how far they are."""
        return self

    # -- which slots

    def set_table(self, table: TableAgreed, active: Mapping[int, int]) -> list[Effect]:
        """Each table, once all that it brings is in `splits`; active here: slot -> since when, as of `Reigns`."""
        self._begun = True
        self._registering.founders = max(1, len(table.founders))
        self._forget([slot for slot, own in self._own.items() if active.get(slot) != own.since])
        for slot, since in active.items():
            if slot not in self._own:
                self._own[slot] = _OwnSlot(since)
                self._begin(slot, self._own[slot])
        return self._registering.ask()

    def _begin(self, slot: int, own: _OwnSlot) -> None:
        for key, source, name, place in self._splits.splits(slot):
            self._take_up(own, SplitPlace(key, source, Split(name, place.size), place))
        for source in range(len(self._counts)):
            listing = self._splits.registered(slot, source)
            if listing is None:
                self._await(own, 1)
                self._registering.wanted(slot, source)
            else:
                own.listings[source] = listing
                self._registering.registered(source, listing)

    def _take_up(self, own: _OwnSlot, reading: SplitPlace) -> None:
        own.readings.append(reading)
        count = self._counts[reading.source]
        count.splits += 1
        count.records += reading.records
        if reading.place.ended:
            count.done += 1
            return
        self._await(own, 1)
        self._readings.setdefault((reading.source, reading.split.name), []).append(reading)
        self._queues.received(reading.source, [(reading.split, reading.place.offset)])

    def _await(self, own: _OwnSlot, how_many: int) -> None:
        own.unfinished += how_many
        self._unfinished += how_many

    def _forget(self, slots: Sequence[int]) -> None:
        gone: dict[int, SplitPlace] = {}  # by its split, which is one object here
        for slot in slots:
            own = self._own.pop(slot)
            self._unfinished -= own.unfinished
            self._registering.forget(slot, own.listings.items())
            for source in own.listings:
                self._unsaved.pop(registration_key(slot, source), None)
            for reading in own.readings:
                gone[id(reading.split)] = reading
                self._drop(reading)
        for source in range(len(self._counts) if gone else 0):
            self._queues.forget(source, lambda split: id(split) in gone)

    def _drop(self, reading: SplitPlace) -> None:
        reading.forgotten = True
        under_way = self._moved.pop(reading.key, None), self._unsaved.pop(reading.key, None)
        count = self._counts[reading.source]
        count.splits -= 1
        count.records -= reading.records
        count.done -= reading.place.ended and under_way == (None, None)
        self._ignore(reading)

    def _ignore(self, reading: SplitPlace) -> None:
        """Nothing more is awaited of it."""
        name = reading.source, reading.split.name
        left = [each for each in self._readings.pop(name, ()) if each is not reading]
        if left:
            self._readings[name] = left

    # -- which splits

    def listed(self, event: SplitsListed) -> None:
        self._registering.listed(event)

    def differing(self, others: Iterable[Report]) -> list[Told]:
        """(source, how many, error): what is wrong with listings."""
        return self._registering.differing(others)

    # -- reading

    def next_at(self) -> Millis | None:
        """When the first of what could be read now has rested."""
        return self._turns.next_at()

    def read_one(self, now: Millis) -> tuple[ReadSplit, Pace] | None:
        """What to read now, and whose pace it is."""
        found = self._turns.read_one(now)
        if found is not None:
            read = found[0]
            same_name = self._readings[read.source, read.split.name]
            self._asked[read.source] = next(each for each in same_name if each.split is read.split)
        return found

    def came(self, event: SplitRead, now: Millis) -> list[Any]:
        """The values of a chunk; `number` and `through` follow if there are any."""
        assert self._running is None, "a chunk in another's midst"
        self._turns.came_back(event.source)
        reading, self._asked[event.source] = self._asked[event.source], None
        if reading is None or reading.forgotten:
            return []
        if type(event.next_offset) is not int or not 0 <= event.next_offset <= MAX_INT:
            source = self._counts[event.source].name  # it could be saved nowhere
            raise ConnectorError(f'source "{source}" gave {show(event.next_offset)} as an offset: it must be a count')
        records = len(event.values)
        if self._queues.read(event.source, reading.split, records, event.next_offset, event.ended):
            self._turns.rests(event.source, now)
        self._counts[event.source].records += records
        reading.came(records, event.next_offset, event.ended)
        self._running = reading
        values = [value for value in event.values if value is not None]  # None means nothing, also from a source
        if not values:
            self.through()
        return values

    def number(self, source: int, split: Split, target: int, count: int) -> int:
        """Of the first of so many records for this target that came of the chunk; the others follow it."""
        assert self._running is not None, "records of no chunk"
        assert (self._running.source, self._running.split.name) == (source, split.name), "records of another split"
        return self._running.number(target, count)

    def through(self) -> None:
        """All that came of the chunk has its numbers."""
        reading, self._running = self._running, None
        assert reading is not None, "the end of no chunk"
        reading.through()
        self._look_at(reading)

    def over(self, target: int, numbers: Numbers) -> None:
        """These are over: what is of a split may let its place move on."""
        for (of_stage, source, split), start, end in numbers.runs():
            if not of_stage:
                for reading in self._readings.get((source, split), ()):
                    reading.over(target, numbers.numbers[start:end])
                    self._look_at(reading)

    def _look_at(self, reading: SplitPlace) -> None:
        if not reading.forgotten and reading.place != self._splits.states[reading.key]:
            self._moved[reading.key] = reading
            self._at_end = self._at_end or reading.place.ended

    # -- what is saved

    def changes_due(self) -> Millis | None:
        """When `changes` has something; None: nothing has moved."""
        if self._at_end or self._registering.anything():
            return 0
        return self._save_at if self._moved else None

    def changes(self, now: Millis) -> list[Change]:
        """What has become of own slots, for one pack that is made now; it is in `splits` already."""
        due = self.changes_due()
        if due is None or due > now:
            return []
        found = self._newly_registered()
        if now >= self._save_at:
            self._save_at = now + SAVE_MS
            readings = [*self._moved.values()]
        else:
            readings = [each for each in self._moved.values() if each.place.ended]
        self._at_end = False
        for reading in readings:
            del self._moved[reading.key]
            found.append(self._change(reading))
        self._splits.put([key for _, key, _ in found], [state for *_, state in found])
        self._unsaved.update((key, state) for _, key, state in found)
        return found

    def _newly_registered(self) -> list[Change]:
        """The reading of these begins."""
        changes: list[Change] = []
        for slot, source, found in self._registering.take():
            own = self._own[slot]
            new = [each for each in found if each[1] not in self._splits.states]
            for _, key, state in new[:-1]:
                place = Place(*state)
                self._take_up(own, SplitPlace(key, source, Split(split_of(key) or "", place.size), place))
            changes += new
            own.listings[source] = found[-1][2][0]
            self._registering.registered(source, own.listings[source])
        return changes

    def _change(self, reading: SplitPlace) -> Change:
        if reading.place.ended:
            self._ignore(reading)
        return slot_of(reading.key), reading.key, reading.place.state()

    def saved(self, changes: Sequence[Change]) -> None:
        """The pack of these, as `changes` gave them, is committed."""
        for slot, key, state in changes:
            if self._unsaved.get(key) is not state:
                continue  # another one has followed, or this is of an earlier reign
            del self._unsaved[key]
            is_split = split_of(key) is not None
            if is_split and Place(*state).ended:
                self._counts[source_of(key)].done += 1
            if not is_split or Place(*state).ended:
                self._await(self._own[slot], -1)

    # -- how far it is

    def nothing_left(self) -> bool:
        """All splits of own slots are known and have ended, and that is committed."""
        return self._begun and self._unfinished == 0

    def ended(self) -> bool:
        """So it stays, unless slots come."""
        return not self._is_endless and self.nothing_left()

    def posted(self, source: int, records: int) -> None:
        """So many came otherwise than by splits."""
        self._counts[source].posted += records

    def counts(self) -> tuple[SourceCount, ...]:
        """Of own slots: so all nodes' sums are those of the source, however often its slots have moved."""
        return tuple(
            SourceCount(each.name, each.records + each.posted, each.splits, each.done, each.endless,
                        self._registering.listing(source))
            for source, each in enumerate(self._counts)
        )  # fmt: skip
