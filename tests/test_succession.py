from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import pytest

from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.succession import fault, value_fault
from mesh.core.table import GENERATION, MAX_LEFT, Seat, Table
from mesh.core.table_bytes import table_to_bytes

A, B, C, D = (Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", True) for name in "abcd")
OLD = Table(5, b"c" * 16, (A, B, C), (Slot(3, 0), Slot(3, 1, (), PENDING, 0), Slot(3, 2, (), LOST), Slot(1, 1)))


def after(*slots: Slot, members: tuple[Seat, ...] = (A, B, C), left: tuple[bytes, ...] = ()) -> Table:
    return Table(6, b"c" * 16, members, (*slots, *OLD.slots[len(slots) :]), left)


def only(number: int, slot: Slot) -> Table:
    return after(*OLD.slots[:number], slot)


@pytest.mark.parametrize(
    ("number", "slot"),
    [
        (0, Slot(4, 1, (), PENDING, 0)), (0, Slot(4, 0, (), PENDING, 0)), (0, Slot(4, 2, (), LOST)),
        (1, Slot(3, 1)), (1, Slot(4, 2, (), PENDING, 0)), (1, Slot(4, 0, (), PENDING, 0)), (1, Slot(4, 2, (), LOST)),
        (2, Slot(4, 0, (), LOST)), (2, Slot(4, 2, (), LOST)), (2, Slot(4, 2)), (2, Slot(4, 0)),
    ],
)  # fmt: skip
def test_a_slot_may_go_where_its_state_can_follow(number: int, slot: Slot) -> None:
    assert fault(OLD, only(number, slot)) is None


@pytest.mark.parametrize(
    ("number", "slot"),
    [
        (0, Slot(4, 1)), (0, Slot(3, 1)), (0, Slot(4, 0)), (0, Slot(2, 0)), (0, Slot(5, 1, (), PENDING, 0)),
        (0, Slot(3, 1, (), PENDING, 0)), (0, Slot(4, 1, (), PENDING, 2)), (0, Slot(3, 0, (), LOST)),
        (0, Slot(5, 0, (), LOST)), (0, Slot(4, 1, (), PENDING, 1)), (0, Slot(3, 0, (1,))),
        (1, Slot(4, 1)), (1, Slot(3, 0)), (1, Slot(3, 2)), (1, Slot(3, 1, (), PENDING, 1)),
        (1, Slot(4, 2, (), PENDING, 1)), (1, Slot(3, 2, (), PENDING, 0)), (1, Slot(3, 1, (), LOST)),
        (2, Slot(3, 2)), (2, Slot(4, 1, (), PENDING, 2)), (2, Slot(3, 1, (), LOST)),
    ],
)  # fmt: skip
def test_a_slot_goes_nowhere_else(number: int, slot: Slot) -> None:
    only(number, slot).invariants()
    told = fault(OLD, only(number, slot))
    assert told is not None
    assert told.startswith(f"slot {number} goes from")


# -- copies: exactly these, of all that there are

FOUR = replace(OLD, members=(A, B, C, D), slots=(Slot(1, 3),))


def every_slot(term: int) -> Iterator[Slot]:
    """Of four members and this term, in every form; backups in ascending order."""
    for owner in range(4):
        others = [place for place in range(4) if place != owner]
        yield Slot(term, owner, (), LOST)
        for count in range(4):
            for backups in combinations(others, count):
                rest = [None, *(place for place in others if place not in backups)]
                yield from (Slot(term, owner, backups, ACTIVE, None, s, j) for s in range(1, term + 1) for j in rest)
                goers = [some for n in range(1, 4) for some in combinations(backups, n)]
                yield from (Slot(term, owner, backups, ACTIVE, None, s, None, p) for s in (1, 2, term) for p in goers)
                donors = (owner, *backups) if backups else range(4)
                yield from (Slot(term, owner, backups, PENDING, d, s) for d in donors for s in range(1, term + 1))


def followers(slot: Slot) -> set[Slot]:
    """Those of the next term or this one that are not LOST."""
    before = replace(FOUR, slots=(slot,))
    valid = [each for t in (slot.term, slot.term + 1) for each in every_slot(t) if each != slot and good(each)]
    return {
        each for each in valid if each.status != LOST and fault(before, replace(before, epoch=6, slots=(each,))) is None
    }


def good(slot: Slot) -> bool:
    try:
        replace(FOUR, slots=(slot,)).invariants()
    except AssertionError:
        return False
    return True


def of_the_same_owner(owner: int, backups: Sequence[tuple[int, ...]], since: int = 2) -> set[Slot]:
    return {Slot(6, owner, each, ACTIVE, None, since, joining) for each in backups for joining in (None, *range(4))
            if joining not in (owner, *each)} | {
            Slot(6, owner, each, ACTIVE, None, since, None, parting) for each in backups for n in range(1, 4)
            for parting in combinations(each, n)}  # fmt: skip


def test_an_owner_may_get_a_copy_that_it_has_filled_and_lose_some_and_hand_over_or_be_followed() -> None:
    assert followers(Slot(5, 0, (1,), ACTIVE, None, 2, 2)) == of_the_same_owner(0, [(), (1,), (2,), (1, 2)]) | {
        Slot(6, 1, (0,), PENDING, 0, 2), Slot(6, 1, (0,), PENDING, 1)}  # fmt: skip


def test_who_was_not_filled_becomes_no_copy() -> None:
    assert followers(Slot(5, 0, (1, 2), ACTIVE, None, 2)) == of_the_same_owner(0, [(), (1,), (2,), (1, 2)]) | {
        Slot(6, 1, (0, 2), PENDING, 0, 2), Slot(6, 1, (0, 2), PENDING, 1),
        Slot(6, 2, (0, 1), PENDING, 0, 2), Slot(6, 2, (0, 1), PENDING, 2),
    }  # fmt: skip


def test_an_owner_without_copies_moves_as_it_always_did() -> None:
    assert followers(Slot(5, 0, (), ACTIVE, None, 2, 1)) == of_the_same_owner(0, [(), (1,)]) | {
        Slot(6, owner, (), PENDING, 0) for owner in range(4)}  # fmt: skip


def test_a_copy_that_is_missed_goes_once_its_owner_knows_and_at_once_where_enough_stay() -> None:
    before = replace(FOUR, copies=3, slots=(Slot(5, 0, (1, 2), ACTIVE, None, 2, None, (1,)),))

    def follows(backups: tuple[int, ...], parting: tuple[int, ...] = (), copies: int = 3) -> bool:
        old = replace(before, copies=copies)
        return fault(old, replace(old, epoch=6, slots=(Slot(6, 0, backups, ACTIVE, None, 2, None, parting),))) is None

    assert follows((2,))
    assert follows((2,), (2,))
    assert not follows((1,))
    assert not follows(())
    assert all(follows((1, 2), parting) for parting in ((), (1,), (2,), (1, 2)))
    assert follows((1,), copies=2)
    assert not follows((1,), (1,), copies=2)  # who shall go does not count
    assert not follows((), copies=2)


def test_a_hand_over_that_is_called_off_keeps_whom_its_donor_does_not_know_to_go() -> None:
    before = replace(FOUR, copies=3, slots=(Slot(5, 1, (0, 2), PENDING, 0, 2),))

    def follows(*backups: int, parting: tuple[int, ...] = ()) -> bool:
        return fault(before, replace(before, epoch=6, slots=(Slot(6, 0, backups, parting=parting),))) is None

    assert follows(1, 2)
    assert follows(1, 2, parting=(1, 2))
    assert not follows(1)
    assert not follows()


def test_a_hand_over_ends_with_its_owner_or_the_former_one_in_a_new_reign_or_with_a_promotion() -> None:
    assert followers(Slot(5, 1, (0, 2), PENDING, 0, 2)) == {
        Slot(5, 1, (0, 2)), *of_the_same_owner(0, [(), (1,), (2,), (1, 2)], 6),
        Slot(6, 0, (1, 2), PENDING, 0), Slot(6, 1, (0, 2), PENDING, 1), Slot(6, 2, (0, 1), PENDING, 2),
    }  # fmt: skip


def test_a_promotion_ends_alone_or_with_another_one() -> None:
    assert followers(Slot(5, 1, (0, 2), PENDING, 1)) == {
        Slot(5, 1),
        *(Slot(6, 0, (1, 2), PENDING, 0), Slot(6, 1, (0, 2), PENDING, 1), Slot(6, 2, (0, 1), PENDING, 2)),
    }


def test_a_lost_slot_starts_again_with_one_copy() -> None:
    assert followers(Slot(5, 1, (), LOST)) == {Slot(6, owner) for owner in range(4)}


def test_whose_seat_is_gone_is_no_copy_any_more() -> None:
    """A goes; places fall by one."""

    def gone(before: Slot, after: Slot) -> bool:
        old = replace(FOUR, slots=(before,))
        return fault(old, replace(old, epoch=6, members=(B, C, D), slots=(after,))) is None

    handing, owned = Slot(5, 1, (0, 2), PENDING, 0, 2), Slot(5, 0, (1, 2), ACTIVE, None, 2)
    assert gone(handing, Slot(6, 1, (0,), PENDING, 1))
    assert gone(owned, Slot(6, 0, (1,), PENDING, 0))
    assert not gone(owned, Slot(6, 0, (), PENDING, 0))  # C would be forgotten
    assert not gone(owned, Slot(6, 0, (1,), ACTIVE, None, 2))
    assert gone(Slot(5, 1, (0, 2), ACTIVE, None, 2), Slot(6, 0, (1,), ACTIVE, None, 2))
    assert gone(Slot(5, 0, (1,), ACTIVE, None, 2), Slot(6, 0, (), PENDING, 0))


def test_the_number_of_copies_and_whether_they_are_durable_stay() -> None:
    for other in (replace(after(), copies=2), replace(after(), durable=True)):
        assert fault(OLD, other) == "other founders, or another number of copies, or another durability"


def test_nothing_need_change_and_slots_change_independently() -> None:
    assert fault(OLD, after()) is None
    assert (
        fault(OLD, after(Slot(4, 1, (), PENDING, 0), Slot(3, 1), Slot(4, 0, (), LOST), Slot(2, 0, (), PENDING, 1)))
        is None
    )


def test_places_are_of_their_own_table() -> None:
    """A goes: what names B and C is renumbered, and what A had is lost."""
    slots = (Slot(4, 0, (), LOST), Slot(4, 1, (), LOST), Slot(3, 1, (), LOST), Slot(1, 0))
    assert fault(OLD, after(*slots, members=(B, C))) is None
    assert fault(OLD, after(*slots[:3], Slot(1, 1), members=(B, C))) is not None  # slot 3 would be C's
    assert fault(OLD, after(Slot(3, 0), *slots[1:], members=(B, C))) is not None  # B never had slot 0
    assert fault(OLD, after(Slot(4, 0, (), PENDING, 1), *slots[1:], members=(B, C))) is not None


def test_a_member_may_go_once_nothing_names_it() -> None:
    free = replace(OLD, slots=(Slot(3, 0),) * 4)
    assert fault(free, replace(free, epoch=6, members=(A, C), left=(B.node,))) is None
    assert fault(free, replace(free, epoch=6, members=(A, C))) is None  # it had ended
    assert fault(free, replace(free, epoch=6, left=(D.node,))) is not None  # never a member
    gone = replace(free, members=(A, C), left=(B.node,))
    assert fault(gone, replace(gone, epoch=6, left=())) is not None
    assert fault(gone, replace(gone, epoch=6, members=(A, C, B), left=(B.node,))) is not None
    full = replace(gone, left=tuple(b"%16d" % each for each in range(MAX_LEFT)))
    assert fault(full, replace(full, epoch=6, members=(A,), left=(*full.left[1:], C.node))) is None


def test_who_lost_what_it_had_did_not_leave_properly() -> None:
    slots = (Slot(4, 0, (), LOST), Slot(4, 1, (), LOST), Slot(3, 1, (), LOST), Slot(1, 0))
    told = fault(OLD, after(*slots, members=(B, C), left=(A.node,)))
    assert told == "slot 0 is lost by one that left properly"


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (replace(after(), epoch=5), "epoch 5 does not come after"),
        (replace(after(), epoch=4), "epoch 4 does not come after"),
        (replace(after(), cluster_id=b"d" * 16), "another cluster"),
        (replace(after(), slots=OLD.slots * 2), "another number of slots"),
        (after(Slot(3, 1), Slot(3, 0, (), PENDING, 1), OLD.slots[2], Slot(1, 0), members=(B, A, C)), "order"),
        (after(Slot(3, 1), Slot(3, 2, (), PENDING, 1), Slot(3, 3, (), LOST), Slot(1, 2), members=(D, A, B, C)),
         "order"),
        (after(members=(A, B, replace(C, name="x"))), "'c' becomes 'x'"),
        (after(*[Slot(4, 1, (), LOST)] * 3, members=(A, B, replace(C, role="witness"))), "becomes 'c', witness"),
    ],
)  # fmt: skip
def test_what_else_may_not_follow(new: Table, told: str) -> None:
    found = fault(OLD, new)
    assert found is not None
    assert told in found


