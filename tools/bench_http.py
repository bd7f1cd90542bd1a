"""What one HTTP client gets out of two nodes: round trips beside what their parts cost alone, and lines a second.

    python -P tools/bench_http.py
    python -P tools/bench_http.py --copies 2 --times 500

One client, one connection that is kept, one request at a time, and a lean client: `http.client` alone takes 100 us for
a request. The floors are measured in the same run, as machines and their load differ: what a thread needs to wake
another through a pipe and to be called back on its event loop, what two processes with a node's sockets need to say
ping and pong, and what a node's HTTP door needs to answer at all (`/healthz`). An ask of the other's key is the last
two, and both data planes; one of an own key has a thread woken, which answers by itself. `GET /v1/state` and `/v1/keys`
wait in a thread of a pool, and are called back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.runtime.transport import Transport
from tests.cluster_kit import Cluster, cluster, eventually

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "sequence_window.py"
SLOTS = 1024
BODIES = 100
LINES = 1_000
KEYS = 10_000
RATES = 10, 100, 300, 600, 1_000
PACED_SECONDS = 4


class Client:
    """One connection; a request is one packet, and so is an answer."""

    def __init__(self, door: str) -> None:
        host, port = door.rsplit(":", 1)
        self._host = door
        self._socket = socket.create_connection((host, int(port)), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._socket.sendall("\r\n".join([*lines, "\r\n"]).encode() + body)
        said = self._socket.recv(1 << 16)
        while b"\r\n\r\n" not in said:
            said += self._more()
        head, _, text = said.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(text) < size:
            text += self._more()
        assert head.startswith(b"HTTP/1.1 200"), said
        return text

    def _more(self) -> bytes:
        more = self._socket.recv(1 << 16)
        assert more, "the door was closed"
        return more


# -- floors ------------------------------------------------------------------------------------------------------------


def _echo(pipe: Connection) -> None:
    transport = Transport("tcp://127.0.0.1:0", os.urandom(16))
    pipe.send(transport.bound)
    other = pipe.recv()
    while True:
        transport.wait(1000)
        for parts in transport.receive(64):
            if parts[0] == b"end":
                return
            transport.send(other, parts)


@contextmanager
def ping_pong() -> Iterator[Callable[[], None]]:
    """One transport says something to another, which says it back."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_echo, args=(there,))
    process.start()
    transport = Transport("tcp://127.0.0.1:0", os.urandom(16))
    other = here.recv()
    here.send(transport.bound)

    def once() -> None:
        transport.send(other, [b"head", b"message", b"payload" * 20])
        while True:
            transport.wait(1000)
            if transport.receive(64):
                return

    try:
        yield once
    finally:
        transport.send(other, [b"end", b""])
        process.join(10)
        transport.close()


@contextmanager
def call_back() -> Iterator[Callable[[], None]]:
    """As between the threads of a node: an event loop wakes a thread through a pipe, which calls it back."""
    loop = asyncio.new_event_loop()
    read, write = os.pipe()

    def work() -> None:
        poll = select.poll()
        poll.register(read, select.POLLIN)
        while poll.poll(1000) is not None and os.read(read, 1) != b"e":
            loop.call_soon_threadsafe(lambda: futures.pop().set_result(None))

    futures: list[asyncio.Future[None]] = []
    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    async def ask() -> None:
        futures.append(loop.create_future())
        os.write(write, b".")
        await futures[0]

    try:
        yield lambda: loop.run_until_complete(ask())
    finally:
        os.write(write, b"e")
        thread.join(5)
        loop.close()


# -- requests ----------------------------------------------------------------------------------------------------------


@contextmanager
def windows(copies: int) -> Iterator[Cluster]:
    with TemporaryDirectory() as folder, cluster(Path(folder), "alpha", "beta", app=EXAMPLE, copies=copies) as made:
        made.start()
        made.until_ready()
        wanted = (copies - 1) * SLOTS
        eventually(lambda: sum(node["backups"] for node in made["alpha"].status()["nodes"]) == wanted, "copies")
        yield made


