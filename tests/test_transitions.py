from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.core.messages.members import ALIVE, DEAD, LEFT, READY, STAYING, SUSPECT
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import Table
from mesh.core.transitions import most_moving, next_table
from tests.moving_kit import Plan, World, node

# -- whole lives ------------------------------------------------------------------------------------------------------


def happen(world: World) -> None:
    """Something happens to one process."""
    process = world.random.choice(list(world.members.values()))
    seated = world.table.seat_of(process.node) is not None
    match world.random.randrange(7):
        case 0:
            world.start(f"n{world.random.randrange(12)}", world.random.choice(["worker", "worker", "witness"]))
        case 1 if process.status < DEAD:
            world.become(process.node, DEAD)
        case 2 if process.status in (SUSPECT, DEAD) and not world.has_ended(process.node):
            world.become(process.node, ALIVE)
        case 3 if process.status == ALIVE:
            world.become(process.node, SUSPECT)
        case 4 if process.status < DEAD:
            world.leave(process.node)
        case 5 if process.status < DEAD and world.random.random() < 0.5:
            world.become(process.node, LEFT)
        case 6 if seated and not world.has_ended(process.node):
            world.start(process.name, process.role)


def keep_a_worker(world: World) -> None:
    """Somebody has to propose: at least one voter and worker runs, and stays."""
    if not any(world.stays(seat) and seat.up and seat.voter for seat in world.table.members):
        for seat in world.table.workers():
            if seat.voter and not world.has_ended(seat.node):
                world.members[seat.node] = replace(world.members[seat.node], status=ALIVE, leaving=0)
                return
        world.start("rescue")


def at_rest(world: World) -> None:
    """What must be true once nothing is left to do."""
    table = world.table
    for number, slot in enumerate(table.slots):
        assert slot.status != PENDING or world.pinned(number)
    movable = [slot for number, slot in enumerate(table.slots) if not world.pinned(number)]
    counts = [
        sum(slot.owner == place for slot in movable) for place, seat in enumerate(table.members) if world.stays(seat)
    ]
    assert not counts or max(counts) - min(counts) <= 1
    named = {place for slot in table.slots for place in (slot.owner, slot.donor)}
    for place, seat in enumerate(table.members):
        assert seat.up == (world.members[seat.node].status < DEAD)
        assert not world.has_ended(seat.node) or place in named
        gone = world.members[seat.node].leaving == READY and seat.up and place not in named
        assert not gone or [each for each in table.workers() if each.up] == [seat]
    may = [seat.up for seat in table.members]
    assert [seat.voter for seat in table.members] == [up and sum(may[:place]) < 7 for place, up in enumerate(may)]
    assert any(seat.up for seat in table.workers())
    names = {seat.name for seat in table.members}
    for each in world.living():
        alone = sum(other.name == each.name for other in world.living()) == 1
        if each.status == ALIVE and not each.leaving and alone and each.name not in names:
            raise AssertionError(f"{each.name} has no seat")


def lower_bound(world: World) -> int:
    """Slots that have to move from here for the present members to be level; joiners take part."""
    table = world.table
    new = [each for each in world.living() if each.status == ALIVE and not each.leaving and each.role == "worker"]
    stay = {seat.node: 0 for seat in table.workers() if world.stays(seat)} | {
        each.node: 0 for each in new if table.seat_named(each.name) in (None, table.seat_of(each.node))}  # fmt: skip
    stay |= {each.node: 0 for each in new if (seat := table.seat_named(each.name)) and world.has_ended(seat.node)}
    movable = [number for number in range(world.slots) if not world.pinned(number)]
    lost = 0
    for number in movable:
        owner = table.owner_of(number).node
        if table.slots[number].status == LOST or world.has_ended(owner):
            return -1  # the lost are levelled too, and count as no moves: no simple bound
        if owner in stay:
            stay[owner] += 1
        else:
            lost += 1
    share, more = divmod(len(movable), len(stay))
    held = sorted(stay.values(), reverse=True)
    return lost + sum(max(0, count - share - (place < more)) for place, count in enumerate(held))


