"""How the application's values become bytes and come back as the same Python values. No pickle.

msgpack's own types pass as they are. What msgpack would change or refuse (a tuple would come back as a list) travels as
an extension type. A dataclass travels by its module and name and is looked up among the modules that are already
loaded, in their dictionaries: nothing is imported, computed or called for a peer. Its values travel without the names
of the fields, and with a version, which these names make: else a class whose fields have other names, or stand in
another order, would take one for another. What is packed is also checked for being found again, so that a value is
refused where it was made and not at its owner.

Extensions nest by recursion, and a C stack ends in a crash, not in an error: hence `MAX_DEPTH`, both ways.
Not the same afterwards: a bytearray comes back as bytes, a time zone as its offset, a dataclass without what is not a
field.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import reprlib
import sys
import types
import uuid
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any, cast

import msgpack

TUPLE, SET, FROZENSET, BIG_INT, DATACLASS, ENUM, DATETIME, DATE, DECIMAL, UUID = range(1, 11)
MAX_DEPTH = 32  # extensions within extensions; each costs 45 KB of C stack, of which a thread has as little as 8 MB

SKIMMED_ABOVE = 1 << 16  # bytes


class NotSerializable(Exception):
    """A value that cannot travel; the message names it and says what can."""


class TooMuch(Exception):
    """Unpacking was stopped: this would have become more than its reader allows."""


# -- out --------------------------------------------------------------------------------------------------------------


def pack(value: Any) -> bytes:
    """Raises `NotSerializable`."""
    try:
        return _pack(value, MAX_DEPTH)
    except NotSerializable:
        raise
    except Exception as error:  # msgpack's own, but also whatever the value's methods raise
        raise NotSerializable(f"{show(value)} cannot be serialized: {type(error).__name__}: {error}"[:1000]) from None


def pack_all(many: Sequence[Any]) -> list[bytes]:
    """Each of them as `pack` does, several times quicker. Raises `NotSerializable`."""
    one = msgpack.Packer(default=_EXTENDERS[MAX_DEPTH], strict_types=True).pack
    try:
        return [one(value) for value in many]
    except Exception:
        return [pack(value) for value in many]  # says which, and why


def _pack(value: Any, depth: int) -> bytes:
    packed: bytes = msgpack.packb(value, default=_EXTENDERS[depth], strict_types=True)
    return packed


def _extension(depth: int, value: Any) -> msgpack.ExtType:
    if depth == 0:
        raise NotSerializable(f"{show(value)} is nested more than {MAX_DEPTH} tuples, sets or dataclasses deep")
    kind = type(value)
    encode = _ENCODERS.get(kind) or _dataclass_encoders.get(kind)
    if encode is not None:
        code, plain = encode(value)
    elif isinstance(value, enum.Enum):
        code, plain = ENUM, _name_of_member(kind, value)
    elif dataclasses.is_dataclass(kind):
        code, plain = _dataclass_encoder(kind)(value)
    else:
        raise NotSerializable(
            f"{show(value)} of type {kind.__module__}.{kind.__qualname__} cannot travel between nodes: "
            "use str, int, float, bytes, bool, None, list, tuple, dict, set, datetime, Decimal, UUID, an enum, or a "
            "dataclass of these"
        )
    return _ext_type((code, _pack_again(plain, depth - 1)))


_EXTENDERS = [partial(_extension, depth) for depth in range(MAX_DEPTH + 1)]
_ext_type = cast(Callable[[tuple[int, bytes]], msgpack.ExtType], partial(tuple.__new__, msgpack.ExtType))  # unchecked
_packers: list[list[msgpack.Packer]] = [[] for _ in range(MAX_DEPTH + 1)]  # by depth: those that nobody works with


def _pack_again(value: Any, depth: int) -> bytes:
    """As `_pack`, for what is inside: to make a packer takes longer than to pack a small value."""
    try:
        packer = _packers[depth].pop()
    except IndexError:
        packer = msgpack.Packer(default=_EXTENDERS[depth], strict_types=True)
    packed = cast(bytes, packer.pack(value))
    if len(packed) <= SKIMMED_ABOVE:  # else it would keep as much memory
        _packers[depth].append(packer)
    return packed


def _name_of_member(kind: type[enum.Enum], value: enum.Enum) -> list[str]:
    if kind.__members__.get(value.name) is not value:
        raise NotSerializable(f"{show(value)} is not a named member of {kind.__qualname__}")
    _check_found(kind, enum.EnumMeta)
    return [kind.__module__, kind.__qualname__, value.name]


_dataclass_encoders: dict[type, Callable[[Any], tuple[int, Any]]] = {}  # of those that will be found again


def _dataclass_encoder(kind: type) -> Callable[[Any], tuple[int, Any]]:
    """There will be as many as the application has."""
    _check_found(kind, type)
    object.__new__(kind)  # how it is made again; a TypeError for a child of dict, list or Exception
    names = _field_names(kind)
    head = [kind.__module__, kind.__qualname__, _version(names)]
    fields = attrgetter(*names) if len(names) > 1 else lambda value: [getattr(value, name) for name in names]

    def encoder(value: Any) -> tuple[int, Any]:
        return DATACLASS, [*head, *fields(value)]

    _dataclass_encoders[kind] = encoder
    return encoder


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _version(names: list[str]) -> int:
    return zlib.crc32(" ".join(names).encode("utf-8", "surrogatepass"))


def _check_found(kind: type, base: type) -> None:
    try:
        found = _loaded(kind.__module__, kind.__qualname__, base)
    except ValueError:
        found = None
    if found is not kind:
        raise NotSerializable(
            f"{kind.__module__}.{kind.__qualname__} cannot travel between nodes: "
            "another node would not find it under that name; define it at the top of a module"
        )


def _sorted(items: set[Any] | frozenset[Any]) -> list[Any]:
    return sorted(items, key=pack)  # equal sets become equal bytes whatever the hash seed


def _int_to_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


_ENCODERS: dict[type, Callable[[Any], tuple[int, Any]]] = {
    tuple: lambda value: (TUPLE, list(value)),
    set: lambda value: (SET, _sorted(value)),
    frozenset: lambda value: (FROZENSET, _sorted(value)),
    int: lambda value: (BIG_INT, _int_to_bytes(value)),  # msgpack asks only for what 64 bits do not hold
    datetime.datetime: lambda value: (DATETIME, value.isoformat()),
    datetime.date: lambda value: (DATE, value.isoformat()),
    decimal.Decimal: lambda value: (DECIMAL, str(value)),
    uuid.UUID: lambda value: (UUID, value.bytes),
}


# -- in ---------------------------------------------------------------------------------------------------------------


def unpack(data: bytes, max_units: int | None = None, **limits: int) -> Any:
    """The inverse of `pack`; `limits` are msgpack's. Raises `TooMuch` above `max_units`, and anything on bad input."""
    if max_units is None:
        return msgpack.unpackb(data, ext_hook=_RESTORERS[MAX_DEPTH], strict_map_key=False, **limits)
    return _Metered(max_units).unpack(MAX_DEPTH, data, **limits)


