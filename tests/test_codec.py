"""Every message of the grammar goes through unharmed; everything else becomes `Malformed`, at a bounded cost."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import codec, values
from mesh.core.codec import Header, Malformed
from mesh.core.messages import Column, Message, NodeId
from mesh.core.messages.epochs import Chosen
from mesh.core.messages.kinds import KINDS
from mesh.core.messages.links import Frame
from mesh.core.messages.members import Member, Nack, Ping, PushPull
from mesh.core.messages.outside import Lookup
from mesh.core.messages.work import Batch, Report

CARGO = (Batch, Lookup)
cells = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers()) | st.sets(st.text())


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Everything that a field may hold, from the same annotations that the codec reads."""
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(0, codec.MAX_INT),
        bool: st.booleans(),
        str: st.text(max_size=20) | st.just("é" * 512),
        bytes: st.binary(max_size=40),
        NodeId: st.binary(min_size=16, max_size=16),
        Column: st.lists(cells, max_size=5),
        Column | None: st.none() | st.lists(cells, max_size=5),
    }
    if hint in simple:
        return simple[hint]
    if typing.get_origin(hint) is tuple:
        return st.lists(strategy(typing.get_args(hint)[0]), max_size=3).map(tuple)
    return record(hint)


def record(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{each.name: strategy(hints[each.name]) for each in dataclasses.fields(kind)})


def has_columns(kind: type) -> bool:
    return any("Column" in str(each.type) for each in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_every_kind_comes_back_as_it_was(kind: type[Message]) -> None:
    @settings(max_examples=25)
    @given(record(kind))
    def check(message: Message) -> None:
        assert codec.decode_with_values(codec.encode_with_values(message)) == message
        if not has_columns(kind):
            assert codec.decode(codec.encode(message)) == message

    check()


@given(record(Header), st.sampled_from([b"", bytes(16)]), st.sampled_from([b"", bytes(16)]))
def test_a_header_comes_back_as_it_was(header: Header, cluster_id: bytes, target: bytes) -> None:
    header = dataclasses.replace(header, cluster_id=cluster_id, target=target, cluster=header.cluster[:20])
    assert codec.decode_header(codec.encode_header(header)) == header


def verdicts(part: bytes) -> list[str]:
    """What each of the three readers says; anything but a message or `Malformed` escapes."""
    found = []
    for reader in (codec.decode_header, codec.decode, codec.decode_with_values):
        try:
            found.append(type(reader(part)).__name__)
        except Malformed as error:
            found.append(error.reason if len(str(error)) < 1000 else "too much said")
    return found


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_are_malformed(part: bytes) -> None:
    assert len(verdicts(part)) == 3


wild = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=17)
    | st.builds(msgpack.ExtType, st.integers(0, 12), st.binary(max_size=10)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=15,
)


@settings(max_examples=500)
@given(st.sampled_from(sorted(KINDS)), st.lists(wild, max_size=9))
def test_known_kinds_with_wild_fields_are_malformed_or_lawful(kind: int, fields: list[Any]) -> None:
    assert len(verdicts(msgpack.packb([kind, *fields]))) == 3


@settings(max_examples=300)
@given(record(PushPull) | record(Report) | record(Batch), st.data())
def test_a_damaged_message_is_malformed_or_lawful(message: Message, data: st.DataObject) -> None:
    part = bytearray(codec.encode_with_values(message))
    for _ in range(data.draw(st.integers(1, 3))):
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    assert len(verdicts(bytes(part))) == 3
    assert len(verdicts(bytes(part[: data.draw(st.integers(0, len(part)))]))) == 3


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [4],
        [4, -1, []],
        [4, 2**63, []],
        [4, True, []],
        [4, 1.0, []],
        [4, None, []],
        [4, 1, None],
        [4, 1, [[]]],
        [4, 1, [], 1],
        [7, [1]],
        [0, 1],
        [True, 1, []],
        ["4", 1, []],
        [2**64 - 1],
        [4, 1, [[b"short", "n", "e", "h", "r", "z", 1, 0]]],
        [4, 1, [[bytes(16), "n" * 1025, "e", "h", "r", "z", 1, 0]]],
        [4, 1, [[bytes(16), "é" * 513, "e", "h", "r", "z", 1, 0]]],
        [4, 1, [[bytes(16), b"n", "e", "h", "r", "z", 1, 0]]],
        [61, 1, 1, 1, b"", {}, None],
        [61, 1, 1, 1, "", [], None],
    ],
)
def test_what_is_not_of_the_grammar_is_malformed(fields: list[Any]) -> None:
    for reader in (codec.decode, codec.decode_with_values):
        with pytest.raises(Malformed) as error:
            reader(msgpack.packb(fields))
        assert error.value.reason == "grammar"


def deep_list(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


@pytest.mark.parametrize(
    "field",
    [
        deep_list(900),
        deep_list(100_000),
        b"\xc9\x00\x00\x20\x00\x04" + b"\xc5\x1f\xfd" + b"\x7f" * 0x1FFD,  # an int of 8 KB
        b"\xc6\x00\x10\x00\x00" + bytes(1 << 20),
        msgpack.packb("\U0001f600" * 10_000),
    ],
    ids=["deep", "deeper", "huge-int", "long-bytes", "long-text"],
)
def test_a_value_that_is_hard_to_show_is_malformed_too(field: bytes) -> None:
    part = b"\x93\x04" + field + b"\x90"
    for reader in (codec.decode, codec.decode_with_values):
        with pytest.raises(Malformed) as error:
            reader(part)
        assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ([codec.VERSION + 1, "c", b"", bytes(16), b""], "version"),
        ([codec.VERSION, "c", b"", bytes(16)], "version"),
        ([codec.VERSION, "c", b"x", bytes(16), b""], "16 bytes"),
        ([codec.VERSION, "c", b"", bytes(15), b""], "16 bytes"),
        ([codec.VERSION, "c", b"", b"", b""], "16 bytes"),
        ([codec.VERSION, "c", b"", bytes(16), bytes(17)], "16 bytes"),
        ([codec.VERSION, 1, b"", bytes(16), b""], "string"),
        ([codec.VERSION, "c" * 600, b"", bytes(16), b""], "more than 512"),
    ],
)
def test_a_wrong_header_is_malformed(header: list[Any], why: str) -> None:
    with pytest.raises(Malformed, match=why):
        codec.decode_header(msgpack.packb(header))


