"""The HTTP server in a thread of its own. Its socket is bound first: port 0 gets its number, a taken one a sentence.

A connection is a file descriptor, and the mesh needs some as well. So connections past a limit are told to come back,
and one that says nothing is closed. The server's own limit would refuse everybody while there are too many.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from nodes.addresses import Address
from nodes.mistakes import Failure

_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
CONNECTIONS = 2048 if _FILES == resource.RLIM_INFINITY else min(2048, _FILES // 2)  # the rest is the mesh's and sinks'
IDLE_SECONDS = 5  # for a first request as well
STOP_SECONDS = 2  # for answers under way at the end; then connections are cut


def bind(address: Address) -> socket.socket:
    """Raises `Failure`."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    host = "" if address.host == "*" else address.host
    server = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: else asyncio sets no TCP_NODELAY
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, address.port))
        server.listen(128)
    except OSError as error:
        server.close()
        reason = (
            "another process listens there already" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        )
        raise Failure(2, f"the HTTP door cannot listen on {address}: {reason}") from None
    return server


def bound_address(server: socket.socket, asked: Address) -> Address:
    """The port that port 0 became."""
    return Address(asked.host, int(server.getsockname()[1]))


class _Connection(H11Protocol):
    """As uvicorn's, within our limits."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)
        if len(self.connections) > CONNECTIONS:
            self.app = _full


_full = Response(
    b'{"error":"busy","detail":"this node has too many HTTP connections"}\n',
    503,
    {"Retry-After": "1", "Connection": "close"},
    "application/json",
)


class Door:
    """Open from `start` to `stop`."""

    def __init__(self, app: Starlette, server: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http=_Connection,
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._socket = server
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Connections made before the thread is up wait in the socket's backlog."""
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS + 2)
        self._socket.close()
