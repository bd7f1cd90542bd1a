"""Splits whose slots go from node to node, and back, while they are read: the world around `KeptReading`.

A value v of a split gives v % 3 records for the stage and v // 3 for the sink, so what each record's number must be is
known from the values alone. What is over is known by name. Owners change in all ways that a slot can take: handed over
(all packs of the donor arrive), promoted (those that are committed), lost and accepted (nothing is left).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import mesh
from mesh.app import plan as plans
from mesh.app.plan import Plan
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import ListSplits, ReadSplit, SplitRead, SplitsListed
from mesh.core.kept_reading import SAVE_MS, KeptReading
from mesh.core.numbers import Numbers
from mesh.core.slot_splits import Change, Place, SlotSplits, State, registration_key, source_of, split_of
from tests.data_kit import Given, Nowhere
from tests.tables import agreed

SLOTS = 8
TARGETS = (0, 3)  # of two stages and two sinks
Record: TypeAlias = tuple[int, str, int, int]  # source, split, target, number


def plan_of(sources: list[Given]) -> Plan:
    """Each source feeds a stage and a sink of its own."""
    app = mesh.App("splits")
    for number, given in enumerate(sources):
        source = app.source(f"source-{number}", given)
        source.to(Nowhere())
        source.key_by(lambda value: value).fold(f"count-{number}", int, lambda count, _: count + 1)
    return plans.compile(app)


def table(founders: int = 2) -> TableAgreed:
    return agreed(1, [bytes([number + 1]) * 16 for number in range(founders)], [0] * SLOTS)


def gives(value: int, target: int) -> int:
    """How many records a value becomes."""
    return value % 3 if target == TARGETS[0] else value // 3


def numbers_of(records: list[Record]) -> Numbers:
    found = Numbers()
    for source, split, _, number in records:
        found.begin((False, source, split))
        found.numbers.append(number)
        found.origins.append(0)
    return found


@dataclass
class Side:
    """One node, and what is under way there."""

    splits: SlotSplits
    reading: KeptReading
    view: dict[int, int] = field(default_factory=dict)  # own slot -> since, as it knows
    lists: list[int] = field(default_factory=list)  # sources that it has asked for
    reads: list[tuple[ReadSplit, int, int]] = field(default_factory=list)  # read, slot, since
    given: list[tuple[Record, int, int]] = field(default_factory=list)  # what is not over; slot, since
    packs: list[tuple[list[Change], dict[int, int]]] = field(default_factory=list)  # not committed, and its view
    committed: list[list[Change]] = field(default_factory=list)  # which it has not been told


class World:
    """Nodes, and the truth about each slot: whose it is, and what is committed of it."""

    def __init__(self, sources: list[Given], random: Random, nodes: int = 3) -> None:
        self.sources = sources
        self.random = random
        self.now: Millis = 0
        self.plan = plan_of(sources)
        self.sides = [self._side() for _ in range(nodes)]
        self.owners = {slot: (slot * nodes // SLOTS, 1) for slot in range(SLOTS)}  # node, since
        self.committed: dict[int, dict[bytes, State]] = {slot: {} for slot in range(SLOTS)}
        self.over: set[Record] = set()
        for side in range(nodes):
            self.tell(side)

    def _side(self) -> Side:
        splits = SlotSplits()
        return Side(splits, KeptReading(self.plan, SLOTS, splits, lambda _: True))

    def values(self, source: int, name: str) -> list[int]:
        return self.sources[source].records[int(name)]

    def before(self, source: int, name: str, offset: int, target: int) -> int:
        """How many records for the target there are before an offset."""
        return sum(gives(value, target) for value in self.values(source, name)[:offset])

    # -- slots

    def move(self, slot: int, to: int, how: str) -> None:
        """Its owner has another reign, or another has one; nobody knows yet."""
        owner, since = self.owners[slot]
        if how == "handed":
            while self.sides[owner].packs:
                self.commit(owner)
        if how == "lost":
            self.committed[slot] = {}
        self.owners[slot] = to, since + 1

    def tell(self, number: int) -> None:
        """This node learns who owns what."""
        side = self.sides[number]
        now = {slot: since for slot, (owner, since) in self.owners.items() if owner == number}
        for slot in {**side.view, **now}:
            if side.view.get(slot) != now.get(slot):
                side.splits.drop(slot)
                mine = self.committed[slot] if slot in now else {}
                side.splits.put([*mine], [*mine.values()])
        side.view = now
        self.do(side, side.reading.set_table(table(), now))

    def do(self, side: Side, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, ListSplits)
            assert effect.source not in side.lists, "one listing at a time"
            side.lists.append(effect.source)

    def list_one(self, side: Side) -> None:
        source = side.lists.pop(0)
        side.reading.listed(SplitsListed(source, self.sources[source].splits()))

    # -- records

    def ask(self, side: Side) -> bool:
        found = side.reading.read_one(self.now)
        if found is None:
            return False
        read = found[0]
        assert all(each.source != read.source for each, *_ in side.reads), "one read at a time a source"
        slot = next(
            slot for slot in side.view for _, source, name, _ in side.splits.splits(slot)
            if (source, name) == (read.source, read.split.name)
        )  # fmt: skip
        side.reads.append((read, slot, side.view[slot]))
        return True

    def answer(self, side: Side, most: int) -> None:
        """The oldest read comes back with up to so many values."""
        read, slot, since = side.reads.pop(0)
        everything = self.values(read.source, read.split.name)
        end = min(len(everything), read.offset + most)
        ended = end == len(everything) and not self.sources[read.source].endless and self.random.random() < 0.7
        values = everything[read.offset : end]
        found = side.reading.came(SplitRead(read.source, read.split, values, end, ended), self.now)
        if side.view.get(slot) != since:
            assert found == [], "of a reading that is forgotten"
            return
        assert found == values
        if found:
            self._give(side, read, values, slot, since)
            side.reading.through()

    def _give(self, side: Side, read: ReadSplit, values: list[int], slot: int, since: int) -> None:
        for target in TARGETS:
            count = sum(gives(value, target) for value in values)
            first = side.reading.number(read.source, read.split, target, count)
            assert first == self.before(read.source, read.split.name, read.offset, target)
            names = ((read.source, read.split.name, target, number) for number in range(first, first + count))
            side.given += ((record, slot, since) for record in names)

    def answered(self, side: Side, chance: float) -> None:
        """Owners have answered for some of what this node has given; some answers come twice."""
        chosen = [each for each in side.given if self.random.random() < chance]
        side.given = [each for each in side.given if each not in chosen or self.random.random() < 0.1]
        self.random.shuffle(chosen)
        for target in TARGETS:
            records = [record for record, *_ in chosen if record[2] == target]
            self.over.update(records)
            side.reading.over(target, numbers_of(records))

    # -- places

    def save(self, side: Side) -> None:
        due = side.reading.changes_due()
        changes = side.reading.changes(self.now)
        assert bool(changes) <= (due is not None and due <= self.now)
        if changes:
            side.packs.append((changes, side.view.copy()))

    def commit(self, number: int) -> None:
        """The oldest pack of a node, as far as it owns the slots in the same reigns still."""
        side = self.sides[number]
        changes, view = side.packs.pop(0)
        for slot, key, state in changes:
            if self.owners[slot] == (number, view[slot]):
                self.committed[slot][key] = state
        side.committed.append(changes)

    def told(self, side: Side) -> None:
        side.reading.saved(side.committed.pop(0))

    # -- what must hold

    def check(self) -> None:
        for side in self.sides:
            for key, state in side.splits.states.items():
                self._check_place(key, state)
        for states in self.committed.values():
            for key, state in states.items():
                self._check_place(key, state)
        for number, side in enumerate(self.sides):
            self._check_counts(number, side)

    def _check_place(self, key: bytes, state: State) -> None:
        place, source, name = Place(*state), source_of(key), split_of(key)
        if name is None:
            return
        everything = self.values(source, name)
        assert place.records == place.offset
        assert place.offset == len(everything) or not place.ended
        assert len(place.counters) == 4
        for target, behind in enumerate(place.counters):
            expected = self.before(source, name, place.offset, target) if target in TARGETS else 0
            assert behind == expected
            open_ones = [n for n in range(behind) if (source, name, target, n) not in self.over]
            assert not open_ones, f"{name}: a place beyond what is not over"

    def _check_counts(self, number: int, side: Side) -> None:
        known = [each for slot in side.view for each in side.splits.splits(slot)]
        for source, count in enumerate(side.reading.counts()):
            assert count.splits == sum(which == source for _, which, *_ in known)
            assert count.splits_done <= sum(which == source and place.ended for _, which, _, place in known)
            assert count.records >= sum(place.offset for _, which, _, place in known if which == source)
        if side.reading.nothing_left():
            for slot, since in side.view.items():
                assert self.owners[slot] != (number, since) or self.is_ended(slot)

    def is_ended(self, slot: int) -> bool:
        """It is committed that all its splits are known, and have ended."""
        states = self.committed[slot]
        known = all(registration_key(slot, source) in states for source in range(len(self.sources)))
        return known and all(Place(*state).ended for key, state in states.items() if split_of(key) is not None)

    # -- to the end

    def finish(self) -> None:
        """Everybody knows the truth, and no answer comes to who gave a record in another reign."""
        for number, side in enumerate(self.sides):
            self.tell(number)
            side.given = [each for each in side.given if side.view.get(each[1]) == each[2]]
        for _ in range(400):
            self.now += SAVE_MS
            for number, side in enumerate(self.sides):
                while side.lists:
                    self.list_one(side)
                if not side.reads:
                    while self.ask(side):
                        pass
                while side.reads:
                    self.answer(side, 3)
                self.answered(side, 1.0)
                self.save(side)
                while side.packs:
                    self.commit(number)
                while side.committed:
                    self.told(side)
            self.check()
