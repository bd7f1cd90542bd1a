"""I18: whatever the network does, a link delivers a hole-free prefix of what was sent, and all of it once it heals."""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mesh.core import link as link_module
from mesh.core.events import Effect, Event, Received, Rejected, Send, Woke
from mesh.core.events.planes import Consumed, Delivered, PeerGone, Transmit
from mesh.core.link import ACK_BYTES, ACK_DELAY, CHANNELS, RETRY, RETRY_MAX, Incoming, Links, Outgoing
from mesh.core.messages import Message
from mesh.core.messages.links import Frame, LinkAck, LinkProbe
from mesh.core.messages.members import Nack

A, B = b"A" * 16, b"B" * 16
WINDOW = 100
LARGEST = 250  # larger than the window: must pass alone


@dataclass
class End:
    """One node, its links, and what its application has seen."""

    links: Links
    sent: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    delivered: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    unconsumed: dict[int, deque[int]] = field(default_factory=lambda: defaultdict(deque))


class Network(RuleBasedStateMachine):
    """Two nodes, and a network that drops, doubles, overtakes and loses the middle."""

    kind: type[Links] = Links

    @initialize()
    def start(self) -> None:
        self.now = 0
        self.ends = {A: End(self.kind(WINDOW)), B: End(self.kind(WINDOW))}
        self.flying: list[tuple[bytes, Send]] = []

    def tell(self, node: bytes, event: Event) -> None:
        for effect in self.ends[node].links.handle(event, self.now):
            self.perform(node, effect)

    def perform(self, node: bytes, effect: Effect) -> None:
        end = self.ends[node]
        if isinstance(effect, Send):
            self.flying.append((node, effect))
        elif isinstance(effect, Delivered):
            end.delivered[effect.channel].append(effect.payload)
            end.unconsumed[effect.channel].append(len(effect.payload))
            if effect.channel == 0:  # control is worked off at delivery
                self.consume_next(node, 0)
        else:
            raise AssertionError(f"honest traffic caused {effect}")

    def arrive(self, sender: bytes, send: Send) -> None:
        self.tell(send.to, Received(sender, send.message, send.payload))

    def consume_next(self, node: bytes, channel: int) -> None:
        waiting = self.ends[node].unconsumed[channel]
        if waiting:
            self.tell(node, Consumed(other(node), channel, waiting.popleft()))

    @rule(node=st.sampled_from([A, B]), channel=st.sampled_from([0, 1, 3]), size=st.integers(1, LARGEST))
    def transmit(self, node: bytes, channel: int, size: int) -> None:
        sent = self.ends[node].sent[channel]
        payload = f"{channel}:{len(sent)}:".encode().ljust(size, b".")[: max(size, 8)]
        sent.append(payload)
        self.tell(node, Transmit(other(node), channel, payload))

    @rule(data=st.data(), count=st.integers(1, 8))
    def deliver_in_order(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.flying))):
            self.arrive(*self.flying.pop(0))

    @rule(data=st.data())
    def deliver_any(self, data: st.DataObject) -> None:
        if self.flying:
            self.arrive(*self.flying.pop(self.pick(data)))

    @rule(data=st.data())
    def double(self, data: st.DataObject) -> None:
        if self.flying:
            self.arrive(*self.flying[self.pick(data)])

    @rule(data=st.data())
    def lose_the_middle(self, data: st.DataObject) -> None:
        if self.flying:
            first = self.pick(data)
            del self.flying[first : first + data.draw(st.integers(1, 10))]

    @rule(node=st.sampled_from([A, B]), channel=st.sampled_from([1, 3]))
    def consume(self, node: bytes, channel: int) -> None:
        self.consume_next(node, channel)

    @rule(step=st.sampled_from([1, ACK_DELAY, 90, RETRY, RETRY_MAX]))
    def wait(self, step: int) -> None:
        self.now += step
        for node in (A, B):
            self.tell(node, Woke())
            deadline = self.ends[node].links.next_deadline()
            assert deadline is None or deadline > self.now

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, len(self.flying) - 1))

    @invariant()
    def delivered_is_a_prefix_of_sent(self) -> None:
        for node, end in self.ends.items():
            for channel, payloads in end.delivered.items():
                assert payloads == self.ends[other(node)].sent[channel][: len(payloads)]

    @invariant()
    def memory_is_bounded_by_the_window_and_one_frame(self) -> None:
        for end in self.ends.values():
            assert all(sum(sizes) < WINDOW + LARGEST for sizes in end.unconsumed.values())
            assert all(out.retained_bytes < WINDOW + LARGEST for out in end.links._outgoing.values())

    @invariant()
    def backlog_is_what_is_not_acknowledged(self) -> None:
        for node, end in self.ends.items():
            here = end.links._outgoing.values()
            counted = sum(len(payload) for out in here for payload in (*out.retained, *out.waiting))
            assert end.links.backlog(other(node)) == counted

    def teardown(self) -> None:
        if hasattr(self, "ends"):
            self.heal()

    def heal(self) -> None:
        """No more loss; applications work everything off: all that was sent arrives, and then there is silence."""
        for _ in range(2000):
            while self.flying:
                self.arrive(*self.flying.pop(0))
            for node, end in self.ends.items():
                for channel in (1, 3):
                    while end.unconsumed[channel]:
                        self.consume_next(node, channel)
            deadlines = [end.links.next_deadline() for end in self.ends.values()]
            if not self.flying and deadlines == [None, None]:
                break
            if not self.flying:
                self.now = max(self.now, min(at for at in deadlines if at is not None))
                self.tell(A, Woke())
                self.tell(B, Woke())
        for node, end in self.ends.items():
            got = {channel: items for channel, items in end.delivered.items() if items}
            assert got == {channel: items for channel, items in self.ends[other(node)].sent.items() if items}
            assert end.links.backlog(other(node)) == 0


