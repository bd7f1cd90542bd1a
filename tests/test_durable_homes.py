"""What is on disk outlives its process: who returns is a copy of what its seat was a copy of, and owns nothing yet."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.copying import urgent
from mesh.core.messages.members import ALIVE, DEAD, LEFT
from mesh.core.recovery import recovered
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.succession import fault
from mesh.core.table import Seat, Table
from mesh.core.table_bytes import table_from_bytes, table_to_bytes
from mesh.core.transitions import next_table
from tests.copies_kit import Durable
from tests.moving_kit import Plan
from tests.test_copying import at_rest, without

ALL = (True,) * 4

# -- one slot, one step -----------------------------------------------------------------------------------------------

OWNED = Slot(5, 0, (1, 2), ACTIVE, None, 2)
JOINED = Slot(5, 0, (1,), ACTIVE, None, 2, 3)
HANDED = Slot(5, 1, (0, 2), PENDING, 0, 2)
PROMOTED = Slot(5, 1, (0, 2), PENDING, 1)
PARTING = Slot(5, 0, (1, 2), ACTIVE, None, 2, None, (2,))


@pytest.mark.parametrize(
    ("slot", "claimed", "there", "returned", "after"),
    [
        (OWNED, False, ALL, (3,), OWNED), (OWNED, False, ALL, (1,), Slot(6, 0, (2,), ACTIVE, None, 2)),
        (OWNED, False, ALL, (0,), Slot(6, 1, (0, 2), PENDING, 1)),
        (OWNED, False, ALL, (0, 1), Slot(6, 2, (0, 1), PENDING, 2)),
        (OWNED, False, without(1, 2), (0,), Slot(6, 0, (1, 2), PENDING, 0)),
        (OWNED, False, without(0), (1,), Slot(6, 2, (0, 1), PENDING, 2)),
        (OWNED, False, without(0, 2), (1,), Slot(6, 1, (0, 2), PENDING, 1)),
        (OWNED, False, ALL, (0, 1, 2), Slot(6, 0, (1, 2), PENDING, 0)),
        (Slot(5, 0), False, ALL, (0,), Slot(6, 0, (), PENDING, 0)),
        (JOINED, True, ALL, (3,), Slot(6, 0, (1,), ACTIVE, None, 2)),
        (OWNED, False, without(2), (1,), Slot(6, 0, (2,), ACTIVE, None, 2, None, (2,))),
        (PARTING, False, ALL, (2,), Slot(6, 0, (1,), ACTIVE, None, 2)),
        (PARTING, False, ALL, (0,), Slot(6, 1, (0, 2), PENDING, 1)),
        (PARTING, False, without(1, 2), (0,), Slot(6, 0, (1, 2), PENDING, 0)),
        (JOINED, True, ALL, (0,), Slot(6, 1, (0,), PENDING, 1)),
        (HANDED, True, ALL, (2,), Slot(6, 0, (1,))), (HANDED, True, ALL, (1,), Slot(6, 0, (2,))),
        (HANDED, False, ALL, (0,), Slot(6, 1, (0, 2), PENDING, 1)),
        (HANDED, True, ALL, (0,), Slot(6, 1, (0, 2), PENDING, 1)), (HANDED, True, ALL, (3,), Slot(5, 1, (0, 2))),
        (PROMOTED, False, ALL, (0, 2), PROMOTED), (PROMOTED, True, ALL, (0, 2), Slot(5, 1)),
        (PROMOTED, True, ALL, (1,), Slot(6, 0, (1, 2), PENDING, 0)),
        (PROMOTED, True, without(0, 2), (1,), Slot(6, 1, (0, 2), PENDING, 1)),
        (Slot(5, 0, (), LOST), False, ALL, (0,), Slot(6, 0, (), LOST)),
    ],
)  # fmt: skip
def test_what_becomes_of_a_slot_when_somebody_returns(
    slot: Slot, claimed: bool, there: tuple[bool, ...], returned: tuple[int, ...], after: Slot
) -> None:
    assert urgent(slot, claimed, there, (), returned, copies=3) == after


SEATS = tuple(Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", True) for name in "abcd")
FOUR = Table(5, b"c" * 16, SEATS, (OWNED,), copies=3, durable=True)


def follows(before: Slot, after: Slot, *returned: int) -> bool:
    seats = [
        replace(seat, node=b"%d" % place * 16, boot=2) if place in returned else seat
        for place, seat in enumerate(SEATS)
    ]
    old, new = replace(FOUR, slots=(before,)), replace(FOUR, epoch=6, members=tuple(seats), slots=(after,))
    new.invariants()
    return fault(old, new) is None


@pytest.mark.parametrize("slot", [OWNED, JOINED, HANDED, Slot(5, 0), Slot(5, 0, (), LOST), Slot(5, 0, (), PENDING, 0)])
def test_nobody_goes_on_at_the_term_at_which_its_process_ended(slot: Slot) -> None:
    assert follows(slot, slot)
    assert not follows(slot, slot, 0)
    assert not follows(slot, slot.activated(), 0)


def test_what_may_follow_when_somebody_returns() -> None:
    alone, again = Slot(6, 0, (1,), ACTIVE, None, 2), Slot(6, 0, (1, 2), ACTIVE, None, 2)
    assert follows(OWNED, alone, 2)
    assert not follows(OWNED, alone, 1)
    assert not follows(OWNED, again, 1)
    assert not follows(OWNED, Slot(6, 0, (), ACTIVE, None, 2), 0)
    assert not follows(JOINED, Slot(6, 0, (1, 3), ACTIVE, None, 2), 3)
    assert follows(JOINED, Slot(6, 0, (1, 3), ACTIVE, None, 2), 2)
    assert follows(OWNED, Slot(6, 0, (1,), ACTIVE, None, 2, 2), 2)
    assert all(follows(OWNED, Slot(6, 0, (1, 2), PENDING, 0), *returned) for returned in [(0,), (0, 1), (0, 1, 2)])
    assert not follows(OWNED, Slot(6, 0, (1, 2), PENDING, 0))
    assert not follows(OWNED, Slot(6, 1, (0, 2), PENDING, 0, 2), 2)
    assert not follows(HANDED, Slot(6, 0, (1, 2)), 2)
    assert follows(HANDED, Slot(6, 0, (1,)), 2)
    assert not follows(HANDED, Slot(6, 0, (1,)), 0)
    assert follows(PROMOTED, PROMOTED, 0)
    assert follows(PROMOTED, Slot(5, 1), 0)
    assert not follows(PROMOTED, PROMOTED, 1)
    assert not follows(PROMOTED, Slot(5, 1), 1)
    assert not follows(Slot(5, 0), Slot(6, 1, (), PENDING, 1))


def test_what_is_durable_is_never_shipped() -> None:
    with pytest.raises(AssertionError, match="shipped"):
        replace(FOUR, slots=(Slot(6, 1, (), PENDING, 0),)).invariants()
    assert table_from_bytes(table_to_bytes(FOUR)) == FOUR


# -- whole lives ------------------------------------------------------------------------------------------------------


def happen(world: Durable) -> None:
    process = world.random.choice(list(world.members.values()))
    latest = [each for each in world.members.values() if each.name == process.name][-1]
    match world.random.randrange(7):
        case 0:
            name = f"n{world.random.randrange(8)}"
            world.start(name, next((each.role for each in world.members.values() if each.name == name), process.role))
        case 1 if process.status < DEAD:
            world.become(process.node, DEAD)
        case 2 if process.status == DEAD and process is latest:
            world.become(process.node, ALIVE)  # it was only cut off
        case 3 if process.status < DEAD:
            world.leave(process.node)
        case 4 if process.status < DEAD and world.random.random() < 0.5:
            world.become(process.node, LEFT)
        case 5 | 6:
            world.start(latest.name, latest.role)


def keep_a_worker(world: Durable) -> None:
    if any(world.stays(seat) and seat.up and seat.voter for seat in world.table.members):
        return
    for seat in world.table.workers():
        latest = [each for each in world.members.values() if each.name == seat.name][-1]
        if seat.voter and latest.home == seat.home:
            world.start(latest.name)
            return


def lively(seed: int, workers: int, copies: int, plan: Plan = next_table) -> None:
    world = Durable(Random(seed), workers, 1, 16, plan, copies=copies)
    for _ in range(6):
        for _ in range(world.random.randrange(1, 4)):
            happen(world)
            keep_a_worker(world)
            for _ in range(world.random.randrange(4)):
                world.work()
                world.transfer(chance=0.5)
                world.step()
        keep_a_worker(world)
        world.settle()
        assert state(world).keys() <= {"active", "unavailable"}
    restart(world)
    world.settle()
    assert state(world) == {"active": 16}
    at_rest(world)


def restart(world: Durable) -> None:
    """Everybody whose home somebody may wait for."""
    for seat in world.table.members:
        latest = [each for each in world.members.values() if each.name == seat.name][-1]
        if not world.runs(seat.node) and latest.home == seat.home:
            world.start(seat.name, seat.role)


def state(world: Durable) -> dict[str, int]:
    return {name: count for name, count in world.table.counts().items() if count}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(1, 3))
def test_whatever_happens_nothing_is_lost_and_all_is_active_once_all_are_back(
    seed: int, workers: int, copies: int
) -> None:
    lively(seed, workers, copies)


def end(world: Durable, *names: str) -> None:
    for seat in world.table.members:
        if seat.name in names:
            world.become(seat.node, DEAD)


def names(world: Durable, slot: Slot) -> list[str]:
    return [world.table.members[place].name for place in slot.members]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_all_end_and_all_return(copies: int) -> None:
    world = Durable(Random(1), 3, copies=copies)
    world.work(1)
    world.settle()
    terms = [slot.term for slot in world.table.slots]
    for name in ("n0", "n1", "n2"):
        world.start(name)
    world.settle()
    assert state(world) == {"active": 64}
    assert all(slot.term > term for slot, term in zip(world.table.slots, terms, strict=True))
    assert all(len(slot.members) == copies for slot in world.table.slots)
    assert [seat.boot for seat in world.table.members] == [2, 2, 2]


def test_with_one_copy_a_restart_interrupts_only_what_the_process_had_and_moves_nothing() -> None:
    world = Durable(Random(1), 3, copies=1)
    owners = world.table.owners()
    world.work(1)
    end(world, "n1")
    world.settle()
    assert state(world) == {"active": 43, "unavailable": 21}
    world.start("n1")
    world.step()
    asked = [slot for slot in world.table.slots if slot.promotes]
    assert len(asked) == 21
    world.transfer()
    world.step()
    assert state(world) == {"active": 64}
    assert world.table.owners() == owners
    assert world.committed == [1] * 64


def test_with_one_copy_slots_go_to_a_joiner_by_being_filled_and_handed_over() -> None:
    world = Durable(Random(1), 2, copies=1)
    world.work(1)
    world.start("n9")
    forms = set()
    for _ in range(200):
        world.transfer()
        world.work(1)
        if not world.step():
            break
        forms |= {
            (slot.status, slot.hands_over, slot.joining is not None, len(slot.members)) for slot in world.table.slots
        }
    assert (PENDING, True, False, 2) in forms
    assert (ACTIVE, False, True, 1) in forms
    assert sorted(world.table.owned_counts()) == [21, 21, 22]
    assert all(slot.status == ACTIVE and slot.members == (slot.owner,) for slot in world.table.slots)


def test_a_copy_that_was_up_goes_on_before_one_that_returns() -> None:
    world = Durable(Random(1), 3, copies=2)
    world.work(1)
    end(world, "n0")
    new = world.start("n0")
    world.step()
    assert world.table.members[0].node == new
    for slot in world.table.slots:
        assert not (slot.status == PENDING and slot.owner == 0)
        assert slot.status == PENDING or 0 not in slot.members
    world.settle()
    assert state(world) == {"active": 64}
    assert all(len(slot.members) == 2 for slot in world.table.slots)


def test_two_copies_end_one_after_the_other_and_the_one_that_returns_first_goes_on() -> None:
    """The second one had the last of it; the first was left out before, so that only what both had may have counted."""
    world = Durable(Random(1), 3, copies=2)
    both = [number for number, slot in enumerate(world.table.slots) if sorted(names(world, slot)) == ["n0", "n1"]]
    world.work(1)
    end(world, "n0")
    end(world, "n1")
    world.settle()
    assert {world.table.state_of(number) for number in both} == {"unavailable"}
    world.start("n1")
    world.settle()
    assert state(world) == {"active": 64}


def test_who_was_left_out_does_not_come_back_with_what_it_had() -> None:
    """A alone went on: B's disk is old, and A is waited for."""
    world = Durable(Random(1), 2, copies=2)
    end(world, "n1")
    world.settle()
    world.work(1)
    end(world, "n0")
    world.start("n1")
    world.plan = lambda table, facts: next_table(table, facts) if table.members[0].up else None
    world.settle()
    assert all(names(world, slot) == ["n0"] for slot in world.table.slots)


