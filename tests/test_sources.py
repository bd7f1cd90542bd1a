"""Every record of every split is read once, by one node, and no split silences another."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mesh.app.connectors import Split
from mesh.core.sources import OPEN_SPLITS, Sources, deal

sizes = st.lists(st.integers(0, 5), max_size=40)


@given(sizes, st.integers(1, 7))
def test_every_split_has_one_reader_and_the_counts_differ_by_at_most_one(sizes: list[int], readers: int) -> None:
    splits = [Split(str(number), size) for number, size in enumerate(sizes)]
    taken = deal(splits, list(range(readers)))
    assert len(taken) == len(splits)
    counts = [taken.count(reader) for reader in range(readers)]
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 7))
def test_the_bytes_of_two_readers_differ_by_at_most_the_largest_split(sizes: list[int], readers: int) -> None:
    splits = [Split(str(number), size) for number, size in enumerate(sizes)]
    taken = deal(splits, list(range(readers)))
    loads = [sum(size for size, reader in zip(sizes, taken, strict=True) if reader == each) for each in range(readers)]
    assert max(loads) - min(loads) <= max(sizes)


def test_who_takes_the_largest_of_one_round_takes_the_smallest_of_the_next() -> None:
    assert deal([Split("a", 5), Split("b", 6), Split("c", 7), Split("d", 8)], "xy") == ["x", "y", "y", "x"]


@given(sizes, st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=6, unique=True))
def test_all_nodes_deal_alike_from_equal_lists(sizes: list[int], readers: list[bytes]) -> None:
    splits = [Split(str(number), size) for number, size in enumerate(sizes)]
    again = [Split(split.name, split.size) for split in splits]
    assert deal(splits, readers) == deal(again, tuple(readers))


class SourcesMachine(RuleBasedStateMachine):
    """Splits that answer as they like: records, nothing now, the end with or without records."""

    @initialize(counts=st.lists(st.integers(0, OPEN_SPLITS + 4), min_size=1, max_size=3), endless=st.booleans())
    def begin(self, counts: list[int], endless: bool) -> None:
        self.endless = endless
        self.sources = Sources([(f"s{number}", endless) for number in range(len(counts))])
        assert not self.sources.ended()
        self.left = {(source, f"{number}"): 5 for source, count in enumerate(counts) for number in range(count)}
        self.offsets = dict.fromkeys(self.left, 0)
        self.silent: Counter[int] = Counter()
        for source, count in enumerate(counts):
            self.sources.listed(source, [Split(f"{number}") for number in range(count)])

    @rule(data=st.data(), records=st.integers(0, 3), ends=st.booleans())
    def read(self, data: Any, records: int, ends: bool) -> None:
        source = data.draw(st.integers(0, len(self.sources.counts()) - 1))
        wanted = self.sources.next_read(source)
        if wanted is None:
            assert not any(at == source for at, _ in self.left)
            return
        split, offset = wanted
        assert offset == self.offsets[source, split.name], "not where the last read ended"
        assert self.sources.next_read(source) == wanted, "asking changes nothing"
        records = min(records, self.left[source, split.name])
        ended = records == self.left[source, split.name] and ends
        quiet = self.sources.read(source, split, records, offset + records, ended)
        self.left[source, split.name] -= records
        self.offsets[source, split.name] += records
        if ended:
            del self.left[source, split.name]
        self.silent[source] = 0 if records or ended else self.silent[source] + 1
        if quiet:
            assert self.silent[source] >= min(OPEN_SPLITS, sum(at == source for at, _ in self.left))
            self.silent[source] = 0

    @invariant()
    def it_has_ended_when_every_split_has(self) -> None:
        if not hasattr(self, "sources"):
            return
        assert self.sources.nothing_left() == (not self.left)
        assert self.sources.ended() == (not self.left and not self.endless)
        assert sum(count.records for count in self.sources.counts()) == sum(self.offsets.values())
        assert sum(count.splits - count.splits_done for count in self.sources.counts()) == len(self.left)
        if not self.endless:
            assert all(len(reading.open) <= OPEN_SPLITS for reading in self.sources._readings)


TestSources = SourcesMachine.TestCase


def turns(sources: Sources, busy: set[str], reads: int) -> list[str]:
    """The splits that are read when some always have records and the others never have."""
    asked = []
    for _ in range(reads):
        wanted = sources.next_read(0)
        assert wanted is not None
        split, offset = wanted
        asked.append(split.name)
        sources.read(0, split, int(split.name in busy), offset + 1, False)
    return asked


def test_a_finite_split_is_read_to_its_end_before_the_next_is_opened() -> None:
    sources = Sources([("s", False)])
    sources.listed(0, [Split("a"), Split("b")])
    assert turns(sources, {"a", "b"}, 3) == ["a", "a", "a"]


def test_a_quiet_split_does_not_silence_the_others() -> None:
    sources = Sources([("s", False)])
    sources.listed(0, [Split("a"), Split("b"), Split("c")])
    assert turns(sources, {"c"}, 5) == ["a", "b", "c", "c", "c"]


def test_a_busy_split_of_an_endless_source_does_not_silence_the_others() -> None:
    sources = Sources([("s", True)])
    sources.listed(0, [Split(str(number)) for number in range(OPEN_SPLITS + 10)])
    asked = turns(sources, {"0"}, 3 * (OPEN_SPLITS + 10))
    assert set(Counter(asked).values()) == {3}


def test_a_source_is_quiet_only_when_each_of_its_splits_had_nothing() -> None:
    sources = Sources([("s", False)])
    sources.listed(0, [Split("a"), Split("b")])
    quiet = []
    for _ in range(4):
        wanted = sources.next_read(0)
        assert wanted is not None
        quiet.append(sources.read(0, wanted[0], 0, 0, False))
    assert quiet == [False, True, False, True]


def test_a_source_without_splits_has_ended_once_that_is_known() -> None:
    sources = Sources([("s", False), ("t", False)])
    assert not sources.ended()
    sources.listed(0, [])
    assert not sources.ended()
    sources.listed(1, [])
    assert sources.ended()
    assert sources.next_read(0) is None


def test_an_endless_source_never_ends_even_where_nothing_of_it_is_read() -> None:
    """Somebody else reads it, and may have to give it away."""
    sources = Sources([("t", True)])
    sources.listed(0, [])
    assert sources.nothing_left()
    assert not sources.ended()


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 14))
def test_a_newcomer_is_given_the_last_unread_splits_and_the_others_keep_their_order(
    read: list[bool], most: int
) -> None:
    places = [(Split(str(number), 1), 5 if each else 0) for number, each in enumerate(read)]
    unread = [place for place in places if place[1] == 0]
    sources = Sources([("s", False)])
    sources.received(0, places)
    given_away = sources.give_unread(0, most)
    assert given_away == (unread[-most:] if most else [])
    assert sources.give_all(0) == [place for place in places if place not in given_away]
