"""Real nodes that are posted to: the sequence window, retries through other nodes, asks, a dead owner."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_kit import Cluster, Said, eventually
from tests.commands import ENVIRONMENT, run_mesh
from tests.windows_kit import EXAMPLE, events, lines, post, window, windows, written

KEYS = [f"key-{number}" for number in range(30)]


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with windows(tmp_path, "alpha", "beta", "gamma") as made:
        yield made


def test_windows_of_sequences_whoever_is_asked(three: Cluster) -> None:
    nodes = list(three)
    sent = [(key, number) for number in range(1, 11) for key in KEYS]
    for start in range(0, len(sent), 50):
        part = sent[start : start + 50]
        for node in nodes:  # the second and the third time nothing is applied
            told = events(node.door, part, "p", start)
            assert told.code == 200, told
            assert told.body["committed"] == 50
            assert told.body["duplicates"] == (0 if node is nodes[0] else 50)
    for key in KEYS:
        for node in nodes:
            assert node.get("/v1/state/window", key=key).body["state"] == window(list(range(1, 11)))
    eventually(lambda: sum(map(len, written(three.folder / "out").values())) == 300, "all outputs are written")
    assert written(three.folder / "out") == {key: list(range(1, 11)) for key in KEYS}
    assert all(node.status()["done"] is False for node in nodes)
    assert [each["records"] for each in nodes[0].status()["sources"]] == [300] or eventually(
        lambda: nodes[0].status()["sources"][0]["records"] == 300, "the lines are counted once"
    )
    assert not three.noise()


def test_what_is_refused_changes_nothing(three: Cluster) -> None:
    door = three["alpha"].door
    bad = lines([("a", 1), ("b", 2)]) + b'{"key": 3}\n'
    told = post(door, "/v1/sources/events", bad)
    assert (told.code, told.body["error"], told.body["line"]) == (400, "bad-line", 3)
    assert "an event is" in told.body["detail"]
    assert post(door, "/v1/sources/event", bad).code == 404
    assert events(door, [("a", 1)], "p").code == 200
    assert events(three["beta"].door, [("b", 1)], "p").code == 409
    assert three["gamma"].get("/v1/state/window", key="b").code == 404
    assert three["gamma"].get("/v1/state/window", key="a").body["state"] == window([1])


def test_an_ask_is_applied_once_and_answered_by_any_node(three: Cluster) -> None:
    for number, node in enumerate([*three] * 2):
        for key in KEYS[:5]:
            record = json.dumps({"key": key, "id": number}).encode()
            told = post(node.door, "/v1/ask/window", record, key=key)
            assert (told.code, told.body) == (200, {"outputs": [[key, number, number + 1]]})
    assert three["alpha"].get("/v1/state/window", key=KEYS[0]).body["state"] == window([0, 1, 2, 3, 4, 5])
    raised = post(three["alpha"].door, "/v1/ask/window", b'{"key": "x"}', key="x")
    assert (raised.code, raised.body["error"]) == (422, "raised")
    assert "KeyError" in raised.body["detail"]
    assert three["alpha"].get("/v1/state/window", key="x").code == 404
    assert post(three["alpha"].door, "/v1/ask/windw", b"1", key="x").code == 404


def test_the_command_asks(three: Cluster) -> None:
    door = ["--at", three["beta"].door]
    asked = run_mesh("ask", "window", "whale", '{"key": "whale", "id": 7}', *door)
    assert (asked.code, asked.out) == (0, '["whale", 7, 1]\n')
    asked = run_mesh("ask", "window", "whale", '{"key": "whale", "id": 8}', "--json", *door)
    assert (asked.code, json.loads(asked.out)) == (0, {"outputs": [["whale", 8, 2]]})
    assert run_mesh("ask", "window", "whale", "{", *door).code == 2
    assert run_mesh("ask", "windw", "whale", "1", *door).code == 4
    failed = run_mesh("ask", "window", "whale", "1", *door)
    assert (failed.code, "TypeError" in failed.err) == (1, True)


def test_without_its_owner_a_key_is_unavailable_and_the_others_go_on(three: Cluster) -> None:
    dead = three["gamma"]
    of_dead = next(key for key in KEYS if three.owner_of(key) == "gamma")
    others = [key for key in KEYS if three.owner_of(key) != "gamma"]
    assert events(three["alpha"].door, [(key, 1) for key in KEYS], "p").code == 200
    dead.kill()
    three["alpha"].until("member.dead")
    told = eventually(
        lambda: (said := events(three["alpha"].door, [(of_dead, 2)])).code == 503 and said, "the death is known"
    )
    assert isinstance(told, Said)
    assert told.headers["retry-after"]
    asked = post(three["alpha"].door, "/v1/ask/window", b'{"key": "x", "id": 1}', key=of_dead)
    assert (asked.code, "retry-after" in asked.headers) == (503, True)
    assert events(three["beta"].door, [(key, 2) for key in others], "q").code == 200
    assert three["alpha"].get("/v1/state/window", key=others[0]).body["state"] == window([1, 2])


def test_one_process_takes_posts_too_and_runs_until_it_is_stopped(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "nodes.cli", "run", str(EXAMPLE), "--http", "127.0.0.1:0", "--set", "output=out"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        heard = (json.loads(line) for line in process.stderr if line.startswith("{"))
        door = next(str(event["http"]) for event in heard if event["event"] == "node.listening")
        assert events(door, [("a", 1), ("b", 2), ("a", 3)], "p").body == {"committed": 3, "duplicates": 0}
        assert events(door, [("a", 1), ("b", 2), ("a", 3)], "p").body == {"committed": 3, "duplicates": 3}
        told = post(door, "/v1/ask/window", b'{"key": "a", "id": 4}', key="a")
        assert told.body == {"outputs": [["a", 4, 3]]}
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert written(tmp_path / "out") == {"a": [1, 3, 4], "b": [2]}


def test_a_run_without_a_door_is_one_sentence(tmp_path: Path) -> None:
    told = run_mesh("run", str(EXAMPLE))
    assert told.code == 2
    assert 'nobody could post to the source "events"' in told.err
