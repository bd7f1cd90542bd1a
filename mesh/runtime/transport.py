"""ZeroMQ as a datagram service that loses: one ROUTER bound for receiving, one DEALER a peer for sending.

Why two: a ROUTER drops silently what it cannot route or queue, a DEALER says `Again`. What is lost (Again, a reset, a
peer that is not there) is repeated by links or by who asked; this file promises order between two processes and
no more.

Stale queues: a DEALER queues for a peer that is not connected yet, also over a reconnect (IMMEDIATE stays off). So the
first Hello is not lost to a connection that takes a millisecond, and a reset costs what TCP held and not the queue. In
exchange a new process on an old port may get what was meant for the dead one: every envelope names its target.
The queue is bounded by the credits of links, and by the high-water mark for all that has no credits.

Routing ids are the node's id and a number per DEALER, with HANDOVER: a reconnecting DEALER takes its place at once,
and two DEALERs of one node that reach the same ROUTER by two names do not throw each other out.

Threads: every method but `wait` and `wake` is called under one lock, the caller's. `wait` looks at descriptors only
and never at a socket. These are edge-triggered: one is readable when there is something *new*; what a bounded `receive`
left behind shows on none, nor does what came before the first look. So `receive` ends with a look at EVENTS, and leaves
a mark for `wait` when there is more; after `wait` one calls `receive`, which looks only where `wait` saw something new:
a look costs system calls, and a message that somebody waits for comes alone. A DEALER's descriptor is never polled:
nobody sends to it, and its queue is emptied by libzmq's own thread; what that thread tells it (room again) is read by
the next send.

For the same reason there are plain numbers where pyzmq has enumerations, which are slow to combine.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections import Counter
from typing import cast

import zmq

from mesh.core.codec import MAX_HEADER, MAX_MESSAGE, MAX_PAYLOAD
from mesh.core.messages import NodeId
from mesh.runtime.handshakes import Handshakes
from mesh.runtime.polling import Polling

OLDEST_LIBZMQ = (4, 3, 5)
PART_LIMITS = (MAX_HEADER, MAX_MESSAGE, MAX_PAYLOAD)
HIGH_WATER_MARK = 20_000  # messages a peer; links' credits are spent long before, this is for datagrams to the dead
READ_AHEAD = 1_000  # messages a peer that libzmq holds for us unread; then TCP slows the peer down
SKIPPED_AT_ONCE = 10_000  # parts of a message that is dropped, ~10 ms; part counts bypass libzmq's limits
MAX_ENDPOINTS = 1_000  # DEALERs; gossip may name any number of addresses
RECONNECT_MS, RECONNECT_MAX_MS = 20, 100  # below a probe's verdict: who has just started must not be suspected for it
HEARTBEAT_MS, SILENCE_MS = 5_000, 20_000  # ZMTP's own, from libzmq's thread: ends half-open connections
UNACKNOWLEDGED_MS = 5_000  # then TCP gives a connection up: it would repeat ever more rarely, and outlast a healed cut

_NOBLOCK, _MORE_FOLLOWS = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN, _POLLOUT = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.POLLOUT)
_MESSAGES, _KNOCKS = 1, 2  # where there is something new
_EVERYWHERE = _MESSAGES | _KNOCKS

_ADDRESS = re.compile(r"tcp://(\[[\w:.%]+\]|[^\s;/:\[\]]+):(\*|0|[1-9]\d{0,4})", re.ASCII)


class TransportError(Exception):
    """The transport cannot start: one sentence for the operator, naming the address."""


class Transport:
    """Sends to endpoints, receives from whoever connects. `rejected` counts what came in and could not be used."""

    def __init__(self, listen: str, node_id: NodeId, incarnation: bytes = b"") -> None:
        check_library(zmq.zmq_version_info(), zmq.has("curve"))
        _return_large_blocks()
        self.unsent = 0  # messages that found a full queue, or no valid endpoint
        self._rejected: Counter[str] = Counter()
        self._routing_id = node_id + incarnation
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._dealers_made = 0
        self._skipping = False  # the rest of a message is still to be dropped
        self._more = True  # there may be something that no descriptor shows: nobody has looked, or all was not taken
        self._seen = _EVERYWHERE  # where the next `receive` looks
        self._closed = False
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_ENDPOINTS + 16)
        try:
            self._router = self._bind(listen)
        except TransportError:
            self._context.destroy(linger=0)
            raise
        self.bound: str = str(self._router.getsockopt_string(zmq.LAST_ENDPOINT))
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._places = {
            int(self._router.getsockopt(zmq.FD)): _MESSAGES,
            self._handshakes.fd: _KNOCKS,
            self._wake_read: 0,
        }
        self._polling = Polling(self._places)

    @property
    def rejected(self) -> dict[str, int]:
        counts = dict(self._rejected)
        if self._handshakes.failed:
            counts["handshake"] = self._handshakes.failed
        return counts

    @property
    def disconnected(self) -> int:
        """How often a peer's connection to this node ended; a part over the size limit ends one as well."""
        return self._handshakes.disconnected

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, endpoint: str, parts: list[bytes]) -> bool:
        """False: it was not taken, and counts as lost."""
        dealer = self._dealers.get(endpoint) or self._connect(endpoint)
        if dealer is None:
            self.unsent += 1
            return False
        # reading EVENTS lets the socket hear of room that there is by now
        if _sent(dealer, parts) or (_events(dealer) & _POLLOUT and _sent(dealer, parts)):
            return True
        self.unsent += 1
        return False

    def forget(self, endpoint: str) -> None:
        """Close the connection and drop its queue."""
        dealer = self._dealers.pop(endpoint, None)
        if dealer is not None:
            dealer.close(linger=0)

    def _connect(self, endpoint: str) -> zmq.Socket[bytes] | None:
        if not _is_address(endpoint) or "*" in endpoint or endpoint.endswith(":0"):
            self._rejected["endpoint"] += 1
            return None
        if len(self._dealers) >= MAX_ENDPOINTS:
            self._rejected["endpoints"] += 1
            return None
        try:
            dealer = self._socket(zmq.DEALER, endpoint)
        except zmq.ZMQError:  # no descriptor is left in this process; what is lost is sent again
            return None
        self._dealers_made += 1
        dealer.routing_id = self._routing_id + self._dealers_made.to_bytes(4)
        dealer.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        dealer.setsockopt(zmq.RCVHWM, 1)  # nobody has anything to say on this one
        dealer.setsockopt(zmq.MAXMSGSIZE, 1024)
        dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        dealer.setsockopt(zmq.CONNECT_TIMEOUT, 3_000)
        try:
            dealer.connect(endpoint)
        except zmq.ZMQError:
            dealer.close(linger=0)
            self._rejected["endpoint"] += 1
            return None
        self._dealers[endpoint] = dealer
        return dealer

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, max_messages: int) -> list[list[bytes]]:
        """What has come: messages of two or three parts, each within its limit."""
        messages: list[list[bytes]] = []
        seen, self._seen = self._seen, _EVERYWHERE
        if self._more:
            seen = _EVERYWHERE
        left = bool(seen & _MESSAGES) and self._has_input()
        more_knocked = bool(seen & _KNOCKS) and self._handshakes.look()
        skips = SKIPPED_AT_ONCE
        for _ in range(max_messages):
            if self._skipping:
                skips, left = self._skip(skips), self._has_input()
            if self._skipping or not left:
                break
            message = self._read()
            left = self._has_input()
            if message is not None:
                messages.append(message)
        self._more = more_knocked or self._skipping or left
        if self._more:
            self.wake()  # whoever waits already, too
        return messages

    def _has_input(self) -> bool:
        return bool(_events(self._router) & _POLLIN)

    def _read(self) -> list[bytes] | None:
        """One message that is there, or None if it was dropped."""
        part = self._router.recv(_NOBLOCK, False)  # the routing id says nothing: the envelope names its source
        parts: list[bytes] = []
        while part.more:
            if len(parts) == len(PART_LIMITS):
                self._drop("parts")
                return None
            part = self._router.recv(_NOBLOCK, False)
            if len(part) > PART_LIMITS[len(parts)]:
                self._drop("too-long")
                return None
            parts.append(part.bytes)
        if len(parts) < 2:
            self._drop("parts")
            return None
        return parts

    def _drop(self, reason: str) -> None:
        self._rejected[reason] += 1
        self._skipping = True

    def _skip(self, skips: int) -> int:
        """Go on to the end of a message that is dropped, if there is one; how many skips are left."""
        while self._skipping and skips:
            if self._router.getsockopt(zmq.RCVMORE):
                self._router.recv(_NOBLOCK, False)
                skips -= 1
            else:
                self._skipping = False
        return skips

    # -- waiting: without the lock ------------------------------------------------------------------------------------

    def wait(self, timeout_ms: int) -> None:
        """Until there may be something to receive, or `wake`, or the time is over."""
        woken = self._more
        if not woken:
            seen = 0
            for descriptor in self._polling.wait(timeout_ms):
                seen |= self._places[descriptor]
                woken = woken or descriptor == self._wake_read
            self._seen = seen
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 1 << 16)

    def wake(self) -> None:
        """Let `wait` return, now or the next time. From any thread or signal handler."""
        if not self._closed:
            with contextlib.suppress(BlockingIOError):  # full: it will wake
                os.write(self._wake_write, b".")

    def close(self) -> None:
        """Drop what is queued. No other thread may be in `wait`."""
        if not self._closed:
            self._closed = True
            self._context.destroy(linger=0)
            os.close(self._wake_read)
            os.close(self._wake_write)

    # -- sockets ------------------------------------------------------------------------------------------------------

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)  # lingering is not delivery
        made.setsockopt(zmq.IPV6, int("[" in address))
        made.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        made.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
        made.setsockopt(zmq.TCP_KEEPALIVE, 1)
        made.setsockopt(zmq.TCP_MAXRT, UNACKNOWLEDGED_MS)  # Linux: TCP_USER_TIMEOUT
        return made

    def _bind(self, listen: str) -> zmq.Socket[bytes]:
        if not _is_address(listen):
            raise TransportError(f"cannot listen on {listen!r}: an address is tcp://host:port")
        router = self._socket(zmq.ROUTER, listen)
        router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        router.setsockopt(zmq.RCVHWM, READ_AHEAD)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD)
        router.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
        self._handshakes = Handshakes(router)
        try:
            router.bind(listen)
        except zmq.ZMQError as error:
            raise TransportError(f"cannot listen on {listen}: {_reason(error)}") from None
        return router


