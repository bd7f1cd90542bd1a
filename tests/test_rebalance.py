from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.rebalance import PINNED, assign_backups, rebalance, shares

Owners = tuple[str, ...]
MOST = 12  # members at a time in a random walk

names = st.lists(st.sampled_from([f"n{place}" for place in range(9)]), min_size=1, max_size=9, unique=True)
partitions = st.lists(st.sampled_from([None, *(f"n{place}" for place in range(9))]), min_size=0, max_size=64)


def moves(before: Sequence[str | None], after: Sequence[str]) -> int:
    return sum(old != new for old, new in zip(before, after, strict=True))


def lower_bound(before: Sequence[str | None], members: Sequence[str]) -> int:
    """Slots that nobody present holds must move, and so must what each holds above its share, at the best choice of
    who gets the slots left over. Written on its own, without `shares`."""
    held = Counter(before)
    share, left_over = divmod(len(before), len(members))
    above = [max(0, held[member] - share) for member in members]
    spared = min(left_over, sum(count > 0 for count in above))
    return sum(count for owner, count in held.items() if owner not in members) + sum(above) - spared


def runs(owners: Sequence[str]) -> int:
    return sum(1 for _ in groupby(owners))


# -- owners -----------------------------------------------------------------------------------------------------------


@given(partitions, names)
def test_every_slot_has_a_member_and_counts_differ_by_at_most_one(before: list[str | None], members: list[str]) -> None:
    counts = Counter(rebalance(before, members))
    assert set(counts) <= set(members)
    assert sum(counts.values()) == len(before)
    assert max(counts[member] for member in members) - min(counts[member] for member in members) <= 1


@given(partitions, names)
def test_moves_are_the_lower_bound(before: list[str | None], members: list[str]) -> None:
    assert moves(before, rebalance(before, members)) == lower_bound(before, members)


@given(partitions, names)
def test_nothing_moves_a_second_time(before: list[str | None], members: list[str]) -> None:
    once = rebalance(before, members)
    assert rebalance(once, members) == once


@given(partitions, names)
def test_a_member_gives_or_takes_but_never_both(before: list[str | None], members: list[str]) -> None:
    after = rebalance(before, members)
    gave = {old for old, new in zip(before, after, strict=True) if old != new}
    took = {new for old, new in zip(before, after, strict=True) if old != new}
    assert not gave & took


