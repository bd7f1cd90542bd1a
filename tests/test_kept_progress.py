"""In kept mode a job is done when nothing is left, whoever dies and whatever the order of tables and reports is."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from mesh.core.codec import decode_with_values
from mesh.core.events.planes import TableAgreed, Transmit
from mesh.core.messages import NodeId
from mesh.core.messages.work import Report
from mesh.core.progress import KeptProgress
from mesh.core.reports import Reports
from mesh.core.slot import ACTIVE, LOST, PENDING
from tests.tables import agreed

LEVELS = 3  # the sources' and two of stages; what stages of the last one give out goes to sinks
SLOTS = 5
SEEDS = 250


@dataclass
class Slot:
    """What every copy of a slot has: records that it has to give out, and the names of all that it was ever given."""

    kept: dict[str, int] = field(default_factory=dict)  # name -> level
    known: set[str] = field(default_factory=set)
    over: dict[str, int] = field(default_factory=dict)  # was taken over; a copy may not have heard that


@dataclass
class Node:
    """A node as far as its claims go."""

    id: NodeId
    progress: KeptProgress = field(default_factory=lambda: KeptProgress(LEVELS))
    table: TableAgreed | None = None
    away: bool = False  # cut off, or dead, or paused
    written: set[str] = field(default_factory=set)  # by its sinks
    flushes: list[set[str]] = field(default_factory=list)  # under way: what was written before
    done: bool = False

    def __post_init__(self) -> None:
        self.reports = Reports(self.id, self.progress)

    def owns(self, table: TableAgreed, slot: int) -> bool:
        mine = table.workers[table.owner_of_slot[slot]] == self.id
        return mine and table.status_of_slot[slot] == ACTIVE

    def report(self) -> Report:
        assert self.table is not None
        return Report(self.table.epoch, self.progress.drained, False, 0, 0, 0, 0, ())


class World:
    """Slots with records, nodes that learn of tables late and skip some, and a link a pair that keeps all in order."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.nodes = [Node(bytes([number + 1]) * 16) for number in range(self.random.randint(1, 4))]
        self.slots = [Slot() for _ in range(SLOTS)]
        for number in range(self.random.randint(1, 3)):
            self.random.choice(self.slots).kept[f"r{number}"] = 0
        self.links: dict[tuple[int, int], list[Report]] = {}
        self.in_flight: list[tuple[Node, int, str, int, int]] = []  # who sends, from slot, name, its level, to slot
        self.flushed: set[str] = set()
        ids = [node.id for node in self.nodes]
        self.tables = [agreed(1, ids, [slot % len(ids) for slot in range(SLOTS)])]
        self.now = 0
        self.industry = self.random.choice([0.01, 0.03, 0.1, 0.5])

    # -- what is true

    def left(self) -> list[str]:
        """Records of which something would still come."""
        found = []
        for slot in self.slots:
            for name, level in (slot.kept | slot.over).items():
                if level + 1 == LEVELS:
                    found += [name] if name not in self.flushed else []
                elif f"{name}'" not in self.slots[self.target(name)].known:
                    found.append(name)
        return found

    def target(self, name: str) -> int:
        return Random(name).randrange(SLOTS)

    # -- the table

    def table_changes(self) -> None:
        """Some slots move, somebody is down or comes back; a slot whose owner is down is promoted soon, or later."""
        last = self.tables[-1]
        ids = list(last.workers)
        for node in self.nodes:
            if self.random.random() < 0.2:
                node.away = not node.away
        down = [node.id for node in self.nodes if node.away and self.random.random() < 0.8]
        owners, statuses = list(last.owner_of_slot), list(last.status_of_slot)
        for slot in range(SLOTS):
            self.slot_changes(slot, ids, down, owners, statuses)
        self.tables.append(agreed(last.epoch + 1, ids, owners, statuses=statuses, down=down))

    def slot_changes(
        self, slot: int, ids: list[NodeId], down: list[NodeId], owners: list[int], statuses: list[int]
    ) -> None:
        is_down = ids[owners[slot]] in down
        if statuses[slot] != ACTIVE:
            if not is_down and self.random.random() < 0.6:
                statuses[slot] = ACTIVE
        elif self.random.random() < (0.7 if is_down else 0.2):
            owners[slot] = self.random.randrange(len(ids))
            statuses[slot] = self.random.choice([PENDING, LOST])  # lost: it is accepted, and found again
            state = self.slots[slot]
            if is_down:  # a copy may not have heard what was taken over
                back = [name for name in state.over if self.random.random() < 0.5]
                state.kept |= {name: state.over.pop(name) for name in back}

    def settle(self) -> None:
        """The last table: everybody is up and every slot has an owner."""
        for node in self.nodes:
            node.away = False
        last = self.tables[-1]
        self.tables.append(agreed(last.epoch + 1, last.workers, last.owner_of_slot))

    # -- nodes

    def learns(self, node: Node) -> None:
        seen = 0 if node.table is None else node.table.epoch
        if seen < len(self.tables) and not node.away:
            node.table = self.tables[self.random.randint(seen, len(self.tables) - 1)]
            node.reports.set_table(node.table, self.now)

    def is_current(self, node: Node, slot: int) -> bool:
        """Would the copies of a slot follow this node? Nothing is committed without them."""
        return node.table is not None and node.owns(node.table, slot) and node.owns(self.tables[-1], slot)

    def sends(self, node: Node) -> None:
        """Also one that is cut off and does not know that its slots have another owner."""
        if node.table is None:
            return
        for slot in range(SLOTS):
            kept = self.slots[slot].kept
            if node.owns(node.table, slot) and kept:
                name = self.random.choice(list(kept))
                self.in_flight.append((node, slot, name, kept[name], self.target(name)))

    def arrives(self) -> None:
        """Late, or twice; it is applied once, by who owns the slot and is followed by its copies."""
        if not self.in_flight:
            return
        sender, slot, name, level, to = self.random.choice(self.in_flight)
        if level + 1 == LEVELS:
            sender.written.add(name)
        else:
            if not any(self.is_current(node, to) and not node.away for node in self.nodes):
                return
            if f"{name}'" not in self.slots[to].known:
                self.slots[to].known.add(f"{name}'")
                self.slots[to].kept[f"{name}'"] = level + 1
        if self.is_current(sender, slot) and not sender.away and self.slots[slot].kept.pop(name, None) is not None:
            self.slots[slot].over[name] = level

    def claims(self, node: Node) -> None:
        """As the data plane does; `all` in hand counts, not only what is of this level."""
        if node.table is None:
            return
        progress = node.progress
        mine = [slot for slot in range(SLOTS) if node.owns(node.table, slot)]
        lowest = min((level for slot in mine for level in self.slots[slot].kept.values()), default=LEVELS)
        if progress.may_drain() and lowest > progress.drained:
            progress.drain()
        if progress.may_flush():
            progress.flush()
            node.flushes.append(set(node.written))
        self.tells(node)

    def flushes(self, node: Node) -> None:
        if node.flushes:
            self.flushed |= node.flushes.pop(0)
            node.progress.flushed()

    def tells(self, node: Node) -> None:
        self.now += 1
        if node.reports.due(self.now, node.progress.drained, False):
            for effect in node.reports.tell(node.report(), self.now):
                assert isinstance(effect, Transmit)
                report = decode_with_values(effect.payload)
                assert isinstance(report, Report)
                to = next(place for place, other in enumerate(self.nodes) if other.id == effect.to)
                self.links.setdefault((self.nodes.index(node), to), []).append(report)

    def hears(self) -> None:
        links = [pair for pair, waiting in self.links.items() if waiting and not self.nodes[pair[1]].away]
        if links:
            sender, to = self.random.choice(links)
            report = self.links[sender, to].pop(0)
            self.nodes[to].reports.received(self.nodes[sender].id, report)
            if self.random.random() < 0.2:  # an old one, once more
                self.nodes[to].progress.heard(self.nodes[sender].id, report)

    def step(self) -> None:
        """Work is rare, so that claims are made as soon as they may be."""
        node = self.random.choice(self.nodes)
        if self.random.random() < self.industry:
            self.sends(node)
            self.arrives()
        elif self.random.random() < 0.5:
            self.hears()
        else:
            self.random.choice([self.learns, self.claims, self.flushes])(node)
        for each in self.nodes:
            if each.progress.done() and not each.done:
                each.done = True
                assert not self.left(), f"{each.id[0]} says done"

    def run(self, changes: int) -> None:
        for _ in range(changes):
            for _ in range(self.random.choice([0, 10, 50, 200])):
                self.step()
            self.table_changes()
        self.settle()
        for _ in range(20_000):
            if all(node.done for node in self.nodes):
                return
            self.step()
        raise AssertionError([(node.progress.drained, node.table and node.table.epoch) for node in self.nodes])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_done_is_never_said_while_something_is_left_and_is_said_in_the_end(seed: int) -> None:
    world = World(seed)
    world.run(changes=world.random.randint(0, 8))
    assert not world.left()


