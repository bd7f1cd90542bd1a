"""The thread that works: gives the data plane its events, performs what it asks of sources and sinks.

Other threads only append to `inbox` and read plain counters. `turn` is one round: all that came, then one unit of work.
What concerns other nodes is returned; embedded there are none.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from mesh.core.data import DataPlane
from mesh.core.events import Effect, Event, Millis, Woke
from mesh.core.events.planes import TableAgreed
from mesh.core.events.work import (
    Answered,
    CommitStore,
    FlushSinks,
    JobDone,
    Listed,
    ListingAsked,
    ListSplits,
    LookupAsked,
    ReadSplit,
    WriteSink,
)
from mesh.core.kept_reading import SAVE_MS
from mesh.core.lookups import UNAVAILABLE
from mesh.core.storing import Store
from mesh.runtime.connections import Connections
from mesh.runtime.flushing import Flushing
from mesh.runtime.store_thread import StoreThread

UNKNOWN = "unknown"  # whether it was applied: who asked is not told any more
_OWN = (ListSplits, ReadSplit, WriteSink, FlushSinks)  # effects on this node's sources and sinks
MAX_EVENTS_A_TURN = 64  # then work goes on, so that a flood of messages does not starve it
EVENTS_MS = 20  # also then: before the next turn this node looks up, answers its peers, and learns tables

A = TypeVar("A")


class Worker:
    """One node's data plane with its surroundings.

    `part` names its share of every sink; `wake` interrupts the thread's wait for something to do; `clock` says in
    milliseconds how long the work takes. `store` is the data plane's; it is closed here.
    """

    def __init__(
        self,
        data: DataPlane,
        part: str,
        wake: Callable[[], None],
        inbox: deque[Event | BaseException],
        clock: Callable[[], Millis] = lambda: time.monotonic_ns() // 1_000_000,
        store: Store | None = None,
        at_once: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        """`at_once` may have an event taken (see `take`) by the thread that has it."""
        self.data = data
        self.inbox = inbox
        self.connections = Connections(data.plan, part, self.post, named=data.keeps)
        self.job_done = False
        self._rests = False
        self._wake = wake
        self._clock = clock
        self._at_once = at_once
        self._postponed: list[Effect] = []
        self._flushing = Flushing(data.keeps)
        self._store = StoreThread(store, self.post) if store is not None else None
        self._tickets: dict[int, _Ticket] = {}
        self._calls: dict[int, Callable[[str, bytes], None]] = {}  # tickets whose holders do not wait
        self._untold: deque[tuple[Callable[[str, bytes], None], str, bytes]] = deque()
        self._answering = True
        self._last_ticket = 0
        self._tickets_lock = threading.Lock()

    def post(self, event: Event | BaseException) -> None:
        """From any thread."""
        self.inbox.append(event)
        self._wake()

    def busy(self, now: Millis) -> bool:
        return bool(self.inbox) or self.data.runnable(now)

    def rests(self) -> bool:
        """No work is left, and nothing has come since."""
        return self._rests and not self._postponed and not self.inbox

    def settle(self, now: Millis) -> None:
        """Right after a turn: is there more to do? Asked when all that others wait for has been sent to them."""
        self._rests = self._rests and not self.data.runnable(now)

    def take(self, event: Event, now: Millis) -> list[Effect]:
        """What somebody asks, between two turns and maybe in another thread: all of a turn that needs no code of the
        application's. Is there more to it, this worker does not rest: `settle` follows."""
        outward: list[Effect] = []
        effects = self.data.handle(event, now)
        own = next((place for place, each in enumerate(effects) if isinstance(each, _OWN)), len(effects))
        self._perform(effects[:own], now, outward)
        self._postponed += effects[own:]
        return outward

    def turn(self, now: Millis) -> list[Effect]:
        """One round; the effects that are not for this thread's own sources and sinks."""
        effects = self.hear(now) + self.work(now)
        self.tell()
        self.settle(now)
        return effects

    def hear(self, now: Millis) -> list[Effect]:
        """The first half: what came, and what is due. Others wait for the answers, so they do not wait for the work."""
        outward: list[Effect] = []
        deadline = self.data.next_deadline()
        postponed, self._postponed = self._postponed, []
        self._perform(postponed, now, outward)
        started, events = self._clock(), min(len(self.inbox), MAX_EVENTS_A_TURN)
        while events and self._clock() - started < EVENTS_MS:
            events -= 1
            event = self.inbox.popleft()
            if isinstance(event, BaseException):
                raise event
            if (
                isinstance(event, TableAgreed) and self.data.table is None
            ):  # a later one is no reason to open them again
                self.connections.open_writers(event.cluster_id.hex()[:12])
            self._perform(self.data.handle(event, now), now, outward)
        if deadline is not None and deadline <= now:
            self._perform(self.data.handle(Woke(), now), now, outward)
        return outward

    def work(self, now: Millis) -> list[Effect]:
        """The second half: one unit. Whether this worker rests is known when it is settled."""
        outward: list[Effect] = []
        self._rests = True
        if self.data.runnable(now):
            started = self._clock()
            self._perform(self.data.work(now), now, outward)
            self.data.took(self._clock() - started)
        self._flush_if_due(now, outward)
        return outward

    def next_deadline(self) -> Millis | None:
        """When to take a turn though nothing comes."""
        due = self.data.next_deadline()
        if not self.connections.unflushed:
            return due
        flush = self._flushing.deadline()
        return flush if due is None else min(flush, due)

    def _flush_if_due(self, now: Millis, outward: list[Effect]) -> None:
        if not self.connections.unflushed:
            return
        waiting = sum(self.connections.waiting.values())
        if self._flushing.due(now, not self.data.runnable(now), waiting):
            self._rests = False
            self._flushing.flushed(now)
            self.connections.flush()
            for written in self.connections.written():
                self._perform(self.data.handle(written, now), now, outward)

    def _perform(self, effects: list[Effect], now: Millis, outward: list[Effect]) -> None:
        """In order: what an answer leads to comes after what was asked for before it was there."""
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            match effect:
                case ListSplits() | ReadSplit() | WriteSink() | FlushSinks():  # _OWN
                    answer = self.connections.perform(effect)
                    for each in self.connections.written():
                        waiting.extend(self.data.handle(each, now))
                    if answer is not None:
                        waiting.extend(self.data.handle(answer, now))
                case Answered(ticket, outcome, state):
                    self._answer(ticket, outcome, state)
                case Listed():
                    self._listed(effect)
                case CommitStore(number):
                    assert self._store is not None
                    self._store.commit(number)
                case JobDone():
                    self.job_done = True
                    outward.append(effect)
                case _:
                    outward.append(effect)

    # -- the end

    def finish(self, now: Millis) -> list[Effect]:
        """The last turn: sinks show what they have, and the store what was put. Sinks of a run that goes on when it is
        started again keep what they know of names."""
        outward: list[Effect] = []
        postponed, self._postponed = self._postponed, []
        self._perform(postponed, now, outward)
        durable = True
        if self._store is not None:
            self.connections.flush()
            for written in self.connections.written():
                self._perform(self.data.handle(written, now), now, outward)
            now += SAVE_MS  # how far sources are read by now is due
            self._perform(self.data.handle(Woke(), now), now, outward)
            durable = self._store.end()
        goes_on = self._store is not None and not (self.job_done and self.data.quiet() and durable)
        self.connections.close(goes_on=goes_on)
        self.close_store()
        return outward

    def give_up(self) -> None:
        """As `finish`, when nothing more may be asked of the data plane; after it this does nothing."""
        try:
            self.connections.close(goes_on=self._store is not None)
        finally:
            self.close_store()

    def close_store(self) -> None:
        """Once."""
        store, self._store = self._store, None
        if store is not None:
            store.end()
            store.close()

    # -- reads, from any thread

    def lookup(self, stage: str, key: Any, timeout: float) -> tuple[str, Any]:
        """(outcome, JSON value) of a key's state, wherever it lives; blocks for `timeout` seconds at most."""
        unanswered: tuple[str, Any] = UNAVAILABLE, None
        return self._asked(lambda ticket: LookupAsked(ticket, stage, key), timeout, unanswered)

    def listing(self, question: Callable[[int], ListingAsked], timeout: float) -> Listed:
        """The next keys of a stage, wherever they live; blocks for `timeout` seconds at most."""
        return self._asked(question, timeout, Listed(0, UNAVAILABLE, why="this node does not answer now"))

    def _asked(self, question: Callable[[int], Event], timeout: float, unanswered: A) -> A:
        with self._tickets_lock:
            self._last_ticket += 1
            number = self._last_ticket
            if not self._answering:
                return unanswered
            ticket = self._tickets[number] = _Ticket(unanswered)
        self._ask(question(number))
        answered = ticket.done.wait(timeout)
        with self._tickets_lock:
            self._tickets.pop(number, None)
        return ticket.answer if answered else unanswered

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        """Does not wait; `done(outcome, JSON text)` is called once, from the thread that works or from this one."""
        with self._tickets_lock:
            self._last_ticket += 1
            number = self._last_ticket
            answering = self._answering
            if answering:
                self._calls[number] = done
        if answering:
            self._ask(question(number))
        else:
            done(UNAVAILABLE, b"")

    def _ask(self, question: Event) -> None:
        if not self._at_once(question):
            self.post(question)

    def stop_answering(self) -> None:
        """Nobody takes turns any more: who waits for a read need not wait for its timeout."""
        self.tell()
        with self._tickets_lock:
            self._answering = False
            waiting = list(self._tickets.values())
            calls, self._calls = self._calls, {}
        for ticket in waiting:
            ticket.done.set()
        for call in calls.values():
            call(UNKNOWN, b"")

    def _answer(self, number: int, outcome: str, state: bytes) -> None:
        with self._tickets_lock:
            call = self._calls.pop(number, None)
        if call is not None:
            self._untold.append((call, outcome, state))
        else:
            self._give(number, (outcome, json.loads(state) if state else None))

    def tell(self) -> None:
        """Answers to who does not wait; after what is for other nodes, before all else that is left to do."""
        while self._untold:
            call, outcome, state = self._untold.popleft()
            call(outcome, state)

    def _listed(self, listed: Listed) -> None:
        self._give(listed.ticket, listed)

    def _give(self, number: int, answer: Any) -> None:
        with self._tickets_lock:
            ticket = self._tickets.get(number)
        if ticket is not None:
            ticket.answer = answer
            ticket.done.set()


class _Ticket:
    def __init__(self, unanswered: Any) -> None:
        self.done = threading.Event()
        self.answer = unanswered
