"""One node for real, in this process: what its threads do to each other."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import structlog

import mesh
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from mesh.core.events import TableAgreed
from mesh.core.membership.tuning import LAN, LOOPBACK, WAN, Tuning
from mesh.runtime.config import ClusterConfig, NodeConfig
from mesh.runtime.daemon import Daemon, _tuning_for


def plan_of(source: mesh.Source[int]) -> Plan:
    app = mesh.App("counted")
    app.source("numbers", source).key_by(lambda n: n).fold("count", int, lambda n, _: n + 1)
    return compile_app(app)


def daemon(data_dir: Path | None = None) -> Daemon:
    node = NodeConfig("alpha", "tcp://127.0.0.1:0", data_dir=str(data_dir) if data_dir else "")
    return Daemon(ClusterConfig("here"), node, (node,), plan_of(mesh.items(range(10))), structlog.get_logger())


def test_what_the_heart_took_in_is_not_slept_through() -> None:
    alone = daemon()
    alone._pump_instead()  # the main thread came back meanwhile, saw nothing to do, and goes to wait
    alone._transport.wait(1_000_000)
    alone._transport.close()


def test_a_disk_that_fails_while_the_application_works_ends_the_node(tmp_path: Path) -> None:
    alone = daemon(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    while alone._pump_failure is None:
        alone._pump_instead()  # until the founding is to be written
        alone._transport.wait(alone._until_next_deadline())
    assert alone.run() == 1
    assert alone.node.control.table is None
    assert not any(isinstance(event, TableAgreed) for event in alone.node.inbox)


def test_whoever_reads_a_state_at_the_end_is_told_at_once() -> None:
    alone = daemon()
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(alone.worker.lookup("count", 7, 1_000_000)))
    asking.start()
    while not alone.worker.inbox:
        os.sched_yield()
    alone.worker.stop_answering()
    asking.join()
    assert answers == [("unavailable", None)]
    assert alone.worker.lookup("count", 7, 1_000_000) == ("unavailable", None)
    alone._transport.close()


@pytest.mark.parametrize(
    ("network", "endpoint", "tuning"),
    [
        ("auto", "tcp://127.0.0.1:7400", LOOPBACK),
        ("auto", "tcp://[::1]:7400", LOOPBACK),
        ("auto", "tcp://10.0.0.1:7400", LAN),
        ("lan", "tcp://127.0.0.1:7400", LAN),
        ("wan", "tcp://10.0.0.1:7400", WAN),
        ("loopback", "tcp://10.0.0.1:7400", LOOPBACK),
    ],
)
def test_the_detector_is_tuned_as_the_operator_says_else_by_the_address(
    network: str, endpoint: str, tuning: Tuning
) -> None:
    assert _tuning_for(network, endpoint) is tuning
