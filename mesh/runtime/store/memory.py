"""The store of a node without a disk, and the one that a test can reason about. It is as durable as the process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from mesh.core.storing import CHUNK, MAX_SLOT, MAX_STAGE, Change, Chunk, Cursor


class MemoryStore:
    def __init__(self) -> None:
        self._slots: dict[int, dict[Cursor, bytes]] = {}  # no slot in it is empty
        self._metas: dict[int, bytes] = {}

    def put(self, changes: Iterable[Change], metas: Mapping[int, bytes], drop: Collection[int] = ()) -> None:
        taken = list(changes)
        assert all(0 <= slot <= MAX_SLOT and 0 <= stage <= MAX_STAGE for slot, stage, _, _ in taken)
        for slot in drop:
            self._slots.pop(slot, None)
            self._metas.pop(slot, None)
        for slot, stage, key, state in taken:
            if state is not None:
                self._slots.setdefault(slot, {})[stage, key] = state
            else:
                self._forget(slot, (stage, key))
        self._metas.update(metas)

    def _forget(self, slot: int, place: Cursor) -> None:
        states = self._slots.get(slot, {})
        states.pop(place, None)
        if not states:
            self._slots.pop(slot, None)

    def copied(self) -> MemoryStore:
        copy = MemoryStore()
        copy._slots = {slot: dict(states) for slot, states in self._slots.items()}
        copy._metas = dict(self._metas)
        return copy

    def commit(self) -> None:
        """Nothing is more durable than it was."""

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        return self._slots.get(slot, {}).get((stage, key))

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        states = self._slots.get(slot, {})
        found: list[tuple[int, bytes, bytes]] = []
        size = 0
        for stage, key in sorted(place for place in states if after is None or place > after):
            if size >= at_most:
                return Chunk(found, found[-1][:2])
            found.append((stage, key, states[stage, key]))
            size += len(key) + len(found[-1][2])
        return Chunk(found, None)

    def metas(self) -> dict[int, bytes]:
        return dict(self._metas)

    def close(self) -> None:
        """Nothing is kept."""
