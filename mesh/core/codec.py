"""The only parser of peer input. Whatever arrives, the answer is a checked message or `Malformed`; never another error.

Checks, and what is taken out of a message, are compiled once from the annotations in `messages`. msgpack is told a
limit for every length; what many small things may cost is bounded by counting them (10 MB of empty maps would otherwise
become 600 MB). What is packed here is within the same limits, or refused here: a payload that its receiver refuses
would be sent for ever.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgpack

from mesh.core import values
from mesh.core.messages import VERSION, Column, Message, NodeId
from mesh.core.messages.kinds import KINDS

MAX_HEADER = 512  # bytes; names are at most 64 characters, ids 16 bytes
MAX_MESSAGE = 4 << 20  # bytes; a full membership of 10,000 nodes is 2 MB
MAX_PAYLOAD = 64 << 20  # bytes; one record of a few MB still passes
MAX_TEXT = 1024  # bytes of a str field
MAX_INT = (1 << 63) - 1
MAX_MEMBERS = 1 << 17  # items of one tuple in any message but a payload
COUNTED_ABOVE = 1 << 19  # bytes; parts below it cannot become more than 40 MB (empty maps), and are not slowed down
MAX_UNITS = 640 << 10  # of at most 84 bytes, a short text: what a larger part may become in memory, see `values`
SPARE_BYTES, SPARE_UNITS = 8 << 20, 8 << 10  # for what travels with a value that fills a message: its key, marks, names
MAX_ITEMS = COUNTED_ABOVE  # of one list or map in a payload; too many are only in what is checked before it is sent


class Malformed(Exception):
    """Peer input that is not of the grammar. `reason` is a short fixed word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Header:
    cluster: str
    cluster_id: bytes  # 16 bytes, or empty before the founding
    source: NodeId
    target: bytes  # a NodeId, or empty: whoever listens there


# -- out --------------------------------------------------------------------------------------------------------------


def encode_header(header: Header) -> bytes:
    return _pack([VERSION, header.cluster, header.cluster_id, header.source, header.target])


def encode(message: Message) -> bytes:
    """A message without application values."""
    return _pack(_plain(message))


def encode_with_values(message: Message) -> bytes:
    """A message with columns. Raises `values.NotSerializable` naming the value."""
    packed = values.pack(_plain(message))
    if len(packed) > COUNTED_ABOVE:
        _check_acceptable(packed)
    return packed


def check_can_travel(value: Any) -> None:
    """Raises `values.NotSerializable` if it cannot be in a message, but for what belongs to it."""
    packed = values.pack(value)
    if len(packed) > COUNTED_ABOVE // 4:  # with what belongs to it, it may be counted
        _check_acceptable(packed, SPARE_BYTES, SPARE_UNITS)


def _check_acceptable(packed: bytes, spare_bytes: int = 0, spare_units: int = 0) -> None:
    try:
        _unpack(packed, MAX_PAYLOAD - spare_bytes, plain=False, spare_units=spare_units)
    except Malformed as error:
        raise values.NotSerializable(f"a batch of {len(packed)} bytes is more than a node accepts: {error}") from None


def _plain(message: Message) -> list[Any]:
    number, taken = _TAKERS[type(message)]
    return [number, *taken(message)]


