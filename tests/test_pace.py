"""Units of work stay short, however slow the application's code is, and are large when it is quick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.pace import UNIT_MS, Pace, Share


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


@given(st.lists(st.integers(1, 100), min_size=1, max_size=50), st.integers(2, 16))
def test_what_is_done_in_the_background_has_its_share_of_a_busy_time(units: list[int], part: int) -> None:
    share, now = Share(part), 0
    for elapsed in units:
        share.worked()
        share.took(now, elapsed)
        assert not share.may(now + part * elapsed - 1)
        now += part * elapsed
        assert share.may(now)


def test_what_is_done_in_the_background_has_all_of_the_time_when_nothing_else_is_done() -> None:
    share = Share(8)
    share.worked()
    share.took(0, 10)
    share.took(80, 10)
    assert share.may(90)
    share.worked()
    share.took(90, 10)
    assert not share.may(100)
