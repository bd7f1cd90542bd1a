"""What comes by HTTP is applied once, in order, and where it belongs, while slots move and producers try again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.core.ingest import Ingest
from mesh.core.requests import Request
from mesh.core.windows import NEW, Windows
from tests.posting_kit import Posting, some_producers


@settings(max_examples=25)
@given(
    founders=st.integers(1, 4),
    slots=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([1, 100, 1 << 20]),
    changes=st.integers(0, 60),
    asks=st.integers(0, 5),
    seed=st.integers(0, 1 << 32),
)
@example(founders=1, slots=1, window=1 << 20, changes=38, asks=1, seed=0)
def test_lines_and_asks_are_applied_once_while_slots_move(
    founders: int, slots: int, window: int, changes: int, asks: int, seed: int
) -> None:
    random = Random(seed)
    cluster = Posting(
        random, some_producers(random), asks, founders=founders, slots=slots, changes=changes, window=window
    )
    cluster.run(cluster.through)
    cluster.check()
    cluster.check_windows()


# -- deliberate mistakes: each must be seen ---------------------------------------------------------------------------


def leaves_the_windows_behind(patch: pytest.MonkeyPatch) -> None:
    """A slot moves without what producers sent to it."""
    patch.setattr(Windows, "keys_of", lambda self, slot: ())


def applies_a_duplicate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Windows, "take", lambda self, *record: NEW)


def takes_a_refusal_for_an_answer(patch: pytest.MonkeyPatch) -> None:
    """What was refused counts as applied."""
    patch.setattr(Request, "refused", lambda self, records: None)


def commits_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the owners' answers."""
    go_on = Ingest._go_on

    def hasty(self: Any, request: Request, now: int) -> None:
        request.in_flight.clear()
        go_on(self, request, now)

    patch.setattr(Ingest, "_go_on", hasty)


def tells_that_it_came_to_nothing(patch: pytest.MonkeyPatch) -> None:
    """A request that is given up is called unavailable, though some of it was applied."""
    end = Ingest._end

    def ending(self: Any, request: Request, outcome: str, *rest: Any) -> None:
        end(self, request, "unavailable" if outcome == "unknown" else outcome, *rest)

    patch.setattr(Ingest, "_end", ending)


def eight_worlds() -> None:
    for seed in range(8):
        one_world(seed)


MUTANTS = [
    leaves_the_windows_behind,
    applies_a_duplicate,
    takes_a_refusal_for_an_answer,
    commits_what_is_on_its_way,
    tells_that_it_came_to_nothing,
]


def one_world(seed: int) -> None:
    random = Random(seed)
    cluster = Posting(random, some_producers(random), 3, founders=2 + seed % 3, slots=(1, 4, 16)[seed % 3], changes=40)
    cluster.run(cluster.through)
    cluster.check()
    cluster.check_windows()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        eight_worlds()


def test_without_a_mutant_these_worlds_hold() -> None:
    eight_worlds()
