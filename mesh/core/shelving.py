"""What packs, marks, windows, splits and outputs are in a node's store, and how they come back when it starts again.

    a slot     (stage, key) -> state; SPLITS, key -> how far; WINDOWS, stage chunk producer -> ids, digests;
               MARKS, stage stream -> number. Its meta: is it being filled, and how many keys has it
    the node   GIVEN and KEPT, maker pack -> outputs that are not over, of own slots and of copies; NODE: by which
               numbers stages go on, which processes had this store

States    of a slot in the store: filling -> whole -> dropped
Events    `keep` of each pack, own or another's; `filling`, `filled`, `drop`; then `flush`
Start     `begin`: what is whole is a copy again (`Replicas`). No state is read. What was being filled is dropped

A pack is one put, with all that has changed beside it, so that states, marks and outputs agree after any crash. Keys
are counted as they come by who owns them; those of a slot that was another's a part at a time (`count_some`).

Invariant each slot that has anything in the store has a meta.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from mesh.app.plan import Plan
from mesh.core import values
from mesh.core.columns import slots_from_bytes, slots_to_bytes
from mesh.core.kept_outputs import KeptOutputs
from mesh.core.marks import Marks
from mesh.core.messages import NodeId
from mesh.core.owner import SlotPart
from mesh.core.packs import Outputs, Pack
from mesh.core.shelf import GIVEN, KEPT, MARKS, NODE, SPLITS, STAGES_END, WINDOWS, Shelf
from mesh.core.shelved_states import ShelvedOwner, ShelvedStates, packed_keys
from mesh.core.storing import Cursor
from mesh.core.values import NotSerializable
from mesh.core.windows import INDEX_BITS, Windows, numbers_from_bytes, numbers_to_bytes

CHUNK_BITS = INDEX_BITS + 6  # ids of 64 lines of a producer are one record
MOST_FORMER = 256  # processes that had this store, and were in no table that this one knows
COUNTED_AT_ONCE = 128 << 10  # bytes: a few milliseconds


@dataclass(slots=True)
class Meta:
    """Of a slot."""

    filling: bool = False
    keys: int | None = 0  # None: not counted

    def to_bytes(self) -> bytes:
        return values.pack([self.filling, self.keys])


class Shelving:
    """Of one node."""

    def __init__(self, shelf: Shelf, states: Sequence[ShelvedStates], windows: Windows) -> None:
        self._marks = Marks(0, 0)  # `begin` says whose
        self.shelf = shelf
        self._states = states  # by stage
        self._stages = stages = len(states)
        self._windows = windows
        windows.cut = {}
        self.metas: dict[int, Meta] = {}
        self._recounted: dict[int, None] = {}  # slots whose number of keys is another than put
        self._kinds: tuple[tuple[int, KeptOutputs], ...] = ()
        self._next_output = [0] * stages  # as put
        self.own: Collection[int] = ()  # slots, of which the keys are counted
        self._counting: tuple[int, Cursor | None, int] | None = None  # slot, up to where, how many
        self.left_out: list[tuple[Pack, NotSerializable]] = []
        self.former: list[NodeId] = []

    def watch(self, given: KeptOutputs, kept: KeptOutputs) -> None:
        """Outputs of own slots, and of copies."""
        given.changed, kept.changed = {}, {}
        self._kinds = ((GIVEN, given), (KEPT, kept))

    # -- out

    def keep(self, pack: Pack, *, own: bool) -> None:
        """It has been applied, or told, here."""
        for slot in sorted(pack.touched()):
            meta = self.metas.get(slot)
            if meta is None or (not own and meta.keys is not None):
                self._set_meta(slot, Meta(meta is not None and meta.filling, 0 if own else None))
        if pack.stage < self._stages:
            if own:
                self._keep_own(pack)
            else:
                self._keep_others(pack)
            self._keep_marks(pack)
        elif pack.stage == self._stages + 1:
            for slot, key, state in zip(pack.slots, pack.keys, pack.states, strict=True):
                self.shelf.change(slot, SPLITS, key, values.pack(tuple(state)))
        self._keep_windows(pack)

    def _keep_own(self, pack: Pack) -> None:
        stage, states = pack.stage, self._states[pack.stage]
        absent = states.absent
        names = packed_keys(pack.keys)
        packed = self._packed_states(pack)
        gone = [None] * (len(pack.keys) - len(packed))
        if None in packed:
            kept = [value is not None for value in packed] + [True] * len(gone)
            slots, known = list(compress(pack.slots, kept)), list(compress(names, kept))
            self.shelf.changes(stage, slots, known, list(compress([*packed, *gone], kept)))
        else:
            self.shelf.changes(stage, pack.slots, names, [*packed, *gone])
        states.weigh(pack.keys, packed)
        first = len(packed)
        for slot, key, name in zip(pack.slots[first:], pack.keys[first:], names[first:], strict=True):
            if key not in absent:
                self._counted(slot, stage, name, -1)
        if absent:
            for slot, key, name, value in zip(pack.slots, pack.keys, names, packed, strict=False):
                if key in absent and value is not None:
                    self._counted(slot, stage, name, 1)
        states.absent = {}

    def _packed_states(self, pack: Pack) -> Sequence[bytes | None]:
        """None for what cannot be packed: it stays in memory."""
        try:
            return values.pack_all(pack.states)
        except NotSerializable:
            return [self._packed_or_pinned(pack, place) for place in range(len(pack.states))]

    def _packed_or_pinned(self, pack: Pack, place: int) -> bytes | None:
        slot, key, state = pack.slots[place], pack.keys[place], pack.states[place]
        try:
            return values.pack(state)
        except NotSerializable as error:
            self._states[pack.stage].pin(key)
            alone = Pack(pack.maker, pack.pack, pack.stage, [slot], [key], [state])
            self.left_out.append((alone, error.with_traceback(None)))
            return None

    def _keep_others(self, pack: Pack) -> None:
        packed: list[bytes | None] = [*values.pack_all(pack.states)]
        packed += [None] * (len(pack.keys) - len(packed))
        self.shelf.changes(pack.stage, pack.slots, packed_keys(pack.keys), packed)

    def _keep_marks(self, pack: Pack) -> None:
        """As they are: of a record that was known a pack has its own number again, which may be lower."""
        head, marks = pack.stage.to_bytes(2, "big"), self._marks.stages[pack.stage]
        for (source, split), slots, _ in pack.splits:
            name = head + b"\0" + source.to_bytes(2, "big") + split.encode("utf-8", "surrogatepass")
            self.shelf.changes(MARKS, slots, name, _eights(marks.of_split((source, split), slots)))
        for producer, origins, slots, _ in pack.stages:
            name = head + b"\1" + producer.to_bytes(2, "big")
            names = {origin: name + origin.to_bytes(2, "big") for origin in dict.fromkeys(origins)}
            numbers = _eights(marks.of_stage(producer, origins, slots))
            self.shelf.changes(MARKS, slots, [names[origin] for origin in origins], numbers)

    def _keep_windows(self, pack: Pack) -> None:
        """The chunks of ids in which something is new, as they are now."""
        chunks: dict[tuple[int, int, str, int], None] = {}
        for each in pack.windows:
            for slot, record in zip(each.slots, each.ids, strict=True):
                chunks[slot, each.stage, each.producer, record >> CHUNK_BITS] = None
        if pack.stage == self._stages:
            for slot, key, (_, ids, _) in zip(pack.slots, pack.keys, pack.states, strict=True):
                _, stage, _, producer = key.split(" ", 3)
                for record in numbers_from_bytes(ids):
                    chunks[slot, int(stage), producer, record >> CHUNK_BITS] = None
        for slot, stage, producer, chunk in chunks:
            found = self._windows.between(slot, stage, producer, chunk << CHUNK_BITS, (chunk + 1) << CHUNK_BITS)
            value = None if found is None else values.pack(found)
            self.shelf.change(slot, WINDOWS, _chunk_key(stage, producer, chunk), value)
        for slot, stage, producer in self._windows.cut or ():
            self._cut(slot, stage, producer)
        self._windows.cut = {}

    def _cut(self, slot: int, stage: int, producer: str) -> None:
        """It has forgotten some: rare, so that what is stored may be looked at."""
        head = _chunk_key(stage, producer, 0)[:-8]
        for _, key, _ in self.shelf.all_of(slot, (WINDOWS, head)):
            if key[:-8] != head:
                break
            chunk = int.from_bytes(key[-8:], "big")
            if self._windows.between(slot, stage, producer, chunk << CHUNK_BITS, (chunk + 1) << CHUNK_BITS) is None:
                self.shelf.change(slot, WINDOWS, key, None)

    def next_output(self, numbers: Sequence[int]) -> None:
        """By which numbers the stages go on."""
        for stage, number in enumerate(numbers):
            if number > self._next_output[stage]:
                self._next_output[stage] = number
                self.shelf.change(NODE, stage, b"next output", number.to_bytes(8, "big"))

    def flush(self) -> int:
        """All that is known by now is put; the number of that."""
        for place, outputs in self._kinds:
            assert outputs.changed is not None
            for name in outputs.changed:
                self._keep_outputs(place, name, outputs.packs.get(name))
            outputs.changed.clear()
        for slot in self._recounted:
            if slot in self.metas:
                self._set_meta(slot, self.metas[slot])
        self._recounted.clear()
        return self.shelf.flush()

    def _keep_outputs(self, place: int, name: tuple[NodeId, int], kept: list[tuple[int, Outputs]] | None) -> None:
        maker, pack = name
        value = None if kept is None else _packed([_outputs(stage, out) for stage, out in kept])
        self.shelf.change(place, 0, maker + pack.to_bytes(8, "big"), value)

    # -- slots

    def _set_meta(self, slot: int, meta: Meta) -> None:
        self.metas[slot] = meta
        self.shelf.meta(slot, meta.to_bytes())

    def filling(self, slot: int) -> None:
        self._set_meta(slot, Meta(True, None))

    def filled(self, slot: int) -> None:
        self._set_meta(slot, Meta(False, None))

    def drop(self, slot: int) -> None:
        if self.metas.pop(slot, None) is not None:
            self.shelf.drop(slot)
        if self._counting is not None and self._counting[0] == slot:
            self._counting = None

    # -- how many keys

    def _counted(self, slot: int, stage: int, name: bytes, more: int) -> None:
        meta = self.metas[slot]
        if meta.keys is not None:
            meta.keys += more
            self._recounted[slot] = None
        elif self._counting is not None and self._counting[0] == slot:
            _, reached, keys = self._counting
            if reached is not None and (stage, name) <= reached:  # else it is seen later
                self._counting = (slot, reached, keys + more)

    def may_count(self) -> bool:
        return not self.shelf.stalls() and any(self.metas[slot].keys is None for slot in self.own if slot in self.metas)

    def count_some(self) -> None:
        """A part of one slot."""
        if self._counting is None or self._counting[0] not in self.own:
            wanted = (slot for slot in self.own if slot in self.metas and self.metas[slot].keys is None)
            slot = next(wanted, None)
            if slot is None:
                return
            self._counting = (slot, None, 0)
        slot, reached, keys = self._counting
        chunk = self.shelf.scan(slot, reached, COUNTED_AT_ONCE)
        keys += sum(stage < STAGES_END for stage, _, _ in chunk.states)
        self._counting = (slot, chunk.after, keys)
        if chunk.after is None or chunk.after[0] >= STAGES_END:
            self._counting = None
            self._set_meta(slot, Meta(False, keys))
            self.flush()

    def key_count(self) -> int:
        """Of own slots, as far as they are counted."""
        return sum(self.metas[slot].keys or 0 for slot in self.own if slot in self.metas)

    # -- a start

    def begin(self, me: NodeId, marks: Marks, splits: SlotPart, kept: KeptOutputs) -> list[int]:
        """Take in what the store has; the slots that are whole."""
        self._marks = marks
        half = []
        for slot, meta in self.shelf.metas().items():
            if slot < GIVEN:
                self.metas[slot] = Meta(*values.unpack(meta))
                half += [slot] if self.metas[slot].filling else []
        for slot in half:
            self.drop(slot)
        for slot in self.metas:
            self._restore(slot, marks, splits)
        for place in (GIVEN, KEPT):
            self._restore_outputs(place, kept)
        kept.free(kept.packs, lambda origin: origin not in self.metas)
        for stage, key, value in self.shelf.all_of(NODE):
            if key == b"next output" and stage < self._stages:
                self._next_output[stage] = int.from_bytes(value, "big")
            elif key == b"former":
                self.former = values.unpack(value)
        self._had_by([*self.former, me])
        self.flush()
        return [*self.metas]

    def numbers(self) -> list[int]:
        """By which the stages go on."""
        return [*self._next_output]

    def seated(self, me: NodeId) -> None:
        """A table has this process in the place of those before it."""
        if self.former:
            self.former = []
            self._had_by([me])

    def _had_by(self, processes: list[NodeId]) -> None:
        if len(processes) > MOST_FORMER:
            del processes[MOST_FORMER // 2]
        self.shelf.change(NODE, 0, b"former", values.pack(processes))

    def _restore(self, slot: int, marks: Marks, splits: SlotPart) -> None:
        for stage, key, value in self.shelf.all_of(slot, (STAGES_END, b"")):
            if stage == SPLITS:
                splits.put([key], [values.unpack(value)])
            elif stage == WINDOWS:
                of_stage, producer = int.from_bytes(key[:2], "big"), key[2:-9].decode()
                self._windows.merge([f"{slot} {of_stage} 0 {producer}"], [values.unpack(value)])
            elif stage == MARKS:
                _restore_mark(slot, key, int.from_bytes(value, "little"), marks)

    def _restore_outputs(self, place: int, kept: KeptOutputs) -> None:
        found = [*self.shelf.all_of(place)]
        for _, key, value in found:
            name = key[:16], int.from_bytes(key[16:], "big")
            for stage, target, origins, numbers, keys, others in values.unpack(value):
                columns = [*slots_from_bytes(origins)], [*numbers_from_bytes(numbers)]
                kept.add(name, stage, Outputs(target, *columns, keys, keys if others is None else others))
            if place == GIVEN:
                self.shelf.change(place, 0, key, None)


def _eights(numbers: Sequence[int]) -> list[bytes]:
    """Each in 8 bytes."""
    data = numbers_to_bytes(numbers)
    return [data[place : place + 8] for place in range(0, len(data), 8)]


def _restore_mark(slot: int, key: bytes, number: int, marks: Marks) -> None:
    of_stage = marks.stages[int.from_bytes(key[:2], "big")]
    producer = int.from_bytes(key[3:5], "big")
    if key[2]:
        of_stage.raise_stage(producer, [int.from_bytes(key[5:7], "big")], [slot], [number])
    else:
        of_stage.raise_split((producer, key[5:].decode("utf-8", "surrogatepass")), [slot], [number])


def _chunk_key(stage: int, producer: str, chunk: int) -> bytes:
    return stage.to_bytes(2, "big") + producer.encode() + b"\0" + chunk.to_bytes(8, "big")


def _outputs(stage: int, out: Outputs) -> list[Any]:
    columns = slots_to_bytes(out.origins), numbers_to_bytes(out.numbers)
    return [stage, out.target, *columns, out.keys, None if out.values is out.keys else out.values]


def _packed(kept: list[list[Any]]) -> bytes | None:
    """Without what cannot be packed: its pack's copies were told as much."""
    try:
        return values.pack(kept)
    except NotSerializable:
        return values.pack([each for out in kept for each in _parts(out)])


def _parts(out: list[Any]) -> Iterator[list[Any]]:
    stage, target, origins, numbers, keys, others = out
    for place, key in enumerate(keys):
        alone = [stage, target, origins[2 * place : 2 * place + 2], numbers[8 * place : 8 * place + 8], [key]]
        alone.append(None if others is None else [others[place]])
        try:
            values.pack(alone)
        except NotSerializable:
            continue
        yield alone


def shelved(
    plan: Plan, slots: int, seed: int, splits: SlotPart, shelf: Shelf, warm_bytes: int
) -> tuple[ShelvedOwner, Shelving]:
    """An owner whose states are in the store, and what puts them there."""
    owner = ShelvedOwner(plan.stages, slots, seed, splits, shelf, warm_bytes)
    shelving = Shelving(shelf, owner.shelved(), owner.windows)
    owner.counted = shelving.key_count
    return owner, shelving
