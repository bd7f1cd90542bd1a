"""The transport over real sockets: what it promises, and that nothing on its port hurts it.

The first part is a contract that any network must keep which stands in for the transport: add a `Pair` to NETWORKS.
"""

from __future__ import annotations

import os
import random
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol

import pytest
import zmq

from mesh.core import codec
from mesh.runtime.transport import MAX_ENDPOINTS, SKIPPED_AT_ONCE, Transport, TransportError, check_library
from nodes.local import free_ports
from tests.sim_kit import SimulatedPair

ROUNDS = 400  # of 50 ms: how long something that must come may take
A, B = b"A" * 16, b"B" * 16


# -- the contract, for this network and any other ---------------------------------------------------------------------


class Pair(Protocol):
    """Node A and node B with a network between them."""

    def send(self, parts: list[bytes]) -> bool:
        """From A to B; False means lost."""

    def receive(self) -> list[list[bytes]]:
        """What has come to B by now, perhaps nothing yet."""

    def interrupt(self) -> None:
        """Every connection is reset."""

    def close(self) -> None: ...


class ZmqPair:
    def __init__(self) -> None:
        self._a, self._b = Transport("tcp://127.0.0.1:0", A), Transport("tcp://127.0.0.1:0", B)

    def send(self, parts: list[bytes]) -> bool:
        return self._a.send(self._b.bound, parts)

    def receive(self) -> list[list[bytes]]:
        self._b.wait(50)
        return self._b.receive(100)

    def interrupt(self) -> None:
        bound = self._b.bound
        self._b.close()
        self._b = Transport(bound, B)

    def close(self) -> None:
        self._a.close()
        self._b.close()


NETWORKS: list[Callable[[], Pair]] = [ZmqPair, SimulatedPair]


@pytest.fixture(params=NETWORKS, ids=lambda network: network.__name__)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with closing(request.param()) as made:
        yield made


def receive_until(pair: Pair, last: list[bytes]) -> list[list[bytes]]:
    got: list[list[bytes]] = []
    for _ in range(ROUNDS):
        got += pair.receive()
        if last in got:
            return got
    raise AssertionError(f"{last!r:.100} did not come; {len(got)} others did")


def send_until_received(pair: Pair, parts: list[bytes]) -> list[list[bytes]]:
    got: list[list[bytes]] = []
    for _ in range(ROUNDS):
        pair.send(parts)
        got += pair.receive()
        if parts in got:
            return got
    raise AssertionError(f"{parts!r:.100} did not come")


def numbered(number: int) -> list[bytes]:
    return [b"header", number.to_bytes(4)]


@pytest.mark.parametrize(
    "parts", [[b"h", b"m"], [b"h", b"m", b"payload"], [b"h", b"m", bytes(1 << 20)], [b"", b"", b""]]
)
def test_a_message_arrives_as_it_was_sent(pair: Pair, parts: list[bytes]) -> None:
    assert send_until_received(pair, parts)[0] == parts


def test_what_arrives_is_in_order_and_nothing_comes_twice(pair: Pair) -> None:
    sent = [numbered(number) for number in range(3000)]
    send_until_received(pair, [b"first", b""])
    taken = [parts for parts in sent if pair.send(parts)]
    got = [parts for parts in receive_until(pair, taken[-1]) if parts[0] == b"header"]
    remaining = iter(taken)
    assert all(parts in remaining for parts in got)  # a subsequence: each is found after the one before


def test_after_an_interruption_messages_arrive_again_in_order(pair: Pair) -> None:
    send_until_received(pair, [b"before", b""])
    pair.interrupt()
    got = []
    for number in range(ROUNDS):
        pair.send(numbered(number))
        got += [int.from_bytes(parts[1]) for parts in pair.receive() if parts[0] == b"header"]
        if len(got) > 5:
            break
    assert len(got) > 5
    assert got == sorted(set(got))


# -- the real one -----------------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[Transport]:
    with closing(Transport("tcp://127.0.0.1:0", B)) as transport:
        yield transport