def test_what_nobody_comes_back_for_is_lost_when_an_operator_says_so_and_not_before() -> None:
    world = Durable(Random(1), 3, copies=1)
    mine = [number for number in range(64) if world.table.owner_of(number).name == "n1"]
    for _ in range(2):
        end(world, "n1")
        world.settle()
    assert state(world)["unavailable"] == 21
    world.given_up = {number: world.table.slots[number].term - 1 for number in mine}
    world.settle()
    assert state(world)["unavailable"] == 21
    world.given_up = {number: world.table.slots[number].term for number in mine}
    world.settle()
    assert state(world) == {"active": 43, "lost": 21}
    assert all(slot.owner != 1 for slot in world.table.slots)
    world.start("n1")
    world.settle()
    assert state(world)["lost"] == 21


def test_what_somebody_is_there_for_cannot_be_given_up() -> None:
    world = Durable(Random(1), 2, copies=1)
    world.given_up = {number: slot.term for number, slot in enumerate(world.table.slots)}
    world.settle()
    assert state(world) == {"active": 64}


def test_a_recovery_promotes_who_returned() -> None:
    world = Durable(Random(1), 3, copies=2)
    end(world, "n1", "n2")
    world.start("n1")
    table = recovered(world.table, world.members)
    assert table is not None
    table.invariants()
    assert [(seat.name, seat.boot) for seat in table.members] == [("n0", 1), ("n1", 2)]
    for before, after in zip(world.table.slots, table.slots, strict=True):
        heir = min((place for place in before.members if place < 2), default=None)
        assert (after.status, after.owner) == ((LOST, 0) if heir is None else (PENDING, heir))


