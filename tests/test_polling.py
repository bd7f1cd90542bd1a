"""A wait that looks is over as soon as one that sleeps, and nobody looks who would do so in vain."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mesh.runtime.polling import AWAY_NS, LOOK_NS, MOST_POINTS, PRICE, REST_NS, Polling

STEP_NS = LOOK_NS // 10


class Waiter:
    """A pipe, and a clock that only looking moves. What can be read comes after so many looks, or at a time."""

    def __init__(self, *, may_look: bool = True) -> None:
        self.read, self.write = os.pipe()
        self.now = 0
        self.looks = 0
        self.step = STEP_NS
        self.comes_after: int | None = None
        self.comes_at: int | None = None
        self.polling = Polling([self.read], self._clock, self._gave_way if may_look else None)

    def _gave_way(self) -> None:
        self.looks += 1
        self.now += self.step
        if self.looks == self.comes_after:
            os.write(self.write, b".")

    def _clock(self) -> int:
        if self.comes_at is not None and self.now >= self.comes_at:
            self.comes_at = os.write(self.write, b".") + (1 << 62)
        return self.now

    def talk(self, times: int) -> None:
        """So many waits are over at once."""
        for _ in range(times):
            os.write(self.write, b".")
            assert self.polling.wait(100_000) == [self.read]
            os.read(self.read, 1)

    def looks_of(self, timeout_ms: int) -> int:
        """How often it looks in the next wait, in which nothing comes."""
        before = self.looks
        assert self.polling.wait(timeout_ms) == []
        return self.looks - before


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    made = Waiter()
    yield made
    os.close(made.read)
    os.close(made.write)


def test_who_has_not_been_talking_sleeps(waiter: Waiter) -> None:
    waiter.talk(PRICE - 1)
    assert waiter.looks_of(1) == 0


def test_who_talks_looks_and_is_told_at_once_what_comes(waiter: Waiter) -> None:
    waiter.talk(PRICE)
    waiter.comes_after = waiter.looks + 3
    assert waiter.polling.wait(100_000) == [waiter.read]
    assert waiter.looks == waiter.comes_after


def test_looking_ends_and_what_comes_later_wakes_the_sleeper(waiter: Waiter) -> None:
    waiter.talk(PRICE)
    waiter.comes_at = waiter.now + LOOK_NS  # the last look is over by then
    assert waiter.polling.wait(100_000) == [waiter.read]
    assert waiter.looks == LOOK_NS // STEP_NS


def test_what_was_in_vain_is_not_tried_again_at_once(waiter: Waiter) -> None:
    waiter.talk(PRICE)
    assert waiter.looks_of(1) == LOOK_NS // STEP_NS
    assert waiter.looks_of(1) == 0


def test_one_wait_in_vain_does_not_end_a_conversation(waiter: Waiter) -> None:
    waiter.talk(2 * PRICE)
    assert waiter.looks_of(1) > 0
    assert waiter.looks_of(1) > 0


def test_a_conversation_that_is_over_is_forgotten_however_long_it_was(waiter: Waiter) -> None:
    waiter.talk(100 * MOST_POINTS)
    assert [waiter.looks_of(1) > 0 for _ in range(6)] == [True] * 4 + [False] * 2


def test_a_wait_that_something_else_ended_is_no_sign_of_more(waiter: Waiter) -> None:
    for _ in range(100 * PRICE):
        assert waiter.polling.wait(0) == []
    assert waiter.looks_of(1) == 0


def test_who_only_asks_what_is_there_does_not_look(waiter: Waiter) -> None:
    waiter.talk(PRICE)
    assert waiter.looks_of(0) == 0


def test_who_was_kept_away_for_long_only_sleeps_for_a_while(waiter: Waiter) -> None:
    waiter.talk(MOST_POINTS)
    waiter.step = AWAY_NS
    assert waiter.looks_of(1) == 1
    waiter.now += REST_NS - 1
    waiter.talk(MOST_POINTS)
    assert waiter.looks_of(1) == 0
    waiter.now += 1
    assert waiter.looks_of(1) == 1


def test_a_turn_of_somebody_else_is_no_reason_to_stop(waiter: Waiter) -> None:
    waiter.talk(MOST_POINTS)
    waiter.step = AWAY_NS - 1
    assert waiter.looks_of(1) == 1
    assert waiter.looks_of(1) == 1


def test_nobody_looks_who_cannot_give_way() -> None:
    waiter = Waiter(may_look=False)
    waiter.talk(10 * PRICE)
    assert waiter.looks_of(1) == 0
