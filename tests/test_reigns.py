"""What may be applied on a node, and which slots it has, as tables come, or are leapt over."""

from __future__ import annotations

import pytest

from mesh.core.configuration import Configuration, changed_between
from mesh.core.events.planes import TableAgreed
from mesh.core.reigns import Reigns, Turns
from mesh.core.slot import LOST, PENDING
from tests.committing_kit import agreed
from tests.packs_kit import ME, B, C

WORKERS = (ME, B, C)
MINE = Configuration(1, 1, ME, (B,))
OTHERS = Configuration(1, 1, B, (ME,))


class Slot:
    """Slot 0 of two, of which the other is always mine."""

    def __init__(self, first: Configuration, epoch: int = 1) -> None:
        self.reigns = Reigns(ME)
        self.table: TableAgreed | None = None
        self.becomes(epoch, first)

    def becomes(self, epoch: int, now: Configuration) -> Turns:
        table = agreed(epoch, {0: now, 1: MINE}, WORKERS)
        changed = changed_between(self.table, table)
        self.table = table
        return self.reigns.set_table(table, changed)

    def refuses(self, epoch: int) -> bool:
        return self.reigns.refused(epoch, lambda: {0}) == [0]


def test_what_was_packed_for_this_owner_is_taken_and_nothing_that_was_packed_before_it_became_it() -> None:
    slot = Slot(OTHERS)
    assert slot.refuses(0)
    slot.becomes(4, Configuration(2, 2, ME, (B,), PENDING, ME))
    assert 0 not in slot.reigns.here
    assert slot.becomes(6, Configuration(2, 2, ME)).take == [0]
    assert [slot.refuses(epoch) for epoch in (3, 4, 5, 6)] == [True, True, False, False]


def test_a_change_of_copies_refuses_nothing() -> None:
    slot = Slot(MINE)
    slot.becomes(5, Configuration(2, 1, ME, (), joining=C))
    slot.becomes(6, Configuration(3, 1, ME, (C,)))
    assert (slot.refuses(1), slot.reigns.settled) == (False, 1)


def test_whoever_was_sealed_refuses_what_was_packed_before_it_went_on() -> None:
    slot = Slot(MINE)
    slot.becomes(2, Configuration(2, 1, B, (ME,), PENDING, ME))
    assert slot.refuses(1)
    assert 0 in slot.reigns.here
    slot.becomes(3, Configuration(3, 3, ME, (B,)))
    assert [slot.refuses(epoch) for epoch in (1, 2, 3)] == [True, True, False]


def test_a_pause_that_was_leapt_over_is_none() -> None:
    """It has refused nothing, and takes what was sent in order: if it left out a part, what follows would be known."""
    slot = Slot(MINE)
    slot.becomes(4, Configuration(3, 3, ME, (B,)))
    assert not slot.refuses(1)


def test_a_reign_that_was_leapt_over_takes_nothing() -> None:
    slot = Slot(Configuration(1, 1, B, (ME,)))
    slot.becomes(2, Configuration(2, 2, ME, (B,), PENDING, ME))
    slot.becomes(4, Configuration(3, 3, B, (ME,), PENDING, B))  # it was active here in epoch 3
    assert slot.refuses(3)


@pytest.mark.parametrize("copy", [True, False])
def test_what_another_has_is_here_no_more(copy: bool) -> None:
    slot = Slot(MINE)
    turns = slot.becomes(2, Configuration(2, 2, B, (ME,) if copy else (), PENDING, B))
    assert turns == Turns(leave=[0])
    assert (slot.reigns.here, slot.reigns.active) == ({1: None}, {1: 1})


def test_what_is_lost_is_kept_untouched_and_begins_again_if_that_is_accepted() -> None:
    slot = Slot(MINE)
    assert slot.becomes(2, Configuration(2, 2, B, (), LOST)) == Turns()
    assert slot.becomes(3, Configuration(3, 3, ME, (), LOST)) == Turns()
    assert slot.refuses(1)
    assert 0 in slot.reigns.here
    assert slot.becomes(4, Configuration(4, 4, ME)) == Turns(empty=[0])
    assert [slot.refuses(epoch) for epoch in (1, 3, 4)] == [True, True, False]


def test_what_was_lost_here_and_begins_elsewhere_goes() -> None:
    slot = Slot(MINE)
    slot.becomes(2, Configuration(2, 2, B, (), LOST))
    assert slot.becomes(3, Configuration(3, 3, B)) == Turns(leave=[0])


def test_a_node_is_named_by_what_it_has_copies_and_is_filled_with() -> None:
    reigns = Reigns(C)
    named = []
    slots = [
        MINE,
        Configuration(2, 1, ME, (B,), joining=C),
        Configuration(3, 1, ME, (B, C)),
        Configuration(4, 1, B, (ME, C), PENDING, ME),
        Configuration(5, 5, C, (ME,), PENDING, ME),
        Configuration(6, 6, ME, (B,)),
    ]
    for epoch, slot in enumerate(slots, 1):
        table = agreed(epoch, {0: slot}, WORKERS)
        reigns.set_table(table, {0: slot})
        named.append(reigns.named())
    assert named == [False, True, True, True, True, False]
