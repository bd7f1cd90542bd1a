"""What a node puts into its store: in one order, whole, and durable some time later.

States    of a change: drafted -> put, with all that was drafted beside it -> durable, when the commit that covers it is
          done. Between: waiting, while the store has no room or is behind; what is put later waits behind it
          of what was put: recent (a record of the journal, and in memory) -> settling, once there is much of it -> in
          its place in the store, and its records are gone
Events    `change`, `changes`, `meta`, `drop` draft; `flush` puts; `committed`; `retry`
Results   `last`, the number of the newest put; `durable`, up to which all is; `take_effects`: CommitStore, Log

One commit is under way at a time, and covers all that was put before it: so packs share it. Reads show what was put,
also what waits. With each put as much settles as has come with it, so that neither takes long.

Bounds    `has_room` says no when a window of bytes is not durable, and while anything waits (`stalls`). In memory is
          what was put of late: `Much`, twice.
Invariants puts reach the store in the order of their numbers. Nothing settles before its record is put, and no record
          goes before all that it says has settled: so what any crash leaves, and the records after it, come to the
          same. An error that is no TryAgain goes to the caller, and ends the process: its sentence says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.core.events import Effect, Log, Millis
from mesh.core.events.work import CommitStore
from mesh.core.journal import Draft, Put, Recent, Settling
from mesh.core.storing import CHUNK, Chunk, Cursor, Store, StoreFull, TryAgain

WARM_BYTES = 256 << 20  # of states in memory
RETRY_MS = 50

# Behind the slots, which have 16 bits: what is the node's, and not a slot's.
GIVEN, KEPT, NODE = 1 << 20, (1 << 20) + 1, (1 << 20) + 2  # outputs of own slots, of copies; all else
JOURNAL = (1 << 20) + 3  # number -> record

# In a slot, behind the stages.
STAGES_END = 1 << 15
SPLITS, WINDOWS, MARKS = STAGES_END + 1, STAGES_END + 2, STAGES_END + 3


@dataclass(frozen=True, slots=True)
class Much:
    """From how much on what is recent settles, and in what pieces, which take a few milliseconds."""

    changes: int = 1 << 17  # 32 MB of memory at most, and 0.1 s of a start
    bytes: int = 8 << 20
    at_once: int = 1 << 11
    bytes_at_once: int = 256 << 10


class Shelf:
    """One node's store."""

    def __init__(self, store: Store, window_bytes: int, much: Much = Much()) -> None:
        self._store = store
        self._window_bytes = window_bytes
        self.much = much
        self._draft = Draft()
        self._waiting: deque[Put] = deque()
        self._retry_at: Millis | None = None
        self._told_full = False
        self.last = 0
        self.durable = 0
        self._asked = 0  # the commit that is under way; 0: none
        self._sizes: deque[tuple[int, int]] = deque()  # of puts that are not durable: number and bytes
        self._bytes = 0  # invariant: their sum
        self._effects: list[Effect] = []
        self._recent = Recent()
        self._settling: Settling | None = None
        self._records: deque[int] = deque()  # of the journal
        self._take_in_journal()

    def _take_in_journal(self) -> None:
        """What the process before this one has left."""
        for _, key, record in self.all_of(JOURNAL):
            self.last = self.durable = int.from_bytes(key, "big")
            self._records.append(self.last)
            self._recent.take(Draft.from_bytes(record), len(record))

    # -- drafts

    def change(self, slot: int, stage: int, key: bytes, value: bytes | None) -> None:
        self._draft.add(stage, [slot], [key], [value])

    def changes(
        self, stage: int, slots: Sequence[int], keys: Sequence[bytes] | bytes, values: Sequence[bytes | None]
    ) -> None:
        """By columns, or with one key for all."""
        self._draft.add(stage, slots, keys, values)

    def meta(self, slot: int, value: bytes) -> None:
        self._draft.metas[slot] = value

    def drop(self, slot: int) -> None:
        if self._draft.touches(slot):
            self.flush()  # in one put drops come first
        self._draft.drop[slot] = None

    def flush(self) -> int:
        """Put what is drafted; the number of the newest put."""
        draft = self._draft
        if not draft.empty():
            self._draft = Draft()
            record = draft.to_bytes()
            self._recent.take(draft, len(record))
            number = self.last + 1
            self._records.append(number)
            self._sizes.append((number, len(record)))
            self._bytes += len(record)
            self._put_next(Put([(JOURNAL, 0, number.to_bytes(8, "big"), record)]))
            self._settle(draft.count(), len(record))
        return self.last

    def _put_next(self, put: Put) -> None:
        put.number = self.last = self.last + 1
        if self._waiting or not self._put(put):
            self._waiting.append(put)

    def _put(self, put: Put) -> bool:
        try:
            self._store.put(put.changes, put.metas, put.drop)
        except TryAgain as error:
            if isinstance(error, StoreFull) and not self._told_full:
                self._told_full = True
                self._effects.append(Log("store.full", {"error": str(error)}, "error"))
            return False
        return True

    # -- it settles

    def _settle(self, came: int, came_bytes: int) -> None:
        """A piece, while nothing waits."""
        much = self.much
        if self._waiting:
            return
        if self._settling is None:
            if self._recent.changes < much.changes and self._recent.bytes < much.bytes:
                return
            self._settling, self._recent = Settling(self._recent, self.last), Recent()
        put = self._settling.next(came, came_bytes, much.at_once, much.bytes_at_once)
        if put is None:
            put = self._without_records(self._settling.last)
            self._settling = None
        self._put_next(put)

    def _without_records(self, last: int) -> Put:
        """Up to this one."""
        gone = []
        while self._records and self._records[0] <= last:
            gone.append(self._records.popleft().to_bytes(8, "big"))
        return Put([(JOURNAL, 0, key, None) for key in gone])

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

    def _in_memory(self) -> Iterator[Recent]:
        """The newest first."""
        yield self._recent
        if self._settling is not None:
            yield self._settling.recent

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        assert not self._draft.columns, "a read before all of a pack is put"
        for recent in self._in_memory():
            if recent.has(slot, stage, key):
                return recent.value(slot, stage, key)
            if slot in recent.drop:
                return None
        return self._store.get(slot, stage, key)

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        """As the store's."""
        found: dict[Cursor, bytes | None] = {}
        dropped = False
        for recent in self._in_memory():
            found = {**recent.of(slot), **found}
            dropped = dropped or slot in recent.drop
            if dropped:
                break
        while True:
            chunk = Chunk([], None) if dropped else self._store.scan(slot, after, at_most)
            if not found:
                return chunk
            states = _merged(chunk, found, after)
            if states or chunk.after is None:
                return _cut(states, chunk.after, at_most)
            after = chunk.after

    def all_of(self, slot: int, after: Cursor | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """Each (stage, key, value) behind a place."""
        while True:
            chunk = self.scan(slot, after)
            yield from chunk.states
            if chunk.after is None:
                return
            after = chunk.after

    def metas(self) -> dict[int, bytes]:
        metas = self._store.metas()
        for recent in reversed([*self._in_memory()]):
            metas = {slot: meta for slot, meta in metas.items() if slot not in recent.drop} | recent.metas
        return metas


def _merged(chunk: Chunk, found: dict[Cursor, bytes | None], after: Cursor | None) -> list[tuple[int, bytes, bytes]]:
    """What was found holds, as far as the chunk goes."""
    states: dict[Cursor, bytes | None] = {(stage, key): state for stage, key, state in chunk.states}
    for place, state in found.items():
        if (after is None or place > after) and (chunk.after is None or place <= chunk.after):
            states[place] = state
    return [(*place, state) for place, state in sorted(states.items()) if state is not None]


def _cut(states: list[tuple[int, bytes, bytes]], after: Cursor | None, at_most: int) -> Chunk:
    size = 0
    for count, (_, key, state) in enumerate(states, 1):
        size += len(key) + len(state)
        if size >= at_most and count < len(states):
            return Chunk(states[:count], states[count - 1][:2])
    return Chunk(states, after)
