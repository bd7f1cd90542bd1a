"""The owner's side of a listing: which keys come next in these of its slots.

States    of a search: waits for the stage's keys to be filed -> looks through one slot after the other -> answered
Events    `look`, a new search; `work`, a part of the first one, which then waits behind the others.

A million keys are not sorted for one page, nor filed in one go: each turn files, or looks through, so many keys as take
a few milliseconds. A slot is looked through up to where its keys ended when the search came to it: what is created
later may be listed or not. If it is filed anew meanwhile, or leaves and returns, it is looked through again.

Bounds    MAX_SEARCHES; an answer has PART_BYTES of keys, or one key that is larger.
Invariant an answer has every key of the slots before its last one, and of that one all up to its last key, if they were
          there when the search came. It is made of slots that were ACTIVE here when they had been looked through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.core.holdings import Holdings
from mesh.core.messages import NodeId
from mesh.core.owner import FILED_AT_ONCE, Owner, StageStates
from mesh.core.places import Place, place_of, size_of
from mesh.core.shelved_states import ShelvedStates, unpacked_key

MAX_SEARCHES = 256  # each is an HTTP request, at some node, that waits
PART_BYTES = 256 << 10  # of keys in one answer: records are on the same link
AT_ONCE = 1 << 12  # keys that are looked at in a turn: a few milliseconds
BYTES_A_KEY = 1 << 10  # of a long key cost as much as a key


@dataclass(slots=True)
class Search:
    """The next `limit` keys after a place in `slot`, up to the end of slot `last`."""

    asker: NodeId
    number: int  # the asker's
    stage: int
    slot: int
    last: int
    after: Place
    limit: int
    keys: list[Any] = field(default_factory=list)  # found, in order
    more: bool = False  # there may be some behind them
    page_after: bytes | None = None  # where there is a store: there are more keys of the slot behind this one
    _size: int = 0
    _slot_keys: Sequence[Any] | None = None  # of the slot that is being looked through
    _seen: int = 0
    _end: int = 0
    _first: int = -1
    _best: list[tuple[Place, Any]] = field(default_factory=list)  # of what was seen; one more than is wanted

    def __post_init__(self) -> None:
        self._first = self.slot

    def slots(self) -> range:
        """Those that it says something of."""
        return range(self._first, min(self.slot, self.last) + 1)

    def full(self) -> bool:
        return len(self.keys) >= self.limit or self._size >= PART_BYTES

    def begin(self, slot_keys: Sequence[Any]) -> None:
        self._slot_keys, self._seen, self._end = slot_keys, 0, len(slot_keys)
        self._best = []

    # -- of a slot in a store, which is read by pages

    def needs_page(self) -> bool:
        return self._slot_keys is None or (self._seen >= self._end and self.page_after is not None)

    def turn_to(self, keys: Sequence[Any], after: bytes | None) -> None:
        """The next page, and behind which key the one after it begins."""
        best = self._best if self.page_after is not None else []
        self.begin(keys)
        self._best, self.page_after = best, after

    def has_begun(self, slot_keys: Sequence[Any]) -> bool:
        return self._slot_keys is slot_keys

    def look(self, room: int) -> int:
        """Through so many of the slot's keys; what that cost."""
        assert self._slot_keys is not None
        cost, found = 0, []
        while cost < room and self._seen < self._end:
            key = self._slot_keys[self._seen]
            self._seen += 1
            cost += 1 + size_of(key) // BYTES_A_KEY
            place = place_of(key)
            if place > self.after:
                found.append((place, key))
        if found:
            self._best = sorted(self._best + found)[: self.limit - len(self.keys) + 1]
        return cost

    def at_its_end(self) -> bool:
        return self._seen >= self._end and self.page_after is None

    def close(self) -> None:
        """The slot has been looked through: take what fits, and go on behind it."""
        for _, key in self._best:
            if self.full():
                self.more = True
                return
            self.keys.append(key)
            self._size += size_of(key)
        self.more = self.slot < self.last
        self.slot, self.after, self._slot_keys = self.slot + 1, (), None


class SlotKeys:
    """All searches among this node's keys, its own and its peers'."""

    def __init__(self, owner: Owner, holdings: Holdings, done: Callable[[Search, bool], None]) -> None:
        """`done(search, ACTIVE)`; if its first slot is not ACTIVE here, the search has come to nothing."""
        self._owner = owner
        self._holdings = holdings
        self._done = done
        self._searches: deque[Search] = deque()

    def look(self, search: Search) -> bool:
        """False if too many are under way."""
        if len(self._searches) >= MAX_SEARCHES:
            return False
        self._searches.append(search)
        return True

    def forget(self, asker: NodeId, number: int) -> None:
        """Nobody waits for this one any more."""
        kept = [each for each in self._searches if (each.asker, each.number) != (asker, number)]
        self._searches = deque(kept)

    def may_work(self) -> bool:
        return bool(self._searches)

    def work(self) -> None:
        """A part of one search."""
        if not self._searches:
            return
        search = self._searches.popleft()
        ended = self._go_on(search, self._owner.stages[search.stage])
        if ended is None:
            self._searches.append(search)
        else:
            self._done(search, ended)

    def _has_keys(self, search: Search, stage: StageStates) -> bool:
        """Is there something to look through, or nothing left?"""
        if isinstance(stage, ShelvedStates):
            if search.needs_page():
                names, _, after = stage.page(search.slot, search.page_after)
                search.turn_to([*map(unpacked_key, names)], after)
        elif not search.has_begun(stage.keys_of(search.slot)):
            if not stage.file_some(FILED_AT_ONCE):
                return False
            search.begin(stage.keys_of(search.slot))
        return True

    def _go_on(self, search: Search, stage: StageStates) -> bool | None:
        """Whether it came to something; None if it has not ended yet."""
        room = AT_ONCE
        while room > 0:
            if search.slot not in self._holdings.active:
                search.more = True
                return bool(search.keys)
            if not self._has_keys(search, stage):
                return None
            room -= 1 + search.look(room)
            if search.at_its_end():
                search.close()
                if search.full() or search.slot > search.last:
                    return True
        return None