ME, OTHER, THIRD = (bytes([number]) * 16 for number in (1, 2, 3))


def said(epoch: int, drained: int) -> Report:
    return Report(epoch, drained, False, 0, 0, 0, 0, ())


def begun(epoch: int = 1, levels: int = 1) -> KeptProgress:
    progress = KeptProgress(levels)
    progress.begin(epoch, [OTHER], True)
    return progress


def test_a_new_table_takes_all_claims_back_and_the_same_one_does_not() -> None:
    progress = begun()
    progress.drain()
    progress.heard(OTHER, said(1, 1))
    assert not progress.begin(1, [OTHER], True)
    assert (progress.drained, progress.may_flush()) == (1, True)
    assert progress.begin(2, [OTHER], True)
    assert progress.drained == 0
    progress.drain()
    assert not progress.may_flush()
    progress.heard(OTHER, said(1, 1))
    assert not progress.may_flush(), "it was claimed under another table"
    progress.heard(OTHER, said(2, 1))
    assert progress.may_flush()


def test_an_older_claim_of_the_same_epoch_takes_nothing_back() -> None:
    progress = begun()
    progress.heard(OTHER, said(1, 1))
    progress.heard(OTHER, said(1, 0))
    progress.drain()
    assert progress.may_flush()


@pytest.mark.parametrize("status", [PENDING, LOST])
def test_nobody_claims_while_a_slot_has_nobody_who_answers_for_it(status: int) -> None:
    progress = KeptProgress(1)
    progress.set_table(ME, agreed(1, [ME, OTHER], [0, 1], statuses=[ACTIVE, status]))
    assert not progress.may_drain()
    progress.set_table(ME, agreed(2, [ME, OTHER], [0, 1], down=[OTHER]))
    assert not progress.may_drain()
    progress.set_table(ME, agreed(3, [ME, OTHER], [0, 0], down=[OTHER]))
    assert progress.may_drain()


