"""The thread that works opens its sinks once, at its first table, and reads a split from where it is asked to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import mesh
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import compile
from mesh.core.data import DataPlane
from mesh.core.events import FlushSinks, ReadSplit, SplitRead, WriteSink
from mesh.runtime.connections import Connections
from mesh.runtime.worker import Worker
from tests.tables import agreed

ME, PEER = b"m" * 16, b"p" * 16


class Numbers:
    """The numbers from the offset on, one at a time, up to ten."""

    endless = False
    blocking = False

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed = 0

    def splits(self) -> list[Split]:
        return [Split("numbers", 10)]

    def open(self, split: Split, offset: int) -> NumberReader:
        self.opened.append(offset)
        return NumberReader(self, offset)


class NumberReader:
    def __init__(self, source: Numbers, offset: int) -> None:
        self.source = source
        self.offset = offset

    def read(self, max_bytes: int) -> Chunk[int]:
        self.offset += 1
        return Chunk([self.offset - 1], self.offset, self.offset == 10)

    def close(self) -> None:
        self.source.closed += 1


class Shelf:
    """A sink; it is its own writer."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.items: list[Any] = []

    def open(self, writer: str) -> Shelf:
        self.opened.append(writer)
        return self

    def write(self, items: Sequence[Any]) -> None:
        self.items += items

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def made() -> tuple[mesh.App, Numbers, Shelf]:
    app, source, sink = mesh.App("worker"), Numbers(), Shelf()
    app.source("numbers", source).to(sink)
    return app, source, sink


def working() -> tuple[Worker, Shelf]:
    app, _, sink = made()
    return Worker(DataPlane(ME, compile(app), 4, 0), "me-1", lambda: None, deque(), lambda: 0), sink


def test_sinks_are_opened_at_the_first_table_and_not_again_at_those_that_follow() -> None:
    worker, sink = working()
    assert sink.opened == []
    worker.inbox.append(agreed(1, [ME], [0] * 4))
    worker.turn(0)
    assert len(sink.opened) == 1
    while not worker.job_done:
        worker.turn(0)
    worker.inbox.append(agreed(2, [ME, PEER], [0] * 4))
    worker.turn(0)
    assert len(sink.opened) == 1
    assert sink.items == list(range(10))


def test_a_node_that_joins_later_opens_its_sinks_at_the_table_that_it_learns_first() -> None:
    worker, sink = working()
    worker.inbox.append(agreed(7, [PEER, ME], [0] * 4, founders=[PEER]))
    worker.turn(0)
    assert len(sink.opened) == 1


def read(connections: Connections, offset: int) -> SplitRead:
    answer = connections.perform(ReadSplit(0, Split("numbers", 10), offset, 1))
    assert isinstance(answer, SplitRead)
    return answer


def test_a_split_that_was_elsewhere_meanwhile_is_opened_anew_where_the_other_node_got_to() -> None:
    app, source, _ = made()
    connections = Connections(compile(app), "me-1", lambda event: None)
    assert [read(connections, 0).values, read(connections, 1).values] == [[0], [1]]
    assert source.opened == [0]
    assert read(connections, 7).values == [7]
    assert (source.opened, source.closed) == ([0, 7], 1)
    assert read(connections, 8).values == [8]
    assert (source.opened, source.closed) == ([0, 7], 1)


def test_a_chunk_that_was_thrown_away_is_read_again() -> None:
    app, source, _ = made()
    connections = Connections(compile(app), "me-1", lambda event: None)
    read(connections, 0)
    assert read(connections, 0).values == [0]
    assert (source.opened, source.closed) == ([0, 0], 1)


def test_a_sink_that_is_written_to_after_its_end_is_opened_again() -> None:
    app, _, sink = made()
    connections = Connections(compile(app), "me-1", lambda event: None)
    connections.perform(WriteSink(0, ["early"]))
    connections.perform(FlushSinks())
    connections.perform(WriteSink(0, ["late"]))
    assert (len(sink.opened), sink.items) == (2, ["early", "late"])
