"""Stateless steps, compiled to functions over columns: what happens to every record before it has a home.

This is a place to be fast in. A step costs one pass of a plain loop over its column; nothing is allocated, logged or
looked up per record. The functions below are the only loops.

When the author's function raises, that record is told and set aside, and the loop goes on behind it, from the same
iterator. The column is not run again: a record may be a generator, and would be used up the second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import is_, length_hint
from types import FunctionType
from typing import Any, Protocol, TypeAlias


class Failures(Protocol):
    """Who is told of records that are set aside."""

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        """The author's step raised for this one record, which is set aside; `where` is file:line of the step."""


class Emit(Failures, Protocol):
    """Where a fragment puts what comes out of it. Branches share the lists: read them, never change them."""

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        """Records for `plan.stages[stage]`. `keys is values` when every record is its own key."""

    def to_sink(self, sink: int, items: list[Any]) -> None:
        """Items for `plan.sinks[sink]`; (key, value) tuples when it is keyed."""


class TracedEmit(Failures, Protocol):
    """Where a traced fragment puts what comes out of it; origins[i] is that of the record which values[i] came from."""

    def to_stage(self, stage: int, keys: list[Any], values: list[Any], origins: list[int]) -> None:
        """As `Emit.to_stage`."""

    def to_sink(self, sink: int, items: list[Any], origins: list[int]) -> None:
        """As `Emit.to_sink`."""


Keys: TypeAlias = "list[Any] | None"
Run: TypeAlias = Callable[[Keys, list[Any], Emit], None]
Trace: TypeAlias = Callable[[Keys, list[Any], list[int], TracedEmit], None]
Function: TypeAlias = Callable[[Any], Any]
Loop: TypeAlias = Callable[[Function, Iterator[Any], list[Any]], None]


def untraced(_keys: Keys, _values: list[Any], _origins: list[int], _out: TracedEmit) -> None:
    """The trace of an empty fragment."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """The stateless tree below one producer. `run(keys, values, out)`: keys is None below a source.

    `trace(keys, values, origins, out)`: the same, with an int beside every record; see `tracing`. `one_way`: no target
    is reached in two ways, so that `run` gives each its records in the same order."""

    run: Run
    stages: tuple[int, ...]  # that it feeds, ascending
    sinks: tuple[int, ...]
    trace: Trace = untraced
    one_way: bool = False

    @property
    def empty(self) -> bool:
        """True: nobody reads the producer's outputs, so they need not be made."""
        return not self.stages and not self.sinks


class Told:
    """How a step names itself to `Emit.failed`."""

    __slots__ = ("step", "where")

    def __init__(self, step: str, where: str) -> None:
        self.step = step
        self.where = where

    def run(self, loop: Loop, function: Function, values: list[Any], out: Failures) -> tuple[list[Any], list[int]]:
        """What the loop made of all values for which `function` does not raise, and the indices of the others."""
        results: list[Any] = []
        failed: list[int] = []
        iterator = iter(values)
        while True:
            try:
                loop(function, iterator, results)
                return results, failed
            except Exception as error:
                index = len(values) - length_hint(iterator) - 1
                failed.append(index)
                out.failed(self.step, self.where, values[index], error)


def _map(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    append = results.append
    for value in values:
        result = function(value)
        if result is not None:
            append(result)


def _flat_map(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    extend = results.extend
    for value in values:
        items = function(value)
        if type(items) is list:
            extend(items)
        elif items is not None:
            extend(list(items))  # all items or none: a generator may raise after its first ones


def _filter(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    append = results.append
    for value in values:
        if function(value):
            append(value)


def each_result(function: Function, values: Iterator[Any], results: list[Any]) -> None:
    append = results.append
    for value in values:
        append(function(value))


def map_step(function: Function, told: Told, then: Run) -> Run:
    def run(_keys: Keys, values: list[Any], out: Emit) -> None:
        results, _ = told.run(_map, function, values, out)
        if results:
            then(None, results, out)

    return run


def flat_map_step(function: Function, told: Told, then: Run) -> Run:
    def run(_keys: Keys, values: list[Any], out: Emit) -> None:
        results, _ = told.run(_flat_map, function, values, out)
        results = [item for item in results if item is not None]
        if results:
            then(None, results, out)

    return run


def filter_step(function: Function, told: Told, then: Run) -> Run:
    def run(_keys: Keys, values: list[Any], out: Emit) -> None:
        results, _ = told.run(_filter, function, values, out)
        if results:
            then(None, results, out)

    return run


def key_by_step(function: Function, told: Told, then: Run) -> Run:
    if is_identity(function):
        return lambda _keys, values, out: then(values, values, out)

    def run(_keys: Keys, values: list[Any], out: Emit) -> None:
        keys, failed = told.run(each_result, function, values, out)
        if failed:
            dropped = frozenset(failed)
            values = [value for index, value in enumerate(values) if index not in dropped]
        found = [key for key in keys if key is not None]
        if len(found) < len(keys):
            values = [value for key, value in zip(keys, values, strict=True) if key is not None]
        if found:
            then(values if same(found, values) else found, values, out)

    return run


def flatten_step(told: Told, then: Run) -> Run:
    def run(keys: Keys, values: list[Any], out: Emit) -> None:
        assert keys is not None
        new_keys: list[Any] = []
        new_values: list[Any] = []
        for key, value in zip(keys, values, strict=True):
            try:
                items = [item for item in value if item is not None]
            except Exception as error:
                out.failed(told.step, told.where, value, error)
                continue
            new_values += items
            new_keys += [key] * len(items)
        if new_values:
            then(new_keys, new_values, out)

    return run


def items_step(then: Run) -> Run:
    return lambda keys, values, out: then(None, pairs(keys, values), out)


def values_step(then: Run) -> Run:
    return lambda _keys, values, out: then(None, values, out)


def branches(runs: Iterable[Run]) -> Run:
    """What several readers of one stream do; one alone does it itself."""
    all_runs = tuple(runs)
    if len(all_runs) == 1:
        return all_runs[0]

    def run(keys: Keys, values: list[Any], out: Emit) -> None:
        for each in all_runs:
            each(keys, values, out)

    return run


def to_stage(stage: int) -> Run:
    def run(keys: Keys, values: list[Any], out: Emit) -> None:
        assert keys is not None
        out.to_stage(stage, keys, values)

    return run


def to_sink(sink: int, keyed: bool) -> Run:
    if keyed:
        return lambda keys, values, out: out.to_sink(sink, pairs(keys, values))
    return lambda _keys, values, out: out.to_sink(sink, values)


def pairs(keys: Keys, values: list[Any]) -> list[Any]:
    assert keys is not None
    return list(zip(keys, values, strict=True))


def same(keys: list[Any], values: list[Any]) -> bool:
    """Every record is its own key, so one column can travel for both. Ends at the first that is not."""
    return all(map(is_, keys, values))


def _itself(value: Any) -> Any:
    return value


def is_identity(function: Function) -> bool:
    """It is `lambda word: word` by its very code, so it need not be called."""
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    return code.co_argcount == 1 and code.co_code == _itself.__code__.co_code
