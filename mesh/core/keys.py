"""From a key to its place in the hash interval [0, 2**32).

A key is a str, an int or bytes; its identity is (type, value). The type must be exact: `True == 1 == 1.0` in Python,
and a subclass would not come back from the wire as itself: either would be one key on this node and two in the mesh.
Equal hashes are not equal keys: "1", 1 and b"1" share a hash, and so a slot, but not a state.

Everything is encoded to bytes *before* it is hashed. mmh3 5.3.1 crashes the process on a str with a lone surrogate, and
valid JSON can carry one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from decimal import Decimal
from typing import Any, TypeAlias

import mmh3

Key: TypeAlias = str | int | bytes
HASHES = 1 << 32
KEY_TYPES = ("str", "int", "bytes")

_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_PLAIN_DIGITS = 1 << 4096  # below this, int <-> str needs no help; Python refuses it above 4300 digits


class BadKey(ValueError):
    """A value that cannot be a key; the message is a sentence that shows it."""


def encode_key(key: object) -> bytes:
    """The bytes that are hashed. Raises `BadKey`."""
    kind = type(key)
    if kind is str:
        try:
            return key.encode()  # type: ignore[attr-defined, no-any-return]
        except UnicodeEncodeError:
            raise BadKey(f"the key {_shown(key)} has a lone surrogate, which is no character") from None
    if kind is bytes:
        return key  # type: ignore[return-value]
    if kind is int:
        return _decimal(key).encode()  # type: ignore[arg-type]
    raise BadKey(f"the key {_shown(key)} is of type {kind.__qualname__}; a key is a str, an int or bytes")


def hash_key(key: object, seed: int) -> int:
    """0 .. 2**32 - 1. Raises `BadKey`. `seed` is 0 .. 2**32 - 1."""
    return mmh3.hash(encode_key(key), seed, False)


def slot_of_hash(hashed: int, slots: int) -> int:
    """Which of `slots` equal subintervals a hash falls into."""
    return hashed * slots >> 32


def slot_of_key(key: object, seed: int, slots: int) -> int:
    """Raises `BadKey`."""
    return hash_key(key, seed) * slots >> 32


def interval_of_slot(slot: int, slots: int) -> tuple[int, int]:
    """The hashes [low, high) of a slot: exactly those that `slot_of_hash` sends to it."""
    return -(-(slot << 32) // slots), -(-((slot + 1) << 32) // slots)


# -- keys in JSON, on the command line and in a URL -------------------------------------------------------------------


def key_to_json(key: Key) -> str | int | dict[str, str]:
    """`"x"`, `1` or `{"bytes": "unpadded base64url"}`."""
    return {"bytes": _to_base64(key)} if type(key) is bytes else key  # type: ignore[return-value]


def key_to_text(key: Key) -> str:
    """The JSON text of it; `json` refuses an int of many digits."""
    return (
        _decimal(key) if type(key) is int else json.dumps(key_to_json(key), ensure_ascii=False, separators=(",", ":"))
    )


def key_from_json(value: object) -> Key:
    """The inverse of `key_to_json`. Raises `BadKey`."""
    if type(value) is dict:
        if list(value) != ["bytes"] or type(value["bytes"]) is not str:
            raise BadKey(f'the key {_shown(value)} is an object that is not {{"bytes": "unpadded base64url"}}')
        return _from_base64(value["bytes"])
    if type(value) is bytes:
        raise BadKey(f"the key {_shown(value)} is not a JSON value")
    encode_key(value)
    return value  # type: ignore[return-value]


def parse_key(text: str, key_type: str = "str") -> Key:
    """A key that a person typed; `key_type` is one of KEY_TYPES, bytes come as unpadded base64url. Raises `BadKey`."""
    if key_type == "str":
        encode_key(text)
        return text
    if key_type == "bytes":
        return _from_base64(text)
    if key_type != "int":
        raise BadKey(f"the key type {_shown(key_type)} is not one of {', '.join(KEY_TYPES)}")
    if not _INTEGER.fullmatch(text):
        raise BadKey(f"the key {_shown(text)} is not a whole decimal number, as the key type int asks")
    return int(Decimal(text))


def _decimal(number: int) -> str:
    return str(number) if -_PLAIN_DIGITS < number < _PLAIN_DIGITS else format(Decimal(number), "f")


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or _to_base64(data) != text:  # one key has one form
        raise BadKey(f"the key {_shown(text)} is not unpadded base64url")
    return data


def _shown(value: Any) -> str:
    """A repr that is short, printable, and never fails."""
    try:
        text = ascii(value)
    except Exception:
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= 80 else text[:77] + "..."
