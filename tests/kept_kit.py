"""Data planes that keep copies, under the real planner, while nodes die, are called dead, come back, join and leave.

Everything is drawn from one seed: who works next, which link delivers, who learns which table, when a sink has written,
what somebody outside asks. Links lose nothing while both processes live; of what a process that dies had sent, a prefix
comes. The agreement is a list of tables, `next_table` after `next_table`, with beliefs that come late and are wrong:
a process that is called dead may be paused, cut off, or in the best of health and told nothing.

Nobody is killed who alone has a slot (of the members that the newest table names): that much copies promise.
After `faults` steps of misfortune all who live are there again, and everything comes to its end.
What must hold is in `kept_checks`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any

from mesh.core.claims import Claims
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Event, Log, Millis, Received, Rejected, Woke
from mesh.core.events.planes import (
    Consumed,
    Delivered,
    Fenced,
    HandedOver,
    MemberChanged,
    SlotsInstalled,
    SlotsRooted,
    StartLeaving,
    Transmit,
)
from mesh.core.events.work import (
    Answered,
    FlushSinks,
    JobDone,
    ListSplits,
    ReadSplit,
    SinksFlushed,
    SinkWritten,
    SplitRead,
    SplitsListed,
    WriteSink,
)
from mesh.core.keeping import Keeping
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import Installed
from mesh.core.messages.members import ALIVE, DEAD, LEAVING, LEFT, READY, Member
from mesh.core.news import table_agreed
from mesh.core.numbers import Numbers
from mesh.core.planner import first_table
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, Slot
from mesh.core.table import WORKER, Table
from mesh.core.transitions import next_table
from tests.kept_checks import ASKS, Id, Job, Truth, plan_of
from tests.kept_people import People

CLUSTER = b"c" * 16
STEPS = 400_000
SLOWLY = 1_000  # steps in the end at the pace of before


@dataclass
class Sink:
    """Items that were given to one and are not told to be there; the first `stored` of them are."""

    waiting: deque[tuple[Any, Any]] = field(default_factory=deque)  # (name, item)
    stored: int = 0


@dataclass
class Node:
    """A process."""

    id: NodeId
    name: str
    data: DataPlane
    pending: deque[Event] = field(default_factory=deque)  # answers, and other news, that it waits for
    sinks: list[Sink] = field(default_factory=lambda: [Sink(), Sink(), Sink()])
    known: int = 0  # tables that it has learnt
    speed: float = 1.0
    attention: float = 1.0  # how soon it looks at a new table
    deaf: int = 0  # until this step it learns none
    slandered: int = 0  # until this step it is called dead
    runs: bool = True
    linked: bool = True
    alive: bool = True
    flushing: int = 0  # answers that are due
    leaving: bool = False
    handed_over: bool = False
    done: bool = False
    logs: list[Log] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}.{self.id[0]}"


class World:
    """All of it."""

    def __init__(
        self,
        job: Job,
        random: Random,
        *,
        nodes: int = 3,
        copies: int = 2,
        slots: int = 8,
        faults: int = 20,
        every: int = 60,
        window: int = 1 << 20,
        batch_records: int = 4096,
        witnesses: int = 0,
        kinds: Sequence[str] = (),
        keeps: bool = True,
    ) -> None:
        """A fault of `kinds`, all if none are named, about every `every` steps."""
        self.keeps = keeps
        self.job, self.random, self.slots = job, random, slots
        self.faults, self.every, self.window, self.batch_records = faults, every, window, batch_records
        self.kinds = [*kinds] or ["crash", "crash", "pause", "cut", "slander", "fence", "join", "replace", "leave"]
        self.now: Millis = 0
        self.story: list[str] | None = None  # told if it is a list
        self.happened: dict[str, int] = {}
        self.steps = 0
        self.nodes: dict[NodeId, Node] = {}
        self.members: dict[NodeId, Member] = {}  # what is believed
        self.absent: dict[NodeId, None] = {}
        self.links: dict[tuple[NodeId, NodeId, int], deque[bytes]] = {}
        self.unconsumed: dict[tuple[NodeId, NodeId, int], int] = {}
        self.slow_links: dict[tuple[NodeId, NodeId], float] = {}
        self.stored: list[dict[Any, Any]] = [{}, {}, {}]
        self.truth = Truth(job, slots, self.seen_by_members)
        for number in range(nodes + witnesses):
            self.start(f"n{number}", "worker" if number < nodes else "witness")
        table = first_table([*self.members.values()], CLUSTER, slots, copies)
        self.history: list[Table] = [table]
        self.claims = Claims(b"p" * 16)
        self.claims.agreed(table)
        self.people = People(job, random, self.truth, self.give, self.note, self.tell)
        ways = [
            (self._deliver, 34), (self._work, 30), (self._answer, 14), (self._learn, 5), (self._plan, 2),
            (self._notice, 1), (self._store, 4), (self._tell_stored, 4), (self._outside, 4), (self._a_moment, 1),
        ]  # fmt: skip
        self._ways = [way for way, _ in ways]
        self._often = [*accumulate(often for _, often in ways)]

    @property
    def table(self) -> Table:
        return self.history[-1]

    def note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def tell(self, *words: Any) -> None:
        if self.story is not None:
            self.story.append(f"{self.steps}: " + " ".join(map(str, words)))

    # -- processes

    def start(self, name: str, role: str = WORKER) -> Node:
        me = bytes([len(self.nodes) + 1]) * 16
        plan = plan_of(self.job, partial(self._taking, me))
        data = DataPlane(me, plan, self.slots, 0, self.window, self.batch_records, keeps=self.keeps)
        speed, attention = self.random.choice((1.0, 1.0, 0.2)), self.random.choice((1.0, 1.0, 0.2, 0.03))
        node = self.nodes[me] = Node(me, name, data, speed=speed, attention=attention)
        self.members[me] = Member(me, name, f"tcp://{name}:1", f"{name}:2", role, "", 1, ALIVE)
        for other in self.nodes:
            for pair in ((me, other), (other, me)):
                self.slow_links[pair] = self.random.choice((1.0, 1.0, 1.0, 0.1))
        return node

    def living(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    def running(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive and node.runs]

    def _taking(self, me: NodeId, stage: int, key: Any, state: Sequence[Id], record: Id) -> None:
        slot = self.table.slots[self.truth.slot_of(key)]
        reigns = not self.keeps or self.table.members[slot.owner].node == me
        self.truth.taking(str(self.nodes[me]), stage, key, state, record, reigns=reigns)

    def keeping(self, node: Node) -> Keeping:
        keeping = node.data.handoff
        assert isinstance(keeping, Keeping)
        return keeping

    def state_at(self, node: Node, slot: int, stage: int, key: Any) -> Any:
        copy = self.keeping(node).replicas.copies.get(slot) if self.keeps else None
        states = node.data.owner.stages[stage].states if copy is None else copy.states[stage]
        return states.get(key, ())

    def seen_by_members(self, slot: int) -> list[tuple[str, Callable[[int, Any], Any]]]:
        """Of the newest table."""
        if not self.keeps:
            return []
        nodes = [self.nodes[self.table.members[place].node] for place in self.table.slots[slot].members]
        return [(str(node), partial(self.state_at, node, slot)) for node in nodes if node.alive]

    # -- misfortune

    def _fault(self) -> None:
        kind = self.random.choice(self.kinds)
        getattr(self, "_" + kind)()

    def _may_die(self, node: Node) -> bool:
        """Nothing is lost by it."""
        for slot in self.table.slots:
            have = [self.nodes[self.table.members[place].node] for place in slot.members]
            if not any(each.alive and each is not node for each in have):
                return False
        return any(
            not each.leaving and self.members[each.id].role == WORKER for each in self.living() if each is not node
        )

    def _crash(self) -> None:
        mortal = [node for node in self.living() if self._may_die(node)]
        if mortal:
            self.kill(self.random.choice(mortal))

    def kill(self, node: Node) -> None:
        self.note("crash")
        self.tell(node, "dies")
        self._end(node)
        for (source, _, _), queue in self.links.items():
            while source == node.id and queue and self.random.random() < 0.3:
                queue.pop()

    def _end(self, node: Node) -> None:
        """What comes to it goes nowhere, and who asked it asks somebody else."""
        node.alive = node.runs = False
        for (_, target, _), queue in self.links.items():
            if target == node.id:
                queue.clear()
        for ticket, attempt in self.people.attempts.items():
            if attempt.node == node.id and not attempt.outcome:
                self.people.has_outcome(ticket, "gone")

    def _replace(self) -> None:
        """A new process under the name of one that died."""
        names = [node.name for node in self.living()]
        dead = [node for node in self.nodes.values() if not node.alive and node.name not in names]
        dead = [node for node in dead if self.members[node.id].status != LEFT]
        if dead and len(self.nodes) < 9:
            self.note("replace")
            old = self.random.choice(dead)
            self._believe(old, DEAD)
            self._newcomer(old.name)

    def _join(self) -> None:
        if len(self.living()) < 4 and len(self.nodes) < 9:
            self.note("join")
            self._newcomer(f"n{len(self.nodes)}")

    def _newcomer(self, name: str) -> None:
        node = self.start(name)
        node.known = len(self.history) - 1
        self.tell(node, "comes")
        self._tell_others(node)

    def _leave(self) -> None:
        staying = [node for node in self.running() if not node.leaving]
        if len(staying) > 1:
            self.note("leave")
            node = self.random.choice(staying)
            self.tell(node, "shall leave")
            node.leaving = True
            node.pending.append(StartLeaving())
            self.members[node.id] = replace(self.members[node.id], leaving=LEAVING)
            self._tell_others(node)

    def _somebody(self) -> Node | None:
        well = [node for node in self.running() if node.linked]
        return self.random.choice(well) if len(well) > 1 else None

    def _pause(self) -> None:
        if (node := self._somebody()) is not None:
            self.note("pause")
            self.tell(node, "is paused")
            node.runs = False

    def _cut(self) -> None:
        if (node := self._somebody()) is not None:
            self.note("cut")
            self.tell(node, "is cut off")
            node.linked = False
            if self.random.random() < 0.3:
                node.pending.append(Fenced(True))

    def _fence(self) -> None:
        if (node := self._somebody()) is not None:
            node.pending += [Fenced(True), Fenced(False)]

    def _slander(self) -> None:
        """It is well, and called dead; and perhaps nobody tells it for long."""
        if (node := self._somebody()) is not None:
            self.note("slander")
            self.tell(node, "is called dead")
            node.deaf = self.steps + self.random.choice((0, 100, 300, 1500))
            node.slandered = self.random.choice((self.steps, node.deaf))
            self._believe(node, DEAD)

    def _betray(self) -> None:
        """A copy is well, and called dead; and its owner dies before anybody knows of the one or the other."""
        slot = self.random.choice(self.table.slots)
        owner, *copies = [self.nodes[self.table.members[place].node] for place in (slot.owner, *slot.backups)]
        well = [copy for copy in copies if copy.runs and copy.linked and copy.alive]
        if well and owner.alive and self._may_die(owner):
            self.note("slander")
            self._believe(well[0], DEAD)
            self.kill(owner)

    def _return(self, node: Node) -> None:
        if not node.runs or not node.linked:
            self.tell(node, "is back")
            node.runs = node.linked = True
            node.pending.append(Fenced(False))

    # -- beliefs

    def _notice(self, *, chance: float = 0.5) -> bool:
        """Somebody's state is found out; who is away may come back."""
        for node in self.living():
            if (not node.runs or not node.linked) and self.random.random() < 0.15:
                self._return(node)
        wrong = [node for node in self.nodes.values() if self._is_mistaken(node)]
        if not wrong or self.random.random() >= chance:
            return False
        node = self.random.choice(wrong)
        self._believe(node, ALIVE if node.alive and node.runs and node.linked else DEAD)
        return True

    def _is_mistaken(self, node: Node) -> bool:
        status = self.members[node.id].status
        if node.alive and self.steps < node.slandered:
            return False
        return status != LEFT and (status == ALIVE) != (node.alive and node.runs and node.linked)

    def _believe(self, node: Node, status: int) -> None:
        if self.members[node.id].status == status:
            return
        self.tell(node, "is believed", "alive" if status == ALIVE else "dead")
        self.members[node.id] = replace(self.members[node.id], status=status)
        self.absent.pop(node.id, None)
        if status == DEAD and self.random.random() < 0.5:
            self.absent[node.id] = None
        self._tell_others(node)

    def _tell_others(self, node: Node) -> None:
        """Not everybody hears that a node is down; that it is up, everybody does."""
        member = self.members[node.id]
        for other in self.living():
            if other is not node and (member.status == ALIVE or self.random.random() < 0.7):
                other.pending.append(MemberChanged(member, ALIVE))

    # -- the agreement

    def _plan(self) -> bool:
        """The next table, if there is anything to be done."""
        if self.absent and self.random.random() < 0.1:
            self.absent.popitem()
        mourned = self.random.random() < 0.7
        table = next_table(self.table, self._facts(mourned))
        if table is not None and self._leaves_nobody(table):
            for node in self.nodes.values():
                if not node.alive:
                    self._believe(node, DEAD)
            table = next_table(self.table, self._facts(mourned))
        if table is None:
            return False
        before = self.table
        self.history.append(table)
        self.claims.agreed(table)
        changed = [slot for slot, now in enumerate(table.slots) if now != before.slots[slot]]
        self.tell("epoch", table.epoch, {slot: self._shown(table, slot) for slot in changed})
        assert not any(slot.status == LOST for slot in table.slots), "a slot is lost, and one who had it lives"
        self.truth.followed(changed)
        for slot in changed:
            self._note_change(before, slot)
        return True

    def _facts(self, mourned: bool) -> Facts:
        names = {node.name for node in self.living() if self.members[node.id].status == ALIVE}
        ended = [each.node for each in self.members.values() if each.status != ALIVE and each.name in names]
        alive = [each.node for each in self.members.values() if each.status == ALIVE]
        return Facts(self.members, self.claims.heard, alive, ended if mourned else (), absent=[*self.absent])

    def _leaves_nobody(self, table: Table) -> bool:
        """Who lives, and was deposed or called dead, is left out in favour of one that has died unnoticed: it knew of
        that while it lived, or as many have died as there shall be copies. Of this copies promise nothing."""
        for number, (before, after) in enumerate(zip(self.table.slots, table.slots, strict=True)):
            had, has = self._alive(self.table, before), self._alive(table, after)
            if had and not has:
                knew = self.claims.heard.get(number) == before.term
                assert knew or len(after.members) >= table.copies, "left out in favour of one that never knew of it"
                return True
        return False

    def _alive(self, table: Table, slot: Slot) -> bool:
        return any(self.nodes[table.members[place].node].alive for place in slot.members)

    def _note_change(self, before: Table, slot: int) -> None:
        was, now = before.slots[slot], self.table.slots[slot]
        if now.hands_over and now.term != was.term:
            self.note("hand-over")
        if now.promotes and now.term != was.term:
            self.note("promotion")
        if was.parting and now.term != was.term:
            left = any(place not in now.backups for place in was.parting)
            self.note("promoted instead" if now.promotes else "parted" if left else "stayed")
        if was.hands_over and now.status == ACTIVE:
            self.note("handed over" if now.term == was.term else "called off")
        if was.joining is not None and now.joining is None:
            filled = len(now.backups) > len(was.backups) and now.since == was.since
            self.note("filled" if filled else "fill ended")

    def _shown(self, table: Table, slot: int) -> str:
        each = table.slots[slot]
        names = [str(self.nodes[table.members[place].node]) for place in (each.owner, *each.backups)]
        joins = "" if each.joining is None else f" joins {self.nodes[table.members[each.joining].node]}"
        donor = "" if each.donor is None else f" from {self.nodes[table.members[each.donor].node]}"
        parts = "".join(f" parts {self.nodes[table.members[place].node]}" for place in each.parting)
        state = ("pending", "active", "lost")[each.status]
        return f"{state}({each.term}/{each.since} {' '.join(names)}{donor}{joins}{parts})"

    def _learn(self) -> bool:
        """The next table, or one of those that came after it."""
        late = [each for each in self.running() if each.linked and each.known < len(self.history)]
        late = [each for each in late if self.steps >= each.deaf]
        if not late:
            return False
        node = self.random.choice(late)
        if self.random.random() >= node.attention:
            return True
        newest = len(self.history)
        epoch = self.random.choice([node.known + 1] * 3 + [newest] * 2 + [self.random.randint(node.known + 1, newest)])
        node.known = epoch
        self.tell(node, "learns", epoch)
        seats = [seat.node for seat in self.history[epoch - 1].members]
        for (source, target, _), queue in self.links.items():
            if target == node.id and source not in seats and not self.nodes[source].alive:
                queue.clear()  # a link to who has ended is forgotten
        self.give(node, table_agreed(self.history[epoch - 1]))
        if node.handed_over and self._is_out(node):
            self._depart(node)
        return True

    def _is_out(self, node: Node) -> bool:
        seats = [seat.node for seat in self.history[node.known - 1].members]
        return node.id not in seats

    def _depart(self, node: Node) -> None:
        self.tell(node, "has left")
        if not self.keeps:
            for number in range(len(node.sinks)):
                self._store_some(node, number, len(node.sinks[number].waiting))
        self._end(node)
        self.members[node.id] = replace(self.members[node.id], status=LEFT)
        self._tell_others(node)

    # -- what may happen next

    def step(self) -> bool:
        """One thing, of those that are possible."""
        self.steps += 1
        (way,) = self.random.choices(self._ways, cum_weights=self._often)
        did = way()
        assert not self.truth.wrong, self.truth.wrong[0]
        return did

    def _deliver(self) -> bool:
        busy = [
            key
            for key, queue in self.links.items()
            if queue and self.nodes[key[1]].runs and self._connected(key[0], key[1])
        ]
        if not busy:
            return False
        key = self.random.choice(busy)
        if self.random.random() >= self.slow_links[key[0], key[1]]:
            return True
        source, target, channel = key
        for _ in range(self.random.choice((1, 1, 3))):
            if self.links[key] and self.nodes[target].alive:
                payload = self.links[key].popleft()
                self.unconsumed[key] = self.unconsumed.get(key, 0) + len(payload)
                self.give(self.nodes[target], Delivered(source, channel, payload))
        return True

    def _connected(self, source: NodeId, target: NodeId) -> bool:
        """What a process that has died, or is paused, has sent is on its way all the same."""
        return self.nodes[target].linked and (self.nodes[source].linked or not self.nodes[source].alive)

    def _work(self) -> bool:
        nodes = self.running()
        self.random.shuffle(nodes)
        for node in nodes:
            if node.data.runnable(self.now):
                if self.random.random() < node.speed:
                    self.tell(node, "works")
                    self._perform(node, node.data.work(self.now))
                return True
        return False

    def _answer(self) -> bool:
        waiting = [node for node in self.running() if node.pending]
        if not waiting:
            return False
        node = self.random.choice(waiting)
        self.give(node, node.pending.popleft())
        return True

    def _a_moment(self) -> bool:
        self._pass(self.now + self.random.choice((1, 5, 20, 100)))
        return False

    def tick(self) -> None:
        """Up to the next deadline of anybody."""
        deadlines = [due for node in self.running() if (due := node.data.next_deadline()) is not None]
        self._pass(max(self.now + 1, min(deadlines, default=0)))

    def _pass(self, now: Millis) -> None:
        self.now = now
        for node in self.running():
            self.give(node, Woke())

    def give(self, node: Node, event: Event) -> None:
        if self.story is not None and not isinstance(event, Woke):
            self.tell(node, "gets", f"{event!r:.200}")
        self._perform(node, node.data.handle(event, self.now))

    # -- sinks

    def _store(self) -> bool:
        """Something is written; nobody is told."""
        found = [
            (node, number)
            for node in self.running()
            for number, sink in enumerate(node.sinks)
            if sink.stored < len(sink.waiting)
        ]
        if not found:
            return False
        node, number = self.random.choice(found)
        sink = node.sinks[number]
        self._store_some(node, number, self.random.randint(sink.stored + 1, len(sink.waiting)))
        return True

    def _store_some(self, node: Node, number: int, end: int) -> None:
        sink = node.sinks[number]
        for place in range(sink.stored, end):
            name, item = sink.waiting[place]
            record = tuple(item[1]) if number == 0 else tuple(item)
            assert self.stored[number].setdefault(name, record) == record
        sink.stored = end

    def _tell_stored(self) -> bool:
        found = [(node, number) for node in self.running() for number, sink in enumerate(node.sinks) if sink.stored]
        for node in self.running():
            if node.flushing and not any(sink.waiting for sink in node.sinks):
                node.flushing -= 1
                self.give(node, SinksFlushed())
                return True
        if not found:
            return False
        node, number = self.random.choice(found)
        sink = node.sinks[number]
        count = self.random.randint(1, sink.stored)
        sink.stored -= count
        for _ in range(count):
            sink.waiting.popleft()
        self.give(node, SinkWritten(number, count))
        return True

    def _write(self, node: Node, sink: int, items: Sequence[Any], names: Numbers | None) -> None:
        if not self.keeps:
            assert not node.flushing, "an item came after the sinks were told to flush"
            names = Numbers(
                [*range(self.steps << 20, (self.steps << 20) + len(items))], [0] * len(items), [0], [(True, 0, "")]
            )
        assert names is not None, "items without names"
        assert len(names) == len(items)
        for producer, start, end in names.runs():
            for place in range(start, end):
                name = (producer, names.origins[place], names.numbers[place])
                self.truth.written(str(node), sink, name, items[place])
                node.sinks[sink].waiting.append((name, items[place]))

    def _outside(self) -> bool:
        return self.people.outside([node for node in self.running() if node.known])

    # -- effects

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(to, channel, payload):
                    if self.nodes[to].alive:
                        self.links.setdefault((node.id, to, channel), deque()).append(payload)
                case Consumed(sender, channel, size):
                    self.unconsumed[sender, node.id, channel] -= size
                    assert self.unconsumed[sender, node.id, channel] >= 0, "more consumed than came"
                case ListSplits(source):
                    splits = node.data.plan.sources[source].connector.splits()
                    node.pending.append(SplitsListed(source, splits))
                case ReadSplit(source, split, offset):
                    connector: Any = node.data.plan.sources[source].connector
                    most, ends = self.random.choice((0, 1, 3, 10)), self.random.random() < 0.5
                    chunk = connector.chunk(split, offset, most, ends=ends)
                    node.pending.append(SplitRead(source, split, chunk.values, chunk.next_offset, chunk.ended))
                case WriteSink(sink, items, names):
                    self._write(node, sink, items, names)
                case FlushSinks():
                    node.flushing += 1
                case JobDone():
                    assert not node.done, "the end was told twice"
                    self.tell(node, "says that all is done")
                    node.done = True
                    if self.keeps:
                        self.check_work()
                case SlotsInstalled(slots):
                    self._installed(node, slots)
                case Answered():
                    self.people.answered(node, effect)
                case HandedOver():
                    assert node.leaving
                    assert not node.handed_over, "said twice"
                    node.handed_over = True
                    self.tell(node, "has handed over")
                    self.members[node.id] = replace(self.members[node.id], leaving=READY)
                case Log():
                    node.logs.append(effect)
                case Rejected(_, detail) if "no worker in epoch" in detail and len(self.living()) < len(self.nodes):
                    self.note("late batch")
                case Rejected() | SlotsRooted():
                    raise AssertionError(f"{node}: {effect}")
                case MemberChanged():
                    pass
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    def _installed(self, node: Node, claims: Sequence[tuple[int, int]]) -> None:
        self.tell(node, "claims", claims)
        numbers = b"".join(slot.to_bytes(2, "little") for slot, _ in claims)
        message = Installed(node.known, numbers, tuple(term for _, term in claims))
        self.claims.handle(Received(node.id, message), self.now)

    # -- all of it

    def run(self) -> None:
        """Misfortune, then rest; and then everything must be as it should be."""
        for _ in range(self.faults):
            for _ in range(self.random.randint(1, 2 * self.every)):
                self.step()
            self._fault()
        self.settle()
        self.check()

    def settle(self) -> None:
        idle, began = 0, self.steps
        for node in self.living():
            node.deaf = node.slandered = 0
            self._return(node)
        while not self.finished():
            if self.steps == began + SLOWLY:
                self._hurry()
            assert self.steps < STEPS, f"it does not end: {self.shown()}"
            did = self.step()
            if self.steps % 20 == 0:
                self.absent.clear()
                did = self._notice(chance=1.0) or did
            idle = 0 if did else idle + 1
            if idle > 60:
                self.tick()
            assert idle < 600, f"nothing moves: {self.shown()}"

    def _hurry(self) -> None:
        for node in self.nodes.values():
            node.speed = node.attention = 1.0
        self.slow_links = dict.fromkeys(self.slow_links, 1.0)

    def finished(self) -> bool:
        if self.steps % 50 or any(self.nodes[key[1]].alive and queue for key, queue in self.links.items()):
            return False
        living = self.living()
        if any(node.pending or node.known < len(self.history) or self._is_mistaken(node) for node in living):
            return False
        if not self.people.are_content():
            return False
        if any(node.data.runnable(self.now) or any(sink.waiting for sink in node.sinks) for node in living):
            return False
        if not self.people.producers and not all(node.done for node in living if node.id in self._seated()):
            return False
        read = (count.splits == count.splits_done for node in living for count in node.data.report().sources)
        return all(read) and all(node.data.quiet() for node in living) and not self._plan()

    def _seated(self) -> list[NodeId]:
        return [seat.node for seat in self.table.members]

    def shown(self) -> str:
        nodes = "; ".join(
            f"{node}: knows {node.known} of {len(self.history)}, runs {node.runs}, leaving {node.leaving}, "
            f"pending {len(node.pending)}, runnable {node.data.runnable(self.now)}, quiet {node.data.quiet()}, "
            f"done {node.done}, {node.data.report()}"
            for node in self.living()
        )
        slots = [self._shown(self.table, slot) for slot in range(self.slots)]
        links = {(k[0][0], k[1][0], k[2]): len(queue) for k, queue in self.links.items() if queue}
        requests = self.people.waiting()[:3]
        return f"{slots}; links {links}; requests {requests}; {nodes}"

    # -- what must be in the end

    def check(self) -> None:
        self.check_slots()
        self.check_work()
        for node in self.living():
            assert not self.keeps or not self.keeping(node).busy(), f"{node} keeps something for ever"
        assert not self.people.waiting(), "a request without an answer"

    def check_slots(self) -> None:
        stay = [node for node in self.living() if self.members[node.id].role == WORKER and not node.leaving]
        for number, slot in enumerate(self.table.slots):
            shown = self._shown(self.table, number)
            assert slot.status == ACTIVE, shown
            assert slot.joining is None, shown
            assert not slot.parting, shown
            assert len(slot.members) >= min(self.table.copies, len(stay)), shown

    def states(self, stage: int, place: int = 0) -> dict[Any, Any]:
        """As the owners have them, or their nth backups."""
        found: dict[Any, Any] = {}
        if not self.keeps:
            for node in self.living() if place == 0 else []:
                found |= node.data.owner.stages[stage].states
            return found
        for key in range(self.job.keys[stage]):
            slot = self.truth.slot_of(key)
            members = self.table.slots[slot].members
            if place < len(members):
                node = self.nodes[self.table.members[members[place]].node]
                if state := self.state_at(node, slot, stage, key):
                    found[key] = state
        return found

    def check_work(self) -> None:
        """What is kept is what one process would have, on every copy; and so is what was written."""
        first, second = self.states(0), self.states(1)
        for stage, states in enumerate((first, second)):
            self.truth.check_states(stage, states, first)
            for place in (1, 2):
                for key, state in self.states(stage, place).items():
                    assert list(map(tuple, state)) == list(map(tuple, states[key])), f"copy {place} of {key}"
        self.truth.check_items(first, second, self.stored)
        for ticket, attempt in self.people.attempts.items():
            if attempt.records and attempt.records[0][0] == ASKS and attempt.outcome == "unavailable":
                mine = first.get(self.job.first_key(attempt.records[0]), ())
                assert attempt.records[0] not in mine, f"{ticket} was told that it came to nothing"


