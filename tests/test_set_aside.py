"""Each record that could not be used is counted and told, briefly, whatever it is made of."""

from __future__ import annotations

import pytest

from mesh.core import set_aside
from mesh.core.keys import BadKey
from mesh.core.set_aside import LOG_EVERY_MS, SetAside


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_the_first_of_a_kind_is_told_with_what_which_and_where() -> None:
    try:
        _ = {}["missing"]
    except KeyError as raised:
        log = SetAside().record("map(f)", "app.py:7", "the value", raised, 0)
    assert log is not None
    assert (log.event, log.level) == ("record.set_aside", "error")
    assert log.fields["step"] == "map(f)"
    assert log.fields["where"] == "app.py:7"
    assert log.fields["value"] == "'the value'"
    assert log.fields["error"] == "KeyError: 'missing'"
    assert log.fields["so_far"] == 1
    assert __file__ in log.fields["raised_at"]


def test_a_million_bad_records_of_a_kind_are_one_line_every_while() -> None:
    aside = SetAside()
    told = [aside.record("s", "w", number, BadKey(f"the key {number}"), number // 1000) for number in range(30_000)]
    lines = [log for log in told if log is not None]
    assert len(lines) == 30_000 // 1000 // LOG_EVERY_MS + 1
    assert aside.count == 30_000
    later = aside.record("s", "w", 0, BadKey("x"), LOG_EVERY_MS)
    assert later is not None
    assert later.fields["so_far"] == 30_001


def test_another_place_or_another_error_is_told_at_once() -> None:
    aside = SetAside()
    assert aside.record("s", "w", 0, ValueError(), 0)
    assert aside.record("s", "w", 0, KeyError(), 0)
    assert aside.record("s", "elsewhere", 0, ValueError(), 0)
    assert not aside.record("s", "w", 0, ValueError(), 0)


@pytest.mark.parametrize(
    "value",
    [Hostile(), [Hostile()], "x" * 50_000_000, 10**5000, "\ud800", None],
    ids=["hostile", "holds hostile", "huge", "many digits", "surrogate", "none"],
)
@pytest.mark.parametrize(
    "error", [HostileError(), ValueError("y" * 50_000_000), RecursionError()], ids=["hostile", "huge", "recursion"]
)
def test_what_is_told_is_short_and_never_fails(value: object, error: Exception) -> None:
    aside = SetAside()
    log = aside.record("s", "w", value, error, 0)
    assert log is not None
    assert all(len(str(each)) < 1000 for each in log.fields.values())
    assert len(aside.first) < 2000


def test_an_error_that_nobody_raised_has_no_place() -> None:
    log = SetAside().record("s", "w", 0, BadKey("x"), 0)
    assert log is not None
    assert "raised_at" not in log.fields


def test_the_deepest_recursion_is_told() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as raised:
        deeper()
    assert SetAside().record("s", "w", 0, raised.value, 0)


def test_kinds_beyond_the_limit_are_counted_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "MAX_KINDS", 2)
    aside = SetAside()
    told = [aside.record("s", f"app.py:{line}", 0, ValueError(), 0) for line in range(5)]
    assert [log is not None for log in told] == [True, True, False, False, False]
    assert aside.count == 5


def test_the_first_failure_is_kept_for_the_end_of_the_run() -> None:
    aside = SetAside()
    aside.record("a", "app.py:1", 1, ValueError("one"), 0)
    aside.record("b", "app.py:2", 2, ValueError("two"), 0)
    assert aside.first == "a (app.py:1): ValueError: one; the value was 1"
