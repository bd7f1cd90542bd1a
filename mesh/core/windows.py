"""Which records of which producers have been applied: a retry through any node shall be applied once.

A producer that names itself numbers its lines; a record is known by (producer, seq of its line, place among the records
that the line became). What has been applied is remembered with the slot of the record's key, per stage and producer,
and moves with that slot; so whoever applies is who remembers, and nobody else need be asked.

States    of a record, per (slot, stage, producer): new -> known. Below `floor` nobody knows any more.
Events    `take` (asks and marks in one step), `claim` (a whole body at once, or nothing of it); `put` and `drop` of a
          slot that moves.
Claims    two lines under one number may have keys of different slots, of which neither would see that the other came
          first. So before a body is sent on, its numbers and digests are claimed in the slot of the producer's own
          name, at a stage that no application has: this finds mistakes. Where slots have copies it must be done: who is
          not known there begins at 0, and nobody leaps by more than WINDOW. So of a producer that was not heard of for
          long only new lines are taken, as of the others nobody may know any more; one that is forgotten is told so.
          With one copy in memory that slot may be gone with its node, and others go on: then nothing that is taken
          twice hangs on it.

Invariants a known record stays known while its slot is here, until WINDOW later ones are known or its window was the
          one that was used least recently when there were more than WINDOWS, or more than MARKS in them all. `floor`
          never falls. A window is 16 bytes a record, ids ascending. Of claims that are forgotten the last line stays,
          as their floor.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import ChainMap, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from mesh.core.codec import Malformed
from mesh.core.columns import little_endian

WINDOW = 1 << 19  # records of one producer, slot and stage: more than a body of 8 MiB has lines worth sending
MARKS = 1 << 22  # records in all windows of a node: 64 MB
WINDOWS = 1 << 17  # ~60 MB when all are nearly empty
REGISTERED = 1 << 17  # producers of which nothing is known any more but the last line
PART = 1 << 12  # records that travel at once when a slot moves: 64 KB

INDEX_BITS = 24  # records that one line may become
MOST_RECORDS = 1 << INDEX_BITS
MOST_SEQ = 1 << 40  # lines of one producer: a million a second for twelve days
MAX_PRODUCER = 200  # characters of a name

NEW, KNOWN, CONFLICT, TOO_OLD = "", "known", "conflict", "too-old"
UNKNOWN, TOO_FAR = "unknown-producer", "too-far"
REFUSALS = (CONFLICT, TOO_OLD, UNKNOWN, TOO_FAR)  # of claims
_Name: TypeAlias = tuple[int, int, str]  # slot, stage, producer


class _Window:
    """Columns of what is known; both are cut in front when they have grown a quarter too long."""

    __slots__ = ("digests", "floor", "ids")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.ids = array("Q")
        self.digests = array("Q")

    def judge(self, record: int, digest: int) -> str:
        ids = self.ids
        if not ids or record > ids[-1]:
            return NEW if record >= self.floor else TOO_OLD
        place = bisect_left(ids, record)
        if ids[place] == record:
            return KNOWN if self.digests[place] == digest else CONFLICT
        return NEW if record >= self.floor else TOO_OLD

    def mark(self, record: int, digest: int) -> int:
        """It is new. How many more records are remembered now; less than none when old ones are forgotten."""
        if not self.ids or record > self.ids[-1]:
            self.ids.append(record)
            self.digests.append(digest)
        else:
            place = bisect_left(self.ids, record)
            self.ids.insert(place, record)
            self.digests.insert(place, digest)
        surplus = len(self.ids) - WINDOW
        if 4 * surplus <= WINDOW:
            return 1
        self.floor = self.ids[surplus - 1] + 1
        del self.ids[:surplus]
        del self.digests[:surplus]
        return 1 - surplus


class Windows:
    """All that this node remembers. For a hand-off it is like one more stage, whose keys are parts of windows."""

    name = "what producers sent"

    def __init__(self, claims: int = -1) -> None:
        """`claims`: the stage of claims."""
        self._claims = claims
        self._windows: OrderedDict[_Name, _Window] = OrderedDict()  # the least recently used first
        self._registered: OrderedDict[_Name, _Window] = OrderedDict()  # of claims that were forgotten; likewise
        self._by_slot: dict[int, dict[_Name, None]] = {}
        self._sealed: dict[int, list[str]] = {}  # slots that are given away: parts of windows, none is forgotten
        self.marks = 0  # invariant: the records in all windows
        self.cut: dict[_Name, None] | None = None  # have lost something since somebody looked; None: nobody does

    def take(self, slot: int, stage: int, producer: str, record: int, digest: int) -> str:
        """What is known of a record that is about to be applied; if it is NEW, it is known from now on."""
        window = self._window((slot, stage, producer))
        verdict = window.judge(record, digest)
        if verdict == NEW:
            more = window.mark(record, digest)
            self.marks += more
            if more < 1 and self.cut is not None:
                self.cut[slot, stage, producer] = None
            if self.marks > MARKS:
                self._forget()
        return verdict

    def _mark(self, name: _Name, window: _Window, record: int, digest: int) -> None:
        more = window.mark(record, digest)
        self.marks += more
        if more < 1 and self.cut is not None:
            self.cut[name] = None

    def registered(self, slot: int, stage: int, producer: str, first: int) -> tuple[str, int]:
        """Whether a producer may go on with this line, as far as its claims tell; as `claim`."""
        window = self._found((slot, stage, producer))
        if window is None or not window.ids:
            return (UNKNOWN if first else NEW), first
        return (TOO_FAR if first > (window.ids[-1] >> INDEX_BITS) + WINDOW else NEW), first

    def claim(self, slot: int, stage: int, producer: str, first: int, digests: Sequence[int]) -> tuple[str, int]:
        """(verdict, seq) of the first line that cannot be claimed, and then none is; else all are."""
        window = self._window((slot, stage, producer))
        fresh: list[tuple[int, int]] = []
        for seq, digest in enumerate(digests, first):
            verdict = window.judge(seq << INDEX_BITS, digest)
            if verdict in (CONFLICT, TOO_OLD):
                return verdict, seq
            if verdict == NEW:
                fresh.append((seq << INDEX_BITS, digest))
        for record, digest in fresh:
            self._mark((slot, stage, producer), window, record, digest)
        self._forget()
        return NEW, 0

    def _window(self, name: _Name) -> _Window:
        self._sealed.pop(name[0], None)
        window = self._windows.get(name)
        if window is None:
            window = self._registered.pop(name) if name in self._registered else _Window()
            self._windows[name] = window
            self._by_slot.setdefault(name[0], {})[name] = None
            if len(self._windows) > WINDOWS:
                self._forget()
        self._windows.move_to_end(name)
        return window

    def _found(self, name: _Name) -> _Window | None:
        return self._windows.get(name) or self._registered.get(name)

    def _forget(self) -> None:
        """Whoever was not heard of for longest, but nothing of slots that are on their way."""
        while len(self._windows) > WINDOWS or self.marks > MARKS:
            oldest = self._oldest(self._windows)
            if oldest is None or len(self._windows) == 1:
                return
            if oldest[1] == self._claims:
                self._keep_last(oldest)
            else:
                self._remove(oldest)
        while len(self._registered) > REGISTERED and (oldest := self._oldest(self._registered)):
            self._remove(oldest)

    def _oldest(self, windows: Mapping[_Name, _Window]) -> _Name | None:
        return next((name for name in windows if name[0] not in self._sealed), None)

    def _keep_last(self, name: _Name) -> None:
        """Its producer stays registered; of what it sends again nobody may know any more whether it was applied."""
        window = self._registered[name] = self._windows.pop(name)
        forgotten = max(0, len(window.ids) - 1)
        window.floor = max([window.floor, *window.ids[-1:]])
        del window.ids[:forgotten], window.digests[:forgotten]
        self.marks -= forgotten
        if self.cut is not None and forgotten:
            self.cut[name] = None

    def _remove(self, name: _Name) -> None:
        window = self._windows.pop(name, None) or self._registered.pop(name)
        self.marks -= len(window.ids)
        if self.cut is not None:
            self.cut[name] = None
        names = self._by_slot[name[0]]
        del names[name]
        if not names:
            del self._by_slot[name[0]]

    # -- slots that move

    def keys_of(self, slot: int) -> Sequence[str]:
        """The parts of the slot's windows: `stage part producer`."""
        if slot not in self._by_slot:
            return ()
        if slot not in self._sealed:
            windows = [(name, self._found(name)) for name in self._by_slot[slot]]
            names = [(stage, producer, len(window.ids)) for (_, stage, producer), window in windows if window]
            self._sealed[slot] = [
                f"{slot} {stage} {part} {producer}"
                for stage, producer, count in names
                for part in range(max(1, -(-count // PART)))
            ]
        return self._sealed[slot]

    @property
    def states(self) -> Mapping[Any, Any]:
        return _Parts(ChainMap(self._windows, self._registered))

    def check(self, slot: int, keys: Sequence[Any], states: Sequence[Any]) -> None:
        """Are these parts of windows of a slot? Raises Malformed."""
        for key, state in zip(keys, states, strict=True):
            check_part(slot, key, state)

    def put(self, keys: Sequence[str], states: Sequence[Any]) -> None:
        """Parts of a slot that comes from another node, in the order of `keys_of`."""
        for key, (floor, ids, digests) in zip(keys, states, strict=True):
            slot, stage, _, producer = key.split(" ", 3)
            window = self._window((int(slot), int(stage), producer))
            window.floor = floor
            window.ids.extend(numbers_from_bytes(ids))
            window.digests.extend(numbers_from_bytes(digests))
            self.marks += len(ids) // 8
        self._forget()

    # -- slots of which there is a copy

    def names_of(self, slot: int) -> list[tuple[int, str]]:
        """(stage, producer) of each window of the slot."""
        return [(stage, producer) for _, stage, producer in self._by_slot.get(slot, ())]

    def part_above(self, slot: int, stage: int, producer: str, least: int) -> tuple[str, list[Any], int] | None:
        """The next part, of ids from `least` on, as it travels, and where the one behind it begins; None: no more."""
        window = self._found((slot, stage, producer))
        if window is None:
            return None
        start = bisect_left(window.ids, least)
        if start == len(window.ids):
            return None
        columns = (window.ids[start : start + PART], window.digests[start : start + PART])
        return f"{slot} {stage} 0 {producer}", [window.floor, *map(numbers_to_bytes, columns)], columns[0][-1] + 1

    def between(self, slot: int, stage: int, producer: str, first: int, behind: int) -> list[Any] | None:
        """What is known of these ids, as a part; None: nothing."""
        window = self._found((slot, stage, producer))
        if window is None:
            return None
        start, end = bisect_left(window.ids, first), bisect_left(window.ids, behind)
        columns = (window.ids[start:end], window.digests[start:end])
        return [window.floor, *map(numbers_to_bytes, columns)] if end > start else None

    def merge(self, keys: Sequence[str], states: Sequence[Any]) -> None:
        """Parts that come while records are taken: whatever is known of them is known already."""
        for key, (floor, ids, digests) in zip(keys, states, strict=True):
            slot, stage, _, producer = key.split(" ", 3)
            window = self._window((int(slot), int(stage), producer))
            window.floor = max(window.floor, floor)
            for record, digest in zip(numbers_from_bytes(ids), numbers_from_bytes(digests), strict=True):
                if window.judge(record, digest) == NEW:
                    self._mark((int(slot), int(stage), producer), window, record, digest)
        self._forget()

    def drop(self, slot: int) -> None:
        self._sealed.pop(slot, None)
        for name in list(self._by_slot.get(slot, ())):
            self._remove(name)

    def slots_here(self) -> Collection[int]:
        """For whoever checks."""
        return self._by_slot.keys()


def check_part(slot: int, key: Any, state: Any) -> None:
    """Is this a part of a window of a slot? Raises Malformed."""
    try:
        named, stage, part, _ = key.split(" ", 3)
        floor, ids, digests = state
        good = int(named) == slot and int(stage) >= 0 and int(part) >= 0 and type(floor) is int
        good = good and type(ids) is type(digests) is bytes and len(ids) == len(digests)
        good = good and 0 <= floor < 1 << 64 and len(ids) % 8 == 0 and len(ids) <= 8 * PART
        column = numbers_from_bytes(ids)
    except Exception:
        raise Malformed("chunk", "not a part of what producers sent") from None
    if not good or any(a >= b for a, b in pairwise(column)):
        raise Malformed("chunk", "not a part of what producers sent")


class _Parts(Mapping[Any, Any]):
    """A part of a window by its key, as it travels."""

    def __init__(self, windows: Mapping[_Name, _Window]) -> None:
        self._windows = windows

    def __getitem__(self, key: str) -> list[Any]:
        slot, stage, part, producer = key.split(" ", 3)
        window = self._windows[int(slot), int(stage), producer]
        start = int(part) * PART
        columns = (window.ids[start : start + PART], window.digests[start : start + PART])
        return [window.floor, *map(numbers_to_bytes, columns)]

    def __iter__(self) -> Any:
        raise NotImplementedError("parts are looked up, not listed")

    def __len__(self) -> int:
        return len(self._windows)


def numbers_to_bytes(numbers: Sequence[int]) -> bytes:
    """Unsigned, 64 bits each, little-endian."""
    return little_endian(array("Q", numbers)).tobytes()


def numbers_from_bytes(data: bytes) -> array[int]:
    """The inverse; raises ValueError if one is cut."""
    column = array("Q")
    column.frombytes(data)
    return little_endian(column)
