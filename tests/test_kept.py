"""Nodes with copies die, are called dead, come back, join and leave: what comes out is what one process would do.

Each world is drawn from its seed; `python -m tests.kept_worlds` looks at more of them, and makes smaller what
fails.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.kept_checks import Job
from tests.kept_kit import World, a_world
from tests.kept_worlds import many

PARTS = 8
WORLDS = 6  # of each part


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_or_done_twice_whoever_dies(part: int) -> None:
    assert list(many(part * WORLDS, WORLDS, Counter())) == []


def test_a_job_without_faults_is_done_by_all_nodes() -> None:
    world = a_world(1, nodes=3, copies=3, faults=0, witnesses=0, job=Job((30, 30, 5)))
    world.run()
    assert all(node.done for node in world.living())


def test_these_worlds_have_what_they_are_about() -> None:
    """Deaths, promotions, fills, hand-overs, reads and posts that are answered, and such that are not."""
    happened: Counter[str] = Counter()
    assert list(many(500, 25, happened)) == []
    wanted = ("crash", "slander", "promotion", "filled", "handed over", "called off", "found", "committed", "gone")
    assert [each for each in wanted if not happened[each]] == []


@pytest.mark.parametrize("seed", range(4))
def test_with_one_copy_in_memory_the_same_worlds_hold(seed: int) -> None:
    kinds = ["pause", "cut", "slander", "fence", "join", "leave"]
    world = a_world(seed, keeps=False, copies=1, kinds=kinds)
    assert isinstance(world, World)
    world.run()
