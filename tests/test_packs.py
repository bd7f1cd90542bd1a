"""A pack says the same however it is restricted, cut and sent; what is none is refused, and what cannot travel told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.codec import Malformed, decode_with_values
from mesh.core.columns import slots_to_bytes
from mesh.core.messages.states import OutputColumns, PackPart, SplitMarks, StageMarks, WindowMarks
from mesh.core.numbers import Numbers
from mesh.core.packs import Outputs, Pack, encoded
from mesh.core.slot_splits import split_key
from mesh.core.windows import numbers_to_bytes
from tests.packs_kit import ME, SHAPE, keys_of_slot, packs, slots, slots_of, things


def parts_of(payloads: list[bytes]) -> list[PackPart]:
    parts = [decode_with_values(payload) for payload in payloads]
    assert all(isinstance(part, PackPart) for part in parts)
    return parts  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(packs(), st.sampled_from([40, 120, 1 << 20]))
def test_whatever_its_parts_a_pack_arrives_as_it_was(pack: Pack, most_bytes: int) -> None:
    sent = encoded(pack, 5, 3, most_bytes)
    parts = parts_of(sent.payloads)
    assert not sent.left_out
    assert [part.number for part in parts] == list(range(5, 5 + len(parts)))
    assert {(part.epoch, part.maker, part.pack, part.stage) for part in parts} == {(3, ME, 1, pack.stage)}
    assert things(*map(SHAPE.checked, parts)) == things(pack)


@settings(max_examples=60, deadline=None)
@given(packs(), st.sampled_from([40, 120]))
def test_parts_that_count_one_by_one_have_no_slot_in_common(pack: Pack, most_bytes: int) -> None:
    groups: list[frozenset[int]] = [frozenset()]
    for part in parts_of(encoded(pack, 1, 1, most_bytes).payloads):
        groups[-1] |= SHAPE.checked(part).touched()
        if not part.more:
            groups.append(frozenset())
    assert not groups.pop()  # the last part leaves nothing open
    assert sum(map(len, groups)) == len(frozenset().union(*groups))  # hence a slot is in one group only


@settings(max_examples=60, deadline=None)
@given(packs(), st.frozensets(slots))
def test_restricted_to_some_slots_a_pack_has_these_and_the_rest_has_the_others(
    pack: Pack, wanted: frozenset[int]
) -> None:
    small, rest = pack.restricted(wanted), pack.restricted(pack.touched() - wanted)
    assert small.touched() == pack.touched() & wanted
    assert things(small, rest) == things(pack)
    assert small.empty() == (not small.touched())


def test_a_part_is_as_large_as_it_may_be_or_one_thing() -> None:
    keys = keys_of_slot(3, 40)
    pack = Pack(ME, 0, 0, slots_of(keys), keys, ["x" * 50] * 39 + ["y" * 5000])
    payloads = encoded(pack, 1, 1, 1000).payloads
    parts = parts_of(payloads)
    assert all(len(payload) <= 1000 or len(part.keys) == 1 for payload, part in zip(payloads, parts, strict=True))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) < 10


def test_what_cannot_travel_is_named_and_the_rest_goes() -> None:
    class Unheard:
        pass

    keys = [*keys_of_slot(1, 2), *keys_of_slot(2, 2)]
    outputs = [Outputs(2, [1, 2], [7, 8], ["good", Unheard()], ["good", Unheard()])]
    pack = Pack(ME, 1, 0, slots_of(keys), keys, [1, Unheard(), 3, 4], [((0, "x"), [1, 2], [5, 6])], outputs=outputs)
    pack.outputs[0].values = pack.outputs[0].keys
    pack.next_output = 9
    sent = encoded(pack, 1, 1)
    arrived = things(*map(SHAPE.checked, parts_of(sent.payloads)))
    assert [(each.keys, [out.numbers for out in each.outputs]) for each, _ in sent.left_out] == [
        ([keys[1]], []),
        ([], [[8]]),
    ]
    assert len(arrived) == len(things(pack)) - 2
    assert [each for each in arrived if each[0] == "split"] == [
        ("split", 1, "(0, 'x')", 5),
        ("split", 2, "(0, 'x')", 6),
    ]


GOOD = Pack(ME, 1, 0, slots_of(["a"]), ["a"], [1], next_output=10).part(1, 1, more=False)
TOO_LARGE = numbers_to_bytes([1 << 63])
BAD: list[dict[str, Any]] = [
    {"stage": 4},
    {"stage": 2},
    {"stage": 3},
    {"windows": (WindowMarks(3, "p", slots_to_bytes([1]), numbers_to_bytes([1]), numbers_to_bytes([1])),)},
    {"windows": (WindowMarks(0, "p", slots_to_bytes([1]), numbers_to_bytes([1, 2]), numbers_to_bytes([1])),)},
    {"windows": (WindowMarks(0, "p" * 201, slots_to_bytes([1]), numbers_to_bytes([1]), numbers_to_bytes([1])),)},
    {"states": [1, 2]},
    {"keys": [1.5]},
    {"keys": ["\ud800"]},
    {"keys": ["a", "b"]},
    {"slots": slots_to_bytes([(slots_of(["a"])[0] + 1) % 8])},
    {"slots": b"x"},
    {"slots": slots_to_bytes([8])},
    {"splits": (SplitMarks(2, "x", slots_to_bytes([1]), numbers_to_bytes([1])),)},
    {"splits": (SplitMarks(0, "x", slots_to_bytes([1]), b""),)},
    {"splits": (SplitMarks(0, "x", slots_to_bytes([1]), TOO_LARGE),)},
    {"splits": (SplitMarks(0, "x", slots_to_bytes([1]), b"1234567"),)},
    {"stages": (StageMarks(2, slots_to_bytes([1]), slots_to_bytes([1]), numbers_to_bytes([1])),)},
    {"stages": (StageMarks(0, slots_to_bytes([1, 2]), slots_to_bytes([1]), numbers_to_bytes([1])),)},
    {"outputs": (OutputColumns(3, slots_to_bytes([1]), numbers_to_bytes([1]), ["a"], None),)},
    {"outputs": (OutputColumns(0, slots_to_bytes([1]), numbers_to_bytes([1]), [1.5], None),)},
    {"outputs": (OutputColumns(0, slots_to_bytes([1]), numbers_to_bytes([1]), ["a"], []),)},
    {"outputs": (OutputColumns(0, slots_to_bytes([1]), numbers_to_bytes([10]), ["a"], None),)},
    {"outputs": (OutputColumns(0, slots_to_bytes([1]), numbers_to_bytes([1]), ["a"], None),), "pack": 0},
]


SPLIT = split_key(3, 0, "x")
PLACE = (7, (0, 0, 0), False, 9, 5)
OTHERS = [
    Pack(ME, 0, 2, [3], ["3 0 0 p"], [[0, numbers_to_bytes([5]), numbers_to_bytes([6])]]),
    Pack(ME, 0, 3, [3], [SPLIT], [PLACE]),
]
NOT_OTHERS: list[dict[str, Any]] = [
    {"slots": slots_to_bytes([4])},
    {"slots": b""},
    {"states": []},
    {"states": [1]},
    {"keys": ["p"]},
    {"keys": [split_key(3, 2, "x")]},
    {"splits": (SplitMarks(0, "x", slots_to_bytes([1]), numbers_to_bytes([1])),)},
    {"stages": (StageMarks(0, slots_to_bytes([1]), slots_to_bytes([1]), numbers_to_bytes([1])),)},
    {"outputs": (OutputColumns(0, slots_to_bytes([1]), numbers_to_bytes([1]), ["a"], None),), "pack": 1},
]


@pytest.mark.parametrize("pack", OTHERS, ids=lambda pack: f"part {pack.stage}")
def test_what_else_a_slot_has_arrives_as_it_was(pack: Pack) -> None:
    (part,) = parts_of(encoded(pack, 1, 1).payloads)
    assert things(SHAPE.checked(part)) == things(pack)


@pytest.mark.parametrize("pack", OTHERS, ids=lambda pack: f"part {pack.stage}")
@pytest.mark.parametrize("bad", NOT_OTHERS, ids=str)
def test_what_is_nothing_that_a_slot_has_is_refused(pack: Pack, bad: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        SHAPE.checked(dataclasses.replace(pack.part(1, 1, more=False), **bad))


def test_the_last_record_of_each_stream_is_the_mark_of_a_slot() -> None:
    numbers = Numbers()
    numbers.begin((False, 1, "x"))
    numbers.numbers, numbers.origins = [4, 5, 6], [0, 0, 0]
    numbers.begin((True, 0, ""))
    numbers.numbers += [7, 8, 9]
    numbers.origins += [1, 2, 1]
    pack = Pack(ME, 1, 0)
    pack.mark([3, 4, 3, 3, 3, 3], numbers)
    assert (pack.splits, pack.stages) == ([((1, "x"), [3, 4], [6, 5])], [(0, [1, 2], [3, 3], [9, 8])])


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_no_pack_is_refused(bad: dict[str, Any]) -> None:
    assert things(SHAPE.checked(GOOD)) == [("state", slots_of(["a"])[0], "'a'", "1")]
    with pytest.raises(Malformed):
        SHAPE.checked(dataclasses.replace(GOOD, **bad))
