"""A peer that says what it likes: to attack a node's mesh port with messages of our own grammar, or with anything."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from mesh.app.load import load_app
from mesh.app.plan import compile as compile_app
from mesh.core import codec
from mesh.core.messages import Message
from mesh.core.messages.members import ALIVE, Hello, Introduction, Member, Welcome
from nodes.local import free_ports

PATIENCE_MS = 20_000


class Stranger:
    """A socket that receives, one that sends to the victim, and an id of its own."""

    def __init__(self, victim: str, app: Path, *, cluster: str = "tested", name: str = "mallory") -> None:
        self.context = zmq.Context()
        self.node = os.urandom(16)
        self.cluster = cluster
        self.cluster_id = b""
        (port,) = free_ports(1)
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self.member = Member(self.node, name, self.endpoint, "", "worker", "", 1, ALIVE)
        graph = compile_app(load_app(str(app))).fingerprint
        self.introduction = Introduction(cluster, 1024, 0, graph, time.time_ns() // 1_000_000, False, 1, self.member)
        self.victim = victim
        self._router: zmq.Socket[bytes] | None = None
        self._dealer = self.context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
        self._dealer.setsockopt(zmq.LINGER, PATIENCE_MS)
        self._dealer.connect(victim)

    def listen(self) -> None:
        self._router = self.context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        self._router.bind(self.endpoint)

    def send_parts(self, *parts: bytes) -> None:
        self._dealer.send_multipart(parts)

    def send(self, message: Message, payload: bytes = b"", *, source: bytes = b"", target: bytes = b"") -> None:
        header = codec.Header(self.cluster, self.cluster_id, source or self.node, target)
        parts = [codec.encode_header(header), codec.encode(message)]
        self.send_parts(*parts, *([payload] if payload else []))

    def receive(self, kind: type[Message]) -> tuple[codec.Header, Message]:
        """The next message of a kind; others are passed over."""
        assert self._router is not None
        while True:
            _, header, message, *_ = self._router.recv_multipart()
            decoded = codec.decode(message)
            if isinstance(decoded, kind):
                return codec.decode_header(header), decoded

    def knock(self) -> tuple[codec.Header, Message]:
        """Say hello as a good peer would, until it is answered; the Welcome."""
        self.listen()
        self.send(Hello(self.introduction, self.victim))
        header, welcome = self.receive(Welcome)
        self.cluster_id = header.cluster_id
        return header, welcome

    def close(self) -> None:
        self.context.destroy(linger=PATIENCE_MS)


@contextmanager
def stranger(victim: str, app: Path, *, cluster: str = "tested", name: str = "mallory") -> Iterator[Stranger]:
    made = Stranger(victim, app, cluster=cluster, name=name)
    try:
        yield made
    finally:
        made.close()


def connect(endpoint: str) -> socket.socket:
    """A plain TCP connection to a mesh port."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)