@settings(max_examples=150, deadline=None)
@example(3_466_390_491, 2, 0, 64)  # as many slots as may move wait for a donor that is down
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(0, 2), st.sampled_from([16, 64]))
def test_whatever_happens_it_comes_to_rest_level_and_loses_nothing_that_lives(
    seed: int, workers: int, witnesses: int, slots: int
) -> None:
    lively(seed, workers, witnesses, slots)


def lively(seed: int, workers: int, witnesses: int, slots: int, plan: Plan = next_table) -> None:
    world = World(Random(seed), workers, witnesses, slots, plan)
    for _ in range(6):
        for _ in range(world.random.randrange(1, 5)):
            happen(world)
            keep_a_worker(world)
            for _ in range(world.random.randrange(3)):
                world.transfer(chance=0.5)
                world.step()
        keep_a_worker(world)
        world.settle()
        at_rest(world)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 6))
def test_from_rest_to_rest_no_slot_moves_that_need_not(seed: int, workers: int) -> None:
    restful(seed, workers)


def test_the_lower_bound_is_often_known() -> None:
    assert sum(restful(seed, 3) for seed in range(30)) > 30


def restful(seed: int, workers: int, plan: Plan = next_table) -> int:
    """Only what happens between two rests; how often the lower bound was known."""
    world = World(Random(seed), workers, plan=plan)
    known = 0
    for _ in range(6):
        for _ in range(world.random.randrange(1, 4)):
            happen(world)
            keep_a_worker(world)
        bound, world.moves = lower_bound(world), 0
        resting = not pending(world.table)
        world.settle()
        at_rest(world)
        if bound >= 0 and resting:
            assert world.moves == bound, f"{world.moves} moves where {bound} are enough"
            known += 1
    return known


# -- one table at a time ----------------------------------------------------------------------------------------------


def after(world: World, **changes: Any) -> Table:
    """The table after one step with these facts."""
    table = next_table(world.table, replace(world.facts(), **changes))
    assert table is not None
    return table


def pending(table: Table) -> list[int]:
    return [number for number, slot in enumerate(table.slots) if slot.status == PENDING]


def joined() -> World:
    """Four workers; a quarter of the slots is on its way to the fourth."""
    world = World(Random(1))
    world.start("n3")
    world.step()
    assert len(pending(world.table)) == 16
    return world


def test_a_table_that_is_as_it_should_be_has_no_follower() -> None:
    world = World(Random(1))
    assert next_table(world.table, world.facts()) is None
    world.start("n3")
    assert world.settle() > 1
    assert next_table(world.table, world.facts()) is None


def test_the_order_in_which_a_proposer_met_the_others_makes_no_difference() -> None:
    world = World(Random(1))
    for name in ("n7", "n3", "n5"):
        world.start(name)
    facts = world.facts()
    backwards = replace(facts, members=dict(reversed(list(facts.members.items()))))
    assert next_table(world.table, facts) == next_table(world.table, backwards)


def test_a_suspicion_changes_nothing() -> None:
    world = joined()
    for each in list(world.members):
        world.become(each, SUSPECT)
    assert next_table(world.table, world.facts()) is None


def test_a_joiner_votes_once_it_has_caught_up_and_the_first_seven_vote() -> None:
    world = World(Random(1), workers=6)
    known = list(world.members)
    late, early = world.start("n6"), world.start("n7")
    table = after(world, caught_up=[*known, early])
    assert [seat.voter for seat in table.members] == [True] * 6 + [False, True]
    world.table = table
    world.become(known[0], DEAD)
    table = after(world, caught_up=[late])
    assert [seat.voter for seat in table.members] == [False] + [True] * 7


