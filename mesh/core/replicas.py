"""The backup's side: slots of other owners, as they told them, ready to be this node's own.

States    of a copy: nothing -> filling (joining) -> complete -> this node's own (promoted, or handed over) -> a copy
          again (handed over, or deposed) -> dropped. The founding's backups begin complete, and empty. A copy of which
          the table says something else than what it was filled for is dropped, and filled anew.
Events    `set_table`; `keep` of a slot that was this node's own, `take` of one that is now; parts, freed packs and
          marks of a lane from peers.
Judged    by a table that is at least as new as that of its sender: what belongs to a later epoch waits, without
          credit, and so does what follows it. A part counts for those of its slots of which the sender is the source
          (the owner, or the donor while PENDING), and has been since before it was made. The rest is refused, and the
          acknowledgement says under which epoch all was judged: who sent it commits nothing before it knows that one.

Why a refusal is safe to acknowledge: whoever reads the acknowledgement has, by then, a table that says why.

Invariant what is complete has, of each slot, exactly a prefix of what its source applied: states, marks and outputs
          agree with each other. Parts that count together are kept aside until the last of them has come.
Bounds    states and marks of slots that name this node; outputs until they are freed, within the source's window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.core.codec import Malformed, encode_with_values
from mesh.core.columns import slots_from_bytes
from mesh.core.configuration import Configuration
from mesh.core.events import Effect, Log
from mesh.core.events.planes import Consumed, Delivered, SlotsInstalled, Transmit
from mesh.core.giving import REPLICATION
from mesh.core.handoff import CONTROL
from mesh.core.kept_outputs import KeptOutputs, SlotOutputs
from mesh.core.marks import Marks
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import LaneMark, OutputsKept, PackPart, PacksFreed, PacksTaken
from mesh.core.owner import SlotPart
from mesh.core.packs import Pack, Shape
from mesh.core.shelving import Shelving
from mesh.core.slot import ACTIVE, PENDING
from mesh.core.windows import Windows

BEGINS, FILLED, SEALED, ASKED = 0, 1, 2, 3  # what a LaneMark says
MOST_TOGETHER = 256 << 20  # bytes of parts of one slot that count together: far more than a batch comes to
PART_OBJECTS = 1 << 10  # bytes of a part in memory, beyond those on the wire
_Cargo: TypeAlias = "PackPart | PacksFreed | OutputsKept | LaneMark"


@dataclass(slots=True)
class Copy:
    """One slot, as it has been told so far."""

    source: NodeId
    since: int  # what its source made under an earlier epoch is of another time
    term: int  # at which it was begun
    states: list[dict[Any, Any]]
    complete: bool = False
    stored: bool = False  # by an earlier process of this store: no table has asked this one for it yet


@dataclass(slots=True)
class Taken:
    """What a new owner begins with. Its marks are in `Marks` already."""

    states: list[dict[Any, Any]]
    outputs: SlotOutputs = field(default_factory=list)  # in order


class Replicas:
    """All copies that this node keeps for others."""

    def __init__(
        self,
        me: NodeId,
        shape: Shape,
        marks: Marks,
        windows: Windows | None = None,
        splits: SlotPart | None = None,
        shelving: Shelving | None = None,
    ) -> None:
        """`marks`, `windows` and `splits` are those of the owner: a slot is its own, or a copy. With a store, states of
        copies are nowhere else, and nothing is said before it is durable."""
        self._me = me
        self._shape = shape
        self._marks = marks
        self._windows = Windows() if windows is None else windows
        self._splits = splits
        self._shelving = shelving
        self._unsaid: deque[tuple[int, Effect]] = deque()  # with the put that must be durable before
        self._epoch = 0
        self._workers: dict[NodeId, None] = {}
        self._named: dict[int, Configuration] = {}  # of slots that name this node as a copy, or that shall be one
        self.copies: dict[int, Copy] = {}
        self.outputs = KeptOutputs()
        self.next_output = [0] * shape.stages  # above all that was ever told, of any slot
        self._arrived: dict[NodeId, deque[tuple[_Cargo, Pack | None, int]]] = {}  # not judged; and their sizes
        self._numbers: dict[NodeId, int] = {}  # of the last of each lane
        self._together: dict[NodeId, list[Pack]] = {}  # parts that wait for the rest of their slot
        self._together_bytes: dict[NodeId, int] = {}  # of those that have come
        self._effects: list[Effect] = []

    # -- the partition

    def set_table(self, epoch: int, changed: Mapping[int, Configuration], workers: Collection[NodeId]) -> list[int]:
        """The slots that are this node's own now, and to be taken; `changed`: all whose configuration is another.
        Then `judge_arrived` is due, once they are."""
        before, self._epoch = self._epoch, epoch
        own = [slot for slot, now in changed.items() if self._follow(slot, now, before)]
        self._workers = dict.fromkeys(workers)
        known = (*workers, *self._arrived)
        self._numbers = {node: last for node, last in self._numbers.items() if node in known}
        self._together = {node: packs for node, packs in self._together.items() if node in known}
        self._together_bytes = {node: size for node, size in self._together_bytes.items() if node in known}
        return own

    def _follow(self, slot: int, now: Configuration, before: int) -> bool:
        copy, former = self.copies.get(slot), self._named.pop(slot, None)
        if now.source == self._me and now.status in (ACTIVE, PENDING):
            return self._own(slot, copy, now)
        if now.status == ACTIVE and now.joining == self._me:
            self._named[slot] = now
            if former != now:
                self._drop(slot)  # the owner begins again, too
        elif now.has_copy(self._me):
            self._named[slot] = now
            self._stay(slot, now, before)
        elif not self._may_return(copy, now):
            self._drop(slot)
        return False

    def _may_return(self, copy: Copy | None, now: Configuration) -> bool:
        """May a later table ask this process for what an earlier one of its store had?"""
        if copy is None or not copy.stored or self._shelving is None:
            return False
        return now.status != ACTIVE or any(node in (now.owner, *now.backups) for node in self._shelving.former)

    def _own(self, slot: int, copy: Copy | None, now: Configuration) -> bool:
        """It is this node's, or shall be, with whatever is here: nothing of anybody else is taken any more. A donor has
        it, even if this node never saw the table that gave it to it. What is stored is only taken by who is asked for
        it: whoever is the owner without that begins empty, as its loss was accepted."""
        if copy is not None and not (copy.complete and (now.promotes or not copy.stored)):
            if not copy.stored:
                self._missing(slot, now)
            self._drop(slot)
            copy = None
        if now.status == ACTIVE or now.owner != self._me:
            return copy is not None
        self._effects.append(SlotsInstalled(((slot, now.term),)))
        if copy is not None:
            copy.source = self._me
            copy.stored = False
        return False

    def _stay(self, slot: int, now: Configuration, before: int) -> None:
        copy = self.copies.get(slot)
        if copy is None and before == 0:  # the founding's: whatever was told since is still in the lane
            copy = self.copies[slot] = self._new(now.source, 0, now.term, complete=True)
        if copy is None or not copy.complete or (copy.stored and now.status == ACTIVE):
            self._missing(slot, now)
            self._drop(slot)
            copy = self.copies[slot] = self._new(now.source, before + 1, now.term, complete=True)
        if copy.source != now.source:
            copy.source, copy.since = now.source, before + 1

    def _missing(self, slot: int, now: Configuration) -> None:
        """Only a recovery, which takes a cluster back to what one node knew, can ask for what was dropped since."""
        fields = {"slot": slot, "term": now.term}
        self._effects.append(Log("slot.no_copy", fields, "error"))

    def _new(self, source: NodeId, since: int, term: int, *, complete: bool) -> Copy:
        return Copy(source, since, term, [{} for _ in range(self._shape.stages)], complete)

    def _drop(self, slot: int) -> None:
        if self.copies.pop(slot, None) is not None:
            self._marks.drop(slot)
            self._windows.drop(slot)
            if self._splits is not None:
                self._splits.drop(slot)
            self.outputs.free_slot(slot)
            if self._shelving is not None:
                self._shelving.drop(slot)

    def stored(self, slots: Sequence[int], next_output: Sequence[int]) -> None:
        """These are in the store, whole, when this process begins."""
        self.next_output = [*next_output]
        for slot in slots:
            self.copies[slot] = self._new(self._me, 0, 0, complete=True)
            self.copies[slot].stored = True

    def keep(self, slot: int, was: Taken) -> None:
        """Before `set_table`: this node was the owner, and the table names another one but this node as a copy. What it
        had applied and nobody has heard of is part of it, since it may be promoted again."""
        self.copies[slot] = Copy(self._me, 0, 0, was.states, complete=True)
        for maker, pack, stage, out in was.outputs:
            self.outputs.add((maker, pack), stage, out)

    def take(self, slot: int) -> Taken:
        """The slot is this node's own: all that is known of it, its outputs in the order in which they were made."""
        taken = Taken(self.copies.pop(slot).states, self.outputs.of_slot(slot))
        self.outputs.free_slot(slot)
        return taken

    # -- cargo comes

    def delivered(self, event: Delivered, message: Message) -> list[Effect]:
        """Keep what came, or let it wait for its epoch; raises Malformed, and then nothing is changed."""
        if not isinstance(message, PackPart | PacksFreed | OutputsKept | LaneMark):
            raise Malformed("pack", f"{type(message).__name__} is not of a lane")
        if self._has_left(event.sender, message):
            return [Consumed(event.sender, REPLICATION, len(event.payload))]
        last = self._numbers.get(event.sender, 0)
        if message.number != last + 1:
            raise Malformed("pack", f"number {message.number} came after {last}")
        pack = self._shape.checked(message) if isinstance(message, PackPart) else None
        if isinstance(message, LaneMark):
            _check_mark(message, self._shape.slots)
        if isinstance(message, OutputsKept) and len(message.makers) != len(message.packs):
            raise Malformed("pack", "columns of different lengths")
        together = 0
        if isinstance(message, PackPart) and message.more:
            together = self._together_bytes.get(event.sender, 0) + len(event.payload) + PART_OBJECTS
            if together > MOST_TOGETHER:
                raise Malformed("pack", f"more than {MOST_TOGETHER} bytes of one slot")
        self._together_bytes[event.sender] = together
        self._numbers[event.sender] = message.number
        self._arrived.setdefault(event.sender, deque()).append((message, pack, len(event.payload)))
        self._judge(event.sender)
        return self._given()

    def _has_left(self, sender: NodeId, cargo: _Cargo) -> bool:
        """What was on its way when its sender left: the numbers of its lane are forgotten, and nobody needs it."""
        return sender not in self._workers and sender not in self._arrived and cargo.epoch <= self._epoch

    def judge_arrived(self) -> list[Effect]:
        """There is a newer table."""
        for sender in list(self._arrived):
            self._judge(sender)
        return self._given()

    def _given(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects if self._shelving is None else self._later(effects, self._shelving)

    def _later(self, effects: list[Effect], shelving: Shelving) -> list[Effect]:
        """What says that something is here waits until it is durable."""
        shelving.next_output(self.next_output)
        put = shelving.flush()
        self._unsaid += [(put, each) for each in effects if _says_something(each)]
        return [each for each in effects if not _says_something(each)] + self.said()

    def said(self) -> list[Effect]:
        """What may be said by now. Acknowledgements are cumulative, but few wait for one commit."""
        effects: list[Effect] = []
        while self._unsaid and self._shelving is not None and self._unsaid[0][0] <= self._shelving.shelf.durable:
            effects.append(self._unsaid.popleft()[1])
        return effects

    def _judge(self, sender: NodeId) -> None:
        waiting = self._arrived[sender]
        number = 0
        while waiting and waiting[0][0].epoch <= self._epoch:
            message, pack, size = waiting.popleft()
            match message:
                case PackPart():
                    assert pack is not None
                    self._part(sender, message, pack)
                case PacksFreed():
                    self._freed(sender, message.epoch, [(message.maker, each) for each in message.packs])
                case OutputsKept():
                    self._outputs_kept(sender, message)
                case LaneMark():
                    self._mark(sender, message)
            number = message.number
            self._effects.append(Consumed(sender, REPLICATION, size))
        if number:
            self._effects.append(Transmit(sender, CONTROL, encode_with_values(PacksTaken(number, self._epoch))))
        if not waiting:
            del self._arrived[sender]

    def _is_from_its_source(self, slot: int, sender: NodeId, epoch: int) -> bool:
        copy = self.copies.get(slot)
        return copy is not None and copy.source == sender and copy.since <= epoch

    def _part(self, sender: NodeId, message: PackPart, pack: Pack) -> None:
        together = self._together.pop(sender, [])
        together.append(pack)
        if message.more:
            self._together[sender] = together
            return
        for each in together:
            touched = each.touched()
            wanted = frozenset(slot for slot in touched if self._is_from_its_source(slot, sender, message.epoch))
            self._keep(each if wanted == touched else each.restricted(wanted))

    def _keep(self, pack: Pack) -> None:
        if pack.stage >= self._shape.stages:
            self._keep_others(pack)
        else:
            self._keep_stage(pack)
        for each in pack.windows:
            for slot, record, digest in zip(each.slots, each.ids, each.digests, strict=True):
                self._windows.take(slot, each.stage, each.producer, record, digest)
        if self._shelving is not None:
            self._shelving.keep(pack, own=False)

    def _keep_others(self, pack: Pack) -> None:
        if pack.stage == self._shape.stages:
            self._windows.merge(pack.keys, pack.states)
        elif self._splits is not None:
            self._splits.put(pack.keys, pack.states)

    def _keep_stage(self, pack: Pack) -> None:
        stage, marks = pack.stage, self._marks.stages[pack.stage]
        if self._shelving is None:
            self._keep_states(pack)
        for stream, slots, numbers in pack.splits:
            marks.raise_split(stream, slots, numbers)
        for producer, origins, slots, numbers in pack.stages:
            marks.raise_stage(producer, origins, slots, numbers)
        for out in pack.outputs:
            self.outputs.add((pack.maker, pack.pack), stage, out)
        self.next_output[stage] = max(self.next_output[stage], pack.next_output)

    def _keep_states(self, pack: Pack) -> None:
        of_slot = {slot: self.copies[slot].states[pack.stage] for slot in dict.fromkeys(pack.slots)}
        for slot, key, state in zip(pack.slots, pack.keys, pack.states, strict=False):
            of_slot[slot][key] = state
        gone = len(pack.states)
        for slot, key in zip(pack.slots[gone:], pack.keys[gone:], strict=True):
            of_slot[slot].pop(key, None)

    def _freed(self, sender: NodeId, epoch: int, packs: list[tuple[NodeId, int]]) -> None:
        self.outputs.free(packs, lambda origin: self._is_from_its_source(origin, sender, epoch))

    def _outputs_kept(self, sender: NodeId, message: OutputsKept) -> None:
        if self._is_from_its_source(message.slot, sender, message.epoch):
            kept = dict.fromkeys(zip(message.makers, message.packs, strict=True))
            self.outputs.free(
                [name for name in self.outputs.packs if name not in kept], lambda origin: origin == message.slot
            )

    def _mark(self, sender: NodeId, mark: LaneMark) -> None:
        sealed = []
        for slot, term in zip(slots_from_bytes(mark.slots), mark.terms, strict=True):
            named, copy = self._named.get(slot), self.copies.get(slot)
            if named is None or named.term != term or named.source != sender:
                continue
            if mark.what == BEGINS and named.joining == self._me:
                self._drop(slot)
                self.copies[slot] = self._new(sender, mark.epoch, term, complete=False)
                if self._shelving is not None:
                    self._shelving.filling(slot)
            elif mark.what == FILLED and copy is not None and copy.term == term:
                copy.complete = True
                if self._shelving is not None:
                    self._shelving.filled(slot)
            elif mark.what == SEALED and named.status == PENDING and copy is not None and copy.complete:
                sealed.append((slot, term))
        if sealed:
            self._effects.append(SlotsInstalled(tuple(sealed)))

    def busy(self) -> bool:
        return bool(self._arrived)  # the rest of parts that count together may never come: who made them is gone


def _says_something(effect: Effect) -> bool:
    return isinstance(effect, SlotsInstalled | Transmit)


def _check_mark(mark: LaneMark, slots: int) -> None:
    if mark.what > ASKED or len(mark.slots) != 2 * len(mark.terms):
        raise Malformed("pack", "a mark that says nothing, or columns of different lengths")
    if any(slot >= slots for slot in slots_from_bytes(mark.slots)):
        raise Malformed("pack", "a mark for no slot")
