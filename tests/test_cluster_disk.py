"""Real nodes that keep their states on disk, killed with -9 one at a time and all at once, and started again with their
directories: nothing that was acknowledged is lost, nothing counts twice, outputs are there once."""

from __future__ import annotations

import contextlib
import shutil
from http.client import HTTPException
from pathlib import Path
from random import Random

import pytest

from tests.cluster_kit import Cluster, cluster, eventually
from tests.deaths_kit import Deaths, directory, on_disk
from tests.flowing_kit import flowing
from tests.test_cluster_rounds import the_same_as_in_one_process
from tests.windows_kit import Producer, events, post, windows

THREE = ("alpha", "beta", "gamma")
STEPS = 3
WRONG = ("partition.lost", "node.crashed", "record.set_aside", "store.failed", "slot.no_copy")


def committed(made: Cluster, sent: list[tuple[str, int]]) -> None:
    for node in made.running():
        for key, number in sent:
            said = node.get("/v1/state/window", key=key)
            assert said.code == 200, said
            assert (said.body["state"]["sum"], said.body["state"]["count"]) == (number, 1)
        assert events(node.door, sent, "p").body == {"committed": len(sent), "duplicates": len(sent)}


@pytest.mark.parametrize("copies", [1, 2])
def test_what_was_committed_survives_the_death_of_all(tmp_path: Path, copies: int) -> None:
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=copies)) as made:
        deaths = Deaths(made, Random(1), copies, disk=True)
        deaths.until_at_rest()
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent, "p").body == {"committed": 60, "duplicates": 0}
        for node in made:
            node.kill()
        made.start()
        deaths.until_at_rest()
        committed(made, sent)
        assert events(made["beta"].door, [("key-0", 60)], "p", 60).body == {"committed": 1, "duplicates": 0}
        the_same_as_in_one_process(made, [*sent, ("key-0", 60)], Random(1))
        assert made.alarms_of(*WRONG) == []
        assert made.noise() == []


def test_the_slots_of_a_dead_node_wait_for_its_directory(tmp_path: Path) -> None:
    """With one copy."""
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=1)) as made:
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent, "p").body == {"committed": 60, "duplicates": 0}
        victim = made.owner_of("key-7")
        watch = made[next(name for name in THREE if name != victim)]
        made[victim].kill()
        eventually(lambda: watch.get("/v1/state/window", key="key-7").code == 503, "its slots are unavailable")
        made.start(victim)
        eventually(lambda: made.settled(*THREE), "it has them again")
        committed(made, sent)
        assert made.alarms_of(*WRONG) == []


def test_a_directory_that_is_gone_is_given_up_by_name_and_what_the_others_have_stays(tmp_path: Path) -> None:
    """With one copy."""
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=1)) as made:
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent, "p").body == {"committed": 60, "duplicates": 0}
        theirs = {key: made.owner_of(key) for key, _ in sent}
        victim = theirs["key-7"]
        watch, other = (made[name] for name in THREE if name != victim)
        made[victim].kill()
        shutil.rmtree(tmp_path / directory(victim))
        assert watch.order("/v1/accept-loss", gone=other.name).body["error"] == "node-up"
        eventually(lambda: watch.get("/v1/unavailable").body["unavailable"] != [], "its slots are unavailable")
        [waiting] = watch.get("/v1/unavailable").body["unavailable"]
        assert waiting["nodes"] == [victim]
        assert watch.order("/v1/accept-loss").body["error"] == "nothing-lost"
        assert watch.slots()["unavailable"] == waiting["count"]
        assert watch.order("/v1/accept-loss", gone=victim).body == {"slots": waiting["count"]}
        made.start(victim)
        eventually(lambda: watch.slots()["active"] == watch.slots()["total"], "all slots are somebody's")
        for key, number in sent:
            said = watch.get("/v1/state/window", key=key)
            if theirs[key] == victim:
                assert said.code == 404
            else:
                assert said.body["state"]["sum"] == number
        again = [(f"key-{number}", number) for number in range(60) if theirs[f"key-{number}"] == victim]
        assert events(watch.door, again, "q").body == {"committed": len(again), "duplicates": 0}
        assert watch.until("partition.loss_accepting")["nodes"] == [victim]
        eventually(lambda: made[victim].get("/readyz").code == 200, "it is a member, a new one")


