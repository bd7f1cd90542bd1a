"""Who is suspected, by whom, and until when.

Only a node that failed to reach the target itself (an accuser) may declare it dead; who merely heard of a suspicion
waits for the accuser's verdict, the target's refutation, or its own turn to probe. While it accuses, a node keeps
pinging the target with the suspicion in the message: a target that can answer at all refutes in one round trip.

The time grows with log10 of the members and shrinks with independent accusers (M3, Lifeguard). This node's helpers are
its witnesses: a Nack says that another node could not reach the target either. So no accuser travels in gossip. Where
there are four or more members, this node alone needs the longest time; below four the shortest always holds, because
there may be no helper at all.

    heard --own probe fails--> accused --deadline--> (declared dead; dropped)
      any --refuted, dead, left: drop          accused --late Ack: restart, since the round trip works

Invariants: at most one suspicion a member; it is about the incarnation that the roster has as SUSPECT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mesh.core.events import Millis
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import NodeId

SMALL = 4  # members; below it two accusers cannot be asked for


def suspicion_time(tuning: Tuning, members: int, accusers: int) -> Millis:
    """From the first own failure until the verdict."""
    shortest = tuning.suspicion * max(1.0, math.log10(members))
    if members < SMALL:
        return int(shortest)
    longest = shortest * tuning.stretch
    witnesses = min(tuning.helpers, members - 2)
    shrink = math.log(max(accusers, 1)) / math.log(witnesses + 1)
    return int(max(shortest, longest - (longest - shortest) * shrink))


@dataclass(slots=True)
class Suspicion:
    node: NodeId
    accusers: dict[NodeId, None] = field(default_factory=dict)
    number: int = 0  # of the own probe that failed; 0: heard of only, and no time below counts
    started: Millis = 0
    deadline: Millis = 0  # dead then
    next_urge: Millis = 0  # Ping the target again
    next_ask: Millis = 0  # ask helpers again

    @property
    def wakes_at(self) -> Millis:
        return min(self.deadline, self.next_urge, self.next_ask)


class Suspicions:
    """All suspicions of this node."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._of: dict[NodeId, Suspicion] = {}
        self._accused: dict[int, Suspicion] = {}  # by the number of the failed probe

    def hear(self, node: NodeId, teller: NodeId) -> None:
        """Somebody else suspects a node (or suspects it again after it refuted)."""
        self.drop(node)
        self._of[node] = Suspicion(node, {teller: None})

    def accuse(self, node: NodeId, number: int, accusers: list[NodeId], members: int, now: Millis) -> None:
        """The own probe failed; the accusers are this node and the helpers that failed with it."""
        suspicion = self._of[node]
        suspicion.number = number
        suspicion.next_urge = now
        suspicion.next_ask = now + self._tuning.period
        suspicion.accusers |= dict.fromkeys(accusers)
        self._accused[number] = suspicion
        self._restart(suspicion, members, now)

    def accused(self, node: NodeId) -> bool:
        """Whether this node is an accuser."""
        suspicion = self._of.get(node)
        return suspicion is not None and suspicion.number > 0

    def target(self, number: int) -> NodeId | None:
        """Whom the failed probe was for."""
        suspicion = self._accused.get(number)
        return suspicion.node if suspicion else None

    def confirm(self, number: int, helper: NodeId, members: int, now: Millis) -> None:
        """A helper could not reach the target either."""
        suspicion = self._accused[number]
        suspicion.accusers[helper] = None
        time = suspicion_time(self._tuning, members, len(suspicion.accusers))
        suspicion.deadline = max(now, min(suspicion.deadline, suspicion.started + time))

    def answered(self, number: int, members: int, now: Millis) -> None:
        """The target answered but has not refuted yet: the time starts again, and it is told at once."""
        suspicion = self._accused[number]
        suspicion.next_urge = now
        self._restart(suspicion, members, now)

    def _restart(self, suspicion: Suspicion, members: int, now: Millis) -> None:
        suspicion.started = now
        suspicion.deadline = now + suspicion_time(self._tuning, members, len(suspicion.accusers))

    def drop(self, node: NodeId) -> None:
        """It is settled."""
        suspicion = self._of.pop(node, None)
        if suspicion is not None:
            self._accused.pop(suspicion.number, None)

    def shift(self, by: Millis) -> None:
        """This node did not run for so long; that time does not count against anybody."""
        for suspicion in self._accused.values():
            suspicion.started += by
            suspicion.deadline += by
            suspicion.next_urge += by
            suspicion.next_ask += by

    def due(self, now: Millis) -> list[Suspicion]:
        return [each for each in self._accused.values() if each.wakes_at <= now]

    def next_deadline(self) -> Millis | None:
        return min((each.wakes_at for each in self._accused.values()), default=None)
