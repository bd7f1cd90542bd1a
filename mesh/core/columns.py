"""The few loops that touch every record: check, hash, scatter, apply. The place to profile, and one day to compile.

Plain functions over columns, nothing else. Each loop costs a constant few dictionary or list operations a record; no
object is made per record, nothing is logged, nothing is awaited. A user function that raises ends its loop: the caller
learns the index from how much of the iterator is left, sets that one record aside and calls again for the rest.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import GeneratorType
from typing import Any, TypeAlias
from uuid import UUID

import mmh3

from mesh.core.keys import BadKey, encode_key

Keys: TypeAlias = list[Any]
Values: TypeAlias = list[Any]
Appenders: TypeAlias = tuple[Callable[[Any], None], ...]  # of key, value and slot; also number and origin, if numbered

_hash = mmh3.hash
_BYTES = bytes(range(256))


def all_keys_good(keys: Keys) -> bool:
    """True if every key is a str without lone surrogates, an int or bytes; ~20 ns a key, so that nobody skips it.

    mmh3 reads a str with a lone surrogate as a null pointer and takes the process with it: hash nothing unchecked.
    """
    kinds = set(map(type, keys))
    if kinds == {str}:
        return _encodable(keys)
    return kinds <= {str, int, bytes} and _encodable([key for key in keys if type(key) is str])


def _encodable(texts: Sequence[str]) -> bool:
    joined = "".join(texts)
    if joined.isascii():
        return True
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True


def bad_keys(keys: Keys) -> dict[int, BadKey]:
    """The slow path: what is wrong with every key that is refused, by index."""
    found = {}
    for index, key in enumerate(keys):
        try:
            encode_key(key)
        except BadKey as error:
            found[index] = error.with_traceback(None)  # nobody's line: it says all in its sentence
    return found


def slots_of(keys: Keys, seed: int, shift: int) -> list[int]:
    """One slot a key; `shift` is 32 - log2(slots). The keys are good."""
    if set(map(type, keys)) == {str}:
        return [_hash(key, seed, False) >> shift for key in keys]
    return [_hash(encode_key(key), seed, False) >> shift for key in keys]


def scatter(keys: Keys, values: Values, slots: list[int], to: Sequence[Appenders], *, with_values: bool) -> None:
    """Append each record to the columns of its slot's owner; `to[slot]` holds the three append methods."""
    if not with_values:
        for key, slot in zip(keys, slots, strict=True):
            add_key, _, add_slot = to[slot]
            add_key(key)
            add_slot(slot)
        return
    for key, value, slot in zip(keys, values, slots, strict=True):
        add_key, add_value, add_slot = to[slot]
        add_key(key)
        add_value(value)
        add_slot(slot)


def scatter_numbered(
    keys: Keys,
    values: Values | None,
    slots: Sequence[int],
    numbers: Sequence[int],
    origins: Sequence[int] | None,
    to: Sequence[Appenders],
) -> None:
    """Likewise with the numbers of the records, which all have the same producer; only a stage has origins."""
    if values is None:
        if origins is None:
            for key, slot, number in zip(keys, slots, numbers, strict=True):
                add_key, _, add_slot, add_number, _ = to[slot]
                add_key(key)
                add_slot(slot)
                add_number(number)
            return
        for key, slot, number, origin in zip(keys, slots, numbers, origins, strict=True):
            add_key, _, add_slot, add_number, add_origin = to[slot]
            add_key(key)
            add_slot(slot)
            add_number(number)
            add_origin(origin)
        return
    for key, value, slot, number in zip(keys, values, slots, numbers, strict=True):
        add_key, add_value, add_slot, add_number, _ = to[slot]
        add_key(key)
        add_value(value)
        add_slot(slot)
        add_number(number)
    if origins is not None:
        for slot, origin in zip(slots, origins, strict=True):
            to[slot][4](origin)


def slots_to_bytes(slots: Sequence[int]) -> bytes:
    """Unsigned 16-bit little-endian, one a record."""
    return little_endian(array("H", slots)).tobytes() if slots else b""