def _restore(depth: int, code: int, data: bytes) -> Any:
    if depth == 0:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return _decoder(code)(msgpack.unpackb(data, ext_hook=_RESTORERS[depth - 1], strict_map_key=False))


_RESTORERS = [partial(_restore, depth) for depth in range(MAX_DEPTH + 1)]


class _Metered:
    """Unpacks and counts: a unit is at most 84 bytes; what holds others is more units than its items."""

    def __init__(self, units: int) -> None:
        self._units = units
        self._left = units
        self._restorers: dict[int, Callable[[int, bytes], Any]] = {}  # by depth

    def unpack(self, depth: int, data: bytes, **limits: Any) -> Any:
        if len(data) > SKIMMED_ABOVE:
            _skim(data)
        restore = self._restorers.get(depth)
        if restore is None:
            restore = self._restorers[depth] = partial(self._restore, depth)
        return msgpack.unpackb(
            data, strict_map_key=False, ext_hook=restore, list_hook=self._list, object_hook=self._map, **limits
        )

    def _restore(self, depth: int, code: int, data: bytes) -> Any:
        if depth == 0:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        self._count(2)  # an empty set is 216 bytes, and a list before
        return _decoder(code)(self.unpack(depth - 1, data))

    def _list(self, items: list[Any]) -> list[Any]:
        self._count(1 + len(items))
        return items

    def _map(self, items: dict[Any, Any]) -> dict[Any, Any]:
        self._count(1 + 4 * len(items))
        return items

    def _count(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise TooMuch(f"more than {self._units} units of values")


def _skim(data: bytes) -> None:
    """Raises when an item is missing: a list gets the memory it asks for before it is seen to be that long."""
    skimmer = msgpack.Unpacker(max_buffer_size=len(data))
    skimmer.feed(data)
    skimmer.skip()


def _decoder(code: int) -> Callable[[Any], Any]:
    decode = _DECODERS.get(code)
    if decode is None:
        raise ValueError(f"unknown extension type {code}")
    return decode


def _items(kind: type) -> Callable[[Any], Any]:
    def decode(plain: Any) -> Any:
        if type(plain) is not list:
            raise ValueError(f"a {kind.__name__} is made of a list")
        return kind(plain)

    return decode


_DECODERS: dict[int, Callable[[Any], Any]] = {
    TUPLE: _items(tuple),
    SET: _items(set),
    FROZENSET: _items(frozenset),
    BIG_INT: lambda plain: int.from_bytes(plain, "little", signed=True),
    DATACLASS: lambda plain: _dataclass(plain[0], plain[1])(plain[2], plain[3:]),
    ENUM: lambda plain: _loaded(plain[0], plain[1], enum.EnumMeta).__members__[plain[2]],
    DATETIME: datetime.datetime.fromisoformat,
    DATE: datetime.date.fromisoformat,
    DECIMAL: decimal.Decimal,
    UUID: lambda plain: uuid.UUID(bytes=plain),
}

_makers: dict[tuple[str, str], Callable[[Any, list[Any]], Any]] = {}


def _dataclass(module: str, qualname: str) -> Callable[[Any, list[Any]], Any]:
    maker = _makers.get((module, qualname))
    if maker is None:
        kind = _loaded(module, qualname, type)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ValueError(f"{module}.{qualname} is not a dataclass")
        maker = _makers[module, qualname] = _maker(kind)
    return maker


def _maker(kind: type) -> Callable[[Any, list[Any]], Any]:
    names, new, put = _field_names(kind), object.__new__, object.__setattr__
    known = _version(names)

    def make(version: Any, items: list[Any]) -> Any:
        if version != known or len(items) != len(names):
            came = f"{version:08x}" if type(version) is int else show(version)
            fields = ", ".join(names)
            raise ValueError(f"{kind.__qualname__} is of version {known:08x} here ({fields}), and {came} came")
        instance: Any = new(kind)  # no __post_init__: the value was complete when it left
        any(map(put, repeat(instance), names, items))  # it returns None each time; a loop takes twice as long
        return instance

    return make


def _loaded(module: str, qualname: str, base: type) -> Any:
    """Looked up in dictionaries only: an attribute may be a lazy import, or code."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
    if not isinstance(found, base):
        raise ValueError(f"no {base.__name__} {module}.{qualname} is loaded here")
    return found


# -- for people -------------------------------------------------------------------------------------------------------

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 120
_shown.maxlevel = 4


def show(value: Any) -> str:
    """A short text for a message; whatever the value's own `__repr__` does."""
    try:
        return _shown.repr(value)
    except Exception:
        return f"a value of type {type(value).__qualname__}"
