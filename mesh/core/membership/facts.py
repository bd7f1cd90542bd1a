"""Events and effects of membership and admission; the control plane passes them on and the driver reports `Lagged`."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.events import Effect, Event, Millis
from mesh.core.messages import NodeId
from mesh.core.messages.members import Member


@dataclass(frozen=True, slots=True)
class Lagged(Event):
    """The driver: this node's own loop ran late by so much. That time says nothing about others."""

    by: Millis


@dataclass(frozen=True, slots=True)
class Heard(Event):
    """A message of another kind came from `sender`: a proof of life that saves a probe."""

    sender: NodeId


@dataclass(frozen=True, slots=True)
class Leave(Event):
    """This node goes for good: say so to the others."""


@dataclass(frozen=True, slots=True)
class Missed(Event):
    """The agreed table names these members. Who is not known here is to be looked for: it may have ended."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Admitted(Event, Effect):
    """Admission: a node that fits was met at `endpoint`; it is `member` and it knows `members`."""

    member: Member
    members: tuple[Member, ...]
    endpoint: str
