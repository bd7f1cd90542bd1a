"""What an operator wants of the cluster: orders that the driver passes to the control plane of any node."""

from __future__ import annotations

from mesh.core.events import Event
from mesh.core.fixed import fixed
from mesh.core.messages import NodeId


@fixed(frozen=True, slots=True)
class AskToLeave(Event):
    """An operator wants this member to leave; it is told until it says so itself."""

    node: NodeId


@fixed(frozen=True, slots=True)
class AcceptLoss(Event):
    """An operator wants slots that are LOST to start again empty; () are all that are LOST now."""

    slots: tuple[int, ...] = ()


@fixed(frozen=True, slots=True)
class Recover(Event):
    """An operator says that the majority is lost for good; those that are alive go on without it."""
