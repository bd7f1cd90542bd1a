"""Units of work stay short, however slow the application's code is, and are large when it is quick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.pace import UNIT_MS, Pace


@given(st.integers(1, 10_000_000), st.integers(1, 1000), st.integers(1000, 1 << 20))
def test_units_settle_below_the_limit_if_one_record_does(microseconds: int, start: int, ceiling: int) -> None:
    pace = Pace(start, ceiling)
    for _ in range(64):
        pace.took(pace.most, pace.most * microseconds // 1000)
        assert 1 <= pace.most <= ceiling
    lasts = pace.most * microseconds // 1000
    assert lasts <= UNIT_MS or pace.most == 1


@given(st.integers(1, 1000), st.integers(1000, 1 << 20))
def test_quick_steps_get_the_largest_units(start: int, ceiling: int) -> None:
    pace = Pace(start, ceiling)
    for _ in range(21):
        pace.took(pace.most, 0)
    assert pace.most == ceiling


def test_a_small_unit_says_nothing_about_larger_ones() -> None:
    pace = Pace(64, 4096)
    pace.took(3, 0)  # there was no more to do
    assert pace.most == 64


def test_a_step_that_becomes_slow_is_noticed_at_once() -> None:
    pace = Pace(4096, 4096)
    pace.took(4096, 4096 * 100)
    assert pace.most == 1
