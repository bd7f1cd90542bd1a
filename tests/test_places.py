"""The order in which keys are listed, and how a place in it is written down."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.keys import Key
from mesh.core.places import (
    BEGINNING,
    LARGEST,
    START,
    BadPosition,
    from_text,
    place_from,
    place_of,
    size_of,
    to_text,
)

characters = st.characters(codec="utf-8")
short: st.SearchStrategy[Key] = st.text(characters, max_size=5) | st.integers() | st.binary(max_size=5)
long: st.SearchStrategy[Key] = st.one_of(
    st.builds(lambda end: "x" * BEGINNING + end, st.text(characters, max_size=2)),
    st.builds(lambda end: b"\xff" * BEGINNING + end, st.binary(max_size=2)),
    st.builds(lambda sign, more: sign * (LARGEST + more), st.sampled_from([1, -1]), st.integers(-2, 2)),
)
keys = short | long
SLOTS = 64


@given(st.lists(keys, max_size=20))
def test_every_key_has_a_place_of_its_own(some: list[Key]) -> None:
    assert len({place_of(key) for key in some}) == len({(type(key), key) for key in some})


@given(st.lists(st.text(characters, max_size=4)), st.lists(st.integers()), st.lists(st.binary(max_size=4)))
def test_the_order_is_by_type_and_then_by_value(texts: list[str], numbers: list[int], data: list[bytes]) -> None:
    mixed: list[Key] = [*data, *numbers, *texts]
    assert sorted(mixed, key=place_of) == [*sorted(texts), *sorted(numbers), *sorted(data)]


def test_long_keys_stand_where_they_begin() -> None:
    ordered = ["x" * (BEGINNING - 1), "x" * BEGINNING, "x" * BEGINNING + "b", "y", -LARGEST - 7, 0, LARGEST + 7, b""]
    assert sorted(ordered, key=place_of) == ordered


@given(st.integers(0, SLOTS - 1), keys)
def test_a_position_comes_back_as_it_was_written_in_a_short_text_for_an_address(slot: int, key: Key) -> None:
    position = slot, place_of(key)
    text = to_text(position)
    assert from_text(text, SLOTS) == position
    assert from_text(to_text((slot, ())), SLOTS) == (slot, ())
    assert len(text) < 3000
    assert all(character.isalnum() or character in "-_" for character in text)


def test_a_megabyte_does_not_make_a_long_text() -> None:
    keys: list[Key] = ["x" * 1_000_000, b"x" * 1_000_000, 1 << 8_000_000, -(1 << 8_000_000)]
    for key in keys:
        text = to_text((3, place_of(key)))
        assert len(text) < 1000
        assert from_text(text, SLOTS) == (3, place_of(key))


@given(keys)
def test_the_size_of_a_key_is_not_less_than_its_bytes(key: Key) -> None:
    data = key if isinstance(key, bytes) else str(key).encode()
    assert size_of(key) >= len(data)


def written(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "abc",
        "AA",
        to_text(START) + "=",
        written(7),
        written([]),
        written(["1"]),
        written([True]),
        written([-1]),
        written([SLOTS]),
        written([1.0]),
        written([0, "a"]),
        written([0, "a", "", ""]),
        written([0, "a", "00" * 16]),
        written([0, "x" * BEGINNING, "00"]),
        written([0, "x" * (BEGINNING + 1), ""]),
        written([0, LARGEST, ""]),
        written([0, "a", "zz"]),
        written([0, None, ""]),
        written([0, 1.5, ""]),
        written([0, True, ""]),
        written([0, "\ud800", ""]),
        written([0, {"bytes": "A"}, ""]),
        base64.urlsafe_b64encode(b'[0, 1,""]').decode().rstrip("="),
        base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("="),
        base64.urlsafe_b64encode(b"[" + b"9" * 5000 + b"]").decode().rstrip("="),
    ],
)
def test_what_no_page_ended_with_is_refused(text: str) -> None:
    with pytest.raises(BadPosition, match="that is not where a page of keys ended"):
        from_text(text, SLOTS)


@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda data: written(data.decode("latin-1"))))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        slot, _ = from_text(text, SLOTS)
    except BadPosition:
        return
    assert 0 <= slot < SLOTS


@given(st.one_of(keys, st.none(), st.floats(), st.lists(st.integers())), st.none() | st.binary(max_size=17))
def test_what_a_peer_says_is_a_place_or_refused(beginning: object, digest: object) -> None:
    try:
        place = place_from(beginning, digest)
    except BadPosition:
        return
    assert place[1:] == (beginning, digest)
    assert place == place_of(beginning) or len(place[2]) == 16
