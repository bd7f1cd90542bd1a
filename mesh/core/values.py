"""How the application's values become bytes and come back as the same Python values. No pickle.

msgpack's own types pass as they are. What msgpack would change or refuse (a tuple would come back as a list) travels as
an extension type. A dataclass travels by its module and name and is looked up among the modules that are already
loaded: nothing is ever imported for a peer.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import sys
import uuid
from collections.abc import Callable
from typing import Any, cast

import msgpack

TUPLE, SET, FROZENSET, BIG_INT, DATACLASS, ENUM, DATETIME, DATE, DECIMAL, UUID = range(1, 11)


class NotSerializable(Exception):
    """A value that cannot travel; the message names it and says what can."""


def pack(value: Any) -> bytes:
    """Raises `NotSerializable`."""
    try:
        return cast(bytes, msgpack.packb(value, default=_extension, strict_types=True))
    except NotSerializable:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise NotSerializable(f"{value!r:.200} cannot be serialized: {error}") from None


def unpack(data: bytes, **limits: Any) -> Any:
    """The inverse of `pack`; `limits` are msgpack's."""
    return msgpack.unpackb(data, ext_hook=_restore, strict_map_key=False, **limits)


def _extension(value: Any) -> msgpack.ExtType:
    kind = type(value)
    encode = _ENCODERS.get(kind)
    if encode is not None:
        code, plain = encode(value)
        return msgpack.ExtType(code, pack(plain))
    if isinstance(value, enum.Enum):
        return msgpack.ExtType(ENUM, pack([kind.__module__, kind.__qualname__, value.name]))
    if dataclasses.is_dataclass(value):
        return msgpack.ExtType(DATACLASS, pack([kind.__module__, kind.__qualname__, *_field_values(value)]))
    raise NotSerializable(
        f"{value!r:.200} of type {kind.__module__}.{kind.__qualname__} cannot travel between nodes: "
        "use str, int, float, bytes, bool, None, list, tuple, dict, set, datetime, Decimal, UUID, an enum, or a "
        "dataclass of these"
    )


def _field_values(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _sorted(items: set[Any] | frozenset[Any]) -> list[Any]:
    return sorted(items, key=pack)  # equal sets become equal bytes whatever the hash seed


_ENCODERS: dict[type, Callable[[Any], tuple[int, Any]]] = {
    tuple: lambda value: (TUPLE, list(value)),
    set: lambda value: (SET, _sorted(value)),
    frozenset: lambda value: (FROZENSET, _sorted(value)),
    int: lambda value: (BIG_INT, str(value)),  # msgpack asks only for what 64 bits do not hold
    datetime.datetime: lambda value: (DATETIME, value.isoformat()),
    datetime.date: lambda value: (DATE, value.isoformat()),
    decimal.Decimal: lambda value: (DECIMAL, str(value)),
    uuid.UUID: lambda value: (UUID, value.bytes),
}

_DECODERS: dict[int, Callable[[Any], Any]] = {
    TUPLE: tuple,
    SET: set,
    FROZENSET: frozenset,
    BIG_INT: int,
    DATACLASS: lambda plain: _dataclass(plain[0], plain[1])(plain[2:]),
    ENUM: lambda plain: _loaded(plain[0], plain[1], enum.EnumMeta)[plain[2]],
    DATETIME: datetime.datetime.fromisoformat,
    DATE: datetime.date.fromisoformat,
    DECIMAL: decimal.Decimal,
    UUID: lambda plain: uuid.UUID(bytes=plain),
}


def _restore(code: int, data: bytes) -> Any:
    decode = _DECODERS.get(code)
    if decode is None:
        raise ValueError(f"unknown extension type {code}")
    return decode(unpack(data))


_makers: dict[tuple[str, str], Callable[[list[Any]], Any]] = {}


def _dataclass(module: str, qualname: str) -> Callable[[list[Any]], Any]:
    maker = _makers.get((module, qualname))
    if maker is None:
        kind = _loaded(module, qualname, type)
        if not dataclasses.is_dataclass(kind):
            raise ValueError(f"{module}.{qualname} is not a dataclass")
        maker = _makers[module, qualname] = _maker(kind)
    return maker


def _maker(kind: type) -> Callable[[list[Any]], Any]:
    names = [field.name for field in dataclasses.fields(kind)]

    def make(items: list[Any]) -> Any:
        if len(items) != len(names):
            raise ValueError(f"{kind.__qualname__} has {len(names)} fields here, {len(items)} came")
        instance = object.__new__(kind)  # no __post_init__: the value was complete when it left
        for name, item in zip(names, items, strict=True):
            object.__setattr__(instance, name, item)
        return instance

    return make


def _loaded(module: str, qualname: str, base: type) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, base):
        raise ValueError(f"no {base.__name__} {module}.{qualname} is loaded here")
    return found
