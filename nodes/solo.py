"""`mesh run` in one process: the embedded run, and what an HTTP door shows of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from mesh import ConnectorError
from mesh.app.plan import Plan
from mesh.core.events import Event
from mesh.core.keys import Key, hash_key, interval_of_slot, slot_of_hash
from mesh.core.storing import StoreError
from mesh.runtime.config import ClusterConfig
from mesh.runtime.embedded import NAME, Embedded, RunResult
from mesh.runtime.errors import AppFailed, StartError
from mesh.runtime.listing import keys_page
from mesh.runtime.status import (
    GivenUp,
    KeysPage,
    Metric,
    NodeStatus,
    Ownership,
    Reading,
    Ring,
    RingRun,
    SlotCounts,
    SourceStatus,
    Status,
    Waiting,
)
from nodes import logs
from nodes.addresses import Address
from nodes.application import writes_stdout
from nodes.door import Door, bind, bound_address
from nodes.http import make_app
from nodes.mistakes import Failure
from nodes.progress import RunProgress
from nodes.signals import on_stop_signals
from nodes.summary import Summary, tell_summary


def run_solo(
    cluster: ClusterConfig, plan: Plan, http: Address | None, *, keep: bool, data_dir: str = ""
) -> tuple[int, Summary | None]:
    """The exit code, and the summary if the job was done. With `data_dir` a later run goes on with this one."""
    log = logs.logger(node=NAME)
    try:
        embedded = Embedded(plan, slots=cluster.slots, seed=cluster.seed, log=log, data_dir=data_dir, name=cluster.name)
    except StartError as error:
        raise Failure(2, str(error)) from None
    on_stop_signals(embedded.request_stop)
    with ExitStack() as stack:
        if http:
            _open_door(stack, embedded, cluster, plan, http)
        bar = not (writes_stdout(plan) and sys.stdout.isatty())  # lines and a bar do not share a screen
        progress = stack.enter_context(RunProgress(plan.app_name, bar=bar))
        telling = _Telling(plan, embedded, progress)
        try:
            result = embedded.run(telling.tell, keep=keep)
            telling.tell(result)
            if http:
                log.info("node.left", **_counts(result))
        except ConnectorError as error:
            raise Failure(2, str(error)) from None
        except (AppFailed, StoreError) as error:
            raise Failure(1, str(error)) from None
        except SystemExit as error:
            raise Failure(1, f"the application's code called sys.exit({error.code!r})") from None
    return (1 if telling.summary and telling.summary.failed else 0), telling.summary


class _Telling:
    """Progress while it runs, the summary once it is done."""

    def __init__(self, plan: Plan, embedded: Embedded, progress: RunProgress) -> None:
        self.summary: Summary | None = None
        self._plan = plan
        self._embedded = embedded
        self._progress = progress

    def tell(self, result: RunResult) -> None:
        if self.summary is not None:
            return
        if result.done:
            self._progress.stop()
            logs.logger(node=NAME).info("app.done", **_counts(result))
            self.summary = _summary(self._plan, result)
            tell_summary(self.summary)
            return
        counts = self._embedded.data.sources.counts()
        splits = sum(count.splits for count in counts)
        self._progress.tell(result.records_in, sum(count.splits_done for count in counts), splits)


def _counts(result: RunResult) -> dict[str, Any]:
    """As a node of a cluster tells them."""
    counts = {name: value for name, value in asdict(result).items() if name != "done"}
    return {"name": NAME, **counts, "seconds": round(result.seconds, 3)}


def _summary(plan: Plan, result: RunResult) -> Summary:
    return Summary(
        app=plan.app_name,
        nodes=1,
        seconds=round(result.seconds, 3),
        records_in=result.records_in,
        records_keyed=result.records_keyed,
        records_out=result.records_out,
        keys=result.keys,
        failed=result.failed,
        first_failure=result.first_failure,
    )


def _open_door(stack: ExitStack, embedded: Embedded, cluster: ClusterConfig, plan: Plan, asked: Address) -> None:
    server = bind(asked)
    address = bound_address(server, asked)
    door = Door(make_app(_Shown(embedded, cluster, plan, str(address))), server)
    door.start()
    stack.callback(door.stop)
    log = logs.logger(node=NAME)
    log.info("node.listening", name=NAME, listen="", http=str(address))
    log.info("node.ready", name=NAME, epoch=1)


class _Shown:
    """An embedded run as a cluster of one node."""

    def __init__(self, embedded: Embedded, cluster: ClusterConfig, plan: Plan, http: str) -> None:
        self._embedded = embedded
        self._cluster = cluster
        self._plan = plan
        self._http = http

    def status(self) -> Status:
        data = self._embedded.data
        slots = self._cluster.slots
        sources = [
            SourceStatus(each.name, each.splits, each.splits_done, each.records) for each in data.sources.counts()
        ]
        return Status(
            cluster=self._cluster.name,
            epoch=1,
            this=NAME,
            app=self._plan.app_name,
            ready=True,
            done=self._embedded.worker.job_done,
            nodes=(NodeStatus(NAME, "alive", "worker", "", self._http, slots, 0, data.owner.key_count()),),
            slots=SlotCounts(slots, slots, 0, 0, 0),
            sources=tuple(sources),
        )

    def why_not_ready(self) -> str:
        return ""

    def owner(self, key: Key) -> Ownership:
        hashed = hash_key(key, self._cluster.seed)
        slot = slot_of_hash(hashed, self._cluster.slots)
        return Ownership(hashed, slot, interval_of_slot(slot, self._cluster.slots), NAME, (), 1, 1)

    def ring(self) -> Ring:
        slots = self._cluster.slots
        return Ring(self._cluster.name, 1, slots, (NAME,), (RingRun(0, slots - 1, NAME, "active"),))

    def leave(self, name: str) -> str | None:
        return "last-worker" if name == NAME else "unknown"

    def accept_loss(self) -> int | None:
        return 0

    def what_waits(self) -> tuple[Waiting, ...]:
        return ()

    def give_up(self, gone: Collection[str]) -> GivenUp:
        return GivenUp(0)

    def recover(self) -> bool:
        return False

    def lookup(self, stage: str, key: Key, timeout: float) -> Reading:
        outcome, state = self._embedded.worker.lookup(stage, key, timeout)
        return Reading(outcome, state, NAME, 1, "this process is ending")

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        return keys_page(self._embedded.worker, self._cluster.slots, stage, limit, after, timeout)

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        self._embedded.worker.submit(question, done)

    def metrics(self) -> list[Metric]:
        data = self._embedded.data
        read = sum(count.records for count in data.sources.counts())
        return [
            Metric("mesh_records_read_total", "records read from sources", read),
            Metric("mesh_records_keyed_total", "records that keyed stages took", data.records_keyed),
            Metric("mesh_records_out_total", "items written to sinks", data.records_out),
            Metric("mesh_records_set_aside_total", "records that could not be used", data.set_aside.count),
            Metric("mesh_keys", "keys created on this node, over all stages", data.owner.key_count()),
        ]
