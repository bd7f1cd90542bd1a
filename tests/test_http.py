"""The HTTP door, over a real socket: what it answers, and that nothing that is asked of it breaks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesh.core.keys import hash_key
from mesh.runtime.status import GivenUp, Metric, Moving, RingRun, Transfer, Waiting
from nodes import connection as server
from nodes import http as door
from nodes.addresses import Address
from nodes.door import bind
from nodes.mistakes import Failure
from tests.served import FakeNode, serving


@dataclass
class Asked:
    code: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def ask(url: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Asked:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return Asked(response.status, {name.lower(): value for name, value in response.getheaders()}, text)


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(states={("count", "whale"): 7, ("count", 7): {"a": [1, None]}, ("count", b"\xff\x00"): "x"})


@pytest.fixture
def url(node: FakeNode) -> Iterator[str]:
    with serving(node) as at:
        yield at


def test_alive_whatever_else(url: str, node: FakeNode) -> None:
    node.change(ready=False)
    assert ask(url, "/healthz").code == 200


def test_ready_or_not(url: str, node: FakeNode) -> None:
    assert ask(url, "/readyz").code == 200
    node.change(ready=False)
    answer = ask(url, "/readyz")
    assert (answer.code, answer.body["error"], answer.headers["retry-after"]) == (503, "not-ready", "1")
    assert answer.body["detail"] == "a majority of the voters is out of touch"


def test_status_is_the_contracts_object(url: str) -> None:
    answer = ask(url, "/v1/status")
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.body) == ["cluster", "epoch", "this", "app", "ready", "done", "nodes", "slots", "sources"]
    assert list(answer.body["nodes"][0]) == ["name", "state", "role", "endpoint", "http", "slots", "backups", "keys"]
    assert answer.body["slots"] == {"total": 1024, "active": 683, "pending": 0, "unavailable": 341, "lost": 0}
    assert answer.body["sources"] == [{"name": "lines", "splits": 12, "done": 7, "records": 1234567}]


def test_ring_is_the_partition_in_runs(url: str) -> None:
    body = ask(url, "/v1/ring").body
    assert (body["cluster"], body["epoch"], body["total"]) == ("local-3", 1, 1024)
    assert body["runs"][1] == {
        "first": 342,
        "last": 682,
        "owner": "beta",
        "state": "active",
        "donor": "",
        "interval": [342 << 22, 683 << 22],
    }
    assert body["runs"][-1]["interval"][1] == 4294967296


def test_a_ring_that_moves_says_from_whom_to_whom_and_how_far(url: str, node: FakeNode) -> None:
    node.runs = (RingRun(0, 1023, "beta", "pending", "alpha"),)
    node.moving = Moving(3, 10, (Transfer("alpha", "beta", 7),))
    body = ask(url, "/v1/ring").body
    assert body["runs"][0]["donor"] == "alpha"
    assert body["moving"] == {
        "arrived": 3,
        "total": 10,
        "transfers": [{"donor": "alpha", "owner": "beta", "slots": 7}],
    }


@pytest.mark.parametrize(
    ("refused", "code", "error"),
    [
        ("unknown", 404, "unknown-node"),
        ("last-worker", 409, "last-worker"),
        ("unreachable", 503, "unavailable"),
        ("out-of-touch", 503, "out-of-touch"),
    ],
)
def test_a_leave_that_cannot_be_says_why(url: str, node: FakeNode, refused: str, code: int, error: str) -> None:
    node.refusals["beta"] = refused
    answer = ask(url, "/v1/leave?name=beta", "POST")
    assert (answer.code, answer.body["error"]) == (code, error)


def test_losses_are_accepted_where_there_are_some(url: str, node: FakeNode) -> None:
    assert ask(url, "/v1/accept-loss", "POST").body["error"] == "nothing-lost"
    node.losses = 341
    answer = ask(url, "/v1/accept-loss", "POST")
    assert (answer.code, answer.body) == (202, {"slots": 341})
    assert ask(url, "/v1/accept-loss?slots=3", "POST").code == 400
    node.losses = None
    assert ask(url, "/v1/accept-loss", "POST").code == 503


def test_what_is_unavailable_is_given_up_only_if_those_who_could_bring_it_back_are_named(
    url: str, node: FakeNode
) -> None:
    node.waiting = (Waiting(342, "0-340, 900", ("beta", "gamma")),)
    shown = {"unavailable": [{"count": 342, "slots": "0-340, 900", "nodes": ["beta", "gamma"]}]}
    assert ask(url, "/v1/unavailable").body == shown
    node.given_up = GivenUp(342)
    answer = ask(url, "/v1/accept-loss?gone=beta,gamma", "POST")
    assert (answer.code, answer.body) == (202, {"slots": 342})
    assert node.asked_to_give_up == [("beta", "gamma")]
    refusals = [
        (GivenUp(0), 409, "nothing-lost"), (GivenUp(0, "unknown", "delta"), 404, "unknown-node"),
        (GivenUp(0, "up", "beta"), 409, "node-up"), (GivenUp(0, "in-memory"), 409, "in-memory"),
        (GivenUp(0, "out-of-touch"), 503, "out-of-touch"),
    ]  # fmt: skip
    for node.given_up, code, error in refusals:
        answer = ask(url, "/v1/accept-loss?gone=beta", "POST")
        assert (answer.code, answer.body["error"]) == (code, error)


def test_a_recovery_where_the_majority_is_gone_only(url: str, node: FakeNode) -> None:
    refused = ask(url, "/v1/recover", "POST")
    assert (refused.code, refused.body["error"]) == (409, "in-touch")
    node.recovers = True
    assert ask(url, "/v1/recover", "POST").code == 202


def test_a_leave_is_accepted(url: str, node: FakeNode) -> None:
    node.refusals["beta"] = None
    answer = ask(url, "/v1/leave?name=beta", "POST")
    assert (answer.code, answer.body, node.asked_to_leave) == (202, {"leaving": "beta"}, ["beta"])


@pytest.mark.parametrize("query", ["", "?name=", "?nmae=beta", "?name=beta&name=alpha", "?name=%FF"])
def test_a_leave_of_nobody_is_a_bad_request(url: str, node: FakeNode, query: str) -> None:
    assert ask(url, f"/v1/leave{query}", "POST").body["error"] == "bad-request"
    assert node.asked_to_leave == []


def test_a_leave_is_not_asked_for_by_reading_nor_by_another_sites_page(url: str, node: FakeNode) -> None:
    assert ask(url, "/v1/leave?name=beta").code == 405
    theirs = ask(url, "/v1/leave?name=beta", "POST", {"Origin": "http://elsewhere.example"})
    assert (theirs.code, theirs.body["error"]) == (403, "forbidden")
    assert node.asked_to_leave == []
    assert ask(url, "/v1/leave?name=beta", "POST", {"Origin": url}).code == 404


@pytest.mark.parametrize(
    ("query", "key", "shown"),
    [
        ("key=whale", "whale", "whale"),
        ("key=7&key_type=int", 7, 7),
        ("key=7", "7", "7"),
        ("key=-0&key_type=int", 0, 0),
        ("key=_wA&key_type=bytes", b"\xff\x00", {"bytes": "_wA"}),
        ("key=", "", ""),
        ("key=a%20b%26c%3D%C3%A9+d", "a b&c=é d", "a b&c=é d"),
    ],
)
def test_owner_of_a_key_of_each_type(url: str, query: str, key: str | int | bytes, shown: object) -> None:
    body = ask(url, f"/v1/owner?{query}").body
    assert list(body) == ["key", "hash", "slot", "interval", "owner", "backups", "term", "epoch"]
    assert (body["key"], body["hash"], body["owner"]) == (shown, hash_key(key, 0), "beta")
    assert body["interval"][0] <= body["hash"] < body["interval"][1]


@pytest.mark.parametrize(
    ("query", "error", "detail"),
    [
        ("", "bad-request", "the query needs key=K"),
        ("key_type=int", "bad-request", "the query needs key=K"),
        ("key=a&key=b", "bad-request", "a query field is given twice"),
        ("key=a&keytype=int", "bad-request", 'unknown query field "keytype"; did you mean "key_type"?'),
        ("key=seven&key_type=int", "bad-key", "whole decimal number"),
        ("key=%D9%A1&key_type=int", "bad-key", "whole decimal number"),
        ("key=1&key_type=float", "bad-key", "not one of str, int, bytes"),
        ("key=a=b&key_type=bytes", "bad-key", "unpadded base64url"),
        ("key=%ED%A0%80", "bad-request", "the query cannot be read"),
        ("key=%FF", "bad-request", "the query cannot be read"),
        (f"key={'9' * 5000}&key_type=int", "bad-key", "too long to ask for"),
        ("&".join(f"k{i}=1" for i in range(1000)), "bad-request", "the query cannot be read"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/owner", "/v1/state/count"])
def test_a_bad_key_is_a_sentence(url: str, path: str, query: str, error: str, detail: str) -> None:
    answer = ask(url, f"{path}?{query}")
    assert (answer.code, answer.body["error"]) == (400, error)
    assert detail in answer.body["detail"]


def test_a_partition_that_is_not_there_yet(url: str, node: FakeNode) -> None:
    node.formed, node.runs = False, ()
    answer = ask(url, "/v1/owner?key=a")
    assert (answer.code, answer.body["error"], answer.headers["retry-after"]) == (503, "no-partition", "1")
    assert ask(url, "/v1/ring").body["runs"] == []


def test_state_of_keys_that_were_seen(url: str) -> None:
    assert ask(url, "/v1/state/count?key=whale").body == {
        "stage": "count",
        "key": "whale",
        "state": 7,
        "owner": "beta",
        "term": 3,
    }
    assert ask(url, "/v1/state/count?key=7&key_type=int").body["state"] == {"a": [1, None]}
    assert ask(url, "/v1/state/count?key=_wA&key_type=bytes").body["key"] == {"bytes": "_wA"}


@pytest.mark.parametrize(
    ("path", "code", "error"),
    [
        ("/v1/state/count?key=7", 404, "not-found"),
        ("/v1/state/cuont?key=whale", 404, "unknown-stage"),
        ("/v1/state/a%2Fb?key=whale", 404, "not-found"),
        ("/v1/state/late?key=a", 503, "unavailable"),
        ("/v1/state/broken?key=a", 500, "internal"),
        ("/v1/state/old?key=a", 500, "unreadable-state"),
        ("/v1/state/?key=whale", 404, "not-found"),
        ("/v1/keys/cuont", 404, "unknown-stage"),
        ("/v1/keys/", 404, "not-found"),
        ("/", 404, "not-found"),
        ("/v1/status/", 404, "not-found"),
    ],
)
def test_what_is_not_there(url: str, path: str, code: int, error: str) -> None:
    answer = ask(url, path)
    assert (answer.code, answer.body["error"]) == (code, error)
    assert answer.body["detail"]
    assert ("retry-after" in answer.headers) == (code == 503)


def test_a_slot_that_is_not_active_is_not_a_key_that_is_not_there(url: str, node: FakeNode) -> None:
    node.unavailable = True
    assert ask(url, "/v1/state/count?key=whale").code == 503


def test_keys_come_in_pages(url: str, node: FakeNode) -> None:
    assert ask(url, "/v1/keys/count").text == '{"keys":["whale",7,{"bytes":"_wA"}],"next":null}\n'
    first = ask(url, "/v1/keys/count?limit=2")
    assert (first.headers["content-type"], first.body["keys"]) == ("application/json", ["whale", 7])
    assert ask(url, f"/v1/keys/count?limit=2&after={first.body['next']}").body == {
        "keys": [{"bytes": "_wA"}],
        "next": None,
    }
    node.states = {}
    assert ask(url, "/v1/keys/count").body == {"keys": [], "next": None}


def test_keys_of_any_length_and_character(url: str, node: FakeNode) -> None:
    text, number = 'é\n"\u2028' * 1000, "1" + "0" * 6000  # more digits than Python reads
    node.states = {("count", text): 1, ("count", 10**6000): 1, ("count", -(10**6000)): 1}
    body = json.loads(ask(url, "/v1/keys/count").text, parse_int=str)
    assert body["keys"][0] == text
    assert sorted(body["keys"][1:]) == ["-" + number, number]


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "x", "", "1.0", "%D9%A1", "9" * 5000])
def test_a_page_has_a_limit(url: str, limit: str) -> None:
    answer = ask(url, f"/v1/keys/count?limit={limit}")
    assert (answer.code, answer.body["error"]) == (400, "bad-request")
    assert answer.body["detail"] == "limit is a number of keys from 1 to 10000"
    assert ask(url, "/v1/keys/count?limit=10000").code == 200


@pytest.mark.parametrize("cursor", ["", "AA", "whale", "W10"])
def test_a_page_begins_where_one_ended(url: str, cursor: str) -> None:
    answer = ask(url, f"/v1/keys/count?after={cursor}")
    assert (answer.code, answer.body["error"]) == (400, "bad-cursor")
    assert answer.body["detail"].startswith("after: that is not where a page of keys ended")
    assert ask(url, "/v1/keys/count?aftre=x").code == 400


def test_keys_of_a_slot_that_is_not_active(url: str, node: FakeNode) -> None:
    node.unavailable = True
    answer = ask(url, "/v1/keys/count")
    assert (answer.code, answer.headers["retry-after"]) == (503, "1")
    assert answer.body == {"error": "unavailable", "detail": "slot 7 is pending"}


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_other_methods(url: str, method: str) -> None:
    answer = ask(url, "/v1/status", method)
    assert (answer.code, answer.body["error"]) == (405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


def test_the_door_stays_open_while_all_lookups_wait(url: str, node: FakeNode) -> None:
    with ThreadPoolExecutor(door.LOOKUPS_AT_ONCE + 8) as pool:
        waiting = [pool.submit(ask, url, "/v1/state/slow?key=a") for _ in range(door.LOOKUPS_AT_ONCE + 8)]
        assert ask(url, "/healthz").code == 200
        assert ask(url, "/v1/status").code == 200
        assert ask(url, "/readyz").code == 200
        node.held.set()
        assert {each.result().code for each in waiting} == {404}


def test_whoever_comes_when_there_is_no_room_is_told_to_come_back(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    with serving(node) as url:
        host, port = urlsplit(url).netloc.split(":")
        early = [http.client.HTTPConnection(host, int(port), timeout=30) for _ in range(2)]
        for each in early:
            each.request("GET", "/healthz")
            assert each.getresponse().read() == b"alive\n"
        answer = ask(url, "/v1/status")
        assert (answer.code, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        assert answer.body == {"error": "busy", "detail": "this node has too many HTTP connections"}
        early[0].request("GET", "/healthz")  # who is in is served
        assert early[0].getresponse().read() == b"alive\n"
        for each in early:
            each.close()


@pytest.mark.parametrize("said", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"])
def test_who_connects_and_does_not_say_what_for_is_hung_up_on(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.01)
    with serving(node) as url, _connected(url) as connection:
        connection.sendall(said)
        assert _all_that_comes(connection) == b""


def test_metrics_are_families_of_samples(url: str, node: FakeNode) -> None:
    node.samples = [
        Metric("mesh_slots", "slots by state", 3, (("state", "active"),)),
        Metric("mesh_records_read_total", "records read", 17),
        Metric("mesh_slots", "slots by state", 0, (("state", 'odd "\\\n'),)),
    ]
    answer = ask(url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.splitlines() == [
        "# HELP mesh_slots slots by state",
        "# TYPE mesh_slots gauge",
        'mesh_slots{state="active"} 3.0',
        'mesh_slots{state="odd \\"\\\\\\n"} 0.0',
        "# HELP mesh_records_read_total records read",
        "# TYPE mesh_records_read_total counter",
        "mesh_records_read_total 17.0",
    ]


@pytest.mark.parametrize("garbage", [b"\x00\xff" * 5000, b"GET /\r\n\r\n", b"GET " + b"/a" * 100_000])
def test_what_is_not_http_is_hung_up_on(url: str, garbage: bytes) -> None:
    host, port = urlsplit(url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(garbage)
        assert b"200 OK" not in _all_that_comes(connection)
    assert ask(url, "/healthz").code == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /healthz HTTP/1.1\r\nLong: ",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"Many: a\r\n" * 100,
        b"POST /v1/ask/count?key=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ",
    ],
    ids=["one header", "many headers", "after the body"],
)
def test_a_head_without_an_end_is_hung_up_on(url: str, begun: bytes) -> None:
    with _connected(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(begun)
            for _ in range((server.MOST_HEAD + (256 << 10)) // 900):
                connection.sendall(b"a" * 990 if begun.endswith(b": ") else b"Many: a\r\n" * 110)
        assert b"200 OK" not in _all_that_comes(connection)


def test_requests_are_answered_in_their_order_and_too_many_at_once_are_hung_up_on(url: str) -> None:
    one = b"GET /v1/state/count?key=whale HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with _connected(url) as connection:
        connection.sendall(one * server.MOST_BEHIND + last)
        answers = _all_that_comes(connection)
        assert answers.count(b'"state":7') == server.MOST_BEHIND
        assert answers.endswith(b"alive\n")
    with _connected(url) as connection:
        connection.sendall(one * 1000)
        answers = _all_that_comes(connection)
        assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1") == server.MOST_BEHIND + 1


def test_what_was_taken_is_answered_though_what_follows_cannot_be_read(url: str) -> None:
    """A 400 in the place of its answer would say that nothing was applied."""
    with _connected(url) as connection:
        connection.sendall(b"GET /v1/state/count?key=whale HTTP/1.1\r\nHost: a\r\n\r\n" + b"\0\1\r\n\r\n")
        answers = _all_that_comes(connection)
    assert answers.count(b"HTTP/1.1") == answers.count(b"HTTP/1.1 200 ") == answers.count(b'"state":7') == 1


def test_a_question_for_the_head_alone_is_answered(url: str) -> None:
    head = b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n"
    with _connected(url) as connection:
        connection.sendall(head + b"\r\n" + head + b"Connection: close\r\n\r\n")
        answers = _all_that_comes(connection)
    assert answers.count(b"HTTP/1.1 ") == 2
    assert b"alive" not in answers


@pytest.mark.parametrize("body", [b"", b"x" * 3_000_000], ids=["without a body", "whose body still comes"])
def test_a_head_that_is_too_long_is_told_in_the_form_of_all_errors(url: str, body: bytes) -> None:
    head = b"POST /v1/ask/count?key=%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    with _connected(url) as connection:
        connection.sendall(head % (b"k" * 1_000_000, len(body)) + body)
        answered = _all_that_comes(connection)
    assert answered.startswith(b"HTTP/1.1 400 ")
    told = json.loads(answered.partition(b"\r\n\r\n")[2])
    assert told["error"] == "bad-request"
    assert "65536 bytes at most" in told["detail"]


def test_what_comes_behind_a_body_is_no_header(url: str) -> None:
    head = b"POST /v1/ask/count?key=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with _connected(url) as connection:
        connection.sendall(head + b"1\r\n1\r\n0\r\nOrigin: http://elsewhere\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")  # and not 403


@pytest.mark.parametrize("cut", [0, 60, 150, 173])
def test_an_offer_to_speak_another_protocol_is_passed_over(url: str, cut: int) -> None:
    head = b"POST /v1/ask/none?key=a HTTP/1.1\r\nHost: a\r\n"
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"
    request = head + offer + b"Content-Length: 4\r\n\r\nnull"
    with _connected(url) as connection:
        for _ in range(2):
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")  # the body came: without it is 400


def test_a_node_is_no_proxy(url: str) -> None:
    with _connected(url) as connection:
        connection.sendall(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert _all_that_comes(connection).startswith(b"HTTP/1.1 400 ")


def test_a_body_may_come_after_it_was_asked_for(url: str) -> None:
    head = b"POST /v1/ask/count?key=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    with _connected(url) as connection:
        connection.sendall(head)
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"1")
        assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_a_head_and_its_body_are_one_packet(url: str) -> None:
    with _connected(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).endswith(b"\r\n\r\nalive\n")


def _connected(url: str) -> socket.socket:
    host, port = urlsplit(url).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _all_that_comes(connection: socket.socket) -> bytes:
    """Until the other side hangs up; it may do so before it has read everything."""
    answered = b""
    try:
        while block := connection.recv(4096):
            answered += block
    except ConnectionResetError:
        pass
    return answered


def test_a_port_in_use_is_a_sentence_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failure) as refused:
            bind(Address("127.0.0.1", port))
    assert (
        str(refused.value) == f"the HTTP door cannot listen on 127.0.0.1:{port}: another process listens there already"
    )
    assert refused.value.code == 2


def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(Failure, match=r"cannot listen on 192\.0\.2\.1:7480: Cannot assign requested address"):
        bind(Address("192.0.2.1", 7480))
