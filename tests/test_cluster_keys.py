"""Where keys live: what `owner` says is where the state is, through every node and the command."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from mesh.core.keys import Key, hash_key, key_to_json
from tests.cluster_kit import Cluster, cluster
from tests.commands import run_mesh

APP = """\
import mesh

KEYS = [kind(n) for n in range(100) for kind in (str, int, lambda n: b"%d" % n)]
KEYS += ["", b"", "ключ", "a b&c=d/e?f#g+h%20", "\\x00", "\\U0001f600", -1, -(2**63), 2**100, b"\\xff\\x00", "x" * 3000]
app = mesh.App("keys")
keys = app.source("keys", mesh.items(KEYS, splits=7)).key_by(lambda key: key)
keys.fold("seen", list, lambda seen, key: [*seen, key])
"""
SMALL: list[Key] = [kind(n) for n in range(100) for kind in (str, int, lambda n: b"%d" % n)]
KEYS: list[Key] = [
    *SMALL, "", b"", "ключ", "a b&c=d/e?f#g+h%20", "\x00", "\U0001f600", -1, -(2**63), 2**100, b"\xff\x00", "x" * 3000,
]  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("keys"), "alpha", "beta", "gamma", app=APP, seed=7, slots=256) as made:
        made.start()
        made.until_ready()
        made.until_done()
        yield made


def query(key: Key) -> dict[str, str]:
    """A key as a question names it."""
    if isinstance(key, bytes):
        return {"key": base64.urlsafe_b64encode(key).decode().rstrip("="), "key_type": "bytes"}
    return {"key": str(key), "key_type": type(key).__name__}


def test_every_node_tells_the_same_owner_and_that_one_has_the_state(three: Cluster) -> None:
    owned: Counter[str] = Counter()
    for key in KEYS:
        answers = [node.get("/v1/owner", **query(key)) for node in three]
        assert [answer.code for answer in answers] == [200, 200, 200]
        told = answers[0].body
        assert all(answer.body == told for answer in answers)
        low, high = told["interval"]
        assert told["key"] == key_to_json(key)
        assert told["hash"] == hash_key(key, 7)
        assert low <= told["hash"] < high
        assert (low, high) == (told["slot"] << 24, (told["slot"] + 1) << 24)
        owned[told["owner"]] += 1
        states = [node.get("/v1/state/seen", **query(key)) for node in three]
        expected = {"stage": "seen", "key": key_to_json(key), "state": [key_to_json(key)], "owner": told["owner"]}
        assert all(answer.body == expected | {"term": told["term"]} for answer in states), (key, states)
    assert set(owned) == {"alpha", "beta", "gamma"}
    for node in three:  # each process counts what it holds itself
        assert node.metric("mesh_keys") == owned[node.name]
        assert {each["name"]: each["keys"] for each in node.status()["nodes"]} == owned


def test_the_ring_agrees_with_the_owners(three: Cluster) -> None:
    ring = three["beta"].get("/v1/ring").body
    owner_of_slot = {slot: run["owner"] for run in ring["runs"] for slot in range(run["first"], run["last"] + 1)}
    assert sorted(owner_of_slot) == list(range(256))
    assert sorted(Counter(owner_of_slot.values()).values()) == [85, 85, 86]
    for key in SMALL:
        told = three["gamma"].get("/v1/owner", **query(key)).body
        assert owner_of_slot[told["slot"]] == told["owner"]


def test_a_key_of_another_type_is_another_key(three: Cluster) -> None:
    assert three["alpha"].get("/v1/state/seen", key="5").body["state"] == ["5"]
    assert three["alpha"].get("/v1/state/seen", key="5", key_type="int").body["state"] == [5]
    assert three["alpha"].get("/v1/state/seen", key="NQ", key_type="bytes").body["state"] == [{"bytes": "NQ"}]
    assert three["alpha"].get("/v1/state/seen", key="NQ").code == 404


def test_reading_creates_nothing(three: Cluster) -> None:
    before = [node.metric("mesh_keys") for node in three]
    for number in range(30):
        for node in three:
            answer = node.get("/v1/state/seen", key=f"never-{number}")
            assert (answer.code, answer.body["error"]) == (404, "not-found")
    assert [node.metric("mesh_keys") for node in three] == before
    assert three["alpha"].get("/v1/state/sean", key="5").body == {
        "error": "unknown-stage",
        "detail": 'the application has no stage "sean"',
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"key": "1.5", "key_type": "int"},
        {"key": "", "key_type": "int"},
        {"key": "٣", "key_type": "int"},
        {"key": "1_000", "key_type": "int"},
        {"key": "a", "key_type": "bytes"},
        {"key": "YQ==", "key_type": "bytes"},
        {"key": "not base64!", "key_type": "bytes"},
        {"key": "x", "key_type": "float"},
        {"key_type": "str"},
        {"kee": "x"},
        {"key": "x" * 5000},
        {"key": "9" * 3999, "key_type": "int "},
    ],
)
def test_a_key_that_is_none_is_one_sentence(three: Cluster, asked: dict[str, str]) -> None:
    for path in ("/v1/owner", "/v1/state/seen"):
        answer = three["alpha"].get(path, **asked)
        assert answer.code == 400
        assert set(answer.body) == {"error", "detail"}


def walked(three: Cluster, limit: int) -> list[object]:
    """Each page through another node."""
    nodes, found, query = list(three), [], {"limit": str(limit)}
    for number in range(1000):
        answer = nodes[number % 3].get("/v1/keys/seen", **query)
        assert answer.code == 200, answer.text
        found += answer.body["keys"]
        if answer.body["next"] is None:
            return found
        assert len(answer.body["keys"]) == limit
        query["after"] = answer.body["next"]
    raise AssertionError("it does not end")


@pytest.mark.parametrize("limit", [1, 7, 100, 10_000])
def test_every_node_lists_the_keys_of_all_in_one_order(three: Cluster, limit: int) -> None:
    def where(key: Key) -> tuple[int, int, Key]:
        return hash_key(key, 7) >> 24, [str, int, bytes].index(type(key)), key

    listed = walked(three, limit)
    assert listed == [key_to_json(key) for key in sorted(KEYS, key=where)]
    ended = run_mesh("keys", "seen", "--at", f"http://{next(iter(three)).door}")
    assert [json.loads(line) for line in ended.out.splitlines()] == listed


def test_keys_of_a_stage_that_is_not_there(three: Cluster) -> None:
    for node in three:
        assert (node.get("/v1/keys/sene").code, node.get("/v1/keys/sene").body["error"]) == (404, "unknown-stage")
        assert (node.get("/v1/keys/seen", after="x").code, node.get("/v1/keys/seen", limit="0").code) == (400, 400)


def test_the_commands_say_the_same(three: Cluster) -> None:
    door = three["beta"].door
    for key in (-1, b"\xff\x00", "a b&c=d/e?f#g+h%20", "--"):
        words = query(key)
        options = ["--key-type", words["key_type"], "--at", door, "--json"]
        told = run_mesh("owner", *options, "--", words["key"])
        assert json.loads(told.out) == three["alpha"].get("/v1/owner", **words).body
        got = run_mesh("get", *options, "--", "seen", words["key"])
        answer = three["alpha"].get("/v1/state/seen", **words)
        assert (got.code, json.loads(got.out)) == (0 if answer.code == 200 else 4, answer.body)
