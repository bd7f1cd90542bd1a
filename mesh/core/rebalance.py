"""Who shall own which slot: pure, integer arithmetic, the same answer on every machine.

Every member's share is S//N slots, and the S%N that are left over go to those that hold most already. Nothing moves
that need not: the number of moves is the lower bound (what nobody holds, plus what members hold beyond their share).
Cutting the interval anew into contiguous shares would look nicer and move half of all keys at every join. Contiguous
runs are kept where that costs no move: donors give their smallest runs whole and split at most one; receivers extend
the runs they have, then take runs of just their size, and what remains goes to whoever lacks most.

Backups come second. They follow the owners: what can stay stays, holes go to whoever backs up least, and then chains of
exchanges level the counts as far as distinct nodes and zones allow.

A slot that is PINNED stays where it is and is nobody's share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]  # slots [first, stop)
PINNED = ""  # in place of an owner's name


def rebalance(owners: Sequence[str | None], members: Sequence[str]) -> tuple[str, ...]:
    """The new owner of each slot. `members` are distinct and their order breaks ties; unknown owners count as None.

    What is PINNED is so in the result.
    """
    assert members, "somebody must own the slots"
    wanted = shares(owners, members)
    partition = _Partition(owners, wanted)
    for member in members:
        partition.give(member)
    partition.extend_runs()
    partition.take_fitting(members)
    partition.take_rest(members)
    return partition.result()


def shares(owners: Sequence[str | None], members: Sequence[str]) -> dict[str, int]:
    """How many slots each member shall own."""
    held = dict.fromkeys(members, 0)
    for owner in owners:
        if owner in held:
            held[owner] += 1
    share, left_over = divmod(sum(owner != PINNED for owner in owners), len(members))
    largest = sorted(members, key=lambda member: -held[member])[:left_over]  # stable: ties in the order of members
    return {member: share + (member in largest) for member in members}


class _Partition:
    """Slots on their way from one assignment to the next; None is on offer."""

    def __init__(self, owners: Sequence[str | None], wanted: Mapping[str, int]) -> None:
        self.owners: list[str | None] = [owner if owner in wanted or owner == PINNED else None for owner in owners]
        self.lacks = {**wanted, PINNED: 0}  # invariant: share minus slots held; negative for donors until they gave
        for owner in self.owners:
            if owner is not None and owner != PINNED:
                self.lacks[owner] -= 1

    def spans(self, owner: str | None) -> list[Span]:
        """The contiguous runs of an owner, ascending."""
        found = []
        first = 0
        for each, group in groupby(self.owners):
            stop = first + sum(1 for _ in group)
            if each == owner:
                found.append((first, stop))
            first = stop
        return found

    def give(self, donor: str) -> None:
        """Smallest runs first, whole; the last one is split, at the side where somebody can take it on."""
        for first, stop in sorted(self.spans(donor), key=lambda span: (span[1] - span[0], span[0])):
            excess = -self.lacks[donor]
            if excess <= 0:
                return
            if stop - first > excess:
                first, stop = self._cut(first, stop, excess)
            self._assign(first, stop, None)
            self.lacks[donor] += stop - first

    def extend_runs(self) -> None:
        """Offers next to a receiver's run: whole ones first, the largest first, so that the fewest pieces remain."""
        while choices := [choice for span in self.spans(None) for choice in self._neighbours(*span)]:
            _, _, first, stop, receiver = min(choices)
            self._take(first, stop, receiver)

    def take_fitting(self, members: Sequence[str]) -> None:
        """Offers that are exactly what a receiver lacks."""
        for member in members:
            fitting = [span for span in self.spans(None) if span[1] - span[0] == self.lacks[member]]
            if fitting:
                self._take(*fitting[0], member)

    def take_rest(self, members: Sequence[str]) -> None:
        """The largest offer to the largest need, until nothing is left."""
        while offers := self.spans(None):
            first, stop = max(offers, key=lambda span: span[1] - span[0])
            receiver = max(members, key=lambda member: self.lacks[member])
            self._take(first, min(stop, first + self.lacks[receiver]), receiver)

    def result(self) -> tuple[str, ...]:
        assert not any(self.lacks.values()), self.lacks
        return tuple(owner for owner in self.owners if owner is not None)

    def _cut(self, first: int, stop: int, size: int) -> Span:
        """The end of a run that is given away: the low one if a receiver or an offer adjoins there and only there."""
        low = first > 0 and self._wants(self.owners[first - 1])
        high = stop < len(self.owners) and self._wants(self.owners[stop])
        return (first, first + size) if low and not high else (stop - size, stop)

    def _wants(self, owner: str | None) -> bool:
        return owner is None or self.lacks[owner] > 0

    def _neighbours(self, first: int, stop: int) -> list[tuple[bool, int, int, int, str]]:
        """(only a part, -size, first, stop, receiver) of what the neighbours of an offer would take."""
        found = []
        below = self.owners[first - 1] if first > 0 else None
        above = self.owners[stop] if stop < len(self.owners) else None
        if below is not None and (size := min(self.lacks[below], stop - first)) > 0:
            found.append((size < stop - first, -size, first, first + size, below))
        if above is not None and (size := min(self.lacks[above], stop - first)) > 0:
            found.append((size < stop - first, -size, stop - size, stop, above))
        return found

    def _take(self, first: int, stop: int, receiver: str) -> None:
        assert 0 < stop - first <= self.lacks[receiver]
        self._assign(first, stop, receiver)
        self.lacks[receiver] -= stop - first

    def _assign(self, first: int, stop: int, owner: str | None) -> None:
        self.owners[first:stop] = [owner] * (stop - first)