def test_new_members_come_last_and_endpoints_may_change() -> None:
    assert fault(OLD, after(members=(A, replace(B, endpoint="tcp://x:1", up=False, voter=False), C, D))) is None


def test_a_leap_may_miss_much_but_no_term_and_no_reign_falls_and_a_term_has_one_owner() -> None:
    far = replace(OLD, epoch=9)
    assert fault(OLD, replace(far, slots=(Slot(9, 2), Slot(3, 1), Slot(8, 1), Slot(1, 1)))) is None
    assert fault(OLD, replace(far, slots=(Slot(3, 1), *OLD.slots[1:]))) is not None
    assert fault(OLD, replace(far, slots=(Slot(2, 0), *OLD.slots[1:]))) is not None
    assert fault(OLD, replace(far, slots=(Slot(9, 0, (), ACTIVE, None, 2), *OLD.slots[1:]))) is not None
    assert fault(OLD, replace(far, cluster_id=b"d" * 16)) is not None
    assert fault(None, far) is None


def test_a_first_table_has_no_past() -> None:
    first = Table(1, b"c" * 16, (A, B), (Slot(1, 0), Slot(1, 1)))
    assert fault(None, first) is None
    for slot in (Slot(2, 0), Slot(1, 0, (), LOST), Slot(1, 0, (), PENDING, 1)):
        assert fault(None, replace(first, slots=(slot, Slot(1, 1)))) is not None


