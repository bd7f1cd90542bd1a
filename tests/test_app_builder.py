"""Graphs and their mistakes: each told at the author's own line and column, all of them at once."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mesh
from mesh.app import compile_app

HERE = __file__


def line_of_caller() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def texts(app: mesh.App) -> list[str]:
    return [mistake.text for mistake in app.check()]


def app_with_lines(name: str = "app") -> tuple[mesh.App, mesh.Stream[str]]:
    app = mesh.App(name)
    return app, app.source("lines", mesh.items(["a b"]))


def word_count() -> mesh.App:
    app, lines = app_with_lines("word-count")
    lines.flat_map(str.split).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1).to(mesh.stdout())
    return app


def test_a_right_graph_has_no_mistakes() -> None:
    assert word_count().check() == []


def test_a_mistake_has_the_file_line_and_column_of_the_call() -> None:
    app, lines = app_with_lines()
    wrong: Any = 3
    lines.map(wrong).to(mesh.stdout()); line = line_of_caller()  # noqa: E702  # fmt: skip
    (mistake,) = app.check()
    assert (mistake.file, mistake.line) == (HERE, line)
    assert Path(HERE).read_text().splitlines()[line - 1][mistake.column - 1 :].startswith("map(wrong)")
    assert str(mistake) == f"{HERE}:{line}:{mistake.column}: map needs a function that takes (record), not 3"


def test_each_call_of_a_chain_has_its_own_column() -> None:
    app, lines = app_with_lines()
    wrong: Any = None
    line = line_of_caller() + 1
    lines.map(wrong).flat_map(wrong).filter(wrong).key_by(wrong).fold("A", wrong, wrong).to(wrong)
    text = Path(HERE).read_text().splitlines()[line - 1]
    columns = {mistake.column for mistake in app.check()}
    called = ("map(", "flat_map(", "filter(", "key_by(", "fold(", "to(")
    assert columns == {text.index(f".{name}") + 2 for name in called}


def test_calls_over_several_lines_are_told_where_each_begins() -> None:
    app, lines = app_with_lines()
    wrong: Any = None
    line = line_of_caller()
    (
        lines
        .map(wrong)
        .filter(wrong)
        .to(mesh.stdout())
    )  # fmt: skip
    assert [(mistake.line, mistake.column) for mistake in app.check()] == [(line + 3, 10), (line + 4, 10)]


def test_all_mistakes_come_in_one_error_in_the_order_of_the_lines() -> None:
    app, lines = app_with_lines("App")
    lines.key_by(len).fold("Count", int, lambda n: n)  # type: ignore[misc, arg-type]
    app.source("orders", mesh.items([1]))
    with pytest.raises(mesh.AppError) as caught:
        compile_app(app)
    assert caught.value.mistakes == app.check()
    assert len(caught.value.mistakes) == 4
    assert str(caught.value).splitlines() == [str(mistake) for mistake in app.check()]
    assert caught.value.mistakes == sorted(caught.value.mistakes)


@pytest.mark.parametrize("name", ["", "Count", "a b", "-a", "a/b", "a.b", "ä", "x" * 65])
def test_names_that_could_not_stand_in_a_url_are_mistakes(name: str) -> None:
    app, lines = app_with_lines()
    lines.key_by(lambda line: line).fold(name, int, lambda n, _: n)
    assert texts(app) == [
        f"{name!r} cannot name a stage: a name has small letters, digits, - and _, "
        "starts with a letter or a digit, and is at most 64 long"
    ]


@pytest.mark.parametrize("name", ["a", "0", "count-1", "last_price", "x" * 64])
def test_names_that_can_stand_anywhere_are_none(name: str) -> None:
    app, lines = app_with_lines(name)
    lines.key_by(lambda line: line).fold(name, int, lambda n, _: n)
    assert app.check() == []


def test_second_uses_of_a_name_are_mistakes_that_point_to_the_first() -> None:
    app, lines = app_with_lines()
    keyed = lines.merge(app.source("lines", mesh.items(["b"]))).key_by(lambda line: line)
    line = line_of_caller() + 1
    keyed.fold("count", int, lambda n, _: n)
    keyed.fold("count", int, lambda n, _: n)
    second_source, second_stage = app.check()
    assert second_source.text.startswith('a second source "lines": the first one is at ')
    assert second_stage.text == f'a second stage "count": the first one is at {HERE}:{line}'
    assert second_stage.line == line + 1


def test_a_source_and_a_stage_may_share_a_name() -> None:
    app, lines = app_with_lines()
    lines.key_by(lambda line: line).fold("lines", int, lambda n, _: n)
    assert app.check() == []


def test_an_app_without_a_source_is_a_mistake() -> None:
    assert texts(mesh.App("empty")) == ["the app has no source: nothing would ever happen in it"]


def test_a_source_that_nobody_reads_is_a_mistake() -> None:
    app, _ = app_with_lines()
    assert texts(app) == ['nobody reads the source "lines"']


def test_a_stream_that_goes_nowhere_is_told_once_where_it_ends() -> None:
    app, lines = app_with_lines()
    lines.map(len).filter(bool)
    assert texts(app) == ["this stream goes nowhere: give what filter makes to a stage or sink"]


def test_a_keyed_stream_without_a_stage_goes_nowhere() -> None:
    app, lines = app_with_lines()
    lines.key_by(lambda line: line)
    assert texts(app) == ["this stream goes nowhere: give what key_by makes to a stage or sink"]


def test_a_stage_may_be_the_end() -> None:
    app, lines = app_with_lines()
    lines.key_by(lambda line: line).fold("count", int, lambda n, _: n + 1)
    assert app.check() == []


def test_streams_of_another_app_cannot_be_merged() -> None:
    app, lines = app_with_lines()
    _, others = app_with_lines("other")
    lines.merge(others).to(mesh.stdout())
    assert texts(app) == ['merge cannot take a stream of another app ("other")']


def test_a_keyed_stream_cannot_be_merged() -> None:
    app, lines = app_with_lines()
    keyed: Any = lines.key_by(lambda line: line)
    lines.merge(keyed).to(mesh.stdout())
    assert any(text.startswith("merge takes streams without keys (see items and values)") for text in texts(app))


def test_what_is_no_connector_is_a_mistake() -> None:
    app = mesh.App("app")
    no_source: Any = "book.txt"
    no_sink: Any = print
    app.source("lines", no_source).to(no_sink)
    assert texts(app) == [
        "a source reads from a connector such as mesh.files(...), not 'book.txt'",
        "to needs a sink such as mesh.stdout(), not <built-in function print>",
    ]


def test_a_source_is_no_sink() -> None:
    app, lines = app_with_lines()
    source: Any = mesh.items([])
    lines.to(source)
    assert texts(app) == ["to needs a sink such as mesh.stdout(), not mesh.items(0 items)"]


async def fetch(line: str) -> str:
    return line


def test_steps_that_could_not_be_called_are_mistakes() -> None:
    app, lines = app_with_lines()
    two: Any = lambda a, b: a  # noqa: E731
    coroutine: Any = fetch
    lines.map(two).to(mesh.stdout())
    lines.map(coroutine).to(mesh.stdout())
    keyed = lines.key_by(lambda line: line)
    keyed.fold("a", two, two)
    keyed.stateful("b", int, coroutine)
    found = texts(app)
    assert [text.partition(",")[0].partition(":")[0] for text in found] == [
        "map needs a function that takes (record)",
        "map needs a plain function",
        'the new of stage "a" needs a function that takes no arguments',
        'the step of stage "b" needs a plain function',
    ]


def test_builtins_without_a_signature_are_trusted() -> None:
    app, lines = app_with_lines()
    lines.map(int).filter(bool).key_by(str).fold("seen", dict[str, int], lambda seen, n: seen).to(mesh.stdout())
    assert app.check() == []


@dataclass
class Silent:
    total: int = 0


@dataclass
class Needy:
    total: int

    def on_record(self, record: str) -> None: ...


@dataclass
class Deaf:
    total: int = 0

    def on_record(self) -> None: ...


def test_classes_that_cannot_be_a_stage_are_mistakes() -> None:
    app, lines = app_with_lines()
    keyed: Any = lines.key_by(lambda line: line)
    keyed.stateful("silent", Silent)
    keyed.stateful("needy", Needy)
    keyed.stateful("deaf", Deaf)
    keyed.stateful("made", lambda: Needy(3))
    silent, needy, deaf, made = texts(app)
    assert silent == 'stage "silent" needs a class with a method on_record(self, record); Silent has none'
    assert needy == 'stage "needy" makes one Needy a key, without arguments: give its fields defaults'
    assert deaf.startswith('stage "deaf": on_record needs a function that takes (self, record)')
    assert made.startswith('stage "made" needs a class with a method on_record, or a step as its third argument')


@pytest.mark.parametrize("name", ["fold", "stateful", "flatten", "items", "values"])
def test_what_needs_keys_says_so_and_hides_no_other_mistake(name: str) -> None:
    app, lines = app_with_lines()
    unkeyed: Any = lines
    arguments: dict[str, tuple[Any, ...]] = {"fold": ("Bad!", int, min), "stateful": ("Bad!", int, lambda n, v: (n, v))}
    getattr(unkeyed, name)(*arguments.get(name, ())).to(mesh.stdout())
    told = [mistake.text for mistake in app.check()]
    assert f"{name} needs keys: put .key_by(...) before it" in told
    assert len(told) == (2 if name in arguments else 1)  # the stage's name is wrong as well


def test_a_typo_is_still_an_attribute_error() -> None:
    _, lines = app_with_lines()
    with pytest.raises(AttributeError, match="no 'flod'"):
        lines.flod()  # type: ignore[attr-defined]
