"""One suite for every store: against a dict, and the promises of the contract one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mesh.runtime.store import Change, DiskStore, Store
from tests.store_kit import KINDS, everything, numbered, open_store, whole_slot

SLOTS = [0, 1, 2, 255, 256, 65_535, 65_536 + 1, 2**32 - 1]
slots = st.sampled_from(SLOTS)
stages = st.sampled_from([0, 1, 255, 256, 65_535])
keys = st.sampled_from([b"", b"\x00", b"a", b"a\x00", b"b", b"\xff", b"\xff\xff\xff\xff"]) | st.binary(max_size=6)
changes = st.lists(st.tuples(slots, stages, keys, st.none() | st.binary(max_size=40)), max_size=12)
metas = st.dictionaries(slots, st.binary(max_size=20), max_size=4)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(request.param, tmp_path)
    yield opened
    opened.close()


class AnyPacks(RuleBasedStateMachine):
    """Every rule leaves the store equal to two dicts; the last assertion reads all of it."""

    kind = "memory"

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(self.kind, Path(self.folder.name))
        self.states: dict[tuple[int, int, bytes], bytes] = {}
        self.metas: dict[int, bytes] = {}

    @rule(pack=changes, metas=metas, drop=st.lists(slots, max_size=2), commits=st.booleans())
    def put(self, pack: list[Change], metas: dict[int, bytes], drop: list[int], commits: bool) -> None:
        self.store.put(pack, metas, drop)
        self.states = {place: state for place, state in self.states.items() if place[0] not in drop}
        self.metas = {slot: meta for slot, meta in self.metas.items() if slot not in drop} | metas
        for slot, stage, key, state in pack:
            self.states.pop((slot, stage, key), None)
            if state is not None:
                self.states[slot, stage, key] = state
        if commits:
            self.store.commit()

    @rule(slot=slots, stage=stages, key=keys)
    def get(self, slot: int, stage: int, key: bytes) -> None:
        assert self.store.get(slot, stage, key) == self.states.get((slot, stage, key))

    @rule(slot=slots, at_most=st.integers(1, 60))
    def scan(self, slot: int, at_most: int) -> None:
        wanted = sorted((*place[1:], state) for place, state in self.states.items() if place[0] == slot)
        assert whole_slot(self.store, slot, at_most) == wanted

    @precondition(lambda self: self.kind == "disk")
    @rule()
    def reopen(self) -> None:
        self.store.commit()
        self.store.close()
        self.store = open_store(self.kind, Path(self.folder.name))

    def teardown(self) -> None:
        found = {(slot, stage, key): state for slot in SLOTS for stage, key, state in whole_slot(self.store, slot)}
        assert found == self.states
        assert self.store.metas() == self.metas
        self.store.close()
        self.folder.cleanup()


class AnyPacksOnDisk(AnyPacks):
    kind = "disk"


TestMemory = AnyPacks.TestCase
TestDisk = AnyPacksOnDisk.TestCase
TestDisk.settings = settings(max_examples=25, stateful_step_count=20)


def test_a_scan_goes_on_where_it_stopped_whatever_was_put_between(store: Store) -> None:
    store.put([(1, 0, b"%02d" % each, b"old") for each in range(50)], {})
    first = store.scan(1, at_most=100)
    assert first.after is not None
    seen = first.states[-1][1]
    store.put([(1, 0, b"00", None), (1, 0, seen, None), (1, 0, b"49x", b"new"), (1, 1, b"00", b"new")], {})
    rest = store.scan(1, first.after)
    assert rest.after is None
    assert [key for _, key, _ in first.states + rest.states] == [b"%02d" % each for each in range(50)] + [b"49x", b"00"]


def test_a_chunk_holds_one_state_however_large(store: Store) -> None:
    large = bytes(3_000_000)
    store.put([(1, 0, b"a", large), (1, 0, b"b", large)], {})
    assert store.scan(1).states == [(0, b"a", large)]
    assert len(whole_slot(store, 1)) == 2


def test_an_empty_slot_is_one_empty_chunk(store: Store) -> None:
    store.put([(1, 0, b"a", b""), (3, 0, b"a", b"")], {2: b"it has a position all the same"})
    assert store.scan(2).states == []
    assert store.scan(2).after is None


def test_a_million_bytes_of_key_and_a_hundred_million_of_state(store: Store) -> None:
    key, state = bytes(1_000_000), bytes(100_000_000)
    store.put([(5, 0, key, state)], {})
    store.commit()
    assert store.get(5, 0, key) == state


def test_a_dropped_slot_leaves_its_neighbours(store: Store) -> None:
    store.put([(slot, 0, b"a", b"x") for slot in (6, 7, 8, 7 + 65_536)], {7: b"m", 8: b"m"})
    store.put([(7, 0, b"b", b"written after the drop of the same pack")], {}, drop=[7])
    assert [len(whole_slot(store, slot)) for slot in (6, 7, 8, 7 + 65_536)] == [1, 1, 1, 1]
    assert store.get(7, 0, b"a") is None
    assert store.metas() == {8: b"m"}


def test_a_copy_filled_beside_is_swapped_in_by_one_put(store: Store) -> None:
    live, beside = 9, 9 + 65_536
    store.put([(live, 0, b"gone", b"old"), (live, 0, b"kept", b"old")], {live: b"slot 9, position 3"})
    store.put([(beside, 0, b"kept", b"new")], {})
    assert store.metas() == {live: b"slot 9, position 3"}
    store.put([], {beside: b"slot 9, position 5"}, drop=[live])
    assert store.metas() == {beside: b"slot 9, position 5"}
    assert everything(store, range(12)) == {}
    assert whole_slot(store, beside) == [(0, b"kept", b"new")]


def test_what_no_store_has_a_place_for_changes_nothing(store: Store) -> None:
    for slot, stage in ((-1, 0), (2**32, 0), (0, -1), (0, 2**16)):
        with pytest.raises((AssertionError, OverflowError)):
            store.put([(1, 0, b"a", b"x"), (slot, stage, b"a", b"x")], {1: b"m"}, drop=[1])
    assert store.scan(1).states == []
    assert store.metas() == {}


def test_what_was_closed_in_order_is_there_again(tmp_path: Path) -> None:
    for number in range(5):
        kept = DiskStore(str(tmp_path / "store"))
        assert len(everything(kept, range(4))) == (500 if number else 0)
        kept.put(numbered(number), {0: b"%d" % number})
        kept.commit()
        kept.close()
