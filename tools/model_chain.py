"""Which configurations of a slot may be agreed on next, for `model_copies`: whatever `succession` allows.

Any planner may extend the chain at any time, whoever it believes alive. What it needs of the processes is what they
have claimed, and who of them has returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from tools.model_rules import RULES

ACTIVE, PENDING = "ACTIVE", "PENDING"


class Config(NamedTuple):
    term: int
    since: int  # the term at which this reign began; while it is handed over: the donor's
    owner: str
    backups: tuple[str, ...]
    status: str = ACTIVE
    donor: str = ""  # while PENDING; the owner itself in a promotion
    joining: str = ""  # while ACTIVE: who is being filled
    parting: tuple[str, ...] = ()  # while ACTIVE: which backups are left out once the owner knows
    lives: tuple[tuple[str, int], ...] = ()  # of those that have returned: which of its processes is meant

    def life(self, name: str) -> int:
        return dict(self.lives).get(name, 0)

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted({self.owner, *self.backups} | ({self.donor} if self.donor else set())))

    @property
    def source(self) -> str:
        """Whose packs are the slot's."""
        return self.donor or self.owner

    @property
    def hands_over(self) -> bool:
        return self.status == PENDING and self.donor != self.owner

    @property
    def counted(self) -> tuple[str, ...]:
        """Who has all that is committed, whatever else is agreed, as far as an owner knows that knows this."""
        alone = self.status == PENDING and not self.hands_over
        return (self.owner,) if alone else tuple(name for name in self.members if name not in self.parting)

    def __str__(self) -> str:
        more = f" donor {self.donor}" * bool(self.donor) + f" joining {self.joining}" * bool(self.joining)
        more += f" parting {','.join(self.parting)}" * bool(self.parting)
        return f"{self.status}({self.owner};{','.join(self.backups)}){more} term {self.term} since {self.since}"


Claims: TypeAlias = frozenset[tuple[int, str]]  # (term, process): it holds what this configuration asks of it


class Chain:
    """`without` is a rule's name; so many `copies` are wanted."""

    def __init__(self, names: str, copies: int, without: str) -> None:
        self.names = names
        self.copies = copies
        self.without = without

    def has(self, rule: str) -> bool:
        assert rule in RULES
        return rule != self.without

    def next_configs(self, now: Config, lives: Mapping[str, int], claims: Claims) -> Iterator[Config]:
        """`lives`: which of its processes each name has now."""
        for name in self.names:
            life = lives[name]
            if now.life(name) != life:
                yield from self._seated(now, name, tuple(sorted(dict([*now.lives, (name, life)]).items())))
        if now.status == ACTIVE:
            yield from self._of_the_same_owner(now, claims)
            for owner in now.backups:
                rest = tuple(name for name in now.members if name != owner)
                if not self.has("name all"):
                    rest = rest[:1]
                yield Config(now.term + 1, now.since, owner, rest, PENDING, now.owner, lives=now.lives)
            yield from self._promotions(now, now.backups)
        elif now.hands_over:
            needed = [name for name in now.members if name != now.donor]
            if not self.has("all claims"):
                needed = [now.owner]
            if all(self._said(claims, now.term, name) for name in needed):
                yield Config(now.term, now.term, now.owner, now.backups, lives=now.lives)
            rest = tuple(name for name in now.members if name != now.donor)
            called_off = Config(now.term + 1, now.term + 1, now.donor, rest, lives=now.lives)
            yield called_off
            yield from self._without_some(called_off, ())
            yield from self._promotions(now, now.members)
        else:
            if self._said(claims, now.term, now.owner):
                rest = () if self.has("promote alone") else now.backups
                yield Config(now.term, now.term, now.owner, rest, lives=now.lives)
            yield from self._promotions(now, tuple(name for name in now.members if name != now.owner))

    def _seated(self, now: Config, name: str, lives: tuple[tuple[str, int], ...]) -> Iterator[Config]:
        """Its seat passes to who has returned."""
        after = now._replace(lives=lives)
        promotes = now.status == PENDING and not now.hands_over
        rests = name not in (*now.members, now.joining) or (promotes and name != now.owner)
        if rests or not self.has("returned rest"):
            yield after
            return
        term = now.term + 1
        if now.status == ACTIVE and name != now.owner:
            left = tuple(each for each in now.backups if each != name)
            yield after._replace(term=term, backups=left, joining="", parting=())
        if now.hands_over and name != now.donor:
            left = tuple(each for each in now.members if each not in (name, now.donor))
            yield Config(term, term, now.donor, left, lives=lives)
        yield from self._promotions(after, now.members)

    def _of_the_same_owner(self, now: Config, claims: Claims) -> Iterator[Config]:
        for name in self.names:
            if name not in now.members:
                yield now._replace(term=now.term + 1, joining=name, parting=())
        said = self._said(claims, now.term, now.owner)
        after = now._replace(term=now.term + 1, joining="", parting=())
        if now.joining and said:
            yield after._replace(backups=tuple(sorted((*now.backups, now.joining))))
        if now.parting:
            yield after
        yield from self._without_some(after, now.parting if said else ())

    def _without_some(self, config: Config, known: tuple[str, ...]) -> Iterator[Config]:
        """One backup fewer, or that one parts; `known`: of whom the owner knows."""
        for gone in config.backups:
            rest = tuple(name for name in config.backups if name != gone)
            if gone in known or len(rest) + 1 >= self.copies or not self.has("say that it knows"):
                yield config._replace(backups=rest)
            else:
                yield config._replace(parting=(gone,))

    def _promotions(self, now: Config, names: tuple[str, ...]) -> Iterator[Config]:
        for name in (*names, *(now.joining if not self.has("promote members") else "")):
            rest = tuple(each for each in now.members if each != name)
            if not self.has("ask the promoted"):
                yield Config(now.term + 1, now.term + 1, name, (), lives=now.lives)
            else:
                yield Config(now.term + 1, now.term + 1, name, rest, PENDING, name, lives=now.lives)

    def _said(self, claims: Claims, term: int, name: str) -> bool:
        if self.has("claims of this term"):
            return (term, name) in claims
        return any(who == name for _, who in claims)
