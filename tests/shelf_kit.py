"""Stores that lose what was not committed, and worlds of `kept_kit` whose nodes have one each.

A process may die at any point, all of them at once too, also while a commit is under way: of what was not committed its
store keeps a prefix of whole puts. Its home comes back with that, as a later process. Stores are full for a while.
What must hold is what `kept_checks` says, and more: whatever is visible is durable at every member of its slot, also at
those that are dead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from mesh.core.claims import Claims
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Event
from mesh.core.events.work import CommitStore, StoreCommitted
from mesh.core.keeping import Keeping
from mesh.core.messages.members import ALIVE, DEAD, Member
from mesh.core.shelf import GIVEN, JOURNAL, STAGES_END, Much, Shelf
from mesh.core.shelved_states import packed_keys
from mesh.core.storing import CHUNK, Change, Chunk, Cursor, StoreFull
from mesh.core.table import WORKER, Table
from mesh.core.values import unpack
from mesh.runtime.store import MemoryStore
from tests.kept_checks import Job, plan_of
from tests.kept_kit import Node, World


class ForgetfulStore:
    """`begin` and `commit` are the two ends of a commit."""

    def __init__(self) -> None:
        self.kept = MemoryStore()  # durable
        self._shown = MemoryStore()
        self._puts: list[tuple[list[Change], dict[int, bytes], list[int]]] = []  # not durable
        self._read: Shelf | None = None
        self.full = False
        self.states_read = 0

    def durable(self) -> Shelf:
        """As a process that starts would read it."""
        if self._read is None:
            self._read = Shelf(self.kept, 1)
        return self._read

    def put(self, changes: Iterable[Change], metas: Mapping[int, bytes], drop: Collection[int] = ()) -> None:
        if self.full:
            raise StoreFull("the disk is full")
        put = ([*changes], dict(metas), [*drop])
        self._puts.append(put)
        self._shown.put(*put)

    def begin(self) -> int:
        return len(self._puts)

    def commit(self, puts: int | None = None) -> None:
        count = len(self._puts) if puts is None else puts
        for put in self._puts[:count]:
            self.kept.put(*put)
            self._read = None
        del self._puts[:count]

    def crash(self, random: Random) -> ForgetfulStore:
        """What is left."""
        self.commit(random.randint(0, len(self._puts)))
        left = ForgetfulStore()
        left.kept = self.kept
        numbers = [*self.kept.metas(), *range(GIVEN, JOURNAL + 1)]
        for slot in numbers:
            states = self.kept.scan(slot, None, 1 << 40).states
            left._shown.put([(slot, *each) for each in states], {})
        left._shown.put([], self.kept.metas())
        return left

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        self.states_read += stage < STAGES_END
        return self._shown.get(slot, stage, key)

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        chunk = self._shown.scan(slot, after, at_most)
        self.states_read += sum(stage < STAGES_END for stage, _, _ in chunk.states) if slot < GIVEN else 0
        return chunk

    def metas(self) -> dict[int, bytes]:
        return self._shown.metas()

    def close(self) -> None:
        """Nothing is left to do."""


def shelf_of(data: DataPlane) -> Shelf:
    assert isinstance(data.handoff, Keeping)
    assert data.handoff._shelving is not None
    return data.handoff._shelving.shelf


@dataclass
class Home:
    """A data directory."""

    id: bytes
    store: ForgetfulStore
    boot: int = 1
    known: int = 0  # tables that its last process knew
    begun: int = 0  # puts that the commit under way covers
    slow: float = 0.0  # how often a commit takes longer


class StoredWorld(World):
    """Every node has a store; `warm`: bytes of states that may stay in memory; `much`: changes in its journal."""

    def __init__(
        self, job: Job, random: Random, *, copies: int = 1, warm: int = 1 << 20, much: int = 1 << 17, **settings: Any
    ) -> None:
        self.homes: dict[str, Home] = {}
        self.warm = warm
        self.much = Much(changes=much, at_once=1)
        kinds = [
            "crash",
            "crash",
            "crash",
            "die",
            "pause",
            "cut",
            "slander",
            "fence",
            "replace",
            "replace",
            "full",
            "join",
        ]
        super().__init__(job, random, copies=copies, **{"kinds": kinds, **settings})
        table = replace(self.history[0], durable=True)
        self.history = [table]
        self.claims = Claims(b"p" * 16)
        self.claims.agreed(table)

    def start(self, name: str, role: str = WORKER) -> Node:
        home = self.homes.get(name)
        if home is None:
            slow = self.random.choice((0.0, 0.0, 0.9))
            home = self.homes[name] = Home(bytes([100 + len(self.homes)]) * 16, ForgetfulStore(), slow=slow)
        else:
            home.boot += 1
        me = bytes([len(self.nodes) + 1]) * 16
        plan = plan_of(self.job, partial(self._taking, me))
        data = DataPlane(
            me, plan, self.slots, 0, self.window, self.batch_records,
            keeps=True, store=home.store, warm_bytes=self.warm,
        )  # fmt: skip
        shelf_of(data).much = self.much
        speed, attention = self.random.choice((1.0, 1.0, 0.2)), self.random.choice((1.0, 1.0, 0.2, 0.03))
        node = self.nodes[me] = Node(me, name, data, speed=speed, attention=attention)
        self.members[me] = Member(
            me, name, f"tcp://{name}:1", f"{name}:2", role, "", 1, ALIVE, home=home.id, boot=home.boot
        )
        for other in self.nodes:
            for pair in ((me, other), (other, me)):
                self.slow_links[pair] = self.random.choice((1.0, 1.0, 1.0, 0.1))
        return node

    # -- what is where

    def state_at(self, node: Node, slot: int, stage: int, key: Any) -> Any:
        """On its disk."""
        state = self.homes[node.name].store.durable().get(slot, stage, packed_keys([key])[0])
        return () if state is None else unpack(state)

    def seen_by_members(self, slot: int) -> list[tuple[str, Callable[[int, Any], Any]]]:
        nodes = [self.nodes[self.table.members[place].node] for place in self.table.slots[slot].members]
        return [(str(node), partial(self.state_at, node, slot)) for node in nodes]

    # -- misfortune

    def _may_die(self, node: Node) -> bool:
        return len(self.nodes) < 40

    def _die(self) -> None:
        """All of them."""
        if len(self.nodes) < 30:
            for node in self.living():
                self.kill(node)

    def _end(self, node: Node) -> None:
        super()._end(node)
        home = self.homes[node.name]
        home.known = node.known
        home.store = home.store.crash(self.random)

    def _replace(self) -> None:
        names = [node.name for node in self.living()]
        dead = [name for name in self.homes if name not in names]
        if dead:
            self.note("replace")
            self.bring_back(self.random.choice(dead))

    def bring_back(self, name: str) -> None:
        for node in self.nodes.values():
            if node.name == name:
                self._believe(node, DEAD)
        node = self.start(name)
        known = self.homes[name].known
        node.known = max(0, known - 1) if self.random.random() < 0.5 else max(0, len(self.history) - 1)
        self.tell(node, "comes back")
        self._tell_others(node)

    def _join(self) -> None:
        if len(self.homes) < 4:
            super()._join()

    def _full(self) -> None:
        for node in self.running()[:1]:
            self.note("full")
            self.homes[node.name].store.full = True

    def _notice(self, *, chance: float = 0.5) -> bool:
        for home in self.homes.values():
            if self.random.random() < 0.1:
                home.store.full = False
        return super()._notice(chance=chance)

    def settle(self) -> None:
        names = [node.name for node in self.living()]
        for name in self.homes:
            self.homes[name].store.full = False
            if name not in names:
                self.bring_back(name)
        super().settle()

    def _hurry(self) -> None:
        super()._hurry()
        for home in self.homes.values():
            home.slow = 0.0

    def _leaves_nobody(self, table: Table) -> bool:
        return False

    # -- the store

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, CommitStore):
                home = self.homes[node.name]
                home.begun = home.store.begin()
                node.pending.append(StoreCommitted(effect.number))
            else:
                super()._perform(node, [effect])

    def give(self, node: Node, event: Event) -> None:
        if isinstance(event, StoreCommitted):
            home = self.homes[node.name]
            if home.store.full or self.random.random() < home.slow:
                node.pending.append(event)  # the driver tries again
                return
            home.store.commit(home.begun)
        super().give(node, event)

    def check(self) -> None:
        super().check()
        keys = sum(len(self.states(stage)) for stage in (0, 1))
        counted = sum(node.data.owner.key_count() for node in self.living())
        assert counted == keys, f"{counted} keys are counted, and there are {keys}"


def a_stored_world(seed: int, **settings: Any) -> StoredWorld:
    """Drawn from a seed; `settings` overrule it."""
    random = Random(seed)
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
        "job": job,
        "nodes": random.choice((1, 1, 2, 2, 3)),
        "copies": random.choice((1, 1, 2, 2, 3)),
        "slots": random.choice((1, 4, 8, 16)),
        "faults": random.choice((0, 3, 10, 25)),
        "every": random.choice((20, 60, 150)),
        "window": random.choice((200, 1 << 20, 1 << 20)),
        "batch_records": random.choice((1, 3, 4096)),
        "warm": random.choice((0, 1000, 1 << 20)),
        "much": random.choice((1, 10, 100, 1 << 17)),
    } | settings
    return StoredWorld(drawn.pop("job"), Random(seed + 1), **drawn)
