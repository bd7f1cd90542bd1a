"""What happens to records between a producer and the stages and sinks that it feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh.app.fragment import is_identity
from mesh.app.plan import compile


class Recorded:
    """An `Emit` that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, Any]] = []
        self.items: list[Any] = []
        self.failures: list[tuple[str, object, str]] = []
        self.shared_columns: list[bool] = []
        self.where = ""

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        assert keys
        self.records += zip(keys, values, strict=True)
        self.shared_columns.append(keys is values)

    def to_sink(self, sink: int, items: list[Any]) -> None:
        assert items
        self.items += items

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        self.failures.append((step, value, type(error).__name__))
        self.where = where


class Nowhere:
    """A sink that is never opened in these tests."""

    def open(self, writer: str) -> mesh.Writer[Any]:
        raise NotImplementedError


def run(draw: Callable[[mesh.Stream[Any]], object], values: list[Any]) -> Recorded:
    """Draw below a source, and send one column through it."""
    app, out = mesh.App("app"), Recorded()
    draw(app.source("values", mesh.items([])))
    compile(app).sources[0].fragment.run(None, values, out)
    return out


def run_keyed(draw: Callable[[mesh.KeyedStream[Any, Any]], object], pairs: list[tuple[Any, Any]]) -> Recorded:
    """The same below a stage."""
    app, out = mesh.App("app"), Recorded()
    draw(app.source("values", mesh.items([])).key_by(str).fold("first", int, lambda n, _: n))
    compile(app).stages[0].fragment.run([key for key, _ in pairs], [value for _, value in pairs], out)
    return out


def sink_of(draw: Callable[[mesh.Stream[Any]], mesh.Stream[Any]], values: list[Any]) -> list[Any]:
    return run(lambda stream: draw(stream).to(Nowhere()), values).items


def test_stateless_steps_do_what_they_say() -> None:
    assert sink_of(lambda s: s.map(lambda x: x + 1), [1, 2]) == [2, 3]
    assert sink_of(lambda s: s.flat_map(lambda x: range(x)), [2, 0, 3]) == [0, 1, 0, 1, 2]
    assert sink_of(lambda s: s.filter(lambda x: x % 2), [1, 2, 3]) == [1, 3]
    assert sink_of(lambda s: s.map(str).flat_map(list).filter(str.isdigit).map(int), [12, -3]) == [1, 2, 3]


def test_none_is_nothing_everywhere() -> None:
    assert sink_of(lambda s: s.map(lambda x: x or None), [0, 1, ""]) == [1]
    assert sink_of(lambda s: s.flat_map(lambda x: [x, None] if x else None), [0, 1]) == [1]
    keyed = run(lambda s: s.key_by(lambda x: x[0] or None).fold("a", int, lambda n, _: n), [("", 1), ("a", 2)])
    assert keyed.records == [("a", ("a", 2))]


def test_values_that_are_false_are_not_nothing() -> None:
    assert sink_of(lambda s: s.map(lambda x: x), [0, "", False, []]) == [0, "", False, []]
    assert sink_of(lambda s: s.flat_map(lambda x: [x]), [0, "", False]) == [0, "", False]


def test_a_stage_is_not_told_of_nothing() -> None:
    out = run(lambda s: s.filter(bool).key_by(lambda x: x).fold("a", int, lambda n, _: n), [0, 0])
    assert (out.records, out.shared_columns) == ([], [])


def test_keys_and_values_share_a_column_when_every_record_is_its_own_key() -> None:
    words = ["to", "be"]
    for key in (lambda word: word, lambda word: (word,)[0]):
        out = run(lambda s, key=key: s.key_by(key).fold("a", int, lambda n, _: n), words)  # type: ignore[misc]
        assert out.records == [("to", "to"), ("be", "be")]
        assert out.shared_columns == [True]


def test_equal_is_not_the_same() -> None:
    out = run(lambda s: s.key_by(int).fold("a", int, lambda n, _: n), [True, 1.0])
    assert [(type(key), type(value)) for key, value in out.records] == [(int, bool), (int, float)]
    assert out.shared_columns == [False]


def test_an_identity_is_known_by_its_code() -> None:
    def same(word: Any) -> Any:
        return word

    def other(word: Any, _: Any = None) -> Any:
        return _

    outer = "x"
    assert is_identity(same)
    assert is_identity(lambda word: word)
    others: list[Any] = [other, lambda word: outer, lambda word: (word,), str, lambda: 1, lambda *word: word]
    for function in others:
        assert not is_identity(function), function


def test_one_stream_read_twice_gives_its_records_to_both() -> None:
    def draw(stream: mesh.Stream[Any]) -> None:
        doubled = stream.map(lambda x: x * 2)
        doubled.to(Nowhere())
        doubled.key_by(lambda x: x).fold("a", int, lambda n, _: n)

    out = run(draw, [1, 2])
    assert (out.items, out.records) == ([2, 4], [(2, 2), (4, 4)])


def test_a_stream_merged_with_its_own_branch_gives_both() -> None:
    assert sorted(sink_of(lambda s: s.merge(s.map(lambda x: x * 10)), [1, 2])) == [1, 2, 10, 20]


def test_below_a_stage_records_have_keys() -> None:
    pairs = [("a", [1, None, 2]), ("b", [])]
    assert run_keyed(lambda s: s.to(Nowhere()), pairs).items == pairs
    assert run_keyed(lambda s: s.items().to(Nowhere()), pairs).items == pairs
    assert run_keyed(lambda s: s.values().to(Nowhere()), pairs).items == [[1, None, 2], []]
    assert run_keyed(lambda s: s.flatten().to(Nowhere()), pairs).items == [("a", 1), ("a", 2)]
    chained = run_keyed(lambda s: s.fold("second", int, lambda n, _: n), pairs)
    assert chained.records == pairs


