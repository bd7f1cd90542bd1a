"""What machines have in common: the protocol, and the events and effects between them and whoever drives them.

Events are past tense, effects imperative. `now` never falls. After `Woke` a machine's deadline has moved on.
An effect that another machine understands as an event is the same fact seen from both sides; `node` does the passing.
Those are in `planes`; `work` has what the data plane and its driver say to each other, `operator` a person's orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from mesh.core.fixed import fixed
from mesh.core.messages import Message, NodeId

Millis: TypeAlias = int


class Event:
    """Something that happened."""

    __slots__ = ()


class Effect:
    """Something that the driver, or another machine, shall do."""

    __slots__ = ()


class Machine(Protocol):
    """State in, effects out, nothing else touched."""

    def handle(self, event: Event, now: Millis) -> list[Effect]: ...

    def next_deadline(self) -> Millis | None: ...


@fixed(frozen=True, slots=True)
class Woke(Event):
    """The deadline that some machine reported has come (or some other's has; handle both)."""


@fixed(frozen=True, slots=True)
class Received(Event):
    """A well-formed message from `sender`, the id in the envelope's header."""

    sender: NodeId
    message: Message
    payload: bytes = b""


@fixed(frozen=True, slots=True)
class Persisted(Event):
    """What `Persist` asked for is on the disk (or memory is all there is)."""

    name: str


@fixed(frozen=True, slots=True)
class Send(Effect):
    """To a member whose endpoint is known. May be lost: who needs an answer asks again."""

    to: NodeId
    message: Message
    payload: bytes = b""


@fixed(frozen=True, slots=True)
class Approach(Effect):
    """To whoever listens at an address."""

    endpoint: str
    message: Message


@fixed(frozen=True, slots=True)
class Post(Effect):
    """A message and where to put it; `target` is empty when nobody is known there yet."""

    endpoint: str
    target: NodeId
    message: Message
    payload: bytes


@fixed(frozen=True, slots=True)
class Envelope(Effect):
    """The parts to send to an endpoint, as they go on the wire."""

    endpoint: str
    parts: list[bytes]


@fixed(frozen=True, slots=True)
class Persist(Effect):
    """Keep `value` under `name` before any later effect of this list is performed."""

    name: str
    value: bytes


@fixed(frozen=True, slots=True)
class Rejected(Effect):
    """Bad peer input: counted under `reason` (a short fixed word), state unchanged."""

    reason: str
    detail: str


@fixed(frozen=True, slots=True)
class Log(Effect):
    """A line for the operator; `event` is dotted and fixed, as in `node.ready`."""

    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    level: str = "info"


@fixed(frozen=True, slots=True)
class Stop(Effect):
    """This node cannot take part: one sentence for the operator, and the exit code of the contract."""

    sentence: str
    exit_code: int


@fixed(frozen=True, slots=True)
class Departed(Effect):
    """This leaving node is in no table any more and a majority knows: say goodbye and exit."""

    epoch: int
