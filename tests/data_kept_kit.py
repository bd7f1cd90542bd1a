"""Data planes that keep copies, in quiet tables: as `data_kit`, but slots have backups, and sinks say what is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from mesh.app.plan import Plan
from mesh.core.data import DataPlane
from mesh.core.events import Effect
from mesh.core.events.planes import SlotsInstalled
from mesh.core.events.work import FlushSinks, SinkWritten, WriteSink
from mesh.core.giving import REPLICATION
from mesh.core.keys import slot_of_key
from mesh.core.slot import ACTIVE, LOST, PENDING
from tests.data_kit import Cluster, Node


class KeptCluster(Cluster):
    """Of each slot the next `copies - 1` owners have a copy. Sinks write when the seed says so."""

    def __init__(
        self,
        plan: Plan,
        random: Random,
        *,
        owners: int = 1,
        copies: int = 1,
        witnesses: int = 0,
        slots: int = 8,
        window: int = 1 << 20,
        batch_records: int = 4096,
    ) -> None:
        super().__init__(
            plan, random, owners=owners, witnesses=witnesses, slots=slots, window=window, batch_records=batch_records
        )
        for node in self.nodes:
            node.data = DataPlane(node.id, plan, slots, 0, window, batch_records, keeps=True)
            node.pending.clear()
        backups = [tuple((owner + k) % owners for k in range(1, min(copies, owners))) for owner in range(owners)]
        self.table = replace(
            self.table,
            since_of_slot=(1,) * slots,
            backups_of_slot=tuple(backups[owner] for owner in self.table.owner_of_slot),
            joining_of_slot=(-1,) * slots,
        )
        self.unwritten: dict[tuple[Any, int], int] = {}
        self.names: dict[tuple[int, Any], Any] = {}  # (sink, name of an item) -> the item
        for node in self.nodes:
            node.pending.append(self.table)

    def _choices(self) -> list[Callable[[], None]]:
        choices = super()._choices()
        choices += [lambda key=key: self._write(*key) for key, count in self.unwritten.items() if count]  # type: ignore[misc]
        return choices

    def _write(self, number: int, sink: int) -> None:
        count = self.random.randint(1, self.unwritten[number, sink])
        self.unwritten[number, sink] -= count
        self.give(self.nodes[number], SinkWritten(sink, count))

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case WriteSink(sink, items, names):
                    key = self.nodes.index(node), sink
                    self.unwritten[key] = self.unwritten.get(key, 0) + len(items)
                    if names is not None:
                        self._note_names(sink, items, names)
                    super()._perform(node, [effect])
                case FlushSinks():
                    mine = [count for (number, _), count in self.unwritten.items() if self.nodes[number] is node]
                    assert not any(mine), "the sinks are to end, and have not written all"
                    super()._perform(node, [effect])
                case SlotsInstalled():
                    assert self.table.epoch > 1, "nothing moves in a quiet table"
                case _:
                    super()._perform(node, [effect])

    def _note_names(self, sink: int, items: list[Any], names: Any) -> None:
        assert len(names) == len(items)
        for producer, start, end in names.runs():
            for place in range(start, end):
                name = sink, (producer, names.origins[place], names.numbers[place])
                assert name not in self.names, "two items of one name"
                self.names[name] = items[place]

    # -- what must hold in the end

    def _check_end(self) -> None:
        """As there, but the copies may yet be told what need not be kept."""
        lanes = {key: queue for key, queue in self.links.items() if key[2] == REPLICATION}
        self.links = {key: queue for key, queue in self.links.items() if key[2] != REPLICATION}
        super()._check_end()
        self.links |= lanes

    def come_to_rest(self) -> None:
        """Whatever is still on its way arrives."""
        while any(self.links.values()):
            self.random.choice(list(self._choices()))()

    def check_copies(self) -> None:
        """Each backup has what the owner has: states, marks, how far splits are read; and nobody keeps outputs."""
        for slot in range(self.slots):
            owner = self.nodes[self.table.owner_of_slot[slot]].data
            for place in self.table.backups_of_slot[slot]:
                self._check_copy(slot, owner, self.nodes[place].data)
        for node in self.nodes:
            keeping: Any = node.data.handoff
            assert not keeping.busy()
            assert not keeping.replicas.outputs.packs, "outputs that nobody frees"

    def _check_copy(self, slot: int, owner: DataPlane, backup: DataPlane) -> None:
        keeping: Any = backup.handoff
        copy = keeping.replicas.copies[slot]
        assert copy.complete
        theirs: Any = owner.handoff
        for stage, states in zip(owner.owner.stages, copy.states, strict=True):
            mine = {key: state for key, state in stage.states.items() if slot_of_key(key, 0, self.slots) == slot}
            assert states == mine, f"of {stage.name} the copy has something else"
        for mine, copied in zip(theirs.marks.stages, keeping.marks.stages, strict=True):
            assert sorted(mine.of_slot(slot).splits) == sorted(copied.of_slot(slot).splits)
            assert sorted(mine.of_slot(slot).stages) == sorted(copied.of_slot(slot).stages)
        splits: tuple[Any, Any] = owner.owner.splits, backup.owner.splits
        (mine, copied) = ({key: each.states[key] for key in each.keys_of(slot)} for each in splits)
        assert mine == copied
        windows = owner.owner.windows, backup.owner.windows
        assert sorted(windows[0].keys_of(slot)) == sorted(windows[1].keys_of(slot))

    # -- other tables

    def next_table(self, slots: range, owner: int, status: int = ACTIVE, donor: int = -1, backups: Any = ()) -> None:
        """These slots get another configuration, at their next term; whoever is told learns it."""
        now = self.table

        def changed(column: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
            return tuple(value if slot in slots else each for slot, each in enumerate(column))

        term = now.term_of_slot[slots[0]] + (status != ACTIVE or now.status_of_slot[slots[0]] == LOST)
        self.table = replace(
            now,
            epoch=now.epoch + 1,
            owner_of_slot=changed(now.owner_of_slot, owner),
            status_of_slot=changed(now.status_of_slot, status),
            donor_of_slot=changed(now.donor_of_slot, donor),
            backups_of_slot=changed(now.backups_of_slot, tuple(backups)),
            term_of_slot=changed(now.term_of_slot, term),
            since_of_slot=changed(now.since_of_slot, term),
        )

    def promote(self, slots: range, owner: int, *, told: list[int]) -> None:
        """A copy goes on as their owner, alone; only these nodes hear of it."""
        others = [place for place in range(len(self.table.workers)) if place != owner]
        self.next_table(slots, owner, PENDING, owner, others)
        for number in told:
            self.give(self.nodes[number], self.table)
        self.next_table(slots, owner)
        for number in told:
            self.give(self.nodes[number], self.table)

    def go_on(self, *held: tuple[int, ...], ticks: int = 0) -> None:
        """Until nothing moves, also after some time, but on what is held: (from, to), or (from, to, channel)."""
        ids = [(self.nodes[each[0]].id, self.nodes[each[1]].id, *each[2:]) for each in held]
        for tick in range(ticks + 1):
            if tick:
                self.tick()
            self._all_moves(ids)

    def _all_moves(self, held: list[tuple[Any, ...]]) -> None:
        while True:
            free = {key: queue for key, queue in self.links.items() if key[:2] not in held and key not in held}
            kept = {key: queue for key, queue in self.links.items() if key not in free}
            self.links = free
            choices = self._choices()
            if choices:
                self.random.choice(choices)()
            for key, queue in kept.items():
                self.links[key] = queue + self.links.get(key, deque())
            if not choices:
                return
