"""Owners and backups of a few slots on FIFO links, and an agreement that changes everything it may, as a seed chooses.

Nodes learn tables late and skip some; an owner may be promoted away while it lives and knows nothing of it, or because
it has crashed. One sender sends the records of one stream, again if need be; one consumer takes what is given out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from mesh.app.fragment import Emit, Fragment
from mesh.app.plan import StagePlan
from mesh.core.codec import decode_with_values
from mesh.core.configuration import Configuration
from mesh.core.events import Log
from mesh.core.events.planes import Delivered, SlotsInstalled, TableAgreed, Transmit
from mesh.core.keeping import Keeping
from mesh.core.messages import NodeId
from mesh.core.messages.states import PacksTaken
from mesh.core.numbers import Numbers
from mesh.core.owner import Owner
from mesh.core.packs import Outputs, Pack, Shape, Window, pack_of
from mesh.core.slot import ACTIVE, PENDING
from mesh.core.slot_splits import SlotSplits, split_key
from mesh.core.windows import NEW, numbers_from_bytes
from tests.packs_kit import SEED, keys_of_slot

SLOTS = 4
KEYS = [key for slot in range(SLOTS) for key in keys_of_slot(2 * slot, 2)]  # of 8 slots' even ones: all of 4
SHAPE = Shape(sources=1, stages=1, targets=2, slots=SLOTS, seed=SEED)
STREAM = (0, "x")


def nothing(keys: list[Any] | None, values: list[Any], out: Emit) -> None:
    pass


PLAN = StagePlan(0, "s", 1, tuple, lambda state, n: (*state, n), "fold", Fragment(nothing, (), ()), "x.py:1")


@dataclass
class Batch:
    """Records to one owner: numbers, and the sender's epoch."""

    epoch: int
    numbers: list[int]


@dataclass
class Read:
    """Somebody has seen so many records of a slot here, and waits until that counts."""

    slot: int
    count: int
    answered: int  # records of the slot that had been answered when it came


class Node:
    def __init__(self, me: NodeId, world: World) -> None:
        self.me = me
        self.world = world
        self.splits = SlotSplits()
        self.owner = Owner([PLAN], SLOTS, SEED, self.splits)
        self.keeping = Keeping(me, self.owner, SHAPE, world.window, world.part)
        self.waiting: deque[Batch] = deque()
        self.given: deque[Outputs] = deque()  # to the consumer
        self.alive = True

    @property
    def epoch(self) -> int:
        return self.keeping.holdings.epoch

    def learn(self, epoch: int, table: dict[int, Configuration]) -> None:
        self.world.took(self, self.keeping.set_table(agreed(epoch, table, self.world.living())))
        self.given.extend(out for _, out in self.keeping.adopted())
        self.advance()

    def advance(self) -> None:
        while self.waiting and self.waiting[0].epoch <= self.epoch and self.keeping.open_for():
            self.apply(self.waiting.popleft())
        for done in self.keeping.committed():
            if isinstance(done.token, Read):
                self.world.was_read(done.token, withdrawn=done.token.slot in done.withdrawn)
            elif done.token is not None:
                numbers, refused = done.token
                lost = [n for n in numbers if self.world.slot(n) in done.withdrawn]
                self.world.answered(self.me, [n for n in numbers if n not in lost], refused + lost)
            self.given.extend(out for out in done.outputs if out.origins)
        self.world.took(self, self.keeping.take_effects())

    def apply(self, batch: Batch) -> None:
        refuses = self.keeping.holdings.refused(batch.epoch, lambda: {*map(self.world.slot, batch.numbers)})
        good = [n for n in batch.numbers if self.world.slot(n) not in refuses]
        refused = [n for n in batch.numbers if n not in good]
        slots, numbers = [self.world.slot(n) for n in good], named(good)
        news = self.keeping.news(0, slots, numbers)
        fresh = [n for place, n in enumerate(good) if news is None or news[place]]
        keys, own = [self.world.keys[n] for n in fresh], [self.world.slot(n) for n in fresh]
        self.owner.apply(0, keys, fresh)
        pack = pack_of(0, keys, own, self.owner.stages[0].states)
        pack.mark(slots, numbers)
        posted = [n for n in fresh if n % 3 == 0]
        if posted:
            pack.windows.append(Window(0, "p", [self.world.slot(n) for n in posted], posted, posted))
            for n in posted:
                assert self.owner.windows.take(self.world.slot(n), 0, "p", n, n) == NEW
        first = self.keeping.next_output(0, len(fresh))
        if fresh:
            outs: list[Any] = [*fresh]
            pack.outputs = [Outputs(1, own, [*range(first, first + len(fresh))], outs, outs)]
        self.keeping.add(pack, (good, refused))
        self.save([*dict.fromkeys(own)])

    def save(self, slots: list[int]) -> None:
        """How far it has come, as a reader would."""
        keys = [split_key(slot, 0, "x") for slot in slots]
        states = [(self.count(slot), (0, 0), False, 0, 0) for slot in slots]
        self.splits.put(keys, states)
        self.keeping.add(Pack(b"", 0, 2, slots, keys, states), None)

    def count(self, slot: int) -> int:
        states = self.owner.stages[0].states
        return sum(len(state) for key, state in states.items() if self.world.slot_of[key] == slot)

    def read(self, slot: int) -> None:
        if slot in self.keeping.holdings.active:
            answered = sum(n < self.world.read and n not in self.world.unanswered[slot] for n in self.world.of(slot))
            self.keeping.wait([slot], Read(slot, self.count(slot), answered))


