"""The graph that a builder draws: sources, stateless steps, stages and sinks, each with the author's line.

It holds what the author wrote, mistakes included; `Graph.check` says what is wrong with the whole of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from mesh.app.mistakes import Mistake, Place, mistake_at

StepKind = Literal["map", "flat_map", "filter", "merge", "key_by", "flatten", "items", "values"]
WITH_FUNCTION = ("map", "flat_map", "filter", "key_by")
StageKind = Literal["fold", "step", "class"]
N = TypeVar("N", bound="Node")
DEEPEST = 14  # levels of stages: each has a channel of its own on every link, and a link has 17, three for the mesh


@dataclass(eq=False, slots=True)
class Node:
    place: Place
    parents: tuple[Node, ...]
    keyed: bool  # what comes out has keys
    children: list[Node] = field(init=False, default_factory=list)


@dataclass(eq=False, slots=True)
class SourceNode(Node):
    name: str
    connector: Any


@dataclass(eq=False, slots=True)
class StepNode(Node):
    kind: StepKind
    function: Callable[..., Any] | None


@dataclass(eq=False, slots=True)
class StageNode(Node):
    name: str
    kind: StageKind
    new: Callable[[], Any]
    step: Callable[[Any, Any], Any]


@dataclass(eq=False, slots=True)
class SinkNode(Node):
    connector: Any


class Graph:
    """What one app is made of, in the order in which it was written."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.mistakes: list[Mistake] = []

    def add(self, node: N) -> N:
        self.nodes.append(node)
        for parent in node.parents:
            parent.children.append(node)
        return node

    def wrong(self, place: Place, text: str | None) -> None:
        """Note a mistake, if there is one."""
        if text is not None:
            self.mistakes.append(mistake_at(place, text))

    def of(self, kind: type[N]) -> list[N]:
        return [node for node in self.nodes if isinstance(node, kind)]

    def check(self, app: Place) -> Iterator[Mistake]:
        """The mistakes noted so far, and those that only the finished graph shows."""
        yield from self.mistakes
        if not self.of(SourceNode):
            yield mistake_at(app, "the app has no source: nothing would ever happen in it")
        yield from _doubles("source", self.of(SourceNode))
        yield from _doubles("stage", self.of(StageNode))
        yield from self._ends()
        for node, level in levels(self).items():
            if level == DEEPEST + 1:
                yield mistake_at(
                    node.place,
                    f'the stage "{node.name}" has {DEEPEST} stages before it, one after the '
                    f"other; {DEEPEST} in all are possible",
                )

    def _ends(self) -> Iterator[Mistake]:
        for node in self.nodes:
            if node.children:
                continue
            if isinstance(node, SourceNode):
                yield mistake_at(node.place, f'nobody reads the source "{node.name}"')
            elif isinstance(node, StepNode):
                yield mistake_at(
                    node.place, f"this stream goes nowhere: give what {node.kind} makes to a stage or sink"
                )


def _doubles(what: str, nodes: Iterable[SourceNode] | Iterable[StageNode]) -> Iterator[Mistake]:
    seen: Counter[str] = Counter()
    first: dict[str, Place] = {}
    for node in nodes:
        seen[node.name] += 1
        if seen[node.name] > 1:
            yield mistake_at(node.place, f'a second {what} "{node.name}": the first one is at {first[node.name]}')
        first.setdefault(node.name, node.place)


def levels(graph: Graph) -> dict[StageNode, int]:
    """From 1; one more than the highest of the stages that feed it. A node is always written after those that it reads,
    so one pass is enough."""
    found: dict[StageNode, int] = {}
    for node in graph.of(StageNode):
        found[node] = 1 + max(
            (found.get(each, 0) for each in producers(node) if isinstance(each, StageNode)), default=0
        )
    return found


def producers(node: Node) -> list[SourceNode | StageNode]:
    """The sources and stages whose records reach `node` without passing another stage; each once, in their order."""
    found: dict[SourceNode | StageNode, None] = {}
    waiting = list(reversed(node.parents))
    while waiting:
        parent = waiting.pop()
        if isinstance(parent, SourceNode | StageNode):
            found.setdefault(parent)
        else:
            waiting.extend(reversed(parent.parents))
    return list(found)
