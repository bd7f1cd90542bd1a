"""Data planes among which slots move at random: a made-up agreement, links without faults, any order of events.

The agreement is a list of tables, each of which may follow the one before it (see `core.succession`). Every node learns
them in order, some later than others, and may skip some. Nodes join, leave, are paused (which all agree to call down)
and come back. The application notes what is done to which key, where, and in which order; what it must not see is in
`wrong`. After a number of random steps the agreement only brings to an end what has begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import mesh
from mesh.app.plan import Plan, compile
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Woke
from mesh.core.events.planes import Fenced, HandedOver, MemberChanged, SlotsInstalled, StartLeaving, TableAgreed
from mesh.core.events.work import JobDone
from mesh.core.keys import slot_of_key
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, LEAVING, STAYING, Member
from mesh.core.slot import ACTIVE, LOST, PENDING
from tests.data_kit import Cluster, Given, Node, Nowhere
from tests.tables import agreed

STEPS = 300_000


@dataclass(frozen=True)
class Config:
    term: int
    owner: NodeId
    status: int = ACTIVE
    donor: NodeId | None = None


@dataclass
class Seat:
    node: Node
    known: int = 0  # tables that it has learnt
    up: bool = True
    leaving: bool = False
    handed_over: bool = False
    in_table: bool = False
    exited: bool = False
    killed: bool = False
    attention: float = 1.0  # how soon it looks at a new table


@dataclass(frozen=True)
class Job:
    """Numbers go through stages, each keyed by a remainder; a record is (stream, seq) to the stage it comes to."""

    splits: tuple[int, ...]  # records in each
    moduli: tuple[int, ...]  # of each stage
    in_place: bool  # states that change in place
    endless: bool = False

    def expected(self) -> list[dict[Any, dict[Any, list[int]]]]:
        """stage -> key -> stream -> the seqs in their order, but for the order among streams."""
        streams: dict[Any, list[int]] = {split: list(range(count)) for split, count in enumerate(self.splits)}
        result: list[dict[Any, dict[Any, list[int]]]] = []
        for modulus in self.moduli:
            states: dict[Any, dict[Any, list[int]]] = {}
            for stream, seqs in streams.items():
                for seq in seqs:
                    states.setdefault(seq % modulus, {}).setdefault(stream, []).append(seq)
            result.append(states)
            streams = {key: list(range(sum(map(len, by.values())))) for key, by in states.items()}
        return result


class Moving(Cluster):
    """A cluster whose partition changes under it."""

    def __init__(
        self,
        job: Job,
        random: Random,
        *,
        founders: int,
        slots: int,
        changes: int,
        window: int = 1 << 20,
        batch_records: int = 4096,
        most: int = 6,
    ) -> None:
        self.job = job
        self.source = Given(
            [[(split, seq) for seq in range(count)] for split, count in enumerate(job.splits)], endless=job.endless
        )
        self.random = random
        self.now = 0
        self.slots = slots
        self.window = window
        self.batch_records = batch_records
        self.links: dict[tuple[NodeId, NodeId, int], deque[bytes]] = {}
        self.unconsumed: dict[tuple[NodeId, NodeId, int], int] = {}
        self.changes = changes  # left to make at random
        self.most = most  # nodes, ever
        self.wrong: list[str] = []
        self.applied: dict[tuple[int, Any, Any], list[int]] = {}  # (stage, stream, key) -> seqs
        self.claims: dict[tuple[int, NodeId, int], None] = {}  # (slot, who, term)
        self.nodes: list[Node] = []
        self.by_id: dict[NodeId, Node] = {}
        self.seats: list[Seat] = []
        for _ in range(founders):
            self._start().in_table = True
        self.founders = tuple(self.by_id)
        self.plan = self._plan(b"")
        self.left: tuple[NodeId, ...] = ()
        self.configs = [Config(1, self.founders[slot * founders // slots]) for slot in range(slots)]
        self.history: list[TableAgreed] = []
        self._agree()

    # -- the application

    def _plan(self, node: NodeId) -> Plan:
        app = mesh.App("moving")
        stream: Any = app.source("s", self.source)
        for stage, modulus in enumerate(self.job.moduli):
            keyed = stream.key_by(lambda record, modulus=modulus: record[1] % modulus)
            new: Any = dict if self.job.in_place else tuple
            step = self._in_place if self.job.in_place else self._replacing
            stream = keyed.stateful(
                f"t{stage}", new, lambda state, record, stage=stage, step=step: step(node, stage, state, record)
            ).values()
        stream.to(Nowhere())
        return compile(app)

    def _in_place(self, node: NodeId, stage: int, state: dict[Any, list[int]], record: tuple[Any, int]) -> Any:
        self._note(node, stage, record)
        state.setdefault(record[0], []).append(record[1])
        return state, (record[1] % self.job.moduli[stage], sum(map(len, state.values())) - 1)

    def _replacing(self, node: NodeId, stage: int, state: tuple[Any, ...], record: tuple[Any, int]) -> Any:
        self._note(node, stage, record)
        return (*state, record), (record[1] % self.job.moduli[stage], len(state))

    def _note(self, node: NodeId, stage: int, record: tuple[Any, int]) -> None:
        stream, seq = record
        modulus = self.job.moduli[stage]
        key = seq % modulus
        seqs = self.applied.setdefault((stage, stream, key), [])
        wanted = seqs[-1] + modulus if seqs else key
        if seq != wanted:
            self.wrong.append(f"stage {stage} gets {seq} of {stream} for {key}, not {wanted}")
        seqs.append(seq)
        table = self.by_id[node].data.table
        slot = slot_of_key(key, 0, self.slots)
        if table is None or table.status_of_slot[slot] != ACTIVE or self._owner(table, slot) != node:
            self.wrong.append(f"{node[0]} applies to slot {slot}, which is not its own in its table")

    def _owner(self, table: TableAgreed, slot: int) -> NodeId:
        return table.workers[table.owner_of_slot[slot]]

    # -- nodes

    def _start(self) -> Seat:
        me = bytes([len(self.nodes) + 1]) * 16
        data = DataPlane(me, self._plan(me), self.slots, 0, self.window, self.batch_records)
        node = Node(me, data)
        self.nodes.append(node)
        self.by_id[me] = node
        self.seats.append(Seat(node, attention=self.random.choice((1.0, 1.0, 0.1, 0.01))))
        return self.seats[-1]

    def seat(self, node: NodeId) -> Seat:
        return next(each for each in self.seats if each.node.id == node)

    def present(self) -> list[Seat]:
        return [each for each in self.seats if not each.exited]

    def runs(self, seat: Seat) -> bool:
        return seat.up and not seat.exited

    # -- the agreement

    def _agree(self) -> None:
        """What is the case now is the next table."""
        seats = [each for each in self.seats if each.in_table]
        workers = [each.node.id for each in seats]
        table = agreed(
            len(self.history) + 1,
            workers,
            [workers.index(each.owner) for each in self.configs],
            donors=[-1 if each.donor is None else workers.index(each.donor) for each in self.configs],
            statuses=[each.status for each in self.configs],
            terms=[each.term for each in self.configs],
            down=[each.node.id for each in seats if not each.up],
            left=self.left,
            founders=self.founders,
        )
        self.history.append(table)
        self.table = table

    def _eligible(self) -> list[NodeId]:
        return [each.node.id for each in self.seats if each.in_table and each.up and not each.leaving]

    def _change(self) -> None:
        """One more table, at random."""
        self.changes -= 1
        actions = [self._move, self._move, self._activate, self._activate, self._retarget, self._join, self._leave]
        actions += [self._pause, self._resume, self._remove, self._fence]
        self.random.choice(actions)()

    def _settle(self) -> None:
        """What is left to do."""
        for act in (self._resume, self._retarget_the_homeless, self._empty_leavers, self._activate, self._remove):
            before = len(self.history)
            act()
            if len(self.history) > before:
                return

    def settled(self) -> bool:
        if any(not each.up for each in self.present() if not each.killed) or any(
            each.leaving for each in self.present() if not each.killed
        ):
            return False
        movable = [each for each in self.configs if not self.seat(each.owner).killed]
        return not any(each.status == PENDING for each in movable)

    def _movable(self, status: int) -> list[int]:
        """Slots in this status that nobody is missing for."""
        found = [slot for slot, each in enumerate(self.configs) if each.status == status]
        return [
            slot
            for slot in found
            if self.seat(self.configs[slot].donor or self.configs[slot].owner).up or status == LOST
        ]

    def _move(self) -> None:
        slots, to = self._movable(ACTIVE), self._eligible()
        if slots and to:
            self._promise(self.random.sample(slots, self.random.randint(1, len(slots))), to)
            self._agree()

    def _promise(self, slots: Sequence[int], to: Sequence[NodeId]) -> None:
        for slot in slots:
            config = self.configs[slot]
            donor = config.owner if config.donor is None else config.donor
            self.configs[slot] = Config(config.term + 1, self.random.choice(to), PENDING, donor)

    def _retarget(self) -> None:
        slots = self._movable(PENDING)
        to = list(dict.fromkeys([*self._eligible(), *(d for s in slots if (d := self.configs[s].donor) is not None)]))
        if slots and to:
            for slot in self.random.sample(slots, self.random.randint(1, len(slots))):
                donor = self.configs[slot].donor
                assert donor is not None
                self._promise([slot], [*self._eligible(), donor])
            self._agree()

    def _retarget_the_homeless(self) -> None:
        homeless = [slot for slot in self._movable(PENDING) if self.configs[slot].owner not in self._eligible()]
        if homeless and self._eligible():
            self._promise(homeless, self._eligible())
            self._agree()

    def _empty_leavers(self) -> None:
        theirs = [slot for slot in self._movable(ACTIVE) if self.configs[slot].owner not in self._eligible()]
        if theirs and self._eligible():
            self._promise(theirs, self._eligible())
            self._agree()

    def _activate(self) -> None:
        arrived = [
            slot
            for slot, config in enumerate(self.configs)
            if config.status == PENDING and (slot, config.owner, config.term) in self.claims
        ]
        if arrived:
            for slot in self.random.sample(arrived, self.random.randint(1, len(arrived))):
                config = self.configs[slot]
                self.configs[slot] = Config(config.term, config.owner)
            self._agree()

    def _join(self) -> None:
        if len(self.seats) < self.most:
            self._start().in_table = True
            self._agree()

    def _leave(self) -> None:
        staying = self._eligible()
        if len(staying) > 1:
            self.leave(self.seat(self.random.choice(staying)))

    def leave(self, seat: Seat) -> None:
        seat.leaving = True
        seat.node.pending.append(StartLeaving())
        for other in self.present():
            if other is not seat and self.random.random() < 0.7:
                other.node.pending.append(MemberChanged(self._member(seat), ALIVE))

    def _member(self, seat: Seat) -> Member:
        status = ALIVE if seat.up else DEAD
        return Member(seat.node.id, "n", "tcp://n:1", "", "worker", "", 1, status, LEAVING if seat.leaving else STAYING)

    def _pause(self) -> None:
        up = [each for each in self.seats if each.in_table and each.up and not each.exited]
        if len(up) > 1:
            seat = self.random.choice(up)
            seat.up = False
            self._tell_of(seat)
            self._agree()

    def _resume(self) -> None:
        down = [each for each in self.present() if not each.up and not each.killed]
        if down:
            seat = self.random.choice(down)
            seat.up = True
            self._tell_of(seat)
            self._agree()

    def _tell_of(self, seat: Seat) -> None:
        """Not everybody hears that a node is down; that it is up, everybody does."""
        for other in self.present():
            if other is not seat and (seat.up or self.random.random() < 0.7):
                other.node.pending.append(MemberChanged(self._member(seat), ALIVE))

    def _remove(self) -> None:
        """Who has handed over everything and is named nowhere."""
        named = {each.owner for each in self.configs} | {each.donor for each in self.configs}
        for seat in self.seats:
            if seat.in_table and seat.handed_over and seat.up and seat.node.id not in named:
                seat.in_table = False
                self.left = (*self.left, seat.node.id)
                self._agree()
                return

    def _fence(self) -> None:
        seat = self.random.choice(self.present())
        seat.node.pending += [Fenced(True), Fenced(False)]

    # -- what may happen next

    def _choices(self) -> list[Callable[[], None]]:
        choices: list[Callable[[], None]] = []
        for seat in self.present():
            if not self.runs(seat):
                continue
            node = seat.node
            if node.pending:
                choices.append(lambda node=node: self._answer(node))  # type: ignore[misc]
            if node.data.runnable(self.now):
                choices += [lambda node=node: self.work(node)] * 2  # type: ignore[misc]
            if seat.known < len(self.history) and self.random.random() < seat.attention:
                choices.append(lambda seat=seat: self._learn(seat))  # type: ignore[misc]
            if seat.handed_over and not seat.in_table and self._is_known_without(seat):
                choices.append(lambda seat=seat: self._exit(seat))  # type: ignore[misc]
        for key, queue in self.links.items():
            if queue and self.runs(self.seat(key[1])):
                choices.append(lambda key=key: self._deliver(key))  # type: ignore[misc]
        return choices

    def _learn(self, seat: Seat) -> None:
        """The next table, or one of those that came after it."""
        seat.known = self.random.choice([seat.known + 1] * 3 + list(range(seat.known + 1, len(self.history) + 1)))
        self.give(seat.node, self.history[seat.known - 1])

    def _is_known_without(self, seat: Seat) -> bool:
        """Does a majority know a table that this node is not in?"""
        others = [each for each in self.seats if each.in_table]
        knows = [each for each in others if each.known and seat.node.id not in self.history[each.known - 1].workers]
        return 2 * len(knows) > len(others)

    def _exit(self, seat: Seat) -> None:
        """What is on its way from it or to it is gone."""
        seat.exited = True
        for key in list(self.links):
            if seat.node.id in key[:2]:
                del self.links[key]

    def kill(self, seat: Seat) -> None:
        """It is down for good, and nobody knows that it has ended."""
        seat.killed = True
        seat.up = False
        self._agree()

    def end(self, seat: Seat) -> None:
        """It has ended, and everybody knows: what it had is lost, and its place is gone."""
        seat.killed, seat.up, seat.in_table = True, False, False
        heir = self._eligible()[-1]  # who leaves first is the first
        for slot, config in enumerate(self.configs):
            if seat.node.id in (config.owner, config.donor):
                self.configs[slot] = Config(config.term + 1, heir, LOST)
        self._exit(seat)
        self._agree()

    def step(self) -> None:
        choices = self._choices()
        if self.random.random() < (0.1 if choices else 1.0):
            if self.changes > 0:
                self._change()
            else:
                self._settle()
        choices = self._choices()
        if choices and self.random.random() < 0.98:
            self.random.choice(choices)()
        else:
            self.tick()
        assert not self.wrong, self.wrong
        self._check_bounds()

    def tick(self) -> None:
        deadlines = [due for each in self.present() if (due := each.node.data.next_deadline()) is not None]
        self.now = max(self.now + 1, min(deadlines, default=0))
        for each in self.present():
            if self.runs(each):
                self.give(each.node, Woke())

    def run(self, until: Callable[[], bool] | None = None) -> None:
        idle, last = 0, None
        for _ in range(STEPS):
            if self.finished() if until is None else until():
                return
            self.step()
            state = len(self.history), sum(map(len, self.applied.values())), self._choices() == [], self.progress()
            idle = idle + 1 if state == last else 0
            last = state
            assert idle < 5_000, f"nothing moves: {self.shown()}"
        raise AssertionError(f"it does not end: {self.shown()}")

    def progress(self) -> object:
        """Whatever else moves."""
        return None

    def finished(self) -> bool:
        here = self.present()
        through = all(each.node.done and each.known == len(self.history) for each in here)
        return through and not self.changes and self.settled() and not self._choices()

    def shown(self) -> str:
        return "; ".join(
            f"{each.node.id[0]}: known {each.known} of {len(self.history)}, leaving {each.leaving}, up {each.up}, "
            f"handed over {each.handed_over}, done {each.node.done}, {each.node.data.report()}"
            for each in self.present()
        )

    # -- effects

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        seat = self.seat(node.id)
        for effect in effects:
            match effect:
                case SlotsInstalled(slots):
                    for slot, term in slots:
                        assert (slot, node.id, term) not in self.claims, "said twice"
                        self.claims[slot, node.id, term] = None
                case HandedOver():
                    assert seat.leaving
                    assert not seat.handed_over, "said twice"
                    seat.handed_over = True
                case JobDone():
                    assert not node.done, "the end was told twice"
                    node.done = True
                    self.check_everything_applied()
                case _:
                    super()._perform(node, [effect])
        assert not node.rejected, node.rejected

    # -- what must hold in the end

    def check_everything_applied(self) -> None:
        for stage, states in enumerate(self.job.expected()):
            for key, streams in states.items():
                for stream, seqs in streams.items():
                    assert self.applied.get((stage, stream, key), []) == seqs, f"stage {stage}, {stream} for {key}"

    def check_states(self) -> None:
        """Each state is where the table says, there alone, and says what has been applied."""
        expected = self.job.expected()
        for stage, wanted in enumerate(expected):
            found: dict[Any, Any] = {}
            for seat in self.present():
                for key, state in seat.node.data.owner.stages[stage].states.items():
                    assert key not in found, f"{key} of stage {stage} is in two places"
                    assert self.configs[slot_of_key(key, 0, self.slots)].owner == seat.node.id
                    found[key] = state
            assert {key: _by_stream(state) for key, state in found.items()} == wanted
        for seat in self.present():
            owned = {slot for slot, each in enumerate(self.configs) if each.owner == seat.node.id}
            assert set(seat.node.data.handoff.holdings.here) == owned
            assert not seat.node.data.handoff.busy()


def _by_stream(state: Any) -> dict[Any, list[int]]:
    if isinstance(state, dict):
        return state
    streams: dict[Any, list[int]] = {}
    for stream, seq in state:
        streams.setdefault(stream, []).append(seq)
    return streams