@pytest.mark.parametrize(("copies", "seed"), [(1, 1), (2, 2)])
def test_producers_lose_nothing_while_nodes_die_and_come_back(tmp_path: Path, copies: int, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=copies)) as made:
        deaths = Deaths(made, random, copies, disk=True)
        deaths.until_at_rest()
        producers = [Producer(f"p{number}", made, Random(random.random()), copied=True) for number in range(2)]
        for producer in producers:
            producer.start()
        for number in range(STEPS):
            deaths.step(number)
        for producer in producers:
            producer.stop()
            print(producer.name, dict(producer.answers), f"{producer.reads} reads, {len(producer.sent)} lines")
        assert deaths.kills
        the_same_as_in_one_process(made, [line for producer in producers for line in producer.sent], random)
        assert made.alarms_of(*WRONG) == []
        assert made.noise() == []


@pytest.mark.parametrize(("copies", "seed"), [(1, 1), (2, 2)])
def test_words_of_files_are_counted_once_while_nodes_die_and_come_back(tmp_path: Path, copies: int, seed: int) -> None:
    print(f"seed {seed}")
    with flowing(tmp_path, *THREE, **on_disk(*THREE, copies=copies)) as words:
        deaths = Deaths(words.made, Random(seed), copies, disk=True)
        deaths.until_at_rest()
        for number in range(STEPS):
            deaths.step(number)
            words.in_flow()
        words.enough()
        assert deaths.kills
        assert words.made.alarms_of(*WRONG) == []
        assert words.made.noise() == []


CARTS = """
from dataclasses import dataclass

import mesh


@dataclass
class Cart:
    items: int = 0
    total: int = 0


def put(cart, line):
    return Cart(cart.items + 1, cart.total + line["price"]), None


app = mesh.App("carts")
app.source("lines", mesh.http()).key_by(lambda line: line["who"]).stateful("cart", Cart, put)
"""


def test_a_state_whose_class_has_changed_is_told_and_is_there_for_the_version_that_wrote_it(tmp_path: Path) -> None:
    """The same number of fields: what was the one would be read as the other."""
    line, was = b'{"who": "ann", "price": 7}\n', {"items": 1, "total": 7}
    with cluster(tmp_path, "alpha", app=CARTS, **on_disk("alpha", copies=1)) as made:
        made.start()
        made.until_ready()
        assert post(made["alpha"].door, "/v1/sources/lines", line).code == 200
        made["alpha"].kill()
        (tmp_path / "app.py").write_text(
            CARTS.replace("items: int = 0\n    total: int", "total: int = 0\n    items: int")
        )
        made.start()
        made.until_ready()
        asked = made["alpha"].get("/v1/state/cart", key="ann")
        assert (asked.code, asked.body["error"]) == (500, "unreadable-state")
        assert "a state of stage cart, key 'ann', that this version" in asked.body["detail"]
        with contextlib.suppress(OSError, HTTPException):
            assert post(made["alpha"].door, "/v1/ask/cart", line, key="ann").code in (503, 504)
        told = made["alpha"].until("store.failed")["error"]
        assert "a state of stage cart, key 'ann', that this version" in told
        assert "Cart is of version" in told
        assert made["alpha"].end() == 1
        assert made.noise() == []
        (tmp_path / "app.py").write_text(CARTS)
        made.start()
        made.until_ready()
        assert made["alpha"].get("/v1/state/cart", key="ann").body["state"] == was


def test_an_old_copy_of_a_directory_is_refused(tmp_path: Path) -> None:
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=1)) as made:
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent[:30], "p").code == 200
        made["gamma"].kill()
        here, old = tmp_path / directory("gamma"), tmp_path / "old"
        shutil.copytree(here, old)
        made.start("gamma")
        eventually(lambda: made.settled(*THREE), "it is there again")
        assert events(made["alpha"].door, sent[30:], "p", 30).code == 200
        made["gamma"].kill()
        newest = here.rename(tmp_path / "newest")
        old.rename(here)
        for _ in range(3):  # as a supervisor does, and more often than the copy is starts behind
            made.start("gamma")
            assert "is an old copy" in made["gamma"].until("node.refused")["detail"]
            assert made["gamma"].end() == 2
        here.rename(old)
        newest.rename(here)
        made.start("gamma")
        eventually(lambda: made.settled(*THREE), "with the newest one it is there again")
        committed(made, sent)


def test_another_application_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=1)) as made:
        assert made["alpha"].end(15) == 0
        made.start("alpha", text=made.text.replace('name = "tested"', 'name = "tested"\nseed = 5'))
        assert (
            "was made for seed 0, and this node is started for seed 5" in made["alpha"].until("node.refused")["detail"]
        )
        assert made["alpha"].end() == 2
        made.start("alpha", text=made.text.replace('durability = "disk"', 'durability = "memory"'))
        assert 'has a store, and this node is started with durability = "memory"' in str(
            made["alpha"].until("node.refused")
        )
        assert made["alpha"].end() == 2