def test_values_are_judged_as_tables_of_their_epoch() -> None:
    old, new = table_to_bytes(OLD), table_to_bytes(only(0, Slot(4, 1, (), PENDING, 0)))
    assert value_fault(6, old, new) is None
    assert value_fault(6, None, new) is None
    for epoch, before, value in ((7, old, new), (6, old, b"rubbish"), (6, old, table_to_bytes(only(0, Slot(4, 1))))):
        assert value_fault(epoch, before, value)


# -- a seat that passes on

B2 = replace(B, node=b"2" * 16, home=b"2" * 16)  # another process, without the memory of the one before
H, H2 = replace(B, home=b"h" * 16), replace(B, node=b"2" * 16, home=b"h" * 16, boot=2)
REST = (Slot(3, 0), Slot(4, 2, (), PENDING, 0), Slot(4, 1, (), LOST), Slot(2, 1, (), LOST))


@pytest.mark.parametrize("heir", [B2, replace(B2, voter=False), replace(B2, endpoint="tcp://x:1")])
def test_a_seat_passes_in_place_and_what_only_the_former_process_had_is_lost(heir: Seat) -> None:
    assert fault(OLD, after(*REST, members=(A, heir, C))) is None
    assert fault(OLD, after(*REST, members=(A, C, heir))) == "members are not in the order of their service"
    for number in (1, 3):
        kept = [*REST[:number], OLD.slots[number], *REST[number + 1 :]]
        told = fault(OLD, after(*kept, members=(A, heir, C)))
        assert told is not None
        assert told.startswith(f"slot {number} goes from")


def test_a_seat_passes_within_its_home_to_later_processes_only() -> None:
    old = replace(OLD, members=(A, H, C))
    assert fault(old, after(*REST, members=(A, H2, C))) is None
    assert fault(old, after(*REST, members=(A, replace(H2, boot=1), C))) == "'b' passes to an earlier process"


def test_a_process_keeps_its_home_and_its_boot() -> None:
    for changed in (replace(B, home=b"h" * 16), replace(B, boot=2)):
        assert fault(OLD, after(members=(A, changed, C))) == "'b' has another home or boot"


def test_a_new_generation_follows_on_whatever_was_known() -> None:
    far = replace(OLD, epoch=999_999_999, slots=tuple(replace(slot, term=9) for slot in OLD.slots))
    again = replace(OLD, epoch=GENERATION, members=(B,), slots=(Slot(3, 0), *[Slot(GENERATION, 0, (), LOST)] * 3))
    assert fault(far, again) is None
    assert fault(again, far) is not None
    assert fault(far, replace(again, cluster_id=b"d" * 16)) is not None
    assert (far.generation, again.generation) == (0, 1)
