"""Who does not fit is told so in one sentence with both values and ends with 2; the others go on."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.local import free_ports
from tests.cluster_kit import Cluster, cluster, topology

APP = """\
import mesh

app = mesh.App("numbers")
numbers = app.source("numbers", mesh.items(range(100), splits=4))
numbers.key_by(lambda n: n).fold("seen", int, lambda seen, _: seen + 1)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that is formed and has done its work."""
    with cluster(tmp_path_factory.mktemp("pair"), "alpha", "beta", app=APP) as made:
        (made.folder / "other.py").write_text(APP.replace('"seen"', '"count"'), encoding="utf-8")
        made.start()
        made.until_ready()
        made.until_done()
        yield made


def refusal(made: Cluster, name: str, text: str) -> str:
    """The one sentence of a node that this cluster does not take."""
    made.start(name, text=text)
    newcomer = made.nodes.pop(name)
    refused = newcomer.until("node.refused")
    assert newcomer.end() == 2
    assert len(newcomer.all_of("node.refused")) == 1
    assert not newcomer.noise
    return str(refused["detail"])


def unharmed(made: Cluster) -> bool:
    return all(
        node.running
        and node.get("/readyz").code == 200
        and node.status()["slots"]["active"] == 1024
        and [each["name"] for each in node.status()["nodes"] if each["slots"]] == ["alpha", "beta"]
        and node.get("/v1/state/seen", key="5", key_type="int").body["state"] == 1
        for node in made
    ) and not (made.alarms() or made.noise())


@pytest.mark.parametrize(
    ("settings", "app", "field", "theirs", "ours"),
    [
        ({"name": "another"}, "app.py", "cluster", "'another'", "'tested'"),
        ({"slots": 512}, "app.py", "slots", "'512'", "'1024'"),
        ({"seed": 9}, "app.py", "seed", "'9'", "'0'"),
        ({}, "other.py", "graph", "'", "'"),
    ],
    ids=["cluster", "slots", "seed", "graph"],
)
def test_what_must_be_the_same_and_is_not(
    pair: Cluster, settings: dict[str, Any], app: str, field: str, theirs: str, ours: str
) -> None:
    (port,) = free_ports(1)
    said = refusal(pair, "gamma", topology({**pair.ports, "gamma": port}, app, **settings))
    assert said.startswith(f"{field} is {theirs}")
    assert f"but {ours}" in said
    assert f"'gamma' at tcp://127.0.0.1:{port}" in said
    assert any(f"'{name}' at tcp://127.0.0.1:{pair.ports[name]}" in said for name in pair.names)
    told = [event for node in pair for event in node.all_of("admission.refused")]
    assert any((event["member"], event["field"]) == ("gamma", field) for event in told)
    assert unharmed(pair)


def test_two_nodes_with_one_name(pair: Cluster) -> None:
    (port,) = free_ports(1)
    pair_of_its_own = dict(pair.nodes)
    said = refusal(pair, "alpha", topology({"alpha": port, "beta": pair.ports["beta"]}, "app.py"))
    pair.nodes.update(pair_of_its_own)
    assert "two nodes have one name" in said
    assert f"alpha at tcp://127.0.0.1:{port}" in said
    assert f"alpha at tcp://127.0.0.1:{pair.ports['alpha']}" in said
    assert unharmed(pair)


def test_a_mesh_port_that_is_taken(pair: Cluster) -> None:
    nodes = dict(pair.nodes)
    said = refusal(pair, "alpha", pair.text)
    pair.nodes.update(nodes)
    assert said == f"cannot listen on tcp://127.0.0.1:{pair.ports['alpha']}: another process listens there already"
    assert unharmed(pair)


def test_a_door_that_is_taken(pair: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        door = f"127.0.0.1:{taken.getsockname()[1]}"
        (port,) = free_ports(1)
        text = topology({**pair.ports, "gamma": port}, "app.py")
        said = refusal(pair, "gamma", text[: text.rindex("http =")] + f'http = "{door}"\n')
    assert said == f"the HTTP door cannot listen on {door}: another process listens there already"
    assert unharmed(pair)


def test_a_data_directory_that_is_used(tmp_path: Path) -> None:
    own = {"alpha": 'data_dir = "data"', "beta": 'data_dir = "data-of-beta"'}
    with cluster(tmp_path, "alpha", "beta", app=APP, extra=own) as made:
        made.start()
        made.until_ready()
        nodes = dict(made.nodes)
        (port,) = free_ports(1)
        ports = {**made.ports, "alpha": port}
        said = refusal(made, "alpha", topology(ports, "app.py", extra={"alpha": own["alpha"]}))
        made.nodes.update(nodes)
        pid = made["alpha"].pid
        assert said == f"the data directory {tmp_path / 'data'} is in use by node alpha, process {pid}; " \
            "node alpha needs one of its own"  # fmt: skip
        made.until_done()
        assert unharmed(made)


def test_an_address_where_nobody_is_is_waited_for_and_said(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", app=APP) as made:
        made.start("alpha")
        said = made["alpha"].until("node.waiting")["detail"]
        assert said == (
            "the founding takes 2 workers, so far 1 here; "
            f"not met yet: beta at tcp://127.0.0.1:{made.ports['beta']}"
        )  # fmt: skip
        made.start("beta")
        made.until_ready()
        assert made["alpha"].end(signal.SIGTERM) == 0


def test_of_nodes_that_start_together_the_odd_one_out_goes(tmp_path: Path) -> None:
    with cluster(tmp_path, "alpha", "beta", "gamma", app=APP) as made:
        made.start("beta", text=topology(made.ports, "app.py", seed=5))
        made.start("alpha", "gamma")
        said = made["beta"].until("node.refused")["detail"]
        assert said.startswith("seed is '5' at this node")
        assert made["beta"].end() == 2
        made.start("beta")  # with the file that the others have
        made.until_ready()
        made.until_done()
