"""What one applied batch came to, by columns: this is what the copies of its slots are told.

A pack has per touched key its new state, per touched slot the marks (how far each stream has been taken), and what was
given out. It may be restricted to the slots that one backup has, so that each lane carries only what its backup needs;
nothing of a slot is ever in two packs of one batch.

On the wire it is one part or several. Parts of whole slots count one by one, since a slot is what is promoted, or not,
as a whole. Only when one slot alone is too large do several parts count together (`more`).

Bounds    PART_BYTES a part, or one state or output that is larger.
Invariant what cannot travel is left out and named, and everything else of the pack goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from mesh.core import columns
from mesh.core.codec import MAX_INT, Malformed, encode_with_values
from mesh.core.columns import slots_from_bytes, slots_to_bytes
from mesh.core.marks import SplitStream
from mesh.core.messages import NodeId
from mesh.core.messages.states import OutputColumns, PackPart, SplitMarks, StageMarks, WindowMarks
from mesh.core.numbers import Numbers
from mesh.core.slot_splits import MOST_NUMBER
from mesh.core.slot_splits import check as check_splits
from mesh.core.values import NotSerializable
from mesh.core.windows import MAX_PRODUCER, check_part, numbers_from_bytes, numbers_to_bytes

U64 = (1 << 64) - 1
PART_BYTES = 256 << 10  # as large as a batch: a few milliseconds of packing


@dataclass(slots=True)
class Outputs:
    """What was given out for one target; all columns are as long."""

    target: int
    origins: list[int]
    numbers: list[int]
    keys: list[Any]
    values: list[Any]  # `values is keys` when every value is its own key, and for a sink

    def chosen(self, wanted: list[bool]) -> Outputs:
        keys = list(compress(self.keys, wanted))
        values = keys if self.values is self.keys else list(compress(self.values, wanted))
        return Outputs(
            self.target, list(compress(self.origins, wanted)), list(compress(self.numbers, wanted)), keys, values
        )


@dataclass(slots=True)
class Window:
    """What producers sent and a stage took: one record each, known from now on."""

    stage: int  # numbered on behind the stages: lines that were claimed
    producer: str
    slots: list[int]
    ids: list[int]
    digests: list[int]

    def chosen(self, wanted: list[bool]) -> Window:
        columns = (list(compress(column, wanted)) for column in (self.slots, self.ids, self.digests))
        return Window(self.stage, self.producer, *columns)


@dataclass(slots=True)
class Pack:
    """One batch, or a part of it, of one stage; or a piece of a slot that is being copied. Stages are followed by what
    producers sent (in pieces only) and by the splits of sources."""

    maker: NodeId
    pack: int  # the maker's number, from 1; 0: no outputs, nothing to be freed
    stage: int
    slots: list[int] = field(default_factory=list)  # one a key
    keys: list[Any] = field(default_factory=list)  # each once
    states: list[Any] = field(default_factory=list)  # of the first keys; the others have none any more
    splits: list[tuple[SplitStream, list[int], list[int]]] = field(default_factory=list)  # stream, slots, numbers
    stages: list[tuple[int, list[int], list[int], list[int]]] = field(default_factory=list)  # origins, slots, numbers
    windows: list[Window] = field(default_factory=list)
    outputs: list[Outputs] = field(default_factory=list)
    next_output: int = 0  # all outputs of this stage so far, of this maker, have lower numbers

    def mark(self, slots: Sequence[int], numbers: Numbers) -> None:
        """These slots have taken these records; of each stream the last one says so, as its numbers rise."""
        for (of_stage, producer, split), start, end in numbers.runs():
            took, given = slots[start:end], numbers.numbers[start:end]
            if of_stage:
                pairs = dict(zip(zip(numbers.origins[start:end], took, strict=True), given, strict=True))
                self.stages.append((producer, [a for a, _ in pairs], [b for _, b in pairs], [*pairs.values()]))
            else:
                last = dict(zip(took, given, strict=True))
                self.splits.append(((producer, split), [*last], [*last.values()]))

    def touched(self) -> frozenset[int]:
        """Every slot of which there is something here."""
        marked = [slots for _, slots, _ in self.splits] + [slots for _, _, slots, _ in self.stages]
        marked += [each.slots for each in self.windows]
        return frozenset(self.slots).union(*marked, *[each.origins for each in self.outputs])

    def empty(self) -> bool:
        return not (self.slots or self.splits or self.stages or self.windows or self.outputs)

    def restricted(self, wanted: Collection[int]) -> Pack:
        """What there is of these slots."""
        mask = [slot in wanted for slot in self.slots]
        small = self._like(list(compress(self.slots, mask)), list(compress(self.keys, mask)))
        small.states = list(compress(self.states, mask))
        for stream, slots, numbers in self.splits:
            mask = [slot in wanted for slot in slots]
            if any(mask):
                small.splits.append((stream, list(compress(slots, mask)), list(compress(numbers, mask))))
        for stage, *marks in self.stages:
            mask = [slot in wanted for slot in marks[1]]
            if any(mask):
                origins, slots, numbers = (list(compress(column, mask)) for column in marks)
                small.stages.append((stage, origins, slots, numbers))
        windows = (each.chosen([slot in wanted for slot in each.slots]) for each in self.windows)
        small.windows = [each for each in windows if each.slots]
        chosen = (each.chosen([slot in wanted for slot in each.origins]) for each in self.outputs)
        small.outputs = [each for each in chosen if each.origins]
        return small

    def _like(self, slots: list[int], keys: list[Any]) -> Pack:
        return Pack(self.maker, self.pack, self.stage, slots, keys, next_output=self.next_output)

    # -- too large: in two

    def halves(self) -> tuple[Pack, bool, Pack] | None:
        """Two that are this one, and whether they count together; None if it is one thing only."""
        slots = sorted(self.touched())
        if len(slots) > 1:
            first = frozenset(slots[: len(slots) // 2])
            return self.restricted(first), False, self.restricted(frozenset(slots) - first)
        things = len(self.keys) + sum(len(each.origins) for each in self.outputs)
        things += sum(len(each.slots) for each in self.windows)
        return None if things < 2 else (*self._cut(things // 2),)

    def _cut(self, most: int) -> tuple[Pack, bool, Pack]:
        """The first things, and the rest with the marks."""
        first, rest = self._like(self.slots[:most], self.keys[:most]), self._like(self.slots[most:], self.keys[most:])
        first.states, rest.states = self.states[:most], self.states[most:]
        rest.splits, rest.stages = self.splits, self.stages
        left = most - len(first.keys)
        for each in self.outputs:
            mask = [place < left for place in range(len(each.origins))]
            if left:
                first.outputs.append(each.chosen(mask))
            if left < len(mask):
                rest.outputs.append(each.chosen([not taken for taken in mask]))
            left -= min(left, len(mask))
        for window in self.windows:
            mask = [place < left for place in range(len(window.slots))]
            if left:
                first.windows.append(window.chosen(mask))
            if left < len(mask):
                rest.windows.append(window.chosen([not taken for taken in mask]))
            left -= min(left, len(mask))
        return first, True, rest

    def without_things(self) -> Pack:
        """The marks alone."""
        rest = self._like([], [])
        rest.splits, rest.stages, rest.windows = self.splits, self.stages, self.windows
        return rest

    # -- out

    def part(self, number: int, epoch: int, *, more: bool) -> PackPart:
        return PackPart(
            number, epoch, more, self.maker, self.pack, self.stage, slots_to_bytes(self.slots), self.keys, self.states,
            tuple(SplitMarks(*stream, slots_to_bytes(slots), numbers_to_bytes(numbers))
                  for stream, slots, numbers in self.splits),
            tuple(StageMarks(stage, slots_to_bytes(origins), slots_to_bytes(slots), numbers_to_bytes(numbers))
                  for stage, origins, slots, numbers in self.stages),
            tuple(WindowMarks(each.stage, each.producer, slots_to_bytes(each.slots), numbers_to_bytes(each.ids),
                              numbers_to_bytes(each.digests)) for each in self.windows),
            tuple(OutputColumns(each.target, slots_to_bytes(each.origins), numbers_to_bytes(each.numbers), each.keys,
                                None if each.values is each.keys else each.values) for each in self.outputs),
            self.next_output,
        )  # fmt: skip


def pack_of(stage: int, keys: Sequence[Any], slots: Sequence[int], states: Mapping[Any, Any]) -> Pack:
    """The states after a batch, by its columns; whoever made the batch adds marks and outputs."""
    slot_of = dict(zip(keys, slots, strict=True))
    try:
        return Pack(b"", 0, stage, [*slot_of.values()], [*slot_of], [*map(states.__getitem__, slot_of)])
    except KeyError:
        pass  # rare: a step raised for a key's first record
    there = {key: slot for key, slot in slot_of.items() if key in states}
    order = there if len(there) == len(slot_of) else {**there, **slot_of}  # those without a state come last
    return Pack(b"", 0, stage, [*order.values()], [*order], [states[key] for key in there])


@dataclass(slots=True)
class Encoded:
    """The parts of a pack as they travel, and what could not be packed."""

    payloads: list[bytes] = field(default_factory=list)
    left_out: list[tuple[Pack, NotSerializable]] = field(default_factory=list)  # each is one key, or one output


def encoded(pack: Pack, first_number: int, epoch: int, most_bytes: int = PART_BYTES) -> Encoded:
    """The parts, numbered from here on."""
    done = Encoded()
    waiting = [(pack, False)]
    while waiting:
        piece, more = waiting.pop()
        try:
            payload = encode_with_values(piece.part(first_number + len(done.payloads), epoch, more=more))
            fits = len(payload) <= most_bytes
        except NotSerializable as error:
            payload, fits, wrong = b"", False, error.with_traceback(None)
        halves = None if fits else piece.halves()
        if halves is not None:
            first, together, rest = halves
            waiting += [(rest, more), (first, together)]
        elif payload:
            done.payloads.append(payload)
        else:
            done.left_out.append((piece, wrong))
            if piece.keys or piece.outputs:  # else marks alone cannot travel, and nothing is left
                waiting.append((piece.without_things(), more))
    return done


# -- in ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What packs of this application may have in them."""

    sources: int
    stages: int
    targets: int  # stages and sinks
    slots: int
    seed: int

    def checked(self, part: PackPart) -> Pack:
        """Raises Malformed."""
        if part.stage >= self.stages + 2 or len(part.states) > len(part.keys):
            raise Malformed("pack", "no such stage, or states without keys")
        if part.next_output > MOST_NUMBER:
            raise Malformed("pack", "more outputs than there can be")
        slots = self._slots(part.slots)
        if part.stage < self.stages:
            self._check_keys(part, slots)
        else:
            self._check_others(part, slots)
        if bool(part.outputs) and not part.pack:
            raise Malformed("pack", "outputs that nothing frees")
        pack = Pack(part.maker, part.pack, part.stage, slots, part.keys, part.states, next_output=part.next_output)
        pack.splits = [self._split_marks(each) for each in part.splits]
        pack.stages = [self._stage_marks(each) for each in part.stages]
        pack.windows = [self._window(each) for each in part.windows]
        pack.outputs = [self._outputs(each, part.next_output) for each in part.outputs]
        return pack

    def _check_keys(self, part: PackPart, slots: list[int]) -> None:
        if not columns.all_keys_good(part.keys):
            raise Malformed("pack", "bad keys")
        if slots != columns.slots_of(part.keys, self.seed, 33 - self.slots.bit_length()):
            raise Malformed("pack", "a key that is not of its slot")

    def _check_others(self, part: PackPart, slots: list[int]) -> None:
        """What producers sent, or splits."""
        if part.splits or part.stages or part.outputs or not len(slots) == len(part.keys) == len(part.states):
            raise Malformed("pack", "what only a stage has, or columns of different lengths")
        if part.stage == self.stages:
            for slot, key, state in zip(slots, part.keys, part.states, strict=True):
                check_part(slot, key, state)
        elif slots != check_splits(part.keys, part.states, self.sources, self.targets, self.slots):
            raise Malformed("pack", "a key that is not of its slot")

    def _window(self, window: WindowMarks) -> Window:
        slots, producer = self._slots(window.slots), window.producer
        ids, digests = _numbers(window.ids, U64), _numbers(window.digests, U64)
        if window.stage > self.stages or not len(slots) == len(ids) == len(digests) or len(producer) > MAX_PRODUCER:
            raise Malformed("pack", "what a producer sent to no stage, or in columns of different lengths")
        return Window(window.stage, producer, slots, ids, digests)

    def _split_marks(self, marks: SplitMarks) -> tuple[SplitStream, list[int], list[int]]:
        slots, numbers = self._slots(marks.slots), _numbers(marks.numbers)
        if marks.source >= self.sources or len(slots) != len(numbers):
            raise Malformed("pack", "marks of no source, or columns of different lengths")
        return (marks.source, marks.split), slots, numbers

    def _stage_marks(self, marks: StageMarks) -> tuple[int, list[int], list[int], list[int]]:
        origins, slots, numbers = self._slots(marks.origins), self._slots(marks.slots), _numbers(marks.numbers)
        if marks.stage >= self.stages or not len(origins) == len(slots) == len(numbers):
            raise Malformed("pack", "marks of no stage, or columns of different lengths")
        return marks.stage, origins, slots, numbers

    def _outputs(self, out: OutputColumns, below: int) -> Outputs:
        origins, numbers = self._slots(out.origins), _numbers(out.numbers)
        values = out.keys if out.values is None else out.values
        if not len(origins) == len(numbers) == len(out.keys) == len(values):
            raise Malformed("pack", "outputs in columns of different lengths")
        if out.target >= self.targets or (out.target < self.stages and not columns.all_keys_good(out.keys)):
            raise Malformed("pack", "outputs for no target, or with bad keys")
        if any(number >= below for number in numbers):
            raise Malformed("pack", "an output above the number that all are below")
        return Outputs(out.target, origins, numbers, out.keys, values)

    def _slots(self, data: bytes) -> list[int]:
        try:
            slots = list(slots_from_bytes(data))
        except ValueError:
            raise Malformed("pack", "a slot that is cut") from None
        if slots and max(slots) >= self.slots:
            raise Malformed("pack", f"there is no slot {max(slots)}")
        return slots


def _numbers(data: bytes, most: int = MAX_INT) -> list[int]:
    try:
        numbers = list(numbers_from_bytes(data))
    except ValueError:
        raise Malformed("pack", "a number that is cut") from None
    if numbers and max(numbers) > most:
        raise Malformed("pack", "a number that is too large")
    return numbers
