"""Which splits there are: a source is listed, and what falls on a slot is registered in that slot, once.

States    of (slot, source): unlisted -> listed (`take` gives out what to register) -> registered, here or elsewhere
Events    `wanted`, `listed`, `registered`, `forget`.

On which slot a split falls is known from the listing alone (`slots_of`), so every owner finds the splits of its slots
without asking. The fingerprint of the listing is registered, too: owners that have listed a source differently, since
their files differ or have changed meanwhile, have some splits twice or not at all, and are told.

Invariants a source is listed by one call at a time; a slot that comes while it runs is served by it. A split whose name
          cannot travel, or is another's too, is left out and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mesh.app.connectors import Split
from mesh.core.codec import MAX_INT, MAX_TEXT
from mesh.core.events import Effect
from mesh.core.events.work import ListSplits, SplitsListed
from mesh.core.messages.work import Report
from mesh.core.slot_splits import Change, registration_key, split_key
from mesh.core.sources import SplitsDiffer, deal, fingerprint

Told = tuple[str, int, SplitsDiffer]  # source, splits, error


def slots_of(splits: Sequence[Split], founders: int, slots: int) -> list[int]:
    """The slot of each split: dealt to the founders, and spread over an equal part of the slots for each of them."""
    readers = deal(splits, range(founders))
    theirs: list[list[int]] = [[] for _ in range(founders)]
    for index in sorted(range(len(splits)), key=lambda index: (-splits[index].size, index)):
        theirs[readers[index]].append(index)
    found = [0] * len(splits)
    for reader, indexes in enumerate(theirs):
        first = reader * slots // founders
        width = max(1, (reader + 1) * slots // founders - first)
        for position, index in enumerate(indexes):
            found[index] = first + (position * width // len(indexes) if len(indexes) < width else position % width)
    return found


def _may_travel(name: str) -> bool:
    try:
        return len(name.encode()) <= MAX_TEXT
    except UnicodeEncodeError:
        return False  # as of a file whose name is not UTF-8


@dataclass(slots=True)
class _Listing:
    """Of one source."""

    name: str
    asked: bool = False
    unlisted: dict[int, None] = field(default_factory=dict)  # own slots that are not registered
    known: dict[int, int] = field(default_factory=dict)  # fingerprint -> how many own slots
    differs: bool = False  # and that was told


class Registering:
    """For this node's own slots."""

    def __init__(self, names: Sequence[str], targets: int, slots: int) -> None:
        self._targets = targets
        self._slots = slots
        self._listings = [_Listing(name) for name in names]
        self._found: list[tuple[int, int, list[Change]]] = []
        self._told: list[Told] = []
        self.founders = 1

    def wanted(self, slot: int, source: int) -> None:
        self._listings[source].unlisted[slot] = None

    def registered(self, source: int, listing: int) -> None:
        """A slot that has it is this node's now."""
        known = self._listings[source].known
        known[listing] = known.get(listing, 0) + 1

    def forget(self, slot: int, registered: Iterable[tuple[int, int]]) -> None:
        """It is not this node's any more; (source, listing) that it had."""
        for listing in self._listings:
            listing.unlisted.pop(slot, None)
        for source, which in registered:
            known = self._listings[source].known
            known[which] -= 1
            if not known[which]:
                del known[which]
        self._found = [each for each in self._found if each[0] != slot]

    def ask(self) -> list[Effect]:
        effects: list[Effect] = []
        for source, listing in enumerate(self._listings):
            if listing.unlisted and not listing.asked:
                listing.asked = True
                effects.append(ListSplits(source))
        return effects

    def listed(self, event: SplitsListed) -> None:
        listing = self._listings[event.source]
        splits = self._usable(listing.name, event.splits)
        changes: dict[int, list[Change]] = {slot: [] for slot in listing.unlisted}
        for split, slot in zip(splits, slots_of(splits, self.founders, self._slots), strict=True):
            if slot in changes:
                state = (0, (0,) * self._targets, False, min(max(split.size, 0), MAX_INT), 0)
                changes[slot].append((slot, split_key(slot, event.source, split.name), state))
        whole = fingerprint(event.splits)
        for slot, found in changes.items():
            found.append((slot, registration_key(slot, event.source), (whole, (), False, len(found), 0)))
            self._found.append((slot, event.source, found))
        listing.asked = False
        listing.unlisted.clear()

    def _usable(self, source: str, splits: Sequence[Split]) -> list[Split]:
        good: dict[str, Split] = {}
        for split in splits:
            if _may_travel(split.name):
                good.setdefault(split.name, split)
        if len(good) < len(splits):
            why = (
                f"{len(splits) - len(good)} splits left out: names must differ, and be UTF-8 of up to {MAX_TEXT} bytes"
            )
            self._told.append((source, len(splits), SplitsDiffer(why)))
        return [*good.values()]

    def anything(self) -> bool:
        return bool(self._found)

    def take(self) -> list[tuple[int, int, list[Change]]]:
        """(slot, source, what to register); the registration itself comes last."""
        found, self._found = self._found, []
        return found

    # -- do all list alike?

    def listing(self, source: int) -> int:
        """One by which own slots were registered; 0: none is."""
        return min(self._listings[source].known, default=0)

    def differing(self, others: Iterable[Report]) -> list[Told]:
        """What is wrong with listings, once a source."""
        told, self._told = self._told, []
        for report in others:
            for mine, other in zip(self._listings, report.sources, strict=False):
                if other.listing and any(each != other.listing for each in mine.known):
                    self._differs(mine, told)
        for mine in self._listings:
            if len(mine.known) > 1:
                self._differs(mine, told)
        return told

    def _differs(self, listing: _Listing, told: list[Told]) -> None:
        if not listing.differs:
            listing.differs = True
            error = SplitsDiffer("nodes have listed other splits, or other sizes; all must see the same")
            told.append((listing.name, sum(listing.known.values()), error))