def test_only_a_claim_of_exactly_this_term_activates_a_slot() -> None:
    world = joined()
    first, second, third, *_ = pending(world.table)
    claims = {first: world.table.slots[first].term, second: 1, third: 3}
    table = after(world, installed=claims)
    assert [table.slots[number].status for number in (first, second, third)] == [ACTIVE, PENDING, PENDING]


def test_no_more_than_so_many_slots_move_at_once_and_then_the_next_ones() -> None:
    world = World(Random(1), workers=1, slots=1024)
    world.start("n1")
    world.step()
    assert len(pending(world.table)) == most_moving(1024)
    world.transfer(chance=0.5)
    world.step()
    assert len(pending(world.table)) == most_moving(1024)
    world.settle()
    assert world.table.owned_counts() == (512, 512)


def test_a_slot_whose_target_dies_goes_back_or_elsewhere() -> None:
    world = joined()
    moving = pending(world.table)
    donors = [world.table.slots[number].donor for number in moving]
    world.become(world.table.members[3].node, DEAD)
    table = after(world)
    again = [table.slots[number] for number in moving]
    assert {slot.status for slot in again} == {PENDING}
    assert [slot.donor for slot in again] == donors
    assert [slot.owner for slot in again] == donors  # nothing has to be sent anywhere
    assert not table.members[3].up


def test_what_the_dead_hold_stays_pinned_and_the_others_are_level_without_it() -> None:
    world = World(Random(1))
    world.become(world.table.members[1].node, DEAD)
    world.start("n3")
    world.settle()
    assert world.table.owned_counts() == (15, 21, 14, 14)
    assert world.table.counts() == {"active": 43, "pending": 0, "unavailable": 21, "lost": 0}
    world.become(world.table.members[1].node, ALIVE)
    world.moves = 0
    world.settle()
    assert world.table.counts()["active"] == 64
    assert max(world.table.owned_counts()) == 16
    assert world.moves == 5


def test_what_an_ended_process_held_is_lost_and_its_successor_gets_its_share_of_that() -> None:
    world = World(Random(1))
    world.start("n1")
    table = after(world)
    assert [seat.name for seat in table.members] == ["n0", "n1", "n2"]
    assert table.owned_counts() == (22, 21, 21)
    assert table.counts() == {"active": 43, "pending": 0, "unavailable": 0, "lost": 21}
    assert table.left == ()


def test_what_an_ended_process_had_sent_is_waited_for() -> None:
    world = joined()
    first, *_ = moving = pending(world.table)
    donor = world.table.members[world.table.slots[first].donor or 0].node
    its = [number for number in moving if world.table.members[world.table.slots[number].donor or 0].node == donor]
    world.become(donor, LEFT)
    table = after(world, mourned=())
    assert {table.slots[number].status for number in its} == {PENDING}
    table = after(world, mourned=(), installed={first: 2})
    assert table.slots[first].status == ACTIVE
    table = after(world, mourned=(donor,))
    assert {table.slots[number].status for number in its} == {LOST}


def test_a_name_that_two_newcomers_claim_gets_no_seat() -> None:
    world = World(Random(1))
    twin = world.members[world.start("n3")]
    world.members[node(99)] = replace(twin, node=node(99))
    assert next_table(world.table, world.facts()) is None


def test_a_living_member_keeps_its_seat_whoever_claims_its_name() -> None:
    world = World(Random(1))
    old = world.table.members[1].node
    world.start("n1")
    for status in (ALIVE, SUSPECT):
        world.become(old, status)
        assert next_table(world.table, world.facts()) is None


def test_a_member_that_this_proposer_never_met_is_left_as_it_is() -> None:
    world = World(Random(1))
    del world.members[world.table.members[1].node]
    assert next_table(world.table, world.facts()) is None
    world.start("n1")
    assert next_table(world.table, world.facts()) is None


def test_all_workers_may_be_replaced_at_once_if_witnesses_remember() -> None:
    world = World(Random(1), workers=2, witnesses=3)
    for name in ("n0", "n1"):
        world.start(name)
    world.settle()
    assert sorted(seat.name for seat in world.table.members) == ["n0", "n1", "n2", "n3", "n4"]
    assert world.table.counts()["lost"] == 64
    assert world.table.spread() == 0


