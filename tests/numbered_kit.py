"""One sender of numbered records, and owners whose slots change hands in every way that an agreement allows.

What an owner has taken is its log; the marks that keep it from taking anything twice are real. A log is committed up to
where its owner has answered; whoever is promoted has at least that, and perhaps more of it. Owners and the sender learn
tables late and skip some; owners die, are cut off for ever, or leave.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mesh.app.fragment import Fragment
from mesh.app.plan import StagePlan
from mesh.core.codec import decode_with_values
from mesh.core.events.planes import Delivered, TableAgreed
from mesh.core.intake import Intake, Waiting
from mesh.core.keys import slot_of_key
from mesh.core.marks import Marks
from mesh.core.messages import NodeId
from mesh.core.numbers import Numbers, Producer
from mesh.core.packing import Packed
from mesh.core.router import Router
from mesh.core.slot import ACTIVE, PENDING
from tests.tables import agreed

SLOTS, SEED, STAGES, SOURCES = 8, 0, 2, 2
ME = b"m" * 16
Name = tuple[Producer, int, int]  # producer, origin, number
Place = tuple[int, int]  # stage, slot
PLANS = [
    StagePlan(index, f"s{index}", index + 1, int, max, "fold", Fragment(lambda *_: None, (), ()), "app.py:1")
    for index in range(STAGES)
]


class Untravelled:
    """No codec takes it."""


@dataclass
class Config:
    """Of one slot, as in `slot`."""

    term: int
    owner: NodeId
    status: int
    since: int
    donor: NodeId | None = None
    asked_at: int = 0  # the epoch from which on whoever is asked must know that it is PENDING

    @property
    def source(self) -> NodeId:
        return self.owner if self.donor is None else self.donor


@dataclass
class Truth:
    """What one slot has taken at one stage, in its present reign; and of that, what it began with."""

    log: list[Name] = field(default_factory=list)
    base: int = 0
    committed: int = 0


@dataclass
class Entry:
    """A part of a batch that has been applied and is not answered."""

    batch: Waiting
    stage: int
    last: bool
    names: list[tuple[int, Name]]  # with their slots; those known before as well
    reigns: dict[int, int]  # slot -> in which it was applied


def names_of(numbers: Numbers) -> list[Name]:
    return [
        (producer, numbers.origins[index], numbers.numbers[index])
        for producer, start, end in numbers.runs()
        for index in range(start, end)
    ]


class Owner:
    """Applies what comes under the newest table that it knows, and answers what is committed, in order."""

    def __init__(self, me: NodeId, world: World) -> None:
        self.me, self.world = me, world
        self.intake = Intake(PLANS, numbered=True, sources=SOURCES, slots=SLOTS)
        self.marks = Marks(STAGES, SLOTS)
        self.logs: dict[Place, list[Name]] = {}
        self.epoch = 0
        self.configs: dict[int, Config] = {}
        self.active: dict[int, int] = {}
        self.begun: dict[int, int] = {}  # slot -> the reign that its log is of
        self.pending: deque[Entry] = deque()
        self.came: deque[bytes] = deque()
        self.told: deque[tuple[int, int, int, dict[int, int]]] = deque()  # answers on their way
        self.alive = True

    def learn(self, table: TableAgreed, configs: dict[int, Config]) -> None:
        known, self.epoch = self.epoch, table.epoch
        self.intake.set_table(table.epoch, table.workers)
        for slot, now in configs.items():
            if now.status != ACTIVE or now.owner != self.me:
                self.active.pop(slot, None)
            elif slot not in self.active or self.begun[slot] != now.since:
                self.active[slot] = known + 1
                if self.begun.get(slot) != now.since:
                    self.begin(slot, now.since)
        self.configs = configs

    def begin(self, slot: int, since: int) -> None:
        """Its reign starts, from what all copies have."""
        self.begun[slot] = since
        self.marks.drop(slot)
        for stage in range(STAGES):
            truth = self.world.truth[stage, slot]
            log = self.logs[stage, slot] = truth.log[: truth.base]
            if self.world.configs[slot].since == since:
                truth.log = log
            for (of_stage, number, split), origin, last in log:
                if of_stage:
                    self.marks.stages[stage].raise_stage(number, [origin], [slot], [last])
                else:
                    self.marks.stages[stage].raise_split((number, split), [slot], [last])

    def receive(self) -> None:
        payload = self.came.popleft()
        batch: Any = decode_with_values(payload)
        self.intake.delivered(Delivered(ME, batch.stage + 1, payload), batch)

    def apply(self, stage: int, most: int) -> None:
        batch, last = self.intake.take(stage, most)
        refused = [slot for slot in sorted(batch.slot_set()) if self.active.get(slot, batch.epoch + 1) > batch.epoch]
        part = batch.without(refused) if refused or batch.refused else batch
        assert part.numbers is not None
        names = names_of(part.numbers)
        assert [value for value in part.values if value != "same"] == [*map(str, names)][: len(part.values)]
        assert [slot_of_key(key, SEED, SLOTS) for key in part.keys] == [*part.slot_list()]
        self.pending.append(Entry(batch, stage, last, [*zip(part.slot_list(), names, strict=True)], self.begun.copy()))
        fresh = part.only(self.news(stage, part))
        assert fresh.numbers is not None
        for slot, name in zip(fresh.slot_list(), names_of(fresh.numbers), strict=True):
            self.logs[stage, slot].append(name)

    def news(self, stage: int, part: Waiting) -> list[bool]:
        assert part.numbers is not None
        found: list[bool] = []
        marks, slots = self.marks.stages[stage], part.slot_list()
        for (of_stage, number, split), start, end in part.numbers.runs():
            run, numbers = slots[start:end], part.numbers.numbers[start:end]
            if of_stage:
                news = marks.news_of_stage(number, part.numbers.origins[start:end], run, numbers)
            else:
                news = marks.news_of_split((number, split), run, numbers)
            found += [True] * len(numbers) if news is None else news
        return found

    def withdrawn(self, slot: int, entry: Entry) -> bool:
        """Does this node know that its reign, in which it applied this, is over?"""
        now = self.configs[slot]
        return now.source != self.me or now.since != entry.reigns[slot]

    def answer(self) -> bool:
        """The oldest, if all of it is committed or withdrawn."""
        entry = self.pending[0]
        left = [(slot, name) for slot, name in entry.names if not self.withdrawn(slot, entry)]
        for slot, name in left:
            truth = self.world.truth[entry.stage, slot]
            if name not in truth.log:
                return False  # nobody will ever have it from this owner, who does not know that yet
        for slot, name in left:
            truth = self.world.truth[entry.stage, slot]
            truth.committed = max(truth.committed, truth.log.index(name) + 1)
        for slot, _ in entry.names:
            if self.withdrawn(slot, entry):
                entry.batch.refused.setdefault(slot, entry.batch.start)
        self.pending.popleft()
        if entry.last:
            self.told.append((entry.stage, entry.batch.number, self.epoch, entry.batch.refused))
        return True


class World:
    def __init__(self, seed: int, *, owners: int = 4, window: int = 400, batch: int = 6) -> None:
        self.random = Random(seed)
        nodes = [ME, *(bytes([97 + number]) * 16 for number in range(owners - 1))]
        self.nodes = {node: Owner(node, self) for node in nodes}
        self.router = Router(ME, [1, 2], SLOTS, SEED, window, batch, numbered=True)
        self.truth = {(stage, slot): Truth() for stage in range(STAGES) for slot in range(SLOTS)}
        self.workers, self.down, self.left = nodes, [], []  # type: tuple[list[NodeId], list[NodeId], list[NodeId]]
        self.configs = {slot: Config(1, self.random.choice(nodes), ACTIVE, 1) for slot in range(SLOTS)}
        self.tables: list[tuple[TableAgreed, dict[int, Config]]] = []
        self.next: dict[tuple[Producer, int], int] = {}
        self.put_names: dict[Place, list[Name]] = {}
        self.all_put: list[tuple[int, Name]] = []
        self.aside: list[tuple[int, Name]] = []
        self.over: list[tuple[int, Name]] = []
        self.agree()

    # -- the agreement

    def agree(self) -> None:
        places = {node: place for place, node in enumerate(self.workers)}
        configs = [self.configs[slot] for slot in range(SLOTS)]
        table = agreed(
            len(self.tables) + 1,
            self.workers,
            [places[each.owner] for each in configs],
            donors=[-1 if each.donor is None else places[each.donor] for each in configs],
            statuses=[each.status for each in configs],
            terms=[each.term for each in configs],
            down=self.down,
            left=self.left,
        )
        table = dataclasses.replace(table, since_of_slot=tuple(each.since for each in configs))
        self.tables.append((table, {slot: dataclasses.replace(each) for slot, each in self.configs.items()}))

    def change(self) -> None:
        """The next epoch."""
        for slot in self.random.sample(range(SLOTS), self.random.randint(0, SLOTS)):
            self.step(slot, self.configs[slot])
        self.seats()
        self.agree()

    def usable(self) -> list[NodeId]:
        return [node for node in self.workers if self.nodes[node].alive and node not in self.down]

    def knows(self, node: NodeId, epoch: int) -> bool:
        return self.nodes[node].epoch >= epoch

    def step(self, slot: int, now: Config) -> None:
        epoch, chance = len(self.tables) + 1, self.random.random()
        heirs = [node for node in self.usable() if node != now.owner]
        if now.status == PENDING:
            if now.donor != now.owner and chance < 0.3 and now.source in self.usable():
                self.configs[slot] = Config(now.term + 1, now.source, ACTIVE, now.since)  # called off
            elif heirs and (chance < 0.1 or now.owner not in self.usable()):
                self.promote(slot, now, self.random.choice(heirs), epoch)
            elif all(self.knows(node, now.asked_at) for node in (now.owner, now.source)):
                self.reign(slot, now)
        elif now.owner in self.down and heirs:
            self.promote(slot, now, self.random.choice(heirs), epoch)
        elif now.owner not in self.down and chance < 0.4:
            self.configs[slot] = Config(now.term + 1, now.owner, ACTIVE, now.since)  # other backups
        elif now.owner not in self.down and heirs and chance < 0.8:
            self.configs[slot] = Config(now.term + 1, self.random.choice(heirs), PENDING, now.since, now.owner, epoch)

    def promote(self, slot: int, now: Config, to: NodeId, epoch: int) -> None:
        self.configs[slot] = Config(now.term + 1, to, PENDING, now.term + 1, to, epoch)

    def reign(self, slot: int, now: Config) -> None:
        for stage in range(STAGES):
            truth = self.truth[stage, slot]
            kept = len(truth.log)
            if now.donor == now.owner:  # promoted: what was not acknowledged, it may have or not
                kept = self.random.randint(max(truth.committed, truth.base), kept)
            self.truth[stage, slot] = Truth(truth.log[:kept], kept, truth.committed)
        self.configs[slot] = Config(now.term, now.owner, ACTIVE, now.term)

    def seats(self) -> None:
        busy = {node for now in self.configs.values() for node in (now.owner, now.source)}
        for node in [*self.workers]:
            if node == ME:
                continue
            down = not self.nodes[node].alive or (node in self.down) != (self.random.random() < 0.1)
            ended = down and node not in busy and len(self.workers) > 2 and self.random.random() < 0.5
            self.down = [each for each in self.down if each != node] + [node] * (down and not ended)
            if ended:
                self.workers = [each for each in self.workers if each != node]

    def leave(self) -> None:
        """One that has no slots any more says that it answers nothing from now on."""
        busy = {node for now in self.configs.values() for node in (now.owner, now.source)}
        for node in self.workers:
            owner = self.nodes[node]
            if node != ME and node not in busy and len(self.workers) > 2 and owner.alive and not owner.told:
                owner.alive = False
                self.workers = [each for each in self.workers if each != node]
                self.down = [each for each in self.down if each != node]
                self.left.append(node)
                self.router.farewell(node, owner.epoch)
                self.agree()
                return

    # -- the sender

    def put(self, records: int, *, odd: bool) -> None:
        stage = self.random.randrange(STAGES)
        producers: list[Producer] = [(False, 0, "x"), (False, 0, "y"), (False, 1, "x")]
        if stage:
            producers.append((True, 0, ""))
        numbers, keys, values = Numbers(), [], []  # type: Numbers, list[Any], list[Any]
        for _ in range(self.random.randint(1, 2)):
            producer = self.random.choice(producers)
            numbers.begin(producer)
            for _ in range(records):
                number = self.next[producer, stage] = self.next.get((producer, stage), -1) + self.random.randint(1, 3)
                origin = self.random.randrange(SLOTS) if producer[0] else 0
                numbers.numbers.append(number)
                numbers.origins.append(origin)
                name = (producer, origin, number)
                key: Any = f"k{self.random.randrange(40)}"
                value: Any = str(name)
                self.all_put.append((stage, name))
                if odd and self.random.random() < 0.05:
                    key = True
                    self.aside.append((stage, name))
                else:
                    self.put_names.setdefault((stage, slot_of_key(key, SEED, SLOTS)), []).append(name)
                keys.append(key)
                values.append(value)
        self.router.put(stage, keys, values, numbers)
        self.send(self.router.full_batches([stage]))

    def send(self, batches: list[Packed]) -> None:
        for batch in batches:
            own = batch.records
            if own is None:
                self.nodes[batch.owner].came.append(batch.payload)
                continue
            self.nodes[ME].intake.put_own(
                batch.stage,
                Waiting(None, batch.number, batch.epoch, 0, own.keys, own.values, own.slots, numbers=own.numbers),
            )

    def learn(self, node: NodeId, epoch: int) -> None:
        table, configs = self.tables[epoch - 1]
        if node == ME:
            self.router.set_table(table)
            self.send(self.router.released())
        self.nodes[node].learn(table, configs)

    def hear(self, node: NodeId) -> None:
        stage, number, epoch, refused = self.nodes[node].told.popleft()
        assert self.router.done(node, stage, number, epoch, refused) is None
        self.send(self.router.released())

    # -- all of it

    def step_any(self, *, changes: bool = True) -> None:
        what = self.random.random()
        node = self.random.choice([*self.nodes])
        owner = self.nodes[node]
        if changes and what < 0.06:
            self.change()
        elif changes and what < 0.065 and node != ME and len(self.usable()) > 2:
            owner.alive = False
        elif changes and what < 0.07:
            self.leave()
        elif what < 0.2 and owner.alive and owner.epoch < len(self.tables):
            self.learn(node, self.random.randint(owner.epoch + 1, len(self.tables)))
        elif what < 0.3 and self.nodes[ME].epoch and changes and self.router.open_for(0):
            self.put(self.random.randint(1, 12), odd=True)
        elif what < 0.4:
            self.send(self.router.flush())
        elif what < 0.55 and owner.alive and owner.came:
            owner.receive()
        elif what < 0.75 and owner.alive:
            stage = self.random.randrange(STAGES)
            if owner.intake.ready(stage, ()):
                owner.apply(stage, self.random.choice([1, 3, 100]))
        elif what < 0.9 and owner.alive and owner.pending:
            owner.answer()
        elif owner.told:
            self.hear(node)
        self.over += [(stage, name) for stage, numbers in self.router.take_over() for name in names_of(numbers)]
        self.router.set_aside()

    def finish(self, most: int = 20_000) -> bool:
        """Nothing changes any more than must; is everything answered then?"""
        self.down = [node for node in self.workers if node in self.down or not self.nodes[node].alive]
        for _ in range(most):
            settled = all(now.status == ACTIVE and now.owner in self.usable() for now in self.configs.values())
            if not settled and self.random.random() < 0.2:
                for slot, now in self.configs.items():
                    self.step_to_rest(slot, now)
                self.agree()
            self.step_any(changes=False)
            if settled and self.router.idle():
                return True
        return False

    def step_to_rest(self, slot: int, now: Config) -> None:
        epoch, usable = len(self.tables) + 1, self.usable()
        if now.owner not in usable:
            self.promote(slot, now, self.random.choice(usable), epoch)
        elif now.status == PENDING and now.source not in usable:
            self.promote(slot, now, now.owner, epoch)
        elif now.status == PENDING and all(self.knows(node, now.asked_at) for node in (now.owner, now.source)):
            self.reign(slot, now)
