"""What states on disk cost, and how long a node takes to come back, on real processes: every number, and what is asked.

    python -P tools/bench_disk.py                      all of it, about ten minutes
    python -P tools/bench_disk.py --only restart       one part: words, restart
    python -P tools/bench_disk.py --json               one JSON object on stdout; the lines go to stderr

`words`: the word count of tools/bench.py in memory and on disk: on one node, on two, and on two with two copies.
`restart`: one node with so many keys on disk is killed with -9 and started again: seconds from its start until it is
ready, of which so many until the interpreter and the app are loaded; the same of a node with one key beside it. Then
how long the first read of each of some keys takes, which loads it from the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster_kit import Cluster, cluster
from tests.deaths_kit import directory
from tools import bench
from tools.bench_copies import EXAMPLE
from tools.bench_membership import centile, tell

LINE = 10  # words
Result = dict[str, Any]

SETTINGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "one node, memory": (("alpha",), {}),
    "one node, disk": (("alpha",), {"durability": "disk"}),
    "two nodes, memory": (("alpha", "beta"), {}),
    "two nodes, disk": (("alpha", "beta"), {"durability": "disk"}),
    "two nodes, two copies, memory": (("alpha", "beta"), {"copies": 2}),
    "two nodes, two copies, disk": (("alpha", "beta"), {"copies": 2, "durability": "disk"}),
}


@contextmanager
def _nodes(names: tuple[str, ...], app: Path, settings: dict[str, Any], params: str = "") -> Iterator[Cluster]:
    extra = {name: f'data_dir = "{directory(name)}"' for name in names} if "durability" in settings else None
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), *names, app=app, extra=extra, **settings) as made,
    ):
        made.text = made.text.replace("[[node]]", f"{params}\n[[node]]", 1)
        made.start()
        yield made


# -- words -------------------------------------------------------------------------------------------------------------


def words(options: argparse.Namespace) -> Result:
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        bench.generate(path, options.words)
        for _ in range(options.runs):
            for name, (nodes, settings) in SETTINGS.items():
                counted, seconds = _count(path, nodes, settings)
                rates.setdefault(name, []).append(counted / seconds)
                tell(f"words, {name}: {counted / seconds / 1e6:.3f} M words/s")
    medians = {name: round(statistics.median(each)) for name, each in rates.items()}
    return {"asked": {"one node, disk": 500_000}, "words_per_second": medians}


def _count(path: Path, names: tuple[str, ...], settings: dict[str, Any]) -> tuple[int, float]:
    params = f"[app.params]\ninput = {json.dumps(str(path))}"
    with _nodes(names, EXAMPLE.with_name("word_count.py"), settings, params) as made:
        made.until_done(600.0)
        done = [node.all_of("app.done")[0] for node in made]
    return sum(int(each["records_keyed"]) for each in done), max(float(each["seconds"]) for each in done)


# -- restart -----------------------------------------------------------------------------------------------------------


def restart(options: argparse.Namespace) -> Result:
    result: Result = {"asked": {"seconds": 10}}
    for keys in (1, options.keys):
        with tempfile.TemporaryDirectory() as folder, _counted(Path(folder) / "keys.txt", keys) as made:
            times = [_again(made) for _ in range(options.restarts)]
            result[f"{keys} keys"] = {
                name: round(statistics.median(each[name] for each in times), 2) for name in times[0]
            }
            result[f"{keys} keys"]["on disk, MB"] = _size(made.folder / directory("alpha")) >> 20
            result[f"{keys} keys"]["memory at most, MB"] = made["alpha"].peak() >> 20
            result[f"{keys} keys"]["cold reads, ms"] = _cold(made, keys)
    tell(f"restart: {result}")
    return result


@contextmanager
def _counted(path: Path, keys: int) -> Iterator[Cluster]:
    """A node that has counted so many words, all different."""
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, keys, LINE):
            file.write(" ".join(f"word-{number}" for number in range(first, min(keys, first + LINE))) + "\n")
    params = f"[app.params]\ninput = {json.dumps(str(path))}"
    with _nodes(("alpha",), EXAMPLE.with_name("word_count.py"), {"durability": "disk"}, params) as made:
        made.until_done(1_800.0)
        seconds = made["alpha"].all_of("app.done")[0]["seconds"]
        tell(f"restart: {keys:,} keys are there after {seconds:.0f} s")
        yield made


def _again(made: Cluster) -> dict[str, float]:
    made["alpha"].kill()
    began = time.time()
    made.start("alpha")
    alpha = made["alpha"]
    ready = alpha.until("node.ready", 600.0)
    seconds = {
        "until it listens": _moment(alpha.until("node.listening")) - began,
        "until ready": _moment(ready) - began,
    }
    tell(f"restart: {seconds}")
    return seconds


def _moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(event["timestamp"])).timestamp()


def _cold(made: Cluster, keys: int) -> dict[str, float]:
    times = []
    for number in range(0, keys, max(1, keys // 500)):
        began = time.perf_counter()
        assert made["alpha"].get("/v1/state/count", key=f"word-{number}").code == 200
        times.append((time.perf_counter() - began) * 1e3)
    return {"p50": round(statistics.median(times), 2), "p99": round(centile(times, 0.99), 2)}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {"words": words, "restart": restart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="this part, and others that are named so")
    parser.add_argument("--words", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results = {name: PARTS[name](options) for name in options.only or PARTS}
    if options.json:
        print(json.dumps({"machine": machine, **results}))


if __name__ == "__main__":
    main()
