"""What the simulator says of steps from one table to the next where slots have copies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import Seat, Table
from mesh.sim.bound import moves_fault
from mesh.sim.copies import copies_fault, unfinished
from mesh.sim.scenario import scenario_of

SEATS = tuple(Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", True) for name in "abcd")
NODES = [seat.node for seat in SEATS]


def table(*slots: Slot, down: str = "", epoch: int = 5, copies: int = 2) -> Table:
    seats = tuple(replace(seat, up=seat.name not in down, voter=seat.name not in down) for seat in SEATS)
    return Table(epoch, b"c" * 16, seats, slots, copies=copies)


OWNED = Slot(3, 0, (1,))


@pytest.mark.parametrize(
    ("before", "after", "down", "asked", "living", "told"),
    [
        (OWNED, Slot(4, 0, (), ACTIVE, None, 3), "", "", "abcd", "fewer copies"),
        (OWNED, Slot(4, 0, (), ACTIVE, None, 3), "b", "", "acd", None),
        (OWNED, Slot(4, 0, (), ACTIVE, None, 3), "", "bcd", "abcd", None),
        (OWNED, Slot(4, 0, (1,), ACTIVE, None, 3, 2), "", "", "abcd", None),
        (Slot(3, 0, (1, 2)), Slot(4, 0, (2,), ACTIVE, None, 3), "", "", "abcd", None),
        (OWNED, Slot(4, 1, (0,), PENDING, 0, 3), "", "", "abcd", None),
        (Slot(4, 1, (0,), PENDING, 0, 3), Slot(5, 0), "", "", "abcd", "fewer copies"),
        (Slot(4, 1, (0,), PENDING, 1), Slot(4, 1), "a", "", "bcd", None),
        (OWNED, Slot(4, 0, (), LOST), "ab", "", "cd", None),
        (OWNED, Slot(4, 0, (), LOST), "ab", "", "bcd", "may return"),
    ],
)  # fmt: skip
def test_copies_that_a_step_takes_away(
    before: Slot, after: Slot, down: str, asked: str, living: str, told: str | None
) -> None:
    alive = [node for node in NODES if chr(node[0]) in living]
    leaving = [node for node in NODES if chr(node[0]) in asked]
    found = copies_fault(table(before), table(after, down=down, epoch=6), leaving, lambda node: node in alive)
    assert (found is None) == (told is None)
    assert found is None or (told is not None and told in found)


def test_a_promotion_is_no_move_and_a_hand_over_is_one() -> None:
    level = table(*(Slot(3, place, ((place + 1) % 4,)) for place in range(4)))
    dead = table(Slot(4, 1, (0,), PENDING, 1), *level.slots[1:], down="a", epoch=6)
    assert moves_fault(level, dead, []) is None
    needless = table(Slot(4, 1, (0,), PENDING, 0, 3), *level.slots[1:], epoch=6)
    assert moves_fault(level, needless, []) == "1 slots move, and 0 would do"
    assert moves_fault(level, needless, [SEATS[0].node]) is None
    lost = [Slot(3, 1, (), LOST), Slot(3, 1, (), LOST)]
    heavy = table(*lost, *(Slot(3, 1, (place,)) for place in (0, 2, 3)), *(Slot(3, place, (1,)) for place in (0, 2, 3)))
    lighter = table(*lost, Slot(4, 0, (1,), PENDING, 1, 3), *heavy.slots[3:], epoch=6)
    assert moves_fault(heavy, lighter, []) is None
    uneven = table(*(Slot(3, 0, (1,)) for _ in range(4)))
    assert moves_fault(uneven, table(Slot(4, 1, (0,), PENDING, 0, 3), *uneven.slots[1:], epoch=6), []) is None


@pytest.mark.parametrize(
    ("slot", "living", "down", "told"),
    [
        (OWNED, "abcd", "", None), (Slot(3, 0), "abcd", "", "has 1 copies"),
        (Slot(3, 0, (1,), ACTIVE, None, 3, 2), "abcd", "", "on its way"),
        (Slot(3, 0, (1,), PENDING, 0), "abcd", "", "on its way"),
        (OWNED, "acd", "b", "copy at b"), (OWNED, "cd", "ab", None), (Slot(3, 0), "a", "bcd", None),
        (Slot(3, 0, (), LOST), "abcd", "", None),
    ],
)  # fmt: skip
def test_what_a_slot_lacks_in_the_end(slot: Slot, living: str, down: str, told: str | None) -> None:
    alive = [node for node in NODES if chr(node[0]) in living]
    found = unfinished(table(slot, down=down), 0, alive, [])
    assert (found is None) == (told is None)
    assert found is None or (told is not None and told in found)


def test_copies_change_nothing_else_of_a_scenario() -> None:
    for seed in range(20):
        assert replace(scenario_of(seed, copies=3), copies=1) == scenario_of(seed, copies=1)
    assert "3 copies of each" in scenario_of(1, copies=3).words()[-2]
