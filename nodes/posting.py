"""What producers send to any node, and asks for one key: `POST /v1/sources/NAME`, `POST /v1/ask/STAGE?key=K`.

Nobody holds a thread while it waits: the data plane calls back, and the event loop goes on. What comes whole and is
small has a shorter way (`quick`), with the same questions and answers; what is wrong with it is left to the longer one.
What waits in memory is bounded by MOST_BYTES of bodies, and by the data plane's own limit of requests; who is too many
is told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mesh.core.events import Event
from mesh.core.events.work import LinesPosted, RecordAsked
from mesh.core.keys import Key
from mesh.core.windows import CONFLICT, MAX_PRODUCER, MOST_SEQ, TOO_FAR, TOO_OLD, UNKNOWN, WINDOW
from nodes.answers import (
    error_answer,
    json_answer,
    key_asked,
    not_now,
    query_fields,
    refuse_other_sites,
    shown,
)
from nodes.front import QuickEndpoint
from nodes.ndjson import BadLine, parse_lines, parse_value
from nodes.quick import Question

MAX_BODY = 8 << 20  # bytes
MOST_BYTES = 4 * MAX_BODY  # of all bodies under way; parsed they are some ten times as large
DISCARDED = 64 << 20  # bytes of a body that is too large are read to its end, so that the answer is seen
GIVE_UP_SECONDS = 15.0  # the data plane answers sooner, unless the application's code holds it up
SMALL = 16 << 10  # bytes that are parsed on the spot

_PRODUCER = re.compile(rf"[\x21-\x7e]{{1,{MAX_PRODUCER}}}", re.ASCII)
_SEQ = re.compile(r"[0-9]{1,13}", re.ASCII)
_REFUSED = {
    CONFLICT: "line {seq} of producer {producer} was another one: a number is for one line",
    TOO_OLD: "line {seq} of producer {producer} is so long past that it may have been applied or not",
    UNKNOWN: "producer {producer} is not known here, or not any more: it begins with line 0, and not with line {seq}",
    TOO_FAR: f"line {{seq}} of producer {{producer}} is more than {WINDOW} lines ahead of all that it has sent",
}


class Takes(Protocol):
    """Who takes what is posted."""

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        """Ask the data plane under a ticket; `done(outcome, JSON text)` is called once, from any thread."""


@dataclass(frozen=True, slots=True)
class _Producer:
    name: str = ""
    first: int = 0


def endpoints(
    served: Takes,
) -> tuple[dict[str, Callable[[Request], Awaitable[Response]]], dict[str, QuickEndpoint]]:
    """By path, those for any request and those for what comes whole and is small; all of them POST."""
    posting = _Posting(served)
    lines, ask = "/v1/sources/{source}", "/v1/ask/{stage}"
    return {lines: posting.lines, ask: posting.ask}, {lines: posting.few_lines, ask: posting.small_ask}


class _Posting:
    def __init__(self, served: Takes) -> None:
        self._served = served
        self._bytes = 0  # of bodies under way
        self._freed: deque[int] = deque()  # of those that were answered in another thread

    async def lines(self, request: Request) -> Response:
        refuse_other_sites(request)
        query_fields(request, ())
        source, producer = request.path_params["source"], _producer(request)
        with self._room(_size(request)) as has_room:
            if not has_room:
                return not_now("busy", "this node has as much as it takes at once; send it again")
            body = await _body(request)
            if len(body) <= SMALL:
                question = _posted(source, producer, parse_lines(body))
            else:
                question = _posted(source, producer, await anyio.to_thread.run_sync(parse_lines, body))
            return question.answer(*await self._outcome(question.event))

    def few_lines(self, request: Request, body: bytes) -> Question | None:
        refuse_other_sites(request)
        query_fields(request, ())
        if not self._has_room(len(body)):
            return None
        return self._counted(body, _posted(request.path_params["source"], _producer(request), parse_lines(body)))

    @contextlib.contextmanager
    def _room(self, size: int) -> Any:
        has_room = self._has_room(size)
        self._bytes += size
        try:
            yield has_room
        finally:
            self._bytes -= size

    def _counted(self, body: bytes, question: Question) -> Question:
        """Its body has room until it is answered, whether or not the client still waits."""
        self._bytes += len(body)

        def answer(outcome: str, text: bytes) -> Response:
            self._freed.append(len(body))
            return question.answer(outcome, text)

        return Question(question.event, answer)

    def _has_room(self, size: int) -> bool:
        while self._freed:
            self._bytes -= self._freed.popleft()
        return self._bytes + size <= MOST_BYTES

    async def ask(self, request: Request) -> Response:
        refuse_other_sites(request)
        stage, key = request.path_params["stage"], key_asked(request)
        with self._room(_size(request)) as has_room:
            if not has_room:
                return not_now("busy", "this node has as much as it takes at once; ask again")
            body = await _body(request)
            try:
                question = _asked(stage, key, body)
            except ValueError as error:
                return error_answer(400, "bad-value", f"the body is one JSON value: {error}")
            return question.answer(*await self._outcome(question.event))

    def small_ask(self, request: Request, body: bytes) -> Question | None:
        refuse_other_sites(request)
        key = key_asked(request)
        if not self._has_room(len(body)):
            return None
        return self._counted(body, _asked(request.path_params["stage"], key, body))

    async def _outcome(self, question: Callable[[int], Event]) -> tuple[str, bytes]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, bytes]] = loop.create_future()

        def settle(outcome: str, body: bytes) -> None:
            if not answer.done():
                answer.set_result((outcome, body))

        def done(outcome: str, body: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, outcome, body)

        given_up = loop.call_later(GIVE_UP_SECONDS, settle, "unknown", b"")
        try:
            self._served.submit(question, done)
            return await answer
        finally:
            given_up.cancel()


# -- what is asked ----------------------------------------------------------------------------------------------------


def _posted(source: str, producer: _Producer, lines: tuple[list[Any], list[int]]) -> Question:
    values, digests = lines
    if producer.name and len(values) > WINDOW:
        raise HTTPException(413, f"{len(values)} lines at once; {WINDOW} of one producer are remembered")
    if producer.first + len(values) > MOST_SEQ:
        raise HTTPException(400, f"a line's number is below {MOST_SEQ}")
    return Question(
        lambda ticket: LinesPosted(ticket, source, values, producer.name, producer.first, digests),
        lambda outcome, text: _lines_answer(source, producer, outcome, text),
    )


def _asked(stage: str, key: Key, body: bytes) -> Question:
    """Raises ValueError."""
    value = parse_value(body)
    return Question(
        lambda ticket: RecordAsked(ticket, stage, key, value),
        lambda outcome, text: _ask_answer(stage, key, outcome, text),
    )


# -- requests ---------------------------------------------------------------------------------------------------------


def _producer(request: Request) -> _Producer:
    """Who sends, and the number of its first line; HTTPException for half of it, or for anything else."""
    names, firsts = request.headers.getlist("producer-id"), request.headers.getlist("first-seq")
    if not names and not firsts:
        return _Producer()
    if len(names) != 1 or len(firsts) != 1:
        raise HTTPException(400, "Producer-Id and First-Seq go together, each once")
    if not _PRODUCER.fullmatch(names[0]):
        raise HTTPException(400, f"Producer-Id is 1 to {MAX_PRODUCER} visible ASCII characters")
    if not _SEQ.fullmatch(firsts[0]) or int(firsts[0]) >= MOST_SEQ:
        raise HTTPException(400, f"First-Seq is a whole number from 0, below {MOST_SEQ}")
    return _Producer(names[0], int(firsts[0]))


def _size(request: Request) -> int:
    """Of the body, as announced; where nothing is, or too much, what is read of it at most."""
    text = request.headers.get("content-length", "")
    return min(int(text), MAX_BODY) if re.fullmatch("[0-9]{1,19}", text, re.ASCII) else MAX_BODY


async def _body(request: Request) -> bytes:
    """HTTPException if there is more of it than MAX_BODY."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= MAX_BODY:
                parts.append(part)
            elif size > DISCARDED:
                break
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too early") from None
    if size > MAX_BODY:
        raise HTTPException(413, f"a body has {MAX_BODY >> 20} MiB at most")
    return b"".join(parts)