@given(partitions, names)
def test_the_slots_left_over_go_to_the_largest_holders(before: list[str | None], members: list[str]) -> None:
    held = Counter(before)
    wanted = shares(before, members)
    more = [held[member] for member in members if wanted[member] > len(before) // len(members)]
    fewer = [held[member] for member in members if wanted[member] == len(before) // len(members)]
    assert not more or not fewer or min(more) >= max(fewer)


@given(partitions, names)
def test_a_donor_splits_at_most_one_of_its_runs(before: list[str | None], members: list[str]) -> None:
    after = rebalance(before, members)
    split = Counter[str]()
    for owner, group in groupby(zip(before, after, strict=True), key=lambda pair: pair[0]):
        kept = [new == owner for _, new in group]
        if owner is not None and any(kept) and not all(kept):
            split[owner] += 1
    assert all(split[member] <= 1 for member in members)


@pytest.mark.parametrize("slots", [1, 2, 8, 64, 1024, 4096])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_the_first_partition_is_contiguous_in_the_order_of_the_members(slots: int, count: int) -> None:
    members = [f"n{place}" for place in range(count)]
    owners = rebalance([None] * slots, members)
    share, left_over = divmod(slots, count)
    assert list(owners) == [m for place, m in enumerate(members) for _ in range(share + (place < left_over))]


def test_a_joiner_gets_one_run_where_two_neighbours_give() -> None:
    assert rebalance(["a"] * 4 + ["b"] * 4, ["a", "b", "c"]) == ("a", "a", "a", "c", "c", "b", "b", "b")


def test_donors_give_their_smallest_runs_whole_and_then_cut_one() -> None:
    before = ["a", "b", "b", "a", "a", "a", "a", "b"]
    assert rebalance(before, ["a", "b", "c"]) == ("c", "b", "b", "a", "a", "a", "c", "b")


def test_a_leaver_s_run_goes_to_its_neighbours() -> None:
    before = ["a"] * 3 + ["b"] * 2 + ["c"] * 3
    assert rebalance(before, ["a", "c"]) == ("a",) * 4 + ("c",) * 4


def test_a_run_that_is_just_what_someone_lacks_stays_whole() -> None:
    before = ["x", "x", "a", "a", "b", "b", "a", "a", "y", "y", "y", "y"]
    assert rebalance(before, ["a", "b", "c"]) == ("b", "b", "a", "a", "b", "b", "a", "a", "c", "c", "c", "c")


def walk(steps: int, slots: int, seed: int) -> list[tuple[Owners, list[str], Owners]]:
    """Random joins and leaves: (before, members, after) of each."""
    random = Random(seed)
    members = ["n0", "n1", "n2"]
    owners = rebalance([None] * slots, members)
    history = []
    for step in range(steps):
        if len(members) < 2 or (len(members) < MOST and random.random() < 0.5):
            members = [*members, f"n{step + 3}"]
        else:
            leaver = random.choice(members)
            members = [member for member in members if member != leaver]
        after = rebalance(owners, members)
        history.append((owners, members, after))
        owners = after
    return history


def digest(steps: int = 1500, slots: int = 256, seed: int = 7) -> str:
    told = hashlib.sha256()
    for _, _, after in walk(steps, slots, seed):
        told.update(",".join(after).encode())
        told.update(repr(assign_backups(after, [(name, "") for name in dict.fromkeys(after)], 2)).encode()[:200])
    return told.hexdigest()


def test_1500_random_joins_and_leaves_move_the_least_and_stay_in_few_runs() -> None:
    history = walk(1500, 1024, 11)
    for before, members, after in history:
        assert moves(before, after) == lower_bound(before, members)
        assert rebalance(after, members) == after
        assert runs(after) <= 12 * MOST  # what large clusters cut, small ones keep; it must not add up over time
    each = [runs(after) / len(members) for _, members, after in history]
    assert sum(each[:500]) / 500 < 8
    assert sum(each[1000:]) / 500 < 8


def test_the_same_walk_gives_the_same_bytes_under_every_hash_seed() -> None:
    program = "from tests.test_rebalance import digest; print(digest())"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4242")
    ]
    assert len({each.communicate()[0] for each in running} | {digest() + "\n"}) == 1
    assert all(each.returncode == 0 for each in running)


# -- backups ----------------------------------------------------------------------------------------------------------


def zoned(members: Sequence[str], zones: int) -> list[tuple[str, str]]:
    return [(name, f"z{place % zones}" if zones else "") for place, name in enumerate(members)]


def loads(backups: Sequence[Sequence[str]], members: Sequence[str]) -> list[int]:
    counts = Counter(name for each in backups for name in each)
    return [counts[member] for member in members]


@given(partitions, names, st.integers(1, 4), st.integers(0, 3))
def test_backups_are_distinct_members_other_than_the_owner(
    before: list[str | None], members: list[str], copies: int, zones: int
) -> None:
    owners = rebalance(before, members)
    for owner, backups in zip(owners, assign_backups(owners, zoned(members, zones), copies), strict=True):
        assert owner not in backups
        assert len(set(backups)) == len(backups) == min(copies, len(members)) - 1
        assert set(backups) <= set(members)


@given(partitions, names, st.integers(2, 4), st.integers(1, 4))
def test_copies_lie_in_as_many_zones_as_there_are(
    before: list[str | None], members: list[str], copies: int, zones: int
) -> None:
    owners = rebalance(before, members)
    where = dict(zoned(members, zones))
    for owner, backups in zip(owners, assign_backups(owners, zoned(members, zones), copies), strict=True):
        used = {where[name] for name in (owner, *backups)}
        assert len(used) == min(len(set(where.values())), copies, len(members))


@given(partitions, names, st.integers(1, 4))
def test_backups_without_zones_are_level(before: list[str | None], members: list[str], copies: int) -> None:
    owners = rebalance(before, members)
    counts = loads(assign_backups(owners, zoned(members, 0), copies), members)
    assert max(counts) - min(counts) <= 1 or len(members) == 2 or len(owners) < len(members)


@given(partitions, names, st.integers(1, 4), st.integers(0, 3))
def test_backups_that_are_right_stay(before: list[str | None], members: list[str], copies: int, zones: int) -> None:
    owners = rebalance(before, members)
    once = assign_backups(owners, zoned(members, zones), copies)
    assert assign_backups(owners, zoned(members, zones), copies, once) == once


def test_backups_move_little_when_a_member_joins_or_leaves() -> None:
    present: Sequence[Sequence[str]] = ()
    for before, members, after in walk(60, 256, 3):
        backups = assign_backups(after, zoned(members, 0), 2, present)
        if present:
            changed = sum(set(old) != set(new) for old, new in zip(present, backups, strict=True))
            # a joiner's or leaver's share, and the slots whose new owner was their backup
            assert changed <= 2 * (256 // len(members) + 1) + moves(before, after)
        present = backups


# -- pinned slots -----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([PINNED, "n0", "n1", "n2", "gone", None]), min_size=1, max_size=64), st.integers(1, 3))
def test_pinned_slots_stay_and_the_others_are_level_with_the_least_moves(before: list[str | None], count: int) -> None:
    members = [f"n{place}" for place in range(count)]
    after = rebalance(before, members)
    assert [owner == PINNED for owner in after] == [owner == PINNED for owner in before]
    rest = [(old, new) for old, new in zip(before, after, strict=True) if old != PINNED]
    alone = rebalance([old for old, _ in rest], members) if rest else ()
    counts = [sum(new == member for _, new in rest) for member in members]
    assert max(counts) - min(counts) <= 1
    moved = sum(old != new for old, new in rest)
    assert moved == sum(old != new for (old, _), new in zip(rest, alone, strict=True))
    assert rebalance(after, members) == after
