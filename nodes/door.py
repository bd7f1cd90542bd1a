"""The HTTP server in a thread of its own. Its socket is bound first: port 0 gets its number, a taken one a sentence."""

from __future__ import annotations

import errno
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from nodes.addresses import Address
from nodes.connection import IDLE_SECONDS, Connection
from nodes.mistakes import Failure

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


class Door:
    """Open from `start` to `stop`."""

    def __init__(self, app: ASGIApp, server: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http=Connection,
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
