"""What producers sent is known while its slot is here, moves with it, and is forgotten within bounds, oldest first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import windows
from mesh.core.codec import Malformed
from mesh.core.windows import CONFLICT, INDEX_BITS, KNOWN, NEW, TOO_FAR, TOO_OLD, UNKNOWN, Windows

takes = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["p", "q"]), st.integers(0, 40), st.integers(0, 2)))


def small(patch: pytest.MonkeyPatch, **limits: int) -> None:
    for name, value in limits.items():
        patch.setattr(windows, name, value)


def moved(source: Windows, slot: int, target: Windows) -> None:
    keys = list(source.keys_of(slot))
    states = [source.states[key] for key in keys]
    target.check(slot, keys, states)
    target.put(keys, states)
    source.drop(slot)


@given(records=takes, move_at=st.integers(0, 20))
def test_a_record_is_new_once_whoever_has_its_slot(records: list[tuple[int, str, int, int]], move_at: int) -> None:
    here, there = Windows(), Windows()
    known: dict[tuple[int, str, int], int] = {}
    for number, (slot, producer, record, digest) in enumerate(records):
        if number == move_at:
            for each in (0, 1):
                moved(here, each, there)
            assert not here.slots_here()
            here = there
        verdict = here.take(slot, 0, producer, record, digest)
        before = known.setdefault((slot, producer, record), digest)
        first = sum((slot, producer, record) == each[:3] for each in records[: number + 1]) == 1
        assert verdict == (NEW if first else KNOWN if before == digest else CONFLICT)


@settings(max_examples=50)
@given(records=st.lists(st.integers(0, 60), max_size=80))
def test_what_is_forgotten_is_too_old_and_never_new_again(records: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small(patch, WINDOW=8)
        here, seen = Windows(), set()
        for record in records:
            verdict = here.take(3, 0, "p", record, 0)
            assert verdict == NEW if record not in seen and verdict != TOO_OLD else verdict in (KNOWN, TOO_OLD)
            if record in sorted(seen)[-8:]:
                assert verdict == KNOWN
            if verdict == NEW:
                seen.add(record)
        assert here.marks <= 10


def test_windows_are_forgotten_the_least_recently_used_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, WINDOWS=2)
    here = Windows()
    for producer in ("p", "q", "p", "r"):
        here.take(0, 0, producer, 5, 0)
    assert [here.take(0, 0, producer, 5, 0) for producer in ("p", "r")] == [KNOWN, KNOWN]
    assert here.take(0, 0, "q", 5, 0) == NEW


def test_all_marks_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, MARKS=100)
    here = Windows()
    for producer in range(30):
        for record in range(10):
            here.take(producer, 0, str(producer), record, 0)
            assert here.marks <= 100
    assert here.take(29, 0, "29", 9, 0) == KNOWN
    assert here.take(0, 0, "0", 9, 0) == NEW


def test_windows_of_a_slot_that_is_given_away_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, WINDOWS=2)
    here, there = Windows(), Windows()
    here.take(7, 0, "p", 1, 9)
    keys = here.keys_of(7)
    for producer in ("q", "r", "s"):
        here.take(0, 0, producer, 1, 0)
    assert here.keys_of(7) == keys
    moved(here, 7, there)
    assert there.take(7, 0, "p", 1, 9) == KNOWN


def test_a_window_travels_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, PART=4)
    here, there = Windows(), Windows()
    for record in range(10):
        here.take(0, 2, "a name", record, record)
    assert len(here.keys_of(0)) == 3
    moved(here, 0, there)
    assert here.marks == 0
    assert there.marks == 10
    assert [there.take(0, 2, "a name", record, record) for record in range(11)] == [KNOWN] * 10 + [NEW]


def test_lines_are_claimed_all_or_none() -> None:
    here = Windows()
    assert here.claim(0, 1, "p", 0, [1, 2, 3]) == (NEW, 0)
    assert here.claim(0, 1, "p", 2, [3, 4]) == (NEW, 0)
    assert here.claim(0, 1, "p", 3, [5, 6]) == (CONFLICT, 3)
    assert here.claim(0, 1, "p", 4, [7]) == (NEW, 0)
    assert here.take(0, 1, "p", 4 << INDEX_BITS, 7) == KNOWN


def test_who_is_not_known_begins_at_nought_and_nobody_leaps(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, WINDOW=8, WINDOWS=2)
    here = Windows()
    assert here.registered(0, 1, "p", 3) == (UNKNOWN, 3)
    assert here.registered(0, 1, "p", 0) == (NEW, 0)
    assert not here.slots_here()
    here.claim(0, 1, "p", 0, [1, 2])
    assert here.registered(0, 1, "p", 10) == (TOO_FAR, 10)
    assert here.registered(0, 1, "p", 9) == (NEW, 9)
    here.claim(0, 1, "p", 9, [1])
    assert here.registered(0, 1, "p", 2) == (NEW, 2), "what it has overtaken may come"
    for producer in ("q", "r"):
        here.claim(0, 1, producer, 0, [1])
    assert here.registered(0, 1, "p", 9) == (UNKNOWN, 9), "forgotten: nobody knows whether that has been applied"


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("0 0 0", [0, b"", b""]),
        ("1 0 0 p", [0, b"", b""]),
        ("0 x 0 p", [0, b"", b""]),
        (b"0 0 0 p", [0, b"", b""]),
        ("0 0 0 p", [-1, b"", b""]),
        ("0 0 0 p", [1 << 64, b"", b""]),
        ("0 0 0 p", [0.5, b"", b""]),
        ("0 0 0 p", [0, bytes(8), [0] * 8]),
        ("0 0 0 p", [0, bytes(8), "12345678"]),
        ("0 0 0 p", [0, b"12345678", b""]),
        ("0 0 0 p", [0, b"1234", b"1234"]),
        ("0 0 0 p", [0, b"\x02" + bytes(15), bytes(16)]),
        ("0 0 0 p", [0, bytes(8 * 5000), bytes(8 * 5000)]),
        ("0 0 0 p", None),
    ],
)
def test_what_is_no_part_of_a_window_is_malformed(key: Any, state: Any) -> None:
    here = Windows()
    with pytest.raises(Malformed):
        here.check(0, [key], [state])
    assert not here.slots_here()


def test_a_producer_that_was_forgotten_stays_registered_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOWS", 4)
    here = Windows(claims=2)
    here.cut = {}
    assert here.claim(0, 2, "p", 0, [7, 8, 9]) == ("", 0)
    for slot in range(1, 9):
        here.take(slot, 0, "p", 1, 7)
    assert here.marks == 1 + 4
    assert next(iter(here.cut)) == (0, 2, "p")
    assert here.registered(0, 2, "p", 3)[0] == ""
    assert here.claim(0, 2, "p", 2, [10])[0] == "conflict"
    assert here.claim(0, 2, "p", 2, [9, 10]) == ("", 0)
    assert here.claim(0, 2, "p", 1, [8]) == ("too-old", 1), "its records may be forgotten, and would be applied again"
    assert here.names_of(0) == [(2, "p")]
    there = Windows(claims=2)
    there.put(keys := here.keys_of(0), [here.states[key] for key in keys])
    assert there.registered(0, 2, "p", 3)[0] == ""
    here.drop(0)
    assert here.registered(0, 2, "p", 3)[0] == "unknown-producer"


def test_registrations_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOWS", 2)
    monkeypatch.setattr(windows, "REGISTERED", 3)
    here = Windows(claims=1)
    for number in range(8):
        here.claim(0, 1, f"p{number}", 0, [1])
    assert [here.registered(0, 1, f"p{number}", 1)[0] for number in range(8)] == ["unknown-producer"] * 3 + [""] * 5
    assert here.marks == 5
