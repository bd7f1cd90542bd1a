"""A node: passes what one plane says on to the other, and puts messages into envelopes. No protocol of its own.

The control plane must always be quick and the data plane runs the application's code, so they may be driven by two
threads: the control side (`received`, `handle_control`, `absorb`) under one lock, the data plane by whoever takes
events from `inbox`. What the data plane has for other nodes comes back through `absorb`. The simulator calls the same
methods from one thread, with windows and batches so small that they fill.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

from mesh.app.plan import Plan
from mesh.core import codec
from mesh.core.control import ControlPlane, Identity
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Envelope, Event, Millis, Post, Received, Rejected
from mesh.core.events.planes import (
    Consumed,
    Delivered,
    Fenced,
    HandedOver,
    MemberChanged,
    SlotsInstalled,
    SlotsRooted,
    StartLeaving,
    TableAgreed,
    Transmit,
)
from mesh.core.membership.tuning import Tuning
from mesh.core.messages.members import Hello, Refused, Welcome
from mesh.core.packing import BATCH_RECORDS, WINDOW_BYTES
from mesh.core.storing import Store

HEADERS_KEPT = 1 << 10

_AT_THE_DOOR = (Hello, Welcome, Refused)
_FOR_CONTROL = (Transmit, Consumed, SlotsInstalled, SlotsRooted, HandedOver)

K = TypeVar("K")
V = TypeVar("V")


class Node:
    """Both planes of one node."""

    def __init__(
        self,
        identity: Identity,
        plan: Plan,
        tuning: Tuning,
        random: Random,
        stored: Mapping[str, bytes],
        window_bytes: int = WINDOW_BYTES,
        batch_records: int = BATCH_RECORDS,
        store: Store | None = None,
    ) -> None:
        """`store`: a worker's of a durable cluster."""
        self.id = identity.me.node
        self.identity = identity
        self.control = ControlPlane(identity, tuning, random, stored, window_bytes)
        keeps = identity.copies > 1 or identity.durable
        self.data = DataPlane(
            self.id, plan, identity.slots, identity.seed, window_bytes, batch_records, keeps=keeps, store=store
        )
        self.inbox: deque[Event | BaseException] = deque()  # for the data plane; bounded by the links' windows
        self._headers_in: dict[bytes, codec.Header] = {}  # those that were understood; few, as each peer says one
        self._headers_out: dict[tuple[bytes, bytes], bytes] = {}  # by founding and target

    # -- the control side

    def received(self, parts: Sequence[bytes], now: Millis) -> list[Effect]:
        """An envelope came; whatever is in it, this neither raises nor changes anything that was not meant."""
        if not 2 <= len(parts) <= 3:
            return [Rejected("parts", f"{len(parts)} parts")]
        try:
            header = self._headers_in.get(parts[0]) or self._header(parts[0])
            message = codec.decode(parts[1])
        except codec.Malformed as error:
            return [Rejected(error.reason, error.detail)]
        if header.target not in (b"", self.id):
            return [Rejected("stale-target", "meant for a process that was here before, or never was")]
        if header.source == self.id:
            return []  # an address that turned out to be our own
        rejected = self._foreign(header, isinstance(message, _AT_THE_DOOR))
        if rejected is not None:
            return [rejected]
        payload = parts[2] if len(parts) > 2 else b""
        return self.handle_control(Received(header.source, message, payload), now)

    def _header(self, part: bytes) -> codec.Header:
        header = codec.decode_header(part)
        _remember(self._headers_in, part, header)
        return header

    def _foreign(self, header: codec.Header, at_the_door: bool) -> Rejected | None:
        """Admission tells a node of another cluster, or of another founding of this name, so; nobody else listens."""
        if header.cluster != self.identity.cluster and not at_the_door:
            return Rejected("cluster", f"from cluster {header.cluster!r:.64}")
        ours = self._cluster_id()
        if header.cluster_id and ours and header.cluster_id != ours and not at_the_door:
            return Rejected("cluster-id", "from another founding of a cluster of this name")
        return None

    def _cluster_id(self) -> bytes:
        table = self.control.table
        return b"" if table is None else table.cluster_id

    def handle_control(self, event: Event, now: Millis) -> list[Effect]:
        """Effects for the driver; what is for the data plane is in `inbox`."""
        return self._outward(self.control.handle(event, now))

    def absorb(self, effects: list[Effect], now: Millis) -> list[Effect]:
        """What the data plane had to say: to the links what is theirs, to the driver the rest."""
        outward: list[Effect] = []
        for effect in effects:
            if isinstance(effect, _FOR_CONTROL):
                outward += self.handle_control(effect, now)
            else:
                outward.append(effect)
        return outward

    def _outward(self, effects: list[Effect]) -> list[Effect]:
        outward: list[Effect] = []
        for effect in effects:
            match effect:
                case Post():
                    outward.append(self._envelope(effect))
                case Delivered() | TableAgreed() | StartLeaving():
                    self.inbox.append(effect)
                case Fenced(fenced):
                    self.data.fence(fenced)
                    self.inbox.append(effect)
                case MemberChanged():
                    self.inbox.append(effect)
                    outward.append(effect)
                case _:
                    outward.append(effect)
        return outward

    def _envelope(self, post: Post) -> Envelope:
        name = self._cluster_id(), post.target
        header = self._headers_out.get(name)
        if header is None:
            header = codec.encode_header(codec.Header(self.identity.cluster, name[0], self.id, post.target))
            _remember(self._headers_out, name, header)
        parts = [header, codec.encode(post.message)]
        if post.payload:
            parts.append(post.payload)
        return Envelope(post.endpoint, parts)


def _remember(kept: dict[K, V], name: K, value: V) -> None:
    """What anybody may send must not fill the memory."""
    if len(kept) >= HEADERS_KEPT:
        kept.clear()
    kept[name] = value
