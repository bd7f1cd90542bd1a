"""A topology file means what the contract says, and every mistake in it is told at once, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.runtime.config import ClusterConfig, NodeConfig
from nodes.mistakes import Mistaken
from nodes.starting import exposures, refuse_to_start, survived
from nodes.topology import Topology, examine_topology, load_topology, outside_values

TOPOLOGIES = sorted((Path(__file__).parents[1] / "topologies").glob("*.toml"))

GOOD = """\
[cluster]
name = "local"

[app]
module = "apps/count.py"
[app.params]
input = "book.txt"

[[node]]
name = "alpha"
listen = "tcp://127.0.0.1:7401"

[[node]]
name = "beta"
listen = "tcp://127.0.0.1:7402"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; topology files lie in `tops` below it."""
    (tmp_path / "tops").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(folder: Path, text: str, *sets: str, **environment: str) -> Topology:
    (folder / "tops" / "t.toml").write_text(text, encoding="utf-8")
    return load_topology("tops/t.toml", sets, environment)


def mistakes(folder: Path, text: str, *sets: str, **environment: str) -> list[str]:
    with pytest.raises(Mistaken) as told:
        load(folder, text, *sets, **environment)
    return [str(mistake).removeprefix("tops/") for mistake in told.value.mistakes]


# -- what a good file means


def test_defaults_are_those_of_the_contract(folder: Path) -> None:
    topology = load(folder, GOOD)
    assert topology.cluster == ClusterConfig("local", 1024, 1, "memory", 0, expect=2)
    assert topology.nodes[0] == NodeConfig("alpha", "tcp://127.0.0.1:7401", "", "127.0.0.1:0", "worker", "", "")


def test_everything_that_can_be_said_is_taken(folder: Path) -> None:
    text = """
        cluster = { name = "all", slots = 8, copies = 2, durability = "disk", seed = 4294967295, expect = 2 }
        app.module = "package.module:thing"
        [[node]]
        name = "a-1_x"
        listen = "tcp://0.0.0.0:7400"
        advertise = "tcp://one.example:7400"
        http = "[::1]:7480"
        zone = "north"
        data_dir = "data/a"
        [[node]]
        name = "b"
        listen = "tcp://[::1]:7401"
        http = ""
        data_dir = "data/b"
        [[node]]
        name = "w"
        listen = "tcp://127.0.0.1:7402"
        role = "witness"
    """
    topology = load(folder, text)
    assert topology.cluster == ClusterConfig("all", 8, 2, "disk", 4294967295, 2)
    assert topology.app.module == "package.module:thing"
    assert topology.nodes[0] == NodeConfig(
        "a-1_x",
        "tcp://0.0.0.0:7400",
        "tcp://one.example:7400",
        "[::1]:7480",
        zone="north",
        data_dir=str(folder / "tops/data/a"),
    )
    assert [node.role for node in topology.nodes] == ["worker", "worker", "witness"]


def test_witnesses_are_not_expected_to_work(folder: Path) -> None:
    witness = '[[node]]\nname = "w"\nlisten = "tcp://127.0.0.1:7403"\nrole = "witness"\n'
    assert load(folder, GOOD + witness).cluster.expect == 2


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_the_files_that_come_with_the_project_are_good(file: Path) -> None:
    topology = load_topology(str(file), (), {})
    assert Path(topology.app.module).is_file()
    assert topology.cluster.name == file.stem
    assert all(node.http.startswith("127.0.0.1:74") for node in topology.nodes)
    refuse_to_start(topology, topology.nodes, insecure=False)


def test_there_are_files_to_start_with() -> None:
    assert [file.stem for file in TOPOLOGIES] == ["local-3", "local-5", "solo", "two-and-witness"]


# -- values from outside the file


def test_set_beats_environment_beats_file_beats_default(folder: Path) -> None:
    text = GOOD.replace('name = "local"', 'name = "local"\nseed = 1')
    assert load(folder, GOOD).cluster.seed == 0
    assert load(folder, text).cluster.seed == 1
    assert load(folder, text, MESH__CLUSTER__SEED="2").cluster.seed == 2
    assert load(folder, text, "cluster.seed=3", MESH__CLUSTER__SEED="2").cluster.seed == 3
    assert load(folder, text, "cluster.seed=3", "cluster.seed=4").cluster.seed == 4


def test_params_keep_where_they_were_set_and_where_their_paths_start(folder: Path) -> None:
    text = GOOD.replace("[app.params]", '[app.params]\nwords = 3\noutput = "out"')
    topology = load(folder, text, "output=a=b", MESH__APP__PARAMS__INPUT="env.txt")
    params = {param.name: param for param in topology.app.params}
    assert (params["words"].value, params["words"].base) == (3, str(folder / "tops"))
    assert (params["input"].value, params["input"].base) == ("env.txt", str(folder))
    assert (params["output"].value, params["output"].base) == ("a=b", str(folder))
    assert params["words"].place.line == 7
    assert params["input"].place.file == "MESH__APP__PARAMS__INPUT=env.txt"
    assert params["output"].place.file == "--set output=a=b"


def test_the_module_is_relative_to_where_it_was_named(folder: Path) -> None:
    assert load(folder, GOOD).app.module == str(folder / "tops/apps/count.py")
    assert load(folder, GOOD, "app.module=x/y.py:a").app.module == str(folder / "x/y.py:a")
    assert load(folder, GOOD, MESH__APP__MODULE="package.module").app.module == "package.module"


def test_a_mistake_outside_the_file_is_told_as_it_was_typed(folder: Path) -> None:
    told = mistakes(
        folder,
        GOOD,
        "cluster.copies=many",
        "cluster.copeis=2",
        "node.alpha.http=1",
        "claster.name=x",
        "app.params.a.b=1",
        "nothing",
        MESH__CLUSTER__SLOTS="5",
        MESH__NODE__ALPHA="x",
    )
    assert told == [
        "--set app.params.a.b=1: one parameter at a time: app.params.NAME",
        '--set claster.name=x: unknown section "claster"; did you mean "cluster"?',
        '--set cluster.copeis=2: unknown key "copeis" in [cluster]; did you mean "copies"?',
        '--set cluster.copies=many: copies must be a whole number, not "many"',
        "--set node.alpha.http=1: nodes are set in the topology file only",
        "--set nothing: must be NAME=VALUE",
        "MESH__CLUSTER__SLOTS=5: slots must be a power of two from 1 to 65536, not 5; the nearest are 4 and 8",
        "MESH__NODE__ALPHA=x: nodes are set in the topology file only",
    ]


# -- every mistake at once

BAD = """\
[cluster]
nam = "x"
slots = 1000
copies = 9
durability = "memry"
expect = 7
seed = -1

