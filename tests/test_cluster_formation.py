"""Nodes find each other, whatever the order of their starts, and take one partition."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.core.messages.members import Hello
from nodes.local import free_ports
from tests.cluster_kit import Cluster, cluster, eventually, topology
from tests.hostile import stranger

APP = """\
import mesh

app = mesh.App("numbers")
numbers = app.source("numbers", mesh.items(range(100), splits=4))
numbers.key_by(lambda n: n).fold("seen", int, lambda seen, _: seen + 1)
"""


def partition(ring: Any) -> list[tuple[int, int, str]]:
    return [(run["first"], run["last"], run["owner"]) for run in ring["runs"]]


def one_partition(made: Cluster) -> list[tuple[int, int, str]]:
    """All nodes tell the same one, and the same of each other."""
    rings = [node.get("/v1/ring").body for node in made]
    assert all(ring == rings[0] for ring in rings)
    statuses = [node.status() for node in made]
    assert {status["epoch"] for status in statuses} == {1}
    seen = [[(each["name"], each["slots"], each["endpoint"], each["http"]) for each in s["nodes"]] for s in statuses]
    assert all(each == seen[0] for each in seen)
    return partition(rings[0])


@pytest.mark.parametrize("order", [("alpha", "beta", "gamma"), ("gamma", "alpha", "beta")])
def test_nodes_started_one_after_another_take_one_equal_partition(tmp_path: Path, order: tuple[str, ...]) -> None:
    with cluster(tmp_path, "alpha", "beta", "gamma", app=APP) as made:
        made.start(*order[:2])
        for name in order[:2]:
            made[name].until("member.alive")  # these two have met
            assert made[name].get("/healthz").code == 200
            assert made[name].get("/readyz").code == 503
            assert made[name].get("/v1/owner", key="x").code == 503
            status = made[name].status()
            assert (status["epoch"], status["ready"], status["slots"]["pending"]) == (0, False, 1024)
        made.start(order[2])
        made.until_ready()
        assert one_partition(made) == [(0, 341, "alpha"), (342, 682, "beta"), (683, 1023, "gamma")]
        made.until_done()
        assert all(node.get("/readyz").code == 200 for node in made)
        eventually(lambda: {sum(each["keys"] for each in node.status()["nodes"]) for node in made} == {100}, "all keys")
        assert made.alarms() == []


def test_one_reachable_address_is_enough(tmp_path: Path) -> None:
    """Every node's own file has the others at addresses where nobody is, but for gamma at alpha's file and beta's."""
    with cluster(tmp_path, "alpha", "beta", "gamma", app=APP) as made:
        for name in made.names:
            nowhere = dict(zip(made.names, free_ports(3), strict=True))
            known = {"gamma": made.ports["gamma"]} if name != "gamma" else {}
            made.start(name, text=topology(nowhere | known | {name: made.ports[name]}, "app.py"))
        made.until_ready()
        assert len(one_partition(made)) == 3
        made.until_done()


def test_who_comes_after_the_founding_gets_its_share(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", "gamma", app=APP, expect=2) as made:
        made.start("alpha", "beta")
        made.until_ready()
        assert partition(made["alpha"].get("/v1/ring").body) == [(0, 511, "alpha"), (512, 1023, "beta")]
        made.until_done()
        made.start("gamma")
        made.until_settled("alpha", "beta", "gamma")
        late = made["gamma"].status()
        assert [(node["name"], node["state"]) for node in late["nodes"]] == [(name, "alive") for name in made.names]
        assert sorted(node["slots"] for node in late["nodes"]) == [341, 341, 342]
        made["gamma"].until("node.ready")
        for node in made:
            assert node.get("/v1/state/seen", key="5", key_type="int").body["state"] == 1
        eventually(lambda: sum(node["keys"] for node in made["gamma"].status()["nodes"]) == 100, "all keys")
        assert made["gamma"].metric("mesh_keys") > 0
        assert made["alpha"].status()["done"]


def test_a_witness_votes_and_owns_nothing(tmp_path: Path) -> None:
    witness = {"referee": 'role = "witness"'}
    with cluster(tmp_path, "alpha", "beta", "referee", app=APP, extra=witness) as made:
        made.start()
        made.until_ready()
        made.until_done()
        assert one_partition(made) == [(0, 511, "alpha"), (512, 1023, "beta")]
        eventually(lambda: sum(node["keys"] for node in made["referee"].status()["nodes"]) == 100, "all keys")
        status = made["referee"].status()
        assert [(node["name"], node["role"], node["slots"]) for node in status["nodes"]] == [
            ("alpha", "worker", 512),
            ("beta", "worker", 512),
            ("referee", "witness", 0),
        ]
        assert made["referee"].metric("mesh_keys") == made["referee"].metric("mesh_records_read_total") == 0
        assert made["referee"].get("/v1/state/seen", key="5", key_type="int").body["state"] == 1


def test_whom_a_node_meets_it_connects_to_anew(tmp_path: Path) -> None:
    """A connection that was tried in vain is in its back-off, or hangs, while the newcomer waits to be answered."""
    with cluster(tmp_path, "alpha", "beta", app=APP) as made, socket.socket() as beta:
        beta.bind(("127.0.0.1", made.ports["beta"]))
        beta.listen()
        beta.settimeout(15)  # libzmq gives a handshake 30
        made.start("alpha")
        first, _ = beta.accept()
        with first, stranger(made["alpha"].listen, tmp_path / "app.py", name="beta") as newcomer:
            member = replace(newcomer.member, endpoint=f"tcp://127.0.0.1:{made.ports['beta']}")
            newcomer.send(Hello(replace(newcomer.introduction, member=member)))
            second, _ = beta.accept()
            second.close()
