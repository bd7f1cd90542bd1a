"""What numbers, marks and packs would cost a record beside the hot path, in nanoseconds, as JSON. See bench_columns."""

from __future__ import annotations

import json
import random
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.core import columns
from mesh.core.codec import decode_with_values
from mesh.core.marks import StageMarks
from mesh.core.messages.states import PackPart
from mesh.core.packs import Outputs, Shape, encoded, pack_of

RECORDS = 4096  # a batch
RUNS = 60
SLOTS, OWNERS = 1024, 3
ME = bytes(16)


def best(loop: Callable[[], Any]) -> float:
    """Nanoseconds a record, of the quickest run: the one that nothing disturbed."""
    quickest = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter_ns()
        loop()
        quickest = min(quickest, time.perf_counter_ns() - started)
    return round(quickest / RECORDS, 1)


def appenders(width: int) -> tuple[list[list[Any]], list[Any]]:
    lists: list[list[Any]] = [[] for _ in range(width * OWNERS)]
    bound = [tuple(each.append for each in lists[width * owner : width * (owner + 1)]) for owner in range(OWNERS)]
    return lists, [bound[slot % OWNERS] for slot in range(SLOTS)]


def scattered(width: int, run: Callable[[list[Any]], None]) -> Callable[[], None]:
    lists, to = appenders(width)

    def loop() -> None:
        run(to)
        for each in lists:
            each.clear()

    return loop


def main() -> None:
    chance = random.Random(1)
    words = [f"word{chance.randrange(20_000)}" for _ in range(RECORDS)]
    slots = columns.slots_of(words, 0, 22)
    more = [f"word{chance.randrange(20_000)}" for _ in range(5 * RECORDS)]  # of which one owner has enough
    there = zip(more, columns.slots_of(more, 0, 22), strict=True)
    keys, mine = map(list, zip(*[(key, slot) for key, slot in there if slot % OWNERS == 0][:RECORDS], strict=True))
    count = len(mine)
    numbers, origins = list(range(RECORDS)), [chance.randrange(SLOTS) for _ in range(RECORDS)]
    fresh = iter(range(0, 1 << 60, RECORDS))
    marks = StageMarks(SLOTS)
    states = dict.fromkeys(keys, 1)
    pack = pack_of(0, keys, mine, states)
    pack.maker, pack.pack, pack.next_output = ME, 1, RECORDS
    outs = pack_of(0, keys, mine, states)
    outs.maker, outs.pack, outs.next_output = ME, 1, RECORDS
    outs.outputs = [Outputs(0, mine, numbers[:count], keys, keys)]
    payload, shape = encoded(pack, 1, 1, 1 << 30).payloads[0], Shape(1, 1, 1, SLOTS, 0)
    part = decode_with_values(payload)
    assert isinstance(part, PackPart)

    def split_marks() -> None:
        first = next(fresh)
        marks.news_of_split((0, "x"), mine, [*range(first, first + count)])

    def stage_marks() -> None:
        first = next(fresh)
        marks.news_of_stage(0, origins[:count], mine, range(first, first + count))

    loops: dict[str, Callable[[], Any]] = {
        "scatter, as today (key is value)": scattered(
            3, lambda to: columns.scatter(words, words, slots, to, with_values=False)
        ),
        "scatter with numbers (split)": scattered(
            5, lambda to: columns.scatter_numbered(words, None, slots, numbers, None, to)
        ),
        "scatter with numbers and origins (stage)": scattered(
            5, lambda to: columns.scatter_numbered(words, None, slots, numbers, origins, to)
        ),
        "pack the numbers, 32 bits": lambda: array("I", numbers).tobytes(),
        "unpack the numbers": lambda: array("I", array("I", numbers).tobytes()).tolist(),
        "marks of a split": split_marks,
        "marks of a stage": stage_marks,
        "make the pack of a batch": lambda: pack_of(0, keys, mine, states),
        "encode the pack, a copy": lambda: encoded(pack, 1, 1, 1 << 30),
        "restrict it to half of the slots": lambda: pack.restricted(frozenset(range(0, SLOTS, 2))),
        "decode and check it, a copy": lambda: shape.checked(decode_with_values(payload)),  # type: ignore[arg-type]
        "encode it with as many outputs": lambda: encoded(outs, 1, 1, 1 << 30),
    }
    found = {name: best(loop) for name, loop in loops.items()}
    print(json.dumps({"records": RECORDS, "keys in the pack": len(pack.keys), **found}, indent=1))


if __name__ == "__main__":
    main()
