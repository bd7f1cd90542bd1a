"""What is drawn for a world to do: an application and the contents of its sources, and the clients beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from mesh.core.events import Millis
from mesh.sim.clients import Note, Producer
from mesh.sim.workload import KINDS, Line, StageShape, Workload

LAST_START: Millis = 5_000
CROWD = 70  # more than a node lets wait
WHO = ("nobody", "nobody", "nobody", "nobody", "notes", "producers")


def random_workload(random: Random, most_records: int) -> Workload:
    """One that a seed means."""
    depth = random.choice((0, 1, 1, 2, 2, 2, 3))
    stages = tuple(
        StageShape(random.choice(KINDS), random.choice((1, 5, 20, 100, 400)), random.random() < 0.3)
        for _ in range(depth)
    )
    names = [(source, split) for source in range(random.choice((1, 1, 2))) for split in range(random.randint(1, 6))]
    per_split = max(1, random.randint(0, most_records) // len(names))
    sources: list[list[tuple[Line, ...]]] = [[] for _ in range(1 + names[-1][0])]
    for source, split in names:
        sources[source].append(_random_lines(random, f"{source}/{split}", random.randint(0, 2 * per_split)))
    contents = tuple(tuple(splits) for splits in sources)
    return Workload(stages, contents, random.choice((1, 3, 10)), depth > 1 and random.random() < 0.5)


def _random_lines(random: Random, stream: str, records: int) -> tuple[Line, ...]:
    lines: list[Line] = []
    first = 0
    while first < records:
        numbers = tuple(random.randrange(100_000) for _ in range(random.choice((0, 1, 4, 8))))
        lines.append((stream, first, numbers))
        first += len(numbers)
    return tuple(lines)


# -- clients -----------------------------------------------------------------------------------------------------------


def clients_of(seed: int, workload: Workload) -> tuple[Workload, tuple[Producer, ...], tuple[Note, ...]]:
    """In some of the worlds; the others are as they were. With producers a job has no end."""
    random = Random(f"clients of {seed}")
    who = random.choice(WHO)
    if who == "nobody" or not workload.stages:
        return workload, (), ()
    notes = tuple(_random_note(random) for _ in range(random.choice((5, 20, 60))))
    producers = tuple(_random_producer(random) for _ in range(random.randint(1, 3) if who == "producers" else 0))
    return with_clients(workload, random, producers), producers, notes


def with_clients(workload: Workload, random: Random, producers: tuple[Producer, ...]) -> Workload:
    """With the producers' lines as one more source, which is posted, and the stage of notes."""
    if not producers:
        return replace(workload, notes=True)
    place = len(workload.sources)
    lines = tuple(
        _lines_of_a_stream(random, f"{place}/{number}", sum(each.bodies), workload.good_number)
        for number, each in enumerate(producers)
    )
    return replace(workload, sources=(*workload.sources, lines), posted=True, notes=True)


def _random_producer(random: Random) -> Producer:
    return Producer(
        starts=random.randrange(LAST_START),
        bodies=tuple(random.choice((0, 1, 3, 8)) for _ in range(random.randint(1, 6))),
        pause=random.choice((0, 100, 500)),
        patience=random.choice((50, 500, 3_000, 8_000)),
        loses=random.choice((0, 100, 400)),
        late=random.choice((0, 20, 300, 1_500)),
    )


def _random_note(random: Random) -> Note:
    at, crowd = random.randrange(LAST_START), CROWD if random.random() < 0.03 else 1
    if random.random() < 0.7:
        return Note(at, (random.randrange(1_000),), True, crowd)
    return Note(at, tuple(random.randrange(1_000) for _ in range(random.randint(1, 5))), False, crowd)


def _lines_of_a_stream(random: Random, stream: str, count: int, good: Callable[[int], bool]) -> tuple[Line, ...]:
    """So many lines of good numbers."""
    lines: list[Line] = []
    first = 0
    for _ in range(count):
        drawn = [random.randrange(100_000) for _ in range(random.choice((0, 1, 4, 8)))]
        numbers = tuple(number for number in drawn if good(number))
        lines.append((stream, first, numbers))
        first += len(numbers)
    return tuple(lines)