# -- backups ----------------------------------------------------------------------------------------------------------


def assign_backups(
    owners: Sequence[str],
    members: Sequence[tuple[str, str]],
    copies: int,
    present: Sequence[Sequence[str]] = (),
) -> tuple[tuple[str, ...], ...]:
    """The backups of each slot: `copies` - 1 of them, or all other members if these are fewer.

    `members` are (name, zone); as many zones as can be are used, and "" is nobody's neighbour. `present` are the
    backups until now, of which as many stay as fit.
    """
    cover = _Cover(owners, dict(members), min(copies, len(members)) - 1)
    if present:
        cover.keep(present)
    cover.fill()
    cover.level()
    return cover.result()


_Kind: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]  # owner, backups, who else has it until now


class _Cover:
    """Slots that are of one kind are looked at once: there are few kinds, and many slots."""

    def __init__(self, owners: Sequence[str], zones: Mapping[str, str], depth: int) -> None:
        self.owners = owners
        self.zones = zones
        self.depth = depth
        self.members = list(zones)
        self.place = {name: number for number, name in enumerate(self.members)}
        self.backups: list[tuple[str, ...]] = [()] * len(owners)
        self.spare: list[tuple[str, ...]] = [()] * len(owners)
        self.load = dict.fromkeys(self.members, 0)
        self.kinds: dict[_Kind, list[int]] = {}
        self._candidates_of: dict[tuple[str, ...], list[str]] = {}

    def keep(self, present: Sequence[Sequence[str]]) -> None:
        """What is there and still fits."""
        known: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]] = {}
        for slot, (owner, names) in enumerate(zip(self.owners, present, strict=True)):
            kind = (owner, *names)
            if kind not in known:
                kept = self._fitting(owner, names)
                known[kind] = kept, tuple(name for name in names if name not in (owner, *kept) and name in self.place)
            self.backups[slot], self.spare[slot] = known[kind]
            for name in self.backups[slot]:
                self.load[name] += 1

    def _fitting(self, owner: str, names: Sequence[str]) -> tuple[str, ...]:
        """Asked twice, as a second of one zone fits only after one of another."""
        kept: tuple[str, ...] = ()
        for name in (*names, *names):
            if len(kept) < self.depth and name in self._candidates(owner, kept):
                kept = (*kept, name)
        return kept

    def fill(self) -> None:
        for slot, owner in enumerate(self.owners):
            while len(backups := self.backups[slot]) < self.depth:
                name = min(self._candidates(owner, backups), key=lambda name: self.load[name])
                self.backups[slot] = (*backups, name)
                self.load[name] += 1

    def level(self) -> None:
        """Until no chain of exchanges leads from a member with more to one with at least two fewer: first by those
        that give slots to who has them already."""
        for slot, (owner, names, spare) in enumerate(zip(self.owners, self.backups, self.spare, strict=True)):
            self.kinds.setdefault((owner, self._sorted(names), spare), []).append(slot)
        while chain := self._any_chain((True,)) or self._any_chain((True, False)):
            for kind, old, new in chain:
                self._exchange(kind, old, new)
                self.load[old] -= 1
                self.load[new] += 1

    def _exchange(self, kind: _Kind, old: str, new: str) -> None:
        """In the last slot of this kind."""
        owner, names, spare = kind
        slot = self.kinds[kind].pop()
        if not self.kinds[kind]:
            del self.kinds[kind]
        self.backups[slot] = self._sorted([name for name in names if name != old] + [new])
        left = tuple(name for name in spare if name != new)
        self.kinds.setdefault((owner, self.backups[slot], left), []).append(slot)

    def result(self) -> tuple[tuple[str, ...], ...]:
        return tuple(map(self._sorted, self.backups))

    def _sorted(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names) if len(names) < 2 else tuple(sorted(names, key=lambda name: self.place[name]))

    def _any_chain(self, have_it: tuple[bool, ...]) -> list[tuple[_Kind, str, str]]:
        least = min(self.load.values())
        busy = sorted(
            (name for name in self.members if self.load[name] >= least + 2), key=lambda name: -self.load[name]
        )
        return next((chain for name in busy if (chain := self._chain(name, have_it))), [])

    def _candidates(self, owner: str, others: tuple[str, ...]) -> list[str]:
        """Who may (also) back up a slot: of the rarest zone there, not there already."""
        there = (owner, *others)
        found = self._candidates_of.get(there)
        if found is None:
            taken = [self.zones.get(name, "") for name in there]
            free = [name for name in self.members if name not in there]
            apart = [name for name in free if not self.zones[name] or self.zones[name] not in taken]
            found = self._candidates_of[there] = apart or free
        return found

    def _chain(self, start: str, have_it: tuple[bool, ...]) -> list[tuple[_Kind, str, str]]:
        """The shortest chain of (kind, old, new) that takes one slot from `start` to a member with two fewer or more;
        `have_it`: (True, ..) to who has the slot already, (.., False) to anybody.

        Every slot is in a chain once: the members of a shortest chain differ, and each slot leads on from one of them.
        """
        came: dict[str, tuple[_Kind, str] | None] = {start: None}
        queue = deque([start])
        used: dict[_Kind, int] = {}
        while queue:
            old = queue.popleft()
            for has_it in have_it:
                for kind, slots in self.kinds.items():
                    owner, names, spare = kind
                    if old not in names or used.get(kind, 0) == len(slots) or (has_it and not spare):
                        continue
                    others = tuple(name for name in names if name != old)
                    fits = [name for name in self._candidates(owner, others) if name not in came]
                    news = [name for name in fits if name in spare] if has_it else fits
                    used[kind] = used.get(kind, 0) + bool(news)
                    for new in sorted(news, key=lambda name: self.load[name]):
                        came[new] = (kind, old)
                        if self.load[new] <= self.load[start] - 2:
                            return self._back(came, new)
                        queue.append(new)
        return []

    def _back(self, came: Mapping[str, tuple[_Kind, str] | None], end: str) -> list[tuple[_Kind, str, str]]:
        chain = []
        new = end
        while (step := came[new]) is not None:
            kind, old = step
            chain.append((kind, old, new))
            new = old
        return chain
