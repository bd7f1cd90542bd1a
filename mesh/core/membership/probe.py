"""Whose turn it is to be probed, what has been asked and not answered yet, and how well this node itself does.

A probe:   Ping --timeout--> Ping again and PingReq to helpers --verdict--> failed (its target is suspected)
A relay:   PingReq from another node: Ping for it, then Ack to it, or Nack after a while

Targets come in shuffled rounds, so each is probed once a round. One that was heard a moment ago is spared, but not
for ever: hearing it proves that it lives, not that it hears us (a one-way cut).

Awareness (Lifeguard): helpers that sent not even a Nack, refutations and own lag say that this node is the slow one.
It then probes more slowly and waits longer.

Invariants: a number is used once; relays are bounded; probes are, since each lasts a few periods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from mesh.core.events import Millis
from mesh.core.membership.merge import MAX_MEMBERS
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import NodeId

MAX_RELAYS = 1_024  # some a second are usual; a flood of PingReq must not make this node flood others
MAX_SPARED = 3  # probes in a row that a sign of life may save


@dataclass(slots=True)
class Probe:
    number: int
    target: NodeId
    ask_at: Millis
    fail_at: Millis
    helpers: tuple[NodeId, ...] = ()
    asked: bool = False
    nacks: dict[NodeId, None] = field(default_factory=dict)

    @property
    def wakes_at(self) -> Millis:
        return self.fail_at if self.asked else self.ask_at


@dataclass(slots=True)
class Relay:
    target: NodeId
    requester: NodeId
    number: int  # the requester's
    give_up_at: Millis


class Prober:
    """Probes and relays under way."""

    def __init__(self, tuning: Tuning, random: Random) -> None:
        self._tuning = tuning
        self._random = random
        self._round: list[NodeId] = []  # the rest of this round; the next one is at the end
        self._spared: dict[NodeId, int] = {}
        self._heard: dict[NodeId, Millis] = {}
        self._last_number = 0
        self.probes: dict[int, Probe] = {}
        self.relays: dict[int, Relay] = {}
        self.awareness = 0

    # -- whose turn ---------------------------------------------------------------------------------------------------

    def choose(self, targets: Mapping[NodeId, object], now: Millis) -> NodeId | None:
        """The next of the round that needs a probe."""
        refilled = False
        while self._round or not refilled:
            if not self._round:
                refilled = True
                self._round = list(targets)
                self._random.shuffle(self._round)
                continue
            node = self._round.pop()
            if node in targets and not self._spare(node, now):
                return node
        return None

    def join(self, node: NodeId) -> None:
        """A new member gets a random place in this round."""
        if len(self._round) < 2 * MAX_MEMBERS:  # one that comes and goes all the time is in it often enough
            self._round.insert(self._random.randint(0, len(self._round)), node)

    def heard(self, node: NodeId, now: Millis) -> None:
        self._heard[node] = now

    def keep_only(self, members: Mapping[NodeId, object]) -> None:
        """Forget about nodes that have been forgotten."""
        self._heard = {node: at for node, at in self._heard.items() if node in members}
        self._spared = {node: times for node, times in self._spared.items() if node in members}

    def _spare(self, node: NodeId, now: Millis) -> bool:
        heard = self._heard.get(node)
        fresh = heard is not None and now - heard < self._tuning.period // 4
        spared = self._spared.get(node, 0) + 1 if fresh else 0
        self._spared[node] = spared if spared <= MAX_SPARED else 0
        return 0 < spared <= MAX_SPARED

    # -- probes -------------------------------------------------------------------------------------------------------

    def start(self, target: NodeId, now: Millis) -> Probe:
        slow = 1 + self.awareness
        ask_at, fail_at = now + self._tuning.timeout * slow, now + self._tuning.verdict * slow
        probe = Probe(self._number(), target, ask_at, fail_at)
        self.probes[probe.number] = probe
        return probe

    def succeeded(self, probe: Probe) -> None:
        del self.probes[probe.number]
        self.adjust(-1)

    def failed(self, probe: Probe) -> None:
        """The verdict; silent helpers (or having none) speak against this node."""
        del self.probes[probe.number]
        self.adjust(len(probe.helpers) - len(probe.nacks) if probe.helpers else 1)

    def adjust(self, by: int) -> None:
        self.awareness = min(max(self.awareness + by, 0), self._tuning.max_awareness)

    # -- relays -------------------------------------------------------------------------------------------------------

    def relay(self, target: NodeId, requester: NodeId, number: int, now: Millis) -> int | None:
        """The number to ping the target with; None when there are too many already."""
        if len(self.relays) >= MAX_RELAYS:
            return None
        own = self._number()
        wait = (self._tuning.verdict - self._tuning.timeout) * 2 // 3  # the Nack must arrive before the verdict
        self.relays[own] = Relay(target, requester, number, now + wait)
        return own

    def give_up(self, now: Millis) -> list[Relay]:
        """Relays whose target did not answer in time."""
        late = [own for own, relay in self.relays.items() if relay.give_up_at <= now]
        return [self.relays.pop(own) for own in late]

    # -- time ---------------------------------------------------------------------------------------------------------

    def due(self, now: Millis) -> list[Probe]:
        return [probe for probe in self.probes.values() if probe.wakes_at <= now]

    def shift(self, by: Millis) -> None:
        """This node did not run for so long; that time does not count against anybody."""
        for probe in self.probes.values():
            probe.ask_at += by
            probe.fail_at += by
        for relay in self.relays.values():
            relay.give_up_at += by

    def deadlines(self) -> Iterable[Millis]:
        yield from (probe.wakes_at for probe in self.probes.values())
        yield from (relay.give_up_at for relay in self.relays.values())

    def _number(self) -> int:
        self._last_number += 1
        return self._last_number
