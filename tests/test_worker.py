"""The thread that works opens its sinks once, at its first table, and reads a split from where it is asked to."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import mesh
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import compile
from mesh.core.data import DataPlane
from mesh.core.events.planes import Transmit
from mesh.core.events.work import FlushSinks, ReadSplit, RecordAsked, SinksFlushed, SinkWritten, SplitRead, WriteSink
from mesh.core.numbers import Numbers as Names
from mesh.runtime.connections import Connections
from mesh.runtime.flushing import FIRST_NAMED_MS, FLUSH_MS, MANY_ITEMS, MOST_NAMED_MS, Flushing
from mesh.runtime.worker import EVENTS_MS, Worker
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


def test_a_flood_that_takes_long_to_work_off_does_not_keep_a_node_from_looking_up() -> None:
    app, _, _ = made()
    elapsed = itertools.count(0, EVENTS_MS // 2)
    worker = Worker(DataPlane(ME, compile(app), 4, 0), "me-1", lambda: None, deque(), lambda: next(elapsed))
    worker.inbox.extend(agreed(epoch, [ME], [0] * 4) for epoch in range(1, 10))
    worker.hear(0)
    assert 0 < len(worker.inbox) < 9
    while worker.inbox:
        worker.hear(0)
    assert worker.data.table is not None
    assert worker.data.table.epoch == 9


@pytest.mark.parametrize("ends", [False, True])
def test_what_a_question_has_to_do_with_sinks_waits_for_the_main_thread(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks, from whatever thread, runs none of the application's code; and it is not forgotten."""
    worker, sink = working()
    worker.inbox.append(agreed(1, [ME], [0] * 4))
    while not worker.job_done:
        worker.turn(0)
    written = [*sink.items]
    with monkeypatch.context() as patch:
        patch.setattr(worker.data, "handle", lambda event, now: [WriteSink(0, ["late"])])
        worker.take(RecordAsked(1, "x", "k", 1), 0)
    assert sink.items == written
    assert not worker.rests()
    if ends:
        worker.finish(0)
    else:
        worker.hear(0)
    assert sink.items == [*written, "late"]


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


# -- items with names


