"""Reads of one key's state, through any node.

States    asked here -> answered, or overdue. A read for a key of this node is answered at once; else it travels to the
          owner as `Lookup` and comes back as `Found`. Reading creates nothing.
Invariant every ticket is answered exactly once, within LOOKUP_MS; at most MAX_WAITING wait.
"""

from __future__ import annotations

from mesh.core.events import Effect, Millis
from mesh.core.events.work import Answered
from mesh.core.messages import NodeId
from mesh.core.messages.outside import Found

LOOKUP_MS = 2_000  # as long as a person waits; the HTTP door then says 503 with Retry-After
MAX_WAITING = 1_024  # each is a blocked HTTP request; more would only wait longer

UNAVAILABLE = "unavailable"


class Lookups:
    """Reads that wait for another node's answer."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[NodeId, int, Millis]] = {}  # number -> (asked whom, ticket, until)
        self._last_number = 0

    def wait_for(self, asked: NodeId, ticket: int, now: Millis) -> int | None:
        """The number under which to ask `asked`, or None if too many wait already."""
        if len(self._waiting) >= MAX_WAITING:
            return None
        self._last_number += 1
        self._waiting[self._last_number] = (asked, ticket, now + LOOKUP_MS)
        return self._last_number

    def found(self, sender: NodeId, answer: Found) -> list[Effect]:
        """Another node's answer; one that was not asked for, or comes late, changes nothing."""
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting[0] != sender:
            return []
        del self._waiting[answer.number]
        return [Answered(waiting[1], answer.outcome, answer.state)]

    def overdue(self, now: Millis) -> list[Effect]:
        """Give up on those that waited too long."""
        late = [number for number, (_, _, until) in self._waiting.items() if until <= now]
        return [Answered(self._waiting.pop(number)[1], UNAVAILABLE) for number in late]

    def next_deadline(self) -> Millis | None:
        for _, _, until in self._waiting.values():
            return until  # all wait equally long: the first is due
        return None