def _pack(items: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(items, use_bin_type=True)
    return packed


# -- in ---------------------------------------------------------------------------------------------------------------


def decode_header(part: bytes) -> Header:
    fields = _unpack(part, MAX_HEADER, plain=True)
    if not (type(fields) is list and len(fields) == 5 and fields[0] == VERSION):
        raise Malformed("header", f"not a version {VERSION} header")
    header = _HEADER(fields[1:], "header")
    if len(header.target) not in (0, 16) or len(header.cluster_id) not in (0, 16):
        raise Malformed("header", "ids are 16 bytes")
    return typing.cast(Header, header)


def decode(part: bytes) -> Message:
    """A message without application values."""
    return _message(_unpack(part, MAX_MESSAGE, plain=True))


def decode_with_values(part: bytes) -> Message:
    """A message that may hold columns; dataclasses and the other types of `values` come back as they were sent."""
    return _message(_unpack(part, MAX_PAYLOAD, plain=False))


def _message(fields: Any) -> Message:
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise Malformed("grammar", "a message is a list that starts with its kind")
    check = _MESSAGES.get(fields[0])
    if check is None:
        raise Malformed("grammar", f"unknown kind {_show(fields[0])}")
    message: Message = check(fields[1:], KINDS[fields[0]].__name__)
    return message


def _unpack(part: bytes, max_bytes: int, *, plain: bool, spare_units: int = 0) -> Any:
    size = len(part)
    if size > max_bytes:
        raise Malformed("too-long", f"{size} bytes, more than {max_bytes}")
    units = MAX_UNITS - spare_units if spare_units or size > COUNTED_ABOVE else None
    items = min(size, MAX_MEMBERS if plain else MAX_ITEMS)  # a list gets its memory before its items are there
    maps, extensions = (0, 0) if plain else (items, size)
    try:
        return values.unpack(part, units, max_array_len=items, max_map_len=maps, max_ext_len=extensions)
    except values.TooMuch as error:
        raise Malformed("too-many", str(error)) from None
    except Exception as error:  # msgpack raises ValueError's children, but also others; all of it is the peer's fault
        raise Malformed("msgpack", f"{type(error).__name__}: {_show(str(error))}") from None


def _show(value: Any) -> str:
    """Of what a peer sent nothing but the simplest is spelled out: a repr can be huge, deep, or code."""
    if value is None or type(value) in (int, float, bool, str, bytes):
        return values.show(value)
    return f"a {type(value).__name__}"


# -- checks compiled from annotations ---------------------------------------------------------------------------------

Check = Callable[[Any, str], Any]


def _check_int(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise Malformed("grammar", f"{where}: not a count: {_show(value)}")
    return value


def _check_bool(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise Malformed("grammar", f"{where}: not a bool: {_show(value)}")
    return value


def _check_str(value: Any, where: str) -> str:
    if type(value) is not str or len(value) > MAX_TEXT or (not value.isascii() and len(value.encode()) > MAX_TEXT):
        raise Malformed("grammar", f"{where}: not a short string: {_show(value)}")
    return value


def _check_bytes(value: Any, where: str) -> bytes:
    if type(value) is not bytes:
        raise Malformed("grammar", f"{where}: not bytes: {_show(value)}")
    return value


def _bytes_of(size: int) -> Check:
    def check(value: Any, where: str) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise Malformed("grammar", f"{where}: not {size} bytes: {_show(value)}")
        return value

    return check


def _check_column(value: Any, where: str) -> Column:
    if type(value) is not list:
        raise Malformed("grammar", f"{where}: not a column: {_show(value)}")
    return value


def _check_column_or_none(value: Any, where: str) -> Column | None:
    return None if value is None else _check_column(value, where)


def _tuple_of(item: Check) -> Check:
    def check(value: Any, where: str) -> tuple[Any, ...]:
        if type(value) is not list:
            raise Malformed("grammar", f"{where}: not a list: {_show(value)}")
        return tuple([item(each, where) for each in value])

    return check


def _record(kind: type) -> Check:
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [each.name for each in dataclasses.fields(kind)]
    checks = [_check_for(hints[name]) for name in names]
    labels = [f"{kind.__name__}.{name}" for name in names]

    def check(value: Any, where: str) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise Malformed("grammar", f"{where}: {kind.__name__} has {len(checks)} fields")
        return kind(*[each(item, label) for each, item, label in zip(checks, value, labels, strict=True)])

    return check


def _check_for(hint: Any) -> Check:
    simple: dict[Any, Check] = {int: _check_int, bool: _check_bool, str: _check_str, bytes: _check_bytes}
    if hint in simple:
        return simple[hint]
    if hint == Column:
        return _check_column
    if isinstance(hint, types.UnionType) and hint == Column | None:
        return _check_column_or_none
    if typing.get_origin(hint) is typing.Annotated:
        return _bytes_of(hint.__metadata__[0])
    if typing.get_origin(hint) is tuple:
        return _tuple_of(_check_for(typing.get_args(hint)[0]))
    assert dataclasses.is_dataclass(hint), hint
    return _record(typing.cast(type, hint))


_HEADER = _record(Header)
_MESSAGES = {number: _record(kind) for number, kind in KINDS.items()}


# -- what is packed, compiled from annotations ------------------------------------------------------------------------

Taker = Callable[[Any], typing.Sequence[Any]]


def _taker(kind: type) -> Taker:
    """The fields of a record, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [each.name for each in dataclasses.fields(kind)]
    ways = [(name, _taker_for(hints[name])) for name in names]
    if len(names) > 1 and not any(way for _, way in ways):
        return typing.cast(Taker, attrgetter(*names))

    def taken(record: Any) -> list[Any]:
        return [getattr(record, name) if way is None else way(getattr(record, name)) for name, way in ways]

    return taken


def _taker_for(hint: Any) -> Taker | None:
    """None: it is packed as it is."""
    if typing.get_origin(hint) is tuple:
        item = _taker_for(typing.get_args(hint)[0])
        return list if item is None else lambda many: [item(each) for each in many]
    return _record_taker(hint) if dataclasses.is_dataclass(hint) else None


def _record_taker(hint: Any) -> Taker:
    taken = _taker(hint)
    return lambda record: [*taken(record)]


_TAKERS = {kind: (number, _taker(kind)) for number, kind in KINDS.items()}
