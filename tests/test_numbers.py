"""A record keeps its stream and number wherever it goes; what is no numbering is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.codec import MAX_INT, Malformed
from mesh.core.messages.work import NumberedRun
from mesh.core.numbers import Numbers, Producer, checked

SOURCES, STAGES, SLOTS = 2, 2, 8
producers = st.tuples(st.just(False), st.integers(0, 1), st.sampled_from("xy")) | st.tuples(
    st.just(True), st.integers(0, 1), st.just("")
)
numbers = st.integers(0, 50) | st.sampled_from([(1 << 32) - 1, 1 << 32, 1 << 40, MAX_INT])
records = st.lists(st.tuples(producers, st.integers(0, SLOTS - 1), numbers), max_size=12)
Record = tuple[Producer, int, int]


def numbered(some: list[Record]) -> Numbers:
    made = Numbers()
    for producer, origin, number in some:
        made.begin(producer)
        made.numbers.append(number)
        made.origins.append(origin if producer[0] else 0)
    return made


def plain(made: Numbers) -> list[Record]:
    return [
        (producer, made.origins[index], made.numbers[index])
        for producer, start, end in made.runs()
        for index in range(start, end)
    ]


def flat(some: list[Record]) -> list[Record]:
    return [(producer, origin if producer[0] else 0, number) for producer, origin, number in some]


@settings(max_examples=80)
@given(records)
def test_numbers_come_back_from_the_wire_as_they_were(some: list[Record]) -> None:
    runs = numbered(some).to_runs()
    back = checked(runs, len(some), SOURCES, STAGES, SLOTS)
    assert plain(back) == flat(some)
    assert back == numbered(some)


@settings(max_examples=80)
@given(records, st.data())
def test_numbers_go_with_their_records(some: list[Record], data: st.DataObject) -> None:
    made, kept = numbered(some), flat(some)
    start, end = sorted((data.draw(st.integers(0, len(some))), data.draw(st.integers(0, len(some)))))
    assert plain(made.part(start, end)) == kept[start:end]
    indexes = data.draw(st.permutations(range(len(some)))) if some else []
    chosen = indexes[:end]
    assert plain(made.chosen(chosen)) == [kept[index] for index in chosen]
    joined = made.part(0, start)
    joined.extend(made.part(start, len(some)))
    assert joined == made


GOOD = NumberedRun(True, 1, "", b"\1\0\2\0", 5, b"\1\0\0\0\2\0\0\0")
BAD: list[dict[str, Any]] = [
    {"producer": 2},
    {"of_stage": False, "split": "x"},
    {"of_stage": False, "origins": b"", "producer": 2},
    {"split": "x"},
    {"origins": b"\1"},
    {"origins": b"\1\0"},
    {"origins": b"\1\0\10\0"},
    {"numbers": b"\1\0\0"},
    {"numbers": b"", "origins": b""},
    {"base": MAX_INT},
    {"numbers": b"\1\0\0\0", "origins": b"\1\0"},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_no_numbering_is_refused(bad: dict[str, Any]) -> None:
    assert plain(checked([GOOD], 2, SOURCES, STAGES, SLOTS)) == [((True, 1, ""), 1, 6), ((True, 1, ""), 2, 7)]
    with pytest.raises(Malformed):
        checked([dataclasses.replace(GOOD, **bad)], 2, SOURCES, STAGES, SLOTS)
