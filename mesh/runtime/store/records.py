"""How states lie in an ordered key space: a slot is one range of it, and every value carries its checksum.

    00                                  the format, b"hashmesh 3"
    01 slot(4)                          a slot's meta
    02 slot(4) stage(2) key             a key's state

Numbers are big-endian, so the order of the bytes is the order of (slot, stage, key). A value is 4 bytes of CRC-32 over
its key and itself, then itself: a right value under a wrong key is found as well. The metas come before all states, so
they are read at start without a look at any key.
"""

from __future__ import annotations

import zlib

from mesh.core.storing import Cursor, StoreDamaged

FORMAT_KEY = b"\x00"
FORMAT = b"hashmesh 3"
METAS_BEGIN, METAS_END = b"\x01", b"\x02"
_STATE = b"\x02"
_HEAD = 1 + 4 + 2  # of a state's key


def meta_key(slot: int) -> bytes:
    return METAS_BEGIN + slot.to_bytes(4, "big")


def state_key(slot: int, stage: int, key: bytes) -> bytes:
    return _STATE + slot.to_bytes(4, "big") + stage.to_bytes(2, "big") + key


def slot_of_meta(stored: bytes) -> int:
    return int.from_bytes(stored[1:], "big")


def split_state_key(stored: bytes) -> tuple[int, bytes]:
    """Stage and key."""
    return int.from_bytes(stored[5:_HEAD], "big"), stored[_HEAD:]


def slot_range(slot: int) -> tuple[bytes, bytes]:
    """First key, and the first that is not in it any more."""
    number = (int.from_bytes(_STATE, "big") << 32) + slot
    return number.to_bytes(5, "big"), (number + 1).to_bytes(5, "big")


def first_after(slot: int, after: Cursor | None) -> bytes:
    return slot_range(slot)[0] if after is None else state_key(slot, *after) + b"\x00"


def sealed(stored_key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(stored_key)).to_bytes(4, "little") + value


def opened(stored_key: bytes, stored: bytes) -> bytes:
    value = stored[4:]
    if zlib.crc32(value, zlib.crc32(stored_key)) != int.from_bytes(stored[:4], "little") or len(stored) < 4:
        raise damaged(stored_key, "a record's checksum does not fit")
    return value


def damaged(stored_key: bytes, why: str) -> StoreDamaged:
    """Says as much of the place as the key says."""
    kind = stored_key[:1]
    if kind == _STATE and len(stored_key) >= _HEAD:
        return StoreDamaged(why, int.from_bytes(stored_key[1:5], "big"), *split_state_key(stored_key))
    if kind in (METAS_BEGIN, _STATE) and len(stored_key) >= 5:
        return StoreDamaged(why, int.from_bytes(stored_key[1:5], "big"))
    return StoreDamaged(why)