@pytest.fixture
def stranger(node: Transport) -> Iterator[zmq.Socket[bytes]]:
    """Speaks ZeroMQ to the node, and says what it likes."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(node.bound)
        yield dealer


def collect(node: Transport, enough: Callable[[list[list[bytes]]], bool]) -> list[list[bytes]]:
    got: list[list[bytes]] = []
    for _ in range(ROUNDS):
        if enough(got):
            return got
        node.wait(50)
        got += node.receive(10)
    raise AssertionError(f"waited in vain; {len(got)} messages, rejected {node.rejected}")


def lives(node: Transport, sender: zmq.Socket[bytes]) -> None:
    """The next good message arrives; what else comes is noise and no header."""
    good = [b"good", b"message"]
    sender.send_multipart(good)
    for parts in collect(node, lambda got: good in got):
        with pytest.raises(codec.Malformed):
            codec.decode_header(parts[0])


def test_a_wildcard_port_becomes_a_real_one(node: Transport) -> None:
    assert node.bound.startswith("tcp://127.0.0.1:")
    assert int(node.bound.rsplit(":", 1)[1]) > 0


def test_a_node_may_send_to_itself(node: Transport) -> None:
    assert node.send(node.bound, [b"h", b"m"])
    assert collect(node, bool) == [[b"h", b"m"]]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_works() -> None:
    try:
        made = Transport("tcp://[::1]:0", B)
    except TransportError:
        pytest.skip("no IPv6 on the loopback device")
    with closing(made) as node:
        node.send(node.bound, [b"h", b"m"])
        assert collect(node, bool) == [[b"h", b"m"]]


@pytest.mark.timeout(30)
def test_what_a_bounded_receive_leaves_ends_the_next_wait_at_once(node: Transport) -> None:
    for number in range(25):
        node.send(node.bound, numbered(number))
    got: list[list[bytes]] = []
    while len(got) < 25:
        node.wait(100_000)
        got += node.receive(1)
    assert got == [numbered(number) for number in range(25)]


@pytest.mark.timeout(30)
def test_a_message_ends_a_wait(node: Transport) -> None:
    with closing(Transport("tcp://127.0.0.1:0", A)) as sender:
        got: list[list[bytes]] = []
        for number in range(200):
            sender.send(node.bound, numbered(number))
            while len(got) == number:
                node.wait(100_000)
                got += node.receive(3)
    assert got == [numbered(number) for number in range(200)]


@pytest.mark.timeout(30)
def test_wake_ends_a_wait_that_goes_on_or_comes(node: Transport) -> None:
    node.wake()
    node.wait(100_000)
    waiting = threading.Thread(target=node.wait, args=(100_000,))
    waiting.start()
    node.wake()
    waiting.join()


@pytest.mark.timeout(30)
def test_ten_thousand_wakes_that_nobody_waits_for_do_not_block(node: Transport) -> None:
    for _ in range(100_000):
        node.wake()
    node.wait(100_000)


@pytest.mark.timeout(30)
def test_one_thread_waits_while_another_sends_and_receives(node: Transport) -> None:
    """Two threads under one lock, as in a node; `wait` without it."""
    lock, got, pumped = threading.Lock(), [], 20_000
    done = threading.Event()

    def pump() -> None:
        while not done.is_set():
            node.wait(100_000)
            with lock:
                got.extend(node.receive(7))
            if len(got) == pumped:
                done.set()
                node.wake()

    threads = [threading.Thread(target=pump) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(pumped):
        with lock:
            assert node.send(node.bound, numbered(number))
    for thread in threads:
        thread.join()
    assert got == [numbered(number) for number in range(pumped)]


def test_what_is_sent_before_the_other_listens_arrives_without_further_calls() -> None:
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with closing(Transport("tcp://127.0.0.1:0", A)) as sender:
        for number in range(100):
            assert sender.send(endpoint, numbered(number))
        with closing(Transport(endpoint, B)) as node:
            got = collect(node, lambda got: len(got) == 100)
    assert got == [numbered(number) for number in range(100)]


def test_two_names_of_one_address_do_not_throw_each_other_out(node: Transport) -> None:
    port = node.bound.rsplit(":", 1)[1]
    with closing(Transport("tcp://127.0.0.1:0", A)) as sender:
        got: list[list[bytes]] = []
        for number in range(50):
            for name in ("localhost", "127.0.0.1"):
                sender.send(f"tcp://{name}:{port}", [name.encode(), number.to_bytes(4)])
        got = collect(node, lambda got: len(got) == 100)
    assert len(got) == 100
    assert node.disconnected == 0


def test_a_forgotten_endpoint_may_be_used_again(node: Transport) -> None:
    with closing(Transport("tcp://127.0.0.1:0", A)) as sender:
        for number in range(3):
            sender.send(node.bound, numbered(number))
            assert collect(node, bool) == [numbered(number)]
            sender.forget(node.bound)
            sender.forget(node.bound)


def test_a_full_queue_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.runtime.transport.HIGH_WATER_MARK", 10)
    with closing(Transport("tcp://127.0.0.1:0", A)) as sender:
        nobody = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        taken = [sender.send(nobody, numbered(number)) for number in range(20)]
    assert taken == [True] * 10 + [False] * 10
    assert sender.unsent == 10


@pytest.mark.parametrize(
    "endpoint",
    [
        "nonsense",
        "tcp://",
        "tcp://*:7401",
        "tcp://host",
        "tcp://host:*",
        "tcp://host:0",
        "tcp://host:65536",
        "tcp://host:00007",
        "tcp://a;b:1",
        "tcp://a:1/../x",
        "tcp://[::1:1",
        "tcp://a:-1",
        "tcp://a:\u0661",
        "tcp://a:1\n",
        "ipc:///tmp/x",
        "inproc://x",
    ],
)
def test_an_endpoint_that_gossip_made_up_is_refused(node: Transport, endpoint: str) -> None:
    assert not node.send(endpoint, [b"h", b"m"])
    assert node.rejected == {"endpoint": 1}


def test_gossip_cannot_make_a_node_open_sockets_without_end(node: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.runtime.transport.MAX_ENDPOINTS", 5)
    assert MAX_ENDPOINTS > 5
    sent = [node.send(f"tcp://127.0.0.1:{port}", [b"h", b"m"]) for port in range(1, 9)]
    assert sent == [True] * 5 + [False] * 3
    assert node.rejected == {"endpoints": 3}


def test_without_a_descriptor_left_a_message_is_lost_and_the_next_one_is_not(node: Transport) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert not node.send(node.bound, [b"1", b"2"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert node.unsent == 1
    assert node.send(node.bound, [b"3", b"4"])
    assert collect(node, bool) == [[b"3", b"4"]]


def test_a_port_in_use_is_told_with_its_address(node: Transport) -> None:
    with pytest.raises(TransportError, match=rf"{node.bound}: another process listens there already"):
        Transport(node.bound, A)


@pytest.mark.parametrize(
    "listen", ["", "tcp://nonsense", "127.0.0.1:7401", "ipc:///tmp/x", "tcp://a b:1", "tcp://127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_told(listen: str) -> None:
    with pytest.raises(TransportError, match="an address is tcp://host:port"):
        Transport(listen, A)


@pytest.mark.parametrize("listen", ["tcp://203.0.113.7:7401", "tcp://no-such-host.invalid:7401"])
def test_an_address_of_another_machine_is_told(listen: str) -> None:
    with pytest.raises(TransportError, match=f"cannot listen on {listen}"):
        Transport(listen, A)


def test_an_old_or_weak_libzmq_is_told() -> None:
    check_library((4, 3, 5), True)
    check_library((5, 0, 0), True)
    with pytest.raises(TransportError, match=r"libzmq 4\.3\.4 is too old, 4\.3\.5"):
        check_library((4, 3, 4), True)
    with pytest.raises(TransportError, match="CURVE"):
        check_library((4, 3, 5), False)


def test_close_may_be_called_twice_and_wake_after_it() -> None:
    transport = Transport("tcp://127.0.0.1:0", A)
    transport.close()
    transport.close()
    transport.wake()


# -- attacks ----------------------------------------------------------------------------------------------------------


def knock(node: Transport, data: bytes) -> None:
    """A client that does not speak ZeroMQ: says something, and is gone."""
    with socket.create_connection(("127.0.0.1", int(node.bound.rsplit(":", 1)[1]))) as client:
        client.sendall(data)


def test_http_is_counted(node: Transport, stranger: zmq.Socket[bytes]) -> None:
    lives(node, stranger)
    knock(node, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:7401\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n")
    collect(node, lambda _: node.rejected.get("handshake", 0) == 1)
    lives(node, stranger)


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)


@pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff" + bytes(8) + b"\x7f", GREETING[:11], GREETING])
def test_random_bytes_are_counted(node: Transport, stranger: zmq.Socket[bytes], prefix: bytes) -> None:
    lives(node, stranger)
    noise = random.Random(prefix)
    for _ in range(20):
        knock(node, prefix + noise.randbytes(noise.randrange(1, 5000)))
    lives(node, stranger)  # although noise may pass for ZMTP 1.0, and even bring messages
    collect(node, lambda _: node.rejected.get("handshake", 0) == 20)


def test_a_client_that_says_nothing_holds_nothing_up(node: Transport, stranger: zmq.Socket[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", int(node.bound.rsplit(":", 1)[1]))):
        lives(node, stranger)
        assert node.rejected == {}
    collect(node, lambda _: node.rejected == {"handshake": 1})


def test_peers_that_come_and_go_are_not_rejected(node: Transport) -> None:
    for number in range(10):
        with closing(Transport("tcp://127.0.0.1:0", number.to_bytes(16))) as peer:
            peer.send(node.bound, [b"h", b"m"])
            collect(node, bool)
    collect(node, lambda _: node.disconnected == 10)
    assert node.rejected == {}


@pytest.mark.timeout(60)
def test_connections_that_nobody_counts_yet_hold_up_no_others(node: Transport, stranger: zmq.Socket[bytes]) -> None:
    """While the node looks away libzmq's thread goes on, also where a monitor's queue would by default be full."""
    for _ in range(1500):
        knock(node, b"\xff")
    collect(node, lambda _: node.rejected.get("handshake", 0) == 1500)
    lives(node, stranger)


@pytest.mark.parametrize("count", [1, 4, 5, 1000])
def test_too_many_or_too_few_parts_are_counted(node: Transport, stranger: zmq.Socket[bytes], count: int) -> None:
    stranger.send_multipart([b"part"] * count)
    lives(node, stranger)
    assert node.rejected == {"parts": 1}


def test_a_hundred_thousand_parts_are_dropped_a_bounded_number_at_a_time(
    node: Transport, stranger: zmq.Socket[bytes]
) -> None:
    for _ in range(3):
        stranger.send_multipart([b""] * 100_000)
    stranger.send_multipart([b"good", b"message"])
    reads = 0
    while True:
        node.wait(5_000)
        got = node.receive(1_000)
        reads += 1
        if got:
            break
    assert got == [[b"good", b"message"]]
    assert reads > 3 * 99_000 / SKIPPED_AT_ONCE
    assert node.rejected == {"parts": 3}


@pytest.mark.parametrize(
    "parts",
    [
        [bytes(codec.MAX_HEADER + 1), b"m"],
        [b"h", bytes(codec.MAX_MESSAGE + 1), b"p"],
        [bytes(10 << 20), bytes(10 << 20), b"p"],
    ],
    ids=["header", "message", "both"],
)
def test_a_part_over_its_limit_is_counted(node: Transport, stranger: zmq.Socket[bytes], parts: list[bytes]) -> None:
    stranger.send_multipart(parts)
    lives(node, stranger)
    assert node.rejected == {"too-long": 1}


def test_a_part_over_every_limit_ends_its_connection(node: Transport, stranger: zmq.Socket[bytes]) -> None:
    lives(node, stranger)
    stranger.send_multipart([b"h", b"m", bytes(codec.MAX_PAYLOAD + 1)])
    collect(node, lambda _: node.disconnected == 1)
    lives(node, stranger)


ATTACKER = """
import sys, zmq
context = zmq.Context()
dealer = context.socket(zmq.DEALER)
dealer.connect(sys.argv[1])
maps = b"\\xdd" + (131072).to_bytes(4, "big") + b"\\x80" * 131072
for _ in range(3):
    dealer.send_multipart([b""] * 100_000)
    dealer.send_multipart([b"h", b"m", b"\\xdc\\x00\\x4c" + maps * 76])
    dealer.send_multipart([bytes(30_000_000), b"m", b"p"])
    dealer.send_multipart([b"h", bytes(30_000_000), b"p"])
dealer.send_multipart([b"good", b"message"])
dealer.close(linger=20_000)
context.term()
"""


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident memory from /proc")
def test_under_attack_memory_grows_by_less_than_64_megabytes(node: Transport, stranger: zmq.Socket[bytes]) -> None:
    lives(node, stranger)
    before = resident_bytes()
    attacker: Any = subprocess.Popen([sys.executable, "-c", ATTACKER, node.bound])
    refused: list[str] = []
    for _ in range(10 * ROUNDS):
        node.wait(50)
        got = node.receive(1)
        if got == [[b"good", b"message"]]:
            break
        for parts in got:
            with pytest.raises(codec.Malformed) as error:
                codec.decode_with_values(parts[2])
            refused.append(error.value.reason)
        del got
    assert attacker.wait(30) == 0
    assert refused == ["too-many"] * 3
    assert node.rejected == {"parts": 3, "too-long": 6}
    assert resident_bytes() - before < 64 << 20
    lives(node, stranger)
