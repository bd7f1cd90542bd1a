"""The sequence window on real nodes, and producers that post to it through whoever is there until it is committed."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import mesh.testing
from mesh.app import load_app
from tests.cluster_kit import Cluster, NodeProcess, Said, cluster, eventually
from tests.commands import ROOT

EXAMPLE = ROOT / "examples" / "sequence_window.py"
ENOUGH = 150.0  # seconds until one body is committed; a node that comes back may take a while on a busy machine


def post(
    door: str, path: str, body: bytes, headers: dict[str, str] | None = None, seconds: float = 30.0, **query: str
) -> Said:
    connection = http.client.HTTPConnection(door, timeout=seconds)
    try:
        connection.request("POST", path + (f"?{urlencode(query)}" if query else ""), body, headers or {})
        response = connection.getresponse()
        return Said(response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()})
    finally:
        connection.close()


def lines(events: list[tuple[str, int]]) -> bytes:
    return b"".join(json.dumps({"key": key, "id": number}).encode() + b"\n" for key, number in events)


def events(door: str, sent: list[tuple[str, int]], producer: str = "", first: int = 0, seconds: float = 30.0) -> Said:
    headers = {"Producer-Id": producer, "First-Seq": str(first)} if producer else {}
    return post(door, "/v1/sources/events", lines(sent), headers, seconds)


def window(ids: list[int]) -> dict[str, Any]:
    return {"count": len(ids), "sum": sum(ids), "last": ids[-4:]}


def written(folder: Path) -> dict[str, list[int]]:
    """By key the ids, in the order of their counts, which must be 1, 2, 3 ... and ascend in each part."""
    found: dict[str, dict[int, int]] = {}
    for part in folder.glob("*.jsonl"):
        here: dict[str, int] = {}
        for line in part.read_text().splitlines():
            key, number, count = json.loads(line)
            assert count not in found.setdefault(key, {}), "a count is written twice"
            assert count > here.get(key, 0), "a later count is written first"
            here[key] = count
            found[key][count] = number
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in found.values())
    return {key: [counts[count] for count in sorted(counts)] for key, counts in found.items()}


@contextmanager
def windows(folder: Path, *names: str, **settings: Any) -> Iterator[Cluster]:
    """These nodes, ready; what they give out is in `out`."""
    with cluster(folder, *names, app=EXAMPLE, **settings) as made:
        start_windows(made)
        yield made


def start_windows(made: Cluster) -> None:
    made.text = made.text.replace("[[node]]", '[app.params]\noutput = "out"\n[[node]]', 1)
    made.start()
    made.until_ready()


def of_one_process(sent: list[tuple[str, int]]) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]]]:
    """By key the state, and the ids as they are given out, where one process gets it all in this order."""
    app = load_app(str(EXAMPLE))
    app.set_params({})
    ran = mesh.testing.run(app, {"events": [{"key": key, "id": number} for key, number in sent]})
    states = {key: dict(vars(state)) for key, state in ran.states["window"].items()}
    given: dict[str, list[int]] = {key: [] for key in states}
    for key, number, _ in next(iter(ran.outputs.values())):
        given[key].append(number)
    return states, given


class Producer:
    """Numbers the lines of keys that are its alone, and sends each body until it is committed, to whom it chooses.

    Now and then it waits for an answer for a moment only, or sends again what was committed, or reads what it wrote.
    Where slots have copies (`copied`), the node that was asked sends lines again by itself to who owns the slot next;
    of one that is known then nobody can say if it is so by this very request, and it is not counted as a duplicate.
    """

    def __init__(self, name: str, made: Cluster, random: Random, keys: int = 12, *, copied: bool = False) -> None:
        self.made, self.random, self.copied = made, random, copied
        self.name = name
        self.keys = [f"{name}-{number}" for number in range(keys)]
        self.ids: Counter[str] = Counter()
        self.sent: list[tuple[str, int]] = []  # committed
        self.answers: Counter[str] = Counter()
        self.reads = 0
        self.failure = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let it end what it has begun."""
        self._stopped.set()
        self._thread.join(ENOUGH)
        assert not self._thread.is_alive(), f"{self.name} waits: {self.answers}"
        assert not self.failure, f"{self.name}: {self.failure}"

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._send(self._body())
                self._read()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def _body(self) -> list[tuple[str, int]]:
        body = []
        for _ in range(self.random.choice((1, 4, 20, 60))):
            key = self.random.choice(self.keys)
            self.ids[key] += 1
            body.append((key, self.ids[key]))
        return body

    def _send(self, body: list[tuple[str, int]]) -> None:
        first = len(self.sent)
        said = self._committed(body, first)
        assert said.body["committed"] == len(body), said
        while self.random.random() < 0.1:
            said = self._committed(body, first)
            assert self.copied or said.body["duplicates"] == len(body), said
        self.sent += body

    def _committed(self, body: list[tuple[str, int]], first: int) -> Said:
        def answer() -> Said | None:
            said = self._attempt(body, first)
            return None if said is None or said.code in (503, 504) else said

        said = eventually(answer, f"committed, after {self.answers}", ENOUGH)
        assert said.code == 200, said
        return said

    def _attempt(self, body: list[tuple[str, int]], first: int) -> Said | None:
        """None if there was no answer."""
        seconds = self.random.choice((30.0, 30.0, 30.0, 0.004))
        try:
            node = self._node()
            said = node.near(events, node.door, body, self.name, first, seconds)
        except (OSError, http.client.HTTPException) as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(said.code)] += 1
        return said

    def _read(self) -> None:
        """Nobody else writes these keys: what is read is what was committed."""
        key = self.random.choice(self.keys)
        try:
            said = self._node().get("/v1/state/window", key=key)
        except OSError:
            return
        if said.code == 200:
            assert said.body["state"] == window(list(range(1, self.ids[key] + 1))), said
            self.reads += 1
        assert said.code in (200, 503) or (said.code, self.ids[key]) == (404, 0), said

    def _node(self) -> NodeProcess:
        return self.random.choice(eventually(self._listening, "somebody listens"))

    def _listening(self) -> list[NodeProcess]:
        return [each for each in self.made.running() if each.all_of("node.listening")]
