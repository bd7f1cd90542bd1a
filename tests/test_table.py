from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import MAX_LEFT, MAX_SLOTS, Run, Seat, Table
from mesh.core.table_bytes import FORMAT, table_from_bytes, table_to_bytes, voters_of


def seat(place: int, role: str = "worker", voter: bool = True, up: bool = True) -> Seat:
    node = bytes([place]) * 16
    return Seat(f"n{place}", node, f"tcp://h:{7400 + place}", f"h:{7480 + place}", role, "z", voter, up)


def three() -> Table:
    """alpha-like workers 0, 1 and a witness 2; eight slots in three runs."""
    owners = [0, 0, 0, 1, 1, 1, 1, 0]
    slots = tuple(Slot(1, owner, (1 - owner,), ACTIVE) for owner in owners)
    return Table(1, b"c" * 16, (seat(0), seat(1), seat(2, "witness")), slots)


def four() -> Table:
    return replace(three(), members=(*three().members, seat(3)))


@st.composite
def slots(draw: st.DrawFn, workers: int) -> Slot:
    """Of each form that there is."""
    order = draw(st.permutations(range(workers)))
    term = draw(st.integers(2, 5) | st.just((1 << 63) - 1))
    earlier = draw(st.integers(1, term - 1))
    backups = tuple(order[1 : 1 + draw(st.integers(0, 3))])
    rest = order[1 + len(backups) :]
    forms = [
        Slot(term, order[0], (), LOST), Slot(term, order[0], (), PENDING, order[-1]), Slot(term, order[0], backups),
        Slot(term, order[0], backups, PENDING, order[0]), Slot(term, order[0], backups, ACTIVE, None, earlier),
        *[Slot(term, order[0], backups, ACTIVE, None, earlier, each) for each in rest[:1]],
        *[Slot(term, order[0], backups, PENDING, each, earlier) for each in backups[:1]],
        *[Slot(term, order[0], backups, ACTIVE, None, earlier, None, each) for each in (backups[:1], backups) if each],
    ]  # fmt: skip
    return draw(st.sampled_from(forms))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    workers = draw(st.integers(1, 5))
    ups = draw(st.lists(st.booleans(), min_size=workers - 1, max_size=workers - 1))
    members = tuple(seat(place, voter=up, up=up) for place, up in enumerate([True, *ups]))
    if draw(st.booleans()):
        members += (seat(workers, "witness"),)
    configurations = slots(workers)
    size = draw(st.sampled_from([1, 2, 16]))
    configured = tuple(draw(configurations) for _ in range(size))
    left = tuple(bytes([100 + place]) * 16 for place in range(draw(st.integers(0, 3))))
    copies = draw(st.integers(1, 3))
    return Table(
        draw(st.integers(1, 1 << 40)), draw(st.binary(min_size=16, max_size=16)), members, configured, left, (), copies
    )


@given(tables())
def test_a_table_comes_back_from_its_bytes(table: Table) -> None:
    table.invariants()
    assert table_from_bytes(table_to_bytes(table)) == table


@given(tables(), tables())
def test_different_tables_have_different_bytes(one: Table, other: Table) -> None:
    assert (one == other) == (table_to_bytes(one) == table_to_bytes(other))


