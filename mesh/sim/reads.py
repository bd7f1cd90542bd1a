"""Reads of single states, asked of any node at any time.

An answer must be true of some moment between the question and the answer: at least as many records as counted when it
was asked (had been applied; with copies: had been seen to count), at most as many as have been applied now.
"Unavailable" is always allowed, and in the end every question to a living node has been answered once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from mesh.core.events.work import LookupAsked
from mesh.core.lookups import UNAVAILABLE
from mesh.core.owner import ABSENT, FOUND
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World


@dataclass(frozen=True, slots=True)
class Question:
    process: Process
    stage: int
    key: Any
    count: int  # applied when it was asked


class Reads:
    """Open questions, by ticket."""

    def __init__(self, world: World) -> None:
        self.open: dict[int, Question] = {}
        self.answered = 0
        self._world = world
        self._random = Random(f"reads {world.scenario.seed}")
        self._last = 0

    def ask(self, _: None) -> None:
        """Somebody asks a random node for a random key."""
        living = [process for process in self._world.processes if process.alive]
        workload = self._world.scenario.workload
        if not living or not workload.stages:
            return
        stage = self._random.randrange(len(workload.stages))
        number = self._random.randrange(100_000)
        if workload.has_key(stage, number):
            process = self._random.choice(living)
            key = workload.key(stage, number)
            self._last += 1
            self.open[self._last] = Question(process, stage, key, self._world.ledger.least(stage, key))
            process.post(LookupAsked(self._last, f"stage-{stage}", key))

    def answer(self, process: Process, ticket: int, outcome: str, state: bytes) -> None:
        question = self.open.pop(ticket, None)
        if question is None or question.process is not process:
            raise Violation("reads", f"{process.name} answers question {ticket}, which it was not asked, or again")
        self.answered += 1
        now = self._world.ledger.most(question.stage, question.key)
        told = f"{process.name} reads {question.key!r} of stage {question.stage}"
        self._world.transcript.say(process.name, f"is told of {question.key!r} of stage {question.stage}: {outcome}")
        if outcome == ABSENT and question.count:
            raise Violation("reads", f"{told} as absent, and {question.count} records were applied before")
        if outcome == FOUND and not question.count <= _count_in(state) <= now:
            raise Violation(
                "reads", f"{told} after {_count_in(state)} records; there were {question.count}, then {now}"
            )
        if outcome == FOUND:
            self._world.ledger.shown(question.stage, question.key, _count_in(state))
        if outcome not in (FOUND, ABSENT, UNAVAILABLE):
            raise Violation("reads", f"{told}, and the answer is {outcome}")


def _count_in(state: bytes) -> int:
    shown = json.loads(state)
    return int(shown["count"] if isinstance(shown, dict) else shown[0])
