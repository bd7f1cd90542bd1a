"""Joins, leaves and pauses in an order drawn from a seed while words flow: counted as one process would count.

Nobody is killed: there is one copy of each state, and it would be gone.
"""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import pytest

from tests.cluster_kit import NodeProcess, eventually
from tests.flowing_kit import Flowing, flowing

THREE = ("alpha", "beta", "gamma")
STEPS = 7
MOST = 5  # members at once


class Storm:
    """At each step one or two join or leave, and often somebody is paused meanwhile: for a moment, or until the others
    have agreed that it is unreachable."""

    def __init__(self, words: Flowing, random: Random) -> None:
        self.words, self.made, self.random = words, words.made, random
        self.members = [*THREE]
        self.going: list[NodeProcess] = []

    def step(self, number: int) -> None:
        others = [*self.members]
        for change in range(self.random.choice((1, 1, 2))):
            may = [self._join] * (len(self.members) < MOST) + [self._leave] * (len(self.members) > 2)
            self.random.choice(may)(f"new-{number}-{change}")
        if self.random.random() < 0.7:
            self._pause(self.random.choice(others))
        for node in self.going:
            assert node.end() == 0
        self.going = []
        self.made.until_settled(*self.members)
        self.words.in_flow()

    def _here(self) -> NodeProcess:
        """Somebody who is settled and stays."""
        here = [name for name in self.members if self.made[name].all_of("node.ready")]
        return self.made[self.random.choice(here)]

    def _join(self, name: str) -> None:
        at = self._here().name
        print(f"{name} joins at {at}")
        self.made.join(name, at)
        self.members.append(name)

    def _leave(self, _: str) -> None:
        leaver = self._here().name
        self.members.remove(leaver)
        asked = self._here()
        print(f"{leaver} leaves, says {asked.name}")
        assert asked.leave(leaver).code == 202
        self.going.append(self.made[leaver])

    def _pause(self, name: str) -> None:
        node = self.made[name]
        watch = next(self.made[each] for each in THREE + tuple(self.members) if each != name and self._knows(each))
        said = self.random.choice(("member.suspect", "member.dead", "partition.members"))
        before = len(self._of(watch, said, name))
        print(f"{name} is paused, until {watch.name} logs {said}")
        node.signal(signal.SIGSTOP)
        try:
            eventually(
                lambda: len(self._of(watch, said, name)) > before or not watch.running,
                f"{watch.name} logs {said} of {name}",
            )
        finally:
            node.signal(signal.SIGCONT)

    def _knows(self, name: str) -> bool:
        return name in self.members and bool(self.made[name].all_of("node.ready"))

    @staticmethod
    def _of(watch: NodeProcess, said: str, name: str) -> list[object]:
        return [event for event in watch.all_of(said) if event.get("member") == name or name in event.get("down", ())]


@pytest.mark.parametrize("seed", [1])
def test_a_storm_of_joins_leaves_and_pauses_loses_no_word(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    with flowing(tmp_path, *THREE) as words:
        storm = Storm(words, Random(seed))
        for number in range(STEPS):
            storm.step(number)
        words.enough()
        assert words.made.alarms_of("partition.lost", "node.crashed", "record.set_aside") == []
        assert words.made.noise() == []
