from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.core.copying import MAX_FETCHING, MAX_FILLING, MAX_HANDING, in_turn, renumbered, settled, urgent
from mesh.core.messages.members import ALIVE, DEAD, LEFT
from mesh.core.planner import ABSENCE, Planner
from mesh.core.recovery import recovered
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import GENERATION, Table
from mesh.core.transitions import next_table
from tests.copies_kit import Copies, Durable
from tests.moving_kit import Plan
from tests.test_transitions import happen, keep_a_worker

ALL = (True,) * 4


def without(*places: int) -> tuple[bool, ...]:
    return tuple(place not in places for place in range(4))


# -- one slot, one step -----------------------------------------------------------------------------------------------

OWNED = Slot(5, 0, (1, 2), ACTIVE, None, 2)
JOINED = Slot(5, 0, (1,), ACTIVE, None, 2, 3)
HANDED = Slot(5, 1, (0, 2), PENDING, 0, 2)
PROMOTED = Slot(5, 1, (0, 2), PENDING, 1)
PARTING = Slot(5, 0, (1, 2), ACTIVE, None, 2, None, (1,))


def owned(*backups: int, parting: tuple[int, ...] = (), since: int = 2) -> Slot:
    return Slot(6, 0, backups, ACTIVE, None, since, None, parting)


@pytest.mark.parametrize(
    ("slot", "claimed", "there", "after"),
    [
        (OWNED, False, ALL, OWNED), (OWNED, False, without(1), owned(1, 2, parting=(1,))),
        (OWNED, False, without(1, 2), owned(1, 2, parting=(1, 2))),
        (OWNED, False, without(0), Slot(6, 1, (0, 2), PENDING, 1)),
        (OWNED, False, without(0, 1), Slot(6, 2, (0, 1), PENDING, 2)), (OWNED, False, without(0, 1, 2), OWNED),
        (JOINED, False, ALL, JOINED), (JOINED, True, ALL, Slot(6, 0, (1, 3), ACTIVE, None, 2)),
        (JOINED, True, without(1), owned(1, 3, parting=(1,))),
        (JOINED, False, without(1), owned(1, parting=(1,))), (JOINED, True, without(3), owned(1)),
        (JOINED, True, without(1, 3), owned(1, parting=(1,))),
        (PARTING, False, without(1), PARTING), (PARTING, False, ALL, PARTING), (PARTING, True, without(1), owned(2)),
        (PARTING, True, ALL, PARTING), (PARTING, False, without(1, 2), owned(1, 2, parting=(1, 2))),
        (PARTING, True, without(1, 2), owned(2, parting=(2,))), (PARTING, False, without(0, 1, 2), PARTING),
        (PARTING, True, without(0), Slot(6, 1, (0, 2), PENDING, 1)),
        (PARTING, False, without(0, 2), Slot(6, 1, (0, 2), PENDING, 1)),
        (JOINED, True, without(0), Slot(6, 1, (0,), PENDING, 1)), (JOINED, True, without(0, 1), JOINED),
        (HANDED, False, ALL, HANDED), (HANDED, True, ALL, Slot(5, 1, (0, 2))),
        (HANDED, True, without(0), Slot(5, 1, (0, 2))), (HANDED, False, without(0), Slot(6, 1, (0, 2), PENDING, 1)),
        (HANDED, False, without(0, 1), Slot(6, 2, (0, 1), PENDING, 2)),
        (HANDED, True, without(1), owned(1, 2, parting=(1,), since=6)),
        (HANDED, False, without(2), owned(1, 2, parting=(2,), since=6)), (HANDED, False, without(0, 1, 2), HANDED),
        (PROMOTED, False, without(0), PROMOTED), (PROMOTED, True, without(0), Slot(5, 1)),
        (PROMOTED, True, without(1), Slot(6, 0, (1, 2), PENDING, 0)),
        (PROMOTED, False, without(0, 1, 2), PROMOTED), (Slot(5, 0, (), LOST), True, ALL, Slot(5, 0, (), LOST)),
    ],
)  # fmt: skip
def test_what_cannot_wait(slot: Slot, claimed: bool, there: tuple[bool, ...], after: Slot) -> None:
    assert urgent(slot, claimed, there, copies=3) == after


@pytest.mark.parametrize(
    ("slot", "claimed", "there", "after"),
    [
        (OWNED, False, without(1), owned(2)), (OWNED, False, without(1, 2), owned(1, 2, parting=(1, 2))),
        (HANDED, False, without(2), owned(1, since=6)), (JOINED, True, without(1), owned(3)),
        (JOINED, False, without(1), owned(1, parting=(1,))),
    ],
)  # fmt: skip
def test_where_enough_copies_stay_nobody_is_asked(
    slot: Slot, claimed: bool, there: tuple[bool, ...], after: Slot
) -> None:
    assert urgent(slot, claimed, there, copies=2) == after


