"""How fast is the word count? A plain dict loop, embedded, one daemon, two daemons: one JSON object on stdout.

    python -P tools/bench.py                     4 M Zipf(1.1) words over 100,000, 10 a line, 3 runs each, medians
    python -P tools/bench.py --words 400000      quicker, and noisier

Rates are words a second. A daemon's clock runs from the partition to the end of the job: process starts are left out,
for the embedded run as well; reading the file is in. The parties take turns, so that a noisy minute hits them all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.app.load import load_app
from mesh.app.plan import compile as compile_app
from mesh.runtime.embedded import Embedded
from nodes.fleet import Exited, Fleet, Logged
from nodes.local import free_ports

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "word_count.py"
DISTINCT = 100_000
WORDS_A_LINE = 10


def generate(path: Path, words: int, seed: int = 1) -> None:
    """Zipf(1.1) over DISTINCT words, the same file for the same seed."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(DISTINCT)]
    weights = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, DISTINCT + 1)))
    with path.open("w") as file:
        for _ in range(0, words, 100 * WORDS_A_LINE):
            chosen = rng.choices(vocabulary, cum_weights=weights, k=100 * WORDS_A_LINE)
            file.writelines(
                " ".join(chosen[at : at + WORDS_A_LINE]) + "\n" for at in range(0, len(chosen), WORDS_A_LINE)
            )


def plain_dict(path: Path) -> tuple[int, float]:
    """(words, seconds) of the loop that anybody would write."""
    started = time.perf_counter()
    counts: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            for word in line.split():
                counts[word] = counts.get(word, 0) + 1
    return sum(counts.values()), time.perf_counter() - started


def embedded(path: Path) -> tuple[int, float]:
    app = load_app(str(EXAMPLE))
    app.set_params({"input": str(path)})
    result = Embedded(compile_app(app)).run()
    return result.records_keyed, result.seconds


def daemons(path: Path, count: int) -> tuple[int, float]:
    """Real processes and sockets; the slowest node's clock counts."""
    with tempfile.TemporaryDirectory() as folder:
        topology = Path(folder) / "bench.toml"
        names = [f"node-{number}" for number in range(1, count + 1)]
        topology.write_text(_topology(names, path))
        fleet = Fleet(str(topology), tuple(names), ())
        fleet.start()
        try:
            done = _wait_for_done(fleet, count)
        finally:
            fleet.stop()
            for child in fleet.children.values():
                child.wait(30)
    return sum(int(each["records_keyed"]) for each in done), max(float(each["seconds"]) for each in done)


def _topology(names: list[str], path: Path) -> str:
    lines = ["[cluster]", 'name = "bench"', "[app]", f"module = {json.dumps(str(EXAMPLE))}"]
    lines += ["[app.params]", f"input = {json.dumps(str(path))}"]
    for name, port in zip(names, free_ports(len(names)), strict=True):
        lines += ["[[node]]", f'name = "{name}"', f'listen = "tcp://127.0.0.1:{port}"', 'http = "127.0.0.1:0"']
    return "\n".join(lines)


def _wait_for_done(fleet: Fleet, count: int) -> list[dict[str, object]]:
    done: list[dict[str, object]] = []
    while len(done) < count:
        match fleet.next(120):
            case Logged(_, fields) if fields.get("event") == "app.done":
                done.append(fields)
            case Exited(name, code):
                raise SystemExit(f"{name} ended with {code} before the job was done")
            case None:
                raise SystemExit("no node said anything for two minutes")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    parties: dict[str, Callable[[Path], tuple[int, float]]] = {
        "plain_dict": plain_dict,
        "embedded": embedded,
        "one_daemon": lambda path: daemons(path, 1),
        "two_daemons": lambda path: daemons(path, 2),
    }
    rates: dict[str, list[float]] = {name: [] for name in parties}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        generate(path, options.words)
        for turn in range(options.runs):
            for name, party in parties.items():
                words, seconds = party(path)
                rates[name].append(words / seconds)
                print(f"run {turn + 1}: {name:12} {words / seconds / 1e6:6.2f} M words/s", file=sys.stderr)
    medians = {name: round(statistics.median(each)) for name, each in rates.items()}
    print(
        json.dumps(
            {
                "words": options.words,
                "distinct": DISTINCT,
                "runs": options.runs,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "words_per_second": medians,
                "two_daemons_over_one": round(medians["two_daemons"] / medians["one_daemon"], 2),
                "two_daemons_over_plain_dict": round(medians["two_daemons"] / medians["plain_dict"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
