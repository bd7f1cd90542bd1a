"""What one HTTP client gets out of two nodes: the round trip of an ask, and lines a second of posted bodies.

    python tools/bench_http.py

The client keeps one connection and asks for keys that the other node owns, so a request crosses the mesh. `/healthz`
over the same connection says how much of a round trip is the HTTP server's own: it does nothing else. The state's own
way (`GET /v1/state`) waits in a thread of a pool; an ask does not.
"""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.cluster_kit import Cluster, cluster

EXAMPLE = Path(__file__).parent.parent / "examples" / "sequence_window.py"
ASKS = 3_000
BODIES = 100
LINES = 1_000
KEYS = 10_000


class Client:
    """One connection that is kept."""

    def __init__(self, door: str) -> None:
        self._connection = http.client.HTTPConnection(door, timeout=30)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        self._connection.request(method, path, body or None, headers or {})
        response = self._connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        return text


def main() -> None:
    with TemporaryDirectory() as folder, cluster(Path(folder), "alpha", "beta", app=EXAMPLE) as made:
        made.start()
        made.until_ready()
        client = Client(made["alpha"].door)
        keys = [f"key-{number}" for number in range(200)]
        here, there = (next(key for key in keys if made.owner_of(key) == name) for name in ("alpha", "beta"))
        print(f"{'':24}{'p50':>9}{'p99':>9}")
        show("GET /healthz", lambda: client.request("GET", "/healthz"))
        show("ask, an own key", lambda: ask(client, here))
        show("ask, the other's key", lambda: ask(client, there))
        show("GET /v1/state, its key", lambda: client.request("GET", f"/v1/state/window?key={there}"))
        post(made, "lines without a name", {})
        post(made, "lines of a producer", {"Producer-Id": "bench"})


def ask(client: Client, key: str) -> None:
    client.request("POST", f"/v1/ask/window?key={key}", json.dumps({"key": key, "id": 1}).encode())


def show(name: str, call: object) -> None:
    assert callable(call)
    times = []
    for _ in range(ASKS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    cuts = statistics.quantiles(times, n=100)
    print(f"{name:24}{cuts[49] * 1e6:6.0f} us{cuts[98] * 1e6:6.0f} us")


def post(made: Cluster, name: str, headers: dict[str, str]) -> None:
    """One client, a body after the other."""
    bodies = [
        b"".join(b'{"key": "key-%d", "id": %d}\n' % ((number * 7919 + place) % KEYS, place) for place in range(LINES))
        for number in range(BODIES)
    ]
    client = Client(made["alpha"].door)
    start = time.perf_counter()
    for number, body in enumerate(bodies):
        numbered = {**headers, "First-Seq": str(number * LINES)} if headers else {}
        client.request("POST", "/v1/sources/events", body, numbered)
    seconds = time.perf_counter() - start
    print(
        f"{name:24}{BODIES * LINES / seconds:9,.0f} lines/s, bodies of {LINES:,}: {seconds / BODIES * 1e3:.1f} ms each"
    )


if __name__ == "__main__":
    main()
