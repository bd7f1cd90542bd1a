"""Commits on a thread of their own: an fsync takes milliseconds, or a second, and the thread that works goes on.

States    idle -> committing -> idle, and StoreCommitted is posted; committing -> no room (TryAgain) -> committing, a
          little later; any -> failed: the error is posted, which ends the node, and nothing is committed any more;
          any -> ended, by `end` -> closed, by `close`
Events    `commit` by the thread that works: what has been put so far, under a number

What is put while a commit runs is covered by the next one, together: so many packs share an fsync when it is slow.

Invariant a number is posted only after a commit that was called after `commit` with it. Of all calls of the store only
          `commit` is made here; after `end` there is no thread any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from mesh.core.events import Event
from mesh.core.events.work import StoreCommitted
from mesh.core.storing import Store, StoreError, TryAgain

RETRY_S = 0.05  # after a commit for which there was no room


class StoreThread:
    """Of one store. `post` may be called from any thread."""

    def __init__(self, store: Store, post: Callable[[Event | BaseException], None]) -> None:
        self._store = store
        self._post = post
        self._asked: SimpleQueue[int | None] = SimpleQueue()  # None: end
        self._ending = threading.Event()
        self._failed = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def commit(self, number: int) -> None:
        """Does not block; StoreCommitted(number), or that of a later one, comes when it is done."""
        self._asked.put(number)

    def end(self) -> bool:
        """Nothing more is put: make durable what there is, in this thread. False: it could not be."""
        if not self._ended:
            self._ended = True
            self._ending.set()
            self._asked.put(None)
            self._thread.join()
        if self._failed:
            return False
        try:
            self._store.commit()
        except StoreError:
            return False
        return True

    def close(self) -> None:
        """After `end`."""
        assert self._ended
        self._store.close()

    def _run(self) -> None:
        while (number := self._newest()) is not None:
            try:
                done = self._commit()
            except BaseException as error:  # raised again where the work is done
                self._failed = True
                self._post(error)
                return
            if done:
                self._post(StoreCommitted(number))

    def _newest(self) -> int | None:
        """Of what is asked for, when there is something."""
        number = self._asked.get()
        while number is not None:
            try:
                number = self._asked.get_nowait()
            except Empty:
                break
        return number

    def _commit(self) -> bool:
        """False: it ends before there was room."""
        while True:
            try:
                self._store.commit()
                return True
            except TryAgain:
                if self._ending.wait(RETRY_S):
                    return False