# -- mutants ----------------------------------------------------------------------------------------------------------


def forgets_that_they_returned(table: Table, facts: Facts) -> Table | None:
    """Who returns goes on at the term at which its process ended."""
    new = next_table(table, facts)
    if new is None or len(new.members) != len(table.members) or new.members == table.members:
        return new
    return replace(new, slots=table.slots)


def takes_the_dead_for_lost(table: Table, facts: Facts) -> Table | None:
    gone = [number for number in range(len(table)) if table.state_of(number) == "unavailable"]
    return next_table(table, replace(facts, given_up={number: table.slots[number].term for number in gone}))


def keeps_who_returned_as_a_copy(table: Table, facts: Facts) -> Table | None:
    new = next_table(table, facts)
    if new is None or len(new.members) != len(table.members) or new.members == table.members:
        return new
    slots = [
        replace(slot, backups=old.backups) if slot.status == ACTIVE and slot.owner == old.owner else slot
        for old, slot in zip(table.slots, new.slots, strict=True)
    ]
    return replace(new, slots=tuple(slots))


@pytest.mark.parametrize(
    ("mutant", "told"),
    [
        (forgets_that_they_returned, r"slot \d+ goes from"),
        (takes_the_dead_for_lost, "is given up while"),
        (keeps_who_returned_as_a_copy, "goes from"),
    ],
)
def test_mutant_is_caught(mutant: Plan, told: str) -> None:
    def many() -> None:
        for seed in range(20):
            lively(seed, 3, 2, mutant)

    with pytest.raises(AssertionError, match=told):
        many()
