"""Whoever owns a slot reads its splits on from where all is over, and numbers what it reads as others did before."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mesh.app.connectors import Split
from mesh.core.events.work import ListSplits, ReadSplit, SplitRead, SplitsListed
from mesh.core.kept_reading import SAVE_MS, KeptReading
from mesh.core.messages.work import Report
from mesh.core.numbers import Numbers
from mesh.core.registering import slots_of
from mesh.core.slot_splits import Place, SlotSplits, registration_key, split_key, split_of
from mesh.core.split_place import SplitPlace
from tests.data_kit import Given
from tests.kept_reading_kit import SLOTS, World, plan_of, table

NODES = 3
nodes = st.integers(0, NODES - 1)
contents = st.lists(st.lists(st.integers(0, 8), max_size=8), max_size=6)


class SlotsThatGoFromNodeToNode(RuleBasedStateMachine):
    """Every place that is kept anywhere is one behind which all is over; in the end all is read."""

    @initialize(finite=contents, endless=contents, seed=st.integers(0, 2**32))
    def begin(self, finite: list[list[int]], endless: list[list[int]], seed: int) -> None:
        self.world = World([Given(finite), Given(endless, endless=True)], Random(seed), NODES)

    @rule(node=nodes)
    def tell(self, node: int) -> None:
        self.world.tell(node)

    @rule(slot=st.integers(0, SLOTS - 1), to=nodes, how=st.sampled_from(["handed", "promoted", "promoted", "lost"]))
    def move(self, slot: int, to: int, how: str) -> None:
        self.world.move(slot, to, how)

    @rule(node=nodes)
    def list_one(self, node: int) -> None:
        if self.world.sides[node].lists:
            self.world.list_one(self.world.sides[node])

    @rule(node=nodes)
    def ask(self, node: int) -> None:
        self.world.ask(self.world.sides[node])

    @rule(node=nodes, most=st.integers(0, 4))
    def answer(self, node: int, most: int) -> None:
        if self.world.sides[node].reads:
            self.world.answer(self.world.sides[node], most)

    @rule(node=nodes, chance=st.sampled_from([0.2, 0.7, 1.0]))
    def answered(self, node: int, chance: float) -> None:
        self.world.answered(self.world.sides[node], chance)

    @rule(node=nodes)
    def save(self, node: int) -> None:
        self.world.save(self.world.sides[node])

    @rule(node=nodes)
    def commit(self, node: int) -> None:
        if self.world.sides[node].packs:
            self.world.commit(node)

    @rule(node=nodes)
    def told(self, node: int) -> None:
        if self.world.sides[node].committed:
            self.world.told(self.world.sides[node])

    @rule(node=nodes, times=st.integers(1, 12), chance=st.sampled_from([0.3, 1.0]), committed=st.booleans())
    def read_on(self, node: int, times: int, chance: float, committed: bool) -> None:
        """Much at once, so that worlds get somewhere."""
        side = self.world.sides[node]
        for _ in range(times):
            if side.lists:
                self.world.list_one(side)
            if side.reads or self.world.ask(side):
                self.world.answer(side, 2)
            self.world.answered(side, chance)
            self.world.now += SAVE_MS // 2
            self.world.save(side)
            if committed and side.packs:
                self.world.commit(node)

    @rule(elapsed=st.integers(1, 2 * SAVE_MS))
    def wait(self, elapsed: int) -> None:
        self.world.now += elapsed

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.finish()
        for side in self.world.sides:
            places = [place for slot in side.view for *_, place in side.splits.splits(slot)]
            counts = side.reading.counts()
            assert not side.reading.ended(), "a source is endless"
            assert (counts[0].splits_done, counts[1].splits_done) == (counts[0].splits, 0)
            assert sum(count.records for count in counts) == sum(place.offset for place in places)
        for source, content in enumerate(self.world.sources):
            whole = [side.reading.counts()[source] for side in self.world.sides]
            assert sum(count.splits for count in whole) == len(content.records)
            assert sum(count.records for count in whole) == sum(map(len, content.records))


TestSlotsThatGoFromNodeToNode = SlotsThatGoFromNodeToNode.TestCase
TestSlotsThatGoFromNodeToNode.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 5), st.sampled_from([8, 64]))
def test_every_founders_part_of_the_slots_gets_as_many_splits_evenly_spread(
    sizes: list[int], founders: int, slots: int
) -> None:
    splits = [Split(str(number), size) for number, size in enumerate(sizes)]
    found = slots_of(splits, founders, slots)
    assert len(found) == len(splits)
    for_each = []
    for founder in range(founders):
        part = range(founder * slots // founders, (founder + 1) * slots // founders)
        counts = [found.count(slot) for slot in part]
        assert max(counts) - min(counts) <= 1
        for_each.append(sum(counts))
    assert max(for_each) - min(for_each) <= 1


def test_few_splits_are_far_from_each_other() -> None:
    assert sorted(slots_of([Split(str(number)) for number in range(4)], 1, 64)) == [0, 16, 32, 48]


# -- one node


class Alone:
    """One node that has all slots, and two targets."""

    def __init__(self, *sources: Given, splits: SlotSplits | None = None, mine: range = range(SLOTS)) -> None:
        self.splits = SlotSplits() if splits is None else splits
        self.sources = sources
        self.reading = KeptReading(plan_of(list(sources)), SLOTS, self.splits, lambda _: True)
        self.effects = self.reading.set_table(table(), dict.fromkeys(mine, 1))

    def listed(self) -> None:
        for source, each in enumerate(self.sources):
            self.reading.listed(SplitsListed(source, each.splits()))
        self.reading.saved(self.reading.changes(0))

    def read(self, values: list[int], *, ended: bool = False, now: int = 0) -> ReadSplit:
        """The next chunk comes, of which each value is a record for target 0."""
        found = self.reading.read_one(now)
        assert found is not None
        read = found[0]
        event = SplitRead(read.source, read.split, values, read.offset + len(values), ended)
        if self.reading.came(event, now):
            self.reading.number(read.source, read.split, 0, len(values))
            self.reading.through()
        return read

    def over(self, *numbers: int, split: str = "0") -> None:
        names = Numbers()
        names.begin((False, 0, split))
        names.numbers += numbers
        names.origins += [0] * len(numbers)
        self.reading.over(0, names)


def test_a_slots_splits_are_registered_once_with_all_there_are() -> None:
    alone = Alone(Given([[1], [2, 3]]))
    assert alone.effects == [ListSplits(0)]
    alone.reading.listed(SplitsListed(0, alone.sources[0].splits()))
    changes = alone.reading.changes(0)
    slots = slots_of(alone.sources[0].splits(), 2, SLOTS)
    assert {key: state for _, key, state in changes if split_of(key) is not None} == {
        split_key(slot, 0, split.name): (0, (0,) * 2, False, split.size, 0)
        for slot, split in zip(slots, alone.sources[0].splits(), strict=True)
    }
    assert sum(split_of(key) is None for _, key, _ in changes) == SLOTS
    assert all(alone.splits.states[key] == state for _, key, state in changes)
    again = Alone(Given([[1], [2, 3], [4]]), splits=alone.splits)
    assert again.effects == [], "it is known, even if the listing has changed"
    assert again.reading.counts()[0].splits == 2


def test_a_slot_that_comes_while_a_source_is_listed_is_served_by_that() -> None:
    alone = Alone(Given([[1], [2, 3]]), mine=range(1))
    assert alone.reading.set_table(table(), dict.fromkeys(range(SLOTS), 1)) == []
    alone.listed()
    assert alone.reading.counts()[0].splits == 2
    alone.splits.drop(5)
    assert alone.reading.set_table(table(), {**dict.fromkeys(range(SLOTS), 1), 5: 9}) == [ListSplits(0)], "lost"


def test_a_place_is_saved_now_and_then_and_its_end_at_once() -> None:
    alone = Alone(Given([[1] * 9]))
    alone.listed()
    alone.read([1, 1])
    alone.over(0, 1)
    assert alone.reading.changes_due() == SAVE_MS
    assert alone.reading.changes(SAVE_MS - 1) == []
    assert [state[0] for *_, state in alone.reading.changes(SAVE_MS)] == [2]
    assert alone.reading.changes_due() is None
    alone.read([1])
    alone.over(2)
    assert alone.reading.changes(SAVE_MS + 1) == []
    alone.read([], ended=True)
    assert alone.reading.changes_due() == 0
    assert [state[:3] for *_, state in alone.reading.changes(SAVE_MS + 1)] == [(3, (3, 0), True)]


def test_an_end_does_not_take_along_what_was_saved_just_now() -> None:
    alone = Alone(Given([[1] * 9, [1]]))
    alone.listed()
    first = alone.read([1])
    alone.read([])
    second = alone.read([1], ended=True)
    assert first.split != second.split
    alone.over(0, split=first.split.name)
    alone.over(0, split=second.split.name)
    assert [split_of(key) for _, key, _ in alone.reading.changes(SAVE_MS - 1)] == [second.split.name]
    assert [split_of(key) for _, key, _ in alone.reading.changes(SAVE_MS)] == [first.split.name]


def test_the_end_counts_when_it_is_committed() -> None:
    alone = Alone(Given([[1]]))
    alone.listed()
    alone.read([1], ended=True)
    assert alone.reading.changes(SAVE_MS) == [], "not all is over"
    alone.over(0)
    changes = alone.reading.changes(SAVE_MS)
    assert not alone.reading.ended()
    alone.reading.saved(changes)
    assert alone.reading.ended()
    assert alone.reading.counts()[0].splits_done == 1
    assert not alone.reading._readings, "nothing is awaited of it any more"


def test_without_splits_the_end_is_that_this_is_committed() -> None:
    alone = Alone(Given([]))
    assert not alone.reading.ended()
    alone.reading.listed(SplitsListed(0, []))
    changes = alone.reading.changes(0)
    assert not alone.reading.ended()
    alone.reading.saved(changes)
    assert alone.reading.ended()


def test_who_has_no_slot_has_nothing_left_but_who_knows_no_table_may_have() -> None:
    plan = plan_of([Given([[1]])])
    reading = KeptReading(plan, SLOTS, SlotSplits(), lambda _: True)
    assert not reading.ended()
    reading.set_table(table(), {})
    assert reading.ended()


def test_what_is_over_twice_is_over_once() -> None:
    alone = Alone(Given([[1] * 9]))
    alone.listed()
    alone.read([1, 1])
    alone.over(1, 1)
    alone.over(1)
    assert alone.reading.changes_due() is None
    alone.over(0)
    assert [state[0] for *_, state in alone.reading.changes(SAVE_MS)] == [2]


def test_chunks_are_over_in_the_order_in_which_they_were_read() -> None:
    alone = Alone(Given([[1] * 9]))
    alone.listed()
    for _ in range(3):
        alone.read([1, 1])
    alone.over(2, 3, 0)
    assert alone.reading.changes_due() is None
    alone.over(1)
    assert [state[:2] for *_, state in alone.reading.changes(SAVE_MS)] == [(4, (4, 0))]


def test_who_takes_a_slot_reads_on_from_its_place_under_the_numbers_that_follow() -> None:
    first = Alone(Given([[1] * 9]))
    first.listed()
    first.read([1, 1])
    first.over(0, 1)
    first.reading.changes(SAVE_MS)
    first.read([1, 1])
    second = Alone(Given([[1] * 9]), splits=first.splits)
    assert second.effects == []
    found = second.reading.read_one(0)
    assert found is not None
    assert found[0].offset == 2
    assert second.reading.came(SplitRead(0, found[0].split, [1], 3, False), 0) == [1]
    assert second.reading.number(0, found[0].split, 0, 1) == 2
    second.reading.through()
    second.over(2)
    assert [state[:2] for *_, state in second.reading.changes(SAVE_MS)] == [(3, (3, 0))]
    assert second.reading.counts()[0].records == 3


def test_what_a_later_reign_has_not_given_out_yet_is_not_over_for_it() -> None:
    alone = Alone(Given([[1] * 9]))
    alone.listed()
    alone.read([1, 1])
    alone.reading.set_table(table(), dict.fromkeys(range(SLOTS), 2))
    alone.over(0, 1)
    alone.read([1])
    assert alone.reading.changes_due() is None
    alone.over(0)
    assert [state[0] for *_, state in alone.reading.changes(SAVE_MS)] == [1]


def test_a_chunk_of_an_earlier_reign_is_thrown_away_even_if_its_split_is_read_here_again() -> None:
    alone = Alone(Given([[1] * 9]))
    alone.listed()
    alone.read([1, 1])
    found = alone.reading.read_one(0)
    assert found is not None
    assert found[0].offset == 2
    alone.reading.set_table(table(), dict.fromkeys(range(SLOTS), 2))
    assert alone.reading.read_one(0) is None, "one read at a time a source"
    assert alone.reading.came(SplitRead(0, found[0].split, [1, 1], 4, False), 0) == []
    assert alone.read([1]).offset == 0


def test_an_end_that_was_on_its_way_in_an_earlier_reign_does_not_count_in_this() -> None:
    alone = Alone(Given([[1]]))
    alone.listed()
    before = dict(alone.splits.states)
    alone.read([1], ended=True)
    alone.over(0)
    early = alone.reading.changes(SAVE_MS)
    alone.splits.put([*before], [*before.values()])  # nobody else had it when this node was chosen again
    alone.reading.set_table(table(), dict.fromkeys(range(SLOTS), 2))
    alone.read([1], ended=True)
    alone.over(0)
    late = alone.reading.changes(2 * SAVE_MS)
    alone.reading.saved(early)
    assert not alone.reading.ended()
    alone.reading.saved(late)
    assert alone.reading.ended()


def test_a_split_of_two_slots_since_the_listing_has_changed_ends_in_both() -> None:
    splits = SlotSplits()
    for slot in range(SLOTS):
        splits.put([registration_key(slot, 0)], [(7, (), False, 0, 0)])
    splits.put([split_key(slot, 0, "0") for slot in (1, 2)], [(0, (0, 0), False, 1, 0)] * 2)
    alone = Alone(Given([[1]]), splits=splits)
    first, second = alone.read([1], ended=True), alone.read([1], ended=True)
    assert (first.split.name, second.split.name) == ("0", "0")
    alone.over(0)
    alone.reading.saved(alone.reading.changes(SAVE_MS))
    assert alone.reading.ended()


def test_what_had_nothing_rests_and_a_quiet_split_lets_another_have_its_turn() -> None:
    alone = Alone(Given([[], [1]]))
    alone.listed()
    first = alone.read([])
    assert alone.reading.next_at() == 0
    second = alone.read([])
    assert first.split != second.split
    due = alone.reading.next_at()
    assert due
    assert alone.reading.read_one(due - 1) is None


def test_who_lists_otherwise_is_told_once() -> None:
    alone = Alone(Given([[1]]))
    alone.listed()
    (count,) = alone.reading.counts()
    same = Report(1, 0, True, 0, 0, 0, 0, (count,))
    assert alone.reading.differing([same]) == []
    other = Alone(Given([[1], [2]]))
    other.listed()
    different = Report(1, 0, True, 0, 0, 0, 0, other.reading.counts())
    ((name, _, _),) = alone.reading.differing([same, different])
    assert name == "source-0"
    assert alone.reading.differing([different]) == []


def test_own_slots_that_were_registered_otherwise_are_told_too() -> None:
    splits = SlotSplits()
    splits.put(
        [registration_key(slot, 0) for slot in range(SLOTS)],
        [(7 + slot // 7, (), False, 0, 0) for slot in range(SLOTS)],
    )
    alone = Alone(Given([[1]]), splits=splits)
    assert len(alone.reading.differing([])) == 1
    assert alone.reading.differing([]) == []
    assert alone.reading.counts()[0].listing == 7


@pytest.mark.parametrize("names", [["a", "a"], ["a", "b" * 1025]])
def test_a_split_that_cannot_be_told_from_others_is_left_out_and_told(names: list[str]) -> None:
    alone = Alone(Given([]))
    alone.reading.listed(SplitsListed(0, [Split(name, 1) for name in names]))
    alone.reading.saved(alone.reading.changes(0))
    assert alone.reading.counts()[0].splits == 1
    ((_, _, error),) = alone.reading.differing([])
    assert "1 splits left out" in str(error)


def test_what_was_posted_is_counted_with_the_rest() -> None:
    alone = Alone(Given([[1, 1]]))
    alone.listed()
    alone.read([1, 1])
    alone.reading.sources.posted(0, 5)
    assert alone.reading.counts()[0].records == 7


def test_chunks_without_records_are_not_remembered_one_by_one() -> None:
    place = SplitPlace(b"", 0, Split("a"), Place(0, (0, 0)))
    place.came(1, 1, False)
    assert place.number(0, 1) == 0
    place.through()
    for offset in range(2, 1000):
        place.came(1, offset, offset == 999)
        place.through()
    assert len(place._chunks) == 1
    place.over(0, [0])
    assert place.place == Place(999, (1, 0), True, 0, 999)
