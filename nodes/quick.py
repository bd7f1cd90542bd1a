"""A request that comes whole, with a small body, of a kind that clients make one after the other: no task is made for
it, and its answer goes to the client from the thread that has it. For each hand-over between threads costs as much as
all that is done for such a request in one of them.

States    asked -> answered by another thread, the loop does not know -> over
          asked -> held (something else is happening on the connection) -> answered by the loop -> over
Threads   the connection is the loop's. Another thread may write to its descriptor under `_lock`, in `_plain` only: from
          when the loop has no more to say or to read of it, until it has. The loop calls `meet` before it does anything
          with the connection, also before it closes the descriptor, whose number may then be another connection's.
          What was written is known to the loop after `meet`; nobody wakes it for that.
Invariant one answer; whoever gives a second one is late.

For the server's protocol this stands in the place of its own cycle of request and response, under the same names.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mesh.core.events import Event
from nodes.answers import internal_error


@dataclass(frozen=True, slots=True)
class Question:
    """What the data plane is asked, and what becomes of its answer."""

    event: Callable[[int], Event]  # of a ticket
    answer: Callable[[str, bytes], Response]  # of (outcome, JSON text); from any thread


class Connection(Protocol):
    """What a quick request needs of the one that it came by."""

    def default_headers(self) -> list[tuple[bytes, bytes]]: ...

    def later(self, call: Callable[[], None]) -> None:
        """In the loop, if there still is one."""

    def send(self, data: bytes, *, then_close: bool) -> None:
        """In the loop: it is answered, and the next request has its turn."""

    def sent(self) -> None:
        """In the loop: it was answered."""


class _Nobody:
    """Waits for the rest of the body."""

    def set(self) -> None:
        pass


class Quick:
    """One request under way."""

    more_body = False
    response_started = False
    message_event = _Nobody()

    def __init__(self, connection: Connection, descriptor: int, path: str, answer: Callable[[str, bytes], Response]):
        self.response_complete = False
        self.keep_alive = True
        self.disconnected = False
        self.since = time.monotonic()  # when it was asked, then when it was answered
        self._connection = connection
        self._descriptor = descriptor
        self._path = path
        self._answer = answer
        self._lock = threading.Lock()
        self._answered = False
        self._plain = False
        self._written = False

    # -- in the loop

    def leave(self) -> None:
        """The loop has no more to do with it for now."""
        if self.keep_alive and not self.disconnected:
            with self._lock:
                self._plain = not self._answered

    def meet(self) -> None:
        """The loop has something to do with its connection; what was written is over."""
        with self._lock:
            self._plain = False
        if self._written and not self.response_complete:
            self.response_complete = True
            self._connection.sent()

    def _finish(self, response: Response) -> None:
        if not self.disconnected:
            self.response_complete = True
            self.since = time.monotonic()
            data = rendered(response, self._connection.default_headers(), keep_alive=self.keep_alive)
            self._connection.send(data, then_close=not self.keep_alive)

    def _finish_rest(self, rest: bytes) -> None:
        if not self.disconnected:
            self.response_complete = True
            self._connection.send(rest, then_close=not self.keep_alive)

    # -- in any thread

    def done(self, outcome: str, text: bytes) -> None:
        with self._lock:
            if self._answered:
                return
            self._answered = True
        try:
            response = self._answer(outcome, text)
        except Exception as error:
            response = internal_error(self._path, error)
        with self._lock:
            rest = self._write(response) if self._plain else None
        if rest is None:
            self._connection.later(lambda: self._finish(response))
        elif rest:
            self._connection.later(lambda: self._finish_rest(rest))

    def _write(self, response: Response) -> bytes:
        """Under the lock. What the system does not take at once is for the loop."""
        self._plain = False
        data = rendered(response, self._connection.default_headers(), keep_alive=True)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            try:
                taken = os.write(self._descriptor, data)
            except BlockingIOError:
                raise
            except OSError:  # the client has gone; the loop finds out by reading
                taken = len(data)
        self._written = taken == len(data)
        self.since = time.monotonic()
        return data[taken:]


def rendered(response: Response, default_headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
    """As the server does it."""
    parts = [STATUS_LINE[response.status_code]]
    for name, value in (*default_headers, *response.raw_headers):
        parts += name, b": ", value, b"\r\n"
    if not keep_alive:
        parts.append(b"connection: close\r\n")
    parts += b"\r\n", bytes(response.body)
    return b"".join(parts)
