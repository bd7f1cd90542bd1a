"""The examples, each run in this process; on a cluster they run elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mesh
import mesh.testing
from mesh.app import compile_app, load_app
from mesh.runtime.embedded import Embedded

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> mesh.App:
    app = load_app(str(EXAMPLES / f"{name}.py"))
    app.set_params({})
    return app


def run(app: mesh.App) -> dict[str, dict[Any, Any]]:
    """On the example's own sources; its states."""
    embedded = Embedded(compile_app(app))
    assert embedded.run().failed == 0
    return {stage.plan.name: stage.states for stage in embedded.data.owner.stages}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_every_example_is_without_mistakes(name: str) -> None:
    assert load(name).check() == []


def test_word_count_equals_counter_and_writes_every_count(tmp_path: Path) -> None:
    text = "to be or not\nto be  \n\nthat is ä\u2003the\x1cquestion"
    (tmp_path / "book.txt").write_text(text)
    app = load("word_count")
    app.set_params({"input": tmp_path / "book.txt", "output": tmp_path / "out"})
    expected = Counter(text.split())
    assert run(app)["count"] == expected
    (part,) = (tmp_path / "out").glob("*.jsonl")
    last: dict[str, int] = dict(json.loads(line) for line in part.read_text().splitlines())
    assert last == expected
    assert len(part.read_text().splitlines()) == expected.total()


def test_word_count_makes_no_outputs_that_nobody_asked_for() -> None:
    assert compile_app(load("word_count")).stages[0].fragment.empty


def test_the_default_input_is_the_standard_library_without_its_guests() -> None:
    splits = [split.name for split in compile_app(load("word_count")).sources[0].connector.splits()]
    assert "this.py" in splits
    assert "json/decoder.py" in splits
    assert not [name for name in splits if name.startswith("site-packages/")]


def test_the_twin_counts_first_letters_and_drops_the_rest() -> None:
    result = mesh.testing.run(load("word_count_by_letter"), {"lines": ["To be tested 3 times", "Über alles \u0130"]})
    assert result.states["count"] == {"t": 3, "b": 1, "a": 1}


def test_prices_are_folded_into_last_and_highest_of_listed_symbols() -> None:
    app = load("stock_prices")
    import stock_prices  # type: ignore[import-not-found]

    symbols = set((EXAMPLES / "stock_symbols.txt").read_text().split())
    expected: dict[str, Any] = {}
    for trade in stock_prices.a_day_of_trades():
        if trade.symbol in symbols:
            highest = max(trade.price, expected[trade.symbol].highest) if trade.symbol in expected else trade.price
            expected[trade.symbol] = stock_prices.Price(trade.price, highest)
    assert len(symbols) == 3000
    assert mesh.testing.run(app, {"trades": stock_prices.a_day_of_trades()}).states["price"] == expected
    assert run(app)["price"].keys() == expected.keys()


def test_the_symbols_that_are_listed_can_be_set(tmp_path: Path) -> None:
    app = load("stock_prices")
    import stock_prices

    (tmp_path / "listed.txt").write_text("AAA\n")
    app.set_params({"symbols": tmp_path / "listed.txt"})
    trades = [stock_prices.Trade("AAA", 2.0), stock_prices.Trade("BBB", 1.0), stock_prices.Trade("AAA", 1.0)]
    assert mesh.testing.run(app, {"trades": trades}).states["price"] == {"AAA": stock_prices.Price(1.0, 2.0)}


def test_a_customer_gets_one_email_when_the_total_reaches_the_reward() -> None:
    app = load("new_customers")
    import new_customers  # type: ignore[import-not-found]

    app.set_params({"reward": "100"})
    orders = [new_customers.Order(who, amount) for who, amount in [("ann", 60), ("bob", 99), ("ann", 40), ("ann", 9)]]
    result = mesh.testing.run(app, {"orders": orders})
    assert result.outputs["customer"] == [new_customers.Email("ann", "You have ordered for 100 so far. Thank you!")]
    assert {who: state.total for who, state in result.states["customer"].items()} == {"ann": 109, "bob": 99}


def test_a_window_of_the_last_four_ids_is_kept_and_each_event_given_out(tmp_path: Path) -> None:
    events = [{"key": key, "id": number} for number in range(1, 7) for key in ("a", "b")]
    app = load("sequence_window")
    app.set_params({"output": tmp_path / "out"})
    result = mesh.testing.run(app, {"events": events})
    assert {key: vars(state) for key, state in result.states["window"].items()} == {
        key: {"count": 6, "sum": 21, "last": [3, 4, 5, 6]} for key in ("a", "b")
    }
    assert result.outputs["window"] == [(event["key"], event["id"], event["id"]) for event in events]


@pytest.mark.parametrize("event", [{"key": "a"}, {"id": 1}, {"key": 1, "id": 1}, {"key": "a", "id": True}, ["a", 1], 7])
def test_what_is_no_event_is_told(event: object) -> None:
    with pytest.raises(mesh.testing.RecordFailed, match="an event is"):
        mesh.testing.run(load("sequence_window"), {"events": [event]})