def test_another_role_under_a_name_has_to_wait_for_the_seat() -> None:
    world = World(Random(1), workers=2, witnesses=1)
    world.start("n1", "witness")
    world.settle()
    assert [(seat.name, seat.role) for seat in world.table.members] == [
        ("n0", "worker"), ("n2", "witness"), ("n1", "witness")]  # fmt: skip
    assert world.table.owned_counts() == (64, 0, 0)


def test_a_leaver_stays_until_it_has_nothing_left_and_says_so() -> None:
    world = World(Random(1))
    leaver = world.table.members[0].node
    world.leave(leaver)
    while True:
        world.transfer()
        if not world.step():
            break
    assert world.table.seat_of(leaver) is not None
    assert world.table.slots_of(leaver) == ()
    world.leave(leaver, READY)
    world.step()
    assert world.table.seat_of(leaver) is None
    assert world.table.left == (leaver,)
    assert next_table(world.table, world.facts()) is None  # and is not taken for a newcomer
    world.leave(leaver, STAYING)
    assert next_table(world.table, world.facts()) is None  # whatever it says now


def rooted(world: World, slot: int) -> Table:
    """Whoever has this slot cannot give it away; what comes of that."""
    root = world.table.owner_of(slot).node
    world.rooted[slot] = root
    for _ in range(20):
        world.transfer()
        moved = {number: each for number, each in enumerate(world.table.slots) if each.status == PENDING}
        assert slot not in moved or world.table.members[moved[slot].donor or 0].node == root
        if not world.step():
            return world.table
    raise AssertionError("it never comes to rest")


def test_what_cannot_be_given_away_stays_with_a_leaver_and_works_there() -> None:
    world = World(Random(1), workers=2)
    leaver = world.table.members[1].node
    world.leave(leaver)
    table = rooted(world, 40)
    assert table.slots_of(leaver) == (40,)
    assert table.counts()["active"] == 64


def test_what_was_to_move_and_cannot_goes_back_and_the_rest_is_level_without_it() -> None:
    world = World(Random(1), workers=2)
    joiner = world.start("n2")
    world.step()
    moving = next(number for number, each in enumerate(world.table.slots) if each.status == PENDING)
    holder = world.table.members[world.table.slots[moving].donor or 0].node
    world.rooted[moving] = holder
    world.settle()
    assert world.table.slots[moving].status == ACTIVE
    assert world.table.owner_of(moving).node == holder
    assert len(world.table.slots_of(joiner)) == 21


def test_what_cannot_be_given_away_is_lost_with_its_process() -> None:
    world = World(Random(1), workers=3)
    rooted(world, 40)
    name = world.table.owner_of(40).name
    world.start(name)
    world.settle()
    assert world.table.slots[40].status == LOST


def test_a_leaver_that_dies_first_has_not_left() -> None:
    world = World(Random(1))
    leaver = world.table.members[0].node
    world.leave(leaver)
    world.settle()
    table = world.table
    world = World(Random(1))
    world.leave(leaver, READY)
    world.become(leaver, LEFT)
    world.settle()
    assert table.left == (leaver,)
    assert world.table.left == ()
    assert world.table.counts()["lost"] == 22


def test_of_all_workers_that_leave_one_has_to_stay() -> None:
    world = World(Random(1), workers=3, witnesses=1)
    for each in list(world.members):
        world.leave(each)
    world.settle()
    assert [seat.name for seat in world.table.members] == ["n0"]
    assert world.table.counts()["active"] == 64


def test_of_all_workers_that_leave_one_that_is_still_sent_records_has_to_stay() -> None:
    world = World(Random(1), workers=2)
    first, second = (seat.node for seat in world.table.members)
    world.leave(first, READY)
    world.leave(second)
    for _ in range(9):
        world.transfer()
        world.step()
    assert [seat.node for seat in world.table.members] == [second]


