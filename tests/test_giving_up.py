from __future__ import annotations

from dataclasses import replace

from mesh.core.slot import PENDING, Slot
from mesh.core.table import Seat, Table
from mesh.runtime.giving_up import given_up, waiting
from mesh.runtime.status import GivenUp, Waiting

SEATS = tuple(
    Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", name == "a", up=name == "a") for name in "abc"
)
SLOTS = (
    Slot(3, 1), Slot(3, 1), Slot(2, 0, (1,)), Slot(3, 1), Slot(2, 1, (2,)), Slot(4, 2, (1,), PENDING, 1, 2), Slot(2, 2),
    Slot(2, 0),
)  # fmt: skip
TABLE = Table(9, b"c" * 16, SEATS, SLOTS, durable=True)


def test_what_waits_is_told_by_who_could_bring_it_back() -> None:
    TABLE.invariants()
    assert waiting(TABLE) == (Waiting(3, "0-1, 3", ("b",)), Waiting(2, "4-5", ("b", "c")), Waiting(1, "6", ("c",)))


def test_only_what_all_who_had_it_are_named_for_is_given_up() -> None:
    assert given_up(TABLE, ["b"]) == (GivenUp(3), (0, 1, 3))
    assert given_up(TABLE, ["c"]) == (GivenUp(1), (6,))
    assert given_up(TABLE, ["c", "b"]) == (GivenUp(6), (0, 1, 3, 4, 5, 6))


def test_who_is_there_or_is_no_member_is_not_gone_and_without_disks_nothing_is_given_up() -> None:
    assert given_up(TABLE, ["b", "a"]) == (GivenUp(0, "up", "a"), ())
    assert given_up(TABLE, ["b", "x"]) == (GivenUp(0, "unknown", "x"), ())
    assert given_up(TABLE, [""]) == (GivenUp(0, "unknown", ""), ())
    assert given_up(replace(TABLE, durable=False), ["b"]) == (GivenUp(0, "in-memory"), ())
