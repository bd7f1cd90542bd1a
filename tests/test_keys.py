from __future__ import annotations

import enum
import json
from collections import Counter
from typing import Any

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.keys import (
    HASHES,
    BadKey,
    Key,
    encode_key,
    hash_key,
    interval_of_slot,
    key_from_json,
    key_to_json,
    parse_key,
    slot_of_hash,
    slot_of_key,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.one_of(texts, st.integers(), st.binary())
seeds = st.integers(0, HASHES - 1)
sizes = st.integers(0, 16).map(lambda power: 1 << power)


class Text(str):
    pass


class Colour(enum.IntEnum):
    RED = 1


LONE_SURROGATES = ["\ud800", "a\udfffb", json.loads(r'"\ud83d"')]
NOT_KEYS = [True, False, 1.0, float("nan"), None, Text("x"), Colour.RED, bytearray(b"x"), ("x",), [], {}, object()]


@given(keys, seeds)
def test_hash_is_mmh3_of_the_encoded_bytes(key: Key, seed: int) -> None:
    expected = {str: lambda: key.encode(), bytes: lambda: key, int: lambda: str(key).encode()}[type(key)]()  # type: ignore[union-attr]
    assert encode_key(key) == expected
    assert hash_key(key, seed) == mmh3.hash(expected, seed, False)
    assert 0 <= hash_key(key, seed) < HASHES


def test_hash_is_the_one_that_scripts_expect() -> None:
    assert hash_key("hello", 0) == 613153351  # the published test vector of MurmurHash3 x86 32
    assert slot_of_key("hello", 0, 1024) == 613153351 * 1024 >> 32 == 146


@pytest.mark.parametrize("key", LONE_SURROGATES)
def test_lone_surrogates_are_refused_and_not_hashed(key: str) -> None:
    for refuse in (encode_key, lambda each: hash_key(each, 0), key_from_json, parse_key):
        with pytest.raises(BadKey, match="lone surrogate"):
            refuse(key)


@pytest.mark.parametrize("key", NOT_KEYS, ids=lambda key: type(key).__name__)
def test_other_types_and_subclasses_are_refused(key: Any) -> None:
    with pytest.raises(BadKey, match=f"is of type .*{type(key).__name__}; a key is a str, an int or bytes"):
        encode_key(key)


def test_refusals_show_the_key_but_not_all_of_it() -> None:
    with pytest.raises(BadKey) as refused:
        encode_key(["x"] * 10_000)
    assert "['x', 'x'" in str(refused.value)
    assert len(str(refused.value)) < 200


def test_refusing_what_has_no_repr_is_still_a_bad_key() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(BadKey, match="Broken"):
        encode_key(Broken())


@pytest.mark.parametrize("digits", [1, 18, 19, 20, 1233, 1234, 4299, 4300, 4301, 20_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_of_any_size_are_decimal(digits: int, sign: int) -> None:
    number = sign * (10**digits - 10 ** (digits // 2) - 7 if digits > 2 else 10**digits)
    text = encode_key(number).decode()
    assert text.lstrip("-").isdigit()
    assert parse_key(text, "int") == number
    assert len(text.lstrip("-")) in (digits, digits + 1)


def test_equal_hashes_are_not_equal_keys() -> None:
    same: list[Key] = ["1", 1, b"1"]
    assert len({hash_key(key, 7) for key in same}) == 1
    assert len(dict.fromkeys(same)) == 3
    assert [key_from_json(json.loads(json.dumps(key_to_json(key)))) for key in same] == same


# -- slots ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, HASHES - 1), sizes)
def test_a_hash_lies_in_the_interval_of_its_slot(hashed: int, slots: int) -> None:
    slot = slot_of_hash(hashed, slots)
    low, high = interval_of_slot(slot, slots)
    assert 0 <= slot < slots
    assert low <= hashed < high


@given(sizes, st.data())
def test_an_interval_is_exactly_the_hashes_of_its_slot(slots: int, data: st.DataObject) -> None:
    slot = data.draw(st.integers(0, slots - 1))
    low, high = interval_of_slot(slot, slots)
    assert slot_of_hash(low, slots) == slot_of_hash(high - 1, slots) == slot
    assert low == 0 or slot_of_hash(low - 1, slots) == slot - 1
    assert high == HASHES or slot_of_hash(high, slots) == slot + 1
    assert high - low == HASHES // slots


def test_the_last_interval_ends_at_the_end() -> None:
    assert interval_of_slot(0, 1024)[0] == 0
    assert interval_of_slot(1023, 1024)[1] == 4294967296


@given(keys, seeds, sizes)
def test_slot_of_key_is_slot_of_its_hash(key: Key, seed: int, slots: int) -> None:
    assert slot_of_key(key, seed, slots) == slot_of_hash(hash_key(key, seed), slots)


def test_slots_are_used_evenly() -> None:
    counts = Counter(slot_of_key(f"key-{number}", 0, 64) for number in range(64 * 200))
    assert len(counts) == 64
    assert all(120 < count < 280 for count in counts.values())


# -- JSON and text ----------------------------------------------------------------------------------------------------


@given(keys)
def test_keys_come_back_from_json_with_their_type(key: Key) -> None:
    back = key_from_json(json.loads(json.dumps(key_to_json(key))))
    assert (type(back), back) == (type(key), key)


@given(keys)
def test_keys_come_back_from_text_with_their_type(key: Key) -> None:
    form = key_to_json(key)
    text = form["bytes"] if isinstance(form, dict) else str(form)
    assert parse_key(text, type(key).__name__) == key


def test_the_forms_are_those_of_the_contract() -> None:
    assert [key_to_json(key) for key in ("x", 1, b"\xff\xfe!")] == ["x", 1, {"bytes": "__4h"}]
    assert parse_key("x") == "x"
    assert parse_key("-7", "int") == -7
    assert parse_key("__4h", "bytes") == b"\xff\xfe!"


@pytest.mark.parametrize(
    "value",
    [1.0, True, None, [], {}, {"bytes": 1}, {"bytes": "YQ=="}, {"bytes": "YR"}, {"bytes": "+/+/"}, {"bytes": "a"},
     {"bytes": "YQ", "more": 1}, {"bytes": "\ud800"}, b"x"],
)  # fmt: skip
def test_what_is_no_key_in_json_is_refused(value: object) -> None:
    with pytest.raises(BadKey):
        key_from_json(value)


@pytest.mark.parametrize(
    ("text", "key_type"),
    [("", "int"), ("1.0", "int"), ("1_000", "int"), (" 1", "int"), ("1\n", "int"), ("+1", "int"), ("--1", "int"),
     ("٣", "int"), ("YQ==", "bytes"), ("a", "bytes"), ("Y Q", "bytes"), ("é", "bytes"), ("x", "float")],
)  # fmt: skip
def test_what_a_person_mistyped_is_refused(text: str, key_type: str) -> None:
    with pytest.raises(BadKey):
        parse_key(text, key_type)


@given(st.text(), st.sampled_from(["str", "int", "bytes"]))
def test_any_text_is_a_key_or_a_bad_key(text: str, key_type: str) -> None:
    try:
        key = parse_key(text, key_type)
    except BadKey:
        return
    assert type(key).__name__ == key_type
