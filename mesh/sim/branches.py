"""What became of one key's state, where a slot has several copies: each reign is a branch of the one before.

A reign begins with some of what the former one has applied, in its order, and goes on from there. A former owner that
has not heard of it may go on, too, also with a key that it has had nothing of before: what it applies then is in its
branch alone, and must never count. What counts, because somebody outside has seen it, is *committed*: it is in every
later reign.

Rules that are noted here: a reign's state never goes back; a later reign has all that was committed; nothing counts
that a later reign lacks.
"""

from __future__ import annotations

from mesh.sim.violation import Violation
from mesh.sim.workload import Record


class Branches:
    """One (stage, key). Reigns are numbers that rise."""

    def __init__(self, what: str) -> None:
        self.committed: list[Record] = []
        self._since: list[int] = []  # in which reign each of these was seen
        self._what = what
        self._taken: dict[int, list[Record]] = {}  # reign -> what its state was made of, if it has applied anything

    def newest(self) -> list[Record]:
        return self._taken[max(self._taken)] if self._taken else []

    def longest(self) -> int:
        return max((len(taken) for taken in self._taken.values()), default=0)

    def state(self, reign: int, count: int) -> list[Record]:
        """What a state of so many records is made of, in this reign. Raises Violation."""
        taken = self._taken.get(reign)
        if taken is not None:
            if len(taken) != count:
                raise Violation("I13", f"{self._what} goes from {len(taken)} to {count} records within a reign")
            return taken
        before = max((each for each in self._taken if each < reign), default=None)
        former = [] if before is None else self._taken[before]
        if len(former) < count:
            raise Violation("I5", f"{self._what} begins a reign with {count} records, and had {len(former)}")
        counts = [record for record, since in zip(self.committed, self._since, strict=True) if since <= reign]
        if former[:count][: len(counts)] != counts:
            lacks = len(counts) - count
            raise Violation("I7", f"{self._what} begins a reign without {lacks} records that were committed")
        return former[:count]

    def take(self, reign: int, count: int, record: Record) -> None:
        """Its state of so many records takes one more."""
        self._taken[reign] = self.state(reign, count)
        self._taken[reign].append(record)

    def seen(self, count: int) -> None:
        """Somebody has seen that it has taken so many: of the newest reign that has; an older one may not count."""
        for reign in sorted(self._taken, reverse=True):
            if len(self._taken[reign]) >= count:
                return self._commit(reign, count)
        raise Violation("I6", f"{self._what} is seen with {count} records, and has at most {self.longest()}")

    def answered(self, record: Record) -> bool:
        """Somebody was told that it has this record; False: it never had."""
        for reign in sorted(self._taken, reverse=True):
            places = [place for place, each in enumerate(self._taken[reign]) if each == record]
            if places:
                self._commit(reign, places[0] + 1)
                return True
        return False

    def _commit(self, reign: int, count: int) -> None:
        later = [each for each in self._taken if each > reign]
        wanted = self._taken[reign][:count]
        if any(self._taken[each][:count] != wanted for each in later):
            raise Violation("I6", f"record {count} of {self._what} counts, and a later reign lacks it")
        shorter = min(count, len(self.committed))
        if wanted[:shorter] != self.committed[:shorter]:
            raise Violation("I5", f"what is committed of {self._what} does not form one chain")
        if count > len(self.committed):
            self._since += [reign] * (count - len(self.committed))
            self.committed = wanted
