from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core import ballots
from mesh.core.ballots import Ballot, Vote

nodes = st.binary(min_size=16, max_size=16)
rounds = st.integers(1, (1 << 31) - 1)


@given(rounds, nodes)
def test_a_number_is_its_proposer_s_and_travels(round_: int, node: bytes) -> None:
    number = ballots.number(round_, node)
    assert ballots.fits(number, node)
    assert ballots.round_of(number) == round_
    assert 0 < number < 1 << 63


@given(rounds, nodes, nodes)
def test_a_higher_round_is_a_higher_number_and_another_node_s_does_not_fit(
    round_: int, node: bytes, other: bytes
) -> None:
    assert round_ == (1 << 31) - 1 or ballots.number(round_ + 1, other) > ballots.number(round_, node)
    assert ballots.fits(ballots.number(round_, other), node) == (other[:4] == node[:4])


def test_round_nought_is_nobody_s() -> None:
    assert not ballots.fits(0, bytes(16))


@given(st.integers(1, 1 << 62), st.integers(0, 1 << 62), nodes, st.integers(0, 1 << 62), st.binary())
def test_a_vote_comes_back_from_its_bytes(epoch: int, promised: int, node: bytes, accepted: int, value: bytes) -> None:
    vote = Vote(epoch, promised, node, accepted, value)
    assert Vote.from_bytes(vote.to_bytes()) == vote


def test_a_promise_is_to_one_node() -> None:
    vote = Vote(1, 7, b"a" * 16)
    assert vote.allows(7, b"a" * 16)
    assert not vote.allows(7, b"b" * 16)
    assert not vote.allows(6, b"a" * 16)
    assert vote.allows(8, b"b" * 16)


def test_one_node_speaks_for_a_voter() -> None:
    ballot = Ballot(1)
    assert ballot.speaks("a", b"1")
    assert not ballot.speaks("a", b"2")
    assert ballot.speaks("a", b"1")


def test_the_value_under_the_highest_ballot_counts() -> None:
    assert Ballot(9, promises={"a": (0, b""), "b": (0, b"")}).accepted_before() is None
    assert Ballot(9, promises={"a": (3, b"x"), "b": (5, b"y"), "c": (0, b"")}).accepted_before() == b"y"