@pytest.mark.parametrize(
    ("slot", "claimed", "gone", "there", "after"),
    [
        (OWNED, False, (0,), without(0), Slot(6, 1, (2,), PENDING, 1)),
        (OWNED, False, (0,), without(0, 1, 2), Slot(6, 1, (2,), PENDING, 1)),
        (OWNED, False, (1,), without(1), owned(2)), (OWNED, False, (1,), without(1, 2), owned(2, parting=(2,))),
        (PARTING, False, (1,), without(1), owned(2)), (PARTING, False, (2,), without(1, 2), owned(1, parting=(1,))),
        (OWNED, False, (1,), without(0, 1, 2), Slot(6, 0, (2,), ACTIVE, None, 2)),
        (OWNED, False, (1,), without(0, 1), Slot(6, 2, (0,), PENDING, 2)),
        (JOINED, False, (3,), without(0, 1, 3), Slot(6, 0, (1,), ACTIVE, None, 2)),
        (HANDED, True, (0,), without(0), Slot(6, 1, (2,), PENDING, 1)),
        (HANDED, False, (1,), without(0, 1, 2), Slot(6, 0, (2,), PENDING, 0)),
        (HANDED, True, (2,), without(2), Slot(6, 0, (1,))),
        (PROMOTED, True, (0,), without(0), Slot(5, 1)),
        (PROMOTED, False, (0,), without(0), Slot(6, 1, (2,), PENDING, 1)),
        (PROMOTED, False, (0, 1, 2), without(0, 1, 2), PROMOTED),
    ],
)  # fmt: skip
def test_who_has_ended_is_named_no_more(
    slot: Slot, claimed: bool, gone: tuple[int, ...], there: tuple[bool, ...], after: Slot
) -> None:
    assert urgent(slot, claimed, there, gone, copies=3) == after


def test_a_slot_is_brought_to_its_target_without_ever_having_fewer_copies() -> None:
    slot, seen = Slot(1, 0, (1,)), []
    for _ in range(9):
        new = settled(slot, False, 2, (3,), 2)
        new = urgent(new, True, ALL, copies=2) if new.asked() else new
        if new == slot:
            break
        slot = new
        seen.append((slot.owner, slot.backups))
    assert seen == [(0, (1, 2)), (0, (1, 2, 3)), (2, (0, 1, 3)), (2, (3,))]


def test_a_fill_goes_on_whatever_else_is_wanted() -> None:
    assert settled(JOINED, False, 2, (0,), 2) == JOINED


def test_who_is_not_wanted_parts_first_where_too_few_stay() -> None:
    slot = settled(Slot(5, 0, (1,)), False, 0, (), 2)
    assert slot == Slot(6, 0, (1,), ACTIVE, None, 5, None, (1,))
    assert settled(slot, False, 0, (), 2) == slot
    assert settled(slot, True, 0, (), 2) == Slot(7, 0, (), ACTIVE, None, 5)


def test_who_was_called_dead_and_is_back_stays() -> None:
    for claimed in (False, True):
        assert settled(PARTING, claimed, 0, (1, 2), 3) == owned(1, 2)
        assert settled(PARTING, claimed, 0, (2, 3), 3) == owned(1, 2)  # until the last one is filled


def test_places_are_renumbered_and_stay_in_order() -> None:
    assert renumbered(Slot(5, 0, (1, 2), PENDING, 1, 2), {0: 1, 1: 2, 2: 0}) == Slot(5, 1, (0, 2), PENDING, 2, 2)
    assert renumbered(JOINED, {0: 0, 1: 1, 3: 2}) == Slot(5, 0, (1,), ACTIVE, None, 2, 2)


# -- whole lives ------------------------------------------------------------------------------------------------------


def lively(seed: int, workers: int, copies: int, plan: Plan = next_table) -> None:
    world = Copies(Random(seed), workers, 1, 16, plan, copies=copies)
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
        at_rest(world)