def named(numbers: list[int]) -> Numbers:
    found = Numbers()
    found.begin((False, 0, "x"))
    found.numbers, found.origins = [*numbers], [0] * len(numbers)
    return found


def given_out(out: Outputs) -> Numbers:
    found = Numbers()
    found.begin((True, 0, ""))
    found.numbers, found.origins = out.numbers, out.origins
    return found


def agreed(epoch: int, table: dict[int, Configuration], workers: Sequence[NodeId]) -> TableAgreed:
    place, slots = {node: number for number, node in enumerate(workers)}, [table[slot] for slot in sorted(table)]
    return TableAgreed(
        epoch,
        tuple(workers),
        tuple(workers),
        tuple(place[each.owner] for each in slots),
        tuple(-1 if each.donor is None else place[each.donor] for each in slots),
        tuple(each.status for each in slots),
        tuple(each.term for each in slots),
        bytes(16),
        since_of_slot=tuple(each.since for each in slots),
        backups_of_slot=tuple(tuple(place[node] for node in each.backups) for each in slots),
        joining_of_slot=tuple(-1 if each.joining is None else place[each.joining] for each in slots),
        parting=tuple(number for number, each in enumerate(slots) if each.parts),
    )


@dataclass
class World:
    """All of it. `slots` is what the agreement says, in epoch `epoch`."""

    random: Random
    records: int = 40
    window: int = 1 << 20
    part: int = 1 << 18
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    links: dict[tuple[NodeId, NodeId], deque[bytes]] = field(default_factory=dict)
    tables: list[dict[int, Configuration]] = field(default_factory=list)  # of each epoch, the first is 1
    installed: dict[tuple[int, int], list[NodeId]] = field(default_factory=dict)  # (slot, term) -> who has all
    keys: list[str] = field(default_factory=list)
    result: dict[int, list[int]] = field(default_factory=lambda: {slot: [] for slot in range(SLOTS)})
    taken: dict[int, int] = field(default_factory=dict)  # the consumer's marks, by origin
    happened: dict[str, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)  # slot -> how many of its records somebody has read

    def __post_init__(self) -> None:
        self.keys = [self.random.choice(KEYS) for _ in range(self.records)]
        self.slot_of = dict(zip(KEYS, (SHAPE_SLOT[key] for key in KEYS), strict=True))
        for number in range(1, 4):
            self.spawn(number)
        everyone = [*self.nodes]
        first = {}
        for slot in range(SLOTS):
            owner, *backups = self.random.sample(everyone, self.random.randint(1, 3))
            first[slot] = Configuration(1, 1, owner, tuple(backups))
        self.tables.append(first)
        self.sender_epoch = 0
        self.unanswered: dict[int, list[int]] = {slot: [] for slot in range(SLOTS)}
        self.sent: dict[int, tuple[Any, int]] = {}  # slot -> to whom, and how many of the unanswered
        self.read = 0

    def spawn(self, number: int) -> None:
        self.nodes[bytes([number]) * 16] = Node(bytes([number]) * 16, self)

    def slot(self, number: int) -> int:
        return self.slot_of[self.keys[number]]

    def of(self, slot: int) -> list[int]:
        return [number for number in range(self.records) if self.slot(number) == slot]

    def living(self) -> list[NodeId]:
        return [*self.nodes]

    # -- what nodes say

    def took(self, node: Node, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.links.setdefault((node.me, effect.to), deque()).append(effect.payload)
            elif isinstance(effect, SlotsInstalled):
                for slot, term in effect.slots:
                    now = self.tables[node.epoch - 1][slot] if node.epoch else None
                    joiner = None if now is None or now.term != term else now.joining
                    name = (slot, term) if joiner is None else (slot, -term)
                    self.installed.setdefault(name, []).append(node.me if joiner is None else joiner)
            else:
                assert not isinstance(effect, Log), effect

    def was_read(self, read: Read, *, withdrawn: bool) -> None:
        self.note("not read" if withdrawn else "read")
        if not withdrawn:
            assert read.count >= read.answered, "an answered record is not read"
            self.seen[read.slot] = max(read.count, self.seen.get(read.slot, 0))

    def answered(self, owner: NodeId, numbers: list[int], refused: list[int]) -> None:
        for number in numbers:
            waiting = self.unanswered[self.slot(number)]
            if number in waiting:
                assert waiting[0] == number, "answers of a slot come in order"
                waiting.pop(0)
                to, sent = self.sent[self.slot(number)]
                self.sent[self.slot(number)] = to, sent - 1 if sent else 0
        for number in refused:
            if self.sent.get(self.slot(number), (None, 0))[0] == self.to(self.slot(number)):
                self.happened["refused"] = self.happened.get("refused", 0) + 1

    # -- the sender

    def to(self, slot: int) -> tuple[NodeId, int] | None:
        """Owner and reign. An owner that refused something and goes on must be in another reign: else who leaps over
        the pause sends on behind what was refused."""
        if not self.sender_epoch:
            return None
        now = self.tables[self.sender_epoch - 1][slot]
        return (now.owner, now.since) if now.status == ACTIVE else None

    def send(self, most: int) -> None:
        """New records are read, and to each owner goes what it was not sent."""
        for number in range(self.read, min(self.records, self.read + most)):
            self.unanswered[self.slot(number)].append(number)
            self.read = number + 1
        batches: dict[NodeId, list[int]] = {}
        for slot, waiting in self.unanswered.items():
            to = self.to(slot)
            if to is None:
                continue
            sent = self.sent[slot][1] if slot in self.sent and self.sent[slot][0] == to else 0
            batches.setdefault(to[0], []).extend(waiting[sent:])
            self.sent[slot] = to, len(waiting)
        for owner, numbers in batches.items():
            node = self.nodes[owner]
            if numbers and node.alive:
                node.waiting.append(Batch(self.sender_epoch, sorted(numbers)))
                node.advance()

    # -- the agreement

    def change(self) -> None:
        slot = self.random.randrange(SLOTS)
        now = self.tables[-1][slot]
        self.agree(slot, self.next_of(slot, now))

    def agree(self, slot: int, after: Configuration | None) -> None:
        if after is not None:
            self.tables.append({**self.tables[-1], slot: after})

    def next_of(self, slot: int, now: Configuration) -> Configuration | None:
        members = [*dict.fromkeys((now.owner, *now.backups, now.source))]
        heirs = [each for each in members if self.nodes[each].alive]
        promotes = now.status == PENDING and now.owner == now.donor
        if promotes and (slot, now.term) in self.installed and self.nodes[now.owner].alive:
            self.note("promoted")
            return Configuration(now.term, now.term, now.owner)
        down = not self.nodes[now.source].alive
        if down or (not promotes and len(heirs) > 1 and self.random.random() < 0.1):
            self.note("down" if down else "deposed")
            heir = self.random.choice(heirs)
            others = tuple(each for each in members if each != heir)
            return Configuration(now.term + 1, now.term + 1, heir, others, PENDING, heir)
        if now.status == PENDING:
            return None if promotes else self.next_of_hand_over(slot, now)
        if now.joining is not None and self.random.random() < 0.8:
            return self.joined(slot, now)
        choice = self.random.random()
        if choice < 0.3 and now.backups:
            gone = self.random.choice(now.backups)
            self.note("dropped")
            return replace(now, term=now.term + 1, backups=tuple(each for each in now.backups if each != gone))
        if choice < 0.6 and now.backups and now.joining is None:
            to = self.random.choice(now.backups)
            self.note("hand-over")
            rest = tuple(each for each in members if each != to)
            return Configuration(now.term + 1, now.since, to, rest, PENDING, now.owner)
        spare = [node.me for node in self.nodes.values() if node.alive and node.me not in members]
        if spare:
            self.note("joining")
            return replace(now, term=now.term + 1, joining=self.random.choice(spare))
        return None

    def next_of_hand_over(self, slot: int, now: Configuration) -> Configuration | None:
        have = self.installed.get((slot, now.term), [])
        others = [each for each in (now.owner, *now.backups) if each != now.donor]
        if all(node in have for node in others):
            self.note("handed over")
            return replace(now, since=now.term, status=ACTIVE, donor=None)
        living = tuple(each for each in others if self.nodes[each].alive)
        if len(living) < len(others) or self.random.random() < 0.1:
            self.note("called off")
            return Configuration(now.term + 1, now.term + 1, now.source, living)  # a reign of its own, see `to`
        return None

    def joined(self, slot: int, now: Configuration) -> Configuration | None:
        joiner = now.joining
        assert joiner is not None
        if joiner in self.installed.get((slot, -now.term), []) and self.random.random() < 0.9:
            self.note("joined")
            return replace(now, term=now.term + 1, backups=(*now.backups, joiner), joining=None)
        if not self.nodes[joiner].alive or self.random.random() < 0.05:
            return replace(now, term=now.term + 1, joining=None)
        return None

    def note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def learn(self, node: Node) -> None:
        if node.alive and node.epoch < len(self.tables):
            epoch = self.random.randint(node.epoch + 1, len(self.tables))
            node.learn(epoch, self.tables[epoch - 1])

    # -- faults

    def crash(self) -> None:
        """Somebody, if nothing is lost by it."""
        node = self.random.choice([node for node in self.nodes.values() if node.alive])
        for slot in range(SLOTS):
            now = self.tables[-1][slot]
            members = (now.owner, *now.backups, now.source)
            left = [each for each in members if self.nodes[each].alive and each != node.me]
            if not left:
                return
        node.alive = False
        self.note("crashed")
        for (_, to), link in self.links.items():
            if to == node.me:
                link.clear()
        for (source, _), link in self.links.items():
            while source == node.me and link and self.random.random() < 0.5:
                link.pop()  # of what was on its way a prefix comes
        if len(self.nodes) < 8:
            self.spawn(len(self.nodes) + 1)

    # -- all of it

    def step(self) -> None:
        node = self.random.choice([node for node in self.nodes.values() if node.alive])
        choice = self.random.random()
        if choice < 0.15:
            self.send(self.random.randint(0, 4))
        elif choice < 0.55:
            self.deliver()
        elif choice < 0.65:
            self.took(node, node.keeping.send_some())
        elif choice < 0.75:
            self.learn(node)
        elif choice < 0.8:
            self.sender_epoch = self.random.randint(self.sender_epoch, len(self.tables))
        elif choice < 0.9:
            self.consume(node)
        elif node.alive:
            node.read(self.random.randrange(SLOTS))
        if node.alive:
            node.advance()

    def deliver(self) -> None:
        busy = [name for name, link in self.links.items() if link and self.nodes[name[1]].alive]
        if not busy:
            return
        source, to = self.random.choice(busy)
        node, payload = self.nodes[to], self.links[source, to].popleft()
        message = decode_with_values(payload)
        if isinstance(message, PacksTaken):
            node.keeping.packs_taken(source, message)
        else:
            self.took(node, node.keeping.delivered(Delivered(source, 15, payload), message))
        node.advance()

    def consume(self, node: Node) -> None:
        if not node.alive or not node.given:
            return
        out = node.given.popleft()
        for origin, number, value in zip(out.origins, out.numbers, out.values, strict=True):
            if number > self.taken.get(origin, -1):
                self.taken[origin] = number
                self.result[origin].append(value)
            else:
                self.note("known output")
        node.keeping.over(0, given_out(out))
        node.advance()

    def run(self, faults: int) -> None:
        for _ in range(faults):
            for _ in range(self.random.randint(1, 25)):
                self.step()
            if self.random.random() < 0.12:
                self.crash()
            else:
                self.change()
            self.check()
        self.come_to_rest()

    def come_to_rest(self) -> None:
        """No more faults: whoever waits for a table gets one, and all comes to an end."""
        for _ in range(400):
            for slot in range(SLOTS):
                now = self.tables[-1][slot]
                if now.status == PENDING or not self.nodes[now.source].alive:
                    self.agree(slot, self.next_of(slot, now))
                now = self.tables[-1][slot]
                left = tuple(each for each in now.backups if self.nodes[each].alive)
                joining = now.joining if now.joining is not None and self.nodes[now.joining].alive else None
                if now.status == ACTIVE and (left, joining) != (now.backups, now.joining):
                    self.agree(slot, replace(now, term=now.term + 1, backups=left, joining=joining))
            self.sender_epoch = len(self.tables)
            for node in [node for node in self.nodes.values() if node.alive]:
                if node.epoch < len(self.tables):
                    node.learn(len(self.tables), self.tables[-1])
                self.took(node, node.keeping.send_some())
                node.advance()
                self.consume(node)
            self.send(4)
            for _ in range(30):
                self.deliver()
            if self.at_rest():
                break
        self.check()

    def at_rest(self) -> bool:
        living = [node for node in self.nodes.values() if node.alive]
        quiet = not any(node.given or node.waiting or node.keeping.busy() for node in living)
        if any(now.status == PENDING for now in self.tables[-1].values()):
            return False
        if any(link and self.nodes[to].alive for (_, to), link in self.links.items()):
            return False
        return self.read == self.records and not any(self.unanswered.values()) and quiet

    # -- what must hold

    def check(self) -> None:
        """Whoever may own a slot has a prefix of its records, all that were answered, and marks that agree with it."""
        for node in (node for node in self.nodes.values() if node.alive):
            copies = node.keeping.replicas.copies
            assert copies.keys().isdisjoint(node.keeping.holdings.here)
            for slot, copy in copies.items():
                if copy.complete:
                    self.check_slot(node, slot, copy.states[0])
            for slot in node.keeping.holdings.active:
                if slot not in copies:
                    states = node.owner.stages[0].states
                    self.check_slot(node, slot, {k: v for k, v in states.items() if self.slot_of[k] == slot})
            for lane in node.keeping.committing.lanes():
                assert lane.bytes_in_flight <= self.window + 4000

    def check_slot(self, node: Node, slot: int, states: dict[Any, Any]) -> None:
        mine = [n for n in range(self.records) if self.slot(n) == slot]
        count = sum(map(len, states.values()))
        assert sorted(n for state in states.values() for n in state) == mine[:count], "not a prefix, or not once"
        assert all(list(state) == sorted(state) for state in states.values()), "not in order"
        last = mine[count - 1] if count else -1
        stage = node.keeping.marks.stages[0]
        assert not any(stage.known(STREAM, slot, n) for n in mine[count:]), "a mark above the state"
        assert count == 0 or stage.known(STREAM, slot, last), "a mark below the state"
        posted = [n for n in mine if n % 3 == 0]
        assert windows_of(node, slot) == [n for n in posted if n in mine[:count]], "what was posted is not what counts"
        saved = node.splits.states.get(split_key(slot, 0, "x"), (0,))[0]
        assert saved <= count, "a split that is further than its records"
        now = self.tables[-1][slot]
        if node.me == now.owner and now.status == ACTIVE and node.epoch == len(self.tables):
            answered = [n for n in mine if n < self.read and n not in self.unanswered[slot]]
            assert mine[: len(answered)] == answered
            assert count >= len(answered), "answered, and not in the state"
            assert count >= self.seen.get(slot, 0), "read, and not in the state"

    def check_end(self) -> None:
        assert self.at_rest(), "something waits for ever"
        living = [node for node in self.nodes.values() if node.alive]
        for slot in range(SLOTS):
            mine = [n for n in range(self.records) if self.slot(n) == slot]
            assert self.result[slot] == mine, "given out not once each, or not in order"
            now = self.tables[-1][slot]
            for name in (now.owner, *now.backups):
                node = self.nodes[name]
                copy = node.keeping.replicas.copies.get(slot)
                states = node.owner.stages[0].states if copy is None else copy.states[0]
                mine_there = [n for key, state in states.items() if self.slot_of[key] == slot for n in state]
                assert sorted(mine_there) == mine, "a copy that has not all"
            saved = [self.nodes[name].splits.states.get(split_key(slot, 0, "x")) for name in (now.owner, *now.backups)]
            assert saved == saved[:1] * len(saved), "a copy that does not know how far a split is read"
        for node in living:
            assert not node.keeping.replicas.outputs.packs, "outputs that nobody frees"


def windows_of(node: Node, slot: int) -> list[int]:
    windows = node.owner.windows
    part = windows.part_above(slot, 0, "p", 0)
    return [] if part is None else [*numbers_from_bytes(part[1][1])]


def _slots() -> dict[str, int]:
    from mesh.core.keys import slot_of_key

    return {key: slot_of_key(key, SEED, SLOTS) for key in KEYS}


SHAPE_SLOT = _slots()
