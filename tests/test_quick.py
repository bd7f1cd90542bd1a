"""Requests that come whole: answered as all others are, by whoever has the answer, and to nobody else."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mesh.core.events import Event
from nodes import connection as door
from nodes import posting
from tests.served import FakeNode, serving

ANSWERED = ("answered", b'{"outputs":[1]}')
ASK = b"POST /v1/ask/count?key=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Patient(FakeNode):
    """Answers when the test does."""

    asked: list[Callable[[str, bytes], None]] = field(default_factory=list)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_go_on: threading.Event = field(default_factory=threading.Event)  # the loop

    def __post_init__(self) -> None:
        self.may_go_on.set()

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        self.asked.append(done)
        self.came.release()
        self.may_go_on.wait(30)

    def next_asked(self) -> Callable[[str, bytes], None]:
        assert self.came.acquire(timeout=30)
        return self.asked[-1]


@pytest.fixture
def node() -> Patient:
    return Patient()


@pytest.fixture
def url(node: Patient) -> Iterator[str]:
    with serving(node) as at:
        yield at


def connected(url: str) -> socket.socket:
    host, port = urlsplit(url).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def one_answer(connection: socket.socket) -> bytes:
    said = b""
    while b"\r\n\r\n" not in said:
        said += some(connection)
    head, _, body = said.partition(b"\r\n\r\n")
    size = int(re.findall(rb"content-length: (\d+)", head)[0])
    while len(body) < size:
        body += some(connection)
    assert len(body) == size
    return head + b"\r\n\r\n" + body


def some(connection: socket.socket) -> bytes:
    more = connection.recv(1 << 20)
    assert more, "hung up"
    return more


def until_asked_again(connection: socket.socket, node: Patient) -> Callable[[str, bytes], None]:
    connection.sendall(ASK)
    return node.next_asked()


# -- both ways answer alike --------------------------------------------------------------------------------------------

OUTCOMES = [
    ANSWERED, ("unknown-stage", b""), ("raised", b'{"detail": "no"}'), ("busy", b""), ("unavailable", b""),
    ("unknown", b""), ("raised", b"{}"), ("committed", b'{"committed": 1}'), ("too-old", b'{"seq": 1}'),
    ("unknown-source", b'{"exists": true}'), ("bad-line", b'{"line": 1, "detail": "no"}'), ("conflict", b'{"seq": 1}'),
]  # fmt: skip
TARGETS = [
    b"/v1/ask/count?key=a", b"/v1/ask/count?key=7&key_type=int", b"/v1/ask/count", b"/v1/ask/count?key=%C3%A9+b",
    b"/v1/ask/count?key=%FF", b"/v1/ask/co%2Funt?key=a", b"/v1/ask/?key=a", b"/v1/ask/a/b?key=a", b"/v1/sources/e",
    b"/v1/sources/e?a=1", b"/v1/sources/e#f", b"/v1/sources/\xc3\xa9", b"http://a/v1/sources/e", b"/v1/leave?name=x",
    b"//v1/sources/e", b"/v1/sources/e?", b"/v1/ask/count?key=a?b", b"*",
]  # fmt: skip
HEADERS = [
    b"Origin: http://elsewhere", b"Origin: http://a", b"Producer-Id: p", b"First-Seq: 7", b"Connection: close",
    b"Connection: keep-alive", b"Content-Type: application/json", b"X: \xff", b"Expect: something", b"Producer-Id: q",
]  # fmt: skip
BODIES = [b"1", b"", b'{"a": "b"}\n', b"{", b"\xff", b"1\n2\n", b" ", b"[" * 20_000, b'"' + b"x" * 20_000 + b'"']


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(OUTCOMES), st.sampled_from(["POST", "POST", "POST", "GET", "PUT"]), st.sampled_from(TARGETS),
    st.lists(st.sampled_from(HEADERS), max_size=3), st.sampled_from(BODIES), st.sampled_from(["1.1", "1.1", "1.0"]),
)  # fmt: skip
@example(ANSWERED, "POST", b"/v1/ask/count?key=a", [], b"1", "1.1")
@example(OUTCOMES[7], "POST", b"/v1/sources/e", [b"Producer-Id: p", b"First-Seq: 7"], b"1\n", "1.1")
@example(OUTCOMES[6], "POST", b"/v1/ask/count?key=a", [], b"1", "1.1")  # what no data plane says
def test_both_ways_answer_alike(
    both: Both, outcome: tuple[str, bytes], method: str, target: bytes, headers: list[bytes], body: bytes, version: str
) -> None:
    lines = [b"%b %b HTTP/%b" % (method.encode(), target, version.encode()), b"Host: a", *headers]
    request = b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
    quick, slow = both.answers(outcome, request)
    assert quick == slow


@dataclass
class Both:
    """Two doors of one node, of which one knows no quick way."""

    node: FakeNode
    urls: tuple[str, str]

    def answers(self, outcome: tuple[str, bytes], request: bytes) -> list[tuple[bytes, list[Any]]]:
        self.node.outcome = outcome
        return [self._answer(url, request) for url in self.urls]

    def _answer(self, url: str, request: bytes) -> tuple[bytes, list[Any]]:
        """All that comes until the connection is shut, and what was asked of the data plane."""
        self.node.questions.clear()
        said = b""
        with connected(url) as connection:
            connection.sendall(request)
            said += one_answer(connection)
            if b"connection: close" not in said.lower():
                connection.sendall(ALIVE.replace(b"Host", b"Connection: close\r\nHost"))
            while more := connection.recv(1 << 16):
                said += more
        return re.sub(rb"date: [^\r]*", b"date", said), [repr(each) for each in self.node.questions]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    node = FakeNode()
    with serving(node) as quick, serving(node) as slow, pytest.MonkeyPatch.context() as patch:
        of_slow = int(urlsplit(slow).netloc.rsplit(":", 1)[1])
        may_be = door.Connection._may_be_quick

        def only_there(connection: Any) -> bool:
            return connection.server[1] != of_slow and may_be(connection)

        patch.setattr(door.Connection, "_may_be_quick", only_there)
        yield Both(node, (quick, slow))


def test_what_comes_whole_is_asked_without_a_task(url: str, node: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of these tests would be about nothing."""
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    with connected(url) as connection:
        until_asked_again(connection, node)(*ANSWERED)
        assert one_answer(connection).endswith(b'\r\n\r\n{"outputs":[1]}\n')


