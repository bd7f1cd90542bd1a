"""Code of the application that is slow, and what the node around it does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster_kit import cluster, eventually

SLOW = """\
import time
import mesh


def sleep():
    time.sleep(3.2)


def burn():
    end = time.monotonic() + 3.2
    while time.monotonic() < end:
        sum(range(1000))


def step(count, value):
    if value in (10, 30, 50):  # keys of several nodes
        {way}()
    return count + 1


def look(value):
    if value == 20:
        {way}()
    return value


app = mesh.App("slow")
numbers = app.source("numbers", mesh.items(range(100), splits=4)).map(look)
numbers.key_by(lambda n: n).fold("count", int, step)
"""
BACKLOG = """\
import time
from pathlib import Path
import mesh

GATE = Path(__file__).with_name("gate")
PADDING = "x" * 500


class Endless:
    endless = False
    blocking = False

    def splits(self):
        return [mesh.Split("one")]

    def open(self, split, offset):
        self.chunks = 0
        return self

    def read(self, max_bytes):
        self.chunks += 1
        return mesh.Chunk([f"{self.chunks}-{n}-{PADDING}" for n in range(100)], self.chunks, self.chunks == CHUNKS)

    def close(self):
        pass


CHUNKS = 4000  # 200 MB of records


def step(count, value):
    while not GATE.exists():  # the owner is as slow as the test wants
        time.sleep(0.02)
    return count + 1


def key(line):
    return "only"


app = mesh.App("backlog")
app.source("lines", Endless()).key_by(key).fold("count", int, step)
"""
WINDOWS = 64 << 20  # bytes: far above what may be on its way, far below what there is to read


@pytest.mark.parametrize("way", ["sleep", "burn"])
def test_a_node_in_slow_code_is_not_thought_dead_and_answers(tmp_path: Path, way: str) -> None:
    with cluster(tmp_path, "alpha", "beta", "gamma", app=SLOW.format(way=way)) as made:
        made.start()
        made.until_ready()
        rounds = 0
        while not all(node.all_of("app.done") for node in made):
            for node in made:
                assert node.get("/healthz").text == "alive\n"
                assert node.get("/v1/status").body["slots"]["active"] == 1024
                assert node.get("/metrics").code == 200
            rounds += 1
        assert rounds > 10
        assert sum(node.metric("mesh_records_keyed_total") for node in made) == 100
        assert made.alarms() == []


def test_a_slow_owner_stops_the_source_and_nobody_fills_up(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", app=BACKLOG) as made:
        made.start()
        made.until_ready()
        peak = {node.name: node.peak() for node in made}

        def read() -> float:
            return sum(node.metric("mesh_records_read_total") for node in made)

        def at_rest() -> bool:
            counts = [read() for _ in range(20)]
            return counts[0] > 0 and len(set(counts)) == 1

        eventually(at_rest, "the source has stopped")
        assert read() < 100_000
        for node in made:
            assert node.peak() < peak[node.name] + WINDOWS
        (tmp_path / "gate").touch()
        made.until_done()
        assert sum(node.metric("mesh_records_keyed_total") for node in made) == 400_000
        for node in made:
            assert node.peak() < peak[node.name] + WINDOWS
            assert node.get("/v1/state/count", key="only").body["state"] == 400_000
        assert made.alarms() == []
