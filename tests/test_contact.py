from __future__ import annotations

import pytest

from mesh.core.contact import ASK, ASK_AGAIN, LEASE, CaughtUp, Contact
from mesh.core.electorate import electorate
from mesh.core.events import Effect, Received, Send, Woke
from mesh.core.events.planes import Fenced, MemberChanged
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import EpochHeld, EpochKnown
from mesh.core.messages.members import ALIVE, DEAD, Member

A, B, C, D, X = (name.encode() * 16 for name in "abcdx")
THREE = electorate([("a", A), ("b", B), ("c", C)])
FOUR = electorate([("a", A), ("b", B), ("c", C), ("d", D)])


def asked(effects: list[Effect]) -> dict[NodeId, EpochKnown]:
    return {
        each.to: each.message for each in effects if isinstance(each, Send) and isinstance(each.message, EpochKnown)
    }


def fences(effects: list[Effect]) -> list[bool]:
    return [each.fenced for each in effects if isinstance(each, Fenced)]


def contact(epoch: int = 5, voters: object = THREE, now: int = 1_000) -> Contact:
    each = Contact(A)
    each.agreed(epoch, voters, now)  # type: ignore[arg-type]
    return each


def test_every_voter_is_asked_again_and_again_to_confirm_the_newest_epoch() -> None:
    each = Contact(A)
    assert each.next_deadline() is None
    assert asked(each.agreed(5, THREE, 1_000)) == {B: EpochKnown(5, 1_000), C: EpochKnown(5, 1_000)}
    assert each.handle(Woke(), 1_000 + ASK - 1) == []
    assert asked(each.handle(Woke(), 1_000 + ASK)) == {B: EpochKnown(5, 2_000), C: EpochKnown(5, 2_000)}


def test_a_new_epoch_is_asked_about_soon_but_not_at_every_epoch_of_a_burst() -> None:
    each = contact()
    assert asked(each.agreed(6, THREE, 1_020)) == asked(each.agreed(7, THREE, 1_040)) == {}
    assert each.next_deadline() == 1_000 + ASK_AGAIN
    assert {message.epoch for message in asked(each.handle(Woke(), 1_000 + ASK_AGAIN)).values()} == {7}


def run(each: Contact, start: int, end: int, confirming: dict[NodeId, int], delay: int = 0) -> list[tuple[int, bool]]:
    """Wakes as it wishes; the nodes in `confirming` answer with that epoch. When it was fenced and when not."""
    told = []
    now = start
    while (due := each.next_deadline()) is not None and due <= end:
        assert due > now or now == start
        now = max(due, start)
        effects = each.handle(Woke(), now)
        for node, message in asked(effects).items():
            if node in confirming:
                effects += each.handle(Received(node, EpochHeld(confirming[node], message.number)), now + delay)
        told += [(now, fenced) for fenced in fences(effects)]
    return told


def test_one_of_two_others_is_enough_to_stay_in_touch() -> None:
    assert run(contact(), 1_000, 60_000, {B: 5}) == []


def test_without_a_majority_it_is_fenced_after_the_lease_and_not_later() -> None:
    each = contact()
    assert run(each, 1_000, 10_000, {B: 5}) == []
    assert run(each, 10_001, 60_000, {}) == [(10_000 + LEASE + 1, True)]
    assert run(each, 60_001, 70_000, {C: 5}) == [(61_000, False)]


def test_the_first_table_is_itself_a_confirmation() -> None:
    assert run(contact(), 1_000, 60_000, {}) == [(1_000 + LEASE + 1, True)]


def test_who_answers_with_another_epoch_confirms_nothing() -> None:
    assert run(contact(), 1_000, 60_000, {B: 6, C: 4}) == [(1_000 + LEASE + 1, True)]


def test_an_answer_counts_from_when_it_was_asked_for() -> None:
    each = contact(now=1_000)
    each.handle(Received(B, EpochHeld(5, 1_000)), 4_900)
    assert fences(each.handle(Woke(), 5_001)) == [True]
    each.handle(Received(B, EpochHeld(5, 99_000)), 5_100)  # nobody asked that
    assert each.fenced


