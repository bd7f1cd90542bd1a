"""What a store promises, in memory or on the disk: packs that are whole, durable when committed, and read by slot.

    put     one pack: the changed keys of several slots, each slot's meta (its position and marks), the slots that go.
            Whole or not at all, also after a crash in the middle. Reads show it at once; it survives only a commit
    commit  everything put before it is durable when it returns. Many packs may share one: that is the group commit
    scan    a slot's states by (stage, key), in chunks; what is put between two chunks may or may not be seen
    metas   all slots' metas; costs as much as there are slots, never as much as there are keys

Packs become durable in the order in which they were put: if a crash leaves one, it leaves all before it.

A slot's number may be any below 2**32, so a copy can be filled beside the live one under a number that is free: its
meta says of which slot it is, and one put that sets that meta and drops the other number swaps it in.

Errors say what is known. TryAgain: nothing of this pack is written, and the same call may be made again, before any
other pack. StoreDamaged: what is on the disk is not what was written, and nothing of it is given back. StoreFailed:
what is on the disk is not known (an fsync failed), the process must end, and every later call says so again.

One thread calls; only commit may be called from a second one, and then covers what was put before it was called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

Change = tuple[int, int, bytes, bytes | None]  # slot, stage, key, its state from now on; None: the key has none
Cursor = tuple[int, bytes]  # stage and key of the last state that was read

MAX_SLOT = (1 << 32) - 1
MAX_STAGE = (1 << 16) - 1
CHUNK = 1 << 20  # bytes of keys and states that a scan gives at a time, and one state more


class StoreError(Exception):
    """A store could not do what was asked: one sentence for the operator."""


class TryAgain(StoreError):
    """Nothing of it is written; the same again may succeed later."""


class StoreFull(TryAgain):
    """The disk has no room. Once it has, the store goes on by itself, some seconds later."""


class StoreBehind(TryAgain):
    """More was written than the upkeep could sort away; it catches up in milliseconds."""


class StoreFailed(StoreError):
    """What is on the disk is not known any more: the process must end."""


class StoreDamaged(StoreError):
    """What was read is not what was written. What is not known of slot, stage and key is None."""

    def __init__(self, why: str, slot: int | None = None, stage: int | None = None, key: bytes | None = None) -> None:
        self.why, self.slot, self.stage, self.key = why, slot, stage, key
        super().__init__(f"the store is damaged{self._place()}: {why}")

    def _place(self) -> str:
        if self.slot is None:
            return ""
        if self.stage is None or self.key is None:
            return f" at slot {self.slot}"
        shown = repr(self.key if len(self.key) <= 80 else self.key[:80] + b"...")
        return f" at slot {self.slot}, stage {self.stage}, key {shown}"


class StateUnreadable(StoreError):
    """What the store has is whole, and no value of this application."""


@dataclass(frozen=True)
class Chunk:
    """Part of a slot: (stage, key, state) in order, and where the next chunk begins; None: this was the last."""

    states: list[tuple[int, bytes, bytes]]
    after: Cursor | None


class Store(Protocol):
    def put(self, changes: Iterable[Change], metas: Mapping[int, bytes], drop: Collection[int] = ()) -> None:
        """One pack: first the dropped slots lose states and meta, then the changes hold; a later change wins."""

    def commit(self) -> None:
        """Everything that was put is durable when it returns."""

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        """The key's state, or None if it has none."""

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        """The next states of a slot, about at_most bytes of them, at least one if there is one."""

    def metas(self) -> dict[int, bytes]:
        """Every slot that has a meta."""

    def close(self) -> None:
        """Commits nothing: what was not committed may be there or not. Any later call is a mistake."""
