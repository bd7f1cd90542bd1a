"""How far each slot has taken each stream: what makes a record that is sent twice count once.

A record of a stream has a number; numbers of a stream rise on the way to any one slot, and a slot takes them in that
order. So one number per (stage, stream, slot), the last that was taken, says of every record whether it is known.

    stream                          its marks here
    a split of a source             an array over slots: few splits are read at a time, and an ended one goes
    what one slot of a stage gave   per slot that took, an array over the slots that gave: it moves with the slot

Events    `news_of_split`, `news_of_stage` (asks and marks a whole column), `raise_split`, `raise_stage` (a copy is
          told), `end_split`; `of_slot`, `put` and `drop` of a slot that moves.
Bounds    8 bytes per open split and slot, and per pair of slots of which one feeds the other and the taking one is on
          this node. Of a split that has ended its name is kept: all its records are known, whoever sends them again.
Invariant marks never fall while a slot is here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from typing import TypeAlias

SplitStream: TypeAlias = tuple[int, str]  # source, name of the split
NONE = -1


@dataclass(slots=True)
class SlotMarks:
    """All marks of one slot at one stage, by columns."""

    splits: list[tuple[SplitStream, int]] = field(default_factory=list)
    stages: list[tuple[int, list[int], list[int]]] = field(default_factory=list)  # stage, origins, numbers


class StageMarks:
    """Those of one stage."""

    def __init__(self, slots: int) -> None:
        self._none = array("q", [NONE]) * slots
        self._splits: dict[SplitStream, array[int]] = {}
        self._highest: dict[SplitStream, int] = {}  # of a split's marks here; never too low
        self._ended: dict[SplitStream, None] = {}
        self._stages: dict[int, dict[int, array[int]]] = {}  # stage -> slot here -> number by origin

    # -- whole columns

    def news_of_split(self, stream: SplitStream, slots: Sequence[int], numbers: Sequence[int]) -> list[bool] | None:
        """Which records are new, and they are known from now on; None: all of them."""
        if not numbers:
            return None
        if stream in self._ended:
            return [False] * len(numbers)
        marks = self._split(stream)
        news = None
        if not all(map(lt, numbers, islice(numbers, 1, None))):
            news = _one_by_one(marks, slots, numbers)  # rare: somebody sends again, or the reader went back
        elif numbers[0] <= self._highest[stream]:  # of slots that are here; some of them may be copies
            news = [marks[slot] < number for slot, number in zip(slots, numbers, strict=True)]
        for slot, number in dict(zip(slots, numbers, strict=True)).items():
            if marks[slot] < number:
                marks[slot] = number
        self._highest[stream] = max(self._highest[stream], max(numbers))
        return None if news is None or all(news) else news

    def news_of_stage(
        self, stage: int, origins: Sequence[int], slots: Sequence[int], numbers: Sequence[int]
    ) -> list[bool] | None:
        """Likewise of what slots of a stage gave out; of each pair of slots the numbers rise."""
        rows = self._rows(stage, slots)
        old = []
        for index, (origin, slot, number) in enumerate(zip(origins, slots, numbers, strict=True)):
            row = rows[slot]
            if row[origin] < number:
                row[origin] = number
            else:
                old.append(index)
        if not old:
            return None
        news = [True] * len(numbers)
        for index in old:
            news[index] = False
        return news

    # -- single marks

    def known(self, stream: SplitStream | tuple[int, int], slot: int, number: int) -> bool:
        """The stream is (source, split), or (stage, slot)."""
        first, second = stream
        if isinstance(second, str):
            if (first, second) in self._ended:
                return True
            marks = self._splits.get((first, second))
            return marks is not None and number <= marks[slot]
        row = self._stages.get(first, {}).get(slot)
        return row is not None and number <= row[second]

    def of_split(self, stream: SplitStream, slots: Sequence[int]) -> list[int]:
        """The marks of these slots: what a column that says some of them again must not lower in a store."""
        return list(map(self._split(stream).__getitem__, slots))

    def of_stage(self, stage: int, origins: Sequence[int], slots: Sequence[int]) -> list[int]:
        """Likewise, by pairs."""
        rows = self._rows(stage, slots)
        return [rows[slot][origin] for origin, slot in zip(origins, slots, strict=True)]

    def raise_split(self, stream: SplitStream, slots: Sequence[int], numbers: Sequence[int]) -> None:
        if stream in self._ended:
            return
        marks = self._split(stream)
        for slot, number in zip(slots, numbers, strict=True):
            if marks[slot] < number:
                marks[slot] = number
        self._highest[stream] = max(self._highest[stream], max(numbers, default=NONE))

    def raise_stage(self, stage: int, origins: Sequence[int], slots: Sequence[int], numbers: Sequence[int]) -> None:
        self.news_of_stage(stage, origins, slots, numbers)

    def end_split(self, stream: SplitStream) -> None:
        """That it has ended is committed: nobody has a record of it that was not taken."""
        self._ended[stream] = None
        self._splits.pop(stream, None)
        self._highest.pop(stream, None)

    def _split(self, stream: SplitStream) -> array[int]:
        marks = self._splits.get(stream)
        if marks is None:
            marks = self._splits[stream] = self._none[:]
            self._highest[stream] = NONE
        return marks

    def _rows(self, stage: int, slots: Sequence[int]) -> dict[int, array[int]]:
        rows = self._stages.setdefault(stage, {})
        for slot in dict.fromkeys(slots):
            if slot not in rows:
                rows[slot] = self._none[:]
        return rows

    # -- slots that move

    def of_slot(self, slot: int) -> SlotMarks:
        found = SlotMarks([(stream, marks[slot]) for stream, marks in self._splits.items() if marks[slot] != NONE])
        for stage, rows in self._stages.items():
            if slot in rows:
                origins = [origin for origin, number in enumerate(rows[slot]) if number != NONE]
                found.stages.append((stage, origins, [rows[slot][origin] for origin in origins]))
        return found

    def put(self, slot: int, marks: SlotMarks) -> None:
        for stream, number in marks.splits:
            self.raise_split(stream, [slot], [number])
        for stage, origins, numbers in marks.stages:
            self.raise_stage(stage, origins, [slot] * len(origins), numbers)

    def drop(self, slot: int) -> None:
        for marks in self._splits.values():
            marks[slot] = NONE
        for rows in self._stages.values():
            rows.pop(slot, None)

    # -- for whoever asks

    def ended(self) -> Iterator[SplitStream]:
        return iter(self._ended)

    def size(self) -> int:
        """Bytes of all arrays."""
        arrays = len(self._splits) + sum(map(len, self._stages.values()))
        return arrays * len(self._none) * self._none.itemsize


def _one_by_one(marks: array[int], slots: Sequence[int], numbers: Sequence[int]) -> list[bool]:
    """Also a record that is in the column twice is new once: its reader may have begun again."""
    news = []
    for slot, number in zip(slots, numbers, strict=True):
        news.append(marks[slot] < number)
        if marks[slot] < number:
            marks[slot] = number
    return news


class Marks:
    """Those of all stages on this node, of slots that it owns or has a copy of."""

    def __init__(self, stages: int, slots: int) -> None:
        self.stages = tuple(StageMarks(slots) for _ in range(stages))

    def end_split(self, stream: SplitStream) -> None:
        for stage in self.stages:
            stage.end_split(stream)

    def drop(self, slot: int) -> None:
        for stage in self.stages:
            stage.drop(slot)
