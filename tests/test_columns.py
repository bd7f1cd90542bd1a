"""The loops over every record: nothing unhashable passes, everything is hashed as the contract says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core import columns
from mesh.core.keys import BadKey, encode_key, slot_of_key

good_keys = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.binary())
odd_keys = st.one_of(
    st.booleans(), st.none(), st.floats(), st.just("\ud800"), st.just("a\udfffb"), st.tuples(st.integers())
)


class Name(str):
    """Not exactly a str: it would not come back from the wire as itself."""


def is_good(key: object) -> bool:
    try:
        encode_key(key)
    except BadKey:
        return False
    return True


@given(st.lists(st.one_of(good_keys, odd_keys)))
def test_a_column_is_good_when_each_of_its_keys_is(keys: list[Any]) -> None:
    assert columns.all_keys_good(keys) == all(map(is_good, keys))
    assert list(columns.bad_keys(keys)) == [index for index, key in enumerate(keys) if not is_good(key)]


@pytest.mark.parametrize("key", [True, 1.0, None, Name("x"), "\ud800", ["x"]])
def test_one_bad_key_among_good_ones_is_found_and_told(key: object) -> None:
    keys = ["a", 1, b"b", key, "ü"]
    assert not columns.all_keys_good(keys)
    (index,) = columns.bad_keys(keys)
    assert index == 3
    assert "the key" in str(columns.bad_keys(keys)[3])


@pytest.mark.parametrize("slots", [1, 2, 16, 1024, 65536])
@given(keys=st.one_of(st.lists(good_keys), st.lists(st.text(st.characters(exclude_categories=["Cs"])))))
def test_a_slot_is_what_the_contract_says(slots: int, keys: list[Any]) -> None:
    shift = 33 - slots.bit_length()
    assert columns.slots_of(keys, 7, shift) == [slot_of_key(key, 7, slots) for key in keys]


def test_a_key_of_many_megabytes_and_one_of_many_digits_have_slots() -> None:
    keys = ["x" * 5_000_000, "ü" * 2_000_000, 10**6000, b"\0" * 5_000_000]
    assert columns.all_keys_good(keys)
    assert columns.slots_of(keys, 0, 22) == [slot_of_key(key, 0, 1024) for key in keys]


@given(st.lists(st.integers(0, 65535)))
def test_slots_travel_as_two_bytes_each_and_come_back(slots: list[int]) -> None:
    data = columns.slots_to_bytes(slots)
    assert data == b"".join(slot.to_bytes(2, "little") for slot in slots)
    assert list(columns.slots_from_bytes(data)) == slots


@pytest.mark.parametrize("with_values", [True, False])
@given(st.lists(st.tuples(st.integers(), st.integers(), st.integers(0, 7))))
def test_each_record_goes_to_its_slots_owner_in_order(with_values: bool, records: list[tuple[int, int, int]]) -> None:
    owners = 3
    buffers: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in range(owners)]
    appenders = [(keys.append, values.append, slots.append) for keys, values, slots in buffers]
    keys, values, slots = ([record[place] for record in records] for place in range(3))
    columns.scatter(keys, values, slots, [appenders[slot % owners] for slot in range(8)], with_values=with_values)
    for owner, (got_keys, got_values, got_slots) in enumerate(buffers):
        own = [record for record in records if record[2] % owners == owner]
        assert got_keys == [key for key, _, _ in own]
        assert got_values == ([value for _, value, _ in own] if with_values else [])
        assert got_slots == [slot for _, _, slot in own]


@pytest.mark.parametrize("value", [0, "x", None, 1.5, b"", True, (), (1, "x"), (1, (2, (3, (4,))))])
def test_what_nobody_can_change_is_plain(value: object) -> None:
    assert columns.is_plain(value)


@pytest.mark.parametrize("value", [[], {}, set(), ([],), (1, ((([],),),)), Name("x"), object(), bytearray()])
def test_what_somebody_could_change_is_not_plain(value: object) -> None:
    assert not columns.is_plain(value)


def test_a_tuple_of_any_depth_is_looked_at_in_vain_and_not_for_ever() -> None:
    nested: Any = ()
    for _ in range(100_000):
        nested = (nested,)
    assert not columns.is_plain(nested)
    while nested:  # or freeing it would recurse
        (nested,) = nested


@pytest.mark.parametrize("loop", [columns.fold_out, columns.stateful])
def test_a_loop_stops_before_it_stores_a_state_that_can_be_changed(loop: Callable[..., Any]) -> None:
    def step(state: Any, value: int) -> Any:
        after = [value] if value == 3 else value
        return after if loop is columns.fold_out else (after, after)

    states: dict[str, Any] = {}
    out_keys: list[str] = []
    outs: list[Any] = []
    keys, values = iter("abcd"), iter([1, 2, 3, 4])
    assert loop(states, keys, values, int, step, out_keys, outs) == ([3], [3])
    assert (states, out_keys, outs) == ({"a": 1, "b": 2}, ["a", "b"], [1, 2])
    assert list(keys) == ["d"]
    assert list(values) == [4]


def test_the_loop_without_outputs_stops_there_too() -> None:
    states: dict[str, Any] = {}
    step = lambda state, value: [value] if value == 3 else state + value  # noqa: E731
    assert columns.fold(states, iter("aaaa"), iter([1, 2, 3, 4]), int, step) == ([3], [3])
    assert states == {"a": 3}


def test_a_generator_of_outputs_is_drawn_within_the_step() -> None:
    def step(state: int, value: int) -> tuple[int, Any]:
        return state + value, (value for _ in range(2))

    outs: list[Any] = []
    assert columns.stateful({}, iter("ab"), iter([1, 2]), int, step, [], outs) is None
    assert outs == [[1, 1], [2, 2]]


@pytest.mark.parametrize("slots", [1, 2, 128, 256, 512, 1024, 65536])
def test_a_slot_that_there_is_not_is_seen_among_many(slots: int) -> None:
    for slot in (0, slots - 1, slots, slots + 1, 2 * slots, 255, 256, 65535):
        if slot < 65536:
            column = columns.slots_to_bytes([0, slots - 1, slot])
            assert columns.are_slots(column, slots) == (slot < slots), slot
