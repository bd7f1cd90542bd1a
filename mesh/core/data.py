"""The data plane: composes sources, router, intake, owner, hand-off, progress and reads, and decides what to do next.

It runs the application's code, so it may be slow; everything that must stay quick is in the control plane.

Events    TableAgreed, Delivered, SplitsListed, SplitRead, SinksFlushed, LookupAsked, MemberChanged, Fenced,
          StartLeaving, Woke
Effects   ListSplits, ReadSplit, WriteSink, FlushSinks, Transmit, Consumed, Answered, JobDone, SlotsInstalled,
          HandedOver, Log, Rejected
`work`    does one unit: a chunk of what moves, then one batch of the deepest stage that may emit, else one chunk of a
          source, else a flush. Deeper stages go first and a producer stops while a window of a stage it feeds is full,
          so memory stays bounded and the last stage always drains: the graph has no cycles, hence no deadlock.
Invariant a batch is answered only after its outputs are in the router or in a sink's hands. While fenced, which means
          out of touch with the majority, nothing is applied, read or answered.
Bounds    what comes before the partition is kept, and gets no credit before it is handled: a window a link.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.app.plan import Fragment, Plan
from mesh.core import codec, sources
from mesh.core.codec import MAX_ITEMS
from mesh.core.columns import slots_from_bytes, slots_to_bytes
from mesh.core.departure import Departure
from mesh.core.events import (
    Consumed,
    Delivered,
    Effect,
    Event,
    Fenced,
    FlushSinks,
    JobDone,
    ListSplits,
    LookupAsked,
    MemberChanged,
    Millis,
    ReadSplit,
    Rejected,
    SinksFlushed,
    SplitRead,
    SplitsListed,
    StartLeaving,
    TableAgreed,
    Transmit,
    Woke,
    WriteSink,
)
from mesh.core.handoff import CONTROL, REPLICATION, HandOff
from mesh.core.intake import Intake, Waiting
from mesh.core.messages import (
    STAYING,
    BatchDone,
    ChunksTaken,
    Farewell,
    FarewellHeard,
    Found,
    Lookup,
    Member,
    Message,
    NodeId,
    Report,
    SplitsTaken,
    TakeSplits,
)
from mesh.core.owner import Owner
from mesh.core.pace import Pace
from mesh.core.packing import BATCH_RECORDS, WINDOW_BYTES, Packed
from mesh.core.progress import Progress
from mesh.core.reads import Reads
from mesh.core.reports import Reports
from mesh.core.router import Router
from mesh.core.set_aside import SetAside
from mesh.core.split_moves import SplitMoves, can_travel

CHUNK_BYTES = 64 << 10  # of a source in one unit of work: ~10,000 words, a few milliseconds
FIRST_BYTES, FIRST_RECORDS = 1, 1  # of the first unit: nobody knows yet how slow a step is, how much a line becomes
QUIET_MS = 10  # a source that had nothing to give is asked again after this
FLUSH_MS = 100  # a node that is never idle sends what is buffered after this, however little it is


class DataPlane:
    """One node's share of the application's work."""

    def __init__(
        self,
        me: NodeId,
        plan: Plan,
        slots: int,
        seed: int,
        window_bytes: int = WINDOW_BYTES,
        batch_records: int = BATCH_RECORDS,
    ) -> None:
        self.me = me
        self.plan = plan
        self.owner = Owner(plan.stages, slots, seed)
        self.router = Router(me, [stage.level for stage in plan.stages], slots, seed, window_bytes, batch_records)
        self.sources = sources.Sources([(each.name, each.connector.endless) for each in plan.sources])
        self.progress = Progress(plan.levels + 1)
        self.set_aside = SetAside()
        self.table: TableAgreed | None = None
        self.records_keyed = 0
        self.records_out = 0
        self.handoff = HandOff(me, self.owner, slots, seed, self.router.unsettled, window_bytes)
        self._intake = Intake(plan.stages)
        self._reads = Reads(me, plan.stages, slots, seed, self.owner, self.handoff.holdings)
        self._reports = Reports(me, self.progress)
        self._split_moves = SplitMoves(self.sources, len(plan.sources))
        self._departure = Departure()
        self._staying: dict[NodeId, bool] = {}  # what members say of themselves
        self._early: list[Delivered] = []  # came before the partition did
        self._reading = [False] * len(plan.sources)  # a read was asked for and has not come back
        self._not_before: list[Millis] = [0] * len(plan.sources)
        self._turn = 0  # the source to read next
        self._read_paces = [Pace(FIRST_BYTES, CHUNK_BYTES) for _ in plan.sources]
        self._stage_paces = [Pace(FIRST_RECORDS, MAX_ITEMS) for _ in plan.stages]
        self._unit: tuple[Pace, int] | None = None  # what the last unit of work took on
        self._stopping = False  # no new reads
        self._fenced = False
        self._finishing = False  # the sinks were told to flush
        self._finished = False  # JobDone was said
        self._flushed_at: Millis = 0
        self._effects: list[Effect] = []
        self._now: Millis = 0

    # -- the machine

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        self._now = now
        match event:
            case Delivered():
                if self.table is None:
                    self._early.append(event)
                else:
                    self._delivered(event)
            case SplitRead():
                self._split_read(event)
            case TableAgreed():
                self._table_agreed(event)
            case SplitsListed():
                self._splits_listed(event)
            case SinksFlushed():
                self.progress.flushed()
            case LookupAsked():
                self._effects += self._reads.asked(event, self._reports.unreachable, now)
            case MemberChanged(member):
                self._member_changed(member)
            case Fenced(fenced):
                self._fenced = self._reads.fenced = fenced
            case StartLeaving():
                self._departure.leaving = True
            case Woke():
                self._effects += self._reads.overdue(now)
        self._advance()
        return self._taken()

    def next_deadline(self) -> Millis | None:
        if self.table is None:
            return None
        overdue = self._reads.next_deadline()
        quiet = [self._not_before[source] for source in self._readable()]
        return min([self._reports.next_at, *quiet, *([] if overdue is None else [overdue])])

    def runnable(self, now: Millis) -> bool:
        """Is there a unit of work to do right now?"""
        if self.table is None or self._fenced:
            return False
        return (
            any(self._may_apply(stage) for stage in self._stages())
            or any(self._not_before[source] <= now for source in self._readable())
            or self.router.may_flush()
            or self.handoff.may_send()
        )

    def work(self, now: Millis) -> list[Effect]:
        """One unit of work: a few milliseconds, unless the application's code is slow."""
        self._now = now
        self._unit = None
        if self.table is not None and not self._fenced:
            self._effects += self.handoff.send_some()
            if not (self._apply_one() or self._read_one()) or now >= self._flushed_at + FLUSH_MS:
                self._flushed_at = now
                self._send(self.router.flush())
        self._advance()
        return self._taken()

    def took(self, elapsed: Millis) -> None:
        """The driver: the last `work`, with the effects it had, took so long. A driver without a clock never says."""
        if self._unit is not None:
            pace, amount = self._unit
            pace.took(amount, elapsed)

    def _taken(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # -- the partition comes, and changes

    def _table_agreed(self, table: TableAgreed) -> None:
        before, self.table = self.table, table
        self.router.set_table(table)
        self._intake.set_table(table.epoch, table.workers)
        self._effects += self.handoff.set_table(table)
        self._reads.table = table
        self._effects += self._reports.set_table(table, self._now)
        if before is None:
            self._begin(table)
        else:
            self._share_splits(before, table)

    def _begin(self, table: TableAgreed) -> None:
        """The first table: who founded the cluster shares the splits, whoever comes later is given some."""
        for source in range(len(self.plan.sources)):
            if self.me in _founders(table):
                self._effects.append(ListSplits(source))
            else:
                self.sources.listed(source, [])
        early, self._early = self._early, []
        for event in early:  # others may have learned of the partition, worked, and told their last news before
            self._delivered(event)

    def _splits_listed(self, event: SplitsListed) -> None:
        assert self.table is not None
        readers = sources.deal(event.splits, _founders(self.table))
        mine = [split for split, reader in zip(event.splits, readers, strict=True) if reader == self.me]
        self.sources.listed(event.source, mine)

    def _share_splits(self, before: TableAgreed, table: TableAgreed) -> None:
        newcomers = [node for node in table.workers if node not in before.workers and node != self.me]
        if newcomers and not self._departure.leaving:
            self._effects += self._split_moves.joined(newcomers, len(table.workers) - len(table.down))

    def _member_changed(self, member: Member) -> None:
        self._staying[member.node] = member.leaving == STAYING
        self._effects += self._reports.member_changed(member)

    # -- records come from a source

    def stop_reading(self) -> None:
        """This node is asked to stop: what was read goes on, nothing more is read."""
        self._stopping = True

    def quiet(self) -> bool:
        """Nothing read, routed or delivered waits for anything."""
        return self.router.idle() and self._intake.empty()

    def drained(self) -> bool:
        """Quiet, but for what waits for a node that is gone: this node need not stay for that."""
        return self._intake.empty() and self.router.waits_for() <= self._reports.unreachable.keys()

    def _readable(self) -> list[int]:
        if self._stopping or self._fenced or self.table is None or self.me not in self.table.workers:
            return []
        if self._departure.leaving and self._takers():
            return []
        return [
            source
            for source, plan in enumerate(self.plan.sources)
            if not self._reading[source]
            and self.sources.next_read(source) is not None
            and self._may_emit(plan.fragment)
        ]

    def _read_one(self) -> bool:
        ready = [source for source in self._readable() if self._not_before[source] <= self._now]
        if not ready:
            return False
        source = next((each for each in ready if each >= self._turn), ready[0])
        next_read = self.sources.next_read(source)
        assert next_read is not None
        self._turn = source + 1
        self._reading[source] = True
        pace = self._read_paces[source]
        self._unit = (pace, pace.most)
        self._effects.append(ReadSplit(source, *next_read, pace.most))
        return True

    def _split_read(self, event: SplitRead) -> None:
        self._reading[event.source] = False
        if not self.sources.expects(event.source, event.split):
            return  # given away meanwhile: another node reads this again
        if self.sources.read(event.source, event.split, len(event.values), event.next_offset, event.ended):
            self._not_before[event.source] = self._now + QUIET_MS
        values = [value for value in event.values if value is not None]  # None means nothing, also from a source
        if values:
            self._run(self.plan.sources[event.source].fragment, None, values)

    # -- cargo comes

    def _delivered(self, event: Delivered) -> None:
        try:
            message = codec.decode_with_values(event.payload)
            if event.channel == REPLICATION:
                self._effects += self.handoff.delivered(event, message)
                return  # credit is given back when it has been looked at, or
            if event.channel != CONTROL:
                self._intake.delivered(event, message)
                return  # when it has been applied
            self._cargo(event.sender, message)
        except codec.Malformed as error:
            self._effects.append(Rejected(error.reason, error.detail))
        self._effects.append(Consumed(event.sender, event.channel, len(event.payload)))

    def _cargo(self, sender: NodeId, message: Message) -> None:
        match message:
            case Report():
                if message.drained > self.plan.levels + 2:
                    raise codec.Malformed("report", f"{message.drained} levels of {self.plan.levels}")
                self._reports.received(sender, message)
            case BatchDone():
                self._batch_done(sender, message)
            case Lookup():
                self._effects += self._reads.asked_by_peer(sender, message)
            case Found():
                self._effects += self._reads.found(sender, message)
            case ChunksTaken(number):
                self.handoff.chunks_taken(sender, number)
            case TakeSplits():
                may_take = not self._departure.leaving and self.progress.drained == 0
                self._effects += self._split_moves.asked(sender, message, may_take=may_take)
            case SplitsTaken():
                self._split_moves.answered(sender, message)
            case Farewell(epoch):
                self.router.farewell(sender, epoch)
                self._split_moves.farewell(sender)
                self._transmit(sender, FarewellHeard(epoch))
            case FarewellHeard():
                self._departure.confirmed(sender)
            case _:
                raise codec.Malformed("cargo", f"{type(message).__name__} does not travel on a link")

    def _batch_done(self, sender: NodeId, done: BatchDone) -> None:
        if len(done.refused) != 2 * len(done.starts):
            raise codec.Malformed("batch-done", "columns of different lengths")
        refused = dict(zip(slots_from_bytes(done.refused), done.starts, strict=True))
        wrong = self.router.done(sender, done.stage, done.number, done.epoch, refused)
        if wrong is not None:
            raise codec.Malformed("batch-done", wrong)

    # -- records come for a stage

    def _may_apply(self, stage: int) -> bool:
        plan = self.plan.stages[stage]
        return self._intake.ready(stage, self.handoff.shut(plan.level)) and self._may_emit(plan.fragment)

    def _apply_one(self) -> bool:
        stage = next((stage for stage in reversed(self._stages()) if self._may_apply(stage)), None)
        if stage is None:
            return False
        pace = self._stage_paces[stage]
        batch, is_last = self._intake.take(stage, pace.most)
        self._unit = (pace, len(batch.keys))
        refused = self.handoff.holdings.refused(batch.epoch, batch.slot_set)
        self._apply(stage, batch.without(refused) if refused else batch)
        if is_last:
            self._answer(stage, batch)
        return True

    def _apply(self, stage: int, batch: Waiting) -> None:
        plan = self.plan.stages[stage]
        applied = self.owner.apply(stage, batch.keys, batch.values)
        self.records_keyed += len(batch.keys)
        for index, error in applied.failures:
            self.failed(plan.name, plan.where, (batch.keys[index], batch.values[index]), error)
        if applied.outs:
            self._run(plan.fragment, applied.out_keys, applied.outs)

    def _answer(self, stage: int, batch: Waiting) -> None:
        epoch, refused = self.handoff.holdings.epoch, batch.refused
        if batch.sender is None:
            wrong = self.router.done(self.me, stage, batch.number, epoch, refused)
            assert wrong is None, wrong
            return
        if batch.sender not in self._departure.heard:  # else it was told that all the rest is refused
            self._transmit(
                batch.sender, BatchDone(stage, batch.number, epoch, slots_to_bytes([*refused]), (*refused.values(),))
            )
        self._effects.append(Consumed(batch.sender, self.plan.stages[stage].level, batch.size))

    # -- records leave; this object is the `Emit` of every fragment

    def _run(self, fragment: Fragment, keys: list[Any] | None, items: list[Any]) -> None:
        fragment.run(keys, items, self)
        self._send(self.router.full_batches(fragment.stages))

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        self.router.put(stage, keys, values)
        self._tell_set_aside()

    def to_sink(self, sink: int, items: list[Any]) -> None:
        self.records_out += len(items)
        self._effects.append(WriteSink(sink, items))

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        log = self.set_aside.record(step, where, value, error, self._now)
        if log is not None:
            self._effects.append(log)

    def _send(self, batches: Iterable[Packed]) -> None:
        for batch in batches:
            if batch.records is not None:
                own = batch.records
                waiting = Waiting(None, batch.number, batch.epoch, 0, own.keys, own.values, own.slots)
                self._intake.put_own(batch.stage, waiting)
            else:
                self._effects.append(Transmit(batch.owner, self.plan.stages[batch.stage].level, batch.payload))
        self._tell_set_aside()

    def _tell_set_aside(self) -> None:
        for stage, value, error in self.router.set_aside():
            plan = self.plan.stages[stage]
            self.failed(f"on the way to {plan.name}", plan.where, value, error)

    def _may_emit(self, fragment: Fragment) -> bool:
        return all(self.router.open_for(stage) and self._intake.has_room(stage) for stage in fragment.stages)

    def _stages(self) -> range:
        return range(len(self.plan.stages))

    def _transmit(self, to: NodeId, message: Message) -> None:
        self._effects.append(Transmit(to, CONTROL, codec.encode_with_values(message)))

    # -- what is true by now

    def _advance(self) -> None:
        """Any event may be the last one that something waited for."""
        if self.table is None:
            return
        self._send(self.router.released())
        self._effects += self.handoff.tell_settled()
        if self._departure.leaving:
            self._leave()
        if self.me in self.table.members:
            self._claim()
        if self._reports.due(self._now, self.progress.drained, self._is_reading()):
            self._effects += self._reports.tell(self.report(), self._now)
        if self.progress.done() and not self._finished:
            self._finished = True
            self._effects.append(JobDone())

    def _claim(self) -> None:
        """Levels drained, sinks flushed."""
        while self.sources.ended() and not self._split_moves.pending() and self.quiet() and self.progress.may_drain():
            self.progress.drain()
        if self.progress.may_flush() and not self._finishing:
            self._finishing = True
            self._effects.append(FlushSinks())

    def _is_reading(self) -> bool:
        return not self.sources.ended()

    def report(self) -> Report:
        """This node's own counts."""
        return Report(
            0 if self.table is None else self.table.epoch,
            self.progress.drained,
            self._is_reading(),
            self.owner.key_count(),
            self.records_keyed,
            self.records_out,
            self.set_aside.count,
            self.sources.counts(),
        )

    @property
    def reports(self) -> dict[NodeId, Report]:
        """The newest of every other worker."""
        return self._reports.others

    # -- this node leaves

    def _leave(self) -> None:
        assert self.table is not None
        takers = self._takers()
        if takers and not self.sources.nothing_left() and self._has_drained_sources():
            self._effects += self._split_moves.give_away(takers)
        others = [node for node in self.table.workers if node != self.me]
        self._effects += self._departure.step(self.table.epoch, self._is_empty(), others)

    def _takers(self) -> list[NodeId]:
        """Who may still take splits."""
        if not all(can_travel(split) for split in self.sources.unfinished()):
            return []
        assert self.table is not None
        away = (self.me, *self.table.down, *self._reports.unreachable)
        there = [node for node in self.table.workers if node not in away]
        staying = [each for each in there if self._staying.get(each, True) and not self._has_claimed(each)]
        return self._split_moves.takers(staying)

    def _has_claimed(self, node: NodeId) -> bool:
        report = self.reports.get(node)
        return report is not None and report.drained > 0

    def _has_drained_sources(self) -> bool:
        """All that this node has read is applied, and nothing more is on its way out of a source."""
        plans = list(enumerate(self.plan.sources))
        if any(self._reading[source] and not plan.connector.blocking for source, plan in plans):
            return False
        return self.router.idle_for({stage for _, plan in plans for stage in plan.fragment.stages})

    def _is_empty(self) -> bool:
        at_rest = self.sources.nothing_left() and not self._split_moves.pending() and self.quiet()
        return at_rest and not self.handoff.holdings.named() and not self.handoff.busy()


def _founders(table: TableAgreed) -> tuple[NodeId, ...]:
    return table.founders or (table.workers if table.epoch == 1 else ())
