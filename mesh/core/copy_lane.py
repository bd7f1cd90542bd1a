"""What one backup is sent, in one order: numbered cargo, a window of bytes, and how far all is acknowledged.

An acknowledgement says under which epoch the backup judged. It counts once that epoch is known here: if the backup
refused something, the table that made it do so is known by then.

Invariant numbers are without holes; `acked` never falls, and nothing counts as acknowledged under a table that is not
          known here.
Bounds    `window_bytes` on the way, and one pack.
"""

from __future__ import annotations

from collections import deque

from mesh.core.codec import Malformed, encode_with_values
from mesh.core.columns import slots_to_bytes
from mesh.core.events.planes import Transmit
from mesh.core.filling import FIRST_KEYS
from mesh.core.giving import REPLICATION
from mesh.core.messages import NodeId
from mesh.core.messages.states import LaneMark, OutputsKept, PacksFreed
from mesh.core.packs import Encoded, Pack, encoded


class CopyLane:
    """One (owner, backup)."""

    def __init__(self, node: NodeId, window_bytes: int) -> None:
        self.node = node
        self._window_bytes = window_bytes
        self.last_number = 0
        self.acked = 0
        self.bytes_in_flight = 0  # invariant: the sum over _in_flight
        self._in_flight: deque[tuple[int, int]] = deque()  # (number, bytes)
        self._judged: deque[tuple[int, int]] = deque()  # (number, epoch) that is not known here yet; both rise
        self.carried: dict[int, None] = {}  # slots of which it is sent what is applied
        self.needed: dict[int, None] = {}  # those of them that must not be committed without it
        self.keys_at_once = FIRST_KEYS  # of whoever joins
        self.leaving = False  # is something of it still on this node?

    def has_room(self) -> bool:
        return self.bytes_in_flight < self._window_bytes

    def may_fill(self) -> bool:
        """Whoever joins gets half of the window at most: what is applied goes on."""
        return 2 * self.bytes_in_flight < self._window_bytes

    def left(self) -> None:
        """All that was sent so far has left this node, or is about to."""
        self.leaving = False

    # -- out

    def pack(self, pack: Pack, epoch: int, part_bytes: int) -> tuple[list[Transmit], Encoded]:
        sent = encoded(pack, self.last_number + 1, epoch, part_bytes)
        return [self._sent(payload) for payload in sent.payloads], sent

    def mark(self, what: int, epoch: int, terms: dict[int, int]) -> Transmit:
        mark = LaneMark(self.last_number + 1, epoch, what, slots_to_bytes([*terms]), (*terms.values(),))
        return self._sent(encode_with_values(mark))

    def freed(self, maker: NodeId, packs: list[int], epoch: int) -> Transmit:
        return self._sent(encode_with_values(PacksFreed(self.last_number + 1, epoch, maker, tuple(packs))))

    def kept(self, slot: int, packs: list[tuple[NodeId, int]], epoch: int) -> Transmit:
        makers, numbers = tuple(maker for maker, _ in packs), tuple(pack for _, pack in packs)
        return self._sent(encode_with_values(OutputsKept(self.last_number + 1, epoch, slot, makers, numbers)))

    def _sent(self, payload: bytes) -> Transmit:
        self.last_number += 1
        self.leaving = True
        self._in_flight.append((self.last_number, len(payload)))
        self.bytes_in_flight += len(payload)
        return Transmit(self.node, REPLICATION, payload)

    # -- answers

    def taken(self, number: int, epoch: int, known: int) -> None:
        """The backup judged all up to `number`; `known` is this node's epoch. Raises Malformed."""
        if number > self.last_number:
            raise Malformed("packs-taken", f"{number} was never sent, the last is {self.last_number}")
        if number <= max(self.acked, self._judged[-1][0] if self._judged else 0):
            return  # it says nothing new
        while self._in_flight and self._in_flight[0][0] <= number:
            self.bytes_in_flight -= self._in_flight.popleft()[1]
        if self._judged and self._judged[-1][1] >= epoch:
            epoch = self._judged.pop()[1]
        self._judged.append((number, epoch))
        self.learn(known)

    def learn(self, known: int) -> None:
        while self._judged and self._judged[0][1] <= known:
            self.acked = max(self.acked, self._judged.popleft()[0])