def at_rest(world: Copies) -> None:
    table = world.table
    eligible = [place for place, seat in enumerate(table.members) if world.stays(seat)]
    movable = [slot for number, slot in enumerate(table.slots) if not world.pinned(number)]
    owned = [sum(slot.owner == place for slot in movable) for place in eligible]
    assert not owned or max(owned) - min(owned) <= 1
    for slot in movable:
        assert slot.status != PENDING
        if slot.status == ACTIVE:
            assert slot.joining is None
            assert len(slot.members) == min(world.copies, max(1, len(eligible)))
            assert all(place in eligible for place in slot.members) or not eligible
    named = {place for slot in table.slots for place in slot.members}
    assert all(place in named for place, seat in enumerate(table.members) if world.has_ended(seat.node))


@settings(max_examples=60, deadline=None)
@example(947132, 4, 2)  # who parts has ended, and so has the owner
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(2, 3))
def test_whatever_happens_it_comes_to_rest_and_loses_nothing_that_lives(seed: int, workers: int, copies: int) -> None:
    lively(seed, workers, copies)


def state(world: Copies) -> dict[str, int]:
    return {name: count for name, count in world.table.counts().items() if count}


@pytest.mark.parametrize("ended", [False, True])
def test_a_crash_promotes_at_once_and_keeps_everything(ended: bool) -> None:
    world = Copies(Random(1), workers=3)
    world.work(1)
    dead = world.table.members[0].node
    world.become(dead, LEFT if ended else DEAD)
    world.step()
    promoted = [slot for slot in world.table.slots if slot.promotes]
    assert len(promoted) == 22
    world.transfer()
    world.step()
    assert state(world) == {"active": 64}
    world.work(1)
    world.settle()
    assert state(world) == {"active": 64}
    assert world.committed == [2] * 64
    assert world.table.backup_counts() == ((0, 32, 32) if not ended else (32, 32))


@pytest.mark.parametrize("knew", [False, True])
def test_a_copy_that_is_called_dead_goes_on_if_its_owner_dies_before_it_knew(knew: bool) -> None:
    world = Copies(Random(1), workers=3)
    world.work(1)
    first, second = (world.table.members[place].node for place in (0, 1))
    both = [slot for slot in range(64) if world.table.slots[slot].members == (0, 1)]
    world.become(second, DEAD)
    world.step()
    assert {world.table.slots[slot].parting for slot in both} == {(1,)}
    if knew:
        world.transfer()
        world.step()  # and it is not filled yet
        assert {world.table.slots[slot].members for slot in both} == {(0,)}
    world.become(first, LEFT)
    world.become(second, ALIVE)
    world.settle()
    assert {world.table.state_of(slot) for slot in both} == {"lost" if knew else "active"}
    assert knew or state(world) == {"active": 64}


def test_who_is_back_before_it_was_left_out_is_not_filled_again() -> None:
    world = Copies(Random(1), workers=3)
    second = world.table.members[1].node
    world.become(second, DEAD)
    world.step()
    parting = [slot for slot in range(64) if world.table.slots[slot].parting]
    before = [world.table.slots[slot] for slot in parting]
    assert parting
    world.become(second, ALIVE)
    world.step()
    after = [world.table.slots[slot] for slot in parting]
    assert after == [replace(slot, term=slot.term + 1, parting=()) for slot in before]


def test_two_of_three_copies_die_at_once_and_nothing_is_lost() -> None:
    """Also if one of them is asked first, as its end is noticed later."""
    world = Copies(Random(1), workers=4, copies=3)
    world.work(1)
    for place in (0, 1):
        world.become(world.table.members[place].node, DEAD)
        world.step()
    world.settle()
    assert state(world) == {"active": 64}
    assert all(len(slot.members) == 2 for slot in world.table.slots)


def test_a_slot_whose_copies_are_all_down_waits_for_any_of_them_and_is_lost_only_when_all_have_ended() -> None:
    world = Copies(Random(1), workers=4)
    first, second = (world.table.members[place].node for place in (0, 1))
    both = [slot for slot in range(64) if {*world.table.slots[slot].members} == {0, 1}]
    assert both
    world.become(first, DEAD)
    world.become(second, DEAD)
    world.settle()
    assert {world.table.state_of(slot) for slot in both} == {"unavailable"}
    world.become(first, LEFT)
    world.settle()
    assert {world.table.state_of(slot) for slot in both} == {"unavailable"}
    world.become(second, ALIVE)
    world.settle()
    assert state(world) == {"active": 64}
    world.become(second, LEFT)
    world.settle()
    assert state(world) == {"active": 64}  # by then they had other copies


def test_all_copies_ended_is_lost() -> None:
    world = Copies(Random(1), workers=4)
    both = [slot for slot in range(64) if {*world.table.slots[slot].members} == {0, 1}]
    for place in (0, 1):
        world.become(world.table.members[place].node, LEFT)
    world.settle()
    assert [slot for slot in range(64) if world.table.state_of(slot) == "lost"] == both
    assert len(world.table.members) == 2


