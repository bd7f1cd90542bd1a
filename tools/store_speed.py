"""How fast a database is, for `bench_store`: filling, opening, packs, loads, scans, drops, and who waits meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from typing import Any

from tools.store_child import make_cold, memory_mb, percentile, size_mb, timed, written
from tools.store_engines import ENGINES
from tools.store_packs import LAYOUTS, META, PACK, SLOTS, STATE, bounds, metas, name_of, slot_first, state, zipf_packs


def fill(engine: str, path: str, keys: int, layout: str = "slot, stage, key") -> dict[str, Any]:
    """All keys in an order of chance, 20,000 a commit. Ends by kill -9, as the next step wants it."""
    rng = random.Random(5)
    numbers = list(range(keys))
    rng.shuffle(numbers)
    key_of = LAYOUTS[layout]
    store = ENGINES[engine](path)
    started = time.perf_counter()
    for at in range(0, keys, 20_000):
        store.put(sorted((key_of(name_of(number)), state(rng)) for number in numbers[at : at + 20_000]))
    store.put(metas(range(SLOTS), 0))
    seconds = time.perf_counter() - started
    before, written_mb = size_mb(path), written() / 1e6
    print(
        json.dumps({"fill_s": round(seconds, 1), "fill_mb": before, "fill_written_mb": round(written_mb, 1)}),
        flush=True,
    )
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def reopen(engine: str, path: str, keys: int) -> dict[str, Any]:
    """From nothing in memory to every slot's position."""
    make_cold(path)
    ENGINES[engine](f"{path}-warm").close()  # the packages are loaded, the files are not
    seconds, store = timed(lambda: ENGINES[engine](path))
    reading, found = timed(lambda: sum(1 for _ in store.scan(META, STATE)))
    assert found == SLOTS, found
    out = {"open_s": round(seconds, 3), "positions_s": round(reading, 3), **memory_mb()}
    store.close()
    return out


def work(engine: str, path: str, keys: int, layout: str = "slot, stage, key", packs: int = 300) -> dict[str, Any]:
    """Packs, cold loads, scans and drops, on what `fill` left."""
    key_of = LAYOUTS[layout]
    prepared = zipf_packs(keys, packs, key_of, seed=os.getpid())
    own = memory_mb()
    store = ENGINES[engine](path)
    write_before, cpu = written(), time.process_time()
    times = [timed(lambda pack=pack: store.put(pack))[0] for pack in prepared]
    total = sum(times)
    out: dict[str, Any] = {
        "changed_keys_a_s": round(packs * PACK / total),
        "commit_p50_ms": round(percentile(times, 0.5) * 1e3, 2),
        "commit_p99_ms": round(percentile(times, 0.99) * 1e3, 2),
        "commit_max_ms": round(max(times) * 1e3, 1),
        "cpu_share": round((time.process_time() - cpu) / total, 2),
        "written_per_changed_byte": round((written() - write_before) / (packs * PACK * (17 + 65)), 1),
        "memory_mb": {name: round(now - own[name], 1) for name, now in memory_mb().items()},
    }
    store.close()
    make_cold(path)
    store = ENGINES[engine](path)
    rng = random.Random(os.getpid())
    wanted = [key_of(name_of(rng.randrange(keys))) for _ in range(3000)]
    times = [timed(lambda key=key: store.get(key))[0] for key in wanted]
    out |= {
        "cold_get_p50_us": round(percentile(times, 0.5) * 1e6),
        "cold_get_p99_us": round(percentile(times, 0.99) * 1e6),
    }
    warm = [timed(lambda key=key: store.get(key))[0] for key in wanted]
    out["warm_get_p50_us"] = round(percentile(warm, 0.5) * 1e6, 1)
    if layout != "key, slot":
        out |= scans_and_drops(store, layout, rng)
    store.close()
    return out


def scans_and_drops(store: Any, layout: str, rng: random.Random) -> dict[str, Any]:
    chosen = rng.sample(range(SLOTS - 1), 40)
    seconds, count = timed(lambda: sum(1 for slot in chosen[:20] for _ in store.scan(*bounds(layout, slot))))
    drops = [timed(lambda slot=slot: store.drop(*bounds(layout, slot)))[0] for slot in chosen[20:]]
    assert not any(1 for slot in chosen[20:] for _ in store.scan(*bounds(layout, slot)))
    return {"scan_keys_a_s": round(count / seconds), "drop_slot_ms": round(statistics.median(drops) * 1e3, 2)}


def upkeep(engine: str, path: str, keys: int) -> dict[str, Any]:
    store = ENGINES[engine](path)
    before = size_mb(path)
    seconds, _ = timed(store.upkeep)
    store.close()
    return {"before_mb": before, "upkeep_s": round(seconds, 1), "after_mb": size_mb(path)}


def our_packs(engine: str, path: str, keys: int) -> dict[str, Any]:
    """What a node would pay: the same packs through the interface."""
    from mesh.runtime.store import DiskStore

    packs = zipf_packs(keys, 300, slot_first, seed=2)
    entries = [
        ([(int.from_bytes(key[1:3], "big"), 0, key[4:], value) for key, value in pack if key[:1] == STATE],
         {int.from_bytes(key[1:], "big"): value for key, value in pack if key[:1] == META})
        for pack in packs
    ]  # fmt: skip
    store = DiskStore(path)
    puts, commits, cpu = [], [], time.thread_time()
    for changes, positions in entries:
        puts.append(timed(lambda changes=changes, positions=positions: store.put(changes, positions))[0])
        commits.append(timed(store.commit)[0])
    cpu = time.thread_time() - cpu
    seconds, count = timed(lambda: sum(len(store.scan(slot, None, 1 << 30).states) for slot in range(SLOTS)))
    return {
        "changed_keys_a_s": round(300 * PACK / (sum(puts) + sum(commits))),
        "own_cpu_us_a_key": round(cpu / 300 / PACK * 1e6, 2),  # what a busy machine does not change much
        "put_p50_ms": round(percentile(puts, 0.5) * 1e3, 2),
        "commit_p50_ms": round(percentile(commits, 0.5) * 1e3, 2),
        "commit_p99_ms": round(percentile(commits, 0.99) * 1e3, 2),
        "scan_keys_a_s": round(count / seconds),
    }


def stall(engine: str, path: str, keys: int) -> dict[str, Any]:
    """The gaps of a thread that wants to run every 0.2 ms."""
    packs = zipf_packs(min(keys, 500_000), 200, slot_first, seed=1)
    store = ENGINES[engine](path)
    gaps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0002)
            now = time.perf_counter()
            gaps.append((now - last) * 1e3)
            last = now

    sys.setswitchinterval(0.0005)
    thread = threading.Thread(target=tick)
    thread.start()
    for pack in packs:
        store.put(pack)
    done.set()
    thread.join()
    return {
        f"gap_{name}_ms": round(percentile(gaps, share), 3) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))
    }
