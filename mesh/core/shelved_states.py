"""The owner's states where there is a store: all of them are in it, and in memory are those that were used of late.

States    of a key here: cold (in the store alone) -> warm -> cooling -> cold, or warm again when it is used
Events    `apply` and `fetch` load what they need before they look; `weigh`, when a state was put; `turn`
Results   `absent`: which keys of the last `apply` the store did not have before

A batch's keys are loaded before its first record, so the loops find a plain dict. What cannot be loaded raises, and is
not a record's fault. Between batches, when what is warm weighs more than half of what it may, it begins to cool; what
is not used until that happens again is forgotten.

Invariant a state in memory is what the store has, or what the put that follows the batch will give it. What cannot be
          packed is in no store: it stays in memory.
Bounds    about `most_bytes` for all stages together, and one batch; sizes are as packed, so it is an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import filterfalse
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core import columns, values
from mesh.core.guard import Applied
from mesh.core.owner import Owner, SlotPart, StageStates
from mesh.core.set_aside import told
from mesh.core.shelf import Shelf
from mesh.core.storing import Cursor, StateUnreadable

SMALL = 128  # bytes, packed
SMALL_WEIGHT = 320  # key, state, their places in dicts
PAGE_BYTES = 128 << 10  # of a slot's keys and states, read at once: a few milliseconds


class Warm:
    """What the states of all stages weigh."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.bytes = 0  # of what is warm, not of what cools
        self.stages: list[ShelvedStates] = []

    def turn(self) -> None:
        """Before a batch."""
        if 2 * self.bytes > self._most:
            self.bytes = 0
            for stage in self.stages:
                stage.turn()


class ShelvedStates(StageStates):
    """All states of one stage on this node."""

    def __init__(self, plan: StagePlan, shift: int, seed: int, shelf: Shelf, warm: Warm) -> None:
        super().__init__(plan, shift, seed)
        self._shelf = shelf
        self._warm = warm
        self._large: dict[Any, int] = {}  # bytes of those that are not small
        self._cooling: dict[Any, Any] = {}
        self._large_cooling: dict[Any, int] = {}
        self._pinned: dict[Any, None] = {}  # cannot be packed
        self.absent: dict[Any, None] = {}
        warm.stages.append(self)

    def apply(self, keys: list[Any], items: list[Any], *, wants_outputs: bool = False) -> Applied:
        self._warm.turn()
        self.absent = self._load(keys)
        return super().apply(keys, items, wants_outputs=wants_outputs)

    def fetch(self, keys: list[Any]) -> None:
        self._warm.turn()
        self._load(keys)

    def _load(self, keys: list[Any]) -> dict[Any, None]:
        """Warm all these; which are nowhere."""
        states, cooling, cold = self.states, self._cooling, []
        for key in dict.fromkeys(filterfalse(states.__contains__, keys)):
            if key in cooling:
                states[key] = cooling.pop(key)
                self._entered(key, self._large_cooling.pop(key, 0))
            else:
                cold.append(key)
        return self._load_cold(cold)

    def _load_cold(self, keys: list[Any]) -> dict[Any, None]:
        absent: dict[Any, None] = {}
        slots, names = columns.slots_of(keys, self._seed, self._shift), packed_keys(keys)
        for key, slot, name in zip(keys, slots, names, strict=True):
            packed = self._shelf.get(slot, self.plan.index, name)
            if packed is None:
                absent[key] = None
                continue
            state = self.states[key] = self.unpacked(key, packed)
            self._guarded = self._guarded or not columns.is_plain(state)
            self._entered(key, len(packed))
        return absent

    def unpacked(self, key: Any, packed: bytes) -> Any:
        try:
            return values.unpack(packed)
        except Exception as error:
            why = told(error)[:300]
            raise StateUnreadable(
                f"the store has a state of stage {self.name}, key {values.show(key)}, that this version of the "
                f"application cannot read ({why}); start the version that wrote it"
            ) from None

    # -- what stays in memory

    def _entered(self, key: Any, size: int) -> None:
        self._warm.bytes += SMALL_WEIGHT
        if size > SMALL:
            self._large[key] = size
            self._warm.bytes += 2 * size

    def weigh(self, keys: Sequence[Any], packed: Sequence[bytes | None]) -> None:
        """The first of these have been put, and are like this now; those that could not be stay pinned."""
        absent, large = self.absent, self._large
        for key in absent:
            self._entered(key, 0)
        if not large and max(map(len, filter(None, packed)), default=0) <= SMALL:
            return
        for key, state in zip(keys, packed, strict=False):
            size = 0 if state is None else len(state)
            if size > SMALL or key in large:
                self._warm.bytes += 2 * (size - large.get(key, 0))
                large[key] = size

    def pin(self, key: Any) -> None:
        self._pinned[key] = None

    def turn(self) -> None:
        """What was cooling is cold."""
        pinned = {key: self.states.get(key, self._cooling.get(key)) for key in self._pinned}
        self._cooling, self._large_cooling = self.states, self._large
        self.states, self._large = pinned, {}
        self._filed_anew()

    def _filed_anew(self) -> None:
        self._keys_of_slot.clear()
        self._unfiled.clear()
        self._seen = 0

    def warm_keys(self) -> int:
        return len(self.states) + len(self._cooling)

    # -- slots

    def take_out(self, slot: int) -> dict[Any, Any]:
        """Nothing of it is in memory; the store has what it has."""
        self._cooling, self._large_cooling = {}, {}
        for key in super().take_out(slot):
            self._large.pop(key, None)
            self._pinned.pop(key, None)
        self.absent = {}
        return {}

    def page(self, slot: int, after: bytes | None) -> tuple[list[bytes], list[bytes], bytes | None]:
        """The next keys and states of a slot, packed, and after which key the next ones come; None: no more."""
        stage = self.plan.index
        cursor: Cursor | None = (stage, after) if after is not None else ((stage - 1, LAST) if stage else None)
        chunk = self._shelf.scan(slot, cursor, PAGE_BYTES)
        mine = [(key, state) for of_stage, key, state in chunk.states if of_stage == stage]
        ends = chunk.after is None or len(mine) < len(chunk.states)
        return [key for key, _ in mine], [state for _, state in mine], None if ends else mine[-1][0]


LAST = b"\xff"  # behind all keys of a stage


def packed_keys(keys: Sequence[Any]) -> list[bytes]:
    """How keys are called in the store."""
    if set(map(type, keys)) == {str}:
        return [b"s" + key.encode() for key in keys]
    return [_packed_key(key) for key in keys]


def _packed_key(key: Any) -> bytes:
    if type(key) is str:
        return b"s" + key.encode()
    return b"b" + key if type(key) is bytes else b"i%d" % key


def unpacked_key(name: bytes) -> Any:
    if name[:1] == b"s":
        return name[1:].decode()
    return name[1:] if name[:1] == b"b" else int(name[1:])


class ShelvedOwner(Owner):
    """All stages' states on this node."""

    def __init__(
        self,
        stages: Sequence[StagePlan],
        slots: int,
        seed: int,
        splits: SlotPart,
        shelf: Shelf,
        warm_bytes: int,
    ) -> None:
        self._shelf = shelf
        self._warm = Warm(warm_bytes)
        self.counted: Callable[[], int] = lambda: 0  # how many keys own slots have
        super().__init__(stages, slots, seed, splits)

    def _stage(self, plan: StagePlan, shift: int, seed: int) -> StageStates:
        return ShelvedStates(plan, shift, seed, self._shelf, self._warm)

    def shelved(self) -> Sequence[ShelvedStates]:
        return self._warm.stages

    def key_count(self) -> int:
        return self.counted()