[ap]
module = "x.py"

[[node]]
name = "Alpha"
listen = "tcp://localhost:7401"
rol = "worker"

[[node]]
name = "beta"
listen = "tcp://127.0.0.1:7401"
zone = 3
[[node]]
name = "beta"
listen = "tcp://0.0.0.0:7402"
http = "127.0.0.1:7402"
[[node]]
name = "gamma"
listen = "tcp://127.0.0.1:7401"
http = "127.0.0.1"
role = "witnes"
[[node]]
listen = "udp://127.0.0.1:7401"
[node.params]
"""


def test_every_mistake_is_told_at_once_with_its_place_and_what_was_meant(folder: Path) -> None:
    assert mistakes(folder, BAD) == [
        't.toml:2:1: unknown key "nam" in [cluster]; did you mean "name"?',
        "t.toml:3:9: slots must be a power of two from 1 to 65536, not 1000; the nearest are 512 and 1024",
        "t.toml:4:10: copies must be from 1 to 3, not 9",
        't.toml:5:14: durability must be memory or disk, not "memry"; did you mean "memory"?',
        "t.toml:7:8: seed must be from 0 to 4294967295, not -1",
        't.toml:9:2: unknown table "ap"; did you mean "app"?',
        't.toml:13:8: name must be 1 to 64 of a-z, 0-9, _ and -, not starting with _ or -; it is "Alpha"',
        "t.toml:14:10: listen takes an IP address, not the name 'localhost'; try 127.0.0.1",
        't.toml:15:1: unknown key "rol" in [[node]]; did you mean "role"?',
        "t.toml:20:8: zone must be text in quotes, not 3",
        't.toml:22:8: two nodes are named "beta"',
        "t.toml:23:10: a wildcard needs advertise: the tcp://host:port where others find this node",
        "t.toml:24:8: http 127.0.0.1:7402 is taken by this node's own listen",
        't.toml:27:10: nodes "beta" and "gamma" are both at tcp://127.0.0.1:7401',
        "t.toml:28:8: http must be host:port, as in 127.0.0.1:7480, not '127.0.0.1'",
        't.toml:29:8: role must be worker or witness, not "witnes"; did you mean "witness"?',
        't.toml:30:1: [[node]] needs "name"',
        "t.toml:31:10: listen must be tcp://host:port, as in tcp://127.0.0.1:7401, not 'udp://127.0.0.1:7401'",
        't.toml:32:7: unknown table "params" in [[node]]; known: name, listen, advertise, http, role, zone, data_dir',
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["t.toml:1:1: [cluster] is missing", "t.toml:1:1: [app] is missing", "t.toml:1:1: [[node]] is missing"]),
        (
            "cluster = 3\napp = 4\nnode = 5\n",
            [
                "t.toml:1:11: cluster must be written as [cluster], not 3",
                "t.toml:2:7: app must be written as [app], not 4",
                "t.toml:3:8: node must be written as [[node]], not 5",
            ],
        ),
    ],
)
def test_files_without_tables(folder: Path, text: str, told: list[str]) -> None:
    assert mistakes(folder, text) == told


@pytest.mark.parametrize(
    ("text", "place"),
    [('[cluster]\nname = "x" y\n', "t.toml:2:12"), ("[cluster\n", "t.toml:1:9"), ('a = 1\nname = """x', "t.toml:2:12")],
)
def test_what_is_not_toml_is_told_at_its_place(folder: Path, text: str, place: str) -> None:
    (told,) = mistakes(folder, text)
    assert told.startswith(f"{place}: not TOML: ")


