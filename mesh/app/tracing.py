"""The same steps once more, with an origin beside every record: what came of which. `fragment` says what a step does.

Where records have names (kept mode) an output must be known as that of the record that it came from. Nothing else is
different: the same functions are called once for the same values in the same order, and the same records are set aside.
The loops without origins stay as they are, since whoever keeps nothing shall not pay for it.

Invariant what a target (a stage or a sink) is given is in the order of the origins, if these ascend; also where several
          branches lead to it. So it is the same, in the same order, however the stream is cut into columns: who reads
          a split again, in other chunks, counts up to the same numbers. Plain `run` gives branch after branch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress, repeat
from operator import is_, is_not
from typing import Any, TypeAlias

from mesh.app.fragment import Function, Keys, Loop, Told, Trace, TracedEmit, each_result, is_identity, pairs, same

Origins: TypeAlias = "list[int]"


def _truths(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    append = results.append
    for value in values:
        append(bool(function(value)))


def _copies(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    append = results.append
    for value in values:
        items = function(value)
        append(() if items is None else list(items))  # at once: the next call may fill the same list again


def _tried(
    told: Told, loop: Loop, function: Function, values: list[Any], origins: Origins, out: TracedEmit
) -> tuple[list[Any], list[Any], Origins]:
    """One result a value, and the columns without what has failed."""
    results, failed = told.run(loop, function, values, out)
    if failed:
        dropped = frozenset(failed)
        kept = [index not in dropped for index in range(len(values))]
        values, origins = list(compress(values, kept)), list(compress(origins, kept))
    return results, values, origins


def _there(results: list[Any]) -> list[bool] | None:
    """Which are not None; None: all."""
    there = list(map(is_not, results, repeat(None)))
    return None if all(there) else there


def map_step(function: Function, told: Told, then: Trace) -> Trace:
    def trace(_keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        results, _, origins = _tried(told, each_result, function, values, origins, out)
        there = _there(results)
        if there is not None:
            results, origins = list(compress(results, there)), list(compress(origins, there))
        if results:
            then(None, results, origins, out)

    return trace


def flat_map_step(function: Function, told: Told, then: Trace) -> Trace:
    def trace(_keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        lists, _, origins = _tried(told, _copies, function, values, origins, out)
        results, origins = _flat(lists, origins)
        if results:
            then(None, results, origins, out)

    return trace


def filter_step(function: Function, told: Told, then: Trace) -> Trace:
    def trace(_keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        truths, values, origins = _tried(told, _truths, function, values, origins, out)
        values = list(compress(values, truths))
        if values:
            then(None, values, list(compress(origins, truths)), out)

    return trace


def key_by_step(function: Function, told: Told, then: Trace) -> Trace:
    if is_identity(function):
        return lambda _keys, values, origins, out: then(values, values, origins, out)

    def trace(_keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        keys, values, origins = _tried(told, each_result, function, values, origins, out)
        there = _there(keys)
        if there is not None:
            keys, values, origins = (list(compress(column, there)) for column in (keys, values, origins))
        if keys:
            then(values if same(keys, values) else keys, values, origins, out)

    return trace


def flatten_step(told: Told, then: Trace) -> Trace:
    def trace(keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        assert keys is not None
        new_keys: list[Any] = []
        new_values: list[Any] = []
        new_origins: list[int] = []
        for key, value, origin in zip(keys, values, origins, strict=True):
            try:
                items = [item for item in value if item is not None]
            except Exception as error:
                out.failed(told.step, told.where, value, error)
                continue
            new_values += items
            new_keys += [key] * len(items)
            new_origins += [origin] * len(items)
        if new_values:
            then(new_keys, new_values, new_origins, out)

    return trace


def items_step(then: Trace) -> Trace:
    return lambda keys, values, origins, out: then(None, pairs(keys, values), origins, out)


def values_step(then: Trace) -> Trace:
    return lambda _keys, values, origins, out: then(None, values, origins, out)


def branches(traces: Iterable[Trace]) -> Trace:
    all_traces = tuple(traces)
    if len(all_traces) == 1:
        return all_traces[0]

    def trace(keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        for each in all_traces:
            each(keys, values, origins, out)

    return trace


def to_stage(stage: int) -> Trace:
    def trace(keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        assert keys is not None
        out.to_stage(stage, keys, values, origins)

    return trace


def to_sink(sink: int, keyed: bool) -> Trace:
    if keyed:
        return lambda keys, values, origins, out: out.to_sink(sink, pairs(keys, values), origins)
    return lambda _keys, values, origins, out: out.to_sink(sink, values, origins)


def _flat(lists: list[Sequence[Any]], origins: Origins) -> tuple[list[Any], Origins]:
    """All items but None, and the origin of each."""
    results = list(chain.from_iterable(lists))
    origins = list(chain.from_iterable(map(repeat, origins, map(len, lists))))
    there = _there(results)
    if there is None:
        return results, origins
    return list(compress(results, there)), list(compress(origins, there))


# -- several branches lead to one target ------------------------------------------------------------------------------


def in_order(trace: Trace, stages: Collection[int], sinks: Collection[int]) -> Trace:
    """`trace`, but these targets get all of a column at once, by origin; of one origin branch by branch."""
    if not stages and not sinks:
        return trace

    def ordered(keys: Keys, values: list[Any], origins: Origins, out: TracedEmit) -> None:
        gathered = _Gathered(out, stages, sinks)
        trace(keys, values, origins, gathered)
        gathered.give()

    return ordered


class _Gathered:
    """The `TracedEmit` of a column while its branches run."""

    def __init__(self, out: TracedEmit, stages: Collection[int], sinks: Collection[int]) -> None:
        self._out = out
        self._stages: dict[int, tuple[list[Any], list[Any], list[int]]] = {each: ([], [], []) for each in stages}
        self._sinks: dict[int, tuple[list[Any], list[int]]] = {each: ([], []) for each in sinks}
        self.failed = out.failed

    def to_stage(self, stage: int, keys: list[Any], values: list[Any], origins: list[int]) -> None:
        if stage not in self._stages:
            self._out.to_stage(stage, keys, values, origins)
            return
        for column, more in zip(self._stages[stage], (keys, values, origins), strict=True):
            column += more

    def to_sink(self, sink: int, items: list[Any], origins: list[int]) -> None:
        if sink not in self._sinks:
            self._out.to_sink(sink, items, origins)
            return
        for column, more in zip(self._sinks[sink], (items, origins), strict=True):
            column += more

    def give(self) -> None:
        for stage, (keys, values, origins) in self._stages.items():
            if origins:
                keys, values, origins = _sorted(origins, keys, values, origins)
                self._out.to_stage(stage, values if all(map(is_, keys, values)) else keys, values, origins)
        for sink, (items, origins) in self._sinks.items():
            if origins:
                items, origins = _sorted(origins, items, origins)
                self._out.to_sink(sink, items, origins)


def _sorted(origins: list[int], *columns: list[Any]) -> list[list[Any]]:
    order = sorted(range(len(origins)), key=origins.__getitem__)  # stable
    return [[column[index] for index in order] for column in columns]