def test_the_bytes_are_small_and_the_same_under_every_hash_seed() -> None:
    program = "from tests.test_table import table_to_bytes, three; print(table_to_bytes(three()).hex())"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1", "12345")
    }
    assert told == {table_to_bytes(three()).hex()}
    large = replace(three(), slots=(Slot(1, 0),) * (MAX_SLOTS // 2) + (Slot(1, 1),) * (MAX_SLOTS // 2))
    assert len(table_to_bytes(large)) < 300


# -- who has what -----------------------------------------------------------------------------------------------------


def test_who_owns_what() -> None:
    table = three()
    zero, one, witness = table.members
    assert len(table) == 8
    assert [table.owner_of(slot).name for slot in (0, 2, 3, 7)] == ["n0", "n0", "n1", "n0"]
    assert table.backups_of(0) == (one,)
    assert table.slots_of(zero.node) == (0, 1, 2, 7)
    assert table.slots_of(witness.node) == table.slots_of(b"x" * 16) == ()
    assert table.runs() == (Run(0, 2, zero), Run(3, 6, one), Run(7, 7, zero))
    assert [len(run) for run in table.runs()] == [3, 4, 1]
    assert [table.slots_in_words(name) for name in ("n0", "n1", "n2")] == ["0-2, 7", "3-6", "none"]
    assert (table.owned_counts(), table.backup_counts()) == ((4, 4, 0), (4, 4, 0))
    assert (table.seat_of(one.node), table.seat_of(b"x" * 16)) == (one, None)
    assert (table.seat_named("n2"), table.seat_named("x")) == (witness, None)
    assert table.workers() == (zero, one)
    assert table.voters() == table.members
    assert table.spread() == 0


def test_the_state_of_a_slot_follows_from_its_configuration_and_from_who_is_up() -> None:
    members = (seat(0), seat(1), seat(2, voter=False, up=False))
    slots = (
        Slot(1, 0), Slot(1, 2), Slot(2, 1, (), PENDING, 0), Slot(2, 1, (), PENDING, 2), Slot(2, 2, (), PENDING, 0),
        Slot(2, 0, (), PENDING, 0), Slot(2, 1, (), LOST), Slot(2, 2, (), LOST),
    )  # fmt: skip
    table = Table(2, b"c" * 16, members, slots)
    table.invariants()
    assert [table.state_of(slot) for slot in range(8)] == [
        "active", "unavailable", "pending", "unavailable", "unavailable", "pending", "lost", "lost"]  # fmt: skip
    assert table.counts() == {"active": 1, "pending": 2, "unavailable": 3, "lost": 2}
    assert table.spread() == 1  # 2 and 3; who is down does not count


def test_with_copies_a_slot_is_unavailable_only_while_none_of_them_is_up() -> None:
    members = (seat(0), seat(1, voter=False, up=False), seat(2, voter=False, up=False))
    slots = (
        Slot(1, 0, (1,)), Slot(1, 1, (0,)), Slot(1, 1, (2,)), Slot(2, 1, (0, 2), PENDING, 2, 1),
        Slot(2, 1, (2,), PENDING, 1), Slot(2, 0, (1, 2), PENDING, 0), Slot(3, 0, joining=1), Slot(3, 1, joining=0),
    )  # fmt: skip
    table = Table(2, b"c" * 16, members, slots)
    table.invariants()
    assert [table.state_of(slot) for slot in range(8)] == [
        "active", "pending", "unavailable", "pending", "unavailable", "pending", "active", "unavailable"]  # fmt: skip


def test_whose_word_a_configuration_waits_for() -> None:
    slots = {
        Slot(2, 0, (1, 3)): (), Slot(2, 0, (1,), joining=3): (0,), Slot(2, 0, (1, 3), PENDING, 1, 1): (0, 3),
        Slot(2, 0, (1, 3), PENDING, 0): (0,), Slot(2, 0, (), PENDING, 3): (0,), Slot(2, 0, (), LOST): (),
        Slot(2, 0, (1, 3), parting=(3,)): (0,),
    }  # fmt: skip
    assert {slot: slot.asked() for slot in slots} == slots
    assert [slot.members for slot in slots] == [(0, 1, 3), (0, 1), (0, 1, 3), (0, 1, 3), (0, 3), (0,), (0, 1, 3)]


@given(tables())
def test_runs_cover_the_interval_once_and_neighbours_differ(table: Table) -> None:
    runs = table.runs()
    covered = [slot for run in runs for slot in range(run.first, run.last + 1)]
    assert covered == list(range(len(table)))
    assert all(table.owner_of(slot) == run.owner for run in runs for slot in range(run.first, run.last + 1))
    assert all(before.owner != after.owner for before, after in pairwise(runs))
    assert sum(table.owned_counts()) == len(table)
    assert sorted(slot for each in table.members for slot in table.slots_of(each.node)) == covered


def test_the_longest_serving_voter_of_an_even_set_is_the_first_member() -> None:
    table = replace(three(), members=(*three().members, seat(3)))
    assert [(voter.name, voter.weight) for voter in table.electorate().voters] == [
        ("n0", 3), ("n1", 2), ("n2", 2), ("n3", 2)]  # fmt: skip
    assert [voter.node for voter in table.electorate().voters] == [each.node for each in table.members]


def test_voters_follow_from_a_table_of_that_epoch_only() -> None:
    data = table_to_bytes(three())
    assert voters_of(1, data) == three().electorate()
    with pytest.raises(ValueError, match="epoch 1 where one of epoch 2"):
        voters_of(2, data)
    with pytest.raises(ValueError, match="table"):
        voters_of(1, b"\xc1")


# -- invariants -------------------------------------------------------------------------------------------------------

witness_owns = replace(three(), slots=(Slot(1, 2),) * 8)
BROKEN = {
    "not distinct": replace(three(), slots=(Slot(1, 0, (0,)),) * 8),
    "distinct: Slot.term=2": replace(three(), slots=(Slot(1, 0, (1,)),) * 7 + (Slot(2, 0, (1, 1)),)),
    "no worker": witness_owns,
    "a backup is no worker": replace(three(), slots=(Slot(1, 0, (2,)),) * 8),
    "is no worker: Slot.term=9": replace(three(), slots=(Slot(9, 3),) * 8),
    "one name": replace(three(), members=(seat(0), replace(seat(1), name="n0"))),
    "one node id": replace(three(), members=(seat(0), replace(seat(1), node=seat(0).node))),
    "no member is a worker": Table(1, b"c" * 16, (seat(0, "witness"),), (Slot(1, 0),)),
    "0 voters": replace(three(), members=(seat(0, voter=False), seat(1, voter=False))),
    "8 voters": replace(three(), members=tuple(seat(place) for place in range(8))),
    "7 slots": replace(three(), slots=three().slots[:7]),
    "0 slots": replace(three(), slots=()),
    "down has a vote": replace(three(), members=(seat(0), seat(1, up=False))),
    "none where one is needed": replace(three(), slots=(Slot(2, 0, (), PENDING),) * 8),
    "a donor without need": replace(three(), slots=(Slot(2, 0, (), ACTIVE, 1),) * 8),
    "LOST is a donor without need": replace(three(), slots=(Slot(2, 0, (), LOST, 1),) * 8),
    "the donor is no worker": replace(three(), slots=(Slot(2, 0, (), PENDING, 2),) * 8),
    "left is a member": replace(three(), left=(seat(1).node,)),
    "named twice": replace(three(), left=(b"x" * 16, b"x" * 16)),
    "what is lost has backups": replace(three(), slots=(Slot(2, 0, (1,), LOST),) * 8),
    "none of the copies": replace(four(), slots=(Slot(2, 0, (1,), PENDING, 3),) * 8),
    "younger than its term": replace(three(), slots=(Slot(2, 0, since=3),) * 8),
    "has just begun": replace(three(), slots=(Slot(2, 0, (1,), PENDING, 1),) * 8),
    "is said to last": replace(three(), slots=(Slot(2, 0, (1,), PENDING, 0, 1),) * 8),
    "who joins": replace(three(), slots=(Slot(2, 0, (1,), joining=1),) * 8),
    "who joins is no other worker": replace(three(), slots=(Slot(2, 0, joining=2),) * 8),
    "the slot is not active": replace(three(), slots=(Slot(2, 0, (), LOST, joining=1),) * 8),
    "who parts is no backup": replace(three(), slots=(Slot(2, 0, (1,), parting=(0,)),) * 8),
    "who parts is no backup, or": replace(three(), slots=(Slot(2, 0, (1,), parting=(1, 1)),) * 8),
    "or somebody joins": replace(four(), slots=(Slot(2, 0, (1,), joining=3, parting=(1,)),) * 8),
    "or the slot is not active, or": replace(three(), slots=(Slot(2, 1, (0,), PENDING, 0, 1, None, (0,)),) * 8),
    "4 copies": replace(three(), copies=4),
    "too many are named": replace(three(), left=tuple(b"%16d" % each for each in range(MAX_LEFT + 1))),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_invariant_is_asserted(fault: str) -> None:
    with pytest.raises(AssertionError, match=fault.replace("(", r"\(").removeprefix("LOST is ")):
        BROKEN[fault].invariants()


def plain(table: Table) -> list[Any]:
    items: list[Any] = msgpack.unpackb(table_to_bytes(table))
    return items


@pytest.mark.parametrize("fault", BROKEN)
def test_peers_cannot_send_what_breaks_an_invariant(fault: str) -> None:
    table = BROKEN[fault]
    members = [
        [s.name, s.node, s.endpoint, s.http, s.role, s.zone, s.voter, s.up, s.home, s.boot] for s in table.members
    ]
    runs = [
        [1, s.term, s.owner, s.status, list(s.backups), s.donor, s.since, s.joining, list(s.parting)]
        for s in table.slots
    ]
    fields = [FORMAT, table.epoch, table.cluster_id, members, runs, list(table.left), [], table.copies, table.durable]
    with pytest.raises(ValueError, match=r"a table (in which|with)"):
        table_from_bytes(msgpack.packb(fields))


def test_a_target_is_level() -> None:
    uneven = replace(three(), slots=(Slot(1, 0),) * 5 + (Slot(1, 1),) * 3)
    uneven.invariants()
    assert uneven.spread() == 2
    with pytest.raises(AssertionError, match="differ by 2"):
        uneven.invariants(target=True)
    three().invariants(target=True)


# -- bad bytes --------------------------------------------------------------------------------------------------------


def changed(path: tuple[int, ...], value: object) -> bytes:
    items = plain(three())
    place: Any = items
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    packed: bytes = msgpack.packb(items)
    return packed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((0,), 1), ((1,), 0), ((1,), -1), ((1,), True), ((1,), 1.0), ((1,), 1 << 63), ((2,), b"short"),
        ((2,), "c" * 16),
        ((3,), []), ((3,), None), ((3,), [[]]), ((3, 0, 0), 1), ((3, 0, 0), "x" * 2000), ((3, 0, 1), b""),
        ((3, 0, 4), "king"), ((3, 0, 6), 1), ((3, 0), [1, 2]), ((4,), []), ((4, 0), []), ((4, 0, 0), 0),
        ((4, 0, 0), MAX_SLOTS + 1), ((4, 0, 1), 0), ((4, 0, 2), -1), ((4, 0, 2), 3), ((4, 0, 3), 3), ((4, 0, 4), None),
        ((4, 0, 4), [99]), ((4, 0, 4), ["n1"]), ((4,), [[MAX_SLOTS, 1, 0, 1, [], None, 1, None, []]] * 2),
        ((4,), [[8, 1, 0, 1, [], None, 1, None, []]] * 3), ((3, 0, 7), 1), ((3, 0, 7), None), ((4, 0, 5), "n1"),
        ((4, 0, 5), 0), ((4, 0, 3), 0), ((5,), None), ((5,), [b"short"]), ((5,), [bytes([1]) * 16]),
        ((5,), [b"x" * 16] * 65),
        ((4, 0, 6), 0), ((4, 0, 6), 2), ((4, 0, 6), None), ((4, 0, 7), 0), ((4, 0, 7), "n1"), ((7,), 0), ((7,), 4),
        ((4, 0, 8), None), ((4, 0, 8), [0]), ((4, 0, 8), ["n1"]), ((4, 0, 8), [1, 1]),
    ],
)  # fmt: skip
def test_bad_fields_are_refused(path: tuple[int, ...], value: object) -> None:
    with pytest.raises(ValueError, match="a table"):
        table_from_bytes(changed(path, value))


def test_another_encoding_of_the_same_table_is_refused() -> None:
    items = plain(three())
    count, *rest = items[4][0]
    split = [*items[:4], [[1, *rest], [count - 1, *rest], *items[4][1:]], *items[5:]]
    with pytest.raises(ValueError, match="canonical"):
        table_from_bytes(msgpack.packb(split))
    with pytest.raises(ValueError, match="not msgpack"):
        table_from_bytes(table_to_bytes(three()) + b"\x00")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="a table"):
        table_from_bytes(data)


@settings(max_examples=200)
@given(st.data())
def test_flipped_bytes_are_refused_or_are_another_table(data: st.DataObject) -> None:
    good = table_to_bytes(three())
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    try:
        table = table_from_bytes(bad)
    except ValueError:
        return
    assert table != three()
    table.invariants()


def test_a_table_that_claims_to_be_huge_is_refused_before_it_is_built() -> None:
    for data in (b"\xdd\xff\xff\xff\xff", b"\x96" + b"\xdd\x00\x0f\xff\xff" + b"\xc0" * 100, bytes(5 << 20)):
        with pytest.raises(ValueError, match="a table"):
            table_from_bytes(data)
