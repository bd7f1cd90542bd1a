"""The part of a slot that says how far its splits are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.codec import Malformed
from mesh.core.slot_splits import (
    Place,
    SlotSplits,
    check,
    registration_key,
    slot_of,
    source_of,
    split_key,
    split_of,
)

SOURCES, TARGETS, SLOTS = 2, 3, 8
KEY = split_key(5, 1, "a")
STATE = (7, (1, 2, 3), False, 100, 4)


@given(st.integers(0, 65535), st.integers(0, 65535), st.text(st.characters(exclude_categories=()), max_size=20))
def test_a_key_says_slot_source_and_name_and_is_no_registration(slot: int, source: int, name: str) -> None:
    key = split_key(slot, source, name)
    assert (slot_of(key), source_of(key), split_of(key)) == (slot, source, name)
    assert key != registration_key(slot, source)
    assert split_of(registration_key(slot, source)) is None


def test_what_is_put_is_there_until_its_slot_is_dropped() -> None:
    splits = SlotSplits()
    splits.put([KEY, split_key(6, 0, "b"), registration_key(5, 1)], [STATE, STATE, (99, (), False, 1, 0)])
    assert splits.registered(5, 1) == 99
    assert splits.registered(5, 0) is None
    assert list(splits.splits(5)) == [(KEY, 1, "a", Place(*STATE))]
    splits.drop(5)
    splits.drop(5)
    assert not splits.keys_of(5)
    assert splits.registered(5, 1) is None
    assert list(splits.states) == [split_key(6, 0, "b")]


def test_keys_are_looked_at_piece_by_piece_while_others_come() -> None:
    splits = SlotSplits()
    splits.put([KEY], [STATE])
    keys = splits.keys_of(5)
    splits.put([split_key(5, 1, "b"), KEY], [STATE, (8, (2, 2, 3), True, 100, 5)])
    assert splits.keys_of(5) is keys
    assert list(keys) == [KEY, split_key(5, 1, "b")]
    assert splits.states[KEY] == (8, (2, 2, 3), True, 100, 5)


def test_good_keys_and_states_pass() -> None:
    keys = [KEY, registration_key(7, 0), split_key(0, 0, "")]
    assert check(keys, [STATE, (99, (), False, 1, 0), [*STATE]], SOURCES, TARGETS, SLOTS) == [5, 7, 0]


@pytest.mark.parametrize(
    "key",
    ["a", 5, None, b"", b"\0\0\0", split_key(8, 1, "a"), split_key(5, 2, "a"), b"\0\5\0\1\xfe", KEY + b"a" * 1024],
)
def test_a_bad_key_is_refused(key: Any) -> None:
    with pytest.raises(Malformed):
        check([key], [STATE], SOURCES, TARGETS, SLOTS)


@pytest.mark.parametrize(
    "state",
    [
        None,
        (),
        (7, (1, 2, 3), False, 100),
        (7, (1, 2), False, 100, 4),
        (7, [1, 2, 3], False, 100, 4),
        (-1, (1, 2, 3), False, 100, 4),
        (7, (1, 2, 1 << 63), False, 100, 4),
        (7, (1, 2, True), False, 100, 4),
        (7, (1, 2, 3), 0, 100, 4),
        (7, (1, 2, 3), False, 1.0, 4),
    ],
)
def test_a_bad_state_is_refused(state: Any) -> None:
    with pytest.raises(Malformed):
        check([KEY], [state], SOURCES, TARGETS, SLOTS)


def test_a_registration_has_no_counters_and_a_split_has_a_state() -> None:
    with pytest.raises(Malformed):
        check([registration_key(5, 1)], [STATE], SOURCES, TARGETS, SLOTS)
    with pytest.raises(Malformed):
        check([KEY], [], SOURCES, TARGETS, SLOTS)
