"""Which embedded database keeps a node's state? Our own pattern in RocksDB, LMDB and SQLite: JSON lines on stdout.

    pip install rocksdict lmdb
    python -P tools/bench_store.py                        everything, 5 M keys: about 30 minutes, 8 GB of disk
    python -P tools/bench_store.py --only big --keys 500000 --engines rocksdb,lmdb

    packages   versions that were measured
    big        fill with all keys; kill -9; open with a cold page cache; packs with fsync; loads; scans; drops
    layout     the same with other key layouts, a fifth of the keys
    kill       kill -9 in the middle of a commit: is what was acknowledged there, is a pack whole or absent
    damage     a flipped byte, a zeroed page, a cut tail in a copy: told, harmless, wrong in silence, or a crash
    full       a full disk (a small tmpfs, needs root): what is raised, does it go on when there is room again
    ours       packs through mesh.runtime.store, with its checksums and keys, a tenth of the keys
    stall      what another thread of the process notices of the commits (the interpreter's lock)

A pack: what the records of some batches changed, 2000 keys drawn by Zipf(1.1), their new states of 30 to 100 bytes, and
a position a slot. Figures are medians of three runs in processes of their own; `big` fills once. A kill -9 leaves the
page cache alone, so nothing here shows what a power loss does: that is the databases' own word, and fsync's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

SLOTS = 1024
PACK = 2000
TRIALS = 15
META = b"\x00"
STATE = b"\x01"
Changes = list[tuple[bytes, bytes]]


# ---------------------------------------------------------------------------------------------- the three databases
class Rocks:
    """write() keeps the interpreter's lock, flush_wal() does not: so the batch first, its fsync after."""

    def __init__(self, path: str) -> None:
        import rocksdict

        self.lib = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.set_write_buffer_size(16 << 20)
        options.set_allow_concurrent_memtable_write(False)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        options.set_keep_log_file_num(2)
        self.db = rocksdict.Rdict(path, options)
        self.how = rocksdict.WriteOptions()
        self.how.memtable_insert_hint_per_batch = True

    def put(self, changes: Changes, sync: bool = True) -> None:
        batch = self.lib.WriteBatch(raw_mode=True)
        for key, value in changes:
            batch.put(key, value)
        self.db.write(batch, self.how)
        if sync:
            self.db.flush_wal(True)

    def get(self, key: bytes) -> bytes | None:
        return self.db.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self.db.iter()
        cursor.seek(begin)
        while cursor.valid() and (key := cursor.key()) < end:
            yield key, cursor.value()
            cursor.next()
        cursor.status()

    def drop(self, begin: bytes, end: bytes) -> None:
        batch = self.lib.WriteBatch(raw_mode=True)
        batch.delete_range(begin, end)
        self.db.write(batch)
        self.db.flush_wal(True)

    def upkeep(self) -> None:
        self.db.compact_range(None, None)

    def close(self) -> None:
        self.db.close()


class Lmdb:
    library = 0  # of the two that the package brings: 0.9

    def __init__(self, path: str) -> None:
        import lmdb

        self.env = lmdb.open(path, map_size=1 << 36, lib_version=self.library)

    def put(self, changes: Changes, sync: bool = True) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor().putmulti(changes)

    def get(self, key: bytes) -> bytes | None:
        with self.env.begin() as txn:
            return txn.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self.env.begin() as txn:
            cursor = txn.cursor()
            found = cursor.set_range(begin)
            while found and cursor.key() < end:
                yield cursor.item()
                found = cursor.next()

    def drop(self, begin: bytes, end: bytes) -> None:
        with self.env.begin(write=True) as txn:
            cursor = txn.cursor()
            found = cursor.set_range(begin)
            while found and cursor.key() < end:
                found = cursor.delete()

    def upkeep(self) -> None:
        """None that works in place: free pages are used again, and the file never shrinks."""

    def close(self) -> None:
        self.env.close()


class Lmdb1(Lmdb):
    library = 1


