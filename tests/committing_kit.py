"""Owners and backups of a few slots on FIFO links, and an agreement that changes everything it may, as a seed chooses.

Nodes learn tables late and skip some; an owner may be promoted away while it lives and knows nothing of it, or because
it has crashed. One sender sends the records of one stream, again if need be; one consumer takes what is given out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from mesh.app.fragment import Emit, Fragment
from mesh.app.plan import StagePlan
from mesh.core.codec import decode_with_values
from mesh.core.committing import Committing
from mesh.core.configuration import Configuration
from mesh.core.events import Delivered, SlotsInstalled, Transmit
from mesh.core.filling import OwnerSnapshot
from mesh.core.marks import Marks
from mesh.core.messages import NodeId, PacksTaken
from mesh.core.owner import Owner
from mesh.core.packs import Outputs, Shape, pack_of
from mesh.core.replicas import Replicas, Taken
from mesh.core.table import ACTIVE, PENDING
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


class Node:
    def __init__(self, me: NodeId, world: World) -> None:
        self.me = me
        self.world = world
        self.owner = Owner([PLAN], SLOTS, SEED)
        self.marks = Marks(1, SLOTS)
        self.next_output = [0]
        self.replicas = Replicas(me, SHAPE, self.marks)
        snapshot = OwnerSnapshot(me, self.owner, self.marks, self.next_output)
        self.committing = Committing(me, snapshot, window_bytes=world.window, part_bytes=world.part)
        self.epoch = 0
        self.table: dict[int, Configuration] = {}
        self.active: dict[int, int] = {}  # slot -> since which epoch
        self.waiting: deque[Batch] = deque()
        self.given: deque[Outputs] = deque()  # to the consumer
        self.alive = True

    def learn(self, epoch: int, table: dict[int, Configuration]) -> None:
        before, former = self.epoch, self.table
        self.epoch, self.table = epoch, table
        changed = {slot: now for slot, now in table.items() if former.get(slot) != now}
        for slot, now in changed.items():
            if now.owner != self.me or now.status != ACTIVE:
                self.active.pop(slot, None)
            elif slot not in self.active:  # who never saw itself sealed has refused nothing, whatever it leapt over
                self.active[slot] = before + 1
        for slot, now in changed.items():
            if slot in former and former[slot].source == self.me != now.source and slot not in self.replicas.copies:
                self.leave(slot, now)
        own = self.replicas.set_table(epoch, changed, self.world.living())
        self.committing.set_table(epoch, changed, self.world.living())
        for slot in own:
            taken = self.replicas.take(slot)
            self.owner.stages[0].put([*taken.states[0]], [*taken.states[0].values()])
            self.committing.adopt(slot, taken)
            self.given.extend(out for _, _, _, out in taken.outputs)
        self.next_output[0] = max(self.next_output[0], self.replicas.next_output[0])
        self.world.took(self, self.replicas.judge_arrived())
        self.advance()

    def leave(self, slot: int, now: Configuration) -> None:
        states = self.owner.stages[0].states
        mine = {key: state for key, state in states.items() if self.world.slot_of[key] == slot}
        self.owner.drop(slot)
        if now.has_copy(self.me):
            self.replicas.keep(slot, Taken([mine], self.committing.outputs_of(slot)))
        else:
            self.marks.drop(slot)

    def advance(self) -> None:
        while self.waiting and self.waiting[0].epoch <= self.epoch and self.committing.open_for():
            self.apply(self.waiting.popleft())
        for done in self.committing.commit():
            numbers, refused = done.token
            lost = [n for n in numbers if self.world.slot(n) in done.withdrawn]
            self.world.answered(self.me, [n for n in numbers if n not in lost], refused + lost)
            self.given.extend(out for out in done.outputs if out.origins)
        self.committing.tell_over()
        self.world.took(self, self.committing.take_effects())

    def apply(self, batch: Batch) -> None:
        good = [n for n in batch.numbers if self.active.get(self.world.slot(n), batch.epoch + 1) <= batch.epoch]
        refused = [n for n in batch.numbers if n not in good]
        slots = [self.world.slot(n) for n in good]
        news = self.marks.stages[0].news_of_split(STREAM, slots, good)
        fresh = [n for place, n in enumerate(good) if news is None or news[place]]
        keys, own = [self.world.keys[n] for n in fresh], [self.world.slot(n) for n in fresh]
        self.owner.apply(0, keys, fresh)
        pack = pack_of(0, keys, own, self.owner.stages[0].states)
        last = dict(zip(slots, good, strict=True))  # what was known before is waited for, too
        pack.splits = [(STREAM, [*last], [*last.values()])] if last else []
        first = self.next_output[0]
        self.next_output[0] = pack.next_output = first + len(fresh)
        if fresh:
            outs: list[Any] = [*fresh]
            pack.outputs = [Outputs(1, own, [*range(first, first + len(fresh))], outs, outs)]
        self.committing.add(pack, (good, refused))


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

    def living(self) -> list[NodeId]:
        return [*self.nodes]

    # -- what nodes say

    def took(self, node: Node, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.links.setdefault((node.me, effect.to), deque()).append(effect.payload)
            elif isinstance(effect, SlotsInstalled):
                for name in effect.slots:
                    self.installed.setdefault(name, []).append(node.me)

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

    def claims(self, node: Node) -> None:
        for slot, term in node.committing.filled():
            joiner = node.table[slot].joining
            assert joiner is not None
            self.installed.setdefault((slot, -term), []).append(joiner)

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
            node.committing.send_some()
        elif choice < 0.75:
            self.learn(node)
        elif choice < 0.8:
            self.sender_epoch = self.random.randint(self.sender_epoch, len(self.tables))
        elif choice < 0.9:
            self.consume(node)
        if node.alive:
            self.claims(node)
            node.advance()

    def deliver(self) -> None:
        busy = [name for name, link in self.links.items() if link and self.nodes[name[1]].alive]
        if not busy:
            return
        source, to = self.random.choice(busy)
        node, payload = self.nodes[to], self.links[source, to].popleft()
        message = decode_with_values(payload)
        if isinstance(message, PacksTaken):
            node.committing.taken(source, message.number, message.epoch)
        else:
            self.took(node, node.replicas.delivered(Delivered(source, 15, payload), message))
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
        node.committing.over(0, out.origins, out.numbers)
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
                node.committing.send_some()
                self.claims(node)
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
        quiet = not any(node.given or node.waiting or node.committing.busy() for node in living)
        if any(now.status == PENDING for now in self.tables[-1].values()):
            return False
        if any(link and self.nodes[to].alive for (_, to), link in self.links.items()):
            return False
        return self.read == self.records and not any(self.unanswered.values()) and quiet

    # -- what must hold

    def check(self) -> None:
        """Whoever may own a slot has a prefix of its records, all that were answered, and marks that agree with it."""
        for node in (node for node in self.nodes.values() if node.alive):
            for slot, copy in node.replicas.copies.items():
                if copy.complete:
                    self.check_slot(node, slot, copy.states[0])
            for slot in node.active:
                if slot not in node.replicas.copies:
                    states = node.owner.stages[0].states
                    self.check_slot(node, slot, {k: v for k, v in states.items() if self.slot_of[k] == slot})
            for lane in node.committing.lanes():
                assert lane.bytes_in_flight <= self.window + 4000

    def check_slot(self, node: Node, slot: int, states: dict[Any, Any]) -> None:
        mine = [n for n in range(self.records) if self.slot(n) == slot]
        count = sum(map(len, states.values()))
        assert sorted(n for state in states.values() for n in state) == mine[:count], "not a prefix, or not once"
        assert all(list(state) == sorted(state) for state in states.values()), "not in order"
        last = mine[count - 1] if count else -1
        stage = node.marks.stages[0]
        assert not any(stage.known(STREAM, slot, n) for n in mine[count:]), "a mark above the state"
        assert count == 0 or stage.known(STREAM, slot, last), "a mark below the state"
        now = self.tables[-1][slot]
        if node.me == now.owner and now.status == ACTIVE and node.epoch == len(self.tables):
            answered = [n for n in mine if n < self.read and n not in self.unanswered[slot]]
            assert mine[: len(answered)] == answered
            assert count >= len(answered), "answered, and not in the state"

    def check_end(self) -> None:
        assert self.at_rest(), "something waits for ever"
        living = [node for node in self.nodes.values() if node.alive]
        for slot in range(SLOTS):
            mine = [n for n in range(self.records) if self.slot(n) == slot]
            assert self.result[slot] == mine, "given out not once each, or not in order"
            now = self.tables[-1][slot]
            for name in (now.owner, *now.backups):
                node = self.nodes[name]
                copy = node.replicas.copies.get(slot)
                states = node.owner.stages[0].states if copy is None else copy.states[0]
                mine_there = [n for key, state in states.items() if self.slot_of[key] == slot for n in state]
                assert sorted(mine_there) == mine, "a copy that has not all"
        for node in living:
            assert not node.replicas.outputs.packs, "outputs that nobody frees"


def _slots() -> dict[str, int]:
    from mesh.core.keys import slot_of_key

    return {key: slot_of_key(key, SEED, SLOTS) for key in KEYS}


SHAPE_SLOT = _slots()
