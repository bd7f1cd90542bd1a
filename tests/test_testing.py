"""What an author's own tests stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mesh
import mesh.testing
from mesh.app.mistakes import AppError
from mesh.testing import RecordFailed


def word_count() -> mesh.App:
    app = mesh.App("word-count")
    words = app.source("lines", mesh.items(["never read"])).flat_map(str.split).key_by(lambda word: word)
    words.fold("count", int, lambda n, _: n + 1).to(mesh.stdout())
    return app


def test_a_run_gives_outputs_in_order_and_states() -> None:
    result = mesh.testing.run(word_count(), {"lines": ["to be or", "not to be"]})
    assert result.states == {"count": {"to": 2, "be": 2, "or": 1, "not": 1}}
    assert result.outputs == {"count": [("to", 1), ("be", 1), ("or", 1), ("not", 1), ("to", 2), ("be", 2)]}


def test_an_app_can_be_run_again_and_begins_anew() -> None:
    app = word_count()
    for _ in range(2):
        assert mesh.testing.run(app, {"lines": iter(["a"])}).states == {"count": {"a": 1}}


def test_a_source_that_is_not_named_gets_nothing() -> None:
    result = mesh.testing.run(word_count(), {})
    assert (result.states, result.outputs) == ({"count": {}}, {"count": []})


def test_a_source_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no source 'line'"):
        mesh.testing.run(word_count(), {"line": []})


def test_more_records_than_one_chunk_stay_in_order() -> None:
    app = mesh.App("copy")
    app.source("numbers", mesh.items([])).to(mesh.stdout())
    numbers = list(range(3 * mesh.testing.CHUNK_RECORDS + 1))
    assert mesh.testing.run(app, {"numbers": numbers}).outputs == {"numbers": numbers}


def test_a_record_that_fails_fails_the_test_or_is_left_out() -> None:
    app = mesh.App("halves")
    app.source("numbers", mesh.items([])).map(lambda n: 10 // n).to(mesh.stdout())
    with pytest.raises(RecordFailed, match=r"1 set aside; the first: map\(<lambda>\) .*ZeroDivisionError"):
        mesh.testing.run(app, {"numbers": [5, 0, 2]})
    result = mesh.testing.run(app, {"numbers": [5, 0, 2]}, allow_failures=True)
    assert result.outputs == {"numbers": [2, 5]}


def test_mistakes_of_the_app_are_told() -> None:
    app = mesh.App("wrong")
    app.source("numbers", mesh.items([])).map(lambda n: n)
    with pytest.raises(AppError, match="goes nowhere"):
        mesh.testing.run(app, {})


def test_no_source_is_read_and_no_sink_is_opened(tmp_path: Path) -> None:
    app = mesh.App("files")
    lines = app.source("lines", mesh.files(tmp_path / "missing.txt"))
    lines.to(mesh.jsonl(tmp_path / "out"))
    assert mesh.testing.run(app, {"lines": ["a"]}).outputs == {"lines": ["a"]}
    assert not list(tmp_path.iterdir())


def test_states_that_change_in_place_and_several_pipelines_in_one_app() -> None:
    class Basket:
        def __init__(self) -> None:
            self.items: list[str] = []

        def on_record(self, item: tuple[str, str]) -> Any:
            self.items.append(item[1])
            return list(self.items) if item[1] == "pay" else None

    app = mesh.App("shop")
    app.source("clicks", mesh.items([])).key_by(lambda click: click[0]).stateful("basket", Basket).to(mesh.stdout())
    app.source("visits", mesh.items([])).key_by(lambda name: name).fold("visits", int, lambda n, _: n + 1)
    result = mesh.testing.run(
        app, {"clicks": [("ann", "tea"), ("bob", "jam"), ("ann", "pay")], "visits": ["ann", "ann"]}
    )
    assert result.outputs["basket"] == [("ann", ["tea", "pay"])]
    assert result.states["visits"] == {"ann": 2}
    assert result.states["basket"]["bob"].items == ["jam"]