class NamingShelf(Shelf):
    """A sink that wants names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[tuple[str, int]] = []
        self.flushed = self.closed = 0

    def open_named(self, writer: str) -> NamingShelf:
        self.opened.append(f"named {writer}")
        return self

    def write_named(self, items: Sequence[Any], names: Sequence[tuple[str, int]]) -> None:
        self.items += items
        self.names += names

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


def naming() -> tuple[mesh.App, NamingShelf, Shelf]:
    app, named, plain = mesh.App("naming"), NamingShelf(), Shelf()
    numbers = app.source("numbers", Numbers())
    numbers.to(named)
    sums = numbers.key_by(lambda number: number % 2).fold("sum", int, lambda total, number: total + number)
    sums.to(plain)
    sums.to(named)
    return app, named, plain


def opened(app: mesh.App) -> Connections:
    connections = Connections(compile(app), "me-1", lambda event: None, named=True)
    connections.open_writers("run1")
    return connections


OF_STAGE = Names([7, 9, 4], [3, 3, 2], [0], [(True, 0, "")])
OF_SPLIT = Names([0, 1], [0, 0], [0], [(False, 0, "a/b.txt")])


def test_a_sink_that_wants_names_is_told_them_by_sink_and_stream() -> None:
    app, named, plain = naming()
    connections = opened(app)
    connections.perform(WriteSink(0, ["p", "q"], OF_SPLIT))
    connections.perform(WriteSink(1, ["a", "b", "c"], OF_STAGE))
    connections.perform(WriteSink(2, ["a", "b", "c"], OF_STAGE))
    assert named.opened == ["named run1.me-1"] * 2
    assert named.items == ["p", "q", "a", "b", "c"]
    assert named.names == [
        ("numbers/numbers:a/b.txt", 0), ("numbers/numbers:a/b.txt", 1),
        ("sum-2/sum/3", 7), ("sum-2/sum/3", 9), ("sum-2/sum/2", 4),
    ]  # fmt: skip
    assert (plain.opened, plain.items) == (["run1.me-1"], ["a", "b", "c"])


def test_what_a_sink_has_is_told_once_it_was_flushed_with_or_without_names_of_its_own() -> None:
    connections = opened(naming()[0])
    connections.perform(WriteSink(1, ["a", "b", "c"], OF_STAGE))
    connections.perform(WriteSink(1, ["posted"], None))
    connections.perform(WriteSink(0, ["p", "q"], OF_SPLIT))
    assert connections.written() == []
    connections.flush()
    assert connections.written() == [SinkWritten(1, 4), SinkWritten(0, 2)]
    connections.flush()
    assert connections.written() == []


def test_the_end_of_a_job_whose_items_have_names_flushes_and_the_end_of_the_node_closes() -> None:
    app, named, _ = naming()
    connections = opened(app)
    connections.perform(WriteSink(0, ["p", "q"], OF_SPLIT))
    assert connections.perform(FlushSinks()) == SinksFlushed()
    assert (connections.written(), named.flushed, named.closed) == ([SinkWritten(0, 2)], 1, 0)
    connections.close()
    assert named.closed == 2, "two sinks are one object here"


def test_items_that_have_no_names_are_flushed_whenever_there_is_nothing_else_to_do() -> None:
    flushing = Flushing(named=False)
    flushing.flushed(1000)
    assert flushing.due(1001, idle=True, waiting=0)
    assert not flushing.due(1001, idle=False, waiting=0)
    assert flushing.due(1000 + FLUSH_MS, idle=False, waiting=0)


def test_items_with_names_are_flushed_soon_at_first_and_more_rarely_later() -> None:
    flushing = Flushing(named=True)
    now, waits = 0, []
    for _ in range(1000):
        assert not flushing.due(flushing.deadline() - 1, idle=True, waiting=1)
        assert flushing.due(flushing.deadline(), idle=False, waiting=1)
        waits.append(flushing.deadline() - now)
        now = flushing.deadline()
        flushing.flushed(now)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_NAMED_MS, MOST_NAMED_MS)
    assert flushing.due(now, idle=False, waiting=MANY_ITEMS)


def test_a_node_that_keeps_what_it_gives_out_is_woken_to_flush_and_has_it_in_the_sink_by_then() -> None:
    app, _, sink = made()
    data = DataPlane(ME, compile(app), 4, 0, keeps=True)
    worker, now = Worker(data, "me-1", lambda: None, deque(), lambda: 0), 0
    table = agreed(1, [ME], [0] * 4)
    worker.inbox.append(replace(table, since_of_slot=(1,) * 4, backups_of_slot=((),) * 4, joining_of_slot=(-1,) * 4))
    while not worker.job_done:
        worker.turn(now)
        if not worker.busy(now):
            deadline = worker.next_deadline()
            assert deadline is not None, "nobody would wake it"
            now = max(now, deadline)
    assert sink.items == list(range(10))
    assert not data.handoff.busy()


def test_records_are_applied_between_the_pieces_that_fill_a_copy() -> None:
    app = mesh.App("filled")
    numbers = app.source("numbers", mesh.items(range(60_000)))
    numbers.key_by(lambda number: number).fold("text", str, lambda _, number: f"{number:200}")
    data = DataPlane(ME, compile(app), 4, 0, keeps=True)
    worker = Worker(data, "me-1", lambda: None, deque(), lambda: 0)
    table = agreed(1, [ME, PEER], [0] * 4)
    alone = replace(table, since_of_slot=(1,) * 4, backups_of_slot=((),) * 4, joining_of_slot=(-1,) * 4)
    joined = replace(alone, epoch=2, term_of_slot=(2,) * 4, joining_of_slot=(1,) * 4)
    worker.inbox.append(alone)
    while data.records_keyed < 5_000:
        worker.turn(0)
    worker.inbox.append(joined)
    pieces, before = 0, data.records_keyed
    for now in range(0, 150, 10):  # a piece is due whenever one looks
        pieces += any(isinstance(each, Transmit) and each.to == PEER for each in worker.turn(now))
    assert data.handoff.may_send(), "there is more to fill"
    assert pieces > 5
    assert data.records_keyed > before
