"""A stand-in for the inner daemon, for tests of what is outside of it: it only has something to show."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mesh.core.events import Event
from mesh.core.events.work import RecordAsked
from mesh.core.keys import Key, hash_key, interval_of_slot, slot_of_hash
from mesh.core.places import from_text, place_of, to_text
from mesh.runtime.status import (
    GivenUp,
    KeysPage,
    Metric,
    Moving,
    NodeStatus,
    Ownership,
    Reading,
    Ring,
    RingRun,
    SlotCounts,
    SourceStatus,
    Status,
    Waiting,
)
from nodes.addresses import Address
from nodes.door import Door, bind, bound_address
from nodes.http import make_app

NODES = (
    NodeStatus("alpha", "alive", "worker", "tcp://127.0.0.1:7401", "127.0.0.1:7480", 342, 0, 41203),
    NodeStatus("beta", "suspect", "worker", "tcp://127.0.0.1:7402", "127.0.0.1:7481", 341, 0, 40000),
    NodeStatus("gamma", "dead", "worker", "tcp://127.0.0.1:7403", "127.0.0.1:7482", 341, 0, 39999),
)
STATUS = Status(
    "local-3",
    1,
    "alpha",
    "word-count",
    True,
    False,
    NODES,
    SlotCounts(1024, 683, 0, 341, 0),
    (SourceStatus("lines", 12, 7, 1234567),),
)
RING = (
    RingRun(0, 341, "alpha", "active"),
    RingRun(342, 682, "beta", "active"),
    RingRun(683, 1023, "gamma", "unavailable"),
)
AT_REST = Moving(0, 0, ())


@dataclass
class FakeNode:
    """Says what it was told to say."""

    shown: Status = STATUS
    runs: tuple[RingRun, ...] = RING
    states: dict[tuple[str, Key], object] = field(default_factory=dict)
    samples: list[Metric] = field(default_factory=list)
    formed: bool = True
    unavailable: bool = False
    moving: Moving = AT_REST
    refusals: dict[str, str | None] = field(default_factory=dict)  # name -> why it cannot leave
    losses: int | None = 0
    waiting: tuple[Waiting, ...] = ()
    given_up: GivenUp = field(default_factory=lambda: GivenUp(0))
    asked_to_give_up: list[tuple[str, ...]] = field(default_factory=list)
    recovers: bool = False
    asked_to_leave: list[str] = field(default_factory=list)
    outcome: tuple[str, bytes] = ("unavailable", b"")  # of what is posted or asked
    questions: list[Event] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)  # lookups of the stage "slow" wait for it

    def status(self) -> Status:
        return self.shown

    def why_not_ready(self) -> str:
        return "" if self.shown.ready else "a majority of the voters is out of touch"

    def owner(self, key: Key) -> Ownership | None:
        if not self.formed:
            return None
        hashed = hash_key(key, 0)
        slot = slot_of_hash(hashed, 1024)
        return Ownership(hashed, slot, interval_of_slot(slot, 1024), "beta", (), 1, 1)

    def ring(self) -> Ring:
        return Ring(self.shown.cluster, self.shown.epoch, self.shown.slots.total, ("alpha",), self.runs, self.moving)

    def leave(self, name: str) -> str | None:
        self.asked_to_leave.append(name)
        return self.refusals.get(name, "unknown")

    def accept_loss(self) -> int | None:
        return self.losses

    def what_waits(self) -> tuple[Waiting, ...]:
        return self.waiting

    def give_up(self, gone: Collection[str]) -> GivenUp:
        self.asked_to_give_up.append(tuple(gone))
        return self.given_up

    def recover(self) -> bool:
        return self.recovers

    def lookup(self, stage: str, key: Key, timeout: float) -> Reading:
        if stage == "slow":
            self.held.wait()
        if stage == "late":
            raise TimeoutError
        if stage == "broken":
            raise RuntimeError("the tests broke it")
        if self.unavailable:
            return Reading("unavailable", owner="beta", term=3, why="it moves from alpha to beta")
        if stage == "old":
            return Reading("unreadable", "start the version that wrote it", "beta", 3)
        if stage not in ("count", "slow"):
            return Reading("unknown-stage")
        if (stage, key) in self.states:
            return Reading("found", self.states[stage, key], "beta", 3)
        return Reading("absent")

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        """Of all stages in one slot."""
        place = from_text(after, 1)[1] if after is not None else ()
        if self.unavailable:
            return KeysPage("unavailable", why="slot 7 is pending")
        if stage not in ("count", "slow"):
            return KeysPage("unknown-stage")
        if stage == "slow":
            self.held.wait()
        left = sorted(
            (key for name, key in self.states if name == stage and place_of(key) > place), key=lambda key: place_of(key)
        )
        more = len(left) > limit
        return KeysPage("found", tuple(left[:limit]), to_text((0, place_of(left[limit - 1]))) if more else None)

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        asked = question(1)
        self.questions.append(asked)
        stage = asked.stage if isinstance(asked, RecordAsked) else ""
        if stage != "slow":
            done(*self.outcome)

    def metrics(self) -> list[Metric]:
        return self.samples

    def change(self, **fields: object) -> None:
        self.shown = replace(self.shown, **fields)  # type: ignore[arg-type]


@contextmanager
def serving(node: FakeNode) -> Iterator[str]:
    """Its real HTTP door on loopback; the door's URL."""
    asked = Address("127.0.0.1", 0)
    server = bind(asked)
    url = f"http://{bound_address(server, asked)}"
    door = Door(make_app(node), server)
    door.start()
    try:
        yield url
    finally:
        node.held.set()
        door.stop()
