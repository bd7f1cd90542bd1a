"""What a join costs those who use the cluster: a third node joins two that work, and clients say what they waited for.

    python -P tools/bench_join.py                         two copies and one, at full load and at half of it
    python -P tools/bench_join.py --copies 2 --load 1.0   one of these
    python -P tools/bench_join.py --json                  one JSON object on stdout; the lines go to stderr

Three kinds of processes, so that none waits for another: the nodes; producers, who post bodies of LINES records over
many connections, at full speed or at a pace; and clients, who post one record at a time to keys in turn, at fixed
moments whatever became of the ones before: a wait counts from the moment at which it was due. Half of these keys are of
slots that will move, which is known beforehand as levelling is a pure function.

Told, for the time before, during and after the join: p50, p99 and the longest wait of both kinds of keys, records a
second, and cores in use by process. A slot is handed over in a small part of the join, so what its keys wait for is
also told for that part alone (`handed over`): from the first to the last moment at which a slot was seen pending.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from random import Random
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.core.keys import slot_of_key
from mesh.core.rebalance import rebalance
from tests.cluster_kit import Cluster, NodeProcess, cluster, eventually
from tools.bench_membership import centile, tell

Result = dict[str, Any]

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "sequence_window.py"
SLOTS = 1024
LINES = 250  # of a producer's body
CONNECTIONS = 3  # of producers at each node
CLIENTS = 24  # connections at each node, for what is slow
PROBES = 40  # a second and node
QUIET = 5.0  # seconds that are measured before, and after
LOOKS = 0.25  # seconds between two looks at counts and CPU times


def post(connection: http.client.HTTPConnection, body: bytes, **headers: str) -> int:
    """The status; 0: the connection failed, and is made anew next time."""
    try:
        if connection.sock is None:
            connection.connect()
            cast(socket.socket, connection.sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request("POST", "/v1/sources/events", body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0


# -- producers ---------------------------------------------------------------------------------------------------------


def produce(doors: list[str], keys: int, counts: Any, pace: Any, stop: Flag) -> None:
    """A process: bodies to keys drawn at random, CONNECTIONS for each door. `pace`: records a second of all; 0: no
    bound. `counts`: records committed, bodies of which nobody can say."""
    random = Random(1)
    bodies = [b"".join(b'{"key": "%d", "id": 1}\n' % random.randrange(keys) for _ in range(LINES)) for _ in range(500)]
    threads = [
        threading.Thread(target=_produce, args=(doors[number % len(doors)], bodies[number::16], counts, pace, stop))
        for number in range(len(doors) * CONNECTIONS)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def _produce(door: str, bodies: list[bytes], counts: Any, pace: Any, stop: Flag) -> None:
    connection, number, due = http.client.HTTPConnection(door, timeout=30), 0, time.perf_counter()
    while not stop.is_set():
        if pace.value:
            due = max(due, time.perf_counter() - 0.1) + LINES * CONNECTIONS * 2 / pace.value
            time.sleep(max(0.0, due - time.perf_counter()))
        status = post(connection, bodies[number % len(bodies)])
        number += 1
        with counts.get_lock():
            counts[0] += LINES * (status == 200)
            counts[1] += status != 200


# -- clients -----------------------------------------------------------------------------------------------------------


def ask(door: str, keys: list[str], stop: Flag, answer: Any) -> None:
    """A process: one record at each due moment, to keys in turn; [(key, due, waited)] at the end."""
    seen: list[tuple[str, float, float]] = []
    numbers, lock, begun = iter(range(1 << 62)), threading.Lock(), time.perf_counter()

    def client() -> None:
        connection = http.client.HTTPConnection(door, timeout=30)
        while not stop.is_set():
            with lock:
                number = next(numbers)
            key, due = keys[number % len(keys)], begun + number / PROBES
            time.sleep(max(0.0, due - time.perf_counter()))
            body = json.dumps({"key": key, "id": number}).encode()
            while post(connection, body) != 200 and not stop.is_set():
                time.sleep(0.005)
            seen.append((key, due, time.perf_counter() - due))

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    answer.put(seen)


# -- looks -------------------------------------------------------------------------------------------------------------


@dataclass
class Looks(threading.Thread):
    """What is true by the second: records committed, CPU seconds of each process, slots that are pending."""

    made: Cluster
    others: dict[str, int]  # name -> pid
    counts: Any
    copies: int
    at_rest: int = 0  # so many nodes had their shares at the last look
    seen: list[tuple[float, int, dict[str, float], int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stop.wait(LOOKS):
            pids = {name: node.pid for name, node in self.made.nodes.items()} | self.others
            used = {name: _cpu_seconds(pid) for name, pid in pids.items()}
            status = self.made["alpha"].status()  # one question a look: a node that answers does nothing else
            pending = status["slots"]["total"] - status["slots"]["active"]
            self.seen.append((time.perf_counter(), self.counts[0], used, pending))
            rests = not pending and _is_level(status, self.copies)
            self.at_rest = len(status["nodes"]) if rests else 0

    def over(self, start: float, end: float) -> Result:
        """Between the looks that are nearest to these."""
        inside = [each for each in self.seen if start <= each[0] <= end]
        (begun, first, used, _), (ended, last, later, _) = inside[0], inside[-1]
        took = ended - begun
        cores = {name: round((seconds - used.get(name, 0.0)) / took, 2) for name, seconds in later.items()}
        return {"records_per_second": round((last - first) / took), "cores": cores}

    def handed_over(self) -> tuple[float, float]:
        pending = [place for place, each in enumerate(self.seen) if each[3]]
        return (self.seen[pending[0] - 1][0], self.seen[pending[-1]][0]) if pending else (0.0, 0.0)

    def by_second(self, begun: float) -> list[int]:
        """Records of each second, from the fourth before the join on."""
        every = [(each[0] - begun, each[1]) for each in self.seen][:: round(1 / LOOKS)]
        return [round((after[1] - each[1]) / (after[0] - each[0])) for each, after in pairwise(every)]


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- a join ------------------------------------------------------------------------------------------------------------


def join(copies: int, load: float, keys: int, full: float = 0.0) -> Result:
    """`load`: a part of `full` records a second; 1: as many as go."""
    with (
        _cluster(copies) as made,
        _busy(made, copies, keys, 0.0 if load == 1 else load * full) as (looks, answers, probes),
    ):
        time.sleep(QUIET)
        before = _owners(made["alpha"])
        begun = time.perf_counter()
        made.join("delta", "alpha")
        eventually(lambda: looks.at_rest == len(made.nodes), "the third has its share", 170.0)
        ended = time.perf_counter()
        time.sleep(QUIET)
        after = _owners(made["alpha"])
    waits = [each for answer in answers for each in answer]
    moved = {slot for slot in range(SLOTS) if before[slot] != after[slot]}
    stayed = sorted({slot_of_key(key, 0, SLOTS) for key in probes["moving"]} - moved)
    assert not stayed, f"somebody else came or went meanwhile: {len(stayed)} slots that should move did not"
    phases = {"before": (0.0, begun), "during": (begun, ended), "after": (ended, ended + QUIET)}
    phases["handed over"] = looks.handed_over()
    result: Result = {"copies": copies, "load": load, "keys": keys, "seconds": round(ended - begun, 1)}
    result["moved"] = round(len(moved) / SLOTS, 3)
    result["by_second"] = looks.by_second(begun)
    for name, (start, end) in phases.items():
        result[name] = looks.over(begun - QUIET if name == "before" else start, end) if end else {}
        for kind, chosen in probes.items():
            found = [waited for key, due, waited in waits if key in chosen and start - 0.2 <= due <= end]
            result[name][kind] = _spread(found)
    result["foreground"] = round(result["during"]["records_per_second"] / result["before"]["records_per_second"], 2)
    _show(result)
    return result


def _spread(waits: list[float]) -> Result:
    if not waits:
        return {}
    found = {"p50": statistics.median(waits), "p99": centile(waits, 0.99), "max": max(waits)}
    return {name: round(1000 * each) for name, each in found.items()} | {"count": len(waits)}


def _show(result: Result) -> None:
    tell(
        f"copies {result['copies']}, load {result['load']}, {result['keys']:,} keys: the join took "
        f"{result['seconds']} s, moved {result['moved']}, the foreground kept {result['foreground']:.0%}"
    )
    for name in ("before", "during", "handed over", "after"):
        tell(f"  {name}: " + ", ".join(f"{what} {each}" for what, each in result[name].items()))
    tell(f"  by second: {result['by_second']}")


@contextmanager
def _cluster(copies: int) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), "alpha", "beta", app=EXAMPLE, copies=copies) as made,
    ):
        made.start()
        made.until_ready()
        eventually(lambda: _is_level(made["alpha"].status(), copies), "every slot has its copies")
        yield made


def _is_level(status: Any, copies: int) -> bool:
    """Slots are where they belong, and copied."""
    owned, copied = ([node[what] for node in status["nodes"]] for what in ("slots", "backups"))
    return all(max(each) - min(each) <= 1 for each in (owned, copied)) and sum(copied) == (copies - 1) * SLOTS


@contextmanager
def _busy(made: Cluster, copies: int, keys: int, pace: float) -> Iterator[tuple[Looks, list[Any], dict[str, set[str]]]]:
    """Keys are there, producers and clients work; all of them have ended after it."""
    context, doors = multiprocessing.get_context("spawn"), [made[name].door for name in made.names]
    _load(doors, keys)
    probes = _probes(made)
    counts, rate, stop, answer = context.Array("q", 2), context.Value("d", pace), context.Event(), context.Queue()
    producer = context.Process(target=produce, args=(doors, keys, counts, rate, stop))
    mixed = [key for pair in zip(*map(sorted, probes.values()), strict=True) for key in pair]
    clients = [
        context.Process(target=ask, args=(door, mixed[n :: len(doors)], stop, answer)) for n, door in enumerate(doors)
    ]
    for each in (producer, *clients):
        each.start()
    eventually(lambda: counts[0] > 0, "records are committed")
    pids = {"producers": producer.pid or 0} | {f"client {n}": each.pid or 0 for n, each in enumerate(clients)}
    looks = Looks(made, pids, counts, copies)
    looks.start()
    answers: list[Any] = []
    try:
        yield looks, answers, probes
        looks.stop.set()
        looks.join()
        stop.set()
        answers += [answer.get(timeout=60) for _ in clients]
        tell(f"  bodies that were not committed at once: {counts[1]}")
    finally:
        for each in (producer, *clients):
            each.join(1 if answers else 0)
            each.kill()


def _probes(made: Cluster) -> dict[str, set[str]]:
    """Keys whose slots will move, and as many whose slots will not."""
    owners = _owners(made["alpha"])
    target = rebalance(owners, [*made.names, "delta"])
    moves = {slot for slot in range(SLOTS) if owners[slot] != target[slot]}
    found: dict[str, set[str]] = {"moving": set(), "staying": set()}
    number = 0
    while any(len(each) < 200 for each in found.values()):
        key, number = f"probe-{number}", number + 1
        kind = found["moving" if slot_of_key(key, 0, SLOTS) in moves else "staying"]
        if len(kind) < 200:
            kind.add(key)
    return found


def _owners(node: NodeProcess) -> list[str]:
    owners = [""] * SLOTS
    for run in node.get("/v1/ring").body["runs"]:
        owners[run["first"] : run["last"] + 1] = [run["owner"]] * (run["last"] + 1 - run["first"])
    return owners


def _load(doors: list[str], keys: int) -> None:
    """So many keys, through all doors."""
    begun, size = time.perf_counter(), 2_000
    firsts, lock = iter(range(0, keys, size)), threading.Lock()

    def loader(door: str) -> None:
        connection = http.client.HTTPConnection(door, timeout=30)
        while True:
            with lock:
                first = next(firsts, None)
            if first is None:
                return
            body = b"".join(b'{"key": "%d", "id": 0}\n' % number for number in range(first, min(keys, first + size)))
            eventually(lambda body=body: post(connection, body) == 200, "loaded")  # type: ignore[misc]

    threads = [threading.Thread(target=loader, args=(door,)) for door in doors * 3]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    tell(f"  {keys:,} keys were loaded in {time.perf_counter() - begun:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, action="append", choices=(1, 2))
    parser.add_argument("--load", type=float, action="append", help="a part of what goes at most")
    parser.add_argument("--full", type=float, default=0.0, help="records a second that go at most, if it is known")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results: list[Result] = []
    for copies in options.copies or (2, 1):
        full = options.full
        for load in options.load or (1.0, 0.5):
            results.append(join(copies, load, options.keys, full))
            full = results[-1]["before"]["records_per_second"] if load == 1 else full
    if options.json:
        print(json.dumps({"machine": machine, "results": results}))


if __name__ == "__main__":
    main()