def test_one_bracket_too_few(folder: Path) -> None:
    told = mistakes(folder, GOOD[: GOOD.index("[[node]]")] + '[node]\nname = "a"\nlisten = "tcp://127.0.0.1:7401"\n')
    assert told == ['t.toml:9:1: node must be written as [[node]], not {"name": "a", "listen": "tcp://127.0.0.1:7401"}']


def test_a_file_that_is_not_there_or_not_text(folder: Path) -> None:
    with pytest.raises(Mistaken, match=r"tops/none.toml: cannot be read: No such file or directory"):
        load_topology("tops/none.toml", (), {})
    (folder / "tops/t.toml").write_bytes(b"# ok\n# \xff\n")
    with pytest.raises(Mistaken, match=r"tops/t.toml:2: is not UTF-8"):
        load_topology("tops/t.toml", (), {})


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    assert load(folder, "\ufeff" + GOOD).cluster.name == "local"


def test_the_app_is_known_although_the_rest_has_mistakes(folder: Path) -> None:
    (folder / "t.toml").write_text(GOOD.replace("7402", "7401"), encoding="utf-8")
    examined = examine_topology("t.toml", outside_values((), {}))
    assert examined.topology is None
    assert len(examined.mistakes) == 1
    assert examined.app is not None
    assert examined.app.module == str(folder / "apps/count.py")


# -- values against one another


def nodes(*listens: str, **each: str) -> str:
    lines = "".join(f'{key} = "{value}"\n' for key, value in each.items())
    return "".join(f'[[node]]\nname = "n{i}"\nlisten = "tcp://{listen}"\n{lines}' for i, listen in enumerate(listens))


