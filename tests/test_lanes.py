"""Held records keep their order and their epochs, and are in one place at a time."""

from __future__ import annotations

from typing import Any

from mesh.core import columns
from mesh.core.lanes import Records, StageLanes

A, B = b"a" * 16, b"b" * 16
SLOTS = 4


def lanes() -> StageLanes:
    """All slots go to A."""
    made = StageLanes(0, 1, SLOTS)
    for slot in range(SLOTS):
        made.to[slot] = made.lane(A).appenders
    return made


def put(made: StageLanes, epoch: int, *records: tuple[int, Any]) -> None:
    """(slot, value); the key is the value, so columns are shared as long as that is so."""
    slots, keys = [slot for slot, _ in records], [value for _, value in records]
    columns.scatter(keys, keys, slots, made.to, with_values=not made.same)
    made.entered(epoch, len(records))
    held = sum(slot in made.held for slot in slots)
    made.held_back += held
    made.buffered += len(records) - held


def in_lane(made: StageLanes, owner: bytes, epoch: int) -> list[tuple[int, int, Any]]:
    """(epoch, slot, key) of all parts, in the order in which they would leave."""
    lane = made.lane(owner)
    lane.close(epoch, made.same)
    return [(part.epoch, slot, key) for part in lane.parts for slot, key in zip(part.slots, part.keys, strict=True)]


def test_what_has_not_left_comes_back_and_the_rest_stays_in_order() -> None:
    made = lanes()
    put(made, 1, (0, "a"), (1, "b"), (0, "c"), (2, "d"))
    made.hold([0], 1)
    assert (made.buffered, made.held_back) == (2, 2)
    put(made, 1, (0, "e"), (1, "f"))
    assert in_lane(made, A, 1) == [(1, 1, "b"), (1, 2, "d"), (1, 1, "f")]
    made.release({0: B}, 1)
    assert in_lane(made, B, 1) == [(1, 0, "a"), (1, 0, "c"), (1, 0, "e")]
    assert (made.buffered, made.held_back, made.held) == (6, 0, {})


def test_refused_records_stand_before_those_that_were_held_meanwhile() -> None:
    made = lanes()
    made.hold([0], 1)
    put(made, 1, (0, "later"))
    made.take_back(0, Records(1, ["first"], ["first"], [0]))
    made.release({0: B}, 1)
    assert in_lane(made, B, 1) == [(1, 0, "first"), (1, 0, "later")]


def test_records_of_two_epochs_are_never_joined() -> None:
    made = lanes()
    put(made, 1, (0, "old"), (1, "old too"))
    made.close(1)
    put(made, 2, (0, "new"))
    made.hold([0], 2)
    made.release({0: B}, 2)
    lane = made.lane(B)
    assert [(part.epoch, part.keys) for part in lane.parts] == [(1, ["old"]), (2, ["new"])]


def test_slots_of_one_owner_are_released_together_oldest_epoch_first() -> None:
    made = lanes()
    put(made, 1, (0, "a1"), (1, "b1"))
    made.close(1)
    put(made, 2, (1, "b2"), (0, "a2"))
    made.hold([0, 1], 2)
    made.release({0: B, 1: B}, 2)
    assert in_lane(made, B, 2) == [(1, 0, "a1"), (1, 1, "b1"), (2, 0, "a2"), (2, 1, "b2")]


def test_a_value_that_is_not_its_key_gives_values_columns_of_their_own_also_to_what_is_held() -> None:
    made = lanes()
    made.hold([0], 1)
    put(made, 1, (0, "a"), (1, "b"))
    made.mix()
    columns.scatter(["c"], [33], [0], made.to, with_values=True)
    made.entered(1, 1)
    made.held_back += 1
    made.release({0: B}, 1)
    (part,) = made.lane(B).parts
    assert (part.keys, part.values) == (["a", "c"], ["a", 33])


def test_only_the_refused_slots_and_only_from_where_they_were_refused_come_back() -> None:
    records = Records(1, ["a", "b", "c", "d"], [1, 2, 3, 4], [0, 1, 0, 0])
    found, rest = records.by_slot({0: 2})
    assert (found[0].keys, found[0].values) == (["c", "d"], [3, 4])
    assert rest.keys == ["a", "b"]


def test_cut_records_keep_their_order_and_share_columns() -> None:
    keys = ["a", "b", "c"]
    parts = Records(1, keys, keys, [0, 1, 2]).cut(2)
    assert [part.keys for part in parts] == [["a", "b"], ["c"]]
    assert all(part.values is part.keys for part in parts)


def test_what_is_counted_by_its_epoch_is_forgotten_with_the_last_of_it() -> None:
    made = lanes()
    put(made, 1, (0, "a"), (0, "b"))
    made.over(1, 1)
    assert made.unanswered == {1: 1}
    made.over(1, 1)
    assert made.unanswered == {}