def test_epochs_that_come_faster_than_answers_do_not_put_it_out_of_touch() -> None:
    """Who chooses them is the first to know them, and each answer finds it at the next epoch."""
    each, answers = contact(), []
    for now in range(1_000, 20_000, ASK_AGAIN // 4):
        effects = each.agreed(now, THREE, now)
        effects += each.handle(Woke(), now + ASK_AGAIN // 8)
        for number, epoch in answers:
            effects += each.handle(Received(B, EpochHeld(epoch, number)), now + ASK_AGAIN // 8)
        answers = [(message.number, message.epoch) for node, message in asked(effects).items() if node == B]
        assert not each.fenced


def test_nobody_is_asked_about_an_epoch_in_the_step_in_which_it_is_chosen() -> None:
    each = contact()
    for epoch in range(6, 40):
        now = 1_000 + 500 * epoch
        assert asked(each.agreed(epoch, THREE, now)) == {}
        due = each.next_deadline()
        assert due is not None
        due = max(due, now)
        question = asked(each.handle(Woke(), due))[B]
        assert question.epoch == epoch
        each.handle(Received(B, EpochHeld(epoch, question.number)), due)
        assert not each.fenced


def test_of_an_even_set_the_heavier_half_needs_nobody_else_of_the_other_half() -> None:
    assert run(contact(voters=FOUR), 1_000, 60_000, {B: 5}) == []
    light = Contact(D)
    light.agreed(5, FOUR, 1_000)
    assert run(light, 1_000, 60_000, {C: 5}) == [(1_000 + LEASE + 1, True)]


def test_who_decides_alone_is_never_fenced() -> None:
    each = contact(voters=electorate([("a", A)]))
    assert run(each, 1_000, 100_000, {}) == []
    assert not run(contact(voters=electorate([("a", A), ("b", B)])), 1_000, 100_000, {})


def test_who_has_no_vote_needs_a_majority_of_the_others() -> None:
    for confirming, expected in (({B: 5, C: 5}, []), ({B: 5}, [(1_000 + LEASE + 1, True)])):
        each = Contact(X)
        each.agreed(5, THREE, 1_000)
        assert run(each, 1_000, 60_000, confirming) == expected


def test_confirmations_outlast_an_epoch_but_not_the_vote() -> None:
    each = contact()
    each.handle(Received(B, EpochHeld(5, 1_000)), 1_010)
    each.agreed(6, THREE, 1_020)
    assert not each.fenced
    each.agreed(7, electorate([("a", A), ("c", C), ("d", D)]), 1_030)
    assert fences(each.handle(Woke(), 5_001)) == [True]


@pytest.mark.parametrize("message", [EpochKnown(5, 0), EpochKnown(6, 9), EpochHeld(5, 0)])
def test_who_shows_the_newest_epoch_has_caught_up(message: EpochKnown | EpochHeld) -> None:
    each = contact()
    assert each.handle(Received(X, EpochKnown(4, 1)), 1_001) == []
    assert each.handle(Received(X, message), 1_002) == [CaughtUp(X)]
    assert each.handle(Received(X, message), 1_003) == []
    each.agreed(6, THREE, 1_004)
    assert list(each.caught_up) == [X]  # it will hear of that one too
    for status, still in ((ALIVE, [X]), (DEAD, [])):
        each.handle(MemberChanged(Member(X, "x", "tcp://x:1", "", "worker", "", 1, status), None), 1_005)
        assert list(each.caught_up) == still


def test_before_any_table_nobody_has_caught_up() -> None:
    assert Contact(A).handle(Received(B, EpochKnown(0, 0)), 1) == []


def test_an_epoch_is_held_once_a_decisive_set_says_so() -> None:
    each = Contact(X)
    each.agreed(6, THREE, 1_000)
    for node, epoch, held in ((B, 6, False), (B, 7, False), (C, 5, False), (X, 9, False), (A, 6, True)):
        each.handle(Received(node, EpochHeld(epoch, 0)), 1_001)
        assert each.is_held() == held
    each.agreed(7, THREE, 1_002)
    assert not each.is_held()
