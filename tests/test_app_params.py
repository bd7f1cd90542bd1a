"""What an operator may set."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mesh
from mesh.app.params import Param, params_of

OF_MODULE = mesh.param("of-module", default=1)


def app_with(*params: Param[Any]) -> mesh.App:
    """An app whose one step uses these."""
    app = mesh.App("app")
    lines = app.source("lines", mesh.items(["a"]))
    lines.map(lambda line: (line, *[each.value for each in params])).to(mesh.stdout())
    return app


def test_a_param_has_its_default_until_it_is_set_and_is_read_when_it_is_needed() -> None:
    limit = mesh.param("limit", default=3, help="at most so many")
    app = app_with(limit)
    assert (limit.value, limit()) == (3, 3)
    app.set_params({"limit": "5"})
    assert (limit.value, limit()) == (5, 5)


def test_setting_resets_what_is_not_named() -> None:
    limit, factor = mesh.param("limit", default=3), mesh.param("factor", default=0.5)
    app = app_with(limit, factor)
    app.set_params({"limit": 5})
    app.set_params({"factor": 2})
    assert (limit.value, factor.value) == (3, 2.0)


@pytest.mark.parametrize(
    ("default", "raw", "value"),
    [
        ("", "x", "x"),
        (0, "12", 12),
        (0, 12, 12),
        (0.0, "1.5", 1.5),
        (0.0, 2, 2.0),
        (False, "yes", True),
        (False, "TRUE", True),
        (True, "0", False),
        (True, False, False),
        (Path("a"), "b.txt", Path("/base/b.txt")),
        (Path("a"), "/c.txt", Path("/c.txt")),
        (Path("a"), Path("d"), Path("/base/d")),
    ],
)
def test_the_type_of_the_default_parses(default: Any, raw: object, value: object) -> None:
    parsed = mesh.param("p", default=default).parse(raw, Path("/base"))
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("default", "raw"),
    [
        (0, "x"),
        (0, ""),
        (0, 1.5),
        (0, True),
        (0.0, "x"),
        (0.0, True),
        (False, "maybe"),
        (False, 1),
        ("", 3),
        ("", None),
        (Path("a"), 3),
    ],
)
def test_other_values_are_refused_in_a_sentence_that_shows_them(default: Any, raw: object) -> None:
    with pytest.raises(ValueError, match='param "p" is of type ') as caught:
        mesh.param("p", default=default).parse(raw)
    assert repr(raw) in str(caught.value)


def test_a_param_that_may_be_none_is_set_to_none_by_nothing() -> None:
    output = mesh.param("output", default=None, kind=Path)
    assert output.value is None
    assert output.parse("") is None
    assert output.parse(None) is None
    assert output.parse("out") == Path("out")


def test_unknown_and_unreadable_settings_are_told_together_and_nothing_is_set() -> None:
    limit = mesh.param("limit", default=3)
    app = app_with(limit, mesh.param("other", default=3))
    with pytest.raises(mesh.AppError) as caught:
        app.set_params({"limt": 5, "limit": "many", "other": 4})
    assert {mistake.text for mistake in caught.value.mistakes} == {
        'the app uses no param "limt" (did you mean "limit"?); it uses limit, other',
        "param \"limit\" is of type int, not 'many'",
    }
    assert limit.value == 3
    assert app.params["other"].value == 3


def test_two_params_of_one_name_are_a_mistake() -> None:
    app = app_with(mesh.param("limit", default=3), mesh.param("limit", default=4))
    (mistake,) = app.check()
    assert mistake.text.startswith('a second param "limit": the first one is at ')
    assert mistake.file == __file__


def test_wrong_declarations_are_mistakes_at_their_own_line() -> None:
    untyped: Any = mesh.param("untyped", default=None)
    listed: Any = mesh.param("listed", default=[1])
    app = app_with(untyped, listed, mesh.param("Wrong Name", default=1))
    found = app.check()
    assert len(found) == 3
    assert found[0].text == 'param "untyped" needs a default, or kind=, of one of the types str, int, float, bool, Path'
    assert found[2].text.startswith("'Wrong Name' cannot name a param")


@dataclass
class Stage:
    total: int = 0

    def on_record(self, record: object) -> None:
        self.total += OF_MODULE.value


def helper(line: str) -> str:
    return line * OF_MODULE()


@functools.cache
def cached(line: str) -> str:
    return helper(line)


settings = SimpleNamespace(unused=0)


class Connector:
    def __init__(self, at: object) -> None:
        self.at = at


def test_params_are_found_wherever_steps_and_connectors_refer_to_them() -> None:
    local = mesh.param("local", default=1)

    class WithMethod:
        def step(self, line: str) -> str:
            return line * local.value

    def nested(line: str) -> list[str]:
        return [each * OF_MODULE.value for each in line]

    for root in [helper, cached, Stage, nested, lambda x: helper(x), functools.partial(helper, "a")]:
        assert params_of([root]) == [OF_MODULE], root
    for root in [
        WithMethod().step,
        Connector(local),
        functools.partial(max, local),
        lambda x, y=local: y,
        {"a": [local]},
    ]:
        assert params_of([root]) == [local], root
    assert params_of([str.split, int, None, 3, Connector("x"), mesh.items([3]), [local] * 101]) == []


def test_a_param_that_was_read_too_early_is_unknown_instead_of_without_effect() -> None:
    count = mesh.param("count", default=3)
    app = mesh.App("app")
    app.source("numbers", mesh.items(range(count.value))).to(mesh.stdout())
    with pytest.raises(mesh.AppError, match='uses no param "count"'):
        app.set_params({"count": 4})
