"""What a node puts into its store: in one order, whole, and durable some time later.

States    of a change: drafted -> put, with all that was drafted beside it -> durable, when the commit that covers it is
          done. Between: waiting, while the store has no room or is behind; what is put later waits behind it
Events    `change`, `meta`, `drop` draft; `flush` puts; `committed`; `retry`
Results   `last`, the number of the newest put; `durable`, up to which all is; `take_effects`: CommitStore, Log

One commit is under way at a time, and covers all that was put before it: so packs share it. Reads show what was put,
also what waits; a scan does not show that.

Bounds    `has_room` says no when a window of bytes is not durable, and while anything waits (`stalls`).
Invariant puts reach the store in the order of their numbers. An error that is no TryAgain goes to the caller, and ends
          the process: its sentence says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mesh.core.events import CommitStore, Effect, Log, Millis
from mesh.core.storing import CHUNK, Change, Chunk, Cursor, Store, StoreFull, TryAgain

WARM_BYTES = 256 << 20  # of states in memory
RETRY_MS = 50

# Behind the slots, which have 16 bits: what is the node's, and not a slot's.
GIVEN, KEPT, NODE = 1 << 20, (1 << 20) + 1, (1 << 20) + 2  # outputs of own slots, of copies; all else

# In a slot, behind the stages.
STAGES_END = 1 << 15
SPLITS, WINDOWS, MARKS = STAGES_END + 1, STAGES_END + 2, STAGES_END + 3


@dataclass(slots=True)
class _Put:
    """The last change of a place counts; first of all these slots are dropped."""

    number: int = 0
    changes: list[Change] = field(default_factory=list)
    metas: dict[int, bytes] = field(default_factory=dict)
    drop: dict[int, None] = field(default_factory=dict)

    def touches(self, slot: int) -> bool:
        return slot in self.metas or any(each[0] == slot for each in self.changes)

    def size(self) -> int:
        return sum(len(key) + (0 if value is None else len(value)) for _, _, key, value in self.changes)

    def of(self, slot: int, stage: int, key: bytes) -> Change | None:
        return next((each for each in reversed(self.changes) if each[:3] == (slot, stage, key)), None)


class Shelf:
    """One node's store."""

    def __init__(self, store: Store, window_bytes: int) -> None:
        self._store = store
        self._window_bytes = window_bytes
        self._draft = _Put()
        self._waiting: deque[_Put] = deque()
        self._retry_at: Millis | None = None
        self._told_full = False
        self.last = 0
        self.durable = 0
        self._asked = 0  # the commit that is under way; 0: none
        self._sizes: deque[tuple[int, int]] = deque()  # of puts that are not durable: number and bytes
        self._bytes = 0  # invariant: their sum
        self._effects: list[Effect] = []

    # -- drafts

    def change(self, slot: int, stage: int, key: bytes, value: bytes | None) -> None:
        self._draft.changes.append((slot, stage, key, value))

    def changes(self, changes: Iterable[Change]) -> None:
        self._draft.changes.extend(changes)

    def meta(self, slot: int, value: bytes) -> None:
        self._draft.metas[slot] = value

    def drop(self, slot: int) -> None:
        if self._draft.touches(slot):
            self.flush()  # in one put drops come first
        self._draft.drop[slot] = None

    def flush(self) -> int:
        """Put what is drafted; the number of the newest put."""
        draft = self._draft
        if draft.changes or draft.metas or draft.drop:
            self._draft = _Put()
            self.last += 1
            draft.number = self.last
            size = draft.size()
            self._sizes.append((draft.number, size))
            self._bytes += size
            if self._waiting or not self._put(draft):
                self._waiting.append(draft)
        return self.last

    def _put(self, put: _Put) -> bool:
        try:
            self._store.put(put.changes, put.metas, [*put.drop])
        except TryAgain as error:
            if isinstance(error, StoreFull) and not self._told_full:
                self._told_full = True
                self._effects.append(Log("store.full", {"error": str(error)}, "error"))
            return False
        return True

    # -- it waits for room

    def stalls(self) -> bool:
        return bool(self._waiting)

    def retry_at(self) -> Millis | None:
        return self._retry_at if self._waiting else None

    def retry(self, now: Millis) -> None:
        """After every event."""
        if not self._waiting:
            return
        if self._retry_at is None or self._retry_at <= now:
            while self._waiting and self._put(self._waiting[0]):
                self._waiting.popleft()
            self._retry_at = now + RETRY_MS
        if not self._waiting:
            self._retry_at = None
            if self._told_full:
                self._told_full = False
                self._effects.append(Log("store.goes_on"))

    def has_room(self) -> bool:
        return not self._waiting and self._bytes < self._window_bytes

    # -- it becomes durable

    def _in_store(self) -> int:
        return self._waiting[0].number - 1 if self._waiting else self.last

    def committed(self, number: int) -> None:
        self._asked = 0
        self.durable = max(self.durable, number)
        while self._sizes and self._sizes[0][0] <= number:
            self._bytes -= self._sizes.popleft()[1]

    def take_effects(self) -> list[Effect]:
        if not self._asked and self._in_store() > self.durable:
            self._asked = self._in_store()
            self._effects.append(CommitStore(self._asked))
        effects, self._effects = self._effects, []
        return effects

    # -- reads

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        assert not self._draft.changes, "a read before all of a pack is put"
        for put in reversed(self._waiting):
            change = put.of(slot, stage, key)
            if change is not None:
                return change[3]
            if slot in put.drop:
                return None
        return self._store.get(slot, stage, key)

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        """Without what waits."""
        return self._store.scan(slot, after, at_most)

    def all_of(self, slot: int, after: Cursor | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """Each (stage, key, value) behind a place."""
        while True:
            chunk = self.scan(slot, after)
            yield from chunk.states
            if chunk.after is None:
                return
            after = chunk.after

    def metas(self) -> dict[int, bytes]:
        return self._store.metas()
