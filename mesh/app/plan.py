"""What the runtime executes: an application whose mistakes are gone, numbered and compiled.

A producer (a source, or a stage) has one fragment, the stateless steps between it and the stages and sinks that it
feeds. Records move through a fragment as columns; see `fragment`. Levels order the work: a stage's level is one more
than the highest level among the stages that feed it, so when all of level n is done, level n + 1 gets nothing new.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any, NamedTuple

from mesh.app import fragment as plain
from mesh.app import tracing
from mesh.app.builder import App
from mesh.app.connectors import Sink, Source
from mesh.app.fragment import Emit, Fragment, Run, Told, Trace, TracedEmit
from mesh.app.graph import Node, SinkNode, SourceNode, StageKind, StageNode, StepNode, levels, producers
from mesh.app.mistakes import AppError
from mesh.app.signatures import label

__all__ = ["Emit", "Fragment", "Plan", "SinkPlan", "SourcePlan", "StageKind", "StagePlan", "TracedEmit", "compile"]


@dataclass(frozen=True, slots=True)
class SourcePlan:
    name: str
    connector: Source[Any]
    fragment: Fragment


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A keyed stateful step. The state of a new key is `new()`; then, by kind,

    fold: `state = step(state, value)`, and the state is the output
    step: `state, output = step(state, value)`
    class: `output = step(state, value)`, step being the class's `on_record`; the state changes in place

    and an output of None is no output.
    """

    index: int
    name: str
    level: int  # from 1
    new: Callable[[], Any]
    step: Callable[[Any, Any], Any]
    kind: StageKind
    fragment: Fragment
    where: str  # file:line of the author's


@dataclass(frozen=True, slots=True)
class SinkPlan:
    index: int
    name: str
    connector: Sink[Any]
    keyed: bool
    discards: bool  # True: no fragment feeds it, do not open it


@dataclass(frozen=True, slots=True)
class Plan:
    app_name: str
    fingerprint: str  # of the graph's shape; nodes of one cluster must have the same
    sources: tuple[SourcePlan, ...]
    stages: tuple[StagePlan, ...]  # by level; a stage's index is its place here
    sinks: tuple[SinkPlan, ...]
    levels: int  # the highest level of a stage, 0 without stages

    def stage(self, name: str) -> StagePlan | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def compile(app: App, *, all_sinks: bool = False) -> Plan:
    """Number and compile an app as its params are set now. Raises `AppError` with every mistake.

    `all_sinks`: feed those too that would discard their items; for a test that collects them."""
    mistakes = app.check()
    if mistakes:
        raise AppError(mistakes)
    return _Compiler(app, all_sinks).plan()


