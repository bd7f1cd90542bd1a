from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.claims import REPEAT, Claimed, Claims
from mesh.core.events import Effect, Received, Rejected, Send, Woke
from mesh.core.events.planes import SlotsInstalled, SlotsRooted
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import Installed
from mesh.core.slot import ACTIVE, PENDING, Slot
from mesh.core.table import Seat, Table

A, B, C, X = (name.encode() * 16 for name in "abcx")
SEATS = tuple(Seat(node[:1].decode(), node, "tcp://h:1", "", "worker", "", node != C) for node in (A, B, C))
TABLE = Table(
    7, b"i" * 16, SEATS,
    (Slot(3, 0, (), PENDING, 1), Slot(4, 0, (), PENDING, 1), Slot(5, 2, (), PENDING, 0), Slot(6, 0)),
)  # fmt: skip


def claims(me: NodeId = A) -> Claims:
    each = Claims(me)
    each.agreed(TABLE)
    return each


def sent(effects: list[Effect]) -> dict[NodeId, object]:
    return {each.to: each.message for each in effects if isinstance(each, Send)}


def installed(*pairs: tuple[int, int]) -> Installed:
    return Installed(7, b"".join(slot.to_bytes(2, "little") for slot, _ in pairs), tuple(term for _, term in pairs))


def test_own_claims_go_to_the_voters_until_the_table_answers_them() -> None:
    each = claims(C)
    told = each.handle(SlotsInstalled(((2, 5),)), 100)
    assert sent(told) == {A: installed((2, 5)), B: installed((2, 5))}
    assert each.next_deadline() == 100 + REPEAT
    assert each.handle(Woke(), 100 + REPEAT - 1) == []
    assert sent(each.handle(Woke(), 100 + REPEAT)) == sent(told)
    each.agreed(replace(TABLE, epoch=8, slots=(*TABLE.slots[:2], Slot(5, 2), TABLE.slots[3])))
    assert each.next_deadline() is None
    assert each.handle(Woke(), 900) == []


def test_own_claims_are_heard_here_too_and_each_batch_is_told_once_and_then_all_together() -> None:
    each = claims()
    assert Claimed() in each.handle(SlotsInstalled(((0, 3),)), 100)
    assert sent(each.handle(SlotsInstalled(((1, 4),)), 150)) == {B: installed((1, 4))}
    assert each.heard == {0: 3, 1: 4}
    assert sent(each.handle(Woke(), 200)) == {B: installed((0, 3), (1, 4))}


@pytest.mark.parametrize("pair", [(0, 2), (0, 4), (2, 4), (3, 6), (9, 1)])
def test_what_is_not_pending_here_at_this_term_is_not_claimed(pair: tuple[int, int]) -> None:
    assert claims().handle(SlotsInstalled((pair,)), 100) == []


def test_others_claims_count_from_the_owner_at_exactly_the_term() -> None:
    each = claims(B)
    assert each.handle(Received(A, installed((0, 3))), 1) == [Claimed()]
    assert each.handle(Received(A, installed((0, 3))), 2) == []  # nothing new
    for sender, pair in ((A, (1, 3)), (A, (1, 5)), (C, (1, 4)), (A, (2, 4)), (A, (3, 6)), (A, (65535, 1))):
        assert each.handle(Received(sender, installed(pair)), 3) == []
    assert each.heard == {0: 3}
    assert not each.rooted


def test_what_a_donor_cannot_give_away_is_told_like_a_claim_and_known_as_long_as_it_has_the_slot() -> None:
    each = claims()
    told = each.handle(SlotsRooted(((2, 5),)), 100)
    assert Claimed() in told
    assert sent(told) == sent(each.handle(Woke(), 100 + REPEAT)) == {B: installed((2, 5))}
    assert (each.heard, each.rooted) == ({}, {2: A})
    for slot in (Slot(6, 0, (), PENDING, 0), Slot(6, 0)):
        each.agreed(replace(TABLE, epoch=8, slots=(*TABLE.slots[:2], slot, TABLE.slots[3])))
        assert each.rooted == {2: A}
        assert each.next_deadline() is None
    each.agreed(replace(TABLE, epoch=9, slots=(*TABLE.slots[:2], Slot(7, 1), TABLE.slots[3])))
    assert not each.rooted