def slots_from_bytes(data: bytes) -> array[int]:
    """The inverse; raises ValueError if a record is cut."""
    column = array("H")
    column.frombytes(data)
    return little_endian(column)


def are_slots(data: bytes, slots: int) -> bool:
    """Is each of them one of so many, a power of two? Looks at no record by itself."""
    if slots < 256 and data[::2].translate(None, _BYTES[:slots]):
        return False
    return not data[1::2].translate(None, _BYTES[: max(1, slots >> 8)])


def little_endian(column: array[int]) -> array[int]:
    """As numbers travel; changed in place."""
    if sys.byteorder == "big":
        column.byteswap()
    return column


# -- apply: one loop a kind of stage ----------------------------------------------------------------------------------
#
# They are for plain states, which no step can change in place. At the first that is not plain, of these `scalars`, they
# stop, before it is stored, and return (state, output) of that record; after the last record they return None.

SCALARS: frozenset[type] = frozenset(
    {int, str, float, bool, bytes, type(None), complex, Decimal, datetime, date, time, timedelta, UUID}
)
SHORT = 100
NUMBERS: frozenset[type] = frozenset({int, float, bool, type(None)})  # of the scalars: those that can always travel


def is_plain(value: Any, scalars: frozenset[type] = SCALARS, depth: int = 3) -> bool:
    """Nobody can change this value: one of these scalars, or a shallow tuple of such. Of numbers: a short, flat one."""
    if type(value) is not tuple:
        return type(value) in scalars
    if scalars is NUMBERS:
        return len(value) <= SHORT and scalars.issuperset(map(type, value))
    return scalars.issuperset(map(type, value)) or (
        depth > 0 and all(is_plain(each, scalars, depth - 1) for each in value)
    )


def fold(
    states: dict[Any, Any],
    keys: Iterator[Any],
    values: Iterator[Any],
    new: Callable[[], Any],
    step: Callable[[Any, Any], Any],
    scalars: frozenset[type] = SCALARS,
) -> tuple[Any, Any] | None:
    """state = step(state, value); nobody wants the outputs."""
    for key, value in zip(keys, values, strict=False):
        try:
            state = states[key]
        except KeyError:
            state = new()
        state = step(state, value)
        if type(state) not in scalars and not is_plain(state, scalars):
            return state, state
        states[key] = state
    return None


def fold_out(
    states: dict[Any, Any],
    keys: Iterator[Any],
    values: Iterator[Any],
    new: Callable[[], Any],
    step: Callable[[Any, Any], Any],
    out_keys: list[Any],
    outs: list[Any],
    scalars: frozenset[type] = SCALARS,
) -> tuple[Any, Any] | None:
    """state = step(state, value), and each new state is an output unless it is None."""
    for key, value in zip(keys, values, strict=False):
        try:
            state = states[key]
        except KeyError:
            state = new()
        state = step(state, value)
        if type(state) not in scalars and not is_plain(state, scalars):
            return state, state
        states[key] = state
        if state is not None:
            out_keys.append(key)
            outs.append(state)
    return None


def stateful(
    states: dict[Any, Any],
    keys: Iterator[Any],
    values: Iterator[Any],
    new: Callable[[], Any],
    step: Callable[[Any, Any], tuple[Any, Any]],
    out_keys: list[Any],
    outs: list[Any],
    scalars: frozenset[type] = SCALARS,
) -> tuple[Any, Any] | None:
    """(state, output) = step(state, value)."""
    for key, value in zip(keys, values, strict=False):
        try:
            state = states[key]
        except KeyError:
            state = new()
        state, out = step(state, value)
        if type(out) is GeneratorType:
            out = list(out)  # here and now: what it raises is this record's failure
        if type(state) not in scalars and not is_plain(state, scalars):
            return state, out
        states[key] = state
        if out is not None:
            out_keys.append(key)
            outs.append(out)
    return None