class _Compiler:
    def __init__(self, app: App, all_sinks: bool) -> None:
        graph = app.graph
        self.app = app
        self.all_sinks = all_sinks
        self.sources = graph.of(SourceNode)
        self.levels = levels(graph)
        self.stages = sorted(graph.of(StageNode), key=lambda node: self.levels[node])  # stable: then as written
        self.sinks = graph.of(SinkNode)
        self.stage_index = {node: index for index, node in enumerate(self.stages)}
        self.sink_index = {node: index for index, node in enumerate(self.sinks)}

    def plan(self) -> Plan:
        return Plan(
            app_name=self.app.name,
            fingerprint=self.fingerprint(),
            sources=tuple(SourcePlan(node.name, node.connector, self.fragment(node)) for node in self.sources),
            stages=tuple(self.stage(node) for node in self.stages),
            sinks=self.sink_plans(),
            levels=max(self.levels.values(), default=0),
        )

    def stage(self, node: StageNode) -> StagePlan:
        return StagePlan(
            index=self.stage_index[node],
            name=node.name,
            level=self.levels[node],
            new=node.new,
            step=node.step,
            kind=node.kind,
            fragment=self.fragment(node),
            where=str(node.place),
        )

    def sink_plans(self) -> tuple[SinkPlan, ...]:
        names = _sink_names(self.sinks)
        return tuple(
            SinkPlan(index, name, node.connector, node.parents[0].keyed, self.discards(node))
            for index, (node, name) in enumerate(zip(self.sinks, names, strict=True))
        )

    def discards(self, node: SinkNode) -> bool:
        return not self.all_sinks and bool(getattr(node.connector, "discards", False))

    def fingerprint(self) -> str:
        """Of names, kinds, levels and edges: what nodes must agree on to understand each other's stage numbers."""
        shape = [
            self.app.name,
            [node.name for node in self.sources],
            [[node.name, node.kind, self.levels[node]] for node in self.stages],
            [[[type(each).__name__, each.name] for each in producers(node)] for node in self.stages],
        ]
        return blake2b(json.dumps(shape).encode(), digest_size=6).hexdigest()

    # -- fragments ----------------------------------------------------------------------------------------------------

    def fragment(self, producer: Node) -> Fragment:
        stages: Counter[int] = Counter()
        sinks: Counter[int] = Counter()
        both = self.below(producer, stages, sinks)
        if both is None:
            return Fragment(_nothing, (), ())
        several = _several(stages), _several(sinks)
        trace = tracing.in_order(both.trace, *several)
        return Fragment(both.run, tuple(sorted(stages)), tuple(sorted(sinks)), trace, not any(several))

    def below(self, node: Node, stages: Counter[int], sinks: Counter[int]) -> _Both | None:
        """What happens to the records of `node`; None when nobody would see it. Counts the ways to each target."""
        all_both = [self.reader(child, stages, sinks) for child in node.children]
        wanted = [both for both in all_both if both is not None]
        if not wanted:
            return None
        return _Both(plain.branches(both.run for both in wanted), tracing.branches(both.trace for both in wanted))

    def reader(self, node: Node, stages: Counter[int], sinks: Counter[int]) -> _Both | None:
        if isinstance(node, StageNode):
            stage = self.stage_index[node]
            stages[stage] += 1
            return _Both(plain.to_stage(stage), tracing.to_stage(stage))
        if isinstance(node, SinkNode):
            if self.discards(node):
                return None
            sink, keyed = self.sink_index[node], node.parents[0].keyed
            sinks[sink] += 1
            return _Both(plain.to_sink(sink, keyed), tracing.to_sink(sink, keyed))
        assert isinstance(node, StepNode)
        then = self.below(node, stages, sinks)
        return None if then is None else _step(node, then)


class _Both(NamedTuple):
    """What happens to records, without and with origins."""

    run: Run
    trace: Trace


_STEPS = {
    "map": (plain.map_step, tracing.map_step),
    "flat_map": (plain.flat_map_step, tracing.flat_map_step),
    "filter": (plain.filter_step, tracing.filter_step),
    "key_by": (plain.key_by_step, tracing.key_by_step),
}


def _nothing(_keys: list[Any] | None, _values: list[Any], _out: Emit) -> None:
    """The run of an empty fragment."""


def _several(ways: Counter[int]) -> list[int]:
    """The targets to which more than one way leads."""
    return sorted(target for target, count in ways.items() if count > 1)


def _step(node: StepNode, then: _Both) -> _Both:
    told = Told(label(node.kind, node.function), str(node.place))
    if node.function is not None:
        run, trace = _STEPS[node.kind]
        return _Both(run(node.function, told, then.run), trace(node.function, told, then.trace))
    if node.kind == "flatten":
        return _Both(plain.flatten_step(told, then.run), tracing.flatten_step(told, then.trace))
    if node.kind == "items":
        return _Both(plain.items_step(then.run), tracing.items_step(then.trace))
    if node.kind == "values":
        return _Both(plain.values_step(then.run), tracing.values_step(then.trace))
    return then  # a merge only joins


def _sink_names(nodes: list[SinkNode]) -> list[str]:
    """A sink is called after the stage or source that feeds it; the second one of a name gets a number."""
    names: list[str] = []
    for node in nodes:
        name = producers(node)[0].name
        numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
        names.append(next(each for each in numbered if each not in names))
    return names
