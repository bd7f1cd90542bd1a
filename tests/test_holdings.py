"""Which slots a node has, and what it may apply, follows from the tables that it has learnt, also if it skips some."""

from __future__ import annotations

import pytest

from mesh.core.events.planes import TableAgreed
from mesh.core.holdings import Holdings, Moves
from mesh.core.slot import ACTIVE, LOST, PENDING
from tests.tables import agreed

ME, PEER, THIRD = b"m" * 16, b"p" * 16, b"t" * 16
WORKERS = (ME, PEER, THIRD)


def one_slot(epoch: int, owner: bytes, status: int = ACTIVE, term: int = 1, donor: bytes | None = None) -> TableAgreed:
    donors = [-1 if donor is None else WORKERS.index(donor)]
    return agreed(epoch, WORKERS, [WORKERS.index(owner)], donors=donors, statuses=[status], terms=[term])


def after(*tables: TableAgreed) -> tuple[Holdings, Moves]:
    """The moves of the last one."""
    tried, moves = Holdings(ME), Moves()
    for table in tables:
        moves = tried.set_table(table)
    return tried, moves


MINE, YOURS = one_slot(1, ME), one_slot(1, PEER)
TO_PEER = one_slot(2, PEER, PENDING, 2, ME)
TO_ME = one_slot(2, ME, PENDING, 2, PEER)


def test_what_the_first_table_gives_is_here_and_active() -> None:
    tried, moves = after(MINE)
    assert (list(tried.here), tried.active, moves.take) == ([0], {0: 1}, [])


def test_a_slot_that_goes_away_is_sealed_at_once_given_and_dropped_when_it_is_active_elsewhere() -> None:
    tried, moves = after(MINE, TO_PEER)
    assert moves.give == [(0, 2, PEER)]
    assert (list(tried.here), tried.active) == ([0], {})
    moves = tried.set_table(one_slot(3, PEER, ACTIVE, 2))
    assert moves.drop == [0]
    assert not tried.here


def test_a_slot_that_comes_is_promised_and_taken_when_it_is_active() -> None:
    tried, _ = after(YOURS, TO_ME)
    assert (tried.promised, tried.active, list(tried.here)) == ({0: 2}, {}, [])
    moves = tried.set_table(one_slot(3, ME, ACTIVE, 2))
    assert moves.take == [0]
    assert (tried.promised, tried.active, list(tried.here)) == ({}, {0: 3}, [0])


def test_a_slot_that_came_and_is_to_go_on_before_its_table_was_seen_is_taken_and_given() -> None:
    tried, _ = after(YOURS, TO_ME)
    moves = tried.set_table(one_slot(9, THIRD, PENDING, 3, ME))
    assert (moves.take, moves.give) == ([0], [(0, 3, THIRD)])
    assert not tried.active


def test_another_target_is_given_the_slot_anew_and_the_former_promise_is_over() -> None:
    tried, moves = after(MINE, TO_PEER, one_slot(3, THIRD, PENDING, 3, ME))
    assert (moves.give, moves.drop) == ([(0, 3, THIRD)], [])
    tried, moves = after(YOURS, TO_ME, one_slot(3, THIRD, PENDING, 3, PEER))
    assert (tried.promised, moves.changed) == ({}, [0])


def test_a_donor_that_is_chosen_again_keeps_what_it_has() -> None:
    tried, moves = after(MINE, TO_PEER, one_slot(3, ME, PENDING, 3, ME))
    assert (moves.keep, moves.give, moves.drop) == ([(0, 3)], [], [])
    moves = tried.set_table(one_slot(4, ME, ACTIVE, 3))
    assert (moves.take, tried.active) == ([], {0: 4})


def test_a_lost_slot_keeps_what_is_here_and_may_not_be_changed() -> None:
    tried, moves = after(MINE, one_slot(2, PEER, LOST, 2))
    assert (list(tried.here), tried.active, moves.drop) == ([0], {}, [])


def leapt_over_an_accepted_loss() -> tuple[Holdings, Moves]:
    """It never saw that the slot started again here, and it is to go on already."""
    return after(one_slot(1, PEER), one_slot(2, PEER, LOST, 2), one_slot(9, THIRD, PENDING, 4, ME))


def test_a_slot_that_started_empty_here_and_moves_on_before_its_table_was_seen_is_given_empty() -> None:
    tried, moves = leapt_over_an_accepted_loss()
    assert (moves.take, moves.give, list(tried.here)) == ([], [(0, 4, THIRD)], [0])
    assert not tried.active


@pytest.mark.parametrize(("status", "term"), [(LOST, 3), (ACTIVE, 4)])
def test_no_slot_comes_here_unseen_in_fewer_steps_than_that_takes(status: int, term: int) -> None:
    with pytest.raises(AssertionError, match="nobody was asked"):
        after(one_slot(1, PEER), one_slot(2, PEER, status, 2), one_slot(9, THIRD, PENDING, term, ME))


def test_a_promise_that_was_lost_meanwhile_gives_nothing_to_take() -> None:
    tried, moves = after(YOURS, TO_ME, one_slot(9, THIRD, PENDING, 5, ME))
    assert (moves.give, list(tried.here)) == ([(0, 5, THIRD)], [0])


def test_what_was_packed_for_a_slot_while_this_node_had_it_unknowingly_is_refused() -> None:
    tried, _ = leapt_over_an_accepted_loss()
    assert tried.refused(8, lambda: [0]) == [0]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_batch_is_refused_unless_the_slot_was_active_here_when_it_was_packed(epoch: int) -> None:
    tried, _ = after(YOURS, TO_ME, one_slot(4, ME, ACTIVE, 2))
    assert tried.refused(epoch, lambda: [0]) == ([0] if epoch <= 2 else [])


def test_while_a_slot_is_sealed_everything_for_it_is_refused() -> None:
    tried, _ = after(MINE, TO_PEER)
    assert tried.refused(1, lambda: [0]) == [0]


def test_what_is_packed_since_the_last_change_is_not_looked_at() -> None:
    tried, _ = after(MINE, agreed(2, WORKERS, [0]))

    def looked() -> list[int]:
        raise AssertionError("it was looked at")

    assert tried.refused(1, looked) == []


def test_a_node_is_named_as_an_owner_and_as_a_donor() -> None:
    assert after(MINE)[0].named()
    assert after(MINE, TO_PEER)[0].named()
    assert not after(MINE, TO_PEER, one_slot(3, PEER, ACTIVE, 2))[0].named()
    assert not Holdings(ME).named()
