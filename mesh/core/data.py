"""The data plane: composes sources, router, owner, progress and lookups, and decides what to do next.

It runs the application's code, so it may be slow; everything that must stay quick is in the control plane.

Events    TableAgreed, Delivered, SplitsListed, SplitRead, SinksFlushed, LookupAsked, MemberChanged, Woke
Effects   ListSplits, ReadSplit, WriteSink, FlushSinks, Transmit, Consumed, Answered, JobDone, Log, Rejected
`work`    does one unit: one batch of the deepest stage that may emit, else one chunk of a source, else a flush. Deeper
          stages go first and a producer stops while a window of a stage it feeds is full, so memory stays bounded and
          the last stage always drains: the graph has no cycles, hence no deadlock.
Invariant a batch is reported done only after its outputs are in the router or in a sink's hands.
Bounds    what comes before the partition is kept, and gets no credit before it is handled: a window a link.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.app.plan import Fragment, Plan
from mesh.core import codec, lookups, sources
from mesh.core.codec import MAX_ITEMS
from mesh.core.events import (
    Answered,
    Consumed,
    Delivered,
    Effect,
    Event,
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
    TableAgreed,
    Transmit,
    Woke,
    WriteSink,
)
from mesh.core.intake import Intake
from mesh.core.keys import BadKey, encode_key, hash_key, slot_of_hash
from mesh.core.messages import ALIVE, SUSPECT, BatchDone, Found, Lookup, Member, Message, NodeId, Report
from mesh.core.owner import ABSENT, UNKNOWN_STAGE, Owner
from mesh.core.pace import Pace
from mesh.core.progress import Progress
from mesh.core.router import BATCH_RECORDS, WINDOW_BYTES, Packed, Router
from mesh.core.set_aside import SetAside

CONTROL = 0  # the channel of reports, acknowledgements and reads; a stage's batches travel on the channel of its level
REPORT_MS = 500  # how stale another node's counts may be
CHUNK_BYTES = 64 << 10  # of a source in one unit of work: ~10,000 words, a few milliseconds
FIRST_BYTES, FIRST_RECORDS = 1, 1  # of the first unit: nobody knows yet how slow a step is, how much a line becomes
QUIET_MS = 10  # a source that had nothing to give is asked again after this
FLUSH_MS = 100  # a node that is never idle sends what is buffered after this, however little it is
MAX_KEY = 1 << 20  # bytes of a key that another node is asked for


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
        self.owner = Owner(plan.stages)
        self.router = Router(me, len(plan.stages), slots, seed, window_bytes, batch_records)
        self.sources = sources.Sources([(each.name, each.connector.endless) for each in plan.sources])
        self.progress = Progress(plan.levels + 1)
        self.set_aside = SetAside()
        self.table: TableAgreed | None = None
        self.reports: dict[NodeId, Report] = {}  # the newest of every other worker
        self.records_keyed = 0
        self.records_out = 0
        self._slots = slots
        self._seed = seed
        self._intake = Intake(plan.stages)
        self._lookups = lookups.Lookups()
        self._early: list[Delivered] = []  # came before the partition did
        self._unreachable: dict[NodeId, None] = {}
        self._differ: dict[str, None] = {}  # sources that another node lists differently
        self._reading = [False] * len(plan.sources)  # a read was asked for and has not come back
        self._not_before: list[Millis] = [0] * len(plan.sources)
        self._turn = 0  # the source to read next
        self._read_paces = [Pace(FIRST_BYTES, CHUNK_BYTES) for _ in plan.sources]
        self._stage_paces = [Pace(FIRST_RECORDS, MAX_ITEMS) for _ in plan.stages]
        self._unit: tuple[Pace, int] | None = None  # what the last unit of work took on
        self._stopping = False  # no new reads
        self._finishing = False  # the sinks were told to flush
        self._finished = False  # JobDone was said
        self._last_report: Report | None = None
        self._next_report: Millis = 0
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
                self._lookup_asked(event)
            case MemberChanged(member):
                self._member_changed(member)
            case Woke():
                self._effects += self._lookups.overdue(now)
                self._report(only_if_due=True)
        self._advance()
        return self._taken()

    def next_deadline(self) -> Millis | None:
        if self.table is None:
            return None
        overdue = self._lookups.next_deadline()
        quiet = [self._not_before[source] for source in self._readable()]
        return min([self._next_report, *quiet, *([] if overdue is None else [overdue])])

    def runnable(self, now: Millis) -> bool:
        """Is there a unit of work to do right now?"""
        if self.table is None:
            return False
        return (
            any(self._intake.waiting_at(stage) and self._stage_may_emit(stage) for stage in self._stages())
            or any(self._not_before[source] <= now for source in self._readable())
            or self.router.may_flush()
        )

    def work(self, now: Millis) -> list[Effect]:
        """One unit of work: a few milliseconds, unless the application's code is slow."""
        self._now = now
        self._unit = None
        if self.table is not None and (
            not (self._apply_one() or self._read_one()) or now >= self._flushed_at + FLUSH_MS
        ):
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

    # -- the partition comes

    def _table_agreed(self, table: TableAgreed) -> None:
        self.table = table
        self.router.set_table(table.epoch, table.owners, table.owner_of_slot)
        self.progress.set_workers(node for node in table.owners if node != self.me)
        self._intake.set_table(table.epoch, (node for node in table.owners if node != self.me))
        self._next_report = self._now
        for source in range(len(self.plan.sources)):
            if self.me in table.owners:
                self._effects.append(ListSplits(source))
            else:
                self.sources.listed(source, [])  # a witness reads nothing
        early, self._early = self._early, []
        for event in early:  # others may have learned of the partition, worked, and told their last news before
            self._delivered(event)

    def _splits_listed(self, event: SplitsListed) -> None:
        assert self.table is not None
        readers = sources.deal(event.splits, self.table.owners)
        mine = [split for split, reader in zip(event.splits, readers, strict=True) if reader == self.me]
        self.sources.listed(event.source, mine, sources.fingerprint(event.splits))
        for report in self.reports.values():
            self._compare_listings(report)

    def _compare_listings(self, theirs: Report) -> None:
        """Nodes that list a source differently deal it differently: some of it is read twice, and some by nobody."""
        for mine, other in zip(self.sources.counts(), theirs.sources, strict=False):
            if mine.listing and other.listing and mine.listing != other.listing and mine.name not in self._differ:
                self._differ[mine.name] = None
                error = sources.SplitsDiffer("another node lists other splits, or other sizes; all must see the same")
                self.failed(f"source {mine.name}", "its list of splits", mine.splits, error)

    # -- records come from a source

    def stop_reading(self) -> None:
        """This node is asked to stop: what was read goes on, nothing more is read."""
        self._stopping = True

    def quiet(self) -> bool:
        """Nothing read, routed or delivered waits for anything."""
        return self.router.idle() and self._intake.empty()

    def drained(self) -> bool:
        """Quiet, but for what waits for a node that is gone: this node need not stay for that."""
        return self._intake.empty() and self.router.waits_for() <= self._unreachable.keys()

    def _readable(self) -> list[int]:
        if self._stopping:
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
        if self.sources.read(event.source, event.split, len(event.values), event.next_offset, event.ended):
            self._not_before[event.source] = self._now + QUIET_MS
        values = [value for value in event.values if value is not None]  # None means nothing, also from a source
        if values:
            self._run(self.plan.sources[event.source].fragment, None, values)

    # -- records come for a stage

    def _delivered(self, event: Delivered) -> None:
        try:
            message = codec.decode_with_values(event.payload)
            if event.channel != CONTROL:
                self._intake.delivered(event, message)
                return  # its credit is given back when it has been applied
            self._cargo(event.sender, message)
        except codec.Malformed as error:
            self._effects.append(Rejected(error.reason, error.detail))
        self._effects.append(Consumed(event.sender, event.channel, len(event.payload)))

    def _cargo(self, sender: NodeId, message: Message) -> None:
        match message:
            case Report():
                if message.drained > self.plan.levels + 2:
                    raise codec.Malformed("report", f"{message.drained} levels of {self.plan.levels}")
                if self.table is not None and sender in self.table.members:
                    self.reports[sender] = message
                    self.progress.reported(sender, message.drained)
                    self._compare_listings(message)
            case BatchDone(stage, number):
                wrong = self.router.done(sender, stage, number)
                if wrong is not None:
                    raise codec.Malformed("batch-done", wrong)
            case Lookup(number, stage_name, key):
                self._lookup(sender, number, stage_name, key)
            case Found():
                self._effects += self._lookups.found(sender, message)
            case _:
                raise codec.Malformed("cargo", f"{type(message).__name__} does not travel on a link")

    def _apply_one(self) -> bool:
        for stage in reversed(self._stages()):
            if self._intake.waiting_at(stage) and self._stage_may_emit(stage):
                self._apply(stage)
                return True
        return False

    def _apply(self, stage: int) -> None:
        plan = self.plan.stages[stage]
        pace = self._stage_paces[stage]
        batch, is_last = self._intake.take(stage, pace.most)
        self._unit = (pace, len(batch.keys))
        applied = self.owner.apply(stage, batch.keys, batch.values)
        self.records_keyed += len(batch.keys)
        for index, error in applied.failures:
            self.failed(plan.name, plan.where, (batch.keys[index], batch.values[index]), error)
        if applied.outs:
            self._run(plan.fragment, applied.out_keys, applied.outs)
        if is_last and batch.sender is not None:
            self._transmit(batch.sender, BatchDone(stage, batch.number))
            self._effects.append(Consumed(batch.sender, plan.level, batch.size))

    # -- records leave; this object is the `Emit` of every fragment

    def _run(self, fragment: Fragment, keys: list[Any] | None, items: list[Any]) -> None:
        fragment.run(keys, items, self)
        self._send(self.router.full_batches(fragment.stages))

    def to_stage(self, stage: int, keys: list[Any], values: list[Any]) -> None:
        self.router.put(stage, keys, values)
        self._tell_refused()

    def to_sink(self, sink: int, items: list[Any]) -> None:
        self.records_out += len(items)
        self._effects.append(WriteSink(sink, items))

    def failed(self, step: str, where: str, value: object, error: BaseException) -> None:
        log = self.set_aside.record(step, where, value, error, self._now)
        if log is not None:
            self._effects.append(log)

    def _send(self, batches: Iterable[Packed]) -> None:
        for batch in batches:
            if batch.owner == self.me:
                self._intake.put_own(batch.stage, batch.keys, batch.values)
            else:
                self._effects.append(Transmit(batch.owner, self.plan.stages[batch.stage].level, batch.payload))
        self._tell_refused()

    def _tell_refused(self) -> None:
        refused, self.router.refused = self.router.refused, []
        for stage, value, error in refused:
            plan = self.plan.stages[stage]
            self.failed(f"on the way to {plan.name}", plan.where, value, error)

    def _may_emit(self, fragment: Fragment) -> bool:
        return all(self.router.open_for(stage) and self._intake.has_room(stage) for stage in fragment.stages)

    def _stage_may_emit(self, stage: int) -> bool:
        return self._may_emit(self.plan.stages[stage].fragment)

    def _stages(self) -> range:
        return range(len(self.plan.stages))

    # -- the end of the job, and what the others know of it

    def _advance(self) -> None:
        """Claim what is true by now: levels drained, sinks flushed, job done. Any event may be the last one."""
        if self.table is None:
            return
        while self.sources.ended() and self.quiet() and self.progress.may_drain():
            self.progress.drain()
        if self.progress.may_flush() and not self._finishing:
            self._finishing = True
            self._effects.append(FlushSinks())
        if self._last_report is not None and self._last_report.drained != self.progress.drained:
            self._report(only_if_due=False)
        if self.progress.done() and not self._finished:
            self._finished = True
            self._effects.append(JobDone())

    def report(self) -> Report:
        """This node's own counts."""
        counts = self.sources.counts()
        return Report(
            self.progress.drained,
            self.owner.key_count(),
            self.records_keyed,
            self.records_out,
            self.set_aside.count,
            counts,
        )

    def _report(self, *, only_if_due: bool) -> None:
        if self.table is None or (only_if_due and self._now < self._next_report):
            return
        self._next_report = self._now + REPORT_MS
        report = self.report()
        if report == self._last_report:
            return
        self._last_report = report
        for node in self.table.members if self.me in self.table.members else ():
            if node != self.me and node not in self._unreachable:  # its link would keep them all
                self._transmit(node, report)

    def _member_changed(self, member: Member) -> None:
        if member.status not in (ALIVE, SUSPECT):
            self._unreachable[member.node] = None
            return
        if member.node not in self._unreachable:
            return
        del self._unreachable[member.node]
        if self.table is not None and self._last_report is not None and member.node in self.table.members:
            self._transmit(member.node, self._last_report)

    # -- reads

    def _lookup_asked(self, asked: LookupAsked) -> None:
        if self.plan.stage(asked.stage) is None:
            self._effects.append(Answered(asked.ticket, UNKNOWN_STAGE))
        elif not self._is_good(asked.key):
            self._effects.append(Answered(asked.ticket, ABSENT))  # no state can have such a key
        elif (owner := self._owner_of(asked.key)) == self.me:
            self._effects.append(Answered(asked.ticket, *self.owner.read(asked.stage, asked.key)))
        else:
            self._ask(owner, asked)

    def _ask(self, owner: NodeId | None, asked: LookupAsked) -> None:
        number = None
        if owner is not None and owner not in self._unreachable and len(encode_key(asked.key)) <= MAX_KEY:
            number = self._lookups.wait_for(owner, asked.ticket, self._now)
        if owner is None or number is None:
            self._effects.append(Answered(asked.ticket, lookups.UNAVAILABLE))
        else:
            self._transmit(owner, Lookup(number, asked.stage, [asked.key]))

    def _lookup(self, sender: NodeId, number: int, stage: str, key: list[Any]) -> None:
        if len(key) != 1 or not self._is_good(key[0]):
            raise codec.Malformed("lookup", "not one good key")
        outcome, state = lookups.UNAVAILABLE, b""
        if self._owner_of(key[0]) == self.me:
            outcome, state = self.owner.read(stage, key[0])
        self._transmit(sender, Found(number, outcome, state))

    def _is_good(self, key: Any) -> bool:
        try:
            encode_key(key)
        except BadKey:
            return False
        return True

    def _owner_of(self, key: Any) -> NodeId | None:
        if self.table is None:
            return None
        slot = slot_of_hash(hash_key(key, self._seed), self._slots)
        return self.table.owners[self.table.owner_of_slot[slot]]

    def _transmit(self, to: NodeId, message: Message) -> None:
        self._effects.append(Transmit(to, CONTROL, codec.encode_with_values(message)))
