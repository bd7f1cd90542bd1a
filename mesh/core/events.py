"""What machines have in common: the protocol, and the events and effects that cross from one to another.

Events are past tense, effects imperative. `now` never falls. After `Woke` a machine's deadline has moved on.
An effect that another machine understands as an event is the same fact seen from both sides; `node` does the passing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from mesh.app.connectors import Split
from mesh.core.fixed import fixed
from mesh.core.messages import Message, NodeId
from mesh.core.messages.members import Member
from mesh.core.numbers import Numbers

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


# -- facts that one machine reports and another acts on ---------------------------------------------------------------


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


# -- between the data plane and its driver ----------------------------------------------------------------------------


@fixed(frozen=True, slots=True)
class TableAgreed(Event, Effect):
    """The partition of an epoch; epochs may be skipped. Owners and donors are indexes into `workers`."""

    epoch: int
    members: tuple[NodeId, ...]  # workers and witnesses
    workers: tuple[NodeId, ...]  # in the table's order; those that are down included
    owner_of_slot: tuple[int, ...]
    donor_of_slot: tuple[int, ...]  # while PENDING: who has the state; else -1
    status_of_slot: tuple[int, ...]  # PENDING, ACTIVE, LOST of `table`
    term_of_slot: tuple[int, ...]
    cluster_id: bytes
    down: tuple[NodeId, ...] = ()  # workers that are agreed to be unreachable: their slots are unavailable
    left: tuple[NodeId, ...] = ()  # that left properly, the newest last; whoever else is gone took its work along
    founders: tuple[NodeId, ...] = ()  # the workers of epoch 1, who share the splits
    since_of_slot: tuple[int, ...] = ()  # the term at which its reign began; this one and those below as in `table`
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


@fixed(frozen=True, slots=True)
class AskToLeave(Event):
    """The driver: an operator wants this member to leave; it is told until it says so itself."""

    node: NodeId


@fixed(frozen=True, slots=True)
class AcceptLoss(Event):
    """The driver: an operator wants slots that are LOST to start again empty; () are all that are LOST now."""

    slots: tuple[int, ...] = ()


@fixed(frozen=True, slots=True)
class Recover(Event):
    """The driver: an operator says that the majority is lost for good; those that are alive go on without it."""


@fixed(frozen=True, slots=True)
class Departed(Effect):
    """This leaving node is in no table any more and a majority knows: say goodbye and exit."""

    epoch: int


@fixed(frozen=True, slots=True)
class ListSplits(Effect):
    source: int


@fixed(frozen=True, slots=True)
class SplitsListed(Event):
    source: int
    splits: Sequence[Split]


@fixed(frozen=True, slots=True)
class ReadSplit(Effect):
    source: int
    split: Split
    offset: int
    most_bytes: int  # about so much at once


@fixed(frozen=True, slots=True)
class SplitRead(Event):
    source: int
    split: Split
    values: list[Any]
    next_offset: int
    ended: bool


@fixed(frozen=True, slots=True)
class WriteSink(Effect):
    """With `names` an item may be given again, under its name; of all of them the driver says `SinkWritten`."""

    sink: int
    items: list[Any]
    names: Numbers | None = None  # one an item


@fixed(frozen=True, slots=True)
class SinkWritten(Event):
    """The first `count` items of those that have been given to a sink, and not been told of yet, are safely in it."""

    sink: int
    count: int


@fixed(frozen=True, slots=True)
class FlushSinks(Effect):
    """Nothing more will come: flush and close; the answer is SinksFlushed."""


@fixed(frozen=True, slots=True)
class SinksFlushed(Event):
    pass


@fixed(frozen=True, slots=True)
class CommitStore(Effect):
    """Make durable what has been put into the store, on a thread that may wait; on TryAgain again, a little later. The
    answer is StoreCommitted with this number; the next one is asked for only after that."""

    number: int


@fixed(frozen=True, slots=True)
class StoreCommitted(Event):
    """All that was put before `CommitStore` with this number is durable."""

    number: int


@fixed(frozen=True, slots=True)
class JobDone(Effect):
    """Every worker has read, applied and flushed everything."""


@fixed(frozen=True, slots=True)
class LookupAsked(Event):
    """Somebody at this node wants to read a key's state; `ticket` is handed back in `Answered`."""

    ticket: int
    stage: str
    key: Any


@fixed(frozen=True, slots=True)
class Answered(Effect):
    """The answer to a ticket; `state` is JSON text when the outcome is `found`."""

    ticket: int
    outcome: str  # found | absent | unavailable | unknown-stage
    state: bytes = b""


@fixed(frozen=True, slots=True)
class ListingAsked(Event):
    """Somebody at this node wants the next keys of a stage, of the whole cluster, after a position (see places)."""

    ticket: int
    stage: str
    position: tuple[int, tuple[Any, ...]]
    limit: int


@fixed(frozen=True, slots=True)
class Listed(Effect):
    """The answer to a ticket."""

    ticket: int
    outcome: str  # found | unavailable | unknown-stage
    keys: Sequence[Any] = ()
    next: tuple[int, tuple[Any, ...]] | None = None  # None: these are the last ones
    why: str = ""  # unavailable


@fixed(frozen=True, slots=True)
class LinesPosted(Event):
    """A producer sent lines for a source by HTTP; `Answered` says when all that came of them has been applied."""

    ticket: int
    source: str
    values: list[Any]
    producer: str = ""  # its name, if it has one
    first: int = 0  # seq of the first line
    digests: Sequence[int] = ()  # of each line, if the producer has a name


@fixed(frozen=True, slots=True)
class RecordAsked(Event):
    """Somebody gives one record straight to the owner of a key and wants the stage's outputs, in `Answered`."""

    ticket: int
    stage: str
    key: Any
    value: Any


@fixed(frozen=True, slots=True)
class PeerGone(Event, Effect):
    """This node id will never be heard of again (it left, or its name was taken over): forget it."""

    peer: NodeId
