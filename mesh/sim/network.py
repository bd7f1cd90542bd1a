"""A network of addresses that delays, loses, doubles and overtakes; pairs can be cut one way or both, and reset.

It knows names of hosts, not nodes: what is delivered goes to whichever process lives at the address by then, as with a
socket that connects again. A cut either loses messages or holds them back until it is healed, as a socket's queue
does. A reset loses everything on its way in one direction, and what is sent afterwards arrives.

Invariant: a message is delivered at most twice; what is on its way is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from mesh.core.events import Millis

Pair: TypeAlias = tuple[str, str]  # from, to


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a network is like when nobody breaks it."""

    delay: Millis = 1  # shortest
    jitter: Millis = 0  # up to so much longer
    lost: int = 0  # of a thousand messages
    doubled: int = 0  # of a thousand
    in_order: bool = True  # False: each message takes as long as it takes
    holds_back: bool = False  # a cut delays instead of losing


@dataclass(slots=True)
class Lane:
    """One directed pair."""

    cuts: int = 0
    cut_at: Millis = 0  # while there are any
    resets: int = 0
    last_arrival: Millis = 0


@dataclass(frozen=True, slots=True)
class Letter:
    pair: Pair
    parts: Sequence[bytes]
    resets: int  # of its lane, when it was sent


class Network:
    """`at` calls a function at a time; `deliver` hands the parts to whoever lives at a host."""

    def __init__(
        self,
        conditions: Conditions,
        random: Random,
        at: Callable[[Millis, Callable[[Letter], None], Letter], None],
        deliver: Callable[[Letter], None],
    ) -> None:
        self.conditions = conditions
        self.sent = self.lost = self.doubled = self.held = 0
        self._random = random
        self._at = at
        self._deliver = deliver
        self._lanes: dict[Pair, Lane] = {}
        self._held: dict[Pair, list[Letter]] = {}

    def send(self, pair: Pair, parts: Sequence[bytes], now: Millis) -> None:
        self.sent += 1
        lane = self._lane(pair)
        letter = Letter(pair, parts, lane.resets)
        if lane.cuts:
            self._stop(letter)
            return
        self._travel(letter, lane, now)
        if self._chance(self.conditions.doubled):
            self.doubled += 1
            self._travel(letter, lane, now)

    def _travel(self, letter: Letter, lane: Lane, now: Millis) -> None:
        if self._chance(self.conditions.lost):
            self.lost += 1
            return
        arrival = now + self.conditions.delay
        if self.conditions.jitter:
            arrival += self._random.randrange(self.conditions.jitter + 1)
        if self.conditions.in_order:
            arrival = lane.last_arrival = max(arrival, lane.last_arrival)
        self._at(arrival, self._arrive, letter)

    def _arrive(self, letter: Letter) -> None:
        lane = self._lane(letter.pair)
        if letter.resets != lane.resets:
            self.lost += 1
        elif lane.cuts:
            self._stop(letter)
        else:
            self._deliver(letter)

    def _stop(self, letter: Letter) -> None:
        if self.conditions.holds_back:
            self.held += 1
            self._held.setdefault(letter.pair, []).append(letter)
        else:
            self.lost += 1

    # -- what is done to it

    def last_open(self, pair: Pair, now: Millis) -> Millis:
        lane = self._lane(pair)
        return lane.cut_at if lane.cuts else now

    def cut(self, pair: Pair, now: Millis) -> None:
        lane = self._lane(pair)
        lane.cut_at = lane.cut_at if lane.cuts else now
        lane.cuts += 1

    def mend(self, pair: Pair, now: Millis) -> None:
        lane = self._lane(pair)
        lane.cuts -= 1
        if lane.cuts == 0:
            for letter in self._held.pop(pair, []):
                self._at(now + self.conditions.delay, self._arrive, letter)

    def reset(self, pair: Pair) -> None:
        self._lane(pair).resets += 1
        self.lost += len(self._held.pop(pair, []))

    def _lane(self, pair: Pair) -> Lane:
        lane = self._lanes.get(pair)
        if lane is None:
            lane = self._lanes[pair] = Lane()
        return lane

    def _chance(self, of_a_thousand: int) -> bool:
        return of_a_thousand > 0 and self._random.randrange(1000) < of_a_thousand
