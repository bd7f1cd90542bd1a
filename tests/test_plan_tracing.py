"""A traced fragment gives out what the plain one does, and says of each output which record it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mesh
from mesh.app.plan import Fragment, compile
from tests.test_plan_fragment import Nowhere

Target: TypeAlias = "tuple[str, int]"


class Given:
    """An `Emit` and a `TracedEmit`: per target the outputs with their origins, and which calls shared a column."""

    def __init__(self) -> None:
        self.outputs: dict[Target, list[tuple[Any, Any]]] = {}
        self.shared: dict[Target, list[bool]] = {}
        self.failures: list[tuple[str, str]] = []

    def to_stage(self, stage: int, keys: list[Any], values: list[Any], origins: list[int] | None = None) -> None:
        assert keys
        self._take(("stage", stage), list(zip(keys, values, strict=True)), origins)
        self.shared.setdefault(("stage", stage), []).append(keys is values)

    def to_sink(self, sink: int, items: list[Any], origins: list[int] | None = None) -> None:
        assert items
        self._take(("sink", sink), items, origins)

    def _take(self, target: Target, items: list[Any], origins: list[int] | None) -> None:
        found = zip(items, [None] * len(items) if origins is None else origins, strict=True)
        self.outputs.setdefault(target, []).extend(found)

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        self.failures.append((step, repr(value)))

    def plain(self) -> dict[Target, list[str]]:
        """Outputs as text, so that True is not 1, and any two can be ordered."""
        return {target: [repr(item) for item, _ in outputs] for target, outputs in self.outputs.items()}

    def sorted(self) -> dict[Target, list[str]]:
        return {target: sorted(items) for target, items in self.plain().items()}


def twice(x: Any) -> Iterator[Any]:
    yield x
    yield None
    yield 60 // (x - 3)


STEPS: dict[str, Callable[[Any], Any]] = {
    "map": lambda s: s.map(lambda x: x - 1),
    "map that fails": lambda s: s.map(lambda x: 60 // x),
    "map to None": lambda s: s.map(lambda x: x if x % 3 else None),
    "flat_map": lambda s: s.flat_map(lambda x: [x, x + 1, None]),
    "flat_map to None": lambda s: s.flat_map(lambda x: [x] * (x % 4) or None),
    "flat_map of a generator that fails": lambda s: s.flat_map(twice),
    "filter": lambda s: s.filter(lambda x: x % 2),
    "filter that fails": lambda s: s.filter(lambda x: 1 / (x - 2)),
    "key_by and on": lambda s: s.key_by(lambda x: x // 2 or None).items().map(lambda pair: pair[0] + pair[1]),
}
KEYS: list[Callable[[Any], Any]] = [lambda x: x, lambda x: (x,)[0], lambda x: 6 // x, lambda x: x % 3 or None, str]


@st.composite
def graphs(draw: st.DrawFn) -> Fragment:
    """Below a source or a stage: a few steps, each behind any of the streams there are; perhaps merged; targets."""
    app = mesh.App("app")
    source: Any = app.source("values", mesh.items([]))
    below_stage = draw(st.booleans())
    streams: list[Any] = [source]
    if below_stage:
        keyed = source.key_by(str).fold("first", int, lambda n, _: n)
        streams = [keyed.values(), keyed.flatten().values(), keyed.items().map(lambda pair: pair[1])]
        keyed.to(Nowhere())
        keyed.flatten().to(Nowhere())
    unread = dict.fromkeys(range(len(streams)))

    def any_stream() -> Any:
        place = draw(st.integers(0, len(streams) - 1))
        unread.pop(place, None)
        return streams[place]

    for kind in draw(st.lists(st.sampled_from([*STEPS, "merge"]), max_size=6)):
        stream = any_stream()
        streams.append(stream.merge(any_stream()) if kind == "merge" else STEPS[kind](stream))
        unread[len(streams) - 1] = None
    for number, place in enumerate([*unread, draw(st.integers(0, len(streams) - 1))]):
        if draw(st.booleans()):
            streams[place].to(Nowhere())
        else:
            streams[place].key_by(draw(st.sampled_from(KEYS))).fold(f"s{number}", int, lambda n, _: n)
    plan = compile(app)
    return plan.stages[0].fragment if below_stage else plan.sources[0].fragment


numbers = st.integers(-3, 9)
columns = st.lists(numbers | st.lists(numbers | st.none(), max_size=3), min_size=1)


def traced(fragment: Fragment, keys: list[Any], values: list[Any], origins: list[int]) -> Given:
    out = Given()
    fragment.trace(keys, values, origins, out)
    return out


@settings(max_examples=300)
@given(graphs(), columns)
def test_it_gives_out_the_same_and_names_for_each_output_the_record_that_alone_gives_it(
    fragment: Fragment, values: list[Any]
) -> None:
    keys = [str(value) for value in values]
    plain = Given()
    fragment.run(keys, values, plain)
    whole = traced(fragment, keys, values, list(range(len(values))))
    assert whole.sorted() == plain.sorted()
    assert sorted(whole.failures) == sorted(plain.failures)

    alone: dict[Target, list[tuple[Any, int]]] = {}
    for origin, (key, value) in enumerate(zip(keys, values, strict=True)):
        one = Given()
        fragment.run([key], [value], one)
        for target, outputs in one.outputs.items():
            alone.setdefault(target, []).extend((item, origin) for item, _ in outputs)
    assert repr(sorted(whole.outputs.items())) == repr(sorted(alone.items()))

    for target, calls in plain.shared.items():
        if len(calls) == 1:
            assert whole.shared[target] == calls
            assert whole.plain()[target] == plain.plain()[target]


@given(graphs(), columns, st.data())
def test_cutting_a_stream_into_columns_changes_no_targets_order(
    fragment: Fragment, values: list[Any], data: st.DataObject
) -> None:
    keys, origins = [str(value) for value in values], list(range(len(values)))
    whole, parts = traced(fragment, keys, values, origins), Given()
    start = 0
    while start < len(values):
        end = data.draw(st.integers(start + 1, len(values)))
        fragment.trace(keys[start:end], values[start:end], origins[start:end], parts)
        start = end
    assert (repr(sorted(parts.outputs.items())), sorted(parts.failures)) == (
        repr(sorted(whole.outputs.items())),
        sorted(whole.failures),
    )


def source(draw: Callable[[mesh.Stream[Any]], object]) -> Fragment:
    app = mesh.App("app")
    draw(app.source("values", mesh.items([])))
    return compile(app).sources[0].fragment


def trace(draw: Callable[[mesh.Stream[Any]], object], values: list[Any], origins: list[int]) -> Given:
    out = Given()
    source(draw).trace(None, values, origins, out)
    return out


def test_two_ways_to_one_target_are_told_at_once_record_by_record() -> None:
    out = trace(lambda s: s.merge(s.map(lambda x: -x)).key_by(lambda x: x).fold("a", int, max), [1, 2], [7, 9])
    assert out.outputs == {("stage", 0): [((-1, -1), 7), ((1, 1), 7), ((-2, -2), 9), ((2, 2), 9)]}
    assert out.shared == {("stage", 0): [True]}


def test_several_records_may_have_one_origin_and_an_origin_is_any_number() -> None:
    out = trace(lambda s: s.flat_map(range).to(Nowhere()), [2, 0, 1], [1 << 60, 1 << 60, -4])
    assert out.outputs == {("sink", 0): [(0, 1 << 60), (1, 1 << 60), (0, -4)]}


def test_a_list_that_the_author_fills_anew_for_each_record_is_read_in_time() -> None:
    again: list[int] = []

    def fills(x: int) -> list[int]:
        again[:] = [x, x]
        return again

    assert trace(lambda s: s.flat_map(fills).to(Nowhere()), [1, 2], [0, 1]).outputs == {
        ("sink", 0): [(1, 0), (1, 0), (2, 1), (2, 1)]
    }


@pytest.mark.parametrize("kind", ["map", "filter", "flat_map", "key_by"])
def test_a_step_that_raises_stop_iteration_leaves_origins_in_step(kind: str) -> None:
    def ends(x: int) -> Any:
        if x == 2:
            raise StopIteration
        return [x] if kind == "flat_map" else x

    out = trace(lambda s: getattr(s, kind)(ends).to(Nowhere()), [1, 2, 3], [10, 20, 30])
    assert [origin for _, origin in out.outputs["sink", 0]] == [10, 30]


def test_no_step_runs_twice_for_a_record_and_a_column_is_never_changed() -> None:
    called: list[int] = []
    values, origins = [1, 0, 2, 3], [0, 1, 2, 3]

    def inverse(x: int) -> float | None:
        called.append(x)
        return None if x == 3 else 1 / x

    out = trace(lambda s: s.map(inverse).to(Nowhere()), values, origins)
    assert out.outputs == {("sink", 0): [(1.0, 0), (0.5, 2)]}
    assert called == [1, 0, 2, 3]
    assert (values, origins) == ([1, 0, 2, 3], [0, 1, 2, 3])


def test_below_a_stage_a_flattened_list_has_the_origin_of_its_record() -> None:
    app, out = mesh.App("app"), Given()
    keyed: Any = app.source("values", mesh.items([])).key_by(str).fold("first", int, lambda n, _: n)
    keyed.flatten().to(Nowhere())
    fragment = compile(app).stages[0].fragment
    fragment.trace(["a", "b", "c"], [[1, None, 2], 5, [3]], [4, 5, 6], out)
    assert out.outputs == {("sink", 0): [(("a", 1), 4), (("a", 2), 4), (("c", 3), 6)]}
    assert [value for _, value in out.failures] == ["5"]


def test_what_nobody_reads_is_not_made() -> None:
    app = mesh.App("app")
    app.source("values", mesh.items([])).key_by(str).fold("first", int, lambda n, _: n)
    fragment, out = compile(app).stages[0].fragment, Given()
    assert fragment.empty
    fragment.trace(["a"], [1], [0], out)
    assert [list(group) for _, group in groupby(out.outputs)] == []
