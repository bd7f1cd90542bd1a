"""All that a node keeps where slots have copies: those that it owns, those of others, and what is on its way.

It composes the owner's side (`committing`), the backup's (`replicas`), marks, and which slots are this node's
(`reigns`), and moves a slot's states from one to the other. To whoever works with a hand-off it is one.

Events    `set_table`; `news`, `add` and `wait` of who applies and reads; `over` of who was told that outputs have been
          taken; `delivered` and `packs_taken` from peers; `send_some`
Results   `committed`: what may be answered and given out; `adopted`: what a former owner gave out and nobody may have
          taken, to be given out again; effects: Transmit, Consumed, SlotsInstalled, Log

A slot's states are the owner's (it is here), or a copy's (`replicas`), never both. Its marks, what producers sent and
how far its splits are read are in one place for both.

Invariant a number of an output is given once by a stage of this node, and is above all that it ever adopted.
Bounds    see `committing` and `replicas`; of what could not be copied TOLD names are remembered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mesh.core.committing import WINDOW_BYTES, Committed, Committing
from mesh.core.configuration import Configuration, changed_between
from mesh.core.events import Effect, Log, Millis
from mesh.core.events.planes import Delivered, SlotsInstalled, TableAgreed
from mesh.core.filling import OwnerSnapshot
from mesh.core.marks import Marks
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import PacksTaken
from mesh.core.numbers import Numbers
from mesh.core.owner import Owner
from mesh.core.packs import PART_BYTES, Outputs, Pack, Shape
from mesh.core.reigns import Reigns
from mesh.core.replicas import Replicas, Taken
from mesh.core.shelving import Shelving
from mesh.core.values import NotSerializable, show

TOLD = 1 << 10


class Keeping:
    """Of one node."""

    def __init__(
        self,
        me: NodeId,
        owner: Owner,
        shape: Shape,
        window_bytes: int = WINDOW_BYTES,
        part_bytes: int = PART_BYTES,
        shelving: Shelving | None = None,
    ) -> None:
        """With `shelving` there is a store, and `owner` works on it."""
        self._me = me
        self._owner = owner
        self.holdings = Reigns(me)
        self.marks = Marks(shape.stages, shape.slots)
        self._table: TableAgreed | None = None
        self._next_output = [0] * shape.stages
        self.replicas = Replicas(me, shape, self.marks, owner.windows, owner.splits, shelving)
        snapshot = OwnerSnapshot(me, owner, self.marks, self._next_output)
        self._shelving = shelving
        self.committing = Committing(me, snapshot, window_bytes, part_bytes, shape.stages)
        self._adopted: list[tuple[int, Outputs]] = []
        self._told: dict[tuple[int, str], None] = {}  # what has no copy, as it cannot travel
        if shelving is not None:
            self._begin(shelving)

    def _begin(self, shelving: Shelving) -> None:
        """With what the store has."""
        assert self._owner.splits is not None
        shelving.own = self.holdings.here
        shelving.watch(self.committing.outputs, self.replicas.outputs)
        slots = shelving.begin(self._me, self.marks, self._owner.splits, self.replicas.outputs)
        self.replicas.stored(slots, shelving.numbers())

    # -- the partition

    def set_table(self, table: TableAgreed) -> list[Effect]:
        changed = changed_between(self._table, table)
        self._table = table
        turns = self.holdings.set_table(table, changed)
        for slot in turns.leave:
            self._leave(slot, changed[slot])
        for slot in turns.empty:
            self._empty(slot)
        own = self.replicas.set_table(table.epoch, changed, table.workers)
        self.committing.set_table(table.epoch, changed, table.workers)
        for slot in own:
            self._take(slot)
        for stage, told in enumerate(self.replicas.next_output):
            self._next_output[stage] = max(self._next_output[stage], told)
        if self._shelving is not None and self._me in table.workers:
            self._shelving.seated(self._me)
        effects = self.replicas.judge_arrived() + self.take_effects() + self._know(changed)
        if self._shelving is not None:
            self._shelving.flush()
        return effects

    def _know(self, changed: Mapping[int, Configuration]) -> list[Effect]:
        """Backups that shall go wait for this word of their owner; without them it commits nothing before they went."""
        told = tuple((slot, now.term) for slot, now in changed.items() if now.parts and now.owner == self._me)
        return [SlotsInstalled(told)] if told else []

    def _leave(self, slot: int, now: Configuration) -> None:
        if not now.has_copy(self._me) and not now.promotes:
            self._empty(slot)
            return
        outputs = self.committing.outputs_of(slot)
        self.replicas.keep(slot, Taken(self._owner.take_out(slot), outputs))

    def _empty(self, slot: int) -> None:
        self._owner.drop(slot)
        self.marks.drop(slot)
        if self._shelving is not None:
            self._shelving.drop(slot)

    def _take(self, slot: int) -> None:
        taken = self.replicas.take(slot)
        for stage, states in zip(self._owner.stages, taken.states, strict=True):
            stage.put([*states], [*states.values()])
        self.committing.adopt(slot, taken)
        self._adopted += [(stage, out) for _, _, stage, out in taken.outputs]

    def adopted(self) -> list[tuple[int, Outputs]]:
        """What a former owner gave out of slots that are this node's since the last call, by stage, in order."""
        adopted, self._adopted = self._adopted, []
        return adopted

    # -- who applies

    def news(self, stage: int, slots: Sequence[int], numbers: Numbers) -> list[bool] | None:
        """Which records are new; they are known from now on. None: all of them."""
        marks = self.marks.stages[stage]
        found: list[tuple[int, list[bool]]] = []
        for (of_stage, producer, split), start, end in numbers.runs():
            took, given = slots[start:end], numbers.numbers[start:end]
            if of_stage:
                news = marks.news_of_stage(producer, numbers.origins[start:end], took, given)
            else:
                news = marks.news_of_split((producer, split), took, given)
            if news is not None:
                found.append((start, news))
        if not found:
            return None
        all_news = [True] * len(numbers)
        for start, news in found:
            all_news[start : start + len(news)] = news
        return all_news

    def next_output(self, stage: int, count: int) -> int:
        """The first of so many numbers."""
        first = self._next_output[stage]
        self._next_output[stage] = first + count
        return first

    def add(self, pack: Pack, token: Any) -> None:
        """It has been applied; `token` comes back when that counts. Its marks: see `Pack.mark`."""
        if pack.stage < len(self._next_output):
            pack.next_output = self._next_output[pack.stage]
        self.committing.add(pack, token)
        if self._shelving is not None:
            self._shelving.keep(pack, own=True)
            self._shelving.next_output(self._next_output)
            self.committing.needs(self._shelving.flush())

    def wait(self, slots: Collection[int], token: Any) -> None:
        """Until all that was applied before counts, and this node is known to have these slots still."""
        self.committing.wait(slots, token)
        if self._shelving is not None:
            self.committing.needs(self._shelving.shelf.last)

    def committed(self) -> list[Committed]:
        """What may be answered and given out since the last call, in order."""
        return self.committing.commit()

    def over(self, stage: int, numbers: Numbers) -> None:
        """What this stage gave out under these numbers, here, has been taken and committed, or set aside."""
        self.committing.over(stage, numbers.origins, numbers.numbers)

    def open_for(self) -> bool:
        """May more be applied?"""
        has_room = self._shelving is None or self._shelving.shelf.has_room()
        return has_room and self.committing.open_for()

    def shut(self, level: int) -> Sequence[int]:
        """None: marks say what was taken, so nothing waits for a former owner."""
        return ()

    # -- the store

    def durable(self, number: int) -> list[Effect]:
        """All puts up to this one are."""
        assert self._shelving is not None
        self._shelving.shelf.committed(number)
        self.committing.has_put(self._shelving.shelf.durable)
        return self.replicas.said() + self.take_effects()

    def retry_at(self) -> Millis | None:
        return None if self._shelving is None else self._shelving.shelf.retry_at()

    def store_effects(self, now: Millis) -> list[Effect]:
        """After every event: what is to be made durable, and what is wrong."""
        if self._shelving is None:
            return []
        if not self.committing.busy():
            self._shelving.flush()  # that outputs are over goes with the next pack, if there is one
        self._shelving.shelf.retry(now)
        return self._shelving.shelf.take_effects()

    # -- peers

    def delivered(self, event: Delivered, message: Message) -> list[Effect]:
        """Cargo of a lane; raises Malformed, and then nothing is changed."""
        return self.replicas.delivered(event, message)

    def packs_taken(self, sender: NodeId, message: PacksTaken) -> None:
        """Raises Malformed."""
        self.committing.taken(sender, message.number, message.epoch)

    def may_send(self) -> bool:
        if self._shelving is None:
            return self.committing.may_send()
        return not self._shelving.shelf.stalls() and (self.committing.may_send() or self._shelving.may_count())

    def send_some(self) -> list[Effect]:
        """The next piece to each copy that joins."""
        if self._shelving is None:
            self.committing.send_some()
        elif not self._shelving.shelf.stalls():
            self.committing.send_some()
            self._shelving.count_some()
        return self.take_effects()

    def states_of_copies(self) -> int:
        """In memory; from any thread."""
        return sum(len(states) for copy in [*self.replicas.copies.values()] for states in copy.states)

    def take_effects(self) -> list[Effect]:
        """After anything else: what it has led to."""
        self.committing.tell_over()
        effects = self.committing.take_effects()
        filled = self.committing.filled()
        if filled:
            effects.append(SlotsInstalled(tuple(filled)))
        left_out, self.committing.left_out = self.committing.left_out, []
        if self._shelving is not None:
            left_out += self._shelving.left_out
            self._shelving.left_out = []
        return effects + [log for each, error in left_out for log in self._not_copied(each, error)]

    def _not_copied(self, pack: Pack, error: NotSerializable) -> Sequence[Effect]:
        outputs = pack.outputs[0].keys if pack.outputs else ["marks"]
        what, keys = ("key", pack.keys) if pack.keys else ("output", outputs)
        key = show(keys[0])
        if (pack.stage, key) in self._told or len(self._told) >= TOLD:
            return ()
        self._told[pack.stage, key] = None
        name = self._owner.parts[pack.stage].name
        return [Log("state.not_copied", {"stage": name, what: key, "error": str(error)}, "error")]

    def busy(self) -> bool:
        return self.committing.busy() or self.replicas.busy()
