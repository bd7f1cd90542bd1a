"""Nodes of a cluster with copies that are killed, paused, joined, drained, and cut off, in an order drawn from a seed.

At most `copies - 1` die at once: the next one is killed when every slot has all its copies again. With `disk` whoever
was killed comes back with its directory, and then also all die at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from http.client import HTTPException
from random import Random
from typing import Any

from tests.cluster_kit import Cluster, NodeProcess, eventually
from tests.namespace_kit import HostedCluster

MOST = 5  # members at once
FEWEST = 3  # so that a majority is left when one dies


class Deaths:
    """Who is a member, and what is done to them."""

    def __init__(self, made: Cluster, random: Random, copies: int, *, disk: bool = False) -> None:
        self.made, self.random, self.copies, self.disk = made, random, copies, disk
        self.members = [*made.names]
        self.killed: list[str] = []  # names that are free
        self.kills = 0

    def step(self, number: int) -> None:
        """Something happens, often two things at once, and then all comes to rest."""
        for change in range(self.random.choice((1, 1, 2))):
            may = [self._join, *[self._leave, self._kill, self._kill] * (len(self.members) > FEWEST)]
            if change == 0:
                may += [self._kill_and_replace, self._kill_and_replace, self._pause]
                may += [self._kill_all, self._kill_all] * self.disk
            self.random.choice(may if len(self.members) < MOST else may[1:])(f"new-{number}-{change}")
            if self.kills and not self.at_rest():
                break  # one death at a time
        self.until_at_rest()

    def at_rest(self) -> bool:
        """One partition of the members, every slot ACTIVE, with all its copies."""
        try:
            return self._are_ready() and self.made.settled(*self.members) and self._has_all_copies()
        except (OSError, HTTPException):
            return False

    def _are_ready(self) -> bool:
        """Who has only just come back knows the partition of before."""
        return not self.disk or all(self.made[name].get("/readyz").code == 200 for name in self.members)

    def _has_all_copies(self) -> bool:
        wanted = min(self.copies, len(self.members)) - 1
        for name in self.members:
            status = self.made[name].status()
            if sum(node["backups"] for node in status["nodes"]) != wanted * status["slots"]["total"]:
                return False
        return True

    def until_at_rest(self) -> None:
        eventually(self.at_rest, f"a partition of {', '.join(self.members)}, at rest, with {self.copies} copies", 120.0)

    def _here(self) -> NodeProcess:
        return self.made[self.random.choice([each for each in self.members if self.made[each].all_of("node.ready")])]

    def _join(self, name: str) -> None:
        at = self._here()
        self._begin(self.random.choice([name, *self.killed[-1:]]), at)

    def _begin(self, name: str, at: NodeProcess) -> None:
        print(f"{name} joins at {at.name}")
        if name in self.killed:
            self.killed.remove(name)
        if name in self.made.names:
            self.made.start(name, options=("--join", at.listen))
        else:
            self.made.join(name, at.name, *self._directory(name))
        self.members.append(name)

    def _directory(self, name: str) -> tuple[str, ...]:
        return ("--data-dir", directory(name)) if self.disk else ()

    def _leave(self, _: str) -> None:
        leaver = self._here()
        self.members.remove(leaver.name)
        asked = self._here()
        print(f"{leaver.name} leaves, says {asked.name}")
        assert asked.leave(leaver.name).code == 202
        assert leaver.end(seconds=120.0) == 0

    def _kill(self, _: str) -> None:
        victim = self._here()
        print(f"{victim.name} is killed")
        victim.kill()
        self.kills += 1
        self.members.remove(victim.name)
        self.killed.append(victim.name)
        # its seat stays until somebody has its name, or an operator says otherwise
        self._begin(victim.name, self._here())

    def _kill_all(self, _: str) -> None:
        """The power is gone for a moment."""
        print(f"{', '.join(self.members)} are killed")
        dead, self.members = self.members, []
        for name in dead:
            self.made[name].kill()
        self.kills += len(dead)
        for name in self.random.sample(dead, len(dead)):
            self._begin(name, self.made[self.random.choice(dead)])

    def _kill_and_replace(self, _: str) -> None:
        victim = self._here()
        watch = self.made[self.random.choice([each for each in self.members if each != victim.name])]
        print(f"{victim.name} is killed; it comes again when {watch.name} knows")
        before = len(watch.all_of("partition.members"))
        victim.kill()
        self.kills += 1
        eventually(lambda: len(watch.all_of("partition.members")) > before, f"{watch.name} goes on without it")
        self.members.remove(victim.name)
        self.killed.append(victim.name)
        self._begin(victim.name, watch)

    def _pause(self, _: str) -> None:
        paused = self._here()
        watch = self.made[self.random.choice([each for each in self.members if each != paused.name])]
        said = self.random.choice(("member.suspect", "member.dead", "partition.members"))
        before = len(watch.all_of(said))
        print(f"{paused.name} is paused, until {watch.name} logs {said}")
        paused.signal(signal.SIGSTOP)
        try:
            eventually(lambda: len(watch.all_of(said)) > before, f"{watch.name} logs {said}")
        finally:
            paused.signal(signal.SIGCONT)


class Splits(Deaths):
    """Of nodes that each have a machine: the network breaks as well."""

    def __init__(self, made: HostedCluster, random: Random, copies: int) -> None:
        super().__init__(made, random, copies)
        self.net = made.net

    def one_of_each(self) -> None:
        """Everything that there is, in any order; each time all comes to rest."""
        kinds = [self._join, self._leave, self._kill, self._kill_and_replace, self._pause, self._split, self._one_way]
        for number, kind in enumerate(self.random.sample(kinds, len(kinds))):
            kind(f"new-{number}")
            self.until_at_rest()

    def _split(self, _: str) -> None:
        """A minority is cut off until the others go on without it."""
        shuffled = self.random.sample(self.members, len(self.members))
        few = self.random.randint(1, (len(shuffled) - 1) // 2)
        minority, majority = shuffled[:few], shuffled[few:]
        print(f"the network splits: {' '.join(minority)} | {' '.join(majority)}")
        self._while_cut(lambda: self.net.split(minority, majority), majority[0])

    def _one_way(self, _: str) -> None:
        """Somebody hears nobody any more, or nobody hears it."""
        odd, *others = self.random.sample(self.members, len(self.members))
        deaf = self.random.random() < 0.5
        print(f"{odd} {'hears nobody' if deaf else 'is not heard'}")

        def cut() -> None:
            for other in others:
                self.net.cut(*((other, odd) if deaf else (odd, other)))

        self._while_cut(cut, others[0])

    def _while_cut(self, cut: Callable[[], None], watch: str) -> None:
        node = self.made[watch]
        before = len(node.all_of("partition.members"))
        cut()
        try:
            eventually(lambda: len(node.all_of("partition.members")) > before, f"{watch} goes on without them")
        finally:
            self.net.heal()


def directory(name: str) -> str:
    """Where a node keeps what it has; in the cluster's folder."""
    return f"{name}.data"


def on_disk(*names: str, copies: int) -> dict[str, Any]:
    """The settings of a cluster whose nodes have directories."""
    extra = {name: f'data_dir = "{directory(name)}"' for name in names}
    return {"extra": extra, "durability": "disk", "copies": copies}
