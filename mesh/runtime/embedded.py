"""An application in this process, without a mesh: the same data plane over a partition with one owner."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from mesh.app.plan import Plan
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Log, TableAgreed
from mesh.core.table import ACTIVE
from mesh.runtime.worker import Worker

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
    """One run. `request_stop` may be called from any thread and from a signal handler."""

    def __init__(self, plan: Plan, *, slots: int = 1024, seed: int = 0, log: Any = None) -> None:
        me = os.urandom(16)
        self._log = log or structlog.get_logger()
        self._wake = _Wake()
        self._stop = False
        self._started = time.monotonic()
        self.data = DataPlane(me, plan, slots, seed)
        self.worker = Worker(self.data, "embedded", self._wake.set, deque())
        ones = (1,) * slots
        table = TableAgreed(1, (me,), (me,), (0,) * slots, (-1,) * slots, (ACTIVE,) * slots, ones, me, founders=(me,))
        self.worker.post(table)

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
        finally:
            self.worker.stop_answering()
            self.worker.connections.close()
        return self.result(finished or time.monotonic())

    def _drain(self) -> None:
        """Read nothing more; work off what was read: not every source can give it a second time."""
        self.data.stop_reading()
        until = time.monotonic() + DRAIN_S
        while (self.worker.inbox or not self.data.quiet()) and (now := time.monotonic()) < until:
            self._tell(self.worker.turn(int(now * 1000)))
        if not self.data.quiet():
            self._log.warning("app.stopped_undrained")

    def _wait_if_idle(self, now: int) -> None:
        if not self.worker.busy(now):
            deadline = self.data.next_deadline()
            self._wake.wait(-1 if deadline is None else max(0.001, (deadline - now) / 1000))

    def _tell(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Log):
                getattr(self._log, effect.level)(effect.event, **effect.fields)

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