def test_others_donors_are_believed_too_at_exactly_the_term() -> None:
    each = claims(C)
    for sender, pair in ((B, (0, 2)), (C, (0, 3)), (B, (3, 6))):
        assert each.handle(Received(sender, installed(pair)), 1) == []
    assert each.handle(Received(B, installed((0, 3))), 2) == [Claimed()]
    assert each.handle(Received(B, installed((0, 3))), 3) == []
    assert (each.heard, each.rooted) == ({}, {0: B})


def test_a_claim_of_a_former_term_is_forgotten() -> None:
    each = claims(B)
    each.handle(Received(A, installed((0, 3), (1, 4))), 1)
    each.agreed(replace(TABLE, epoch=8, slots=(Slot(4, 2, (), PENDING, 1), *TABLE.slots[1:])))
    assert each.heard == {1: 4}
    each.agreed(replace(TABLE, epoch=9, slots=(Slot(4, 2), Slot(4, 0, (), ACTIVE), *TABLE.slots[2:])))
    assert each.heard == {}


def test_slots_and_terms_must_match() -> None:
    for message in (Installed(7, b"\0", ()), Installed(7, b"", (3,)), Installed(7, b"\0\0\0\0", (3,))):
        (effect,) = claims(B).handle(Received(A, message), 1)
        assert isinstance(effect, Rejected)


def test_without_a_table_nothing_is_claimed_or_heard() -> None:
    each = Claims(A)
    assert each.handle(SlotsInstalled(((0, 3),)), 1) == each.handle(Received(B, installed((0, 3))), 1) == []


@given(st.sampled_from([A, B, C, X]), st.binary(max_size=12), st.lists(st.integers(0, (1 << 63) - 1), max_size=6))
def test_whatever_is_claimed_only_what_waits_is_heard(sender: NodeId, slots: bytes, terms: list[int]) -> None:
    each = claims(B)
    each.handle(Received(sender, Installed(7, slots, tuple(terms))), 1)
    assert all(
        TABLE.slots[slot].status == PENDING and TABLE.slots[slot].term == term for slot, term in each.heard.items()
    )


def test_a_hand_over_is_heard_of_once_all_copies_but_its_donor_have_claimed_it() -> None:
    each = Claims(A)
    each.agreed(replace(TABLE, slots=(Slot(3, 1, (0, 2), PENDING, 0, 1), *TABLE.slots[1:])))
    assert each.handle(Received(B, installed((0, 3))), 1) == []
    assert each.handle(SlotsInstalled(((0, 3),)), 1) == []  # the donor is not asked
    assert each.handle(Received(C, installed((0, 2))), 1) == []
    assert each.heard == {}
    assert each.handle(Received(C, installed((0, 3))), 1) == [Claimed()]
    assert each.heard == {0: 3}
    each.agreed(replace(TABLE, epoch=8, slots=(Slot(3, 1, (0, 2)), *TABLE.slots[1:])))
    assert each.heard == {}


def test_an_owner_claims_that_it_knows_who_parts() -> None:
    each = Claims(B)
    each.agreed(replace(TABLE, slots=(Slot(3, 0, (2,), ACTIVE, None, 1, None, (2,)), *TABLE.slots[1:])))
    assert each.handle(Received(C, installed((0, 3))), 1) == []
    assert each.handle(Received(A, installed((0, 3))), 1) == [Claimed()]
    assert each.heard == {0: 3}


def test_an_owner_claims_that_it_has_filled_who_joins() -> None:
    each = Claims(A)
    each.agreed(replace(TABLE, slots=(Slot(3, 0, (), ACTIVE, None, 1, 2), *TABLE.slots[1:])))
    assert each.handle(Received(C, installed((0, 3))), 1) == []
    told = each.handle(SlotsInstalled(((0, 3),)), 1)
    assert told[0] == Claimed()
    assert each.heard == {0: 3}
