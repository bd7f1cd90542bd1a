"""Commits happen beside the work: what is put meanwhile shares the next one, a full disk is waited for, and what fails
is told once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from mesh.core.events import Event
from mesh.core.events.work import StoreCommitted
from mesh.core.storing import StoreFailed, StoreFull
from mesh.runtime import store_thread
from mesh.runtime.store import DiskStore, MemoryStore
from mesh.runtime.store_thread import StoreThread

PATIENCE = 30


class Slow(MemoryStore):
    """Its commits wait until they may; what they cover is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: SimpleQueue[None] = SimpleQueue()
        self.may: SimpleQueue[BaseException | None] = SimpleQueue()
        self.commits = 0
        self.closed = False

    def commit(self) -> None:
        self.begun.put(None)
        error = self.may.get(timeout=PATIENCE)
        if error is not None:
            raise error
        self.commits += 1

    def close(self) -> None:
        assert not any(each.name == "store" for each in threading.enumerate()), "closed under a commit"
        self.closed = True


class Posted:
    def __init__(self) -> None:
        self.all: SimpleQueue[Event | BaseException] = SimpleQueue()

    def next(self) -> Event | BaseException:
        return self.all.get(timeout=PATIENCE)


@pytest.fixture
def slow() -> Iterator[Slow]:
    store = Slow()
    yield store
    for _ in range(10):
        store.may.put(None)  # whatever still waits


def test_what_is_put_while_a_commit_runs_shares_the_next_one(slow: Slow) -> None:
    posted = Posted()
    thread = StoreThread(slow, posted.all.put)
    thread.commit(1)
    slow.begun.get(timeout=PATIENCE)
    for number in (2, 3, 4):
        thread.commit(number)
    slow.may.put(None)
    assert posted.next() == StoreCommitted(1)
    slow.begun.get(timeout=PATIENCE)
    slow.may.put(None)
    assert posted.next() == StoreCommitted(4)
    assert slow.commits == 2
    slow.may.put(None)
    assert thread.end()


def test_a_commit_without_room_is_tried_until_there_is_some(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_thread, "RETRY_S", 0.001)
    posted = Posted()
    thread = StoreThread(slow, posted.all.put)
    thread.commit(7)
    for _ in range(3):
        slow.may.put(StoreFull("no room"))
    slow.may.put(None)
    assert posted.next() == StoreCommitted(7)
    assert slow.begun.qsize() == 4
    slow.may.put(None)
    assert thread.end()


def test_an_end_does_not_wait_for_room(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_thread, "RETRY_S", 1e6)
    posted = Posted()
    thread = StoreThread(slow, posted.all.put)
    thread.commit(1)
    slow.may.put(StoreFull("no room"))
    slow.begun.get(timeout=PATIENCE)
    slow.may.put(StoreFull("no room"))  # the last try, of `end`
    assert not thread.end()
    assert posted.all.empty(), "said to be durable"
    thread.close()
    assert slow.closed


def test_the_end_makes_durable_what_was_put_and_nobody_asked_for(slow: Slow) -> None:
    thread = StoreThread(slow, Posted().all.put)
    slow.may.put(None)
    assert thread.end()
    assert slow.commits == 1
    slow.may.put(None)
    assert thread.end(), "a second time"
    thread.close()


def test_what_fails_is_posted_and_nothing_is_committed_after_it(slow: Slow) -> None:
    posted = Posted()
    thread = StoreThread(slow, posted.all.put)
    failed = StoreFailed("an fsync failed")
    slow.may.put(failed)
    thread.commit(1)
    assert posted.next() is failed
    thread.commit(2)
    assert not thread.end()
    assert slow.begun.qsize() == 1
    assert posted.all.empty()
    thread.close()


def test_what_was_said_to_be_durable_is_on_the_disk(tmp_path: Path) -> None:
    posted = Posted()
    store = DiskStore(str(tmp_path / "store"))
    thread = StoreThread(store, posted.all.put)
    said = 0
    for number in range(1, 200):
        store.put([(1, 0, b"key", b"%d" % number)], {1: b""})
        thread.commit(number)
        while not posted.all.empty():
            event = posted.next()
            assert isinstance(event, StoreCommitted)
            assert event.number > said
            said = event.number
    while said < 199:
        event = posted.next()
        assert isinstance(event, StoreCommitted)
        said = event.number
    assert thread.end()
    thread.close()
    again = DiskStore(str(tmp_path / "store"))
    assert again.get(1, 0, b"key") == b"199"
    again.close()