def requests(made: Cluster, times: int) -> None:
    client = Client(made["alpha"].door)
    keys = [f"key-{number}" for number in range(200)]
    here, there = (next(key for key in keys if made.owner_of(key) == name) for name in ("alpha", "beta"))

    def ask(key: str) -> None:
        client.request("POST", f"/v1/ask/window?key={key}", json.dumps({"key": key, "id": 1}).encode())

    def post(key: str) -> None:
        client.request("POST", "/v1/sources/events", json.dumps({"key": key, "id": 1}).encode())

    show("  GET /healthz", lambda: client.request("GET", "/healthz"), times)
    show("  POST /v1/ask, an own key", lambda: ask(here), times)
    show("  POST /v1/ask, the other's key", lambda: ask(there), times)
    show("  POST /v1/sources, an own key", lambda: post(here), times)
    show("  POST /v1/sources, the other's", lambda: post(there), times)
    show("  GET /v1/state, an own key", lambda: client.request("GET", f"/v1/state/window?key={here}"), times)
    show("  GET /v1/state, the other's key", lambda: client.request("GET", f"/v1/state/window?key={there}"), times)
    show("  GET /v1/keys?limit=10", lambda: client.request("GET", "/v1/keys/window?limit=10"), times)


def paced(made: Cluster, rate: int) -> None:
    """One client that asks so many times a second. What of a core the nodes use says how much of it they look."""
    client = Client(made["alpha"].door)
    key = next(key for key in map(str, range(200)) if made.owner_of(key) == "beta")
    text, nodes = json.dumps({"key": key, "id": 1}).encode(), [made[name].pid for name in ("alpha", "beta")]
    used, started, took = sum(map(_cpu_seconds, nodes)), time.perf_counter(), []
    for number in range(rate * PACED_SECONDS):
        due = started + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        asked = time.perf_counter()
        client.request("POST", f"/v1/ask/window?key={key}", text)
        took.append(time.perf_counter() - asked)
    share = (sum(map(_cpu_seconds, nodes)) - used) / len(nodes) / (time.perf_counter() - started)
    name, waited = f"  {rate} asks a second", statistics.median(took) * 1e6
    print(f"{name:34}{'':9}{waited:6.0f} us, and each node uses {share:4.0%} of a core", flush=True)


def _cpu_seconds(pid: int) -> float:
    """Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bodies(made: Cluster, name: str, headers: dict[str, str]) -> None:
    """One client, a body after the other."""
    client = Client(made["alpha"].door)
    texts = [
        b"".join(b'{"key": "key-%d", "id": %d}\n' % ((number * 7919 + place) % KEYS, place) for place in range(LINES))
        for number in range(BODIES)
    ]
    start = time.perf_counter()
    for number, text in enumerate(texts):
        numbered = {**headers, "First-Seq": str(number * LINES)} if headers else {}
        client.request("POST", "/v1/sources/events", text, numbered)
    seconds = time.perf_counter() - start
    each = f"bodies of {LINES:,}: {seconds / BODIES * 1e3:.1f} ms each"
    print(f"  {name:32}{BODIES * LINES / seconds:9,.0f} lines/s, {each}", flush=True)


def show(name: str, call: Callable[[], object], times: int) -> None:
    for _ in range(times // 10):
        call()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    cuts = statistics.quantiles(took, n=100)
    print(f"{name:34}{cuts[9] * 1e6:6.0f} us{cuts[49] * 1e6:6.0f} us{cuts[98] * 1e6:6.0f} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2_000, help="requests of each kind")
    parser.add_argument("--copies", type=int, action="append", help="only with so many")
    options = parser.parse_args()
    print(f"{'':34}{'p10':>9}{'p50':>9}{'p99':>9}")
    with call_back() as once:
        show("a thread is woken, and calls back", once, options.times)
    with ping_pong() as once:
        show("a message there and back", once, options.times)
    for copies in options.copies or (1, 2):
        with windows(copies) as made:
            print(f"copies {copies}")
            requests(made, options.times)
            for rate in RATES if Path("/proc/self/stat").exists() else ():
                paced(made, rate)
            bodies(made, "lines without a name", {})
            bodies(made, "lines of a producer", {"Producer-Id": "bench"})


if __name__ == "__main__":
    main()
