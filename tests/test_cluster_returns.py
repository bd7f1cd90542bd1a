"""Nodes that die, pause, and come back in a working cluster: what is unavailable, what is lost, and who says so."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cluster_kit import Cluster, NodeProcess, cluster, eventually
from tests.flowing_kit import APP, SPLITS, WORDS, flowing

THREE = ("alpha", "beta", "gamma")


def key_of(made: Cluster, asked: NodeProcess, owner: str) -> str:
    """One of the words in the flow."""
    words = [f"split-{split}-{word}" for split in range(SPLITS) for word in range(WORDS)]
    return next(word for word in words if asked.get("/v1/owner", key=word).body["owner"] == owner)


def slots(node: NodeProcess, state: str, count: int) -> None:
    eventually(lambda: node.slots()[state] == count, f"{count} slots are {state} at {node.name}")


def test_what_a_killed_node_held_is_unavailable_and_lost_once_it_starts_anew(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        key = key_of(made, made["alpha"], "gamma")
        made["gamma"].kill()
        survivors = [made["alpha"], made["beta"]]
        for node in survivors:
            agreed = node.until("partition.members", down=["gamma"])
            assert (agreed["epoch"], agreed["members"]) == (2, list(THREE))
            assert node.slots() == {"total": 1024, "active": 683, "pending": 0, "unavailable": 341, "lost": 0}
            assert node.get("/readyz").code == 200
            refused = node.get("/v1/state/count", key=key)
            assert (refused.code, refused.headers["retry-after"]) == (503, "1")
            assert refused.body["detail"].endswith("it is with gamma, which is out of reach")
            assert [each["state"] for each in node.status()["nodes"]] == ["alive", "alive", "dead"]
        made.start("gamma")
        for node in [*survivors, made["gamma"]]:
            slots(node, "lost", 341)
            assert node.slots()["active"] == 683
            assert node.get("/v1/state/count", key=key).body["detail"].endswith("that had its state has ended")
            assert {each["name"]: each["state"] for each in node.status()["nodes"]} == dict.fromkeys(THREE, "alive")
        for node in survivors:
            told = node.until("partition.lost")
            assert (told["level"], told["slots"]) == ("error", 341)
        answer = made["gamma"].get("/readyz")
        assert answer.code == 503
        assert " lost" in answer.body["detail"]
        accepted = made["gamma"].order("/v1/accept-loss")
        assert (accepted.code, accepted.body) == (202, {"slots": 341})
        made.until_settled(*THREE)
        for node in made:
            eventually(lambda node=node: node.get("/readyz").code == 200, "ready")  # type: ignore[misc]
            assert node.get("/v1/state/count", key="a word that nobody said").code == 404
        assert made["alpha"].order("/v1/accept-loss").code == 409


def test_who_is_left_of_a_majority_that_is_lost_for_good_may_go_on(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        alpha = made["alpha"]
        assert alpha.order("/v1/recover").code == 409
        for name in ("beta", "gamma"):
            made[name].kill()
        alpha.until("node.fenced")
        assert alpha.order("/v1/recover").code == 202
        alpha.until("cluster.recovered")
        eventually(lambda: alpha.slots() == {"total": 1024, "active": 342, "pending": 0, "unavailable": 0, "lost": 682},
                   "alpha has what it had")  # fmt: skip
        assert alpha.order("/v1/accept-loss").code == 202
        made.until_settled("alpha")
        assert alpha.get("/readyz").code == 200
        made.join("delta", "alpha")
        made.until_settled("alpha", "delta")


def test_a_long_pause_costs_its_slots_for_that_time_and_no_word(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        made["gamma"].signal(signal.SIGSTOP)
        paused = time.monotonic()
        for name in ("alpha", "beta"):
            made[name].until("partition.members", down=["gamma"])
            assert made[name].slots()["unavailable"] == 341
        eventually(lambda: time.monotonic() - paused > 6.0, "six seconds")  # this pause is what is tested
        made["gamma"].signal(signal.SIGCONT)
        made.until_settled(*THREE)
        for node in made:
            eventually(lambda node=node: node.get("/readyz").code == 200, "ready")  # type: ignore[misc]
            assert not node.all_of("partition.lost")
        words.in_flow()
        words.enough()
        assert made.noise() == []


def test_a_minority_stops_and_says_so(tmp_path: Path) -> None:
    with flowing(tmp_path, *THREE) as words:
        made = words.made
        alpha = made["alpha"]
        for name in ("beta", "gamma"):
            made[name].signal(signal.SIGSTOP)
        stopped = time.monotonic()
        eventually(lambda: alpha.get("/readyz").code == 503, "not ready")
        alpha.until("node.fenced")
        assert time.monotonic() - stopped < 7.0  # 5, and a slow machine
        assert alpha.get("/readyz").body["detail"] == "a majority of the voters is out of touch"
        assert not alpha.status()["ready"]
        assert alpha.get("/v1/state/count", key=key_of(made, alpha, "alpha")).code == 503
        refused = alpha.leave("alpha")
        assert (refused.code, refused.body["error"]) == (503, "out-of-touch")
        for name in ("beta", "gamma"):
            made[name].signal(signal.SIGCONT)
        made.until_settled(*THREE)
        alpha.until("node.unfenced")
        words.in_flow()
        words.enough()


def restored(node: NodeProcess) -> bool:
    """Three members decide again, and nothing moves."""
    counts = node.slots()
    alive = [each["state"] for each in node.status()["nodes"]] == ["alive"] * 3
    at_rest = counts["lost"] > 0 and counts["active"] + counts["lost"] == counts["total"]
    return alive and at_rest and sorted(node.get("/v1/ring").body["voters"]) == [*THREE]


@pytest.mark.parametrize("keeps", [False, True], ids=["memory", "data directory"])
def test_a_cluster_outlives_the_restart_of_each_of_its_nodes(tmp_path: Path, keeps: bool) -> None:
    """A stop is no leave: the states are lost, and said to be; the partition goes on."""
    extra = {name: f'data_dir = "{name}.data"' for name in THREE} if keeps else {}
    with cluster(tmp_path, *THREE, app=APP, extra=extra) as made:
        made.start()
        made.until_ready()
        for name in THREE:
            assert made[name].end(signal.SIGTERM) == 0
            made.start(name)
            for node in made:
                eventually(lambda node=node: restored(node), f"{name} is back, says {node.name}")  # type: ignore[misc]
        eventually(lambda: len({node.status()["epoch"] for node in made}) == 1, "one epoch")
        for node in made:
            counts = node.slots()
            assert counts["active"] + counts["lost"] == 1024
            assert counts["lost"] >= 683  # what was levelled in between may have been with a node that stayed


def test_a_cluster_whose_nodes_all_stop_is_founded_anew(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", app=APP) as made:
        made.start()
        made.until_ready()
        for node in made:
            node.signal(signal.SIGTERM)
        assert [node.end() for node in made] == [0, 0]
        made.start(options=("--set", "output=anew"))
        for node in made:
            assert node.until("partition.agreed")["epoch"] == 1
        made.until_settled("alpha", "beta")
