"""Ten rounds of join and leave while producers post: no line is lost, applied twice or out of order.

It would show at a later round: what a node is left with when it goes, and comes again under its old name, and what a
slot remembers of its producers when it has been moved many times.
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from random import Random

import pytest

from tests.cluster_kit import Cluster, NodeProcess, eventually
from tests.windows_kit import Producer, of_one_process, windows, written

ROUNDS = 10
PRODUCERS = 3
THREE = ("alpha", "beta", "gamma")


class Rounds:
    """Who is a member, and how one comes and one goes. `options`: those of a node of this name that joins."""

    def __init__(
        self, made: Cluster, random: Random, options: Callable[[str], tuple[str, ...]] = lambda name: ()
    ) -> None:
        self.made, self.random, self.options = made, random, options
        self.members = [*made.names]
        self.gone: list[str] = []

    def round(self, number: int) -> None:
        """One joins, and one leaves, which may be the same, before, while or after it has come."""
        newcomer = self._join(number)
        leaver = self.random.choice([*self.members, newcomer.name, newcomer.name])
        if self.random.random() < 0.5:
            newcomer.until("node.ready")
        asked = self.made[self.random.choice([*self.members, leaver])]
        print(f"round {number}: {newcomer.name} joins, {leaver} leaves, says {asked.name}")
        going = self.made[leaver]
        eventually(lambda: self._leave(asked, going), f"{asked.name} passes on that {leaver} leaves")
        assert going.end() == 0
        assert going.events[-1]["event"] == "node.left"
        self.members = sorted({*self.members, newcomer.name} - {leaver})
        self.gone.append(leaver)
        self.made.until_settled(*self.members)

    def _join(self, number: int) -> NodeProcess:
        """A new one, or one that has been here."""
        at = self.random.choice(self.members)
        name = self.random.choice([f"new-{number}", *self.gone[-2:]])
        if name in self.gone:
            self.gone.remove(name)
        if name in self.made.names:
            self.made.start(name, options=("--join", self.made[at].listen))
            return self.made[name]
        return self.made.join(name, at, *self.options(name))

    @staticmethod
    def _leave(asked: NodeProcess, leaver: NodeProcess) -> bool:
        """One that has only just come may not be known yet, or know nobody; the answer may be lost when it goes."""
        try:
            said = asked.leave(leaver.name)
        except (OSError, HTTPException):
            return not leaver.running
        assert said.code in (202, 404, 503), said
        return said.code == 202


@pytest.mark.parametrize("seed", [1])
def test_ten_rounds_of_join_and_leave_while_producers_post(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with windows(tmp_path, *THREE) as made:
        ten_rounds(made, random, Rounds(made, random))


def ten_rounds(made: Cluster, random: Random, rounds: Rounds, *, copied: bool = False) -> None:
    names = [f"p{number}" for number in range(PRODUCERS)]
    producers = [Producer(name, made, Random(random.random()), copied=copied) for name in names]
    for producer in producers:
        producer.start()
    for number in range(1, ROUNDS + 1):
        rounds.round(number)
    for producer in producers:
        producer.stop()
        print(producer.name, dict(producer.answers), f"{producer.reads} reads, {len(producer.sent)} lines")
        assert producer.reads
    the_same_as_in_one_process(made, [line for producer in producers for line in producer.sent], random)
    assert made.alarms_of("partition.lost", "node.crashed", "record.set_aside", "member.dead") == []
    assert made.noise() == []


def the_same_as_in_one_process(made: Cluster, sent: list[tuple[str, int]], random: Random) -> None:
    """Through any node: the keys, their states; and what was given out."""
    states, given = of_one_process(sent)
    for node in made.running():
        assert sorted(node.get("/v1/keys/window", limit="1000").body["keys"]) == sorted(states)
    for key, state in states.items():
        assert random.choice(made.running()).get("/v1/state/window", key=key).body["state"] == state
    total = len(sent)
    out = made.folder / "out"
    eventually(lambda: sum(map(len, written(out).values())) >= total, "all outputs are written")
    assert written(out) == given