# -- answers ----------------------------------------------------------------------------------------------------------


def bad_line(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadLine)
    return _bad_line(error.line, error.detail)


def _bad_line(line: int, detail: str) -> Response:
    sentence = f"line {line}: {detail}; nothing was applied"
    return json_answer({"error": "bad-line", "detail": sentence, "line": line}, 400)


def _ask_answer(stage: str, key: Key, outcome: str, text: bytes) -> Response:
    if outcome == "answered":
        return Response(text + b"\n", media_type="application/json")
    if outcome == "unknown-stage":
        return error_answer(404, outcome, f"the application has no stage {json.dumps(stage)}")
    if outcome == "raised":
        return error_answer(422, outcome, f"nothing was changed: {json.loads(text)['detail']}")
    return _not_applied(outcome, f"the slot of {shown(key)} is not active now")


def _lines_answer(source: str, producer: _Producer, outcome: str, text: bytes) -> Response:
    body = json.loads(text) if text else {}
    if outcome == "committed":
        return json_answer(body)
    if outcome == "unknown-source":
        why = "takes no records by HTTP: it is not a mesh.http()" if body["exists"] else "is not in the application"
        return error_answer(404, outcome, f"the source {json.dumps(source)} {why}")
    if outcome == "bad-line":
        return _bad_line(body["line"], body["detail"])
    if outcome in _REFUSED:
        return error_answer(409, outcome, _REFUSED[outcome].format(producer=producer.name, seq=body["seq"]))
    return _not_applied(outcome, "some of the slots that are needed are not active now")


def _not_applied(outcome: str, why: str) -> Response:
    if outcome == "busy":
        return not_now(outcome, "too many requests wait at this node; nothing was applied")
    if outcome == "unavailable":
        return not_now(outcome, f"{why}; nothing was applied")
    return error_answer(504, "unknown", "it was not answered in time, and may be applied, wholly or in part, or not")
