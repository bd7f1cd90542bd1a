"""One node for real: threads, the socket, the disk and the clock around the same `Node` that the simulator runs.

Threads   main    pumps the sockets, then does one unit of the application's work, and so on
          heart   pumps instead while the main thread is held up in the application's code, so that this node answers
                  probes and keeps its links alive however slow a step is
          http    reads `status`, `owner`, `lookup` ... from the outside
The lock  guards the control side and the transport. The data plane belongs to the main thread alone.

Where nothing pumps for DEAD_LOOP_S, not even the heart (C code that keeps the interpreter's lock), faulthandler ends
the process: others have long declared it dead, and a node that cannot speak must not go on by itself.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from mesh.app.connectors import ConnectorError
from mesh.app.plan import Plan
from mesh.core.control import Identity
from mesh.core.events import (
    Departed,
    Effect,
    Envelope,
    Event,
    JobDone,
    Log,
    MemberChanged,
    Millis,
    Persist,
    Persisted,
    Rejected,
    Stop,
    Woke,
)
from mesh.core.keys import Key
from mesh.core.membership.facts import Lagged, Leave
from mesh.core.membership.tuning import LAN, LOOPBACK, Tuning
from mesh.core.messages import ALIVE, Member
from mesh.core.node import Node
from mesh.core.planner import Declared
from mesh.runtime import view
from mesh.runtime.config import ClusterConfig, NodeConfig
from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import AppFailed, StartError
from mesh.runtime.listing import keys_page
from mesh.runtime.reports import RateLimited
from mesh.runtime.status import KeysPage, Metric, Ownership, Reading, RingRun, Status
from mesh.runtime.transport import Transport, TransportError
from mesh.runtime.worker import Worker

RECEIVE_AT_ONCE = 64  # messages a pump; then the application's work has its turn
HEART_S = 0.025  # how often the heart looks
HEART_AFTER_MS = 50  # the main thread may be away this long before the heart pumps
LAG_MS = 200  # a pump later than this is told to membership: the silence may have been ours
DRAIN_S = 5.0  # how long a stop waits for what is on its way
WAITING_MS, WAITING_AGAIN_MS = 2_000, 30_000  # when a node that waits for others says so, and says it again
ABANDON_S = 15.0  # how long it waits for the application's code to come back at all; its parent gives up after 30
FAREWELL_S = 0.1  # for the last datagrams to leave the process; who misses them finds out by probing
MAX_WAIT_MS = 1_000  # of the main thread, when nothing is due
DEAD_LOOP_S = 120
REARM_MS = 5_000


class Daemon:
    """Raises StartError if it cannot start. `run` blocks; everything else may be called from any thread."""

    def __init__(
        self,
        cluster: ClusterConfig,
        node: NodeConfig,
        declared: tuple[NodeConfig, ...],
        plan: Plan,
        log: Any,
        tuning: Tuning | None = None,
    ) -> None:
        self.config = node
        self._declared = declared
        self._log = log
        self._lock = threading.RLock()
        self._data_dir = DataDir(node.data_dir, node.name) if node.data_dir else None
        node_id = os.urandom(16)
        try:
            self._transport = Transport(node.listen, node_id)
        except TransportError as error:
            raise StartError(str(error)) from None
        self.endpoint = node.advertise or self._transport.bound
        identity = _identity(cluster, node, declared, plan, node_id, self.endpoint)
        stored = self._data_dir.records() if self._data_dir else {}
        tuning = tuning or _tuning_for(self.endpoint)
        self.node = Node(identity, plan, tuning, Random(int.from_bytes(node_id)), stored)
        part = f"{node.name}-{node_id[:3].hex()}"
        self.worker = Worker(self.node.data, part, self._transport.wake, self.node.inbox)
        self._rejected: Counter[str] = Counter()
        self._limited = RateLimited()
        self._stopping = False
        self._stop_by: float | None = None  # when the heart gives up on the application's code
        self._exit_code: int | None = None
        self._working = False  # the main thread is in the application's code
        self._pump_failure: Exception | None = None  # in the heart; a pump that failed is not gone on from
        self._pumped_at = self._now()
        self._pump_due_at = self._pumped_at  # later when there is nothing to do until then
        self._tell_waiting_at = self._pumped_at + WAITING_MS
        self._armed_at = 0
        self._formed_at: float | None = None
        self._was_ready = False
        self._beliefs_changed = False

    # -- the life of a node

    def run(self) -> int:
        """Until it is stopped and drained (0), refused (2), or the application's sources or sinks failed (1)."""
        heart = threading.Thread(target=self._beat, name="heart", daemon=True)
        heart.start()
        try:
            self._loop(lambda: self._stopping)
            self._drain()
        except ConnectorError as error:
            self._log.error("app.failed", error=str(error))
            self._exit_code = 2
        except AppFailed as error:
            self._log.error("app.failed", error=str(error))
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
            self._working = True
            effects = self.worker.turn(now)
            self._working = False
            with self._lock:
                self._perform(self.node.absorb(effects, self._now()))
            if not self.worker.busy(self._now()):
                self._transport.wait(self._until_next_deadline())

    def _drain(self) -> None:
        """Read nothing more; let what was read arrive; flush the sinks."""
        deadline = time.monotonic() + DRAIN_S
        self.node.data.stop_reading()
        self._loop(lambda: self.node.data.drained() or time.monotonic() > deadline)
        if not self.node.data.quiet():
            self._log.warning("node.stopped_undrained", bytes_in_flight=self.node.data.router.bytes_in_flight())
        self._working = True  # a sink's end may take long, too
        self.worker.connections.close()
        self._working = False

    def _farewell(self) -> None:
        self.worker.stop_answering()
        with self._lock:
            self._perform(self.node.handle_control(Leave(), self._now()))
            time.sleep(FAREWELL_S)
            self._stopping = True
            if self._exit_code is None:
                self._exit_code = 0
            self._transport.close()
            if self._data_dir:
                self._data_dir.close()
        faulthandler.cancel_dump_traceback_later()
        self._log.info("node.left", **self._counts())

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
            self._arm(now)
            if now - self._pump_due_at > LAG_MS:
                self._perform(self.node.handle_control(Lagged(now - self._pump_due_at), now))
            self._pumped_at = self._pump_due_at = now
            for parts in self._transport.receive(RECEIVE_AT_ONCE):
                self._perform(self.node.received(parts, now))
            deadline = self.node.control.next_deadline()
            if deadline is not None and deadline <= now:
                self._perform(self.node.handle_control(Woke(), now))
            self._watch_readiness()

    def _arm(self, now: Millis) -> None:
        if now - self._armed_at > REARM_MS:
            self._armed_at = now
            faulthandler.dump_traceback_later(DEAD_LOOP_S, exit=True, file=2)

    def _until_next_deadline(self) -> int:
        with self._lock:
            deadlines = [self.node.control.next_deadline(), self.node.data.next_deadline()]
        now = self._now()
        due = min((each for each in deadlines if each is not None), default=now + MAX_WAIT_MS)
        self._pump_due_at = max(now, min(due, now + MAX_WAIT_MS))
        return self._pump_due_at - now

    def _perform(self, effects: list[Effect]) -> None:
        """Under the lock."""
        self._connect_anew(effects)
        for effect in effects:
            match effect:
                case Envelope(endpoint, parts):
                    self._transport.send(endpoint, parts)
                case Persist(name, value):
                    if self._data_dir:
                        self._data_dir.write(name, value)
                    self._perform(self.node.handle_control(Persisted(name), self._now()))
                case Log(event, fields, level):
                    getattr(self._log, level)(event, **fields)
                case Rejected(reason, detail):
                    self._reject(reason, detail)
                case MemberChanged():
                    self._beliefs_changed = True  # membership itself logs what it believes
                case JobDone():
                    self._tell_done()
                case Departed():
                    self._stopping = True  # nothing is left to drain; `run` says goodbye and returns 0
                case Stop(sentence, exit_code):
                    self._log.error("node.refused", detail=sentence)
                    self._exit_code = exit_code
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    def _connect_anew(self, effects: list[Effect]) -> None:
        """To whom was just met, before anything is said to them: a connection that was tried in vain until now would
        wait for its next try, for seconds where a machine was down, and the newcomer would be thought dead."""
        for effect in effects:
            if isinstance(effect, MemberChanged) and effect.before is None:
                self._transport.forget(effect.member.endpoint)

    # -- what the operator is told

    def _reject(self, reason: str, detail: str) -> None:
        self._rejected[reason] += 1
        if self._limited.may_tell(reason, self._now()):
            self._log.warning("peer.rejected", reason=reason, detail=detail, so_far=self._rejected[reason])

    def _watch_readiness(self) -> None:
        if self._formed_at is None and self.node.control.table is not None:
            self._formed_at = time.monotonic()
            self._beliefs_changed = True
            if outside := view.why_not_a_member(self.node):
                self._log.warning("node.not_a_member", name=self.config.name, detail=outside)
        if self._formed_at is None and self._pumped_at >= self._tell_waiting_at:
            self._tell_waiting_at = self._pumped_at + WAITING_AGAIN_MS
            self._log.info("node.waiting", name=self.config.name, detail=view.awaited(self.node, self._declared))
        if not self._beliefs_changed:
            return
        self._beliefs_changed = False
        ready = view.ready(self.node)
        if ready != self._was_ready:
            self._was_ready = ready
            if ready:
                self._log.info("node.ready", name=self.config.name, epoch=view.epoch(self.node))
            else:
                self._log.warning("node.not_ready", name=self.config.name)

    def _tell_done(self) -> None:
        self._log.info("app.done", **self._counts())

    def _counts(self) -> dict[str, Any]:
        """What this node has done since there is a partition."""
        report = self.node.data.report()
        return {
            "name": self.config.name,
            "seconds": 0.0 if self._formed_at is None else round(time.monotonic() - self._formed_at, 3),
            "records_in": sum(source.records for source in report.sources),
            "records_keyed": report.records_keyed,
            "records_out": report.records_out,
            "keys": report.keys,
            "failed": report.failed,
            "first_failure": self.node.data.set_aside.first,
        }

    # -- reads, from any thread

    def status(self) -> Status:
        with self._lock:
            return view.status(self.node, self.worker.job_done)

    def ready(self) -> bool:
        with self._lock:
            return view.ready(self.node)

    def owner(self, key: Key) -> Ownership | None:
        """Raises BadKey."""
        with self._lock:
            return view.owner(self.node, key)

    def ring(self) -> tuple[RingRun, ...]:
        with self._lock:
            return view.ring(self.node)

    def lookup(self, stage: str, key: Key, timeout: float) -> Reading:
        """Blocks; any key, wherever it lives. Raises BadKey."""
        owner = self.owner(key)
        if owner is None:
            return Reading("unavailable")
        outcome, state = self.worker.lookup(stage, key, timeout)
        return Reading(outcome, state, owner.owner, owner.term)

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        """Blocks; of the whole cluster. Raises BadPosition."""
        return keys_page(self.worker, self.node.identity.slots, stage, limit, after, timeout)

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        """Does not block, not even for the lock."""
        self.worker.submit(question, done)

    def metrics(self) -> list[Metric]:
        with self._lock:
            rejected = Counter(self._rejected)
            rejected.update(self._transport.rejected)
            members = self.node.control.membership.members
            backlog = sum(self.node.control.links.backlog(peer) for peer in members)
            return view.metrics(self.node, rejected, backlog)


def _identity(
    cluster: ClusterConfig,
    node: NodeConfig,
    declared: tuple[NodeConfig, ...],
    plan: Plan,
    node_id: bytes,
    endpoint: str,
) -> Identity:
    return Identity(
        me=Member(node_id, node.name, endpoint, node.http, node.role, node.zone, 1, ALIVE),
        cluster=cluster.name,
        slots=cluster.slots,
        seed=cluster.seed,
        graph=plan.fingerprint,
        started=time.time_ns() // 1_000_000,
        declared=tuple(Declared(each.name, each.role, each.zone) for each in declared),
        expect=cluster.expect,
        copies=cluster.copies,
        seeds=tuple(each.endpoint for each in declared if each.name != node.name),
    )


def _tuning_for(endpoint: str) -> Tuning:
    """Nodes on one machine lose no packets, but they share its cores."""
    return LOOPBACK if endpoint.startswith(("tcp://127.", "tcp://localhost", "tcp://[::1]")) else LAN
