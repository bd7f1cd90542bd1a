"""Copies are a prefix of what their owner applied, answers and outputs come when all have it, and all that once."""

from __future__ import annotations

from random import Random

import pytest

from tests.committing_kit import World

SIZES = [(1 << 20, 1 << 18), (300, 200), (1 << 20, 60)]


@pytest.mark.parametrize("seed", range(300))
def test_everything_counts_once_whatever_becomes_of_owners_and_backups(seed: int) -> None:
    window, part = SIZES[seed % 3]
    world = World(Random(seed), window=window, part=part)
    world.run(30)
    world.check_end()


def test_what_the_worlds_are_to_try_does_happen() -> None:
    happened: dict[str, int] = {}
    for seed in range(12):
        world = World(Random(seed))
        world.run(30)
        for name, count in world.happened.items():
            happened[name] = happened.get(name, 0) + count
    wanted = (
        "crashed",
        "promoted",
        "deposed",
        "joined",
        "dropped",
        "handed over",
        "called off",
        "refused",
        "known output",
    )
    assert {name: happened.get(name, 0) for name in wanted if happened.get(name, 0) < 3} == {}
