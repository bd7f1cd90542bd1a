"""What the runtime executes: an application whose mistakes are gone, numbered and compiled.

A producer (a source, or a stage) has one fragment, the stateless steps between it and the stages and sinks that it
feeds. Records move through a fragment as columns; see `fragment`. Levels order the work: a stage's level is one more
than the highest level among the stages that feed it, so when all of level n is done, level n + 1 gets nothing new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mesh.app.connectors import Sink, Source

StageKind = Literal["fold", "step", "class"]


class Emit(Protocol):
    """Where a fragment puts what comes out of it. Branches share the lists: read them, never change them."""

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        """Records for `plan.stages[stage]`. `keys is values` when every record is its own key."""

    def to_sink(self, sink: int, items: list[Any]) -> None:
        """Items for `plan.sinks[sink]`; (key, value) tuples when it is keyed."""

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        """The author's step raised for this one record, which is set aside; `where` is file:line of the step."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """The stateless tree below one producer. `run(keys, values, out)`: keys is None below a source."""

    run: Callable[[list[Any] | None, list[Any], Emit], None]
    stages: tuple[int, ...]  # that it feeds, ascending
    sinks: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """True: nobody reads the producer's outputs, so they need not be made."""
        return not self.stages and not self.sinks


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
