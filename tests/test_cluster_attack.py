"""A live cluster under load, and what strangers send to its mesh ports: nothing of it counts, and all of it is counted.

All attacks hit one cluster, one after another; at the end its job is done and its result is what it would have been.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from mesh.core import codec, messages
from mesh.core.messages import Message
from mesh.core.messages.epochs import (
    Accept,
    Booted,
    BootKnown,
    Chosen,
    EpochHeld,
    EpochKnown,
    Installed,
    LeaveAsked,
    LossAccepted,
    Outbid,
    Prepare,
    Promise,
)
from mesh.core.messages.links import Frame, LinkAck, LinkProbe
from mesh.core.messages.members import (
    ALIVE,
    DEAD,
    LEFT,
    Ack,
    Gossip,
    Hello,
    Member,
    Nack,
    Ping,
    PingReq,
    PushPull,
    Refused,
    Welcome,
)
from mesh.core.messages.outside import Found, Lookup
from mesh.core.messages.states import ChunksTaken, SlotChunk, SlotSettled
from mesh.core.messages.work import Batch, BatchDone, Farewell, FarewellHeard, Report, SplitsTaken, TakeSplits
from tests.cluster_kit import Cluster, NodeProcess, cluster, counted, eventually
from tests.hostile import connect, stranger

APP = """\
import time
from pathlib import Path
import mesh

HERE = Path(__file__).parent


class Paced:
    \"\"\"Goes on as long as the attacks do, so that there is always work, then ends.\"\"\"

    endless = False
    blocking = True

    def splits(self):
        return [mesh.Split(f"split-{number}") for number in range(4)]

    def open(self, split, offset):
        return self

    def read(self, max_bytes):
        time.sleep(0.002)
        return mesh.Chunk([f"word-{n}" for n in range(97)], 0, (HERE / "enough").exists())

    def close(self):
        pass


