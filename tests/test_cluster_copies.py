"""Real nodes with copies, killed with -9 while they work: nothing is lost, nothing counts twice, order is kept."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.cluster_kit import eventually
from tests.deaths_kit import Deaths
from tests.flowing_kit import flowing
from tests.test_cluster_rounds import the_same_as_in_one_process
from tests.windows_kit import Producer, events, windows

THREE = ("alpha", "beta", "gamma")
STEPS = 6
WRONG = ("partition.lost", "node.crashed", "record.set_aside")


def test_what_was_committed_survives_its_owner(tmp_path: Path) -> None:
    """The shortest form: post, kill the owner, read."""
    with windows(tmp_path, *THREE, copies=2) as made:
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent, "p").body == {"committed": 60, "duplicates": 0}
        for producer, first, why in (("new", 5, "unknown-producer"), ("p", 1_000_000, "too-far")):
            told = events(made["gamma"].door, [("key-7", 1)], producer, first)
            assert (told.code, told.body["error"]) == (409, why)
        Deaths(made, Random(1), 2).until_at_rest()
        victim = made[made.owner_of("key-7")]
        others = [node for node in made if node is not victim]
        victim.kill()
        eventually(lambda: made.settled(*(node.name for node in others)), "all slots are somebody's")
        for node in others:
            for key, number in sent:
                said = node.get("/v1/state/window", key=key)
                assert (said.code, said.body["state"]["sum"], said.body["state"]["count"]) == (200, number, 1)
            assert events(node.door, sent, "p").body == {"committed": 60, "duplicates": 60}
        assert made.alarms_of(*WRONG) == []
        assert made.noise() == []


@pytest.mark.parametrize("seed", [1])
def test_producers_lose_nothing_while_nodes_die_come_and_go(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with windows(tmp_path, *THREE, copies=2) as made:
        deaths = Deaths(made, random, 2)
        deaths.until_at_rest()
        producers = [Producer(f"p{number}", made, Random(random.random()), copied=True) for number in range(2)]
        for producer in producers:
            producer.start()
        for number in range(STEPS):
            deaths.step(number)
        for producer in producers:
            producer.stop()
            print(producer.name, dict(producer.answers), f"{producer.reads} reads, {len(producer.sent)} lines")
            assert producer.reads
        assert deaths.kills
        the_same_as_in_one_process(made, [line for producer in producers for line in producer.sent], random)
        assert made.alarms_of(*WRONG) == []
        assert made.noise() == []


@pytest.mark.parametrize("seed", [1])
def test_words_of_files_are_counted_once_while_their_readers_and_owners_die(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    with flowing(tmp_path, *THREE, copies=2) as words:
        deaths = Deaths(words.made, Random(seed), 2)
        deaths.until_at_rest()
        for number in range(STEPS):
            deaths.step(number)
            words.in_flow()
        words.enough()
        assert deaths.kills
        assert words.made.alarms_of(*WRONG) == []
        assert words.made.noise() == []
