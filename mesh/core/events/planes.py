"""What one machine of a node reports and another acts on: within the control plane, and between the two planes.

Each is an effect of the one and an event of the other. The control plane says what is agreed, who is there and whether
the majority is in touch; the data plane says what it has of its slots, and that it has nothing left to give away.
"""

from __future__ import annotations

from mesh.core.events import Effect, Event
from mesh.core.fixed import fixed
from mesh.core.messages import NodeId
from mesh.core.messages.members import Member


@fixed(frozen=True, slots=True)
class MemberChanged(Event, Effect):
    """Membership's new belief about a node. `before` is its last status, None when it is new."""

    member: Member
    before: int | None


@fixed(frozen=True, slots=True)
class EpochChosen(Event, Effect):
    """Agreement: the value of this epoch is settled for good. They come in order; who was away misses some."""

    epoch: int
    value: bytes


@fixed(frozen=True, slots=True)
class Propose(Event, Effect):
    """Please have `value` chosen for `epoch`; a no-op if that epoch is settled."""

    epoch: int
    value: bytes


@fixed(frozen=True, slots=True)
class Withdraw(Event, Effect):
    """Nobody here wants anything of `epoch` any more; what others may have accepted of it still stands."""

    epoch: int


@fixed(frozen=True, slots=True)
class MayVote(Event, Effect):
    """Whether this process may vote for its home has changed; see `boots`."""

    may: bool


@fixed(frozen=True, slots=True)
class PeerGone(Event, Effect):
    """This node id will never be heard of again (it left, or its name was taken over): forget it."""

    peer: NodeId


@fixed(frozen=True, slots=True)
class Transmit(Event, Effect):
    """Put a payload on the link to `to`; it arrives once and in order as long as both processes live."""

    to: NodeId
    channel: int
    payload: bytes


@fixed(frozen=True, slots=True)
class Delivered(Event, Effect):
    """The next payload of a link."""

    sender: NodeId
    channel: int
    payload: bytes


@fixed(frozen=True, slots=True)
class Consumed(Event, Effect):
    """`size` bytes that a link delivered have been worked off: the sender may have that much more credit."""

    sender: NodeId
    channel: int
    size: int


@fixed(frozen=True, slots=True)
class TableAgreed(Event, Effect):
    """The partition of an epoch; epochs may be skipped. Owners and donors are indexes into `workers`."""

    epoch: int
    members: tuple[NodeId, ...]  # workers and witnesses
    workers: tuple[NodeId, ...]  # in the table's order; those that are down included
    owner_of_slot: tuple[int, ...]
    donor_of_slot: tuple[int, ...]  # while PENDING: who has the state; else -1
    status_of_slot: tuple[int, ...]  # PENDING, ACTIVE, LOST of `slot`
    term_of_slot: tuple[int, ...]
    cluster_id: bytes
    down: tuple[NodeId, ...] = ()  # workers that are agreed to be unreachable: their slots are unavailable
    left: tuple[NodeId, ...] = ()  # that left properly, the newest last; whoever else is gone took its work along
    founders: tuple[NodeId, ...] = ()  # the workers of epoch 1, who share the splits
    since_of_slot: tuple[int, ...] = ()  # the term at which its reign began; this one and those below as in `slot`
    backups_of_slot: tuple[tuple[int, ...], ...] = ()
    joining_of_slot: tuple[int, ...] = ()  # else -1
    parting: tuple[int, ...] = ()  # slots of which backups are left out once their owner says that it knows


@fixed(frozen=True, slots=True)
class SlotsInstalled(Event, Effect):
    """Data plane: what these slots, (slot, term), ask of this node is done (see `claims`); said once a term."""

    slots: tuple[tuple[int, int], ...]


@fixed(frozen=True, slots=True)
class SlotsRooted(Event, Effect):
    """Data plane: this node, their donor, has a state of these slots, (slot, term), that cannot travel; once a term."""

    slots: tuple[tuple[int, int], ...]


@fixed(frozen=True, slots=True)
class Fenced(Event, Effect):
    """Whether the majority is out of touch (F1): while it is, nothing may be applied, read or answered."""

    fenced: bool


@fixed(frozen=True, slots=True)
class StartLeaving(Event, Effect):
    """This node shall leave: its slots move away, and the data plane gives away what else it has to do."""


@fixed(frozen=True, slots=True)
class HandedOver(Event, Effect):
    """Data plane of a leaving node: nothing is left to read or to send; once its slots have moved, it may go."""