app = mesh.App("attacked")
counts = app.source("words", Paced()).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
counts.to(mesh.jsonl(HERE / "out"))
"""
GROWTH = 64 << 20  # bytes that an attack may cost
SOME = os.urandom(16)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("attacked"), "alpha", "beta", app=APP) as made:
        made.start()
        made.until_ready()
        eventually(lambda: sum(node.metric("mesh_keys") for node in made) == 97, "work")
        yield made


@pytest.fixture
def victim(attacked: Cluster) -> Iterator[NodeProcess]:
    """The node that is attacked; around every attack: it lives, works on, knows the same members, has not grown."""
    alpha, beta = attacked["alpha"], attacked["beta"]
    peak, before = alpha.peak(), alpha.status()
    refusals = alpha.rejected().total()
    worked = [node.metric("mesh_records_keyed_total") for node in attacked]
    yield alpha
    assert alpha.running
    assert beta.running
    for node, keyed in zip(attacked, worked, strict=True):
        eventually(lambda node=node, keyed=keyed: node.metric("mesh_records_keyed_total") > keyed, "work goes on")  # type: ignore[misc]
    assert alpha.rejected().total() > refusals, "nothing was counted"
    after = alpha.status()
    for named in ("epoch", "ready", "done", "slots", "cluster"):
        assert after[named] == before[named]
    assert [(n["name"], n["state"], n["slots"]) for n in after["nodes"]] == [
        ("alpha", "alive", 512),
        ("beta", "alive", 512),
    ]
    assert alpha.peak() < peak + GROWTH
    assert attacked.alarms() == []
    assert attacked.noise() == []


def counted_more(node: NodeProcess, reasons: tuple[str, ...], before: Counter[str], least: int = 1) -> bool:
    now = node.rejected()
    return sum(now[reason] - before[reason] for reason in reasons) >= least


@contextlib.contextmanager
def counting(node: NodeProcess, *reasons: str, least: int = 1) -> Iterator[None]:
    """What is sent inside is counted under one of these reasons, so often."""
    before = node.rejected()
    yield
    eventually(lambda: counted_more(node, reasons, before, least), f"{reasons}, {node.rejected() - before} so far")


def app_file(made: Cluster) -> Path:
    return made.folder / "app.py"


# -- no ZMTP at all


def test_http(victim: NodeProcess) -> None:
    with counting(victim, "handshake", least=5):
        for method in (b"GET", b"POST", b"PUT", b"OPTIONS", b"CONNECT"):
            with connect(victim.listen) as client:
                client.sendall(method + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 1000)


def test_noise(victim: NodeProcess) -> None:
    noise = random.Random(4711)
    with counting(victim, "handshake", least=30):
        for _ in range(30):
            with contextlib.suppress(ConnectionError), connect(victim.listen) as client:
                client.sendall(noise.randbytes(noise.choice((1, 9, 64, 5_000, 1_000_000))))


def test_connections_that_say_nothing(victim: NodeProcess) -> None:
    """They stay open while the cluster works; then they end, one by one or not."""
    with counting(victim, "handshake", least=200):
        idle = [connect(victim.listen) for _ in range(200)]
        keyed = victim.metric("mesh_records_keyed_total")
        eventually(lambda: victim.metric("mesh_records_keyed_total") > keyed + 1000, "work goes on beside them")
        assert victim.get("/healthz").code == 200
        for client in idle:
            client.close()


def test_one_byte_after_another(victim: NodeProcess) -> None:
    """Half a greeting, and then nothing."""
    greeting = b"\xff" + b"\x00" * 8 + b"\x7f\x03\x00NULL"
    with counting(victim, "handshake", least=20):
        for length in range(1, 1 + len(greeting)):
            client = connect(victim.listen)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with a reset
            client.sendall(greeting[:length])
            client.close()
        for _ in range(20):
            with connect(victim.listen) as client:
                client.sendall(greeting[:5])


# -- ZMTP, but nothing that is ours

SHAPES: dict[str, tuple[list[bytes], tuple[str, ...]]] = {
    "one part": ([b"x"], ("parts",)),
    "empty parts": ([b"", b"", b""], ("msgpack", "header")),
    "four parts": ([b"a", b"b", b"c", b"d"], ("parts",)),
    "100,000 empty parts": ([b""] * 100_000, ("parts",)),
    "noise": ([random.Random(1).randbytes(100), random.Random(2).randbytes(1000)], ("msgpack", "header")),
    "a long header": ([b"\x00" * 600, b"x"], ("too-long",)),
    "no list": ([msgpack.packb({}), msgpack.packb([])], ("header",)),
    "another version": (
        [msgpack.packb([messages.VERSION + 1, "tested", b"", SOME, b""]), msgpack.packb([7, 1])],
        ("header",),
    ),
    "a deep list": ([b"\x91" * 500, b"x"], ("msgpack", "header")),
    "an ext type": ([msgpack.packb(msgpack.ExtType(1, b"x")), b"x"], ("msgpack", "header")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_that_are_not_of_the_grammar(victim: NodeProcess, attacked: Cluster, shape: str) -> None:
    parts, reasons = SHAPES[shape]
    with counting(victim, *reasons), stranger(victim.listen, app_file(attacked)) as mallory:
        mallory.send_parts(*parts)


BODIES: dict[str, bytes] = {
    "10 MB of empty maps": b"\xdd" + (10_000_000).to_bytes(4) + b"\x80" * 10_000_000,
    "2 MB of empty lists": b"\xdd" + (2_000_000).to_bytes(4) + b"\x90" * 2_000_000,
    "a list that says it is long": b"\xdd\xff\xff\xff\xff",
    "a map that says it is long": b"\xdf\xff\xff\xff\xff",
    "a text that says it is long": b"\xdb\xff\xff\xff\xff",
    "a kind that is none": msgpack.packb([999]),
    "a kind that is no number": msgpack.packb(["Ping", 1, []]),
    "cargo": codec.encode(BatchDone(0, 1, 1, b"", ())),
    "too few fields": msgpack.packb([4]),
    "fields of other types": msgpack.packb([4, "one", {}]),
    "a negative number": msgpack.packb([7, -1]),
    "a number too large": msgpack.packb([7, 1 << 63]),
    "a bool for a number": msgpack.packb([7, True]),
    "a map in a map in a map": b"\x81\x01" * 200_000 + b"\x01",
    "something behind the end": msgpack.packb([7, 1]) * 2,
    "a half": msgpack.packb([7, 1 << 40])[:-3],
    "nothing": b"",
}


@pytest.mark.parametrize("body", BODIES)
def test_a_good_header_and_a_body_that_is_none(victim: NodeProcess, attacked: Cluster, body: str) -> None:
    header = codec.encode_header(codec.Header("tested", b"", SOME, b""))
    reasons = ("grammar", "msgpack", "too-long", "too-many", "stranger")
    with counting(victim, *reasons), stranger(victim.listen, app_file(attacked)) as mallory:
        mallory.send_parts(header, BODIES[body])


def test_a_part_of_70_megabytes_ends_its_connection(victim: NodeProcess, attacked: Cluster) -> None:
    with stranger(victim.listen, app_file(attacked)) as mallory, counting(victim, "stranger"):
        mallory.send_parts(b"header", b"message", bytes(70 << 20))  # libzmq itself refuses it, and cuts the connection
        mallory.send(Ping(1, ()))  # comes over a new one


# -- our own grammar, from somebody who is no member


def members_of(attacked: Cluster) -> dict[str, Member]:
    """The members as a stranger may learn them: by saying hello to a node."""
    with stranger(attacked["beta"].listen, app_file(attacked)) as spy:
        spy.introduction = replace(spy.introduction, seed=9)  # is refused, and learns who refuses
        spy.listen()
        spy.send(Hello(spy.introduction, attacked["beta"].listen))
        _, refused = spy.receive(Refused)
        assert isinstance(refused, Refused)
        beta = refused.introduction.member
    alpha = replace(beta, node=SOME, name="alpha", endpoint=attacked["alpha"].listen)
    return {"beta": beta, "alpha": alpha}


@pytest.fixture(scope="module")
def beta(attacked: Cluster) -> Member:
    return members_of(attacked)["beta"]


def forged(beta: Member, victim_id: bytes) -> list[Message]:
    lies = (
        replace(beta, status=DEAD),
        replace(beta, status=LEFT, incarnation=5),
        replace(beta, incarnation=(1 << 63) - 1, status=DEAD),
        replace(beta, node=victim_id, name="alpha", status=DEAD, incarnation=9),
        Member(SOME, "eve", "tcp://127.0.0.1:9", "", "worker", "", 1, ALIVE),
    )
    return [
        Ping(1, lies),
        Ack(1, lies),
        PingReq(1, beta.node, lies),
        Nack(1),
        Gossip(lies),
        PushPull(lies, True),
        PushPull(lies, False),
        Prepare(2, 1 << 40),
        Promise(1, 1, 0, b""),
        Accept(1, 1 << 40, b"another table"),
        Chosen(1, b"another table"),
        Chosen(2, b""),
        Outbid(1, 1 << 50),
        EpochKnown(99, 1),
        EpochHeld(1, 1),
        Booted(beta.home, 99),
        BootKnown(victim_id, 99, True),
        Installed(1, b"\x00\x00", (2,)),
        LossAccepted(1, b"\x00\x00", (2,)),
        LeaveAsked(victim_id),
        LinkAck(0, 1 << 60, 1 << 60, True),
        LinkProbe(15, 1 << 60),
        LinkProbe(99, 1),
    ]


CARGO: tuple[Message, ...] = (
    Batch(0, 1, 1, b"\x00\x00", ["word-1"], None),
    Batch(0, 1, 1, b"\x00\x00\x01\x00", [["no", "key"], 1.5], None),
    Batch(7, 9, 1, b"", [], None),
    BatchDone(0, 1 << 60, 1, b"", ()),
    Report(1, 3, False, 1, 1, 0, 0, ()),
    SlotChunk(1, 1, 0, 2, 0, ["word-1"], [666], True, 0),
    ChunksTaken(1 << 60),
    SlotSettled(0, 2, 0),
    TakeSplits(1, 0, ("../../etc/passwd",), (1,), (0,)),
    SplitsTaken(1, True),
    Farewell(1),
    FarewellHeard(1),
    Lookup(1, "count", ["word-1"]),
    Found(1, "found", b"666"),
)


@pytest.mark.parametrize("source", ["unknown", "nobody"])
def test_forged_messages_of_a_stranger(victim: NodeProcess, attacked: Cluster, beta: Member, source: str) -> None:
    reasons = ("stranger", "unknown-sender", "implausible-introduction", "cargo")
    messages = forged(beta, SOME)
    pretended = b"" if source == "unknown" else bytes(16)
    with stranger(victim.listen, app_file(attacked)) as mallory, counting(victim, *reasons, least=len(messages)):
        for message in messages:
            mallory.send(message, source=pretended)
        for cargo in CARGO:
            mallory.send(Frame(1, 1), codec.encode_with_values(cargo), source=pretended)
            mallory.send(Frame(0, 1), codec.encode_with_values(cargo), source=pretended)


def test_messages_for_another_process_or_cluster(victim: NodeProcess, attacked: Cluster, beta: Member) -> None:
    with stranger(victim.listen, app_file(attacked)) as mallory:
        with counting(victim, "stale-target", least=2):
            mallory.send(Ping(1, ()), source=beta.node, target=SOME)
            mallory.send(Chosen(2, b"x"), source=beta.node, target=bytes(16))
        mallory.cluster_id = SOME
        with counting(victim, "cluster-id"):
            mallory.send(Gossip((replace(beta, status=LEFT),)), source=beta.node)
        mallory.cluster, mallory.cluster_id = "another", b""
        with counting(victim, "cluster"):
            mallory.send(Gossip((replace(beta, status=LEFT),)), source=beta.node)


def test_hellos_that_nobody_can_mean(victim: NodeProcess, attacked: Cluster, beta: Member) -> None:
    app = app_file(attacked)
    with stranger(victim.listen, app) as mallory:
        absurd = [
            replace(mallory.member, endpoint="tcp://127.0.0.1:99999"),
            replace(mallory.member, endpoint="ipc:///tmp/mesh"),
            replace(mallory.member, endpoint="tcp://a;tcp://b:1"),
            replace(mallory.member, role="king"),
            replace(mallory.member, name="x" * 1000),
            replace(mallory.member, name="\x1b[31m"),
            replace(mallory.member, status=9),
            replace(mallory.member, node=SOME),
        ]
        with counting(victim, "implausible-introduction", least=len(absurd)):
            for member in absurd:
                mallory.send(Hello(replace(mallory.introduction, member=member), victim.listen))
        with counting(victim, "unasked-answer", least=2):
            mallory.send(Welcome(mallory.introduction, (replace(beta, status=LEFT),), "tcp://127.0.0.1:1"))
            mallory.send(Refused("seed", "0", "1", replace(mallory.introduction, formed=True, met=99), ""))
        namesake = replace(mallory.introduction, formed=True, met=1 << 40, member=replace(mallory.member, name="alpha"))
        with counting(victim, "unfit-hello"):
            mallory.send(Hello(namesake, victim.listen))


def test_a_flood_of_hellos(victim: NodeProcess, attacked: Cluster) -> None:
    """Each of its own node, at an address of its own, of another application."""
    with counting(victim, "hello-flood", least=100), stranger(victim.listen, app_file(attacked)) as mallory:
        for number in range(1, 2_000):
            member = replace(mallory.member, node=number.to_bytes(16), endpoint=f"tcp://127.0.0.1:{20_000 + number}")
            hello = Hello(replace(mallory.introduction, graph="another", member=member), victim.listen)
            mallory.send(hello, source=member.node)


# -- at the end


def test_the_job_ends_with_the_result_that_it_would_have_had(attacked: Cluster) -> None:
    (attacked.folder / "enough").touch()
    attacked.until_done()
    read = attacked["alpha"].status()["sources"][0]["records"]
    eventually(lambda: attacked["beta"].status()["sources"][0]["records"] == read, "the same news")
    for node in attacked:
        assert node.end(signal.SIGTERM) == 0
    counts = counted(attacked.folder / "out")
    assert set(counts) == {f"word-{number}" for number in range(97)}
    assert len(set(counts.values())) == 1
    assert sum(counts.values()) == sum(event["records_in"] for node in attacked for event in node.all_of("app.done"))
    assert attacked.noise() == []