def other(node: bytes) -> bytes:
    return B if node == A else A


def network_of(kind: type[Links]) -> type[Network]:
    return type(f"NetworkOf{kind.__name__}", (Network,), {"kind": kind})


def test_links_deliver_a_hole_free_prefix_and_all_of_it_after_healing() -> None:
    run_state_machine_as_test(network_of(Links), settings=settings(max_examples=120, stateful_step_count=60))


# -- deliberate mistakes, each found by the machine above -------------------------------------------------------------


class AcceptsGaps(Links):
    def _expected(self, link: Incoming, number: int) -> int:
        return max(link.received + 1, number)


class ForgetsDuplicates(Links):
    def _expected(self, link: Incoming, number: int) -> int:
        return min(link.received + 1, number)


class IgnoresCredit(Links):
    def _pump(self, to: bytes, channel: int, link: Outgoing, now: int) -> list[Effect]:
        link.limit = 1 << 40
        return super()._pump(to, channel, link, now)


class NeverProbes(Links):
    def _pump(self, to: bytes, channel: int, link: Outgoing, now: int) -> list[Effect]:
        effects = super()._pump(to, channel, link, now)
        link.probe_at = None
        return effects


class NeverGoesBack(Links):
    def _may_go_back(self, link: Outgoing, now: int) -> bool:
        return False


class ForgetsWhatItSent(Links):
    def _go_back(self, link: Outgoing) -> None:
        super()._go_back(link)
        if len(link.waiting) > 1:
            link.waiting_bytes -= len(link.waiting.popleft())


class CreditsTwice(Links):
    def _consumed(self, sender: bytes, channel: int, size: int, now: int) -> list[Effect]:
        self._incoming[sender, channel].received_bytes += size
        return super()._consumed(sender, channel, 2 * size, now)


class NeverRepeatsAComplaint(Links):
    def _probed(self, sender: bytes, probe: LinkProbe, now: int) -> list[Effect]:
        return [self._ack(sender, probe.channel, self._opened(sender, probe.channel))]


