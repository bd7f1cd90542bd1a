"""Links: FIFO, hole-free channels between this node and its peers, on a network that may lose, double or overtake.

Why: a TCP reset loses the middle of a ZeroMQ stream and the stream then goes on. So frames are numbered per (peer,
channel) from 1, acknowledged cumulatively, and repeated from the first hole on (go-back-N). Nothing that arrives past a
hole is kept, so the receiver holds only what it has delivered and its owner has not yet consumed.

Credit is in bytes and cumulative: the receiver names a limit = consumed + window, and a frame may be sent while the
bytes sent before it are below the limit. A frame larger than the window therefore still passes, alone. The first limit
is one byte, so one frame, so that nobody has to know the peer's window beforehand.

Loss is found by the receiver (a later number, or a probe that names one) and told with `gap`; a sender never repeats
megabytes on a guess. What is silent is probed: a sender that waits for an ack or for credit names its highest number
after 200 ms, backing off to 2 s, and the receiver tells what it has and how far the sender may go. So a lost ack or
a lost limit delays, and never deadlocks.

Priority: each channel has numbers and credit of its own, so none waits for another (two owners full of input would
otherwise deadlock); what is due at the same time goes out with channel 0 first, then the deepest stage. Channel 0 has
credit as well; its cargo is consumed at delivery.

A peer is a NodeId, and a process that has lost its numbers is a new NodeId: numbers never start again under one id.
Hence `PeerGone` only for an id that can never return. A peer thought dead may return, so its link waits for it.

Events: Transmit, Received(Frame | LinkAck | LinkProbe), Consumed, PeerGone, Woke. The node passes on what members send
and nothing else; a made-up sender would cost memory here. Effects: Send, Delivered, Rejected.

Invariants: what waits in here is what callers hand over: their windows bound it, not this file. Of it, at most a window
and one frame is retained for a repeat; at the receiver at most a window and one frame is unconsumed. Frames wait
only when the credit is used up. `acked <= sent`, limits and counts never fall.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mesh.core.events import Effect, Event, Millis, Received, Rejected, Send, Woke
from mesh.core.events.planes import Consumed, Delivered, PeerGone, Transmit
from mesh.core.messages import Message, NodeId
from mesh.core.messages.links import Frame, LinkAck, LinkProbe

CHANNELS = 17  # 0 is control, 1 .. 14 are the levels of stages, 15 slots that move, 16 what came by HTTP
FIRST_LIMIT = 1  # bytes of credit before the receiver has said anything: the first frame passes
RETRY: Millis = 200  # silence before a probe; far above a round trip with a delayed ack
RETRY_MAX: Millis = 2000  # what a probe's back-off ends at: a handful of bytes every two seconds
ACK_DELAY: Millis = 50  # several frames share one ack; far below RETRY
ACK_BYTES = 256 << 10  # but the sender's retained bytes are freed in steps of this
_KINDS = (Frame, LinkAck, LinkProbe)
GONE_KEPT = 4096  # ids of the gone, against late traffic bringing their links back to life


@dataclass(slots=True)
class Outgoing:
    """The sender's side of one channel."""

    acked: int = 0  # all frames up to this number have arrived
    acked_bytes: int = 0
    retained: deque[bytes] = field(default_factory=deque)  # sent, from number acked + 1 on
    retained_bytes: int = 0
    waiting: deque[bytes] = field(default_factory=deque)  # for credit
    waiting_bytes: int = 0
    limit: int = FIRST_LIMIT  # never falls
    probe_at: Millis | None = None  # set as long as something is retained or waits
    patience: Millis = RETRY
    went_back_at: Millis | None = None  # since the last progress

    @property
    def highest(self) -> int:
        return self.acked + len(self.retained)


@dataclass(slots=True)
class Incoming:
    """The receiver's side of one channel."""

    received: int = 0  # all frames up to this number have been delivered
    received_bytes: int = 0
    consumed: int = 0  # bytes; <= received_bytes
    limit: int = FIRST_LIMIT  # the highest that was told; never falls
    told_bytes: int = 0  # received_bytes at the last ack
    ack_at: Millis | None = None
    gap_told: tuple[int, Millis] | None = None  # `received` and the time of the last complaint


