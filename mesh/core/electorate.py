"""Who votes on the next epoch, and what is enough.

A vote counts by weight; two sets that reach `needed` always share a voter, because `needed` is more than half of all.
Even sets give half a vote more to the longest-serving voter (2 and 3 instead of 1 and 1.5), so that a cluster cut in
two equal parts still has one part that goes on. Votes belong to homes, that is to memories, not to processes: one that
restarts with its data directory goes on voting, if `boots` finds that the directory is not an old copy.

The founding is different: its voters are the declared workers by name, each process answers for its name, and
`expect` of them are needed. A process without a data directory that restarts forgets its vote; with `expect` = all, as
is the default, a second founding would still need the word of every process that remembers the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_VOTERS = 7  # of a formed cluster: survives three losses; more only makes each decision slower


@dataclass(frozen=True, slots=True)
class Voter:
    name: str
    home: bytes  # 16 bytes: any process speaks for it that has this home; empty at the founding: one of this name
    weight: int
    node: bytes = b""  # the process that the epoch names for it


@dataclass(frozen=True, slots=True)
class Electorate:
    """The voters of one epoch, who choose the next."""

    voters: tuple[Voter, ...]
    needed: int  # weight; invariant: more than half of all, so that two decisions share a voter

    def __post_init__(self) -> None:
        total = sum(voter.weight for voter in self.voters)
        assert total < 2 * self.needed <= 2 * total, (self.needed, total)
        assert len({voter.name for voter in self.voters}) == len(self.voters), "one vote a name"

    def enough(self, names: Iterable[str]) -> bool:
        """Do the voters with these names decide? Each counts once."""
        voted = frozenset(names)
        return sum(voter.weight for voter in self.voters if voter.name in voted) >= self.needed


def electorate(voters: Sequence[tuple[str, bytes]], nodes: Sequence[bytes] = ()) -> Electorate:
    """Of a formed cluster: (name, home) in the order of service; `nodes` are the processes, unless homes are nodes."""
    heavier = len(voters) % 2 == 0
    weighed = tuple(
        Voter(name, home, 3 if heavier and place == 0 else 2, nodes[place] if nodes else home)
        for place, (name, home) in enumerate(voters)
    )
    return Electorate(weighed, sum(voter.weight for voter in weighed) // 2 + 1)


def founding_electorate(workers: Sequence[str], expect: int) -> Electorate:
    """Of a cluster to be: the declared workers, of whom `expect` must agree."""
    return Electorate(tuple(Voter(name, b"", 1) for name in workers), expect)
