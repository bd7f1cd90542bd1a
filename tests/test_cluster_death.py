"""Nodes that are killed, stopped and started again, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_kit import Cluster, NodeProcess, Said, cluster, eventually
from tests.commands import ENVIRONMENT, MESH

NUMBERS = """\
import mesh


class Numbers:
    endless = False
    blocking = False

    def splits(self):
        return [mesh.Split(f"split-{number}") for number in range(6)]

    def open(self, split, offset):
        return self

    def read(self, max_bytes):
        return mesh.Chunk(list(range(1000)), 0, False)  # as good as for ever

    def close(self):
        pass


app = mesh.App("numbers")
app.source("numbers", Numbers()).key_by(lambda n: n).fold("count", int, lambda count, _: count + 1)
"""
STUCK = NUMBERS.replace(
    "return mesh.Chunk", "open('stuck', 'w').close(); import time; time.sleep(60); return mesh.Chunk"
)
KEYS = 1000
MEMORY = 128 << 20  # bytes that a node may grow while it waits for a dead one; it keeps records as objects


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """At work, each with its keys."""
    with cluster(tmp_path, "alpha", "beta", "gamma", app=NUMBERS) as made:
        made.start()
        made.until_ready()
        eventually(lambda: sum(node.metric("mesh_keys") for node in made) == KEYS, "every key")
        yield made


def key_of(made: Cluster, owner: str) -> str:
    return next(str(key) for key in range(KEYS) if made.owner_of(str(key), "int") == owner)


def _after(node: NodeProcess, page: Said) -> str:
    return str(node.get("/v1/keys/count", after=page.body["next"]).body["detail"])


def standstill(made: Cluster, *names: str) -> bool:
    """Nothing is read any more, although there is more to read."""
    before = [made[name].metric("mesh_records_read_total") for name in names]
    time.sleep(0.3)
    return before == [made[name].metric("mesh_records_read_total") for name in names]


def test_what_a_killed_node_held_is_waited_for_and_bounded(three: Cluster) -> None:
    keys = {name: key_of(three, name) for name in three.names}
    peak = {name: three[name].peak() for name in ("alpha", "beta")}
    three["gamma"].kill()
    for name in ("alpha", "beta"):
        node = three[name]
        node.until("partition.members", down=["gamma"])
        status = node.status()
        assert status["slots"] == {"total": 1024, "active": 683, "pending": 0, "unavailable": 341, "lost": 0}
        assert (status["ready"], status["done"]) == (True, False)
        assert [run["state"] for run in node.get("/v1/ring").body["runs"]] == ["active", "active", "unavailable"]
        assert node.get("/v1/owner", key=keys["gamma"], key_type="int").body["owner"] == "gamma"
        for key in (keys["gamma"], "999999"):  # one that was there, and one that never was
            if three.owner_of(key, "int") == "gamma":
                refused = node.get("/v1/state/count", key=key, key_type="int")
                assert (refused.code, refused.body["error"]) == (503, "unavailable")
                assert int(refused.headers["retry-after"]) > 0
        for owner in ("alpha", "beta"):
            served = node.get("/v1/state/count", key=keys[owner], key_type="int")
            assert (served.code, served.body["owner"]) == (200, owner)
            assert served.body["state"] > 0
        page = node.get("/v1/keys/count", limit="10000")
        assert {three.owner_of(str(key), "int") for key in page.body["keys"]} == {"alpha", "beta"}
        refused = node.get("/v1/keys/count", after=page.body["next"])
        assert (refused.code, refused.headers["retry-after"]) == (503, "1")
        assert refused.body["detail"] == "slot 683 is unavailable: its owner does not answer"
    eventually(lambda: standstill(three, "alpha", "beta"), "the sources wait for the dead node")
    for name in ("alpha", "beta"):
        assert three[name].running
        assert three[name].peak() < peak[name] + MEMORY
        assert not three[name].all_of("app.done")


def test_a_node_that_stops_does_not_wait_for_what_nobody_can_answer(three: Cluster) -> None:
    three["gamma"].kill()
    three["alpha"].until("member.dead", member="gamma")
    assert three["alpha"].end(signal.SIGTERM) == 0
    assert three["alpha"].all_of("node.stopped_undrained", "node.left")


def test_a_pause_of_a_second_kills_nobody(three: Cluster) -> None:
    before = [node.metric("mesh_records_keyed_total") for node in three if node.name != "gamma"]
    three["gamma"].signal(signal.SIGSTOP)
    time.sleep(1.0)  # this pause is what is tested
    three["gamma"].signal(signal.SIGCONT)
    eventually(lambda: all(node.metric("mesh_records_keyed_total") > 0 for node in three), "answers")
    for node, keyed in zip((three["alpha"], three["beta"]), before, strict=True):
        eventually(lambda node=node, keyed=keyed: node.metric("mesh_records_keyed_total") > keyed, "work")  # type: ignore[misc]
    eventually(
        lambda: all({each["state"] for each in node.status()["nodes"]} == {"alive"} for node in three), "all alive"
    )
    for node in three:
        assert not node.all_of("member.dead")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_asked_to_stop_drains_and_says_goodbye(three: Cluster, number: int) -> None:
    assert three["beta"].end(number) == 0
    assert three["beta"].events[-1]["event"] == "node.left"
    assert not three["beta"].all_of("node.stopped_undrained")
    three["alpha"].until("member.left", member="beta")
    eventually(lambda: three["alpha"].slots()["lost"] == 341, "its slots are lost")
    assert [each["name"] for each in three["alpha"].status()["nodes"]] == ["alpha", "gamma"]
    assert "of its 512 slots, " in three["alpha"].get("/readyz").body["detail"]


def test_a_second_ctrl_c_ends_a_node_whose_code_is_stuck(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", app=STUCK) as made:
        made.start()
        eventually((tmp_path / "stuck").exists, "the code is stuck")
        made["alpha"].signal(signal.SIGINT)
        eventually(lambda: made["alpha"].get("/healthz").code == 200, "an answer")
        assert made["alpha"].running
        assert made["alpha"].end(signal.SIGINT) == 130


def test_ctrl_c_at_a_terminal_reaches_the_whole_group_and_ends_it_in_good_order(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(NUMBERS, encoding="utf-8")
    run = subprocess.Popen(
        [*MESH, "run", "app.py", "--nodes", "2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        assert run.stderr is not None
        said = []
        for line in run.stderr:
            said.append(line)
            if sum('"node.ready"' in each for each in said) == 2:
                break
        os.killpg(run.pid, signal.SIGINT)
        said += run.communicate(timeout=60)[1].splitlines()
        assert run.returncode == 0, said
        assert sum('"node.left"' in line for line in said) == 2
        assert not any("Traceback" in line for line in said)
    finally:
        run.kill()
        run.wait()
