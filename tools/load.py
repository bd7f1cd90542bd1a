"""Load for benchmarks: producers and clients that post while something happens, and looks at what is true meanwhile.

Processes of their own, so that none waits for another: producers post bodies of LINES records over many connections, at
full speed or at a pace; clients post one record at a time to keys in turn, at fixed moments whatever became of the ones
before: a wait counts from the moment at which it was due.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from random import Random
from typing import Any, cast

from tests.cluster_kit import Cluster, eventually
from tools.bench_membership import centile, tell

Result = dict[str, Any]

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "sequence_window.py"
SLOTS = 1024
LINES = 250  # of a producer's body
CONNECTIONS = 3  # of producers at each node
CLIENTS = 24  # connections at each node, for what is slow
PROBES = 40  # a second and node
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
class Look:
    at: float
    records: int  # committed so far
    used: dict[str, float]  # CPU seconds of each process
    status: Any  # what the first node says

    def pending(self) -> int:
        slots = self.status["slots"]
        return int(slots["total"] - slots["active"])

    def has_copies(self, copies: int) -> bool:
        """All slots, on nodes that are there."""
        return _sum_of("backups", self.status) == (copies - 1) * SLOTS


@dataclass
class Looks(threading.Thread):
    """What is true by the second."""

    made: Cluster
    others: dict[str, int]  # name -> pid
    counts: Any
    seen: list[Look] = field(default_factory=list)
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
            self.seen.append(Look(time.perf_counter(), self.counts[0], used, status))

    def until(self, found: Callable[[Look], bool], what: str, seconds: float) -> float:
        """When a look first showed this, from now on."""
        begun = len(self.seen)
        eventually(lambda: any(map(found, self.seen[begun:])), what, seconds)
        return next(each.at for each in self.seen[begun:] if found(each))

    def over(self, start: float, end: float) -> Result:
        """Between the looks that are nearest to these."""
        inside = [each for each in self.seen if start <= each.at <= end]
        first, last = inside[0], inside[-1]
        took = last.at - first.at
        cores = {name: round((used - first.used.get(name, 0.0)) / took, 2) for name, used in last.used.items()}
        return {"records_per_second": round((last.records - first.records) / took), "cores": cores}

    def handed_over(self) -> tuple[float, float]:
        pending = [place for place, each in enumerate(self.seen) if each.pending()]
        return (self.seen[pending[0] - 1].at, self.seen[pending[-1]].at) if pending else (0.0, 0.0)

    def by_second(self) -> list[int]:
        """Records of each second."""
        every = self.seen[:: round(1 / LOOKS)]
        return [round((after.records - each.records) / (after.at - each.at)) for each, after in pairwise(every)]


def _sum_of(what: str, status: Any) -> int:
    return sum(node[what] for node in status["nodes"] if node["state"] in ("alive", "suspect"))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_level(status: Any, copies: int) -> bool:
    """Slots are where they belong, and copied."""
    owned, copied = ([node[what] for node in status["nodes"]] for what in ("slots", "backups"))
    return all(max(each) - min(each) <= 1 for each in (owned, copied)) and sum(copied) == (copies - 1) * SLOTS


# -- all together ------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """What is under way; the waits of clients are there when it has ended."""

    looks: Looks
    waits: list[tuple[str, float, float]] = field(default_factory=list)  # (key, due, waited)

    def waited(self, start: float, end: float, keys: Collection[str] | None = None) -> Result:
        """For these keys, or all."""
        chosen = [each for each in self.waits if keys is None or each[0] in keys]
        return _spread([waited for _, due, waited in chosen if start - 0.2 <= due <= end])


@contextmanager
def under_load(made: Cluster, names: Sequence[str], keys: int, pace: float, probes: Sequence[str]) -> Iterator[Work]:
    """Keys are there, producers and clients work at these nodes; all of them have ended after it."""
    context, doors = multiprocessing.get_context("spawn"), [made[name].door for name in names]
    _load(doors, keys)
    counts, rate, stop, answer = context.Array("q", 2), context.Value("d", pace), context.Event(), context.Queue()
    producer = context.Process(target=produce, args=(doors, keys, counts, rate, stop))
    clients = [
        context.Process(target=ask, args=(door, probes[n :: len(doors)], stop, answer)) for n, door in enumerate(doors)
    ]
    for each in (producer, *clients):
        each.start()
    eventually(lambda: counts[0] > 0, "records are committed")
    pids = {"producers": producer.pid or 0} | {f"client {n}": each.pid or 0 for n, each in enumerate(clients)}
    work = Work(Looks(made, pids, counts))
    work.looks.start()
    answered = False
    try:
        yield work
        work.looks.stop.set()
        work.looks.join()
        stop.set()
        work.waits += [each for _ in clients for each in answer.get(timeout=60)]
        answered = True
        tell(f"  bodies that were not committed at once: {counts[1]}")
    finally:
        for each in (producer, *clients):
            each.join(1 if answered else 0)
            each.kill()


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


def _spread(waits: list[float]) -> Result:
    if not waits:
        return {}
    found = {"p50": statistics.median(waits), "p99": centile(waits, 0.99), "max": max(waits)}
    return {name: round(1000 * each) for name, each in found.items()} | {"count": len(waits)}
