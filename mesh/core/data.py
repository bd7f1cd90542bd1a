"""The data plane: composes the machines of the application's work, and decides what is done next.

It runs the application's code, so it may be slow; everything that must stay quick is in the control plane.

Events    TableAgreed, Delivered, SplitsListed, SplitRead, SinksFlushed, LookupAsked, ListingAsked, LinesPosted,
          RecordAsked, MemberChanged, Fenced, StartLeaving, StoreCommitted, Woke
Effects   ListSplits, ReadSplit, WriteSink, FlushSinks, Transmit, Consumed, Answered, Listed, JobDone, SlotsInstalled,
          SlotsRooted, HandedOver, CommitStore, Log, Rejected
`work`    does one unit: a chunk of what moves, then one batch of the deepest stage that may emit, else one chunk of a
          source, else a flush. Deeper stages go first and a producer stops while a window of a stage it feeds is full,
          so memory stays bounded and the last stage always drains: the graph has no cycles, hence no deadlock.
Invariant a batch is answered only after its outputs are in the router or in a sink's hands. While fenced, which means
          out of touch with the majority, nothing is applied, read or answered.
Bounds    what comes before the partition is kept, and gets no credit before it is handled: a window a link.
"""

from __future__ import annotations

from mesh.app.plan import Plan
from mesh.core.cargo import Cargo
from mesh.core.events import Effect, Event, Millis, Woke
from mesh.core.events.planes import Delivered, Fenced, MemberChanged, StartLeaving, TableAgreed
from mesh.core.events.work import (
    FlushSinks,
    JobDone,
    LinesPosted,
    ListingAsked,
    LookupAsked,
    RecordAsked,
    SinksFlushed,
    SinkWritten,
    SplitRead,
    SplitsListed,
    StoreCommitted,
)
from mesh.core.keeping import Keeping
from mesh.core.kept import Kept
from mesh.core.light import Light
from mesh.core.messages import NodeId
from mesh.core.messages.work import Report
from mesh.core.pace import Pace, Share
from mesh.core.packing import BATCH_RECORDS, WINDOW_BYTES
from mesh.core.shelf import WARM_BYTES
from mesh.core.storing import Store

