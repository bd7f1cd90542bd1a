"""The application's sources and sinks, opened and read for the data plane.

A source that may block is read in a thread of its own, one read at a time, and its answer comes through `post`; all
others are read on the spot. Sinks belong to the thread that works.

`named`: items have names, but for those that were posted, and a sink that can be opened with names is told them. How
many items a sink has by now is for who calls to pass on, after every flush: see `written`. The end of the job only
flushes then: another node may still give items again that are here, and its writer must find out.

What they raise ends the node: a ConnectorError as it is, for it speaks to the operator; all else as an AppFailed that
names the source or sink.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from mesh.app.connectors import (
    Chunk,
    ConnectorError,
    ItemName,
    NamedSink,
    NamedWriter,
    Pausing,
    Reader,
    Sink,
    Split,
    Writer,
    writer_name,
)
from mesh.app.plan import Plan
from mesh.core.events import Effect, Event
from mesh.core.events.work import (
    FlushSinks,
    ListSplits,
    ReadSplit,
    SinksFlushed,
    SinkWritten,
    SplitRead,
    SplitsListed,
    WriteSink,
)
from mesh.core.numbers import Numbers, Producer
from mesh.core.set_aside import raised_at, told
from mesh.runtime.errors import AppFailed


@dataclass(slots=True)
class _Open:
    """A reader, and the offset of what it reads next."""

    reader: Reader[Any]
    offset: int


class _Streams(dict[tuple[int, Producer, int], str]):
    """Of a sink, who gave something to it and the slot that it is of: what the sink is told."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def __missing__(self, key: tuple[int, Producer, int]) -> str:
        sink, (of_stage, number, split), slot = key
        giver = f"{self._plan.stages[number].name}/{slot}" if of_stage else f"{self._plan.sources[number].name}:{split}"
        self[key] = f"{self._plan.sinks[sink].name}/{giver}"
        return self[key]


