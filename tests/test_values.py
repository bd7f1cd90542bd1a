"""Values come back as they were, or are refused where they were made; no bytes of a peer do more than raise."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import struct
import sys
import types
import uuid
import zlib
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import values
from mesh.core.values import NotSerializable


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


@dataclass
class Nothing:
    pass


@dataclass
class Single:
    value: Any


@dataclass
class Packing:
    """Reading it packs something else."""

    number: int
    name: str = "packing"

    def __getattribute__(self, name: str) -> Any:
        values.pack(((Point(1, 2),),))
        return super().__getattribute__(name)


@dataclass(slots=True)
class Slotted:
    name: str
    seen: set[str] = field(default_factory=set)


@dataclass
class Checked:
    """Would refuse to be made again from its fields."""

    total: int
    ready: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.ready:
            raise AssertionError("made twice")
        self.ready = True


VERSION = zlib.crc32(b"x y")  # of Point


class Colour(enum.Enum):
    RED = 1
    GREEN = (2, 3)


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Outer:
    @dataclass(frozen=True)
    class Inner:
        value: int


Pair = namedtuple("Pair", "a b")

plain_keys = (
    st.text(max_size=8)
    | st.integers()
    | st.binary(max_size=8)
    | st.uuids()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.sampled_from([*Colour, Level.LOW, Right.READ])
)
hashables = st.recursive(
    plain_keys,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Point, inner, inner),
    max_leaves=6,
)
scalars = st.none() | st.booleans() | st.floats() | hashables
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=4)
        | st.tuples(inner)
        | st.builds(Point, inner, inner)
        | st.builds(Slotted, st.text(), st.sets(st.text(), max_size=2))
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types all the way down, and floats bit for bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(map(type, left)) == list(map(type, right)) and same([*left.items()], [*right.items()])
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left))
    return bool(left == right)


@settings(max_examples=300)
@given(anything)
def test_what_travels_comes_back_with_its_types(value: Any) -> None:
    assert same(values.unpack(values.pack(value)), value)


@given(anything)
def test_metered_unpacking_gives_the_same(value: Any) -> None:
    assert same(values.unpack(values.pack(value), max_units=1 << 20), value)


@pytest.mark.parametrize(
    "value",
    [
        Checked(3),
        Nothing(),
        Single((1, 2)),
        Outer.Inner(1),
        [Right.READ, Level.LOW],
        -(2**64),
        2**63,
        10**10_000,
        {(1, "a"): {Point(1): 2}},
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))),
        decimal.Decimal("1E+999999"),
        uuid.UUID(int=0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_special_values_come_back(value: Any) -> None:
    assert same(values.unpack(values.pack(value)), value)


MIXED = ["a", "b", "c", "d", (1, 2), 7, 2**70]


@given(st.permutations(MIXED))
def test_equal_sets_become_equal_bytes(items: list[Any]) -> None:
    assert values.pack(set(items)) == values.pack(set(MIXED))


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no text for you")


@dataclass
class DictChild(dict):  # type: ignore[type-arg]
    a: int = 1


def local_dataclass() -> Any:
    @dataclass
    class Local:
        a: int

    return Local(1)


def unset_field() -> Any:
    slotted = Slotted("a")
    del slotted.name
    return slotted


def deep(kind: type, depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = kind([value])
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class BadZone(datetime.tzinfo):
    def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
        raise KeyError("nowhere")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Unshowable(),
        lambda: 1,
        OrderedDict(a=1),
        Pair(1, 2),
        1j,
        "\ud800",
        {"\ud800": 1},
        Right.READ | Right.WRITE,
        DictChild(),
        local_dataclass(),
        unset_field(),
        Point,
        Colour,
        endless(),
        deep(list, 100_000),
        deep(tuple, 33),
        deep(tuple, 100_000),
        deep(Point, 33),
        datetime.datetime(2024, 1, 1, tzinfo=BadZone()),
        Point(Unshowable()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_come_back_is_refused_where_it_was_made(value: Any) -> None:
    with pytest.raises(NotSerializable) as refusal:
        values.pack([value])
    assert 0 < len(str(refusal.value)) < 1500


def test_a_refusal_names_the_value_and_says_what_can_travel() -> None:
    with pytest.raises(NotSerializable, match=r"Pair\(a=1, b=2\).*cannot travel.*use str, int"):
        values.pack({"k": Pair(1, 2)})


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_value_that_was_refused_leaves_nothing_in_the_next_one(depth: int) -> None:
    good, bad = Point(1, "two"), Point("begun", lambda: None)
    packed = values.pack(deep(tuple, depth, good))
    with pytest.raises(NotSerializable):
        values.pack(deep(tuple, depth, bad))
    assert values.pack(deep(tuple, depth, good)) == packed


def test_a_value_whose_fields_pack_others_is_packed() -> None:
    assert values.unpack(values.pack([(Packing(1), 2)])) == [(Packing(1), 2)]


def test_the_deepest_nesting_that_is_packed_is_unpacked() -> None:
    value = deep(tuple, values.MAX_DEPTH)
    assert values.unpack(values.pack(value)) == value


def extension(code: int, plain: Any) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, msgpack.packb(plain)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("depth", [33, 200, 1000, 20_000])
def test_extensions_nested_by_a_peer_do_not_end_the_process(depth: int) -> None:
    data = b"\x90"
    for _ in range(depth):
        data = b"\x91\xc9" + len(data).to_bytes(4, "big") + b"\x01" + data
    with pytest.raises(ValueError, match="nested"):
        values.unpack(data)
    with pytest.raises(ValueError, match="nested"):
        values.unpack(data, max_units=1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        extension(values.DATACLASS, ["os", "system", "true"]),
        extension(values.DATACLASS, ["subprocess", "Popen", ["true"]]),
        extension(values.DATACLASS, [__name__, "Point", 1, 2]),
        extension(values.DATACLASS, [__name__, "Point", VERSION]),
        extension(values.DATACLASS, [__name__, "Point", VERSION, 1]),
        extension(values.DATACLASS, [__name__, "Point", VERSION, 1, 2, 3]),
        extension(values.DATACLASS, [__name__, "", 1]),
        extension(values.DATACLASS, ["not.loaded", "Thing"]),
        extension(values.DATACLASS, [[], {}]),
        extension(values.DATACLASS, []),
        extension(values.ENUM, [__name__, "Colour", "__class__"]),
        extension(values.ENUM, [__name__, "Colour", "BLUE"]),
        extension(values.ENUM, ["enum", "Enum", "mro"]),
        extension(values.TUPLE, "abc"),
        extension(values.SET, [[]]),
        extension(values.BIG_INT, "12"),
        extension(values.DATETIME, "yesterday"),
        extension(values.DATE, 3),
        extension(values.DECIMAL, "much"),
        extension(values.UUID, b"short"),
        extension(99, 1),
        b"",
        b"\xc1",
        b"\x91",
    ],
)
def test_bytes_that_nobody_packed_are_refused(data: bytes) -> None:
    with pytest.raises(Exception) as refusal:  # noqa: PT011 the codec turns all of them into Malformed
        values.unpack(data)
    assert isinstance(refusal.value, Exception)
    assert not isinstance(refusal.value, MemoryError)


@pytest.mark.parametrize("fields", ["x z", "y x", "x", "x y z"], ids=["renamed", "in another order", "fewer", "more"])
def test_a_dataclass_whose_fields_have_changed_is_not_taken_for_what_it_was(
    fields: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = values.pack(Point(1, 2))
    monkeypatch.setattr(values, "_makers", {})  # as in another process
    changed = dataclasses.make_dataclass("Point", fields.split())
    monkeypatch.setitem(globals(), "Point", changed)
    here = zlib.crc32(fields.encode())
    told = rf"Point is of version {here:08x} here \({', '.join(fields.split())}\), and {VERSION:08x} came"
    with pytest.raises(ValueError, match=told):
        values.unpack(packed)


def test_a_lookup_for_a_peer_runs_no_code_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    lazy = types.ModuleType("lazy_module")
    lazy.__getattr__ = asked.append  # type: ignore[method-assign, assignment]
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    with pytest.raises(ValueError, match="lazy_module"):
        values.unpack(extension(values.DATACLASS, ["lazy_module", "Thing"]))
    assert asked == []


def test_a_module_that_is_not_loaded_stays_unloaded() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(ValueError, match="this"):
        values.unpack(extension(values.ENUM, ["this", "Zen", "OF_PYTHON"]))
    assert "this" not in sys.modules


def outcome_of(data: bytes) -> str:
    """What the codec makes of any exception; what is none would end the process."""
    try:
        values.unpack(data, max_units=1000)
    except Exception as error:
        return type(error).__name__
    return "accepted"


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_worse_than_exceptions(data: bytes) -> None:
    assert outcome_of(data) not in ("MemoryError", "SystemError")


@settings(max_examples=200)
@given(anything, st.data())
def test_damaged_bytes_raise_nothing_worse_than_exceptions(value: Any, data: st.DataObject) -> None:
    packed = bytearray(values.pack(value))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    assert outcome_of(bytes(packed)) not in ("MemoryError", "SystemError")


@pytest.mark.parametrize("item", [1, [], {}, (), set(), "語", Point(1)])
def test_the_meter_stops_a_flood_of_anything(item: Any) -> None:
    with pytest.raises(values.TooMuch):
        values.unpack(values.pack([item] * 1000), max_units=900)
    assert values.unpack(values.pack([item] * 1000), max_units=60_000) == [item] * 1000
