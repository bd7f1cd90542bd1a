"""An application in this process, without a mesh: the same data plane over a partition with one owner.

With a data directory its states, how far its sources are read, and what its sinks do not have yet are in a store there.
A later run with the same directory goes on with that, as a node does that has been started again: each start is a
process of its own, which owns nothing until a table has asked it for its slots and it has said that it has them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from mesh.app.plan import Plan
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Log
from mesh.core.events.planes import SlotsInstalled, TableAgreed
from mesh.core.slot import ACTIVE, PENDING
from mesh.core.storing import Store
from mesh.runtime.data_dir import DataDir
from mesh.runtime.store_place import Belongs, StorePlace
from mesh.runtime.worker import Worker

NAME = "node-1"
PROGRESS_S = 0.2  # how often `on_progress` is told
DRAIN_S = 5.0  # how long a stop waits for what was read


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did; records_keyed counts every record that a keyed stage took."""

    seconds: float
    records_in: int
    records_keyed: int
    records_out: int
    keys: int
    failed: int  # records set aside
    first_failure: str
    done: bool  # False: it was stopped


class _Wake:
    """Lets one thread wait. A `threading.Event` has a lock inside: a signal handler that sets it while its own thread
    looks at it would wait for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free: there is something to wake for
        self._lock.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # set already
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Until `set`, now or before, or the time is over; -1: for ever."""
        self._lock.acquire(timeout=seconds)


class Embedded:
    """One run. `request_stop` may be called from any thread and from a signal handler.

    `data_dir`: where it keeps its states, as part of what `name` names. Raises StartError."""

    def __init__(
        self, plan: Plan, *, slots: int = 1024, seed: int = 0, log: Any = None, data_dir: str = "", name: str = ""
    ) -> None:
        me = os.urandom(16)
        self._log = log or structlog.get_logger()
        self._wake = _Wake()
        self._stop = False
        self._started = time.monotonic()
        self._data_dir = DataDir(data_dir, NAME) if data_dir else None
        self._first: TableAgreed | None = None  # while it asks for slots
        self._unclaimed: set[int] = set()
        if self._data_dir is None:
            self.data, store, part, table = DataPlane(me, plan, slots, seed), None, "embedded", _table(me, slots)
        else:
            self.data, store, table = self._restarted(me, plan, slots, seed, data_dir, name, self._data_dir)
            part = f"embedded-{me[:3].hex()}"
        self.worker = Worker(self.data, part, self._wake.set, deque(), store=store)
        self.worker.post(table)

    def _restarted(
        self, me: bytes, plan: Plan, slots: int, seed: int, path: str, name: str, data_dir: DataDir
    ) -> tuple[DataPlane, Store, TableAgreed]:
        place = StorePlace(data_dir, path, Belongs(name, plan.fingerprint, slots, seed))
        place.check()
        home, boot = data_dir.start()
        store = place.open()
        data = DataPlane(me, plan, slots, seed, keeps=True, store=store)
        terms = (boot,) * slots
        self._first = replace(
            _table(me, slots), epoch=2 * boot, term_of_slot=terms, since_of_slot=terms, cluster_id=home
        )
        self._unclaimed = set(range(slots))
        return data, store, replace(self._first, donor_of_slot=(0,) * slots, status_of_slot=(PENDING,) * slots)

    def run(self, on_progress: Callable[[RunResult], None] | None = None, *, keep: bool = False) -> RunResult:
        """Until the sources are exhausted and all is flushed (and, with `keep`, beyond), or `request_stop`."""
        finished: float | None = None
        told = 0.0
        try:
            while not self._stop:
                now = time.monotonic()
                self._tell(self.worker.turn(int(now * 1000)))
                if finished is None and self.worker.job_done:
                    finished, told = time.monotonic(), 0.0  # the end is told at once
                if finished is not None and not keep:
                    break
                if on_progress is not None and now - told >= PROGRESS_S:
                    told = now
                    on_progress(self.result(now))
                self._wait_if_idle(int(now * 1000))
            self._drain()
            self._tell(self.worker.finish(_now()))
        finally:
            self.worker.stop_answering()
            self.worker.give_up()
            if self._data_dir is not None:
                self._data_dir.close()
        return self.result(finished or time.monotonic())

    def _drain(self) -> None:
        """Read nothing more; work off what was read: not every source can give it a second time."""
        self.data.stop_reading()
        until = time.monotonic() + DRAIN_S
        while (self.worker.inbox or not self.data.quiet()) and (now := time.monotonic()) < until:
            self._tell(self.worker.turn(int(now * 1000)))
            self._wait_if_idle(int(now * 1000), until - now)
        if not self.data.quiet():
            self._log.warning("app.stopped_undrained")

    def _wait_if_idle(self, now: int, at_most: float = -1) -> None:
        if not self.worker.busy(now):
            deadline = self.worker.next_deadline()
            due = -1 if deadline is None else max(0.001, (deadline - now) / 1000)
            self._wake.wait(min(due, at_most) if min(due, at_most) >= 0 else max(due, at_most))

    def _tell(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Log):
                getattr(self._log, effect.level)(effect.event, **effect.fields)
            elif isinstance(effect, SlotsInstalled):
                self._claimed(effect)

    def _claimed(self, claim: SlotsInstalled) -> None:
        """All that was asked for is here: it is this process's now."""
        self._unclaimed.difference_update(slot for slot, _ in claim.slots)
        if self._first is not None and not self._unclaimed:
            self.worker.post(replace(self._first, epoch=self._first.epoch + 1))
            self._first = None

    def request_stop(self) -> None:
        self._stop = True
        self._wake.set()

    def result(self, now: float) -> RunResult:
        """The counts so far."""
        data = self.data
        records_in = sum(count.records for count in data.sources.counts())
        return RunResult(
            now - self._started,
            records_in,
            data.records_keyed,
            data.records_out,
            data.owner.key_count(),
            data.set_aside.count,
            data.set_aside.first,
            self.worker.job_done,
        )


def _table(me: bytes, slots: int) -> TableAgreed:
    ones = (1,) * slots
    none, backups = (-1,) * slots, ((),) * slots
    return TableAgreed(
        1, (me,), (me,), (0,) * slots, none, (ACTIVE,) * slots, ones, me, (), (), (me,), ones, backups, none
    )


def _now() -> int:
    return int(time.monotonic() * 1000)
