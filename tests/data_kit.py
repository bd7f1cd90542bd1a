"""Several data planes on links that lose nothing, in one thread, in any order that a seed chooses.

Everything that production leaves to chance is a choice here: who works next, which link delivers next, when a read or
the partition comes. Payloads are what would go on the wire. After every step the windows are looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import mesh
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import Plan
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Event, Log, Millis, Rejected, Woke
from mesh.core.events.planes import Consumed, Delivered, MemberChanged, Transmit
from mesh.core.events.work import (
    Answered,
    FlushSinks,
    JobDone,
    Listed,
    ListSplits,
    ReadSplit,
    SinksFlushed,
    SplitRead,
    SplitsListed,
    WriteSink,
)
from mesh.core.keys import slot_of_key
from mesh.core.messages import NodeId
from mesh.core.packing import OWN_BATCHES
from tests.tables import agreed

STEPS = 200_000  # far more than any of these jobs needs


class Given:
    """A source of given splits; a read gives a chunk of any size, sometimes none."""

    blocking = False

    def __init__(self, splits: list[list[Any]], *, endless: bool = False) -> None:
        self.records = splits
        self.endless = endless

    def splits(self) -> list[Split]:
        return [Split(str(number), len(records)) for number, records in enumerate(self.records)]

    def open(self, split: Split, offset: int) -> mesh.Reader[Any]:
        raise NotImplementedError

    def chunk(self, split: Split, offset: int, random: Random) -> Chunk[Any]:
        records = self.records[int(split.name)]
        end = min(len(records), offset + random.choice((0, 1, 2, 10)))
        return Chunk(records[offset:end], end, end == len(records) and not self.endless and random.random() < 0.5)


class Nowhere:
    """A sink; the items are kept by the cluster."""

    def open(self, writer: str) -> mesh.Writer[Any]:
        raise NotImplementedError


@dataclass
class Node:
    id: NodeId
    data: DataPlane
    pending: list[Event] = field(default_factory=list)  # answers that this node waits for
    items: dict[int, list[Any]] = field(default_factory=dict)  # by sink
    logs: list[Log] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    flushed: bool = False
    done: bool = False


class Cluster:
    """`owners` share the slots evenly; witnesses are members without any."""

    def __init__(
        self,
        plan: Plan,
        random: Random,
        *,
        owners: int = 1,
        witnesses: int = 0,
        slots: int = 8,
        window: int = 1 << 20,
        batch_records: int = 4096,
    ) -> None:
        self.plan = plan
        self.random = random
        self.now: Millis = 0
        self.window = window
        self.slots = slots
        ids = [bytes([number + 1]) * 16 for number in range(owners + witnesses)]
        self.nodes = [Node(each, DataPlane(each, plan, slots, 0, window, batch_records)) for each in ids]
        self.by_id = {node.id: node for node in self.nodes}
        self.links: dict[tuple[NodeId, NodeId, int], deque[bytes]] = {}
        self.unconsumed: dict[tuple[NodeId, NodeId, int], int] = {}
        shares = [slot * owners // slots for slot in range(slots)]
        self.table = agreed(1, ids[:owners], shares, witnesses=ids[owners:])
        for node in self.nodes:
            node.pending.append(self.table)

    # -- what may happen next

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Until every node has seen the end of the job; fails when it stands still before."""
        idle = 0
        for _ in range(STEPS):
            if all(node.done for node in self.nodes) if until is None else until():
                return
            choices = self._choices()
            if choices and self.random.random() < 0.99:
                self.random.choice(choices)()
                idle = 0
            else:
                self.tick()
                idle += not choices
            assert idle < 20, f"nothing moves: {[node.data.report() for node in self.nodes]}"
            self._check_bounds()
        raise AssertionError("it does not end")

    def tick(self) -> None:
        """Time passes, up to the next deadline of anybody."""
        deadlines = [due for node in self.nodes if (due := node.data.next_deadline()) is not None]
        self.now = max(self.now + 1, min(deadlines, default=0))
        for node in self.nodes:
            self.give(node, Woke())

    def _choices(self) -> list[Callable[[], None]]:
        choices: list[Callable[[], None]] = []
        for node in self.nodes:
            if node.pending:
                choices.append(lambda node=node: self._answer(node))  # type: ignore[misc]
            if node.data.runnable(self.now):
                choices.append(lambda node=node: self.work(node))  # type: ignore[misc]
        for key, queue in self.links.items():
            if queue:
                choices.append(lambda key=key: self._deliver(key))  # type: ignore[misc]
        return choices

    def work(self, node: Node) -> None:
        """One unit, which must come to something: a node that is runnable for nothing would burn its core."""
        before = _traces(node)
        effects = node.data.work(self.now)
        assert effects or _traces(node) != before, "there was nothing to do"
        self._perform(node, effects)

    def _answer(self, node: Node) -> None:
        self.give(node, node.pending.pop(0))

    def _deliver(self, key: tuple[NodeId, NodeId, int]) -> None:
        source, target, channel = key
        payload = self.links[key].popleft()
        self.unconsumed[key] = self.unconsumed.get(key, 0) + len(payload)
        self.give(self.by_id[target], Delivered(source, channel, payload))

    def give(self, node: Node, event: Event) -> None:
        self._perform(node, node.data.handle(event, self.now))

    # -- effects

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(to, channel, payload):
                    self.links.setdefault((node.id, to, channel), deque()).append(payload)
                case Consumed(sender, channel, size):
                    self.unconsumed[sender, node.id, channel] -= size
                    assert self.unconsumed[sender, node.id, channel] >= 0
                case ListSplits(source):
                    node.pending.append(SplitsListed(source, self.plan.sources[source].connector.splits()))
                case ReadSplit(source, split, offset):
                    connector: Any = self.plan.sources[source].connector
                    chunk = connector.chunk(split, offset, self.random)
                    node.pending.append(SplitRead(source, split, chunk.values, chunk.next_offset, chunk.ended))
                case WriteSink(sink, items):
                    assert not node.flushed, "an item came after the sinks were flushed"
                    node.items.setdefault(sink, []).extend(items)
                case FlushSinks():
                    node.flushed = True
                    node.pending.append(SinksFlushed())
                case JobDone():
                    assert not node.done, "the end was told twice"
                    node.done = True
                    self._check_end()
                case Log():
                    node.logs.append(effect)
                case Rejected():
                    node.rejected.append(effect)
                case Answered():
                    node.answers.append(effect)
                case Listed():
                    node.listed.append(effect)
                case MemberChanged():
                    pass
                case _:
                    raise AssertionError(f"nobody performs {effect}")

    # -- what must hold

    def _check_end(self) -> None:
        """At the first JobDone anywhere no owner has anything left to do; a witness never had."""
        for node in [each for each in self.nodes if each.id in self.table.workers]:
            assert node.flushed
            assert node.data.quiet()
            assert all(count.splits == count.splits_done for count in node.data.sources.counts())
        batches = [queue for (_, _, channel), queue in self.links.items() if channel]
        assert not any(batches)

    def _check_bounds(self) -> None:
        for node in self.nodes:
            for lane in node.data.router.lanes():
                newest = lane.in_flight[-1].size if lane.in_flight else 0
                assert lane.bytes_in_flight - newest < self.window
                assert lane.owner != node.id or len(lane.in_flight) <= OWN_BATCHES

    # -- what came of it

    def states(self, stage: str) -> dict[Any, Any]:
        """Of all nodes; each key on its owner only."""
        found: dict[Any, Any] = {}
        for node in self.nodes:
            for each in node.data.owner.stages:
                if each.plan.name == stage:
                    for key, state in each.states.items():
                        owner = self.table.workers[self.table.owner_of_slot[slot_of_key(key, 0, self.slots)]]
                        assert owner == node.id
                        found[key] = state
        return found

    def items(self, sink: int) -> list[Any]:
        return [item for node in self.nodes for item in node.items.get(sink, [])]

    def total(self, field: str) -> int:
        return sum(getattr(node.data.report(), field) for node in self.nodes)


def _traces(node: Node) -> object:
    """What a unit of work may change without having anything to say."""
    waiting = [[(batch.number, len(batch.keys)) for batch in queue] for queue in node.data._intake._queues]
    requests = [(each.read, len(each.todo)) for each in node.data._posts._ingest._requests.values()]
    pieces = [(each.inject.number, each.done) for each in node.data._posts._injects._queue]
    return waiting, requests, pieces, [len(lane.keys) for lane in node.data.router.lanes()], node.data.report()
