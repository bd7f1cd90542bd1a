"""Which node a command line means: one of the file, or one that joins; every mistake of its options is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.runtime.config import NodeConfig
from nodes.joining import chosen_node
from nodes.mistakes import Failure, Mistaken
from nodes.topology import Topology, load_topology

TEXT = """\
[cluster]
name = "c"
[app]
module = "words.py"
[[node]]
name = "alpha"
listen = "tcp://127.0.0.1:7401"
"""
OPTIONS = ("listen", "http", "advertise", "role", "zone", "data_dir")
GOOD = {"listen": "tcp://127.0.0.1:7409", "http": "127.0.0.1:7489"}
JOIN = ("tcp://127.0.0.1:7401",)


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Topology:
    monkeypatch.chdir(tmp_path)
    Path("t.toml").write_text(TEXT, encoding="utf-8")
    return load_topology("t.toml", environment={})


def chosen(topology: Topology, name: str, join: tuple[str, ...] = JOIN, **given: str) -> NodeConfig:
    return chosen_node(topology, name, dict.fromkeys(OPTIONS) | given, join)


def test_a_node_of_the_file_is_as_the_file_says_and_may_find_others_elsewhere(topology: Topology) -> None:
    assert chosen(topology, "alpha", ()) == topology.nodes[0]
    assert chosen(topology, "alpha") == topology.nodes[0]


def test_a_node_that_joins_is_as_its_options_say(topology: Topology) -> None:
    node = chosen(topology, "delta", JOIN, **GOOD, role="witness", zone="z", data_dir="data")
    data_dir = str(Path("data").absolute())
    assert node == NodeConfig("delta", GOOD["listen"], "", GOOD["http"], "witness", "z", data_dir)
    assert chosen(topology, "delta", JOIN, **GOOD) == NodeConfig("delta", GOOD["listen"], "", GOOD["http"])


def test_an_unknown_name_is_told_the_near_one_and_what_joining_takes(topology: Topology) -> None:
    with pytest.raises(Failure) as refused:
        chosen(topology, "alfa", ())
    assert refused.value.sentences == (
        't.toml has no node "alfa"; did you mean "alpha"? One that is not in the file joins a running cluster, for '
        "which --listen, --http, --join are missing here",
    )


@pytest.mark.parametrize(
    ("given", "join", "missing"),
    [
        (GOOD, (), "--join is"),
        ({"listen": GOOD["listen"]}, JOIN, "--http is"),
        ({"http": GOOD["http"]}, JOIN, "--listen is"),
        ({"listen": GOOD["listen"]}, (), "--http, --join are"),
    ],
)
def test_what_is_missing_is_one_sentence(
    topology: Topology, given: dict[str, str], join: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(Failure) as refused:
        chosen(topology, "delta", join, **given)
    assert refused.value.code == 2
    assert refused.value.sentences[0].endswith(f"for which {missing} missing here")


def test_what_the_file_says_of_its_nodes_is_not_said_again(topology: Topology) -> None:
    with pytest.raises(Mistaken) as refused:
        chosen(topology, "alpha", listen=GOOD["listen"], data_dir="d")
    assert refused.value.sentences == (
        '--listen tcp://127.0.0.1:7409: node "alpha" is in t.toml, which says its listen; leave this out, or give it '
        "another name",
        '--data-dir d: node "alpha" is in t.toml, which says its data_dir; leave this out, or give it another name',
    )


@pytest.mark.parametrize(
    ("name", "given", "join", "sentence"),
    [
        ("delta", {"listen": "7409"}, JOIN, "--listen 7409: listen must be tcp://host:port"),
        ("delta", {"listen": "tcp://127.0.0.1:7401"}, JOIN, '--listen tcp://127.0.0.1:7401: is where node "alpha"'),
        ("delta", {"listen": "tcp://0.0.0.0:7409"}, JOIN, "--listen tcp://0.0.0.0:7409: a wildcard needs advertise"),
        ("delta", {"http": "127.0.0.1:7409"}, JOIN, "--http 127.0.0.1:7409: http 127.0.0.1:7409 is taken by this"),
        ("delta", {"http": "nowhere"}, JOIN, "--http nowhere: http must be host:port"),
        ("delta", {"role": "worke"}, JOIN, '--role worke: role must be worker or witness, not "worke"; did you mean'),
        ("Delta", {}, JOIN, "--name Delta: name must be 1 to 64 of a-z"),
        ("delta", {}, ("127.0.0.1:1",), "--join 127.0.0.1:1: must be tcp://host:port"),
        ("alpha", None, ("tcp://127.0.0.1:0",), "--join tcp://127.0.0.1:0: needs a port"),
    ],
)
def test_a_bad_value_is_named_with_its_option(
    topology: Topology, name: str, given: dict[str, str] | None, join: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(Mistaken) as refused:
        chosen(topology, name, join, **({} if given is None else GOOD | given))
    assert len(refused.value.mistakes) == 1
    assert refused.value.sentences[0].startswith(sentence)
