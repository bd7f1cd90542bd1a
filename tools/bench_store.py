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
import json
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.store_child import median_of, result
from tools.store_engines import ENGINES
from tools.store_harm import damage, full, kill
from tools.store_packs import LAYOUTS
from tools.store_speed import fill, our_packs, reopen, stall, upkeep, work


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


def ours(engine: str, folder: str, keys: int) -> dict[str, Any]:
    return median_of([result(our_packs, engine, f"{folder}/ours{run}", keys // 10) for run in range(3)])


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
