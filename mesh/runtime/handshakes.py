"""Who knocked at the ROUTER and never became a peer: HTTP clients, scanners, noise.

libzmq drops such connections by itself and tells nobody but a monitor. Its events name the connection (a file
descriptor) when it is accepted and when it ends, but not when its handshake succeeds; and what is not ZMTP at all may
pass for an ancient version of it, whose failures have no event of their own. So what is counted is connections that
ended without a success: of those that are open and undecided, as many as there were successes are peers.

The monitor's queue has no limit, for at a limit libzmq's thread would wait for the reader, and all connections with it.
Whoever receives reads it as well: 400 bytes a knock until then.
"""

from __future__ import annotations

import struct

import zmq

EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
EVENTS_AT_ONCE = 1000


class Handshakes:
    """Reads the monitor of a socket; `failed` and `disconnected` only grow."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self.failed = 0
        self.disconnected = 0  # peers that were connected once
        address = "inproc://handshakes"
        watched.monitor(address, EVENTS)
        self._monitor = watched.context.socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._monitor.setsockopt(zmq.RCVHWM, 0)
        self._monitor.connect(address)
        self._undecided: dict[int, None] = {}  # descriptors
        self._successes = 0  # of the undecided; fewer than these

    @property
    def fd(self) -> int:
        return int(self._monitor.getsockopt(zmq.FD))

    def look(self) -> bool:
        """True: there is more to read."""
        for _ in range(EVENTS_AT_ONCE):
            if not self._readable():
                return False
            event, descriptor = struct.unpack("=Hi", self._monitor.recv_multipart(zmq.NOBLOCK)[0])
            self._count(event, descriptor)
        return self._readable()

    def _readable(self) -> bool:
        return bool(int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _count(self, event: int, descriptor: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._undecided[descriptor] = None
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._successes += 1
        elif descriptor not in self._undecided:
            self.disconnected += 1
        else:
            del self._undecided[descriptor]
            if self._successes > len(self._undecided):  # they cannot all be of the others
                self._successes -= 1
                self.disconnected += 1
            else:
                self.failed += 1
        if self._successes >= len(self._undecided):
            self._undecided.clear()
            self._successes = 0
