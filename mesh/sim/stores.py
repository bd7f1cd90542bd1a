"""Stores whose commits take time (`writing`), and of which a crash leaves what was durable, and perhaps a little more.

States    of a put: shown (the process reads it) -> covered by the commit under way -> durable; or gone, in a crash
          of a store: has room <-> full
Events    `put`; `begin` and `commit`, the two ends of a commit; `crash`

A store is a part of a node's directory (`host.Disk`): copied, put back and emptied with the records beside it.

Invariants a commit covers what was put before it began, and nothing that came later. What a crash leaves is a prefix of
whole puts, in their order, and has all that is durable: so nothing goes that anybody was told of. What is left is
another store: what the process that ended may still put changes nothing of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from mesh.core.data import DataPlane
from mesh.core.keeping import Keeping
from mesh.core.shelf import GIVEN, STAGES_END, WARM_BYTES, Much, Shelf
from mesh.core.shelved_states import LAST, unpacked_key
from mesh.core.storing import CHUNK, Change, Chunk, Cursor, StoreFull
from mesh.core.values import unpack
from mesh.runtime.store import MemoryStore


@dataclass(frozen=True, slots=True)
class Stores:
    """How the stores of a durable world are used: with so little that states are loaded, and what is put settles."""

    warm_bytes: int = WARM_BYTES  # of states in a process's memory
    journal: int = Much().changes  # changes in a store's journal

    def words(self) -> str:
        return f"{self.warm_bytes} bytes of states in memory, {self.journal} changes in a journal"

    def fit(self, data: DataPlane) -> None:
        shelf_of(data).much = Much(changes=self.journal, at_once=min(self.journal, Much().at_once))


class ForgetfulStore:
    """What one process after the other puts into one directory."""

    def __init__(self, kept: MemoryStore | None = None) -> None:
        self.kept = kept or MemoryStore()  # durable
        self._shown = self.kept.copied()
        self._puts: list[tuple[list[Change], dict[int, bytes], list[int]]] = []  # not durable
        self._read: Shelf | None = None
        self.full = False
        self.states_read = 0

    def durable(self) -> Shelf:
        """As a process that starts would read it."""
        if self._read is None:
            self._read = Shelf(self.kept, 1)
        return self._read

    def put(self, changes: Iterable[Change], metas: Mapping[int, bytes], drop: Collection[int] = ()) -> None:
        if self.full:
            raise StoreFull("the disk is full")
        put = ([*changes], dict(metas), [*drop])
        self._puts.append(put)
        self._shown.put(*put)

    def begin(self) -> int:
        """How many puts the commit that begins now covers."""
        return len(self._puts)

    def commit(self, puts: int | None = None) -> None:
        count = len(self._puts) if puts is None else puts
        for put in self._puts[:count]:
            self.kept.put(*put)
            self._read = None
        del self._puts[:count]

    def crash(self, random: Random) -> ForgetfulStore:
        """What is left."""
        self.commit(random.randint(0, len(self._puts)))
        return ForgetfulStore(self.kept)

    def copied(self) -> ForgetfulStore:
        """What a copy of the directory has: what is durable."""
        return ForgetfulStore(self.kept.copied())

    def states(self, slot: int, stage: int) -> dict[Any, Any]:
        """Those of one slot that are durable."""
        after = (stage - 1, LAST) if stage else None
        found = itertools.takewhile(lambda each: each[0] == stage, self.durable().all_of(slot, after))
        return {unpacked_key(key): unpack(state) for _, key, state in found}

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        self.states_read += stage < STAGES_END
        return self._shown.get(slot, stage, key)

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        chunk = self._shown.scan(slot, after, at_most)
        self.states_read += sum(stage < STAGES_END for stage, _, _ in chunk.states) if slot < GIVEN else 0
        return chunk

    def metas(self) -> dict[int, bytes]:
        return self._shown.metas()

    def close(self) -> None:
        """Nothing is left to do."""


def shelf_of(data: DataPlane) -> Shelf:
    assert isinstance(data.handoff, Keeping)
    assert data.handoff._shelving is not None
    return data.handoff._shelving.shelf