def test_while_somebody_is_expected_back_nothing_is_levelled_but_all_is_filled() -> None:
    world = Copies(Random(1), workers=4)
    gone = world.table.members[0].node
    before = world.table.owners()
    world.become(gone, DEAD)
    facts = replace(world.facts(), absent=(gone,))
    world.plan = lambda table, now: next_table(table, replace(now, absent=facts.absent))
    world.settle()
    after = world.table.owners()
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "n0")
    assert all(len(slot.members) == 2 and 0 not in slot.members for slot in world.table.slots)
    assert world.moves == 0
    proposer = Planner(world.table.members[1].node, [], 1, 64, 2, Random(1))
    proposer.agreed(0)
    assert proposer.follow(world.table, facts, 0) == []
    assert proposer.next_deadline() == ABSENCE
    assert len(proposer.follow(world.table, facts, ABSENCE)) == 1
    world.become(gone, ALIVE)
    world.plan = next_table
    world.settle()
    assert world.table.owned_counts() == (16, 16, 16, 16)
    assert world.moves == 16


def test_a_seat_passes_on_even_while_the_other_copy_is_down() -> None:
    world = Copies(Random(1), workers=4)
    world.work(1)
    first, second = (world.table.members[place].node for place in (0, 1))
    world.become(second, DEAD)
    world.become(first, DEAD)
    new = world.start("n0")
    world.settle()
    assert world.table.members[0].node == new
    assert state(world).keys() == {"active", "unavailable"}
    world.become(second, ALIVE)
    world.settle()
    assert state(world) == {"active": 64}


def test_a_restarted_process_follows_in_its_seat() -> None:
    world = Copies(Random(1), workers=3, copies=2)
    new = world.start("n1")
    world.settle()
    assert [seat.name for seat in world.table.members] == ["n0", "n1", "n2"]
    assert world.table.members[1].node == new
    assert sorted(world.table.owned_counts()) == [21, 21, 22]


def test_a_leaver_gives_its_slots_away_without_ever_fewer_copies() -> None:
    world = Copies(Random(1), workers=4)
    leaver = world.table.members[0].node
    world.leave(leaver)
    world.settle()
    assert world.table.left == (leaver,)
    assert state(world) == {"active": 64}
    assert all(len(slot.members) == 2 for slot in world.table.slots)


def test_only_so_many_are_filled_at_once() -> None:
    world = Copies(Random(1), workers=1, slots=2 * MAX_FILLING)
    world.start("n1")
    filling = []
    for _ in range(8):
        world.step()
        filling.append(sum(slot.joining is not None for slot in world.table.slots))
        world.transfer()
    assert max(filling) == MAX_FILLING
    world.settle()
    assert world.table.owned_counts() == world.table.backup_counts() == (MAX_FILLING, MAX_FILLING)


def test_a_large_move_goes_in_parts_and_nothing_is_handed_over_behind_a_slot_that_is_filled() -> None:
    world = Copies(Random(1), workers=2, slots=4 * MAX_FETCHING)
    world.start("n2")
    seen = []
    for _ in range(12):
        world.step()
        slots = world.table.slots
        seen.append((sum(slot.joining is not None for slot in slots), sum(slot.hands_over for slot in slots)))
        lanes = {(slot.owner, slot.joining) for slot in slots}
        waits = [
            slot for slot in slots if slot.hands_over and any((slot.donor, each) in lanes for each in slot.members)
        ]
        assert not waits, "a hand-over would wait behind what is filled"
        assert sum(len(slot.members) > 2 for slot in slots) <= MAX_FETCHING, "too many have a copy too many"
        world.transfer(0.9)
    assert max(filling for filling, _ in seen) == MAX_FETCHING
    assert 0 < max(handing for _, handing in seen) <= MAX_HANDING
    world.settle()
    assert sorted(world.table.owned_counts()) == sorted(world.table.backup_counts()) == [341, 341, 342]


def test_who_lacks_a_copy_does_not_wait_for_what_is_handed_over() -> None:
    lacking, fetching, handed = Slot(6, 0, (), ACTIVE, None, 2, 1), JOINED, HANDED
    steps = {3: lacking, 4: fetching, 5: replace(OWNED, backups=(1,)), 6: handed}
    assert in_turn([HANDED], steps, 2) == {3: lacking, 5: steps[5]}
    assert in_turn([JOINED], {4: fetching, 6: replace(handed, backups=(0, 3))}, 2) == {}, "in the lane from 0 to 3"
    assert in_turn([replace(JOINED, owner=2)], {4: fetching, 6: handed}, 2) == {6: handed}
    assert in_turn([], {4: fetching, 6: handed}, 2) == {6: handed}
    assert in_turn([], {4: fetching}, 2) == {4: fetching}


