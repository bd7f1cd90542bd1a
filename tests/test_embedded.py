"""A whole run in one process: to the end of its sources, or until it is stopped, with nothing lost that was read."""

from __future__ import annotations

import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest

import mesh
from mesh.app.connectors import Chunk, ConnectorError, Split
from mesh.app.plan import compile
from mesh.runtime.embedded import Embedded, RunResult
from mesh.runtime.errors import AppFailed

ENOUGH_S = 60  # for a thread that should be done at once


class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = info = error


class Fed:
    """An endless source whose reads wait until the test gives a chunk; it is its own reader."""

    endless = True
    blocking = True

    def __init__(self) -> None:
        self.chunks: queue.Queue[list[Any] | BaseException] = queue.Queue()
        self.closed = threading.Event()

    def splits(self) -> list[Split]:
        return [Split("fed")]

    def open(self, split: Split, offset: int) -> Fed:
        return self

    def read(self, max_bytes: int) -> Chunk[Any]:
        given = self.chunks.get(timeout=ENOUGH_S)
        if isinstance(given, BaseException):
            raise given
        return Chunk(given, 0, False)

    def close(self) -> None:
        self.closed.set()


class Collected:
    """A sink that says when it has seen so many items."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.calls: list[str] = []
        self.seen = threading.Semaphore(0)
        self.flushed = threading.Event()

    def open(self, writer: str) -> Collected:
        self.calls.append("open")
        return self

    def write(self, items: Sequence[Any]) -> None:
        self.items += items
        for _ in items:
            self.seen.release()

    def flush(self) -> None:
        self.calls.append("flush")
        self.flushed.set()

    def close(self) -> None:
        self.calls.append("close")


def counting(source: Any, sink: Any = None) -> mesh.App:
    app = mesh.App("count")
    counts = app.source("words", source).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
    if sink is not None:
        counts.to(sink)
    return app


def started(embedded: Embedded, **options: Any) -> Callable[[], RunResult]:
    """Runs in a thread; the answer waits for its end."""
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(embedded.run(**options)), daemon=True)
    thread.start()

    def ended() -> RunResult:
        thread.join(ENOUGH_S)
        assert results, "it has not ended"
        return results[0]

    return ended


def test_words_of_real_files_are_what_a_counter_says(tmp_path: Path) -> None:
    random = Random(5)
    words = [random.choice(["to", "be", "or", "ünïcode", "not"]) for _ in range(20_000)]
    (tmp_path / "a.txt").write_text(" ".join(words[:15_000]) + "\n")
    (tmp_path / "b.txt").write_text("\n".join(words[15_000:]))
    app = mesh.App("words")
    lines = app.source("lines", mesh.files(tmp_path, split_bytes=4_000))
    lines.flat_map(str.split).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
    embedded = Embedded(compile(app))
    result = embedded.run()
    assert embedded.data.owner.stages[0].states == Counter(words)
    assert (result.done, result.records_keyed, result.keys, result.failed) == (True, 20_000, 5, 0)


@pytest.mark.parametrize("slots", [1, 65536])
def test_any_number_of_slots(slots: int) -> None:
    embedded = Embedded(compile(counting(mesh.items(["a", "b", "a"]))), slots=slots)
    assert embedded.run().keys == 2


def test_an_empty_directory_is_a_job_that_ends(tmp_path: Path) -> None:
    result = Embedded(compile(counting(mesh.files(tmp_path)))).run()
    assert (result.done, result.records_in) == (True, 0)


def test_sinks_are_flushed_and_closed_once_at_the_end() -> None:
    sink = Collected()
    result = Embedded(compile(counting(mesh.items(["a", "a"]), sink))).run()
    assert sink.items == [("a", 1), ("a", 2)]
    assert result.records_out == 2
    assert sink.calls in (["open", "flush", "close"], ["open", "flush", "flush", "close"])  # the first: it was idle


def test_what_was_written_is_flushed_while_the_source_is_quiet() -> None:
    source, sink = Fed(), Collected()
    embedded = Embedded(compile(counting(source, sink)))
    ended = started(embedded)
    source.chunks.put(["a"])
    assert sink.flushed.wait(ENOUGH_S), "nobody would see it"
    assert sink.items == [("a", 1)]
    embedded.request_stop()
    source.chunks.put([])
    assert not ended().done


def test_one_line_is_tried_before_many_are_read_for_it_may_become_a_million_records(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("line\n" * 100, encoding="utf-8")
    order: list[str] = []

    def explode(line: str) -> list[int]:
        order.append("line")
        return list(range(1000))

    def count(state: int, value: int) -> int:
        order.append("record")
        return state + 1

    app = mesh.App("explode")
    lines = app.source("lines", mesh.files(tmp_path / "book.txt"))
    lines.flat_map(explode).key_by(lambda n: n).fold("count", int, count)
    Embedded(compile(app)).run()
    assert order[:2] == ["line", "record"]
    assert (order.count("line"), order.count("record")) == (100, 100_000)


def test_failures_are_counted_and_logged_and_the_run_ends() -> None:
    log = Log()
    result = Embedded(compile(counting(mesh.items(["a", 1.5, True]))), log=log).run()
    assert (result.failed, result.keys, result.done) == (2, 1, True)
    assert "1.5" in result.first_failure
    assert [event for event, _ in log.lines] == ["record.set_aside"]


def test_a_source_that_cannot_be_read_ends_the_run_with_its_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"no file or directory .*missing"):
        Embedded(compile(counting(mesh.files(tmp_path / "missing")))).run()


@pytest.mark.parametrize("error", [ConnectorError("it broke"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_blocking_source_raises_is_raised_where_the_work_is_done(error: BaseException) -> None:
    source, sink = Fed(), Collected()
    source.chunks.put(["a"])
    source.chunks.put(error)
    with pytest.raises(type(error)):
        Embedded(compile(counting(source, sink))).run()
    assert sink.calls[-1] == "close"


def test_an_endless_run_lasts_until_it_is_stopped_and_loses_nothing_that_was_read() -> None:
    source, sink = Fed(), Collected()
    embedded = Embedded(compile(counting(source, sink)))
    ended = started(embedded)
    source.chunks.put(["a"])
    assert sink.seen.acquire(timeout=ENOUGH_S)
    source.chunks.put(["a", "b"])
    assert sink.seen.acquire(timeout=ENOUGH_S)
    embedded.request_stop()
    result = ended()
    assert not result.done
    assert sink.items == [("a", 1), ("a", 2), ("b", 1)]
    assert sink.calls[-2:] == ["flush", "close"]
    assert source.closed.is_set()


class Quiet(Fed):
    """Never has anything."""

    blocking = False

    def read(self, max_bytes: int) -> Chunk[Any]:
        return Chunk([], 0, False)


@pytest.mark.parametrize("moment", range(25))
def test_a_stop_may_come_at_any_moment_of_a_wait(moment: int) -> None:
    """A signal handler runs in the main thread between two lines, and any of them may hold a lock."""
    embedded = Embedded(compile(counting(Quiet())))
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_name == "_wait_if_idle" or frame.f_code.co_filename == threading.__file__:
            lines += 1
            if lines == moment + 1:
                embedded.request_stop()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert not embedded.run().done
    finally:
        sys.settrace(before)


def test_a_stop_works_off_what_was_read() -> None:
    sink = Collected()
    embedded: Embedded
    app = mesh.App("stopped")

    def stop_at(n: int) -> int:
        if n == 100:
            embedded.request_stop()
        return n

    stage = app.source("n", mesh.items(range(1_000_000))).map(stop_at).key_by(lambda n: n % 7)
    stage.stateful("s", int, lambda n, value: (n + 1, value)).to(sink)
    embedded = Embedded(compile(app))
    result = embedded.run()
    assert not result.done
    assert 100 < result.records_in < 1_000_000
    assert result.records_keyed == result.records_in
    assert sorted(value for _, value in sink.items) == list(range(result.records_in))


def test_a_run_that_is_stopped_before_it_begins_reads_nothing() -> None:
    embedded = Embedded(compile(counting(mesh.items(["a"]))))
    embedded.request_stop()
    result = embedded.run()
    assert (result.done, result.records_in) == (False, 0)


def test_a_kept_run_can_be_read_after_its_sources_have_ended() -> None:
    sink = Collected()
    embedded = Embedded(compile(counting(mesh.items(["a", "b", "a"]), sink)))
    ended = started(embedded, keep=True)
    for _ in range(3):
        assert sink.seen.acquire(timeout=ENOUGH_S)
    assert embedded.worker.lookup("count", "a", ENOUGH_S) == ("found", 2)
    assert embedded.worker.lookup("count", "z", ENOUGH_S) == ("absent", None)
    assert embedded.worker.lookup("count", 1.5, ENOUGH_S) == ("absent", None)
    assert embedded.worker.lookup("cuont", "a", ENOUGH_S) == ("unknown-stage", None)
    embedded.request_stop()
    assert ended().keys == 2


def test_a_read_that_nobody_answers_is_unavailable() -> None:
    embedded = Embedded(compile(counting(mesh.items(["a"]))))
    assert embedded.worker.lookup("count", "a", 0.0) == ("unavailable", None)


def test_progress_is_told_while_it_runs() -> None:
    source, told = Fed(), threading.Event()
    embedded = Embedded(compile(counting(source)))
    counts: list[int] = []

    def tell(result: RunResult) -> None:
        counts.append(result.records_in)
        if result.records_in == 2:
            told.set()

    ended = started(embedded, on_progress=tell)
    source.chunks.put(["a", "b"])
    assert told.wait(ENOUGH_S)
    embedded.request_stop()
    ended()
    assert counts == sorted(counts)


def test_a_sink_that_fails_ends_the_run_with_its_error() -> None:
    class Full(Collected):
        def write(self, items: Sequence[Any]) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(AppFailed, match=r'sink "count" failed: OSError.*No space'):
        Embedded(compile(counting(mesh.items(["a"]), Full()))).run()
