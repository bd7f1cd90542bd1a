"""In which order the keys of a cluster are listed, and how a place in that list is written down.

By slot, then by type (str, int, bytes), then by value. The keys of a slot keep their order, whoever owns it and however
many are added, so a place means the same on every node and later on. A long key would make a long address: it stands
where its beginning stands, and keys that begin alike are in the order of their digests. So a place is short, and says
what comes after it without a look at any key.

    place     (rank of the type, beginning, digest or b""); () is before them all
    position  (slot, place): everything up to it has been listed
    text      a position as a page's `next`; one position has one text
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

from mesh.core.keys import BadKey, key_from_json, key_to_json, parse_key

Place: TypeAlias = tuple[Any, ...]
Position: TypeAlias = tuple[int, Place]

START: Position = (0, ())
BEGINNING = 256  # characters, or bytes; a key that is not longer is its own beginning
LARGEST = 1 << 1024  # an int that is not between this and its negative stands at these
DIGEST = 16  # bytes: nobody finds two keys with one digest

_RANKS: dict[type, int] = {str: 0, int: 1, bytes: 2}


class BadPosition(ValueError):
    """A text that is no position; the message is a sentence."""


def place_of(key: Any) -> Place:
    """Of a good key."""
    kind = type(key)
    if kind is int:
        if -LARGEST < key < LARGEST:
            return 1, key, b""
        return 1, LARGEST if key > 0 else -LARGEST, _digest(key.to_bytes(key.bit_length() // 8 + 1, "big", signed=True))
    if len(key) <= BEGINNING:
        return _RANKS[kind], key, b""
    return _RANKS[kind], key[:BEGINNING], _digest(key.encode() if kind is str else key)


def size_of(key: Any) -> int:
    """About as many bytes as it is in JSON, or a few times that."""
    kind = type(key)
    if kind is int:
        return int(key.bit_length()) // 3 + 16
    return (4 if kind is str and not key.isascii() else 1) * len(key) + 16


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def place_from(beginning: object, digest: object) -> Place:
    """What a peer, or whoever asks, says is a place. Raises `BadPosition`."""
    rank = _RANKS.get(type(beginning))
    if rank is None or type(digest) is not bytes or not _is_place(beginning, digest):
        raise BadPosition("it is no place of a key")
    return rank, beginning, digest


def _is_place(beginning: Any, digest: bytes) -> bool:
    if type(beginning) is int:
        is_short, is_long = -LARGEST < beginning < LARGEST, abs(beginning) == LARGEST
    else:
        is_short, is_long = len(beginning) <= BEGINNING, len(beginning) == BEGINNING
    return is_long if len(digest) == DIGEST else is_short and not digest


def to_text(position: Position) -> str:
    slot, place = position
    fields = [slot, key_to_json(place[1]), place[2].hex()] if place else [slot]
    written = key_to_json(json.dumps(fields, separators=(",", ":")).encode())
    assert isinstance(written, dict)
    return written["bytes"]


def from_text(text: str, slots: int) -> Position:
    """Raises `BadPosition`."""
    try:
        slot, *place = json.loads(parse_key(text, "bytes"))  # type: ignore[arg-type]
        if type(slot) is not int or not 0 <= slot < slots:
            raise BadPosition(f"it is of no slot below {slots}")
        position = slot, place_from(key_from_json(place[0]), bytes.fromhex(place[1])) if place else ()
        if to_text(position) != text:
            raise BadPosition("it has another form")
    except (BadKey, ValueError, TypeError, IndexError, RecursionError) as error:
        why = str(error) if isinstance(error, BadPosition) else "it cannot be read"
        raise BadPosition(f"that is not where a page of keys ended: {why}") from None
    return position