class Links:
    """The links to all peers."""

    def __init__(self, window: int) -> None:
        assert window > 0
        self._window = window
        self._outgoing: dict[tuple[NodeId, int], Outgoing] = {}
        self._incoming: dict[tuple[NodeId, int], Incoming] = {}
        self._gone: dict[NodeId, None] = {}
        self._earliest: Millis | None = None  # no timer is due before it; it may be early, and Woke corrects it

    def backlog(self, to: NodeId) -> int:
        """Bytes that were handed over for this peer and that it has not acknowledged."""
        links = [self._outgoing.get((to, channel)) for channel in range(CHANNELS)]
        return sum(link.waiting_bytes + link.retained_bytes for link in links if link is not None)

    def next_deadline(self) -> Millis | None:
        return self._earliest

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        match event:
            case Received(sender, message, payload):
                return self._received(sender, message, payload, now)
            case Transmit(to, channel, payload):
                return self._transmit(to, channel, payload, now)
            case Consumed(sender, channel, size):
                return self._consumed(sender, channel, size, now)
            case Woke():
                return self._woke(now)
            case PeerGone(peer):
                return self._forget(peer)
        return []

    # -- sending ------------------------------------------------------------------------------------------------------

    def _transmit(self, to: NodeId, channel: int, payload: bytes, now: Millis) -> list[Effect]:
        assert 0 <= channel < CHANNELS, channel
        assert payload, "an empty payload would be sent without credit"
        if to in self._gone:
            return []  # nobody is left to be told; its records are routed again by the epoch without it
        link = self._outgoing.get((to, channel))
        if link is None:
            link = self._outgoing[to, channel] = Outgoing()
        link.waiting.append(payload)
        link.waiting_bytes += len(payload)
        return self._pump(to, channel, link, now)

    def _pump(self, to: NodeId, channel: int, link: Outgoing, now: Millis) -> list[Effect]:
        """Send what the credit allows, and watch over it."""
        effects: list[Effect] = []
        while link.waiting and link.acked_bytes + link.retained_bytes < link.limit:
            payload = link.waiting.popleft()
            link.retained.append(payload)
            link.waiting_bytes -= len(payload)
            link.retained_bytes += len(payload)
            effects.append(Send(to, Frame(channel, link.highest), payload))
        if not link.retained and not link.waiting:
            link.probe_at = None
        elif link.probe_at is None:
            link.probe_at = now + link.patience
            self._alarm(link.probe_at)
        return effects

    def _acknowledged(self, sender: NodeId, ack: LinkAck, now: Millis) -> list[Effect]:
        link = self._outgoing.get((sender, ack.channel))
        if link is None or ack.received > link.highest:
            return [Rejected("link-ack", f"channel {ack.channel}: ack of frame {ack.received}, which was never sent")]
        arrived, credit = ack.received - link.acked, ack.limit - link.limit
        if arrived * credit < 0:  # later in one, earlier in the other
            return [Rejected("link-limit", f"channel {ack.channel}: limit {ack.limit} after {link.limit}")]
        if arrived < 0 or credit < 0:
            return []  # overtaken by a later ack
        if arrived or credit:
            self._progress(link, arrived, ack.limit)
        if ack.gap and link.retained and self._may_go_back(link, now):
            link.went_back_at, link.probe_at = now, None
            self._go_back(link)
        return self._pump(sender, ack.channel, link, now)

    def _progress(self, link: Outgoing, arrived: int, limit: int) -> None:
        for _ in range(arrived):
            size = len(link.retained.popleft())
            link.retained_bytes -= size
            link.acked_bytes += size
        link.acked += arrived
        link.limit = limit
        link.probe_at, link.patience = None, RETRY
        if arrived:
            link.went_back_at = None

    def _may_go_back(self, link: Outgoing, now: Millis) -> bool:
        """Once a hole; half the receiver's own pause, so that its next complaint always counts."""
        return link.went_back_at is None or now - link.went_back_at >= RETRY // 2

    def _go_back(self, link: Outgoing) -> None:
        """All that is retained waits again. It was within the limit, limits never fall: the next pump sends it all."""
        link.waiting.extendleft(reversed(link.retained))
        link.waiting_bytes += link.retained_bytes
        link.retained.clear()
        link.retained_bytes = 0

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _received(self, sender: NodeId, message: Message, payload: bytes, now: Millis) -> list[Effect]:
        if not isinstance(message, _KINDS):
            return []
        if message.channel >= CHANNELS:
            return [Rejected("link-channel", f"channel {message.channel} of {CHANNELS}")]
        if sender in self._gone:
            return [Rejected("link-gone", f"{type(message).__name__} of a node that is gone")]
        if isinstance(message, Frame):
            return self._framed(sender, message, payload, now)
        if isinstance(message, LinkAck):
            return self._acknowledged(sender, message, now)
        return self._probed(sender, message, now)

    def _framed(self, sender: NodeId, frame: Frame, payload: bytes, now: Millis) -> list[Effect]:
        if frame.number < 1 or not payload:
            return [Rejected("link-frame", f"channel {frame.channel}: frame {frame.number} of {len(payload)} bytes")]
        link = self._opened(sender, frame.channel)
        offset = frame.number - self._expected(link, frame.number)
        if offset > 0:
            return self._complain(sender, frame.channel, link, now)
        if offset < 0:
            self._ack_by(link, now + ACK_DELAY)  # a repeat: the ack was lost
            return []
        if link.received_bytes >= link.limit:
            return [Rejected("link-credit", f"channel {frame.channel}: a frame past the limit {link.limit}")]
        link.received = frame.number
        link.received_bytes += len(payload)
        effects: list[Effect] = [Delivered(sender, frame.channel, payload)]
        if link.received_bytes >= link.limit or link.received_bytes - link.told_bytes >= ACK_BYTES:
            effects.append(self._ack(sender, frame.channel, link))
        else:
            self._ack_by(link, now + ACK_DELAY)
        return effects

    def _expected(self, link: Incoming, _number: int) -> int:
        return link.received + 1

    def _probed(self, sender: NodeId, probe: LinkProbe, now: Millis) -> list[Effect]:
        if probe.highest < 1:
            return [Rejected("link-probe", f"channel {probe.channel}: a probe for nothing")]
        link = self._opened(sender, probe.channel)
        gap = probe.highest > link.received
        if gap:
            link.gap_told = link.received, now
        return [self._ack(sender, probe.channel, link, gap=gap)]

    def _complain(self, sender: NodeId, channel: int, link: Incoming, now: Millis) -> list[Effect]:
        """Once a hole, and again when the complaint or the repeat must have been lost."""
        if link.gap_told is not None and link.gap_told[0] == link.received and now - link.gap_told[1] < RETRY:
            return []
        link.gap_told = link.received, now
        return [self._ack(sender, channel, link, gap=True)]

    def _consumed(self, sender: NodeId, channel: int, size: int, now: Millis) -> list[Effect]:
        link = self._incoming.get((sender, channel))
        if link is None:
            return []  # gone meanwhile
        link.consumed += size
        assert link.consumed <= link.received_bytes, "more was consumed than was delivered"
        credit = link.consumed + self._window - link.limit
        if 4 * credit >= self._window:
            return [self._ack(sender, channel, link)]
        if credit > 0:
            self._ack_by(link, now + ACK_DELAY)
        return []

    def _opened(self, sender: NodeId, channel: int) -> Incoming:
        link = self._incoming.get((sender, channel))
        if link is None:
            link = self._incoming[sender, channel] = Incoming()
        return link

    def _ack(self, sender: NodeId, channel: int, link: Incoming, *, gap: bool = False) -> Effect:
        link.limit = max(link.limit, link.consumed + self._window)
        link.told_bytes = link.received_bytes
        link.ack_at = None
        return Send(sender, LinkAck(channel, link.received, link.limit, gap))

    # -- time and the end ---------------------------------------------------------------------------------------------

    def _ack_by(self, link: Incoming, at: Millis) -> None:
        if link.ack_at is None:
            link.ack_at = at
            self._alarm(at)

    def _alarm(self, at: Millis) -> None:
        if self._earliest is None or at < self._earliest:
            self._earliest = at

    def _woke(self, now: Millis) -> list[Effect]:
        if self._earliest is None or now < self._earliest:
            return []
        due: list[tuple[int, Effect]] = []
        for (sender, channel), incoming in self._incoming.items():
            if incoming.ack_at is not None and incoming.ack_at <= now:
                due.append((_priority(channel), self._ack(sender, channel, incoming)))
        for (to, channel), outgoing in self._outgoing.items():
            if outgoing.probe_at is not None and outgoing.probe_at <= now:
                outgoing.patience = min(2 * outgoing.patience, RETRY_MAX)
                outgoing.probe_at = now + outgoing.patience
                due.append((_priority(channel), Send(to, LinkProbe(channel, outgoing.highest))))
        timers = [link.ack_at for link in self._incoming.values()] + [link.probe_at for link in self._outgoing.values()]
        self._earliest = min((at for at in timers if at is not None), default=None)
        return [effect for _, effect in sorted(due, key=lambda item: item[0])]

    def _forget(self, peer: NodeId) -> list[Effect]:
        for channel in range(CHANNELS):
            self._outgoing.pop((peer, channel), None)
            self._incoming.pop((peer, channel), None)
        self._gone[peer] = None
        if len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        return []


def _priority(channel: int) -> int:
    """Control first, then later stages before earlier ones."""
    return 0 if channel == 0 else CHANNELS - channel
