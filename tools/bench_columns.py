"""What a record costs in each loop of the hot path, in nanoseconds: the figures of ARCHITECTURE.md, as JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.core import codec, columns
from mesh.core.messages.work import Batch

RECORDS = 4096  # a batch
RUNS = 300


def best(loop: Callable[[], Any]) -> float:
    """Nanoseconds a record, of the quickest run: the one that nothing disturbed."""
    quickest = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter_ns()
        loop()
        quickest = min(quickest, time.perf_counter_ns() - started)
    return round(quickest / RECORDS, 1)


def main() -> None:
    words = [f"word{int(random.Random(seed).paretovariate(1.1)) % 100_000}" for seed in range(RECORDS)]
    slots = columns.slots_of(words, 0, 22)
    packed_slots = columns.slots_to_bytes(slots)
    batch = Batch(0, 1, 1, packed_slots, words, None)
    payload = codec.encode_with_values(batch)
    joined = "\0".join(words)
    states: dict[Any, Any] = {}
    loops: dict[str, Callable[[], Any]] = {
        "hash to slot": lambda: columns.slots_of(words, 0, 22),
        "pack a batch": lambda: codec.encode_with_values(batch),
        "pack the slots": lambda: columns.slots_to_bytes(slots),
        "unpack a batch": lambda: codec.decode_with_values(payload),
        "check the keys": lambda: columns.all_keys_good(words),
        "fold into warm states": lambda: columns.fold(
            states, iter(words), iter(words), int, lambda count, _: count + 1
        ),
        "(not used) join the keys": lambda: "\0".join(words).encode(),
        "(not used) split them": lambda: joined.split("\0"),
    }
    print(json.dumps({name: best(loop) for name, loop in loops.items()}, indent=1))


if __name__ == "__main__":
    main()
