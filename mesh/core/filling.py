"""A slot as its owner has it, piece by piece: what a joining copy is filled with while records go on being applied.

Pieces and later packs are in one lane, so whatever a piece has is as it was after all packs before it: a key that
changes later comes again. Marks and outputs come at once, at the beginning; states follow a few at a time.

Invariant when the last piece has been given, the pieces and the packs in between are all that the slot is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.core.marks import Marks, SplitStream
from mesh.core.messages import NodeId
from mesh.core.owner import Owner
from mesh.core.packs import Pack
from mesh.core.shelved_states import ShelvedStates, unpacked_key

CHUNK_BYTES = 32 << 10  # about ten milliseconds of packing where states are small
FIRST_KEYS = 256  # of a piece, before anything is known of the states' sizes


@dataclass(slots=True)
class Fill:
    """One copy that is being made. `ended`: the number of the mark behind its last piece; 0: not yet."""

    slot: int
    term: int
    joiner: NodeId
    begun: bool = False
    ended: int = 0
    stage: int = 0
    key: int = 0  # the next one of that stage
    at_once: int = FIRST_KEYS
    keys: Sequence[Any] | None = None  # of the stage, as they were looked at last
    after: bytes | None = None  # where there is a store: the last key that was read
    least: int = 0  # what a producer sent: the next record of the window that is being sent


class Snapshot(Protocol):
    """What filling needs to know of the owner."""

    def ready(self) -> bool: ...  # may take several calls, of a few milliseconds each

    def marks(self, slots: Sequence[int]) -> list[Pack]: ...  # one a stage

    def piece(self, fill: Fill) -> Pack | None: ...  # None: there are no more


class Pieces:
    """Those that travel together: of many slots, if there is little of each."""

    def __init__(self, most: int, stages: int) -> None:
        """So many keys; stages are followed by what producers sent, of which one key is much."""
        self.packs: dict[int, Pack] = {}  # by stage
        self._stages = stages
        self.clear(most)

    def clear(self, most: int) -> None:
        self.packs.clear()
        self._most = most
        self._keys = 0
        self._has_windows = False

    def is_full(self) -> bool:
        return self._has_windows or self._keys >= self._most

    def add_next(self, snapshot: Snapshot, fill: Fill) -> bool:
        """The next piece of this slot; False: there are no more."""
        fill.at_once = self._most - self._keys
        piece = snapshot.piece(fill)
        if piece is None:
            return False
        self._keys += len(piece.keys)
        self._has_windows = piece.stage == self._stages
        pack = self.packs.setdefault(piece.stage, piece)
        if pack is not piece:
            pack.slots += piece.slots
            pack.keys += piece.keys
            pack.states += piece.states
        return True

    def measured(self, size: int) -> int:
        """These made so many bytes: how many keys shall go together next."""
        if self._has_windows:
            return self._most
        return max(1, min(2 * self._keys + FIRST_KEYS, CHUNK_BYTES * self._keys // size))


class OwnerSnapshot:
    """The owner's states and marks."""

    def __init__(self, me: NodeId, owner: Owner, marks: Marks, next_outputs: Sequence[int]) -> None:
        self._me = me
        self._owner = owner
        self._marks = marks
        self._next_outputs = next_outputs

    def ready(self) -> bool:
        return self._owner.file_some()

    def marks(self, slots: Sequence[int]) -> list[Pack]:
        packs = []
        for stage, marks in enumerate(self._marks.stages):
            pack = Pack(self._me, 0, stage, next_output=self._next_outputs[stage])
            splits: dict[SplitStream, tuple[list[int], list[int]]] = {}
            for slot in slots:
                found = marks.of_slot(slot)
                for stream, number in found.splits:
                    took, numbers = splits.setdefault(stream, ([], []))
                    took.append(slot)
                    numbers.append(number)
                pack.stages += [(producer, o, [slot] * len(o), given) for producer, o, given in found.stages]
            pack.splits = [(stream, *columns) for stream, columns in splits.items()]
            packs.append(pack)
        return packs

    def piece(self, fill: Fill) -> Pack | None:
        stages = len(self._owner.stages)
        while fill.stage < len(self._owner.parts):
            of_stage = self._of_windows if fill.stage == stages else self._of_states
            keys, states = of_stage(fill)
            if keys:
                return Pack(self._me, 0, fill.stage, [fill.slot] * len(keys), keys, states)
            if fill.keys is None or fill.key >= len(fill.keys):
                fill.stage, fill.key, fill.keys = fill.stage + 1, 0, None
        return None

    def _of_states(self, fill: Fill) -> tuple[list[Any], list[Any]]:
        part = self._owner.parts[fill.stage]
        if isinstance(part, ShelvedStates):
            return self._of_store(fill, part)
        keys = part.keys_of(fill.slot)
        if keys is not fill.keys:  # the first look, or all were filed anew
            fill.keys, fill.key = keys, 0
        chosen = [key for key in keys[fill.key : fill.key + fill.at_once] if key in part.states]
        fill.key += fill.at_once
        return chosen, [part.states[key] for key in chosen]

    def _of_store(self, fill: Fill, part: ShelvedStates) -> tuple[list[Any], list[Any]]:
        if fill.keys is not None and fill.after is None:
            return [], []  # that was the last page
        names, packed, fill.after = part.page(fill.slot, fill.after)
        fill.keys, fill.key = (), 0 if fill.after is None else -1  # -1: there are more
        keys = [*map(unpacked_key, names)]
        return keys, [part.unpacked(key, state) for key, state in zip(keys, packed, strict=True)]

    def _of_windows(self, fill: Fill) -> tuple[list[Any], list[Any]]:
        """Records that are taken later come in packs, so that ids only need to be gone through once, ascending."""
        windows = self._owner.windows
        if fill.keys is None:
            fill.keys, fill.key, fill.least = windows.names_of(fill.slot), 0, 0
        while fill.key < len(fill.keys):
            stage, producer = fill.keys[fill.key]
            found = windows.part_above(fill.slot, stage, producer, fill.least)
            if found is not None:
                key, state, fill.least = found
                return [key], [state]
            fill.key, fill.least = fill.key + 1, 0
        return [], []
