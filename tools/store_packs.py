"""What `bench_store` puts into a database: keys in several layouts, states, and the packs that change them.

A pack: what the records of some batches changed, 2000 keys drawn by Zipf(1.1), their new states of 30 to 100 bytes, and
a position a slot.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterable

from tools.store_engines import Changes

SLOTS = 1024
PACK = 2000
META = b"\x00"
STATE = b"\x01"


def slot_of(name: bytes) -> int:
    return zlib.crc32(name) >> 22


def slot_first(name: bytes) -> bytes:
    return STATE + slot_of(name).to_bytes(2, "big") + b"\0" + name


def position_first(name: bytes) -> bytes:
    """By the key's place in the hash interval: slots are still ranges of it, keys of a slot have no order."""
    return STATE + zlib.crc32(name).to_bytes(4, "big") + b"\0" + name


def stage_first(name: bytes) -> bytes:
    return STATE + b"\0" + slot_of(name).to_bytes(2, "big") + name


def key_first(name: bytes) -> bytes:
    """No order by slot at all: a slot can only be found by looking at everything."""
    return STATE + name + slot_of(name).to_bytes(2, "big")


LAYOUTS = {"slot, stage, key": slot_first, "position, stage, key": position_first, "key, slot": key_first}


def bounds(layout: str, slot: int) -> tuple[bytes, bytes]:
    if layout == "position, stage, key":
        return STATE + (slot << 22).to_bytes(4, "big"), STATE + (((slot + 1) << 22) - 1).to_bytes(4, "big") + b"\xff"
    return STATE + slot.to_bytes(2, "big"), STATE + (slot + 1).to_bytes(2, "big")


def name_of(number: int) -> bytes:
    return b"user-%08d" % number


def state(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(30, 100))


def metas(slots: Iterable[int], pack: int) -> Changes:
    return [(META + slot.to_bytes(2, "big"), (7).to_bytes(8, "big") + pack.to_bytes(8, "big")) for slot in slots]


def zipf_packs(keys: int, count: int, layout: Callable[[bytes], bytes], seed: int) -> list[Changes]:
    """Changed keys in the order of their bytes, then the position of every slot that the pack touches."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, keys + 1)))
    spread = 2654435761  # the hot keys are not neighbours
    packs = []
    for number in range(count):
        names: set[int] = set()
        while len(names) < PACK:
            names.update(rank * spread % keys for rank in rng.choices(range(keys), cum_weights=weights, k=PACK))
        chosen = [name_of(each) for each in itertools.islice(names, PACK)]
        changes = sorted((layout(name), state(rng)) for name in chosen)
        packs.append(metas(sorted({slot_of(name) for name in chosen}), number) + changes)
    return packs


def numbered(number: int, keys: int = PACK) -> Changes:
    """A pack that says its number in every key, so that a half one can be seen."""
    value = number.to_bytes(8, "big") * 8
    return [(META + b"\0\0", value), *((STATE + slot_first(name_of(each)), value) for each in range(keys))]