def _is_address(text: str) -> bool:
    """libzmq takes more, some of it by mistake (port 99999), some of it dangerous in gossip (ipc:, a;b)."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and (match[2] == "*" or int(match[2]) < 65536)


def _events(socket: zmq.Socket[bytes]) -> int:
    return cast(int, socket.getsockopt(_EVENTS))


def _sent(dealer: zmq.Socket[bytes], parts: list[bytes]) -> bool:
    last = len(parts) - 1
    try:
        for number, part in enumerate(parts):
            dealer.send(part, _NOBLOCK if number == last else _MORE_FOLLOWS)
    except zmq.Again:  # at the first part, if at all
        return False
    return True


def _reason(error: zmq.ZMQError) -> str:
    known = {
        errno.EADDRINUSE: "another process listens there already",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.ENODEV: "this machine has no such address",
        errno.EACCES: "not permitted for this user",
    }
    return known.get(error.errno or 0, str(error))


def _return_large_blocks() -> None:
    """glibc learns to keep blocks as large as those it has seen freed: one 10 MB part, and tens of MB stay for good."""
    m_mmap_threshold = -3
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries
        ctypes.CDLL(None).mallopt(m_mmap_threshold, 1 << 20)


def check_library(version: tuple[int, int, int], has_curve: bool) -> None:
    """Raises `TransportError` if libzmq cannot do what is built on it."""
    if version < OLDEST_LIBZMQ:
        found, wanted = (".".join(map(str, each)) for each in (version, OLDEST_LIBZMQ))
        raise TransportError(f"libzmq {found} is too old, {wanted} is needed: pip install --upgrade pyzmq")
    if not has_curve:
        raise TransportError("this libzmq was built without CURVE: pip install --force-reinstall pyzmq")
