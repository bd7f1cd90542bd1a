"""Many worlds of `kept_kit`, one a seed: `python -m tests.kept_worlds FIRST COUNT`.

What fails is told with its seed, and made smaller: fewer nodes, records, slots and faults first. `--story SEED` tells
one world step by step.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.kept_checks import Job
from tests.kept_kit import World, a_world

SMALLER: list[dict[str, Any]] = [
    {"nodes": 2},
    {"nodes": 3},
    {"copies": 2},
    {"job": Job((4,), keys=(1, 1))},
    {"job": Job((6, 3), keys=(2, 2))},
    {"job": Job((12, 5), keys=(5, 3), reads=10)},
    {"job": Job((), ((3, 2),), keys=(2, 2))},
    {"slots": 1},
    {"slots": 4},
    {"faults": 1},
    {"faults": 2},
    {"faults": 4},
    {"window": 1 << 20},
    {"batch_records": 4096},
    {"witnesses": 0},
    {"kinds": ["crash"]},
    {"kinds": ["slander"]},
    {"kinds": ["crash", "slander"]},
]
TRIES = 12  # seeds for each


def wrong_with(world: World) -> str | None:
    """What is wrong in it, if anything."""
    try:
        world.run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def smaller(seed: int, wrong: str) -> tuple[int, dict[str, Any], str, int]:
    """A seed, the settings, what is wrong, and after how many steps."""
    best: tuple[int, dict[str, Any], str, int] = (seed, {}, wrong, 1 << 62)
    for change in SMALLER:
        tried = {**best[1], **change}
        for each in (best[0], *range(seed * 1000, seed * 1000 + TRIES)):
            world = a_world(each, **tried)
            found = wrong_with(world)
            if found is not None and world.steps <= best[3]:
                best = (each, tried, found, world.steps)
                break
    return best


def many(first: int, count: int, happened: Counter[str], **settings: Any) -> Iterator[tuple[int, str]]:
    for seed in range(first, first + count):
        world = a_world(seed, **settings)
        wrong = wrong_with(world)
        happened.update(world.happened)
        if wrong is not None:
            yield seed, wrong


def story(seed: int, settings: dict[str, Any], show: Callable[[str], None]) -> None:
    world = a_world(seed, **settings)
    world.story = []
    wrong = wrong_with(world)
    for line in world.story:
        show(line)
    show(wrong or "all is well")


def main(arguments: list[str]) -> None:
    if arguments[0] == "--story":
        story(int(arguments[1]), eval(arguments[2]) if len(arguments) > 2 else {}, print)
        return
    started, happened, failures = time.monotonic(), Counter[str](), 0
    for seed, wrong in many(int(arguments[0]), int(arguments[1]), happened):
        failures += 1
        print(f"seed {seed}: {wrong:.400}", flush=True)
        if failures <= 2 and "--small" in arguments:
            other, settings, found, steps = smaller(seed, wrong)
            print(f"   smaller: --story {other} {str(settings)!r}, {steps} steps: {found:.400}", flush=True)
    print(f"{failures} of {arguments[1]} fail, {time.monotonic() - started:.0f} s; {dict(happened)}")


if __name__ == "__main__":
    main(sys.argv[1:])
