"""One connection of the HTTP door: as uvicorn has it, within our limits, and with a quick way for what comes whole.

A connection is a file descriptor, and the mesh needs some as well. So connections past a limit are told to come back,
and one that has not said a whole head within IDLE_SECONDS, from its start or the last answer on, is closed. The
server's own limit would refuse everybody while there are too many.

The parser takes heads, and requests behind others, of any length, and keeps them all; so what a connection says
is counted here, and one that never comes to the point is told so, and closed a moment later.

A request that comes whole may be a quick one (`quick`). Its head is held until its body is there; if it is none after
all, or the body comes in pieces, it begins then, as if its head had just come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import time
from collections.abc import Callable
from typing import cast

import httptools
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nodes.front import Front
from nodes.posting import GIVE_UP_SECONDS, SMALL
from nodes.quick import Quick

_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
CONNECTIONS = 2048 if _FILES == resource.RLIM_INFINITY else min(2048, _FILES // 2)  # the rest is the mesh's and sinks'
IDLE_SECONDS = 5  # for a first request as well
MOST_HEAD = 64 << 10  # bytes of a head, of what ends a body, or of what stands between its chunks
MOST_BEHIND = 8  # requests that have come before the one in front was answered
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
)
LINGER_SECONDS = 1  # in which what still comes is dropped
_UNUSUAL = re.compile(rb"[^/]|[^?]*%|.*#")  # of an URL: not a path alone, or to be decoded before it is compared


class Connection(HttpToolsProtocol):
    """As uvicorn's, within our limits."""

    _idle_bytes = 0  # since the last head that was complete, or the last piece of a body
    _refused = False  # nothing more is read
    _held: bytes | None = None  # the body, as far as it came, of what may be a quick request
    _quick: Quick | None = None  # the last request, if it is or was one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._front = self.config.app if isinstance(self.config.app, Front) else None
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)
        if len(self.connections) > CONNECTIONS:
            self.app, self._front = _full, None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._quick is not None:
            self._quick.meet()
        self._idle_bytes += len(data)
        try:
            self._feed(data)
            if self._held is not None:  # the rest of its body comes later
                self._begin_held()
        except (httptools.HttpParserError, ValueError):
            self._refuse("this is not HTTP")
        else:
            if self._idle_bytes > MOST_HEAD:
                self._refuse(f"the head of a request, with its path and query, has {MOST_HEAD} bytes at most")
            elif self._quick is not None and not self.pipeline:
                self._quick.leave()

    def _refuse(self, why: str) -> None:
        """What was accepted before is answered, and then the connection is closed: a 400 in the place of its answer
        would say that nothing was applied."""
        self._refused = True
        cycle = self.cycle
        begins = cycle is None or cycle.response_complete
        if begins or (cycle.more_body and not self.pipeline and not cycle.response_started):
            self.send_400_response(why)
        elif cycle.more_body:  # of a request behind others, or one that was answered before its end
            self.transport.close()
        else:
            cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """In the form of all errors. Who is still sending would lose it if the connection were closed at once."""
        body = b"%b\n" % json.dumps({"error": "bad-request", "detail": msg}, separators=(",", ":")).encode()
        self.transport.write(BAD_REQUEST % (len(body), body))
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _feed(self, data: bytes) -> None:
        """Who offers to speak another protocol is answered in this one; the parser would skip the request's body."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self._feed(head + data[upgrade.args[0] :])

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("a node is no proxy")
        lines = [b"%b %b HTTP/1.1" % (method, self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_headers_complete(self) -> None:
        """What is raised here is answered with 400, and the connection is closed."""
        self._idle_bytes = 0
        if self.parser.should_upgrade():
            return  # it begins again
        if self._may_be_quick():
            self._held = b""
        else:
            self._begin()

    def _may_be_quick(self) -> bool:
        parser = self.parser
        return (
            self._front is not None
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not _UNUSUAL.match(self.url)
            and b"transfer-encoding" not in dict(self.headers)
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    def _begin(self) -> None:
        self._held = None
        if self._quick is None or self._quick.response_complete:  # else its clock goes on
            self._quick = None
            self._unset_keepalive_if_required()
        if len(self.pipeline) >= MOST_BEHIND:
            raise ValueError("too many requests at once")
        self.scope["headers"] = [*self.headers]  # what comes behind a body is none of them
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer has no body to wait for
            self.cycle.transport = cast(asyncio.Transport, _OnePacket(self.transport))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._held is None or not self._begin_quick(self._held):
            self._begin_held()
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    # -- quick requests

    def _begin_held(self) -> None:
        """It is no quick one."""
        body = self._held
        if body is not None:
            self._begin()
            super().on_body(body)

    def _begin_quick(self, body: bytes) -> bool:
        """False: nothing was done."""
        path, _, query = self.url.partition(b"?")
        if self._front is None or len(body) > SMALL:
            return False
        scope: Scope = {**self.scope, "method": "POST", "path": path.decode(), "query_string": query}
        question = self._front.question(scope, body)
        if question is None:
            return False
        self._held = None
        quick = self._quick = Quick(self, self._descriptor, scope["path"], question.answer)
        self.cycle = cast(RequestResponseCycle, quick)
        self._front.submit(question.event, quick.done)
        return True

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def later(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(call)

    def send(self, data: bytes, *, then_close: bool) -> None:
        self.transport.write(data)
        if then_close:
            self.transport.close()
        self._quick = None
        self.on_response_complete()

    def sent(self) -> None:
        self.server_state.total_requests += 1

    def timeout_keep_alive_handler(self) -> None:
        """The clock goes on during a quick request."""
        quick = self._quick
        if quick is not None:
            quick.meet()
            left = quick.since + (IDLE_SECONDS if quick.response_complete else GIVE_UP_SECONDS) - time.monotonic()
            if left > 0:
                self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
                if not self.pipeline:
                    quick.leave()
                return
            if not quick.response_complete:
                quick.done("unknown", b"")
                return
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._quick is not None:
            self._quick.meet()
            self._quick.disconnected = True
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._quick is not None:
            self._quick.meet()
        super().shutdown()


class _OnePacket:
    """What a response needs of a transport. Its head waits for its body: else they are two packets, and whoever asked
    is woken twice."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.close, self.is_closing = transport.close, transport.is_closing
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None and data != GO_ON:
            self._head = data
        else:
            self._transport.write((self._head or b"") + data)
            self._head = b""


_full = Response(
    b'{"error":"busy","detail":"this node has too many HTTP connections"}\n',
    503,
    {"Retry-After": "1", "Connection": "close"},
    "application/json",
)
