"""One node for real: threads, the socket, the disk and the clock around the same `Node` that the simulator runs.

Threads   main    pumps the sockets, then does one unit of the application's work, and so on
          heart   pumps instead while the main thread is held up in the application's code, so that this node answers
                  probes and keeps its links alive however slow a step is
          http    asks `outside`
Locks     `_lock` guards the control side and the transport, `_turn` the data plane. The main thread has the turn but
          while it waits for something to do; whoever asks something then takes it, without the application's code.

Where nothing pumps, not even the heart, the `watchdog` ends the process. What a node starts with is in `starting`, what
its operator is told in `telling`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

from mesh.app.connectors import ConnectorError
from mesh.app.plan import Plan
from mesh.core.events import Departed, Effect, Envelope, Event, Log, Millis, Persist, Persisted, Rejected, Stop, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.events.work import JobDone
from mesh.core.membership.facts import Lagged, Leave
from mesh.core.membership.tuning import Tuning
from mesh.core.messages.members import STAYING
from mesh.core.node import Node
from mesh.core.storing import StoreError, StoreFailed
from mesh.runtime.config import ClusterConfig, NodeConfig
from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import AppFailed, StartError
from mesh.runtime.outside import Outside
from mesh.runtime.starting import identity_of, store_place, tuning_for, why_not
from mesh.runtime.telling import Telling
from mesh.runtime.transport import Transport, TransportError
from mesh.runtime.watchdog import Watchdog
from mesh.runtime.worker import Worker

RECEIVE_AT_ONCE = 64  # messages a pump; then the application's work has its turn
HEART_S = 0.025  # how often the heart looks
HEART_AFTER_MS = 50  # the main thread may be away this long before the heart pumps
LAG_MS = 200  # a pump later than this is told to membership: the silence may have been ours
DRAIN_S = 5.0  # how long a stop waits for what is on its way
ABANDON_S = 15.0  # how long it waits for the application's code to come back at all; its parent gives up after 30
FAREWELL_S = 0.1  # for the last datagrams to leave the process; who misses them finds out by probing
MAX_WAIT_MS = 1_000  # of the main thread, when nothing is due


class Daemon:
    """Raises StartError if it cannot start. `run` blocks; everything else may be called from any thread.

    `join` names more addresses to approach than those of the declared nodes. A node that is not declared never founds.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        node: NodeConfig,
        declared: tuple[NodeConfig, ...],
        plan: Plan,
        log: Any,
        tuning: Tuning | None = None,
        join: tuple[str, ...] = (),
    ) -> None:
        self.config = node
        self._log = log
        self._lock = threading.RLock()
        self._turn = threading.Lock()  # held by the main thread, but for its waits; before it runs and after, too
        self._turn.acquire()
        self._data_dir = DataDir(node.data_dir, node.name) if node.data_dir else None
        place = store_place(cluster, node, plan, self._data_dir)
        node_id = os.urandom(16)
        try:
            self._transport = Transport(node.listen, node_id)
        except TransportError as error:
            raise StartError(str(error)) from None
        self.endpoint = node.advertise or self._transport.bound
        home, boot = self._data_dir.start() if self._data_dir else (node_id, 1)
        identity = identity_of(cluster, node, declared, plan, node_id, self.endpoint, join, home, boot)
        stored = self._data_dir.records() if self._data_dir else {}
        tuning = tuning or tuning_for(cluster.network, self.endpoint)
        store = None
        try:
            store = place.open() if place else None
            self.node = Node(identity, plan, tuning, Random(int.from_bytes(node_id)), stored, store=store)
        except Exception as error:
            self._transport.close()
            if store is not None:
                store.close()
            raise why_not(node, error) from None
        part = f"{node.name}-{node_id[:3].hex()}"
        self.worker = Worker(
            self.node.data, part, self._transport.wake, self.node.inbox, store=store, at_once=self._at_once
        )
        self._stopping = False
        self._departed = False  # it has handed over all that it had
        self._stop_by: float | None = None  # when the heart gives up on the application's code
        self._exit_code: int | None = None
        self._working = False  # the main thread is in the application's code
        self._pump_failure: Exception | None = None  # in the heart; a pump that failed is not gone on from
        self._pumped_at = self._now()
        self._pump_due_at = self._pumped_at  # later when there is nothing to do until then
        self._telling = Telling(self.node, node.name, declared, log, self._pumped_at)
        self._watchdog = Watchdog()
        self.outside = Outside(
            self.node, self.worker, self._telling, self._lock,
            rejected=lambda: self._transport.rejected, order=self._order, is_over=lambda: self._exit_code is not None,
        )  # fmt: skip

    # -- the life of a node

    def states_in_memory(self) -> int:
        return self.node.data.states_in_memory()

    def run(self) -> int:
        """Until it is stopped and drained (0), refused (2), or its store, or the application's sources or sinks, failed
        (1)."""
        heart = threading.Thread(target=self._beat, name="heart", daemon=True)
        heart.start()
        try:
            self._loop(lambda: self._stopping)
            self._finish_leaving()
            self._drain()
        except ConnectorError as error:
            self._log.error("app.failed", error=str(error))
            self._exit_code = 2
        except AppFailed as error:
            self._log.error("app.failed", error=str(error))
            self._exit_code = 1
        except (
            StoreError
        ) as error:  # of what was not acknowledged nothing is known; all else is in it, or in the copies
            self._log.error("store.failed", error=str(error))
            self._exit_code = 1
        except SystemExit as error:
            self._log.error("app.failed", error=f"the application's code called sys.exit({error.code!r})")
            self._exit_code = 1
        finally:
            self._farewell()
        return self._exit_code or 0

    def _loop(self, until: Callable[[], bool]) -> None:
        while self._exit_code is None and not until():
            now = self._now()
            self._pump(now)
            for half in (self.worker.hear, self.worker.work):
                self._working = True
                effects = half(now)
                self._working = False
                if effects:
                    with self._lock:
                        self._perform(self.node.absorb(effects, self._now()))
                self.worker.tell()  # who asked waits for nothing that is left to do here
            self.worker.settle(now)
            if self.worker.rests():
                self._wait()

    def _wait(self) -> None:
        timeout = self._until_next_deadline()
        self._turn.release()
        try:
            self._transport.wait(timeout)
        finally:
            self._turn.acquire()

    def _at_once(self, question: Event) -> bool:
        """From any thread: while the main thread waits, a question is passed on from here. A hand-over between threads
        costs more than the question. False: the main thread works, or the node is held; who asks must not wait."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            is_free = self.worker.rests() and self.node.data.is_quick(question)
            if not is_free or not self._lock.acquire(blocking=False):
                return False
            try:
                self._take(question)
            finally:
                self._lock.release()
        finally:
            self._turn.release()
        return True

    def _take(self, question: Event) -> None:
        """Under both locks. What is left to do is the main thread's, also to end the node if this fails."""
        now = self._now()
        try:
            self._perform(self.node.absorb(self.worker.take(question, now), now))
            self.worker.tell()
            self.worker.settle(now)
        except Exception as error:
            self.node.inbox.append(error)
        if not self.worker.rests() or self._next_deadline(now) < self._pump_due_at:
            self._transport.wake()

    def _finish_leaving(self) -> None:
        """Who is told to stop while it hands over loses what it still has, so it takes a moment for that first."""
        deadline = time.monotonic() + DRAIN_S
        control = self.node.control
        self._loop(lambda: not self._hands_over() or control.contact.fenced or time.monotonic() > deadline)
        if self._hands_over() and self._exit_code is None:
            slots = len(self.node.data.handoff.holdings.here)
            self._log.warning("node.stopped_leaving", name=self.config.name, slots=slots)

    def _hands_over(self) -> bool:
        return self.node.control.membership.me.leaving != STAYING and not self._departed

    def _drain(self) -> None:
        """Read nothing more; let what was read arrive; flush the sinks."""
        deadline = time.monotonic() + DRAIN_S
        self.node.data.stop_reading()
        self._loop(lambda: self.node.data.drained() or time.monotonic() > deadline)
        if not self.node.data.quiet():
            self._log.warning("node.stopped_undrained", bytes_in_flight=self.node.data.router.bytes_in_flight())
        self._working = True  # a sink's end may take long, and a disk's
        effects = self.worker.finish(self._now())
        self._working = False
        with self._lock:
            self._perform(self.node.absorb(effects, self._now()))

    def _farewell(self) -> None:
        self.worker.stop_answering()
        with self._lock:
            self._perform(self.node.handle_control(Leave(), self._now()))
            time.sleep(FAREWELL_S)
            self._stopping = True
            if self._exit_code is None:
                self._exit_code = 0
            self._transport.close()
            self.worker.close_store()
            if self._data_dir:
                self._data_dir.close()
        self._watchdog.disarm()
        self._log.info("node.left", **self._telling.counts(self._now()))

    def request_stop(self) -> None:
        """From any thread or signal handler: drain and leave."""
        if not self._stopping:
            self._stop_by = time.monotonic() + ABANDON_S
        self._stopping = True
        self._transport.wake()

    # -- the pump

    def _now(self) -> Millis:
        return time.monotonic_ns() // 1_000_000

    def _beat(self) -> None:
        while self._exit_code is None:
            time.sleep(HEART_S)
            if self._working and self._now() - self._pumped_at > HEART_AFTER_MS:
                self._pump_instead()
            if self._working and self._stop_by is not None and time.monotonic() > self._stop_by:
                self._abandon()

    def _pump_instead(self) -> None:
        try:
            self._pump(self._now())
        except Exception as error:  # a disk that failed: nothing is known any more, and the main thread ends the node
            self._pump_failure = error
        finally:
            self._transport.wake()  # the main thread may be back by now, on its way to wait for what we took

    def _abandon(self) -> None:
        """Asked to stop, and the application's code does not return. Its unfinished batch is not committed."""
        with self._lock:
            if self._exit_code is not None:
                return  # it did
            self._perform(self.node.handle_control(Leave(), self._now()))
            time.sleep(FAREWELL_S)
            self._log.warning("node.stopped_in_a_step", name=self.config.name, waited_s=ABANDON_S)
            os._exit(0)

    def _pump(self, now: Millis) -> None:
        """What came in and what is due, without the application's code."""
        with self._lock:
            if self._exit_code is not None:
                return
            if self._pump_failure is not None:
                raise self._pump_failure
            self._watchdog.arm(now)
            if now - self._pump_due_at > LAG_MS:
                self._perform(self.node.handle_control(Lagged(now - self._pump_due_at), now))
            self._pumped_at = self._pump_due_at = now
            for parts in self._transport.receive(RECEIVE_AT_ONCE):
                self._perform(self.node.received(parts, now))
            deadline = self.node.control.next_deadline()
            if deadline is not None and deadline <= now:
                self._perform(self.node.handle_control(Woke(), now))
            self._telling.watch(now)

    def _until_next_deadline(self) -> int:
        with self._lock:
            now = self._now()
            self._pump_due_at = max(now, self._next_deadline(now))
        return self._pump_due_at - now

    def _next_deadline(self, now: Millis) -> Millis:
        deadlines = (self.node.control.next_deadline(), self.worker.next_deadline())
        return min(
            (each for each in deadlines if each is not None and each < now + MAX_WAIT_MS), default=now + MAX_WAIT_MS
        )

    def _perform(self, effects: list[Effect]) -> None:
        """Under the lock."""
        self._connect_anew(effects)
        for effect in effects:
            match effect:
                case Envelope(endpoint, parts):
                    self._transport.send(endpoint, parts)
                case Persist(name, value):
                    self._write(name, value)
                    self._perform(self.node.handle_control(Persisted(name), self._now()))
                case Log(event, fields, level):
                    getattr(self._log, level)(event, **fields)
                case Rejected(reason, detail):
                    self._telling.reject(reason, detail, self._now())
                case MemberChanged():
                    self._telling.beliefs_changed()  # membership itself logs what it believes
                case JobDone():
                    self._log.info("app.done", **self._telling.counts(self._now()))
                case Departed():
                    self._departed = self._stopping = True  # nothing is left to drain; `run` says goodbye, returns 0
                case Stop(sentence, exit_code):
                    self._log.error("node.refused", detail=sentence)
                    self._exit_code = exit_code
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    def _write(self, name: str, value: bytes) -> None:
        if self._data_dir is None:
            return
        try:
            self._data_dir.write(name, value)
        except OSError as error:
            raise StoreFailed(f"the data directory {self.config.data_dir} failed: {error.strerror}") from None

    def _connect_anew(self, effects: list[Effect]) -> None:
        """To whom was just met, before anything is said to them: a connection that was tried in vain until now would
        wait for its next try, for seconds where a machine was down, and the newcomer would be thought dead."""
        for effect in effects:
            if isinstance(effect, MemberChanged) and effect.before is None:
                self._transport.forget(effect.member.endpoint)

    def _order(self, event: Event) -> None:
        """What an operator wants of the cluster."""
        with self._lock:
            self._perform(self.node.handle_control(event, self._now()))
        self._transport.wake()
