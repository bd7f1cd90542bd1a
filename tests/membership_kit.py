"""A seeded network of nodes that are nothing but Admission and Membership, for the tests of both.

One clock, one heap of datagrams; loss, delay, one-way cuts, pauses, crashes. Every message passes the codec.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field, replace
from random import Random

from mesh.core import codec
from mesh.core.events import Approach, Effect, Event, Log, Millis, Received, Send, Stop, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.admission import Admission
from mesh.core.membership.facts import Admitted
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import LAN, Tuning
from mesh.core.messages import Message, NodeId
from mesh.core.messages.members import ALIVE, DEAD, Introduction, Member


def member(name: str, number: int = 0, status: int = ALIVE, incarnation: int = 0) -> Member:
    """`number` tells apart the processes that have this name one after the other."""
    node = f"{name}/{number}".encode().ljust(16, b".")
    return Member(node, name, f"tcp://{name}:7400", f"{name}:7480", "worker", "", incarnation, status)


def introduction(me: Member, **changes: object) -> Introduction:
    same = Introduction("words", 1024, 0, "f1ng3r", 1_000, False, 1, me)
    return replace(same, **changes)  # type: ignore[arg-type]


@dataclass
class Node:
    me: Member
    admission: Admission
    membership: Membership
    up: bool = True
    paused_until: Millis = 0
    stopped: list[Stop] = field(default_factory=list)
    effects: list[tuple[Millis, Effect]] = field(default_factory=list)  # all but messages

    def deadline(self) -> Millis:
        deadlines = [
            each for each in (self.admission.next_deadline(), self.membership.next_deadline()) if each is not None
        ]
        return max(min(deadlines), self.paused_until)

    def alive(self) -> list[str]:
        return [each.name for each in self.membership.alive()]

    def status(self, other: Node) -> int | None:
        found = self.membership.members.get(other.me.node)
        return found.status if found else None

    def logged(self, event: str) -> list[dict[str, object]]:
        return [dict(each.fields) for _, each in self.effects if isinstance(each, Log) and each.event == event]


class Network:
    def __init__(self, seed: int, tuning: Tuning = LAN, loss: float = 0.0, delay: tuple[int, int] = (1, 2)) -> None:
        self.random = Random(seed)
        self.tuning = tuning
        self.loss = loss
        self.delay = delay
        self.now: Millis = 1_000_000
        self.at: dict[str, Node] = {}  # the process that listens at an endpoint
        self.all: list[Node] = []
        self.cuts: dict[tuple[str, str], None] = {}  # (from, to) by name
        self.sent = 0
        self._flying: list[tuple[Millis, int, str, str, NodeId, Received]] = []
        self._order = itertools.count()

    def start(self, me: Member, seeds: tuple[str, ...] = (), **identity: object) -> Node:
        intro = introduction(me, **{"started": self.now, **identity})
        admission = Admission(intro, tuple(f"tcp://{seed}:7400" for seed in seeds), Random(self.random.random()))
        node = Node(me, admission, Membership(me, self.tuning, Random(self.random.random())))
        self.at[me.endpoint] = node
        self.all.append(node)
        return node

    def crash(self, node: Node) -> None:
        node.up = False

    def split(self, one: list[Node], other: list[Node]) -> None:
        for a in one:
            for b in other:
                self.cuts |= {(a.me.name, b.me.name): None, (b.me.name, a.me.name): None}

    def living(self) -> list[Node]:
        return [each for each in self.all if each.up and not each.stopped]

    def converged(self) -> bool:
        names = sorted(each.me.name for each in self.living())
        return all(each.alive() == names for each in self.living())

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self, span: Millis) -> None:
        end = self.now + span
        while self.step(end):
            pass
        self.now = end

    def run_until(self, condition: object, within: Millis) -> Millis:
        """Returns how long it took; fails when it takes longer."""
        start = self.now
        while not condition():  # type: ignore[operator]
            if not self.step(start + within):
                raise AssertionError(f"not within {within} ms: {[(n.me.name, n.alive()) for n in self.living()]}")
        return self.now - start

    def step(self, end: Millis) -> bool:
        waking = min(self.living(), key=Node.deadline, default=None)
        wake_at = waking.deadline() if waking else end + 1
        arrive_at = self._flying[0][0] if self._flying else end + 1
        if min(wake_at, arrive_at) > end:
            return False
        if wake_at <= arrive_at and waking is not None:
            self.now = max(self.now, wake_at)
            self._give(waking, Woke())
            assert waking.deadline() > self.now, "the deadline did not move on"
        else:
            self._arrive()
        return True

    def _arrive(self) -> None:
        at, _, source, endpoint, target, event = heapq.heappop(self._flying)
        self.now = max(self.now, at)
        node = self.at.get(endpoint)
        if node is None or not node.up or node.stopped or target not in (b"", node.me.node):
            return
        if node.paused_until > self.now:
            entry = (node.paused_until + 1, next(self._order), source, endpoint, target, event)
            heapq.heappush(self._flying, entry)
        else:
            self._give(node, event)

    def _give(self, node: Node, event: Event) -> None:
        effects = [*node.admission.handle(event, self.now), *node.membership.handle(event, self.now)]
        while effects:
            effect = effects.pop(0)
            match effect:
                case Send(to, message):
                    known = node.membership.members.get(to)
                    if known is not None:
                        self._post(node, known.endpoint, to, message)
                    continue
                case Approach(endpoint, message):
                    self._post(node, endpoint, b"", message)
                    continue
                case Admitted():
                    effects += node.membership.handle(effect, self.now)
                case MemberChanged():
                    effects += node.admission.handle(effect, self.now)
                case Stop():
                    node.stopped.append(effect)
            node.effects.append((self.now, effect))
        assert node.membership.me.status == ALIVE

    def _post(self, sender: Node, endpoint: str, target: NodeId, message: Message) -> None:
        self.sent += 1
        name = endpoint.removeprefix("tcp://").partition(":")[0]
        if self.random.random() < self.loss or (sender.me.name, name) in self.cuts:
            return
        event = Received(sender.me.node, codec.decode(codec.encode(message)))
        at = self.now + self.random.randint(*self.delay)
        heapq.heappush(self._flying, (at, next(self._order), sender.me.name, endpoint, target, event))


def deaths(network: Network) -> list[tuple[str, str]]:
    """(observer, declared dead) of all MemberChanged to DEAD."""
    return [
        (node.me.name, effect.member.name)
        for node in network.all
        for _, effect in node.effects
        if isinstance(effect, MemberChanged) and effect.member.status == DEAD
    ]
