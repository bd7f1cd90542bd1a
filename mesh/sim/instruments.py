"""What the application on a process tells the world: what it reads, works on and writes, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from mesh.core.events import Millis
from mesh.runtime.worker import Worker
from mesh.sim.workload import NOTED, Line, Record, key_of_note

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World


class WatchedWorker(Worker):
    """Production's, but that answers are looked at instead of waited for, and commits take the world's time."""

    def __init__(self, process: Process, world: World) -> None:
        node, instruments = process.node, process.instruments
        part = f"{process.name}-{process.id[:3].hex()}"
        super().__init__(node.data, part, lambda: None, node.inbox, lambda: instruments.toil)
        self._process = process
        self._world = world

    def _commit(self, number: int) -> None:
        self._process.writing.commit(number)

    def _answer(self, number: int, outcome: str, state: bytes) -> None:
        asked = self._world.reads if number > 0 else self._world.clients
        asked.answer(self._process, number, outcome, state)


class Instruments:
    """The observer of a process's workload; `toil` is what the application's code has taken in this turn."""

    def __init__(self, process: Process, world: World) -> None:
        self.toil: Millis = 0
        self._process = process
        self._world = world

    def reading(self, stream: str, offset: int, lines: Sequence[Line]) -> None:
        self._toiled(self._process.random.randint(1, 1 + 2 * self._world.scenario.pace))
        self._world.checkers.reading(self._process)
        self._world.ledger.reading(self._process.id, stream, offset, lines)

    def stepping(self, stage: int, record: Record, count: int) -> None:
        if self.toil == 0:
            self._toiled(self._process.random.randint(0, 2))
        self._world.checkers.stepping(self._process, stage, self._world.scenario.workload.key(stage, record[2]))
        if stage == 0:
            self._world.clients.posted.taking(record)
        self._world.ledger.stepping(self._process.id, stage, record, count)

    def writing(self, sink: str, items: Sequence[Any]) -> None:
        if sink == NOTED:
            self._world.clients.posted.writing(items)
        else:
            self._world.ledger.writing(sink, items)

    def noting(self, note: Record, count: int) -> None:
        """The stage of notes works on one."""
        key = key_of_note(note)
        if self.toil == 0:
            self._toiled(self._process.random.randint(0, 2))
        self._world.checkers.stepping(self._process, len(self._world.scenario.workload.stages), key)
        reign, is_done = self._world.checkers.reign_of(self._process.id, key), self._process.job_done
        self._world.clients.posted.noting(reign, note, count, is_done=is_done)

    def random(self) -> Random:
        return self._process.random

    def _toiled(self, usual: Millis) -> None:
        """A call into the application's code took its time."""
        slow = self._world.now < self._process.host.slow_code_until
        self.toil += self._process.random.choice((10, 100, 1_000, 2_500)) if slow else usual