class Connections:
    """Open readers and writers. Raises ConnectorError and AppFailed."""

    def __init__(
        self, plan: Plan, part: str, post: Callable[[Event | BaseException], None], *, named: bool = False
    ) -> None:
        self.named = named
        self._plan = plan
        self._part = part
        self._run = ""
        self._post = post
        self._readers: dict[tuple[int, str], _Open] = {}
        self._writers: dict[int, Writer[Any]] = {}
        self.unflushed: dict[int, None] = {}  # sinks that were written to since their last flush
        self.waiting: dict[int, int] = {}  # items since then, by sink, if these have names
        self._written: list[SinkWritten] = []
        self._streams = _Streams(plan)

    def open_writers(self, run: str) -> None:
        """Before the work, so that a sink that cannot be written is told before it; `run` is the same on all nodes."""
        self._run = run
        for sink in self._plan.sinks:
            if not sink.discards:
                with self._named("sink", sink.name):
                    self._writer_of(sink.index)

    def perform(self, effect: Effect) -> Event | None:
        """Do what the effect says; the answer, if there is one by now."""
        match effect:
            case ListSplits(source):
                with self._named("source", self._plan.sources[source].name):
                    return SplitsListed(source, self._plan.sources[source].connector.splits())
            case ReadSplit():
                return self._read(effect)
            case WriteSink(sink, items, names):
                with self._named("sink", self._plan.sinks[sink].name):
                    self._write(sink, items, names)
            case FlushSinks():
                self.flush() if self.named else self.close_writers()
                return SinksFlushed()
        return None

    def written(self) -> list[SinkWritten]:
        """What flushes have brought about since the last call."""
        written, self._written = self._written, []
        return written

    @contextmanager
    def _named(self, kind: str, name: str) -> Iterator[None]:
        try:
            yield
        except ConnectorError:
            raise
        except Exception as error:
            raise AppFailed(f'{kind} "{name}" failed: {told(error)} (at {raised_at(error)})') from error

    def _read(self, read: ReadSplit) -> Event | None:
        if not self._plan.sources[read.source].connector.blocking:
            return self._chunk(read)
        threading.Thread(target=self._read_and_post, args=(read,), daemon=True, name="source").start()
        return None

    def _read_and_post(self, read: ReadSplit) -> None:
        try:
            self._post(self._chunk(read))
        except BaseException as error:  # raised again where the work is done
            self._post(error)

    def _chunk(self, read: ReadSplit) -> SplitRead:
        with self._named("source", self._plan.sources[read.source].name):
            opened = self._reader_of(read.source, read.split, read.offset)
            chunk: Chunk[Any] = opened.reader.read(read.most_bytes)
            opened.offset = chunk.next_offset
            if chunk.ended:
                opened.reader.close()
                del self._readers[read.source, read.split.name]
        return SplitRead(read.source, read.split, chunk.values, chunk.next_offset, chunk.ended)

    def _reader_of(self, source: int, split: Split, offset: int) -> _Open:
        """One that stands elsewhere is of a time when this node had the split before: another node has read on."""
        opened = self._readers.get((source, split.name))
        if opened is not None and opened.offset != offset:
            self._readers.pop((source, split.name)).reader.close()
            opened = None
        if opened is None:
            opened = _Open(self._plan.sources[source].connector.open(split, offset), offset)
            self._readers[source, split.name] = opened
        return opened

    def _write(self, sink: int, items: list[Any], names: Numbers | None) -> None:
        writer = self._writer_of(sink)
        self.unflushed[sink] = None
        if self.named:
            self.waiting[sink] = self.waiting.get(sink, 0) + len(items)
        if names is not None and self._takes_names(self._plan.sinks[sink].connector):
            cast(NamedWriter[Any], writer).write_named(items, self._names(sink, names))
        else:
            writer.write(items)

    def _names(self, sink: int, names: Numbers) -> list[ItemName]:
        """As a sink is told them. The sink is part of a stream's text, for two sinks may be one table."""
        found: list[ItemName] = []
        for producer, start, end in names.runs():
            numbers = names.numbers[start:end]
            if producer[0]:
                streams = [self._streams[sink, producer, origin] for origin in names.origins[start:end]]
            else:
                streams = [self._streams[sink, producer, 0]] * len(numbers)
            found += zip(streams, numbers, strict=True)
        return found

    def _writer_of(self, sink: int) -> Writer[Any]:
        writer = self._writers.get(sink)
        if writer is None:
            writer = self._writers[sink] = self._open(self._plan.sinks[sink].connector)
        return writer

    def _open(self, sink: Sink[Any]) -> Writer[Any]:
        name = writer_name(self._run, self._part)
        return cast(NamedSink[Any], sink).open_named(name) if self._takes_names(sink) else sink.open(name)

    def _takes_names(self, sink: Sink[Any]) -> bool:
        return self.named and isinstance(sink, NamedSink)

    def flush(self) -> None:
        """Let others see what was written."""
        for sink in self.unflushed:
            with self._named("sink", self._plan.sinks[sink].name):
                self._writer_of(sink).flush()
        self._all_written()

    def _all_written(self) -> None:
        self.unflushed.clear()
        self._written += [SinkWritten(sink, count) for sink, count in self.waiting.items()]
        self.waiting.clear()

    def close_writers(self, *, goes_on: bool = False) -> None:
        """Flush and close; a later item opens a new writer. `goes_on`: so may one of a later process of this run."""
        for sink, writer in self._writers.items():
            with self._named("sink", self._plan.sinks[sink].name):
                writer.flush()
                if goes_on and isinstance(writer, Pausing):
                    writer.pause()
                else:
                    writer.close()
        self._writers.clear()
        self._all_written()

    def close(self, *, goes_on: bool = False) -> None:
        self.close_writers(goes_on=goes_on)
        for opened in list(self._readers.values()):  # a source's own thread may end one meanwhile
            opened.reader.close()
        self._readers.clear()
