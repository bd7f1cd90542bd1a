"""What copies cost and what they give, on real processes: every number, and what is asked.

    python -P tools/bench_copies.py                       all of it, about ten minutes
    python -P tools/bench_copies.py --only kill --kills 9 one part: words, kill, ask
    python -P tools/bench_copies.py --json                one JSON object on stdout; the lines go to stderr

`words`: the word count of tools/bench.py on two nodes, with one copy and with two. `kill`: a client posts to a key
whose owner is killed with -9, through another node, until it is committed; everything that was committed before is read
again. `join`: a third node joins while producers post with all their might to a million keys; what a key's client waits
is sorted by whether its slot moved. `ask`: the round trip to a remote owner.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster_kit import Cluster, cluster, eventually
from tools import bench, bench_http
from tools.bench_membership import centile, spread, tell

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "sequence_window.py"
SLOTS = 1024
Result = dict[str, Any]


# -- words -------------------------------------------------------------------------------------------------------------


def words(options: argparse.Namespace) -> Result:
    rates: dict[str, list[float]] = {}
    settings: dict[str, dict[str, Any]] = {"one copy": {}, "two copies": {"copies": 2}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.txt"
        bench.generate(path, options.words)
        for _ in range(options.runs):
            for name, each in settings.items():
                counted, seconds = _count(path, each)
                rates.setdefault(name, []).append(counted / seconds)
                tell(f"words, two nodes, {name}: {counted / seconds / 1e6:.2f} M words/s")
    medians = {name: round(statistics.median(each)) for name, each in rates.items()}
    return {"asked": {"two copies": 800_000}, "words_per_second": medians}


def _count(path: Path, settings: dict[str, Any]) -> tuple[int, float]:
    example = EXAMPLE.with_name("word_count.py")
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), "alpha", "beta", app=example, **settings) as made,
    ):
        made.text = made.text.replace("[[node]]", f"[app.params]\ninput = {json.dumps(str(path))}\n[[node]]", 1)
        made.start()
        made.until_done(300.0)
        done = [node.all_of("app.done")[0] for node in made]
    return sum(int(each["records_keyed"]) for each in done), max(float(each["seconds"]) for each in done)


# -- a client ----------------------------------------------------------------------------------------------------------


class Client:
    """One connection that is kept, to one door; what fails is None."""

    def __init__(self, door: str, seconds: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection(door, timeout=seconds)

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes] | None:
        try:
            if self._connection.sock is None:
                self._connection.connect()
                cast(socket.socket, self._connection.sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.request("POST", path, body, headers or {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None

    def event(self, key: str, number: int) -> bool:
        said = self.post("/v1/sources/events", json.dumps({"key": key, "id": number}).encode())
        return said is not None and said[0] == 200


@contextmanager
def _windows(*names: str, **settings: Any) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), *names, app=EXAMPLE, **settings) as made:
        made.start()
        made.until_ready()
        eventually(lambda: _has_copies(made, settings.get("copies", 1)), "every slot has its copies")
        yield made


def _has_copies(made: Cluster, copies: int) -> bool:
    nodes = made.running()[0].status()["nodes"]
    return bool(sum(node["backups"] for node in nodes) == (copies - 1) * SLOTS)


# -- kill --------------------------------------------------------------------------------------------------------------


def kill(options: argparse.Namespace) -> Result:
    times, lost = [], 0
    for turn in range(options.kills):
        seconds, missing = _kill(turn)
        times.append(seconds)
        lost += missing
        tell(f"kill {turn + 1}: writable again after {seconds:.3f} s, {missing} of what was acknowledged is lost")
    return {"asked": {"p50": 2.5, "p99": 5.0, "lost": 0}, "seconds": spread(times), "acknowledged_but_lost": lost}


def _kill(turn: int) -> tuple[float, int]:
    """Seconds until a key of the killed one is written; and how many committed records are gone."""
    names = ("alpha", "beta", "gamma")
    victim, asked = names[turn % 3], names[(turn + 1) % 3]
    with _windows(*names, copies=2) as made:
        keys = [f"key-{number}" for number in range(300)]
        client = Client(made[asked].door, 0.2)  # it waits no longer than that for an answer, and asks again
        for key in keys:
            assert client.event(key, 1)
        mine = [key for key in keys if made.owner_of(key) == victim]
        time.sleep(0.25 * (turn * 0.618 % 1))  # kills come at any point of a probe's period
        start = time.perf_counter()
        made[victim].kill()
        eventually(lambda: client.event(mine[0], 2), "its key is written")
        took = time.perf_counter() - start
        eventually(lambda: made[asked].slots()["active"] == SLOTS, "all slots are somebody's")
        states = [made[asked].get("/v1/state/window", key=key) for key in keys]
        return took, sum(said.code != 200 or said.body["state"]["last"][:1] != [1] for said in states)


# -- ask ---------------------------------------------------------------------------------------------------------------


def ask(options: argparse.Namespace) -> Result:
    result: Result = {"asked": {"p50_us": 500}}
    for copies in (1, 2):
        with _windows("alpha", "beta", copies=copies) as made:
            key = next(each for each in map(str, range(100)) if made.owner_of(each) == "beta")
            client, times = bench_http.Client(made["alpha"].door), []
            for number in range(options.asks):
                text = json.dumps({"key": key, "id": number}).encode()
                start = time.perf_counter()
                client.request("POST", f"/v1/ask/window?key={key}", text)
                times.append((time.perf_counter() - start) * 1e6)
            result[f"copies {copies}"] = {
                "p50_us": round(statistics.median(times)),
                "p99_us": round(centile(times, 0.99)),
            }
            tell(f"ask, a remote owner, copies {copies}: {result[f'copies {copies}']}")
    return result


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {"words": words, "kill": kill, "ask": ask}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="this part, and others that are named so")
    parser.add_argument("--words", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--asks", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results = {name: PARTS[name](options) for name in options.only or PARTS}
    if options.json:
        print(json.dumps({"machine": machine, **results}))


if __name__ == "__main__":
    main()