# -- threads -----------------------------------------------------------------------------------------------------------


def test_the_thread_that_has_the_answer_gives_it_though_the_loop_is_busy(url: str, node: Patient) -> None:
    with connected(url) as connection, connected(url) as other:
        done = until_asked_again(connection, node)
        other.sendall(ALIVE)  # after it the loop has let go of the other connection
        one_answer(other)
        node.may_go_on.clear()
        until_asked_again(other, node)
        done(*ANSWERED)
        assert one_answer(connection).endswith(b'{"outputs":[1]}\n')
        node.may_go_on.set()


def test_one_answer_is_given(url: str, node: Patient) -> None:
    with connected(url) as connection:
        done = until_asked_again(connection, node)
        done(*ANSWERED)
        done("busy", b"")
        assert b" 200 OK\r\n" in one_answer(connection)
        connection.sendall(ALIVE)
        assert one_answer(connection).endswith(b"alive\n")


def test_requests_behind_a_quick_one_are_answered_after_it(url: str, node: Patient) -> None:
    with connected(url) as connection:
        connection.sendall(ASK + ALIVE)
        node.next_asked()(*ANSWERED)
        said = b""
        while not said.endswith(b"alive\n"):
            said += some(connection)
    assert said.count(b" 200 OK\r\n") == 2
    assert said.index(b"outputs") < said.index(b"alive")


def test_an_answer_of_any_size_comes_whole(url: str, node: Patient) -> None:
    """What the system does not take at once is for the loop."""
    with connected(url) as connection:
        for size in (1, 1 << 23, 1):
            until_asked_again(connection, node)("answered", b"x" * size)
            assert one_answer(connection).endswith(b"\r\n\r\n" + b"x" * size + b"\n")


def test_what_cannot_be_read_behind_a_quick_one_is_hung_up_on_after_its_answer(url: str, node: Patient) -> None:
    with connected(url) as connection:
        connection.sendall(ASK + b"\0\1\r\n\r\n")
        node.next_asked()(*ANSWERED)
        said = one_answer(connection)
        assert b" 200 OK\r\n" in said
        assert b"\r\nconnection: close\r\n" in said
        assert connection.recv(1) == b""


def test_an_answer_for_who_has_gone_is_given_to_nobody_else(url: str, node: Patient) -> None:
    with connected(url) as connection:
        done = until_asked_again(connection, node)
    with connected(url) as first:  # the loop has seen the end of the one before by the time it answers
        first.sendall(ALIVE)
        one_answer(first)
        with connected(url) as second:  # one of these two has the descriptor that became free
            second.sendall(ALIVE)
            one_answer(second)
            done(*ANSWERED)
            for each in (first, second):
                each.sendall(ALIVE)
                assert one_answer(each).endswith(b"\r\n\r\nalive\n")


def test_who_stays_after_an_answer_and_says_nothing_is_hung_up_on(
    node: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "IDLE_SECONDS", 0.01)
    with serving(node) as url, connected(url) as connection:
        done = until_asked_again(connection, node)
        done(*ANSWERED)
        one_answer(connection)
        assert connection.recv(1) == b""


def test_a_question_that_is_never_answered_is_given_up(node: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(door, "GIVE_UP_SECONDS", 0.02)
    with serving(node) as url, connected(url) as connection:
        until_asked_again(connection, node)
        assert b" 504 " in one_answer(connection)


def test_a_body_has_room_until_it_is_answered_also_when_its_client_has_gone(
    node: Patient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "MOST_BYTES", len(ASK.partition(b"\r\n\r\n")[2]))
    with connected(url) as connection:
        done = until_asked_again(connection, node)
    with connected(url) as connection:
        connection.sendall(ASK)
        assert b" 503 " in one_answer(connection)
        done(*ANSWERED)
        until_asked_again(connection, node)(*ANSWERED)
        assert b" 200 " in one_answer(connection)
