"""How an author draws the graph of an application.

Streams are typed by what they carry, so a wrong pipe is underlined in the editor; what types cannot see is noted as a
mistake with the author's line. Nothing runs and nothing raises while the graph is drawn.

None means nothing, everywhere: a step that returns None gives no record, and a record whose key is None is dropped.
Stateless steps must be deterministic, and may run twice for a record: a source is read again from its last saved offset
after a crash. A step may keep the record that it is given, but must not change it: other steps on the same node may
hold the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from mesh.app.connectors import Sink, Source
from mesh.app.graph import WITH_FUNCTION, Graph, Node, SinkNode, SourceNode, StageNode, StepKind, StepNode
from mesh.app.mistakes import AppError, Mistake, Place, here, mistake_at, wrong_name
from mesh.app.params import Param, params_of, read_settings
from mesh.app.signatures import describe, wrong_class, wrong_function

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S")
K = TypeVar("K", bound=str | int | bytes)
T_co = TypeVar("T_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
K_co = TypeVar("K_co", bound=str | int | bytes, covariant=True)

_NEED_KEYS = ("fold", "stateful", "flatten", "items", "values")


class Stateful(Protocol[T_contra, O_co]):
    """The class form of a stage: one instance a key, made at its first record."""

    def on_record(self, record: T_contra, /) -> O_co | None: ...


class App:
    """An application: one graph from sources to sinks. `name` is what nodes and people call it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = here()
        self.graph = Graph()
        self.graph.wrong(self.place, wrong_name("an app", name))

    def source(self, name: str, connector: Source[T]) -> Stream[T]:
        """Begin a pipeline."""
        place = here()
        self.graph.wrong(place, wrong_name("a source", name))
        if not (callable(getattr(connector, "splits", None)) and callable(getattr(connector, "open", None))):
            self.graph.wrong(place, f"a source reads from a connector such as mesh.files(...), not {connector!r:.60}")
        return Stream(self, self.graph.add(SourceNode(place, (), False, name, connector)))

    @property
    def params(self) -> dict[str, Param[Any]]:
        """What an operator may set: the params that connectors and steps use, by name."""
        found: dict[str, Param[Any]] = {}
        for param in self._params():
            found.setdefault(param.name, param)
        return found

    def set_params(self, settings: Mapping[str, object], base: Path | None = None) -> None:
        """Set these and reset all others to their defaults. Text is parsed; relative paths start at `base`."""
        params = self.params
        values, mistakes = read_settings(params, settings, base, self.place)
        if mistakes:
            raise AppError(mistakes)
        for name, param in params.items():
            param.set(values.get(name, param.default))

    def check(self) -> list[Mistake]:
        """Every mistake in this app, in the order of the author's lines."""
        return sorted({*self.graph.check(self.place), *self._wrong_params()})

    def _params(self) -> list[Param[Any]]:
        """In the order of the author's lines."""
        return sorted(params_of(_parts(self.graph)), key=lambda param: param.place)

    def _wrong_params(self) -> list[Mistake]:
        params = self._params()
        mistakes = [mistake for param in params for mistake in param.mistakes()]
        first: dict[str, Param[Any]] = {}
        for param in params:
            if first.setdefault(param.name, param) is not param:
                text = f'a second param "{param.name}": the first one is at {first[param.name].place}'
                mistakes.append(mistake_at(param.place, text))
        return mistakes


def _parts(graph: Graph) -> Iterable[object]:
    """What an author put into the graph: connectors and functions."""
    for node in graph.nodes:
        if isinstance(node, SourceNode | SinkNode):
            yield node.connector
        elif isinstance(node, StageNode):
            yield from (node.new, node.step)
        elif isinstance(node, StepNode):
            yield node.function


class _Pipe:
    """What streams with and without keys have in common."""

    def __init__(self, app: App, node: Node) -> None:
        self._app = app
        self._node = node

    def _step(self, kind: StepKind, place: Place, function: Callable[..., Any] | None, keyed: bool = False) -> Node:
        if kind in WITH_FUNCTION:
            self._app.graph.wrong(place, wrong_function(kind, function, "record"))
        return self._app.graph.add(StepNode(place, (self._node,), keyed, kind, function))

    def _sink(self, place: Place, connector: object) -> None:
        if not callable(getattr(connector, "open", None)) or hasattr(connector, "splits"):
            self._app.graph.wrong(place, f"to needs a sink such as mesh.stdout(), not {connector!r:.60}")
        self._app.graph.add(SinkNode(place, (self._node,), False, connector))


