"""Records on their way, by columns: those that wait, and those that a batch took along until it is answered.

A batch that went over a link is kept as the bytes that the link keeps, too. Where records are numbered some may be
taken back from it: its owner may answer it all the same, late, and what it says of these counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.core import columns
from mesh.core.codec import decode_with_values
from mesh.core.messages.work import Batch, NumberedRun
from mesh.core.numbers import Numbers


@dataclass(slots=True)
class Records:
    """Columns; `values is keys` when every value is its own key."""

    epoch: int  # in which all of them were put
    keys: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    numbers: Numbers | None = None  # one a record, where records are numbered

    def __len__(self) -> int:
        return len(self.slots)

    def cut(self, most: int) -> list[Records]:
        """In parts of at most so many records, in order."""
        if len(self) <= most:
            return [self]
        return [self._part(start, start + most) for start in range(0, len(self), most)]

    def _part(self, start: int, end: int) -> Records:
        keys = self.keys[start:end]
        values = keys if self.values is self.keys else self.values[start:end]
        numbers = None if self.numbers is None else self.numbers.part(start, end)
        return Records(self.epoch, keys, values, self.slots[start:end], numbers)

    def by_slot(self, wanted: Mapping[int, int]) -> tuple[dict[int, Records], Records]:
        """Those of each wanted slot, from a given index on, and the rest."""
        found, rest = self._indexes(wanted)
        return {slot: self._chosen(each) for slot, each in found.items()}, self._chosen(rest)

    def of_slots(self, wanted: Mapping[int, int]) -> dict[int, Records]:
        """Likewise, without the rest."""
        return {slot: self._chosen(each) for slot, each in self._indexes(wanted)[0].items()}

    def _indexes(self, wanted: Mapping[int, int]) -> tuple[dict[int, list[int]], list[int]]:
        found: dict[int, list[int]] = {}
        rest: list[int] = []
        for index, slot in enumerate(self.slots):
            start = wanted.get(slot)
            (rest if start is None or index < start else found.setdefault(slot, [])).append(index)
        return found, rest

    def _chosen(self, indexes: list[int]) -> Records:
        keys = [self.keys[index] for index in indexes]
        values = keys if self.values is self.keys else [self.values[index] for index in indexes]
        numbers = None if self.numbers is None else self.numbers.chosen(indexes)
        return Records(self.epoch, keys, values, [self.slots[index] for index in indexes], numbers)

    def extend(self, more: Records) -> None:
        """More of the same epoch."""
        if not self.keys:
            self.values = self.keys if more.values is more.keys else []
        elif self.values is self.keys and more.values is not more.keys:
            self.values = self.keys.copy()
        if more.numbers is not None:
            self.numbers = self.numbers or Numbers()
            self.numbers.extend(more.numbers)
        if self.values is not self.keys:
            self.values += more.values
        self.keys += more.keys
        self.slots += more.slots


@dataclass(slots=True)
class Sent:
    """A batch on its way. What went over a link is kept as the bytes that the link keeps too."""

    number: int
    size: int  # bytes of the window; 0 for this node's own
    epoch: int  # in which its records were put
    payload: bytes
    records: Records | None  # of this node's own
    slot_bytes: bytes
    count: int  # of records; less than there are if some were taken back
    runs: tuple[NumberedRun, ...] = ()  # of what went over a link
    taken: dict[int, None] = field(default_factory=dict)  # slots whose records were taken back

    def slots(self) -> Iterable[int]:
        return columns.slots_from_bytes(self.slot_bytes) if self.records is None else self.records.slots

    def all_records(self) -> Records:
        if self.records is not None:
            return self.records
        batch = decode_with_values(self.payload)
        assert isinstance(batch, Batch)
        values = batch.keys if batch.values is None else batch.values
        numbers = Numbers.from_runs(batch.runs) if batch.runs else None
        return Records(self.epoch, batch.keys, values, list(columns.slots_from_bytes(batch.slots)), numbers)

    def numbers_but(self, refused: Mapping[int, int]) -> Numbers:
        """Of the records that were neither taken back nor refused, which are those of a slot from an index on."""
        numbers = Numbers.from_runs(self.runs) if self.records is None else self.records.numbers
        assert numbers is not None
        if not refused and not self.taken:
            return numbers
        taken, never = self.taken, len(numbers)
        left = [slot not in taken and at < refused.get(slot, never) for at, slot in enumerate(self.slots())]
        return numbers.only(left)

    def take_back(self, slots: Mapping[int, int]) -> dict[int, Records]:
        """All that it has of these slots. What it was stays known, since its owner may still answer for it."""
        found = self.all_records().of_slots(slots)
        self.taken |= dict.fromkeys(found)
        self.count -= sum(map(len, found.values()))
        if not self.count:
            self.payload, self.records, self.slot_bytes, self.runs = b"", None, b"", ()
        return found
