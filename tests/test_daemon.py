"""One node for real, in this process: what its threads do to each other."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import structlog

import mesh
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from mesh.core.events import Effect, Event, Woke
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import RecordAsked
from mesh.core.membership.tuning import LAN, LOOPBACK, WAN, Tuning
from mesh.core.storing import StoreFailed
from mesh.runtime.config import ClusterConfig, NodeConfig
from mesh.runtime.daemon import Daemon
from mesh.runtime.starting import tuning_for

Step = Callable[[Any, int], tuple[Any, str | None]]


class Shown:
    """A state that says which thread looks at it."""

    def __repr__(self) -> str:
        return threading.current_thread().name


def plan_of(source: mesh.Source[Any], step: Step) -> Plan:
    app = mesh.App("counted")
    app.source("numbers", source).key_by(lambda n: n).stateful("count", int, step)
    return compile_app(app)


def daemon(
    data_dir: Path | None = None, source: mesh.Source[Any] | None = None, step: Step = lambda n, _: (n + 1, None)
) -> Daemon:
    node = NodeConfig("alpha", "tcp://127.0.0.1:0", data_dir=str(data_dir) if data_dir else "")
    plan = plan_of(source or mesh.items(range(10)), step)
    return Daemon(ClusterConfig("here"), node, (node,), plan, structlog.get_logger())


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


def test_a_question_is_passed_on_by_whoever_asks_while_the_node_waits() -> None:
    alone = daemon()
    answers: list[tuple[str, bytes]] = []
    alone.worker.turn(0)
    alone._turn.release()  # as when it waits
    alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", 7, 7), lambda *answer: answers.append(answer))
    assert answers == [("unavailable", b"")]
    alone._turn.acquire()  # as when it works
    alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", 7, 7), lambda *answer: answers.append(answer))
    assert len(answers) == len(alone.worker.inbox) == 1
    alone._transport.close()


def test_a_question_waits_its_turn_behind_what_came_before() -> None:
    alone = daemon()
    answers: list[tuple[str, bytes]] = []
    alone.worker.turn(0)
    alone.worker.post(Woke())
    alone._turn.release()
    alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", 7, 7), lambda *answer: answers.append(answer))
    assert [type(event) for event in alone.worker.inbox] == [Woke, RecordAsked]
    assert answers == []
    alone._transport.close()


def test_the_applications_code_is_left_to_its_own_thread() -> None:
    alone = daemon(source=mesh.http(), step=lambda _, __: (Shown(), threading.current_thread().name))
    working = threading.Thread(target=alone.run, name="works")
    working.start()
    answers: Queue[tuple[str, bytes]] = Queue()
    said = ("unavailable", b"")
    while said[0] == "unavailable":  # not founded yet
        alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", -1, 0), lambda *answer: answers.put(answer))
        said = answers.get(timeout=30)
    for _ in range(100):
        assert said == ("answered", b'{"outputs":["works"]}')
        alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", -1, 0), lambda *answer: answers.put(answer))
        said = answers.get(timeout=30)
        assert alone.outside.lookup("count", -1, 30).state == {"repr": "works"}
    alone.request_stop()
    working.join()


def test_a_question_that_breaks_the_node_ends_it() -> None:
    def fail(event: Event, now: int) -> list[Effect]:
        raise StoreFailed("the disk is gone")

    alone = daemon()
    alone.worker.turn(0)
    alone._turn.release()
    alone.node.data.handle = fail  # type: ignore[method-assign]
    alone.outside.submit(lambda ticket: RecordAsked(ticket, "count", 7, 7), lambda *answer: None)
    alone._turn.acquire()
    assert alone.run() == 1


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
    assert tuning_for(network, endpoint) is tuning
