"""What a node has put of late: each put is one record of a journal in its store, and in memory what they come to.

    Draft     one put: first these slots are dropped, then these columns and metas hold. As bytes it is a record
    Recent    the last value of all that some records say, by slot: it is looked at before the store is
    Settling  a Recent that is being sorted in: put where it belongs, each value once

A hot key changes with every pack. In the journal that is a few bytes in a row; the database sees it when the records
are sorted in (`Shelf`), some dozen packs later, once. A start takes in the records that are left, in their order.

Invariant records say what holds, never by how much it changes: taken twice they come to the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, TypeAlias

from mesh.core import values
from mesh.core.storing import Change, Cursor

_Slots: TypeAlias = defaultdict[int, dict[bytes, bytes | None]]
_NOTHING: dict[bytes, bytes | None] = {}

Column: TypeAlias = list[Any]  # stage, slots, names (or one for all), states; of these None: the key has none any more

META = -1  # in the place of a stage, in front of all


@dataclass(slots=True)
class Put:
    """As a store takes it: the drops come first."""

    changes: list[Change]
    metas: dict[int, bytes] = field(default_factory=dict)
    drop: list[int] = field(default_factory=list)
    number: int = 0


@dataclass(slots=True)
class Draft:
    """The last change of a place counts."""

    drop: dict[int, None] = field(default_factory=dict)
    metas: dict[int, bytes] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)

    def add(
        self, stage: int, slots: Sequence[int], names: Sequence[bytes] | bytes, states: Sequence[bytes | None]
    ) -> None:
        if slots:
            self.columns.append([stage, slots, names, states])

    def touches(self, slot: int) -> bool:
        return slot in self.metas or any(slot in column[1] for column in self.columns)

    def empty(self) -> bool:
        return not (self.drop or self.metas or self.columns)

    def count(self) -> int:
        """Of changes."""
        return len(self.metas) + sum(len(column[1]) for column in self.columns)

    def to_bytes(self) -> bytes:
        return values.pack([[*self.drop], self.metas, self.columns])

    @classmethod
    def from_bytes(cls, record: bytes) -> Draft:
        drop, metas, columns = values.unpack(record)
        return cls(dict.fromkeys(drop), metas, columns)


class Recent:
    """What the store has of other places, and of slots that are not dropped here, holds as well."""

    def __init__(self) -> None:
        self.drop: dict[int, None] = {}
        self.metas: dict[int, bytes] = {}
        self._stages: dict[int, _Slots] = {}
        self.changes = 0  # that were taken
        self.bytes = 0  # of their records

    def take(self, draft: Draft, size: int) -> None:
        """It follows all that was taken before."""
        for slot in draft.drop:
            self.drop[slot] = None
            self.metas.pop(slot, None)
            for places in self._stages.values():
                places.pop(slot, None)
        self.metas.update(draft.metas)
        for stage, slots, names, states in draft.columns:
            places = self._stages.setdefault(stage, defaultdict(dict))
            each: Iterable[bytes] = repeat(names) if isinstance(names, bytes) else names
            for slot, name, value in zip(slots, each, states, strict=False):
                places[slot][name] = value
        self.changes += draft.count()
        self.bytes += size

    def has(self, slot: int, stage: int, name: bytes) -> bool:
        """Does it say what the value is?"""
        places = self._stages.get(stage)
        return places is not None and slot in places and name in places[slot]

    def value(self, slot: int, stage: int, name: bytes) -> bytes | None:
        return self._stages[stage][slot][name]

    def of(self, slot: int) -> dict[Cursor, bytes | None]:
        here = {stage: places[slot] for stage, places in self._stages.items() if slot in places}
        return {(stage, name): value for stage, found in here.items() for name, value in found.items()}

    def in_order(self) -> Iterator[Change]:
        """All of it but the drops."""
        stages = sorted(self._stages)
        for slot in sorted(dict.fromkeys(chain(self.metas, *self._stages.values()))):
            if slot in self.metas:
                yield slot, META, b"", self.metas[slot]
            for stage in stages:
                for name, value in sorted(self._stages[stage].get(slot, _NOTHING).items()):
                    yield slot, stage, name, value


class Settling:
    """What nobody adds to any more, on its way to where it is sorted; until all of it is there it is read here."""

    def __init__(self, recent: Recent, last: int) -> None:
        self.recent = recent
        self.last = last  # of its records
        self._drop = [*recent.drop]
        self._changes = recent.in_order()

    def next(self, least: int, least_bytes: int, most: int, most_bytes: int) -> Put | None:
        """So much of it: at least so much in both measures, and then at most so much in either; None: that was all."""
        changes: list[Change] = []
        metas: dict[int, bytes] = {}
        size = 0
        for slot, stage, name, value in self._changes:
            if stage != META:
                changes.append((slot, stage, name, value))
            elif value is not None:
                metas[slot] = value
            size += len(name) + len(value or b"")
            count = len(changes) + len(metas)
            if count >= least and size >= least_bytes and (count >= most or size >= most_bytes):
                break
        drop, self._drop = self._drop, []
        return Put(changes, metas, drop) if changes or metas or drop else None