def test_a_part_over_its_limit_is_not_even_parsed() -> None:
    for reader, limit in ((codec.decode, codec.MAX_MESSAGE), (codec.decode_with_values, codec.MAX_PAYLOAD)):
        with pytest.raises(Malformed) as error:
            reader(bytes(limit + 1))
        assert error.value.reason == "too-long"


# -- what is sent is accepted -----------------------------------------------------------------------------------------


def batch(*column: Any) -> Batch:
    return Batch(1, 1, 1, bytes(2 * len(column)), list(column), None)


@pytest.mark.parametrize(
    "value",
    [
        ["x"] * 300_000,
        list(range(500_000)),
        {str(i): i for i in range(50_000)},
        "x" * 5_000_000,
        [(i, i) for i in range(30_000)],
    ],
    ids=["strings", "numbers", "map", "text", "tuples"],
)
def test_one_record_of_some_megabytes_passes(value: Any) -> None:
    message = batch(value)
    assert codec.decode_with_values(codec.encode_with_values(message)) == message


@pytest.mark.parametrize(
    "value",
    [["x"] * 530_000, [[{}] * 300_000] * 2, b"x" * (codec.MAX_PAYLOAD + 1), [()] * 300_000],
    ids=["long-list", "maps", "bytes", "tuples"],
)
def test_what_no_node_would_accept_is_refused_by_its_sender(value: Any) -> None:
    with pytest.raises(values.NotSerializable, match="more than a node accepts"):
        codec.encode_with_values(batch(value))


@given(st.lists(st.one_of(cells, st.lists(cells)), max_size=20))
def test_any_small_batch_that_is_sent_is_accepted(column: list[Any]) -> None:
    message = batch(*column)
    assert codec.decode_with_values(codec.encode_with_values(message)) == message


def test_the_members_of_a_large_cluster_fit_in_one_message() -> None:
    members = tuple(
        Member(number.to_bytes(16), f"node-{number:05}", "tcp://host.example.org:7401", "host.example.org:7480",
               "worker", "zone-a", 1, 0)
        for number in range(10_000)
    )  # fmt: skip
    assert codec.decode(codec.encode(PushPull(members, True))) == PushPull(members, True)


def test_messages_without_values_need_no_values_to_be_packed() -> None:
    for message in (Ping(1, ()), Frame(3, 9), Nack(0), Chosen(1, bytes(100_000))):
        assert codec.encode(message) == codec.encode_with_values(message)


# -- what an attack may cost, measured in a process of its own --------------------------------------------------------

ATTACK = """
import sys
from mesh.core import codec

def attack(what):
    claim = b"\\xdd" + (131072).to_bytes(4, "big")
    size = 10_000_000
    def full(item):
        one = claim + item * 131072
        count = max(1, size // len(one))
        return bytes([0x97, 61, 1, 1, 1, 0xC4, 0]) + b"\\xdc" + count.to_bytes(2, "big") + one * count + b"\\xc0"
    return {
        "maps": lambda: full(b"\\x80"), "lists": lambda: full(b"\\x90"), "ints": lambda: full(b"\\xcd\\x7f\\x01"),
        "texts": lambda: full(b"\\xa3\\xe8\\xaa\\x9e"), "sets": lambda: full(b"\\xd4\\x02\\x90"),
        "tuples": lambda: full(b"\\xd5\\x01\\x91\\x01"), "nested-maps": lambda: full(b"\\x81\\x01\\x80"),
        "claims": lambda: claim * 1000, "claims-4MB": lambda: (claim * 1000) + b"\\x01" * 4_000_000,
        "claims-500KB": lambda: (b"\\xdd" + (500_000).to_bytes(4, "big")) * 1000 + b"\\x01" * 495_000,
        "claims-in-tuple": lambda: b"\\x91\\xc9" + (500_000).to_bytes(4, "big") + b"\\x01"
            + (b"\\xdd" + (500_000).to_bytes(4, "big")) * 1000 + b"\\x01" * 495_000,
        "plain-lists": lambda: b"\\x93\\x04\\x01" + b"\\xdc\\x00\\x1e" + (claim + b"\\x90" * 131072) * 30,
    }[what]()

part = attack(sys.argv[1])
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for reader in (codec.decode, codec.decode_with_values) * 2:
    try:
        reader(part)
        print("accepted", end=" ")
    except codec.Malformed as error:
        print(error.reason, end=" ")
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize(
    "what",
    [
        "maps",
        "lists",
        "ints",
        "texts",
        "sets",
        "tuples",
        "nested-maps",
        "claims",
        "claims-4MB",
        "claims-500KB",
        "claims-in-tuple",
        "plain-lists",
    ],
)
def test_an_attack_on_memory_stays_within_its_megabytes(what: str) -> None:
    ran = subprocess.run([sys.executable, "-c", ATTACK, what], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    *reasons, kilobytes = ran.stdout.split()
    allowed = 80 if what in ("claims-500KB", "claims-in-tuple") else 64  # what malloc may clear of what was freed
    assert int(kilobytes) < allowed << 10, reasons
    assert set(reasons) <= {"too-long", "too-many", "msgpack"}