HEAD = '[app]\nmodule = "m"\n[cluster]\nname = "c"\n'  # four lines
FOUR = nodes("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4")


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ("expect = 2", "t.toml:5:10: expect = 2 is not more than half of the 4 nodes; at least 3"),
        ("expect = 5", "t.toml:5:10: expect = 5, but only 4 workers are in the file"),
        ("expect = 0", "t.toml:5:10: expect must be from 1 to 10000, not 0"),
        ("expect = 3\ncopies = 3", None),
        ("slots = 65536", None),
        ("slots = 1", None),
        ("slots = 131072", "t.toml:5:9: slots must be a power of two from 1 to 65536, not 131072"),
        ("slots = 1024.0", "t.toml:5:9: slots must be a whole number, not 1024.0"),
        ("copies = true", "t.toml:5:10: copies must be a whole number, not true"),
    ],
)
def test_cluster_values(folder: Path, cluster: str, told: str | None) -> None:
    text = HEAD + cluster + "\n" + FOUR
    if told is None:
        load(folder, text)
    else:
        assert mistakes(folder, text) == [told]


def test_copies_need_so_many_nodes_at_the_start(folder: Path) -> None:
    two = nodes("127.0.0.1:1", "127.0.0.1:2")
    assert mistakes(folder, HEAD + "copies = 3\n" + two) == [
        "t.toml:5:10: copies = 3, but the cluster starts with only 2 (expect)"
    ]


def test_a_worker_needs_a_directory_for_what_it_keeps_on_disk(folder: Path) -> None:
    witness = '[[node]]\nname="w"\nlisten="tcp://127.0.0.1:3"\nrole="witness"\n'
    one = nodes("127.0.0.1:1", data_dir="d")
    two = nodes("127.0.0.1:2").replace("n0", "n1")
    assert mistakes(folder, HEAD + 'durability = "disk"\n' + one + two + witness) == [
        't.toml:10:1: node "n1" has no data_dir, which is where durability = "disk" keeps states'
    ]
    assert load(folder, HEAD + one + two).cluster.durability == "memory"


def test_more_than_half_must_be_workers(folder: Path) -> None:
    text = HEAD + nodes("127.0.0.1:1") + '[[node]]\nname="w"\nlisten="tcp://127.0.0.1:2"\nrole="witness"\n'
    assert mistakes(folder, text) == [
        "t.toml:5:1: 1 of the 2 nodes can work; more than half must be workers to found a cluster"
    ]


@pytest.mark.parametrize(
    "nodes_text",
    [
        nodes("0.0.0.0:7400", advertise="tcp://10.0.0.1:7400") + nodes("0.0.0.0:7400", advertise="tcp://10.0.0.2:7400"),
        nodes("0.0.0.0:7400", advertise="tcp://10.0.0.1:17400")
        + nodes("0.0.0.0:7400", advertise="tcp://10.0.0.1:17401"),
        nodes("10.0.0.1:7400", "10.0.0.2:7400", http="127.0.0.1:7480"),
        nodes("127.0.0.1:1", "127.0.0.1:2", http="127.0.0.1:0"),
    ],
    ids=["two machines", "mapped ports", "doors of two machines", "any free port"],
)
def test_nodes_of_different_machines_may_look_alike(folder: Path, nodes_text: str) -> None:
    second = nodes_text.rindex('name = "n0"') if nodes_text.count('"n0"') > 1 else None
    if second is not None:
        nodes_text = nodes_text[:second] + nodes_text[second:].replace('"n0"', '"n9"', 1)
    assert len(load(folder, HEAD + nodes_text).nodes) == 2