class Stream(_Pipe, Generic[T_co]):
    """Records without keys."""

    def map(self, step: Callable[[T_co], U | None]) -> Stream[U]:
        """One record in, one out, or none."""
        return Stream(self._app, self._step("map", here(), step))

    def flat_map(self, step: Callable[[T_co], Iterable[U | None] | None]) -> Stream[U]:
        """One record in, any number out."""
        return Stream(self._app, self._step("flat_map", here(), step))

    def filter(self, keep: Callable[[T_co], object]) -> Stream[T_co]:
        """Only the records for which `keep` is true."""
        return Stream(self._app, self._step("filter", here(), keep))

    def merge(self, *others: Stream[T_co]) -> Stream[T_co]:
        """The records of all these streams. Each keeps its own order; between them there is none."""
        place, graph = here(), self._app.graph
        streams: list[Stream[Any]] = [self]
        for other in others:
            if not isinstance(other, Stream):
                graph.wrong(place, f"merge takes streams without keys (see items and values), not {describe(other)}")
            elif other._app is not self._app:
                graph.wrong(place, f'merge cannot take a stream of another app ("{other._app.name}")')
            else:
                streams.append(other)
        node = StepNode(place, tuple(stream._node for stream in streams), False, "merge", None)
        return Stream(self._app, graph.add(node))

    def key_by(self, key: Callable[[T_co], K | None]) -> KeyedStream[K, T_co]:
        """Give every record a key: str, int or bytes. Records of one key meet in one state, in order."""
        return KeyedStream(self._app, self._step("key_by", here(), key, keyed=True))

    def to(self, sink: Sink[T_co]) -> None:
        """Hand every record to a sink."""
        self._sink(here(), sink)

    if not TYPE_CHECKING:  # a type checker sees it by itself

        def __getattr__(self, name: str) -> Any:
            """A stage on a stream without keys is the commonest mistake: it is noted like the others."""
            if name not in _NEED_KEYS:
                raise AttributeError(f"a Stream has no {name!r}")

            def _as_if_keyed(*arguments: Any, **named: Any) -> Any:
                self._app.graph.wrong(here(), f"{name} needs keys: put .key_by(...) before it")
                keyed = KeyedStream(self._app, self._step("key_by", here(), str, keyed=True))
                return getattr(keyed, name)(*arguments, **named)

            return _as_if_keyed


class KeyedStream(_Pipe, Generic[K_co, T_co]):
    """Records with keys. What a stage gives out keeps the key of the record that made it."""

    def fold(self, name: str, new: Callable[[], S], step: Callable[[S, T_co], S]) -> KeyedStream[K_co, S]:
        """One state a key: `new()` at its first record, `step(state, record)` at each; every new state is given out."""
        place, graph = here(), self._app.graph
        graph.wrong(place, wrong_function(f'the new of stage "{name}"', new))
        graph.wrong(place, wrong_function(f'the step of stage "{name}"', step, "state", "record"))
        return self._stage(StageNode(place, (self._node,), True, name, "fold", new, step))

    @overload
    def stateful(self, name: str, new: Callable[[], Stateful[T_co, U]]) -> KeyedStream[K_co, U]: ...

    @overload
    def stateful(
        self, name: str, new: Callable[[], S], step: Callable[[S, T_co], tuple[S, U | None]]
    ) -> KeyedStream[K_co, U]: ...

    def stateful(
        self, name: str, new: Callable[[], Any], step: Callable[[Any, Any], Any] | None = None
    ) -> KeyedStream[K_co, Any]:
        """One state a key: an instance of a class with `on_record`, or what `step(state, record)` returns beside its
        output. An output of None is no output."""
        place, graph = here(), self._app.graph
        if step is None:
            graph.wrong(place, wrong_class(f'stage "{name}"', new))
            on_record: Any = getattr(new, "on_record", None)
            return self._stage(StageNode(place, (self._node,), True, name, "class", new, on_record))
        graph.wrong(place, wrong_function(f'the new of stage "{name}"', new))
        graph.wrong(place, wrong_function(f'the step of stage "{name}"', step, "state", "record"))
        return self._stage(StageNode(place, (self._node,), True, name, "step", new, step))

    def flatten(self: KeyedStream[K, Iterable[U]]) -> KeyedStream[K, U]:
        """Records that are collections become their items, under the same key."""
        return KeyedStream(self._app, self._step("flatten", here(), None, keyed=True))

    def items(self) -> Stream[tuple[K_co, T_co]]:
        """(key, record) tuples, without a key of their own."""
        return Stream(self._app, self._step("items", here(), None))

    def values(self) -> Stream[T_co]:
        """The records without their keys."""
        return Stream(self._app, self._step("values", here(), None))

    def to(self, sink: Sink[tuple[K_co, T_co]]) -> None:
        """Hand every (key, record) tuple to a sink."""
        self._sink(here(), sink)

    def _stage(self, node: StageNode) -> KeyedStream[Any, Any]:
        self._app.graph.wrong(node.place, wrong_name("a stage", node.name))
        return KeyedStream(self._app, self._app.graph.add(node))
