"""Pieces of a slot and the packs in between are all that the slot is, however it changes meanwhile."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.filling import Fill, OwnerSnapshot
from mesh.core.marks import Marks
from mesh.core.owner import Owner
from tests.committing_kit import PLAN
from tests.packs_kit import ME, SEED, SLOTS, keys_of_slot, things

KEYS = keys_of_slot(3, 40)
OTHERS = keys_of_slot(4, 40)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 39), max_size=60), st.lists(st.integers(0, 39), max_size=60), st.integers(1, 9))
def test_pieces_have_every_key_that_no_later_pack_has(before: list[int], during: list[int], at_once: int) -> None:
    owner = Owner([PLAN], SLOTS, SEED)
    snapshot = OwnerSnapshot(ME, owner, Marks(1, SLOTS), [0])
    owner.apply(0, [KEYS[n] for n in before] + OTHERS, before + [0] * len(OTHERS))
    fill = Fill(3, 1, ME, at_once=at_once)
    copy: dict[Any, Any] = {}
    later = iter(during)
    while not snapshot.ready():
        pass
    while (piece := snapshot.piece(fill)) is not None:
        assert len(piece.keys) <= at_once
        assert {*piece.slots} == {3}
        copy.update(zip(piece.keys, piece.states, strict=True))
        for n in later:
            owner.apply(0, [KEYS[n]], [n])
            copy[KEYS[n]] = owner.stages[0].states[KEYS[n]]  # as a pack would tell
            break
    for n in later:
        owner.apply(0, [KEYS[n]], [n])
        copy[KEYS[n]] = owner.stages[0].states[KEYS[n]]
    assert copy == {key: state for key, state in owner.stages[0].states.items() if key not in OTHERS}


def test_the_marks_of_the_slot_and_no_other_go_along() -> None:
    marks = Marks(1, SLOTS)
    marks.stages[0].raise_split((0, "x"), [3, 4], [7, 8])
    marks.stages[0].raise_stage(1, [5, 6], [3, 4], [9, 10])
    (pack,) = OwnerSnapshot(ME, Owner([PLAN], SLOTS, SEED), marks, [11]).marks([3])
    assert things(pack) == [("split", 3, "(0, 'x')", 7), ("stage", 3, "1 5", 9)]
    assert pack.next_output == 11


def test_a_state_that_is_gone_when_its_turn_comes_is_left_out() -> None:
    owner = Owner([PLAN], SLOTS, SEED)
    snapshot = OwnerSnapshot(ME, owner, Marks(1, SLOTS), [0])
    owner.apply(0, KEYS[:3], [1, 2, 3])
    assert snapshot.ready()
    del owner.stages[0].states[KEYS[1]]
    piece = snapshot.piece(Fill(3, 1, ME))
    assert piece is not None
    assert piece.keys == [KEYS[0], KEYS[2]]
