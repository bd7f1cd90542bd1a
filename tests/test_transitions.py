from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.messages import ALIVE, DEAD, LEFT, READY, SUSPECT
from mesh.core.table import LOST, PENDING
from tests.moving_kit import World

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
    stay |= {each.node: 0 for each in new if (seat := table.seat_named(each.name)) and world.has_ended(seat.node)
             and seat.role == each.role}  # fmt: skip
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
@given(st.integers(0, 1 << 32), st.integers(1, 5), st.integers(0, 2), st.sampled_from([16, 64]))
def test_whatever_happens_it_comes_to_rest_level_and_loses_nothing_that_lives(
    seed: int, workers: int, witnesses: int, slots: int
) -> None:
    world = World(Random(seed), workers, witnesses, slots)
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
    world = World(Random(seed), workers, slots=256)
    for _ in range(6):
        for _ in range(world.random.randrange(1, 4)):
            happen(world)
            keep_a_worker(world)
        bound, world.moves = lower_bound(world), 0
        pinned = [world.pinned(number) for number in range(world.slots)]
        started = [slot.status == PENDING for slot in world.table.slots]
        world.settle()
        at_rest(world)
        if bound >= 0 and not any(started):
            assert world.moves == bound
            assert all(pinned[number] or not world.pinned(number) for number in range(world.slots))