MUTANTS = [
    AcceptsGaps,
    ForgetsDuplicates,
    IgnoresCredit,
    NeverProbes,
    NeverGoesBack,
    ForgetsWhatItSent,
    CreditsTwice,
    NeverRepeatsAComplaint,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: type[Links]) -> None:
    hunt = settings(max_examples=300, stateful_step_count=60, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(network_of(mutant), settings=hunt)


# -- what the header promises, one by one -----------------------------------------------------------------------------


def sends(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def opened(window: int = WINDOW) -> Links:
    """A sender that has been given credit on channel 1 by one acknowledged frame of one byte."""
    links = Links(window)
    links.handle(Transmit(B, 1, b"."), 0)
    links.handle(Received(B, LinkAck(1, 1, 1 + window, False)), 0)
    return links


def test_the_first_frame_needs_no_credit_and_the_second_waits_for_it() -> None:
    links = Links(WINDOW)
    assert sends(links.handle(Transmit(B, 1, bytes(500)), 0)) == [Frame(1, 1)]
    assert sends(links.handle(Transmit(B, 1, b"x"), 0)) == []
    assert links.backlog(B) == 501
    assert sends(links.handle(Received(B, LinkAck(1, 1, 500, False)), 1)) == []
    assert sends(links.handle(Received(B, LinkAck(1, 1, 501, False)), 2)) == [Frame(1, 2)]


def test_payloads_are_passed_on_and_not_copied() -> None:
    payload = bytes(50)
    sending, receiving = Links(WINDOW), Links(WINDOW)
    (send,) = sending.handle(Transmit(B, 1, payload), 0)
    assert isinstance(send, Send)
    assert send.payload is payload
    delivered = receiving.handle(Received(A, send.message, send.payload), 0)[0]
    assert isinstance(delivered, Delivered)
    assert delivered.payload is payload


def test_several_frames_share_one_ack() -> None:
    links = Links(1000)
    assert sends(links.handle(Received(A, Frame(1, 1), b"x"), 0)) == [LinkAck(1, 1, 1000, False)]  # all credit was used
    for number in (2, 3, 4):
        assert sends(links.handle(Received(A, Frame(1, number), b"x"), 5)) == []
    assert links.next_deadline() == 5 + ACK_DELAY
    assert sends(links.handle(Woke(), 5 + ACK_DELAY)) == [LinkAck(1, 4, 1000, False)]
    assert links.next_deadline() is None


def test_many_bytes_are_acknowledged_at_once() -> None:
    links = Links(8 * ACK_BYTES)
    links.handle(Received(A, Frame(1, 1), b"x"), 0)
    assert sends(links.handle(Received(A, Frame(1, 2), bytes(ACK_BYTES - 1)), 0)) == []
    assert sends(links.handle(Received(A, Frame(1, 3), b"x"), 0)) == [LinkAck(1, 3, 8 * ACK_BYTES, False)]


def test_a_quarter_of_new_credit_is_told_at_once_and_less_within_the_delay() -> None:
    links = Links(WINDOW)
    links.handle(Received(A, Frame(1, 1), bytes(90)), 0)
    assert sends(links.handle(Consumed(A, 1, 10), 1)) == []
    assert sends(links.handle(Woke(), 1 + ACK_DELAY)) == [LinkAck(1, 1, 110, False)]
    assert sends(links.handle(Consumed(A, 1, 25), 20)) == [LinkAck(1, 1, 135, False)]


def test_a_hole_is_complained_about_once_and_again_after_a_while() -> None:
    links = Links(WINDOW)
    links.handle(Received(A, Frame(1, 1), b"x"), 0)
    complaint = [LinkAck(1, 1, WINDOW, True)]
    assert sends(links.handle(Received(A, Frame(1, 3), b"x"), 0)) == complaint
    assert sends(links.handle(Received(A, Frame(1, 4), b"x"), 1)) == []
    assert sends(links.handle(Received(A, Frame(1, 5), b"x"), RETRY)) == complaint


def test_a_complaint_repeats_all_that_followed_once() -> None:
    links = opened()
    for _ in range(3):
        links.handle(Transmit(B, 1, b"x"), 1)
    gap = Received(B, LinkAck(1, 2, 1 + WINDOW, True))
    assert sends(links.handle(gap, 5)) == [Frame(1, 3), Frame(1, 4)]
    assert sends(links.handle(gap, 6)) == []
    assert sends(links.handle(gap, 5 + RETRY)) == [Frame(1, 3), Frame(1, 4)]


def test_silence_is_probed_with_back_off_and_nothing_is_repeated_on_a_guess() -> None:
    links = opened()
    links.handle(Transmit(B, 1, b"x"), 0)
    times = []
    for _ in range(6):
        now = links.next_deadline()
        assert now is not None
        assert sends(links.handle(Woke(), now)) == [LinkProbe(1, 2)]
        times.append(now)
    assert times == [200, 600, 1400, 3000, 5000, 7000]


def test_a_sender_without_credit_probes_and_is_told_the_limit_again() -> None:
    sending, receiving = Links(WINDOW), Links(WINDOW)
    receiving.handle(Received(A, Frame(1, 1), bytes(120)), 0)
    sending.handle(Transmit(B, 1, bytes(120)), 0)
    sending.handle(Received(B, LinkAck(1, 1, WINDOW, False)), 0)
    assert sends(sending.handle(Transmit(B, 1, b"x"), 0)) == []
    receiving.handle(Consumed(A, 1, 120), 1)  # and what it tells is lost
    (probe,) = sends(sending.handle(Woke(), RETRY))
    (ack,) = sends(receiving.handle(Received(A, probe), RETRY))
    assert ack == LinkAck(1, 1, 220, False)
    assert sends(sending.handle(Received(B, ack), RETRY)) == [Frame(1, 2)]


def test_a_channel_without_credit_holds_up_no_other() -> None:
    links = Links(WINDOW)
    for channel in (1, 2):
        links.handle(Transmit(B, channel, b"x"), 0)
    assert sends(links.handle(Transmit(B, 1, b"x"), 0)) == []
    assert sends(links.handle(Transmit(B, 0, b"x"), 0)) == [Frame(0, 1)]
    assert sends(links.handle(Transmit(B, 3, b"x"), 0)) == [Frame(3, 1)]


def test_what_is_due_together_goes_out_control_first_then_the_deepest_stage() -> None:
    links = Links(WINDOW)
    for channel in (1, 0, 3, 2):
        links.handle(Transmit(B, channel, b"x"), 0)
    assert [message.channel for message in sends(links.handle(Woke(), RETRY)) if isinstance(message, LinkProbe)] == [
        0,
        3,
        2,
        1,
    ]


# -- bad peers --------------------------------------------------------------------------------------------------------


def busy() -> Links:
    links = opened()
    links.handle(Transmit(B, 1, bytes(30)), 0)
    for number, size in ((1, 60), (2, 60)):
        links.handle(Received(B, Frame(2, number), bytes(size)), 0)
    return links


@pytest.mark.parametrize(
    ("message", "payload", "reason"),
    [
        (Frame(CHANNELS, 1), b"x", "link-channel"),
        (LinkAck(CHANNELS, 0, 0, False), b"", "link-channel"),
        (LinkProbe(2**63 - 1, 1), b"", "link-channel"),
        (Frame(2, 0), b"x", "link-frame"),
        (Frame(2, 3), b"", "link-frame"),
        (Frame(2, 3), b"x", "link-credit"),
        (LinkProbe(2, 0), b"", "link-probe"),
        (LinkAck(1, 3, 1000, False), b"", "link-ack"),
        (LinkAck(1, 2**63 - 1, 1000, True), b"", "link-ack"),
        (LinkAck(7, 0, 1000, False), b"", "link-ack"),
        (LinkAck(1, 2, 50, False), b"", "link-limit"),
        (LinkAck(1, 0, 1000, False), b"", "link-limit"),
    ],
)
def test_what_no_honest_peer_sends_is_rejected_and_changes_nothing(
    message: Message, payload: bytes, reason: str
) -> None:
    links = busy()
    before = copy.deepcopy(state_of(links))
    effects = links.handle(Received(B, message, payload), 7)
    assert [effect.reason for effect in effects if isinstance(effect, Rejected)] == [reason]
    assert len(effects) == 1
    assert state_of(links) == before


@pytest.mark.parametrize("ack", [LinkAck(1, 0, 1, False), LinkAck(1, 0, 1, True), LinkAck(1, 1, 60, False)])
def test_an_ack_that_was_overtaken_changes_nothing(ack: LinkAck) -> None:
    links = busy()
    before = copy.deepcopy(state_of(links))
    assert links.handle(Received(B, ack), 7) == []
    assert state_of(links) == before


def state_of(links: Links) -> dict[str, Any]:
    return vars(links)


def test_the_forgotten_leave_nothing_behind_and_stay_forgotten() -> None:
    links = busy()
    links.handle(PeerGone(B), 1)
    assert links.backlog(B) == 0
    assert links.handle(Transmit(B, 1, b"x"), 2) == []
    assert links.handle(Consumed(B, 2, 60), 2) == []
    for message in (Frame(1, 9), LinkAck(1, 1, 300, False), LinkProbe(1, 9)):
        (effect,) = links.handle(Received(B, message, b"x"), 2)
        assert isinstance(effect, Rejected)
        assert effect.reason == "link-gone"
    links.handle(Woke(), RETRY)
    assert links.next_deadline() is None


def test_only_so_many_of_the_gone_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "GONE_KEPT", 3)
    links = Links(WINDOW)
    for number in range(10):
        links.handle(PeerGone(number.to_bytes(16)), 0)
    assert len(links._gone) == 3


def test_other_messages_are_none_of_its_business() -> None:
    assert Links(WINDOW).handle(Received(B, Nack(1)), 0) == []
