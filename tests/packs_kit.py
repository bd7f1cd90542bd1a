"""Packs to try the copies with: small ones of a few slots, made by a plain rule or by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from mesh.core.keys import slot_of_key
from mesh.core.packs import Outputs, Pack, Shape, Window

SLOTS, SEED = 8, 0
SHAPE = Shape(sources=2, stages=2, targets=3, slots=SLOTS, seed=SEED)
ME, B, C, D = (bytes([number]) * 16 for number in range(1, 5))


def slots_of(keys: Sequence[Any]) -> list[int]:
    return [slot_of_key(key, SEED, SLOTS) for key in keys]


def keys_of_slot(slot: int, count: int) -> list[str]:
    found: list[str] = []
    number = 0
    while len(found) < count:
        if slot_of_key(f"k{number}", SEED, SLOTS) == slot:
            found.append(f"k{number}")
        number += 1
    return found


slots = st.integers(0, SLOTS - 1)
numbers = st.integers(0, 1 << 40)
states = st.integers() | st.text(max_size=4) | st.tuples(st.integers(), st.text(max_size=2))


@st.composite
def packs(draw: st.DrawFn) -> Pack:
    keys: list[Any] = draw(st.lists(st.text("abc", max_size=3) | st.integers(0, 50), unique=True, max_size=8))
    some = draw(st.lists(states, max_size=len(keys)))
    pack = Pack(ME, 1, draw(st.integers(0, 1)), slots_of(keys), keys, some, next_output=1 << 41)
    for name in draw(st.lists(st.sampled_from("xyz"), unique=True)):
        marked = draw(st.lists(slots, min_size=1, max_size=4, unique=True))
        pack.splits.append(((draw(st.integers(0, 1)), name), marked, [draw(numbers) for _ in marked]))
    pairs = draw(st.lists(st.tuples(slots, slots), max_size=5, unique=True))
    if pairs:
        pack.stages.append((0, [a for a, _ in pairs], [b for _, b in pairs], [draw(numbers) for _ in pairs]))
    for producer in draw(st.lists(st.sampled_from("pq"), unique=True)):
        took = draw(st.lists(st.tuples(slots, numbers, numbers), min_size=1, max_size=4, unique=True))
        pack.windows.append(Window(draw(st.integers(0, 2)), producer, *map(list, zip(*took, strict=True))))
    for target in draw(st.lists(st.integers(0, 2), unique=True)):
        outs = draw(st.lists(st.tuples(slots, numbers, st.text("ab", max_size=2), states), min_size=1, max_size=5))
        origins, given, out_keys, values = map(list, zip(*outs, strict=True))
        values = out_keys if target == 2 else values
        pack.outputs.append(Outputs(target, origins, given, out_keys, values))
    return pack


def things(*some: Pack) -> list[Any]:
    """All that is in packs, one by one, in an order that does not depend on how they are cut."""
    found: list[Any] = []
    for pack in some:
        for index, key in enumerate(pack.keys):
            state = repr(pack.states[index]) if index < len(pack.states) else "gone"
            found.append(("state", pack.slots[index], repr(key), state))
        for stream, marked, given in pack.splits:
            found += [("split", slot, repr(stream), number) for slot, number in zip(marked, given, strict=True)]
        for stage, origins, marked, given in pack.stages:
            found += [("stage", slot, f"{stage} {a}", n) for a, slot, n in zip(origins, marked, given, strict=True)]
        for each in pack.windows:
            taken = zip(each.slots, each.ids, each.digests, strict=True)
            found += [("window", slot, f"{each.stage} {each.producer} {n}", digest) for slot, n, digest in taken]
        for out in pack.outputs:
            columns = zip(out.origins, out.numbers, out.keys, out.values, strict=True)
            found += [("out", origin, f"{out.target} {number}", f"{k!r} {v!r}") for origin, number, k, v in columns]
    return sorted(found)
