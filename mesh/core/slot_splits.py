"""How far the splits of a slot are read: one more part of a slot, so that whoever has the slot can read on.

Keys      slot, source, name of the split: bytes, so that a key says itself of which slot it is. A key without a name
          says that the source's splits of this slot are registered.
States    of a split  (offset, counters, ended, size, records)
          offset      what is before it has been read, and all records that came of it are over
          counters    per target (a stage, or behind the stages a sink): how many records that were; so what is read
                      from here gets the numbers that it had the first time
          ended       there is nothing behind it; it never becomes false
          records     values that the source gave before the offset
          of a registration the same, with the fingerprint of the listing in the place of the offset.
Events    `put` of new states; `drop` of a slot. As of a stage, but there is nothing to be filed: keys are few.

Invariants a slot's keys are in the order in which they came, and none goes alone: a list that is looked at a piece at a
          time grows only at its end. No name in UTF-8 has a byte 0xff, which stands for the name that is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from mesh.core.codec import MAX_INT, MAX_TEXT, Malformed

NO_NAME = b"\xff"
MOST_NUMBER = 1 << 62  # of a record or an output: nobody gets there by counting, and what is above it has no room


State: TypeAlias = tuple[int, tuple[int, ...], bool, int, int]  # a Place as a plain tuple
Change: TypeAlias = tuple[int, bytes, State]  # slot, key, state


class Place(NamedTuple):
    """A state: how far a split is read."""

    offset: int
    counters: tuple[int, ...] = ()
    ended: bool = False
    size: int = 0
    records: int = 0

    def state(self) -> State:
        """As it travels."""
        return self.offset, self.counters, self.ended, self.size, self.records


def registration_key(slot: int, source: int) -> bytes:
    """Of what says that the source's splits of this slot are registered."""
    return slot.to_bytes(2, "big") + source.to_bytes(2, "big")


def split_key(slot: int, source: int, name: str) -> bytes:
    return registration_key(slot, source) + (name.encode("utf-8", "surrogatepass") or NO_NAME)


def slot_of(key: bytes) -> int:
    return int.from_bytes(key[:2], "big")


def source_of(key: bytes) -> int:
    return int.from_bytes(key[2:4], "big")


def split_of(key: bytes) -> str | None:
    """The split's name; None: it is a registration."""
    name = key[4:]
    if not name:
        return None
    return "" if name == NO_NAME else name.decode("utf-8", "surrogatepass")


class SlotSplits:
    """What is known here of splits, of own slots and of copies. To whoever moves slots it is like one more stage."""

    name = "how far splits are read"

    def __init__(self) -> None:
        self.states: dict[bytes, State] = {}
        self._keys_of_slot: dict[int, list[bytes]] = {}

    def keys_of(self, slot: int) -> Sequence[bytes]:
        return self._keys_of_slot.get(slot, ())

    def put(self, keys: Sequence[bytes], states: Sequence[Any]) -> None:
        """New states; of keys of any slots."""
        for key, state in zip(keys, states, strict=True):
            if key not in self.states:
                self._keys_of_slot.setdefault(slot_of(key), []).append(key)
            self.states[key] = tuple(state)

    def drop(self, slot: int) -> None:
        for key in self._keys_of_slot.pop(slot, ()):
            del self.states[key]

    def registered(self, slot: int, source: int) -> int | None:
        """The fingerprint of the listing by which this slot's splits of the source are known; None: they are not."""
        state = self.states.get(registration_key(slot, source))
        return None if state is None else state[0]

    def splits(self, slot: int) -> Iterator[tuple[bytes, int, str, Place]]:
        """(key, source, name, place) of each split of a slot."""
        for key in self.keys_of(slot):
            name = split_of(key)
            if name is not None:
                yield key, source_of(key), name, Place(*self.states[key])

    def slots_here(self) -> Sequence[int]:
        """For whoever checks."""
        return [*self._keys_of_slot]


def check(keys: Sequence[Any], states: Sequence[Any], sources: int, targets: int, slots: int) -> list[int]:
    """The slot of each key, if these are keys and states of splits; raises Malformed."""
    if len(keys) != len(states):
        raise Malformed("pack", "a split without a state")
    for key, state in zip(keys, states, strict=True):
        if not _is_key(key, sources, slots) or not _is_state(state, targets if len(key) > 4 else 0):
            raise Malformed("pack", "not how far a split is read")
    return list(map(slot_of, keys))


def _is_key(key: Any, sources: int, slots: int) -> bool:
    if type(key) is not bytes or not 4 <= len(key) <= 4 + MAX_TEXT:
        return False
    try:
        split_of(key)
    except UnicodeDecodeError:
        return False
    return slot_of(key) < slots and source_of(key) < sources


def _is_state(state: Any, targets: int) -> bool:
    if type(state) not in (tuple, list) or len(state) != 5 or type(state[1]) is not tuple or type(state[2]) is not bool:
        return False
    numbers = (state[0], *state[1], *state[3:])
    good = all(type(each) is int and 0 <= each <= MAX_INT for each in numbers)
    return good and len(state[1]) == targets and max(state[1], default=0) <= MOST_NUMBER
