from __future__ import annotations

from itertools import combinations

import pytest

from mesh.core.electorate import Electorate, electorate, founding_electorate

SIZES = [1, 2, 3, 4, 5, 6, 7]


def formed(size: int) -> Electorate:
    return electorate([(f"n{place}", bytes([place]) * 16) for place in range(size)])


def quorums(voters: Electorate) -> list[tuple[str, ...]]:
    names = [voter.name for voter in voters.voters]
    return [some for size in range(len(names) + 1) for some in combinations(names, size) if voters.enough(some)]


@pytest.mark.parametrize("size", SIZES)
def test_two_decisions_share_a_voter(size: int) -> None:
    decisive = quorums(formed(size))
    assert decisive
    assert all(set(some) & set(others) for some in decisive for others in decisive)


@pytest.mark.parametrize("size", SIZES)
def test_of_two_parts_one_goes_on_if_the_sizes_differ_or_it_has_the_longest_serving(size: int) -> None:
    voters = formed(size)
    names = [voter.name for voter in voters.voters]
    for count in range(size + 1):
        for some in combinations(names, count):
            rest = [name for name in names if name not in some]
            assert voters.enough(some) != voters.enough(rest)
            if count * 2 == size:
                assert voters.enough(some) == ("n0" in some)


def test_more_than_half_is_always_enough() -> None:
    for size in SIZES:
        names = [voter.name for voter in formed(size).voters]
        assert all(formed(size).enough(some) for some in combinations(names, size // 2 + 1))


def test_a_name_counts_once_and_a_stranger_never() -> None:
    assert not formed(5).enough(["n1", "n1", "n1"])
    assert not formed(3).enough(["n1", "x", "y", "z"])


@pytest.mark.parametrize(("declared", "expect"), [(1, 1), (2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (9, 5)])
def test_a_founding_needs_as_many_workers_as_expected(declared: int, expect: int) -> None:
    workers = [f"n{place}" for place in range(declared)]
    voters = founding_electorate(workers, expect)
    assert voters.enough(workers[:expect])
    assert not voters.enough(workers[: expect - 1])


@pytest.mark.parametrize(("declared", "expect"), [(2, 1), (4, 2), (3, 4), (3, 0), (0, 0)])
def test_a_founding_by_half_or_by_more_than_all_cannot_be_asked_for(declared: int, expect: int) -> None:
    with pytest.raises(AssertionError):
        founding_electorate([f"n{place}" for place in range(declared)], expect)