def test_a_worker_without_slots_may_leave_but_not_as_the_last_that_is_up() -> None:
    world = World(Random(1), workers=3, witnesses=1, slots=2)
    idle = world.table.members[2].node
    for each in world.table.members[:2]:
        world.become(each.node, DEAD)
    world.leave(idle, READY)
    world.step()
    assert world.table.seat_of(idle) is not None
    world.become(world.table.members[0].node, ALIVE)
    world.settle()
    assert world.table.seat_of(idle) is None


def test_the_dead_have_no_vote_and_get_it_back_when_they_have_caught_up() -> None:
    world = World(Random(1))
    gone = world.table.members[0].node
    world.become(gone, DEAD)
    world.step()
    assert [(seat.up, seat.voter) for seat in world.table.members] == [(False, False), (True, True), (True, True)]
    world.become(gone, ALIVE)
    assert [seat.voter for seat in after(world, caught_up=()).members] == [False, True, True]
    assert [seat.voter for seat in after(world).members] == [True, True, True]


PROGRAM = """
from random import Random
from typing import Any
from hashlib import sha256
from mesh.core.table_bytes import table_to_bytes
from tests.moving_kit import Plan, World, node
from tests.test_transitions import happen, keep_a_worker
world, told = World(Random(7)), sha256()
for _ in range(30):
    happen(world)
    keep_a_worker(world)
    world.settle()
    told.update(table_to_bytes(world.table))
print(told.hexdigest())
"""


def test_the_same_bytes_under_every_hash_seed() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(told) == 1


# -- mutants: the same lives must find each of them -------------------------------------------------------------------


def ignores_the_term(table: Table, facts: Facts) -> Table | None:
    claims = {number: table.slots[number].term for number in facts.installed}
    return next_table(table, replace(facts, installed=claims))


def one_move_too_many(table: Table, facts: Facts) -> Table | None:
    """Besides what has to move, one slot goes from the first worker that stays to the next."""
    new = next_table(table, facts)
    up = [place for place, seat in enumerate(table.members) if seat.up and seat.role == "worker"]
    if new is None or len(up) < 2 or new.members[: len(table.members)] != table.members:
        return new
    number = next((n for n, slot in enumerate(new.slots) if slot == table.slots[n] == Slot(slot.term, up[0])), None)
    if number is None or sum(slot.status == PENDING for slot in new.slots) >= most_moving(len(new)):
        return new
    moved = Slot(new.slots[number].term + 1, up[1], (), PENDING, up[0])
    return replace(new, slots=(*new.slots[:number], moved, *new.slots[number + 1 :]))


def forgets_the_donor(table: Table, facts: Facts) -> Table | None:
    """Who was to get a slot is taken for one that has it."""
    new = next_table(table, facts)
    if new is None or new.members[: len(table.members)] != table.members:
        return new
    slots = [
        replace(slot, donor=old.owner) if slot.status == old.status == PENDING and slot != old else slot
        for slot, old in zip(new.slots, table.slots, strict=True)
    ]
    return replace(new, slots=tuple(slots))


def buries_the_living(table: Table, facts: Facts) -> Table | None:
    """The dead are given up at once."""
    members = {each: replace(member, status=LEFT) if member.status == DEAD else member
               for each, member in facts.members.items()}  # fmt: skip
    return next_table(table, replace(facts, members=members, mourned=list(members)))


@pytest.mark.parametrize(
    ("mutant", "told"),
    [
        (ignores_the_term, "its owner has the state of term"),
        (one_move_too_many, "it never comes to rest|moves"),
        (forgets_the_donor, "goes from"),
        (buries_the_living, "is given up while"),
    ],
)
def test_mutant_is_caught(mutant: Plan, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        many_lives(mutant)


def many_lives(plan: Plan) -> None:
    for seed in range(200):
        lively(seed, 3, 1, 64, plan)
        restful(seed, 3, plan)
