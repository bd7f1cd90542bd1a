"""What lives long is not looked at again and again by the collector, and cycles that die are found all the same."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from mesh.runtime import collecting
from mesh.runtime.collecting import AGAIN, OLDEST, Freezing


class Knot:
    def __init__(self) -> None:
        self.itself = self


class States:
    many = 0


@pytest.fixture
def freezing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Freezing]:
    monkeypatch.setattr(collecting, "LEAST", 1_000)
    made = Freezing(lambda: States.many)
    gc.callbacks.append(made.told)
    yield made
    States.many = 0
    gc.callbacks.remove(made.told)
    gc.unfreeze()
    gc.collect()


def test_what_has_lived_through_a_full_collection_is_not_looked_at_by_the_next(freezing: Freezing) -> None:
    many = [[number] for number in range(10_000)]
    gc.collect()
    assert gc.get_freeze_count() >= len(many)
    assert len(gc.get_objects(OLDEST)) < 100


def test_a_cycle_that_dies_young_is_found_at_once(freezing: Freezing) -> None:
    gc.collect()
    knot = ref(Knot())
    gc.collect()
    assert knot() is None


def test_a_frozen_cycle_that_dies_is_found_when_much_more_has_been_made(freezing: Freezing) -> None:
    alive = Knot()
    gc.collect()
    knot = ref(alive)
    del alive
    gc.collect()
    assert knot() is not None  # that is the price
    kept = []
    for _ in range(2 + AGAIN * gc.get_freeze_count() // 10_000):
        kept.append([[number] for number in range(10_000)])
        gc.collect()
    assert knot() is None, f"though {10_000 * len(kept)} objects came"


def test_that_states_come_is_no_reason_to_look_at_all_of_them(freezing: Freezing) -> None:
    States.many, kept = 1_000, [[[number] for number in range(10_000)]]
    alive = Knot()
    gc.collect()
    knot = ref(alive)
    del alive
    for _ in range(2 + AGAIN * gc.get_freeze_count() // 10_000):
        kept.append([[number] for number in range(10_000)])
        States.many += 1_000
        gc.collect()
    assert knot() is not None


def test_what_was_there_with_a_few_states_is_not_taken_for_theirs(freezing: Freezing) -> None:
    States.many, kept = 1, []
    alive = Knot()
    gc.collect()
    knot = ref(alive)
    del alive
    States.many = 100
    for _ in range(10 + 2 * AGAIN * gc.get_freeze_count() // 10_000):
        kept.append([[number] for number in range(10_000)])
        gc.collect()
    assert knot() is None, f"though {10_000 * len(kept)} objects came"