class Sqlite:
    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.db = sqlite3.connect(f"{path}/state.db", isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("create table if not exists state(key blob primary key, value blob) without rowid")

    def put(self, changes: Changes, sync: bool = True) -> None:
        self.db.execute("begin immediate")
        try:
            self.db.executemany("insert or replace into state values(?, ?)", changes)
            self.db.execute("commit")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("rollback")
            raise

    def get(self, key: bytes) -> bytes | None:
        row = self.db.execute("select value from state where key = ?", (key,)).fetchone()
        return row[0] if row else None

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self.db.execute("select key, value from state where key >= ? and key < ? order by key", (begin, end))

    def drop(self, begin: bytes, end: bytes) -> None:
        self.db.execute("delete from state where key >= ? and key < ?", (begin, end))

    def upkeep(self) -> None:
        self.db.execute("pragma wal_checkpoint(truncate)")
        self.db.execute("vacuum")

    def close(self) -> None:
        self.db.close()


ENGINES: dict[str, Callable[[str], Any]] = {"rocksdb": Rocks, "lmdb": Lmdb, "lmdb-1.0": Lmdb1, "sqlite": Sqlite}


# ---------------------------------------------------------------------------------------------- keys, packs, and how
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


def size_mb(path: str) -> float:
    """What the files take on the disk, holes left out."""
    return round(sum(file.stat().st_blocks * 512 for file in Path(path).rglob("*") if file.is_file()) / 1e6, 1)


def make_cold(path: str) -> None:
    os.sync()
    for file in Path(path).rglob("*"):
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def memory_mb() -> dict[str, float]:
    """Own memory and mapped file pages, apart: the system takes the second back when it needs it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: round(int(fields[name].split()[0]) / 1000, 1) for name in ("RssAnon", "RssFile")}


def written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# ---------------------------------------------------------------------------------------------- what a child measures
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


def bounds(layout: str, slot: int) -> tuple[bytes, bytes]:
    if layout == "position, stage, key":
        return STATE + (slot << 22).to_bytes(4, "big"), STATE + (((slot + 1) << 22) - 1).to_bytes(4, "big") + b"\xff"
    return STATE + slot.to_bytes(2, "big"), STATE + (slot + 1).to_bytes(2, "big")


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


def ours(engine: str, folder: str, keys: int) -> dict[str, Any]:
    return median_of([result(our_packs, engine, f"{folder}/ours{run}", keys // 10) for run in range(3)])


def our_packs(engine: str, path: str, keys: int) -> dict[str, Any]:
    """What a node would pay: the same packs through the interface."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
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


# ---------------------------------------------------------------------------------------------- kill, damage, full disk
def numbered(number: int, keys: int = PACK) -> Changes:
    """A pack that says its number in every key, so that a half one can be seen."""
    value = number.to_bytes(8, "big") * 8
    return [(META + b"\0\0", value), *((STATE + slot_first(name_of(each)), value) for each in range(keys))]


def write_for_ever(engine: str, path: str, first: int) -> dict[str, Any]:
    store = ENGINES[engine](path)
    for number in itertools.count(first):
        store.put(numbered(number))
        print(number, flush=True)
    raise AssertionError


def read_number(engine: str, path: str, keys: int) -> dict[str, Any]:
    store = ENGINES[engine](path)
    found = {value for _, value in store.scan(META, b"\x02")}
    store.close()
    return {"numbers": sorted(int.from_bytes(each[:8], "big") for each in found)}


def kill(engine: str, folder: str, keys: int) -> dict[str, Any]:
    rng = random.Random(3)
    path, first, rounds, torn, lost, ahead = f"{folder}/kill", 1, 10, 0, 0, 0
    for _ in range(rounds):
        with child(write_for_ever, engine, path, first) as process:
            assert process.stdout is not None
            acked = int(process.stdout.readline())
            time.sleep(rng.uniform(0.05, 0.5))
            process.kill()
            acked = max([acked, *(int(line) for line in process.stdout.read().split(b"\n")[:-1])])
        found = result(read_number, engine, path, keys)["numbers"]
        torn += len(found) != 1
        lost += found[0] < acked
        ahead += found[0] > acked
        first = found[-1] + 1
    return {"rounds": rounds, "torn": torn, "lost": lost, "whole_but_not_yet_acknowledged": ahead}


def build(engine: str, path: str, keys: int) -> dict[str, Any]:
    """Something in every part of the database: old and new packs, then killed."""
    store = ENGINES[engine](path)
    for number in range(20):
        store.put(fixed_pack(number))
    print(json.dumps({}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fixed_pack(number: int) -> Changes:
    rng = random.Random(number)
    return sorted({slot_first(name_of(rng.randrange(20_000))): state(rng) for _ in range(3000)}.items())


def look(engine: str, path: str, keys: int) -> dict[str, Any]:
    """Everything that can be read against everything that was written: by scan, then key by key."""
    model: dict[bytes, bytes] = {}
    for number in range(20):
        model.update(fixed_pack(number))
    try:
        store = ENGINES[engine](path)
        found = dict(store.scan(META, b"\x02"))
        differs = found != model or any(store.get(key) != value for key, value in model.items())
    except Exception as error:
        return {"verdict": "told", "error": f"{type(error).__name__}: {error}"[:160].replace(path, "")}
    return {"verdict": "wrong in silence" if differs else "harmless"}


def damage(engine: str, folder: str, keys: int) -> dict[str, Any]:
    """After a clean close and after a kill -9, so that the log is hit as well."""
    out: dict[str, Any] = {}
    killed, closed = f"{folder}/killed", f"{folder}/closed"
    result(build, engine, killed, keys)
    shutil.copytree(killed, closed)
    result(upkeep, engine, closed, keys)
    for origin, name in ((closed, "closed"), (killed, "killed")):
        for how in ("nothing", "flip", "zero", "cut"):
            rng = random.Random(f"{how} {name}")
            verdicts: dict[str, int] = {}
            for _ in range(1 if how == "nothing" else TRIALS):
                verdict = one_damage(engine, origin, f"{folder}/copy", how, rng)
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
            out[f"{how}, {name}"] = verdicts
    return out


def one_damage(engine: str, origin: str, copy: str, how: str, rng: random.Random) -> str:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(origin, copy)
    told_nothing = ("LOG", "LOCK", "lock.mdb", "OPTIONS", "IDENTITY")
    files = [f for f in sorted(Path(copy).rglob("*")) if f.is_file() and not f.name.startswith(told_nothing)]
    files = [file for file in files if file.stat().st_size]
    file = rng.choices(files, weights=[each.stat().st_size for each in files])[0]
    data = bytearray(file.read_bytes().rstrip(b"\0"))  # what was reserved and never written holds nothing
    place = rng.randrange(len(data))
    if how == "flip":
        data[place] ^= 1 << rng.randrange(8)
    elif how == "zero":
        place -= place % 4096
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif how == "cut":
        del data[max(0, len(data) - rng.randint(1, 30_000)) :]
    file.write_bytes(data)
    with child(look, engine, copy, 0) as process:
        answer = process.communicate(timeout=120)[0]
    if process.returncode < 0:
        return f"crash ({signal.Signals(-process.returncode).name})"
    return str(json.loads(answer.splitlines()[-1])["verdict"]) if answer else "told"


def full(engine: str, folder: str, keys: int) -> dict[str, Any]:
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", folder]).returncode:
        return {"skipped": "no small disk can be mounted"}
    try:
        out = result(fill_up, engine, folder, keys)
        return out | {"after_kill": result(read_number, engine, f"{folder}/db", keys)["numbers"]}
    finally:
        subprocess.run(["umount", folder], check=True)


def fill_up(engine: str, folder: str, keys: int) -> dict[str, Any]:
    """Until there is no room; then 40 MB are given back, and the same process tries for half a minute."""
    ballast = Path(folder) / "ballast"
    ballast.write_bytes(os.urandom(40_000_000))
    store = ENGINES[engine](f"{folder}/db")
    packs = (random.Random(n).randbytes(8) for n in itertools.count())
    acked, raised = 0, ""
    padding = 20_000
    try:
        for number in range(1, 500):
            extra = [
                (b"\x03" + next(packs) + each.to_bytes(2, "big"), os.urandom(200)) for each in range(padding // 20)
            ]
            store.put(numbered(number) + extra)
            acked = number
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"[:200].replace(folder, "")
    ballast.unlink()
    out: dict[str, Any] = {"packs_before": acked, "raised": raised}
    started = time.perf_counter()
    while time.perf_counter() - started < 30:
        try:
            store.put(numbered(acked + 1))
            out |= {"goes_on_after_s": round(time.perf_counter() - started, 2), "acked": acked + 1}
            break
        except Exception as error:
            out["then"] = f"{type(error).__name__}: {error}"[:200].replace(folder, "")
            time.sleep(0.1)
    print(json.dumps(out), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


# ---------------------------------------------------------------------------------------------- the parent
def child(step: Callable[..., Any], engine: str, path: str, keys: int, *more: Any) -> subprocess.Popen[bytes]:
    call = json.dumps([step.__name__, engine, path, keys, *more])
    quiet = subprocess.DEVNULL if step in (look, write_for_ever) else None
    return subprocess.Popen([sys.executable, "-P", __file__, "--child", call], stdout=subprocess.PIPE, stderr=quiet)


def result(step: Callable[..., Any], engine: str, path: str, keys: int, *more: Any) -> dict[str, Any]:
    with child(step, engine, path, keys, *more) as process:
        answer = process.communicate()[0]
    return dict(json.loads(answer.splitlines()[-1]))


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    first = runs[0]
    return {
        name: median_of([run[name] for run in runs])
        if isinstance(first[name], dict)
        else statistics.median(run[name] for run in runs)
        for name in first
    }


def big(engine: str, folder: str, keys: int) -> dict[str, Any]:
    path = f"{folder}/big"
    out = result(fill, engine, path, keys)
    first = result(reopen, engine, path, keys)
    again = [result(reopen, engine, path, keys) for _ in range(3)]
    worked = [result(work, engine, path, keys) for _ in range(3)]
    return {
        **out,
        "open_after_kill": first,
        "open": median_of(again),
        **median_of(worked),
        "upkeep": result(upkeep, engine, path, keys),
    }


def layout(engine: str, folder: str, keys: int) -> dict[str, Any]:
    out = {}
    for name in LAYOUTS:
        path = f"{folder}/layout"
        filled = result(fill, engine, path, keys // 5, name)
        out[name] = filled | median_of([result(work, engine, path, keys // 5, name, 100) for _ in range(3)])
        out[name]["after_upkeep_mb"] = result(upkeep, engine, path, keys // 5)["after_mb"]
        shutil.rmtree(path)
    return out


def stalls(engine: str, folder: str, keys: int) -> dict[str, Any]:
    return median_of([result(stall, engine, f"{folder}/stall{run}", keys) for run in range(3)])


def packages() -> dict[str, Any]:
    import lmdb
    import rocksdict

    both = {name: importlib.metadata.version(name) for name in ("rocksdict", "lmdb")}
    with tempfile.TemporaryDirectory() as folder:
        rocksdict.Rdict(folder, rocksdict.Options(raw_mode=True)).close()
        log = next(Path(folder).glob("LOG")).read_text()
    inside = log.split("RocksDB version: ")[1].split()[0]
    libraries = [lmdb.version(lib_version=library) for library in (0, 1)]
    return both | {
        "rocksdb": inside,
        "liblmdb": libraries,
        "sqlite": sqlite3.sqlite_version,
        "python": platform.python_version(),
    }


PARTS: dict[str, Callable[[str, str, int], dict[str, Any]]] = {
    "ours": ours, "stall": stalls, "kill": kill, "damage": damage, "full": full, "layout": layout, "big": big,
}  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        step, *arguments = json.loads(sys.argv[2])
        print(json.dumps(globals()[step](*arguments)), flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(["packages", *PARTS]))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--folder", help="on the disk that is to be measured; the default is the current directory's")
    options = parser.parse_args()
    for part in options.only.split(","):
        if part == "packages":
            print(json.dumps({"part": part, **packages()}), flush=True)
            continue
        for engine in ["rocksdb"] if part == "ours" else options.engines.split(","):
            with tempfile.TemporaryDirectory(dir=options.folder or ".") as folder:
                measured = PARTS[part](engine, folder, options.keys)
            print(json.dumps({"part": part, "engine": engine, **measured}), flush=True)


if __name__ == "__main__":
    main()
