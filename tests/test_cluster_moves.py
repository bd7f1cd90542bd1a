"""Nodes join and leave while words flow, as real processes: every word is counted once, whoever counts it."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from tests.cluster_kit import cluster, counted_anywhere, eventually, fetch
from tests.commands import start_mesh
from tests.flowing_kit import APP, flowing

THREE = ("alpha", "beta", "gamma")


def test_a_node_joins_while_words_flow(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        delta = made.join("delta", "beta")
        made.until_settled(*THREE, "delta")
        assert [node["slots"] for node in delta.status()["nodes"]] == [256] * 4
        delta.until("node.ready")
        assert delta.get("/readyz").code == 200
        words.in_flow()
        words.enough()
        assert made.alarms_of("member.dead", "member.left", "node.crashed") == []
        assert made.noise() == []


@pytest.mark.parametrize("asked", ["alpha", "beta"])
def test_a_node_leaves_while_words_flow(tmp_path: Path, asked: str) -> None:
    """Asked itself, or through another node; its source's splits go on elsewhere."""
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        said = made[asked].leave("beta")
        assert (said.code, said.body) == (202, {"leaving": "beta"})
        assert made["beta"].end() == 0
        assert made["beta"].events[-1]["event"] == "node.left"
        assert not made["beta"].all_of("node.stopped_undrained")
        made.until_settled("alpha", "gamma")
        for name in ("alpha", "gamma"):
            assert [node["name"] for node in made[name].status()["nodes"]] == ["alpha", "gamma"]
            assert not made[name].all_of("partition.lost")
            assert len(made[name].all_of("node.ready")) == 1
        words.in_flow()
        words.enough()
        assert made.noise() == []


def test_who_is_stopped_while_it_leaves_hands_over_first(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        assert made["alpha"].leave("beta").code == 202
        made["beta"].until("node.leaving")
        assert made["beta"].end(signal.SIGTERM) == 0
        assert not made["beta"].all_of("node.stopped_leaving")
        made.until_settled("alpha", "gamma")
        words.in_flow()
        words.enough()
        assert made.noise() == []


def test_who_is_stopped_while_nobody_takes_over_says_how_much_it_still_had(tmp_path: Path) -> None:
    """The others stand still meanwhile. Later they cannot make it leave: only it could hand over."""
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        for name in ("alpha", "gamma"):
            made[name].signal(signal.SIGSTOP)
        assert made["beta"].leave("beta").code == 202
        assert made["beta"].end(signal.SIGTERM) == 0
        assert [event["slots"] for event in made["beta"].all_of("node.stopped_leaving")] == [341]
        for name in ("alpha", "gamma"):
            made[name].signal(signal.SIGCONT)
        eventually(lambda: made["alpha"].slots()["unavailable"] == 341, "it is known to be out of reach")
        refused = made["alpha"].leave("beta")
        assert (refused.code, refused.body["error"]) == (503, "unavailable")


def test_two_join_and_one_leaves_at_once(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        made.join("delta", "alpha")
        assert made["beta"].leave("alpha").code == 202
        made.join("epsilon", "gamma")
        assert made["alpha"].end() == 0
        made.until_settled("beta", "gamma", "delta", "epsilon")
        words.in_flow()
        words.enough()
        assert made.noise() == []


def test_all_nodes_are_replaced_one_after_another(tmp_path: Path) -> None:
    """A rolling restart: each leaves, and starts again under its name."""
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        for name in THREE:
            assert made[THREE[0] if name != THREE[0] else THREE[1]].leave(name).code == 202
            assert made[name].end() == 0
            made.start(name)
            made[name].until("node.ready")
            made.until_settled(*THREE)
            words.in_flow()
        words.enough()
        assert made.noise() == []


def test_the_last_worker_and_nobody_cannot_leave(tmp_path: Path) -> None:
    with flowing(tmp_path, "alpha", "beta") as words:
        made = words.made
        assert made["alpha"].leave("delta").code == 404
        assert made["alpha"].leave("beta").code == 202
        assert made["beta"].end() == 0
        refused = made["alpha"].leave("alpha")
        assert (refused.code, refused.body["error"]) == (409, "last-worker")
        assert made["alpha"].leave("beta").code == 404
        made.until_settled("alpha")
        words.enough()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (("", ""), "graph"),
        (('name = "tested"', 'name = "other"'), "cluster"),
        (("[app]", "slots = 512\n[app]"), "slots"),
        (("[app]", "seed = 5\n[app]"), "seed"),
    ],
    ids=["graph", "cluster", "slots", "seed"],
)
def test_a_node_that_does_not_fit_cannot_join(tmp_path: Path, changed: tuple[str, str], field: str) -> None:
    with cluster(tmp_path, "alpha", app=APP) as made:
        made.start()
        made.until_ready()
        if field == "graph":
            (tmp_path / "app.py").write_text(APP.replace('fold("count"', 'fold("counts"'), encoding="utf-8")
        text = made.text.replace(*changed) if changed[0] else made.text
        delta = made.join("delta", "alpha", text=text)
        assert delta.end() == 2
        assert delta.all_of("node.refused")[0]["detail"].startswith(f"{field} is ")
        assert made["alpha"].get("/readyz").code == 200
        assert made["alpha"].end(signal.SIGTERM) == 0


def test_a_node_that_joins_waits_for_the_cluster_and_founds_none(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", app=APP) as made:
        made.start("alpha")
        delta = made.join("delta", "alpha")
        assert "their cluster is not founded yet" in delta.until("node.waiting")["detail"]
        assert delta.status()["nodes"][1]["state"] == "joining"
        assert (delta.get("/readyz").code, delta.status()["epoch"]) == (503, 0)
        made.start("beta")
        made.until_settled("alpha", "beta", "delta")
        eventually(lambda: delta.get("/readyz").code == 200, "delta is ready")


def test_a_node_may_leave_a_run_that_nobody_keeps(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    run = start_mesh("run", "app.py", "--nodes", "3", "--json", cwd=tmp_path)
    try:
        assert run.stderr is not None
        assert run.stdout is not None
        said = []
        for line in run.stderr:
            said.append(json.loads(line))
            if sum(each["event"] == "node.ready" for each in said) == 3:
                break
        doors = {each["node"]: each["http"] for each in said if each["event"] == "node.listening"}
        rest = threading.Thread(target=lambda: said.extend(json.loads(line) for line in run.stderr or ()))
        rest.start()
        assert fetch(doors["node-1"], "/v1/leave", "POST", name="node-2").code == 202
        eventually(lambda: any(each["event"] == "node.left" for each in said), "it left")
        (tmp_path / "enough").touch()
        assert run.wait(60) == 0
        rest.join(10)
        summary = json.loads(run.stdout.read())
        total = sum(counted_anywhere(tmp_path / "out").values())
        assert (summary["nodes"], summary["records_in"], summary["records_keyed"]) == (3, total, total)
    finally:
        run.kill()
        run.wait()