def test_who_is_down_is_not_asked_and_strangers_have_no_say() -> None:
    progress = KeptProgress(1)
    progress.set_table(ME, agreed(1, [ME, OTHER, THIRD], [0, 1], down=[THIRD]))
    progress.drain()
    progress.heard(THIRD, said(1, 1))
    progress.heard(b"stranger" * 2, said(1, 1))
    assert not progress.may_flush()
    progress.heard(OTHER, said(1, 1))
    assert progress.may_flush()


def test_sinks_that_were_flushed_for_an_earlier_epoch_are_flushed_again() -> None:
    progress = KeptProgress(1)
    for epoch in (1, 2):
        progress.begin(epoch, [], True)
        progress.drain()
        progress.flush()
        assert not progress.may_flush()
    progress.flushed()
    assert not progress.done(), "something may have been written in between"
    progress.flushed()
    assert progress.done()


def test_done_stays_true_and_the_door_shut_but_the_levels_begin_anew() -> None:
    progress = begun()
    assert not progress.closed
    progress.drain()
    progress.heard(OTHER, said(1, 2))
    progress.flush()
    progress.flushed()
    assert progress.done()
    progress.begin(2, [OTHER, THIRD], True)
    assert (progress.done(), progress.closed, progress.drained) == (True, True, 0)


def test_a_claim_of_an_epoch_that_is_not_known_yet_counts_once_it_is() -> None:
    progress = KeptProgress(1)
    reports = Reports(ME, progress)
    reports.set_table(agreed(1, [ME, OTHER], [0, 1]), 0)
    progress.drain()
    reports.received(OTHER, said(2, 1))
    assert not progress.may_flush()
    reports.set_table(agreed(2, [ME, OTHER], [0, 1]), 0)
    progress.drain()
    assert progress.may_flush()


def test_what_a_node_claims_is_told_again_at_once_when_a_table_has_taken_it_back() -> None:
    progress = KeptProgress(1)
    reports = Reports(ME, progress)
    for epoch in (1, 2):
        reports.set_table(agreed(epoch, [ME, OTHER], [0, 1]), 0)
        progress.drain()
        assert reports.due(0, progress.drained, False)
        assert len(reports.tell(said(epoch, 1), 0)) == 1
        assert not reports.due(0, progress.drained, False)
