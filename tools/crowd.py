"""Many memberships on a made-up clock and network: the classes that the daemons run, and nothing else of a node.

One heap holds what arrives and who wakes; a wake-up that was moved is left in it and skipped. Everybody knows everybody
from the start, and `settle` runs until that is no news any more.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import replace
from random import Random

from mesh.core import codec
from mesh.core.events import Effect, Event, Millis, Received, Send, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.facts import Admitted
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import LAN, Tuning
from mesh.core.messages import NodeId
from mesh.core.messages.members import DEAD, SUSPECT, Gossip, Member
from tests.membership_kit import member

SECOND = 1_000
NOBODY: NodeId = b""


class Crowd:
    """`count` members; `loss` of a message, `delay` from shortest to longest."""

    def __init__(
        self,
        count: int,
        seed: int,
        tuning: Tuning = LAN,
        loss: float = 0.0,
        delay: tuple[int, int] = (1, 2),
        *,
        sized: bool = False,
    ) -> None:
        self.now: Millis = 0
        self.sent: Counter[str] = Counter()  # by kind
        self.bytes = 0  # of all messages, if `sized`
        self.changes: Counter[int] = Counter()  # to a status, seen by anybody
        self._random = Random(seed)
        self.loss = loss
        self._delay, self._sized = delay, sized
        self._order = itertools.count()
        self._heap: list[tuple[Millis, int, NodeId, Event | None]] = []
        self._wakes: dict[NodeId, Millis] = {}
        members = [member(f"n{number}") for number in range(count)]
        self.nodes = {each.node: Membership(each, tuning, Random(self._random.random())) for each in members}
        for each in members:
            self._introduce(each, members)

    def _introduce(self, newcomer: Member, members: list[Member]) -> None:
        other = next(each for each in members if each is not newcomer)
        self._give(newcomer.node, Admitted(other, tuple(members), other.endpoint))

    def settle(self) -> None:
        """Until a second passes without news."""
        while True:
            before = self.sent["Gossip"]
            self.run(SECOND)
            if self.sent["Gossip"] == before:
                return

    def run(self, span: Millis) -> None:
        end = self.now + span
        while self._heap and self._heap[0][0] <= end:
            self._step()
        self.now = end

    def spread(self, node: NodeId, within: Millis = 60 * SECOND) -> Millis | None:
        """One piece of news: this node hears that it is suspected, and clears itself. How long until all know."""
        start, about = self.now, self.nodes[node]
        accuser = next(each for each in self.nodes if each != node)
        self._give(node, Received(accuser, Gossip((replace(about.me, status=SUSPECT),))))
        news = about.me.incarnation
        unaware = {each: None for each in self.nodes if each != node}
        while unaware and self.now - start <= within:
            touched = self._step()
            if touched in unaware and self.nodes[touched].members[node].incarnation >= news:
                del unaware[touched]
        return None if unaware else self.now - start

    # -- the loop

    def _step(self) -> NodeId:
        """Who was given something; nobody, if that wake-up was moved."""
        at, _, node, event = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        if event is None and self._wakes[node] != at:
            return NOBODY
        self._give(node, Woke() if event is None else event)
        return node

    def _give(self, node: NodeId, event: Event) -> None:
        membership = self.nodes[node]
        for effect in membership.handle(event, self.now):
            self._perform(node, effect)
        deadline = max(membership.next_deadline() or self.now, self.now + 1)
        if self._wakes.get(node) != deadline:
            self._wakes[node] = deadline
            heapq.heappush(self._heap, (deadline, next(self._order), node, None))

    def _perform(self, node: NodeId, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self.sent[type(message).__name__] += 1
                if self._sized:
                    self.bytes += len(codec.encode(message))
                if self._random.random() >= self.loss:
                    at = self.now + self._random.randint(*self._delay)
                    heapq.heappush(self._heap, (at, next(self._order), to, Received(node, message)))
            case MemberChanged(changed) if changed.node != node:
                self.changes[changed.status] += 1


def false_deaths(
    count: int, minutes: int, seed: int, loss: float = 0.1, delay: tuple[int, int] = (20, 80)
) -> Counter[str]:
    """Suspicions and deaths among members that all live."""
    crowd = Crowd(count, seed, loss=loss, delay=delay)
    crowd.run(minutes * 60 * SECOND)
    return Counter(suspicions=crowd.changes[SUSPECT], deaths=crowd.changes[DEAD], messages=crowd.sent.total())


def traffic(crowd: Crowd, seconds: int) -> dict[str, float]:
    """What each member sends in a second when nothing happens."""
    messages, size = crowd.sent.total(), crowd.bytes
    crowd.run(seconds * SECOND)
    each = len(crowd.nodes) * seconds
    return {"messages": (crowd.sent.total() - messages) / each, "bytes": (crowd.bytes - size) / each}


def convergence(crowd: Crowd, rumours: int, random: Random) -> list[Millis | None]:
    """How long pieces of news, one after the other, take to reach everybody."""
    times = []
    for _ in range(rumours):
        times.append(crowd.spread(random.choice(list(crowd.nodes))))
        crowd.run(SECOND)
    return times
