"""`POST /v1/sources` and `POST /v1/ask` at the door: what is understood, refused, and answered."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesh.core.events.work import LinesPosted, RecordAsked
from nodes.posting import MAX_BODY, MOST_BYTES, _Posting
from tests.served import FakeNode, serving

LINES = b'{"a": 1}\n"two"\r\n3\n'


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(outcome=("committed", b'{"committed": 3, "duplicates": 1}'))


@pytest.fixture
def url(node: FakeNode) -> Iterator[str]:
    with serving(node) as at:
        yield at


def post(url: str, path: str, body: bytes, **headers: str) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text), {name.lower(): value for name, value in response.getheaders()}


def test_lines_reach_the_data_plane_with_their_numbers(url: str, node: FakeNode) -> None:
    code, body, _ = post(url, "/v1/sources/events", LINES, Producer_Id="p-1", First_Seq="7")
    assert (code, body) == (200, {"committed": 3, "duplicates": 1})
    (asked,) = node.questions
    assert isinstance(asked, LinesPosted)
    assert (asked.source, asked.values, asked.producer, asked.first) == ("events", [{"a": 1}, "two", 3], "p-1", 7)
    assert len(set(asked.digests)) == 3
    assert all(0 <= each < 1 << 64 for each in asked.digests)


def test_equal_lines_have_equal_digests(url: str, node: FakeNode) -> None:
    for _ in range(2):
        post(url, "/v1/sources/events", LINES)
    first, second = node.questions
    assert isinstance(first, LinesPosted)
    assert isinstance(second, LinesPosted)
    assert first.digests == second.digests


@pytest.mark.parametrize(
    ("body", "line", "told"),
    [
        (b'1\n{"a":\n3\n', 2, "not JSON"),
        (b"1\n\n3\n", 2, "an empty line"),
        (b"1\n \n", 2, "a blank line"),
        (b"\n", 1, "an empty line"),
        (b"NaN\n", 1, "NaN is not JSON"),
        (b"1\n2\n[-Infinity]", 3, "-Infinity is not JSON"),
        (b'"\xff"\n', 1, "not UTF-8"),
        (rb'{"a": ["\ud800"]}', 1, "a lone surrogate"),
        (b"[" * 100_000 + b"\n", 1, "nested too deeply"),
        (b"9" * 5000 + b"\n", 1, "4300 digits"),
        (b"1 2\n", 1, "not JSON"),
        (b"\xef\xbb\xbf1\n", 1, "not JSON"),
        (b"x" * 1_000_000, 1, "not JSON"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_applied(
    url: str, node: FakeNode, body: bytes, line: int, told: str
) -> None:
    code, answer, _ = post(url, "/v1/sources/events", body)
    assert (code, answer["error"], answer["line"]) == (400, "bad-line", line)
    assert told in answer["detail"]
    assert not node.questions


@pytest.mark.parametrize(
    "headers",
    [
        {"Producer_Id": "p"},
        {"First_Seq": "0"},
        {"Producer_Id": "", "First_Seq": "0"},
        {"Producer_Id": "a b", "First_Seq": "0"},
        {"Producer_Id": "p" * 201, "First_Seq": "0"},
        {"Producer_Id": "p\xe9", "First_Seq": "0"},
        {"Producer_Id": "p", "First_Seq": "-1"},
        {"Producer_Id": "p", "First_Seq": "1.5"},
        {"Producer_Id": "p", "First_Seq": "one"},
        {"Producer_Id": "p", "First_Seq": str(1 << 40)},
        {"Producer_Id": "p", "First_Seq": str((1 << 40) - 2)},
        {"Producer_Id": "p", "First_Seq": "9" * 100},
    ],
)
def test_wrong_headers_are_one_sentence(url: str, node: FakeNode, headers: dict[str, str]) -> None:
    code, answer, _ = post(url, "/v1/sources/events", LINES, **headers)
    assert (code, set(answer)) == (400, {"error", "detail"})
    assert not node.questions


def test_a_body_that_is_too_large_is_refused_announced_or_not(url: str, node: FakeNode) -> None:
    too_large = b"1" * (MAX_BODY + 1)
    assert post(url, "/v1/sources/events", too_large)[0] == 413
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/v1/sources/events", iter([too_large[: MAX_BODY // 2]] * 3), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert not node.questions
    node.outcome = "committed", b'{"committed": 1, "duplicates": 0}'
    assert post(url, "/v1/sources/events", b'"' + b"x" * (MAX_BODY - 2) + b'"')[0] == 200


def test_what_waits_in_memory_is_bounded() -> None:
    posting = _Posting(FakeNode())
    with posting._room(MOST_BYTES) as first, posting._room(1) as second:
        assert (first, second) == (True, False)
    with posting._room(1) as third:
        assert third


@pytest.mark.parametrize(
    ("outcome", "text", "code", "error"),
    [
        ("unknown-source", b'{"exists": false}', 404, "unknown-source"),
        ("unknown-source", b'{"exists": true}', 404, "unknown-source"),
        ("bad-line", b'{"line": 2, "detail": "why"}', 400, "bad-line"),
        ("conflict", b'{"seq": 5}', 409, "conflict"),
        ("too-old", b'{"seq": 5}', 409, "too-old"),
        ("unknown-producer", b'{"seq": 5}', 409, "unknown-producer"),
        ("too-far", b'{"seq": 5}', 409, "too-far"),
        ("busy", b"", 503, "busy"),
        ("unavailable", b"", 503, "unavailable"),
        ("unknown", b"", 504, "unknown"),
    ],
)
def test_every_outcome_has_its_code(url: str, node: FakeNode, outcome: str, text: bytes, code: int, error: str) -> None:
    node.outcome = outcome, text
    answered, body, headers = post(url, "/v1/sources/events", LINES, Producer_Id="p", First_Seq="0")
    assert (answered, body["error"]) == (code, error)
    assert ("retry-after" in headers) == (code == 503)


def test_an_ask_carries_one_value_to_one_key(url: str, node: FakeNode) -> None:
    node.outcome = "answered", b'{"outputs":[["a", 1]]}'
    assert post(url, "/v1/ask/window?key=7&key_type=int", b' {"id": 1}\n')[:2] == (200, {"outputs": [["a", 1]]})
    (asked,) = node.questions
    assert isinstance(asked, RecordAsked)
    assert (asked.stage, asked.key, asked.value) == ("window", 7, {"id": 1})


@pytest.mark.parametrize(
    ("outcome", "text", "code"),
    [
        ("unknown-stage", b"", 404),
        ("raised", b'{"detail": "KeyError: 7"}', 422),
        ("busy", b"", 503),
        ("unavailable", b"", 503),
        ("unknown", b"", 504),
    ],
)
def test_every_outcome_of_an_ask_has_its_code(url: str, node: FakeNode, outcome: str, text: bytes, code: int) -> None:
    node.outcome = outcome, text
    answered, body, headers = post(url, "/v1/ask/window?key=a", b"1")
    assert (answered, set(body)) == (code, {"error", "detail"})
    assert ("retry-after" in headers) == (code == 503)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/ask/window?key=a", b"", 400),
        ("/v1/ask/window?key=a", b"NaN", 400),
        ("/v1/ask/window?key=a", b"1\n2", 400),
        ("/v1/ask/window", b"1", 400),
        ("/v1/ask/window?key=x&key_type=int", b"1", 400),
        ("/v1/ask/window?key=" + "k" * 5000, b"1", 400),
        ("/v1/ask/window?key=%ff", b"1", 400),
        ("/v1/ask/window?key=a", b"1" * (MAX_BODY + 1), 413),
        ("/v1/sources/events?key=a", b"1", 400),
    ],
)
def test_a_bad_request_is_one_sentence(url: str, node: FakeNode, path: str, body: bytes, code: int) -> None:
    answered, answer, _ = post(url, path, body)
    assert (answered, set(answer)) == (code, {"error", "detail"})
    assert not node.questions


def test_pages_of_other_sites_post_nothing(url: str, node: FakeNode) -> None:
    for path in ("/v1/sources/events", "/v1/ask/window?key=a"):
        assert post(url, path, b"1", Origin="http://elsewhere.example")[0] == 403
    assert not node.questions


def test_reading_what_is_posted_is_no_method(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", "/v1/sources/events")
    assert connection.getresponse().status == 405
    connection.close()