@pytest.mark.parametrize(
    ("nodes_text", "told"),
    [
        (
            nodes("127.0.0.1:1", "127.0.0.1:2", http="127.0.0.1:7480"),
            't.toml:12:8: http 127.0.0.1:7480 of node "n1" is taken: http of node "n0"',
        ),
        (
            nodes("127.0.0.1:1") + nodes("127.0.0.1:2", http="127.0.0.1:1").replace("n0", "n1"),
            't.toml:11:8: http 127.0.0.1:1 of node "n1" is taken: listen of node "n0"',
        ),
        (
            nodes("127.0.0.1:1", "127.0.0.1:2", data_dir="d"),
            't.toml:12:12: nodes "n0" and "n1" share data_dir "d"',
        ),
        (
            nodes("127.0.0.1:1", "127.0.0.1:2", advertise="tcp://a.example:5"),
            't.toml:12:13: nodes "n0" and "n1" are both at tcp://a.example:5',
        ),
    ],
)
def test_nodes_of_one_machine_need_addresses_of_their_own(folder: Path, nodes_text: str, told: str) -> None:
    assert mistakes(folder, HEAD + nodes_text) == [told]


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        ("tcp://127.0.0.1:0", "needs a port from 1 to 65535, not '0'"),
        ("tcp://127.0.0.1:65536", "needs a port from 1 to 65535, not '65536'"),
        ("tcp://127.0.0.1", "must be host:port, as in 127.0.0.1:7480, not '127.0.0.1'"),
        ("tcp://::1:7401", "needs brackets around an IPv6 address, as in [::1]:7480, not '::1:7401'"),
        ("tcp://[x]:7401", "has no IPv6 address in its brackets: '[x]:7401'"),
        ("tcp://a b:7401", "must be host:port, as in 127.0.0.1:7480, not 'a b:7401'"),
        ("127.0.0.1:7401", "must be tcp://host:port, as in tcp://127.0.0.1:7401, not '127.0.0.1:7401'"),
        (
            "tcp://node.example:1",
            "takes an IP address, not the name 'node.example'; try 0.0.0.0, with the name in advertise",
        ),
    ],
)
def test_listen_addresses(folder: Path, listen: str, told: str) -> None:
    text = HEAD + f'[[node]]\nname = "a"\nlisten = "{listen}"\n'
    assert mistakes(folder, text) == [f"t.toml:7:10: listen {told}"]


# -- what stands between a good file and a start


@pytest.mark.parametrize(
    ("listen", "http", "what"),
    [
        ("tcp://127.0.0.1:1", "127.0.0.1:0", []),
        ("tcp://[::1]:1", "localhost:0", []),
        ("tcp://10.0.0.1:1", "", ["the mesh on 10.0.0.1:1"]),
        ("tcp://0.0.0.0:1", "0.0.0.0:2", ["the mesh on 0.0.0.0:1", "the HTTP door on 0.0.0.0:2"]),
        ("tcp://127.0.0.1:1", "host.example:2", ["the HTTP door on host.example:2"]),
    ],
)
def test_off_loopback_is_named(listen: str, http: str, what: list[str]) -> None:
    told = exposures(NodeConfig("a", listen, "", http))
    assert [sentence.split("would open ")[1].split(",")[0] for sentence in told] == what


def test_off_loopback_needs_to_be_typed_and_only_for_the_nodes_that_start(folder: Path) -> None:
    topology = load(folder, GOOD.replace("127.0.0.1:7402", "10.0.0.2:7402"))
    refuse_to_start(topology, topology.nodes[:1], insecure=False)
    refuse_to_start(topology, topology.nodes, insecure=True)
    with pytest.raises(Mistaken) as refused:
        refuse_to_start(topology, topology.nodes, insecure=False)
    assert str(refused.value).startswith('tops/t.toml:13:1: node "beta" would open the mesh on 10.0.0.2:7402')
    assert "--insecure" in str(refused.value)


@pytest.mark.parametrize(
    ("count", "copies", "beginning"),
    [
        (3, 1, "no death"),
        (3, 2, "the death of any 1"),
        (5, 3, "the death of any 2"),
        (2, 2, "of two nodes the death of"),
    ],
)
def test_what_is_survived(folder: Path, count: int, copies: int, beginning: str) -> None:
    text = HEAD + f"copies = {copies}\n" + nodes(*[f"127.0.0.1:{port}" for port in range(1, count + 1)])
    assert survived(load(folder, text)).startswith(beginning)