def inverse(x: int) -> float:
    return 1 / x


def halves(x: int) -> Iterator[float]:
    yield 0.5
    yield 1 / x


STEPS: dict[str, tuple[Callable[[mesh.Stream[Any]], mesh.Stream[Any]], list[Any]]] = {
    "map": (lambda s: s.map(inverse), [1.0, 0.5]),
    "flat_map": (lambda s: s.flat_map(halves), [0.5, 1.0, 0.5, 0.5]),
    "filter": (lambda s: s.filter(inverse), [1, 2]),
}


@pytest.mark.parametrize("kind", STEPS)
def test_only_the_failing_record_is_set_aside(kind: str) -> None:
    draw, expected = STEPS[kind]
    out = run(lambda s: draw(s).to(Nowhere()), [1, 0, 2, 0])
    assert out.items == expected
    step = "halves" if kind == "flat_map" else "inverse"
    assert out.failures == [(f"{kind}({step})", 0, "ZeroDivisionError")] * 2


def test_a_failing_key_sets_its_record_aside_and_keeps_the_others_together() -> None:
    out = run(lambda s: s.key_by(lambda x: None if x == 5 else 6 // x).fold("a", int, lambda n, _: n), [1, 0, 5, 2])
    assert out.records == [(6, 1), (3, 2)]
    assert out.failures == [("key_by(<lambda>)", 0, "ZeroDivisionError")]


def test_what_cannot_be_flattened_is_set_aside() -> None:
    out = run_keyed(lambda s: s.flatten().to(Nowhere()), [("a", [1]), ("b", 2), ("c", [3])])
    assert out.items == [("a", 1), ("c", 3)]
    assert [value for _, value, _ in out.failures] == [2]


def test_a_failure_names_the_authors_line() -> None:
    out = run(lambda s: s.map(inverse).to(Nowhere()), [0])
    assert out.where == f"{__file__}:{test_a_failure_names_the_authors_line.__code__.co_firstlineno + 1}"


def test_a_step_that_raises_stop_iteration_does_not_end_the_column() -> None:
    out = run(lambda s: s.map(lambda x: next(iter(x))).to(Nowhere()), [[1], [], [2]])
    assert out.items == [1, 2]
    assert out.failures == [("map(<lambda>)", [], "StopIteration")]


def test_no_step_runs_twice_for_a_record_when_one_fails() -> None:
    before: list[int] = []
    failing: list[int] = []
    after: list[int] = []

    def fails_at_three(x: int) -> int:
        failing.append(x)
        return 6 // (x - 3)

    run(
        lambda s: s.map(lambda x: before.append(x) or x).map(fails_at_three).map(after.append).to(Nowhere()),  # type: ignore[func-returns-value]
        [1, 3, 5],
    )
    assert before == [1, 3, 5]
    assert after == [-3, 3]
    assert failing == [1, 3, 5]


def test_an_error_of_the_receiver_is_not_taken_for_the_authors() -> None:
    class Full(Recorded):
        def to_sink(self, sink: int, items: list[Any]) -> None:
            raise RuntimeError("full")

    app, out = mesh.App("app"), Full()
    app.source("values", mesh.items([])).map(str).to(Nowhere())
    with pytest.raises(RuntimeError, match="full"):
        compile(app).sources[0].fragment.run(None, [1], out)
    assert out.failures == []


@given(st.lists(st.integers(-5, 5)), st.data())
def test_cutting_a_stream_into_columns_changes_nothing(values: list[int], data: st.DataObject) -> None:
    app = mesh.App("app")
    stream: mesh.Stream[int] = app.source("values", mesh.items([]))
    stream.map(lambda x: 60 // x).flat_map(lambda x: [x, None, -x]).filter(lambda x: x > 5).key_by(str).fold(
        "a", int, lambda n, _: n
    )
    fragment = compile(app).sources[0].fragment
    whole, parts = Recorded(), Recorded()
    fragment.run(None, values, whole)
    start = 0
    while start < len(values):
        end = data.draw(st.integers(start + 1, len(values)))
        fragment.run(None, values[start:end], parts)
        start = end
    assert (parts.records, parts.failures) == (whole.records, whole.failures)


def test_a_record_that_can_be_read_only_once_is_not_lost_when_another_fails() -> None:
    def numbers(x: int) -> Iterator[int]:
        yield x
        if x == 2:
            raise ValueError(x)

    out = run(lambda s: s.map(numbers).flat_map(lambda items: items).to(Nowhere()), [1, 2, 3])
    assert out.items == [1, 3]
    assert len(out.failures) == 1


@pytest.mark.parametrize("kind", ["map", "filter", "flat_map", "key_by"])
def test_a_step_that_raises_stop_iteration_is_set_aside_like_any_other(kind: str) -> None:
    def ends(x: int) -> Any:
        if x == 2:
            raise StopIteration
        return [x] if kind == "flat_map" else x

    out = run(lambda s: getattr(s, kind)(ends).to(Nowhere()), [1, 2, 3])
    assert [item[1] if kind == "key_by" else item for item in out.items] == [1, 3]
    assert [value for _, value, _ in out.failures] == [2]


def test_ctrl_c_in_a_step_passes_through() -> None:
    def interrupted(x: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(lambda s: s.map(interrupted).to(Nowhere()), [1])