FILL_PART = 16  # of the time of a node that works, one part in so many fills copies: it keeps its rate, nearly
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
        *,
        keeps: bool = False,
        store: Store | None = None,
        warm_bytes: int = WARM_BYTES,
    ) -> None:
        """With a store, which only a plane that keeps has, all that it owns and keeps is there; states in memory are at
        most about `warm_bytes`."""
        assert keeps or store is None
        self.me = me
        self.plan = plan
        self.keeps = keeps  # what was given out is given again until it is known to be over: its sinks are told names
        work: Kept | Light
        if keeps:
            work = Kept(me, plan, slots, seed, window_bytes, batch_records, store, warm_bytes)
        else:
            work = Light(me, plan, slots, seed, window_bytes, batch_records)
        self._work = work
        self._cargo = Cargo(plan, work)
        self.owner, self.router, self.handoff = work.owner, work.router, work.handoff
        self.progress, self.sources = work.progress, work.reading.sources
        self.table: TableAgreed | None = None
        self._intake, self._emitting, self._applying, self._reading = (
            work.intake,
            work.emitting,
            work.applying,
            work.reading,
        )
        self._reads, self._listing, self._posts = work.reads, work.listing, work.posts
        self._reports, self._departure = work.reports, work.departure
        self.set_aside = work.emitting.set_aside
        self._posts_next = False  # they and the batches take turns
        self._is_member = self._is_worker = False  # of the table
        self._early: list[Delivered] = []  # came before the partition did
        self._filling = Share(FILL_PART) if keeps else None  # a state that is shipped is waited for
        self._unit: tuple[Pace, int] | tuple[Share, Millis] | None = None  # what the last unit of work took on
        self._stopping = False  # no new reads
        self._fenced = False
        self._finished = False  # JobDone was said
        self._flushed_at: Millis = 0
        self._effects = work.emitting.effects  # one list, so that all stays in its order
        self._now: Millis = 0
        self._due: Millis | None = None  # the next deadline, and
        self._read_at: Millis | None = None  # when there is something to read,
        self._is_looked_up = False  # since the last change

    # -- the machine

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        self._now = self._emitting.now = now
        self._is_looked_up = False
        match event:
            case Delivered():
                if self.table is None:
                    self._early.append(event)
                else:
                    self._cargo.delivered(event)
            case LinesPosted() | RecordAsked():
                self._posts.asked(event, closed=self._is_closed())
            case SplitRead():
                self._work.came(event, now)
            case SinkWritten():
                self._work.written(event)
            case StoreCommitted(number):
                self._work.durable(number)
            case TableAgreed():
                self._table_agreed(event)
            case SplitsListed():
                self._reading.listed(event)
                self._cargo.compare_listings()
            case SinksFlushed():
                self.progress.flushed()
            case LookupAsked():
                self._effects += self._reads.asked(event, self._reports.unreachable, now)
            case ListingAsked():
                self._effects += self._listing.asked(event, now)
            case MemberChanged(member):
                self._departure.member_changed(member)
                self._effects += self._reports.member_changed(member)
            case Fenced(fenced):
                self.fence(fenced)
            case StartLeaving():
                self._departure.leaving = True
            case Woke():
                self._effects += self._reads.overdue(now) + self._listing.overdue(now)
                self._posts.overdue()
        self._advance()
        return self._taken()

    def is_quick(self, question: Event) -> bool:
        """Is none of the application's code run when it is handled, and little of ours?"""
        if isinstance(question, LookupAsked):
            return self._reads.is_elsewhere(question.key)
        return isinstance(question, RecordAsked | LinesPosted)

    def fence(self, fenced: bool) -> None:
        """At once: a minority must not work on because many other events wait before `Fenced`."""
        self._fenced = self._reads.fenced = self._listing.fenced = fenced
        self._is_looked_up = False

    def next_deadline(self) -> Millis | None:
        """It changes with what this is told, and with its work; asking is cheap."""
        self._look_up()
        return self._due

    def _look_up(self) -> None:
        if not self._is_looked_up:
            self._is_looked_up = True
            self._read_at = self._reading.next_at() if self._may_read() else None
            self._due = None if self.table is None else self._earliest()

    def _earliest(self) -> Millis:
        overdue = [
            self._reports.next_at,
            self._read_at,
            self._reads.next_deadline(),
            self._listing.next_deadline(),
            self._posts.next_deadline(),
            self._work.next_deadline(fenced=self._fenced),
        ]
        if self._filling is not None and not self._fenced and self.handoff.may_send():
            overdue.append(self._filling.next_at)
        return min([due for due in overdue if due is not None])

    def runnable(self, now: Millis) -> bool:
        """Is there a unit of work to do right now?"""
        if self.table is None or self._fenced:
            return False
        if self._posts.may_work() or self._applying.next_stage() is not None:
            return True
        self._look_up()
        may_read = self._read_at is not None and self._read_at <= now
        return may_read or self.router.may_flush() or self._may_send(now) or self._listing.may_work()

    def work(self, now: Millis) -> list[Effect]:
        """One unit of work: a few milliseconds, unless the application's code is slow."""
        self._now = self._emitting.now = now
        self._is_looked_up = False
        filled, self._unit = self._unit is not None and self._unit[0] is self._filling, None
        if self.table is not None and not self._fenced:
            self._effects += self._listing.work()
            if self._filling is None:
                self._effects += self.handoff.send_some()
            worked = (filled and self._apply_or_read()) or self._fill(now) or self._apply_or_read()
            if not worked or now >= self._flushed_at + FLUSH_MS:
                self._flushed_at = now
                self._emitting.send(self.router.flush())
        self._advance()
        return self._taken()

    def _fill(self, now: Millis) -> bool:
        if self._filling is None or not self._may_send(now):
            return False
        self._effects += self.handoff.send_some()
        self._unit = self._filling, now
        return True

    def _may_send(self, now: Millis) -> bool:
        return self.handoff.may_send() and (self._filling is None or self._filling.may(now))

    def took(self, elapsed: Millis) -> None:
        """The driver: the last `work`, with the effects it had, took so long. A driver without a clock never says."""
        self._is_looked_up = False
        if self._unit is not None:
            pace, amount = self._unit
            pace.took(amount, elapsed)

    def _taken(self) -> list[Effect]:
        effects = self._effects.copy()
        self._effects.clear()
        return effects

    # -- the partition comes, and changes

    def _table_agreed(self, table: TableAgreed) -> None:
        before, self.table = self.table, table
        self._is_member, self._is_worker = self.me in table.members, self.me in table.workers
        self.router.set_table(table)
        self._intake.set_table(table.epoch, table.workers)
        self._work.set_table(table)
        self._reads.table = self._listing.table = self._departure.table = table
        self._posts.set_table(table)
        self._effects += self._reports.set_table(table, self._now)
        self._work.set_readers(before, table)
        early, self._early = self._early, []
        for event in early:  # others may have learned of the partition, worked, and told their last news before
            self._cargo.delivered(event)

    # -- records come from a source

    def stop_reading(self) -> None:
        """This node is asked to stop: what was read goes on, nothing more is read."""
        self._stopping = True
        self._is_looked_up = False

    def quiet(self) -> bool:
        """Nothing read, routed or delivered waits for anything."""
        return self.router.idle() and self._intake.empty() and self._posts.idle() and self._work.settled()

    def drained(self) -> bool:
        """Quiet, but for what waits for a node that is gone: this node need not stay for that."""
        return (
            self._intake.empty() and self._posts.idle() and self._work.waits_for() <= self._reports.unreachable.keys()
        )

    def _is_closed(self) -> bool:
        """To what comes by HTTP: also once this node has claimed that nothing more comes from it."""
        return self._fenced or self._stopping or self._departure.leaving or self.progress.closed

    def _may_read(self) -> bool:
        if self._stopping or self._fenced or not self._is_worker:
            return False
        return not self._departure.leaving or self._work.reads_on()

    def _apply_or_read(self) -> bool:
        self._posts_next = not self._posts_next
        self._unit = self._posts.work_one() if self._posts_next else None
        self._unit = self._unit or self._applying.apply_one() or self._posts.work_one()
        if self._unit is None and self._may_read():
            found = self._reading.read_one(self._now)
            if found is not None:
                self._unit = (found[1], found[0].most_bytes)
                self._effects.append(found[0])
        if self._unit is not None and self._filling is not None:
            self._filling.worked()
        return self._unit is not None

    # -- what is true by now

    def _advance(self) -> None:
        """Any event may be the last one that something waited for."""
        if self.table is None:
            return
        self._emitting.send(self.router.released())
        self._work.settle(self._now, fenced=self._fenced)
        if self._departure.leaving:
            self._work.give_away()
            self._effects += self._departure.step(self._is_empty())
        if self._is_member:
            self._claim()
        if self.progress.ended:
            self._posts.end()
        if self._reports.due(self._now, self.progress.drained, self._is_reading()):
            self._effects += self._reports.tell(self.report(), self._now)
        if self.progress.done() and not self._finished:
            self._finished = True
            self._effects.append(JobDone())

    def _claim(self) -> None:
        """Levels drained, sinks flushed."""
        while self._reading.ended() and self.progress.may_drain() and self.quiet():
            self.progress.drain()
        if self.progress.may_flush():
            self.progress.flush()
            self._effects.append(FlushSinks())

    def _is_reading(self) -> bool:
        return not self.sources.ended()

    def states_in_memory(self) -> int:
        """Own and copies; from any thread."""
        own = sum(len(stage.states) for stage in self.owner.stages)
        return own + (self.handoff.states_of_copies() if isinstance(self.handoff, Keeping) else 0)

    @property
    def records_keyed(self) -> int:
        return self._applying.records_keyed + self._posts.records_keyed

    @property
    def records_out(self) -> int:
        return self._emitting.records_out

    def report(self) -> Report:
        """This node's own counts."""
        return Report(
            0 if self.table is None else self.table.epoch,
            self.progress.drained,
            self._is_reading(),
            self.owner.key_count(),
            self.records_keyed,
            self._emitting.records_out,
            self.set_aside.count,
            self.sources.counts(),
        )

    @property
    def reports(self) -> dict[NodeId, Report]:
        """The newest of every other worker."""
        return self._reports.others

    def _is_empty(self) -> bool:
        """Of a leaving node."""
        return self._intake.empty() and self._posts.idle() and self._work.empty()