def test_a_fill_that_waits_for_who_is_down_holds_up_nobody_else() -> None:
    world = Durable(Random(1), workers=3, copies=1)
    world.start("n3")
    world.step()
    away = next(slot.owner for slot in world.table.slots if slot.joining is not None)
    world.become(world.table.members[away].node, DEAD)
    world.settle()
    assert any(slot.owner == away and slot.joining is not None for slot in world.table.slots)
    counts = world.table.owned_counts()
    assert max(each for place, each in enumerate(counts) if place != away) - counts[3] <= 1


def test_a_fill_that_does_not_end_holds_up_nobody_who_does_not_share_its_lane() -> None:
    world, stuck = Copies(Random(1), workers=4), -1
    world.start("n4")
    for _ in range(300):
        for number, slot in enumerate(world.table.slots):
            if stuck < 0 and slot.joining is not None and slot.owner == 0:
                stuck = number
            if number != stuck and slot.asked():
                world.answer(number, slot)
        if not world.step():
            break
    assert world.table.slots[stuck].joining == 4
    world.leave(world.table.members[1].node)
    for _ in range(300):
        for number, slot in enumerate(world.table.slots):
            if number != stuck and slot.asked():
                world.answer(number, slot)
        if not world.step():
            break
    counts = world.table.owned_counts()
    assert counts[1] == 0 < counts[4]


@pytest.mark.parametrize("how", ["left", "restarted"])
def test_a_slot_whose_copies_have_ended_is_lost_though_one_of_them_was_parting(how: str) -> None:
    """The backup's death is agreed first, and its owner dies before it has said that it knows."""
    world = Copies(Random(1), workers=4)
    world.work(1)
    first, second = (seat.node for seat in world.table.members[:2])
    world.become(second, DEAD)
    world.step()
    world.become(first, DEAD)
    world.settle()
    waiting = world.table.counts()["unavailable"]
    assert waiting
    if how == "left":
        world.become(first, LEFT)
        world.become(second, LEFT)
    else:
        for seat in world.table.members[:2]:
            world.start(seat.name)
    world.settle()
    assert (world.table.counts()["lost"], world.table.counts()["unavailable"]) == (waiting, 0)


def test_a_recovery_promotes_whoever_lives_of_a_slots_copies() -> None:
    world = Copies(Random(1), workers=4)
    for place in (2, 3):
        world.become(world.table.members[place].node, DEAD)
    table = recovered(world.table, world.members)
    assert table is not None
    table.invariants()
    for before, after in zip(world.table.slots, table.slots, strict=True):
        living = tuple(place for place in before.members if place < 2)
        assert after.status == (LOST if not living else ACTIVE if len(living) == 2 else PENDING)
        assert not living or (after.members, after.term) == (
            (before.members, 1) if after.status else (living, GENERATION)
        )


# -- mutants ----------------------------------------------------------------------------------------------------------


def drops_before_it_fills(table: Table, facts: Facts) -> Table | None:
    new = next_table(table, facts)
    if new is None or len(new.members) != len(table.members):
        return new
    slots = [
        Slot(slot.term, slot.owner, (), ACTIVE, None, slot.since, slot.joining)
        if slot.joining is not None and old.joining is None
        else slot
        for old, slot in zip(table.slots, new.slots, strict=True)
    ]
    return replace(new, slots=tuple(slots))


def takes_old_claims(table: Table, facts: Facts) -> Table | None:
    return next_table(table, replace(facts, installed={n: table.slots[n].term for n in facts.installed}))


def buries_the_living(table: Table, facts: Facts) -> Table | None:
    members = {each: replace(member, status=LEFT) if member.status == DEAD else member
               for each, member in facts.members.items()}  # fmt: skip
    return next_table(table, replace(facts, members=members, mourned=list(members)))


@pytest.mark.parametrize(
    ("mutant", "told"),
    [
        (drops_before_it_fills, "goes from"),
        (takes_old_claims, "what was committed is gone"),
        (buries_the_living, "is given up while"),
    ],
)
def test_mutant_is_caught(mutant: Plan, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        many_lives(mutant)


def many_lives(plan: Plan) -> None:
    for seed in range(100):
        lively(seed, 4, 2, plan)