def a_world(seed: int, **settings: Any) -> World:
    """Drawn from a seed; `settings` overrule it."""
    random = Random(seed)
    copies = random.choice((2, 2, 2, 3, 3))
    nodes = max(copies if random.random() < 0.8 else 1, random.randint(1, 4))
    splits = tuple(random.randint(0, 30) for _ in range(random.randint(1, 4)))
    posts = random.random() < 0.4
    bodies = tuple(
        tuple(random.choice((0, 1, 3, 12)) for _ in range(random.randint(1, 4))) for _ in range(random.randint(1, 3))
    )
    job = Job(
        splits,
        bodies if posts else (),
        asks=random.choice((0, 3)),
        reads=random.choice((0, 15)),
        keys=(random.choice((1, 5, 12)), random.choice((1, 3, 8))),
        in_place=random.random() < 0.3,
        rough=random.random() < 0.2,
    )
    drawn: dict[str, Any] = {
        "nodes": nodes,
        "copies": copies,
        "slots": random.choice((1, 4, 8, 16)),
        "faults": random.choice((0, 3, 10, 25)),
        "every": random.choice((20, 60, 150)),
        "window": random.choice((200, 1 << 20, 1 << 20)),
        "batch_records": random.choice((1, 3, 4096)),
        "witnesses": random.choice((0, 0, 0, 1)),
    }
    if "job" in settings:
        job = settings.pop("job")
    return World(job, Random(seed + 1), **{**drawn, **settings})
