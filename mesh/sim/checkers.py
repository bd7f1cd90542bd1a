"""The rules (docs/protocol.md) that hold at any time. They look after every event and change nothing.

They look inside the machines: what a checker may trust is what a node does, not what it says of itself. Rules about
single records are the ledger's; what must come true in the end are the goals'.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from mesh.core import codec
from mesh.core.events import Effect, Rejected
from mesh.core.events.planes import Delivered, Transmit
from mesh.core.membership.merge import rank
from mesh.core.messages import NodeId
from mesh.core.messages.members import Member
from mesh.core.messages.work import Batch, BatchDone
from mesh.core.packing import OWN_BATCHES
from mesh.core.table import Table
from mesh.sim.epochs import Epochs
from mesh.sim.kept_ledger import KeptLedger
from mesh.sim.owners import Owners
from mesh.sim.touch import Touch
from mesh.sim.violation import Violation
from mesh.sim.votes import Votes
from mesh.sim.workload import Record

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

# What honest nodes may refuse of each other, because it came late, twice, or to somebody else's successor.
HONEST = {"stranger", "stale-target", "unknown-sender", "unasked-answer", "not-a-voter", "hello-flood"}

_Keyed: TypeAlias = tuple[Record, Any]


@dataclass(slots=True)
class Channel:
    """What was handed to one link, and how much of it has come out."""

    payloads: list[bytes] = field(default_factory=list)
    delivered: int = 0


class Checkers:
    """Each method is called by the world or a process at the moment that it names; all raise Violation."""

    def __init__(self, world: World) -> None:
        self.epochs = Epochs(world)
        self.owners = Owners(world)
        self.touch = Touch(world)
        self.votes = Votes()
        self.refusals: Counter[str] = Counter()
        self.suspicions = 0
        self._world = world
        self._channels: dict[tuple[NodeId, NodeId, int], Channel] = {}
        self._unapplied: dict[tuple[NodeId, NodeId, int], dict[int, list[_Keyed]]] = {}
        self._drained: dict[NodeId, int] = {}
        self._largest = 0  # payload that was ever sent: a window may be passed by one

    @property
    def table(self) -> Table | None:
        """The newest that anybody knows."""
        return self.epochs.newest

    @property
    def seated(self) -> dict[NodeId, str]:
        return self.epochs.seated

    def owner_of(self, key: Any) -> NodeId:
        return self.owners.owner_of(key)

    def pumped(self, process: Process) -> None:
        if self.epochs.pumped(process):
            self.touch.learnt(process)

    def stepping(self, process: Process, stage: int, key: Any) -> None:
        self.owners.stepping(process, stage, key)

    def reign_of(self, worker: NodeId, key: Any) -> int:
        """Where nothing outlives an owner there is one reign."""
        return self.owners.reign_of(worker, key) if isinstance(self._world.ledger, KeptLedger) else 0

    def reading(self, process: Process) -> None:
        """Called in the source."""
        found = self.touch.working(process)
        if found is not None:
            self._world.ledger.found.append(found)

    # -- M2: beliefs only rise

    def believes(self, process: Process, member: Member) -> None:
        before = process.beliefs.get(member.node)
        self.suspicions += member.status == 1
        if before is not None and rank(member) < rank(before):
            raise Violation("M2", f"{process.name} goes back from {before} to {member}")

    # -- 18: links

    def transmitted(self, process: Process, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self._channel(process.id, effect.to, effect.channel).payloads.append(effect.payload)
                self._largest = max(self._largest, len(effect.payload))
                self._note_cargo(process, effect)

    def delivered(self, process: Process, before: int) -> None:
        """What was appended to the inbox since it had `before` items."""
        inbox = process.node.inbox
        for place in range(before, len(inbox)):
            event = inbox[place]
            if isinstance(event, Delivered):
                channel = self._channel(event.sender, process.id, event.channel)
                expected = channel.payloads[channel.delivered : channel.delivered + 1]
                if expected != [event.payload]:
                    what = f"frame {channel.delivered + 1} of channel {event.channel}"
                    raise Violation("I18", f"{process.name} is delivered something else than {what} of its link")
                channel.delivered += 1

    def _channel(self, sender: NodeId, receiver: NodeId, number: int) -> Channel:
        return self._channels.setdefault((sender, receiver, number), Channel())

    # -- 11: no acknowledgement before it is true

    def _note_cargo(self, process: Process, sent: Transmit) -> None:
        message = codec.decode_with_values(sent.payload)
        if isinstance(message, Batch):
            values = message.keys if message.values is None else message.values
            records = [(value, key) for key, value in zip(message.keys, values, strict=True)]
            self._unapplied.setdefault((process.id, sent.to, message.stage), {})[message.number] = records
        elif isinstance(message, BatchDone):
            batches = self._unapplied.get((sent.to, process.id, message.stage), {})
            for number in [number for number in batches if number <= message.number]:
                records = batches.pop(number)
                applied = records if number < message.number else self._not_refused(records, message)
                self._all_applied(process, message.stage, applied)

    def _not_refused(self, records: list[_Keyed], done: BatchDone) -> list[_Keyed]:
        """What a former owner refused of its last batch is sent again, to the new one."""
        slots = [int.from_bytes(done.refused[at : at + 2], "little") for at in range(0, len(done.refused), 2)]
        start = dict(zip(slots, done.starts, strict=True))
        return [each for at, each in enumerate(records) if at < start.get(self.owners.slot_of(each[1]), len(records))]

    def _all_applied(self, process: Process, stage: int, records: list[_Keyed]) -> None:
        for (stream, seq, number), _ in records:
            if not self._world.ledger.acknowledged(stage, stream, seq, number):
                raise Violation("I11", f"{process.name} acknowledges record {seq} of {stream} before it is applied")

    # -- 16: bounds

    def after(self, process: Process) -> None:
        """After everything that a process does."""
        self._check_windows(process)
        self._check_links(process)
        self._check_outsider(process)
        self._check_claims(process)

    def _check_windows(self, process: Process) -> None:
        window = self._world.scenario.window_bytes
        for lane in process.node.data.router.lanes():
            newest = lane.in_flight[-1].size if lane.in_flight else 0
            if lane.bytes_in_flight - newest >= max(window, 1):
                raise Violation("I16", f"{process.name} has {lane.bytes_in_flight} bytes on their way to one owner")
            if lane.owner == process.id and len(lane.in_flight) > OWN_BATCHES:
                raise Violation("I16", f"{process.name} keeps {len(lane.in_flight)} of its own batches waiting")

    def _check_links(self, process: Process) -> None:
        window = self._world.scenario.window_bytes
        links = process.node.control.links
        for (_, channel), outgoing in links._outgoing.items():
            if outgoing.retained and outgoing.retained_bytes - len(outgoing.retained[-1]) >= window:
                raise Violation("I16", f"{process.name} retains {outgoing.retained_bytes} bytes on channel {channel}")
        for (_, channel), incoming in links._incoming.items():
            unconsumed = incoming.received_bytes - incoming.consumed
            if unconsumed >= window + max(self._largest, 1):
                raise Violation("I16", f"{process.name} was sent {unconsumed} bytes ahead on channel {channel}")

    # -- who is not a member does nothing; claims of progress are true; the deadline moves

    def _check_outsider(self, process: Process) -> None:
        if process.id not in self.seated:
            data = process.node.data
            read = data.sources.counts()[: self._world.scenario.workload.read_sources]  # anybody may be posted to
            if data.owner.key_count() or data.records_keyed or any(count.records for count in read):
                raise Violation("A7", f"{process.name} is not a member and works")

    def _check_claims(self, process: Process) -> None:
        drained = process.node.data.progress.drained
        if drained == self._drained.get(process.id, 0):
            return
        self._drained[process.id] = drained
        self._world.transcript.say(process.name, f"has nothing left to do at level {drained - 1}")
        lacking = self._world.ledger.lacking(process.id, drained)
        if lacking is not None:
            raise Violation("E7", f"{process.name} says level {drained - 1} is drained, and {lacking}")

    def woken(self, process: Process) -> None:
        deadline = process.node.control.next_deadline()
        if deadline is not None and deadline <= process.now:
            raise Violation("deadline", f"{process.name} was woken, and wants to be woken at {deadline} again")

    # -- the rest

    def left(self, process: Process) -> None:
        """Who left properly takes nothing along."""
        table = process.node.control.table
        if table is not None and table.seat_of(process.id) is not None:
            raise Violation("A5", f"{process.name} leaves, and has a seat")
        lacking = self._world.ledger.lacking(process.id, len(self._world.scenario.workload.stages) + 1)
        if lacking is not None:
            raise Violation("I7", f"{process.name} has left, and {lacking} of it")
        if process.node.data.owner.key_count():
            raise Violation("I7", f"{process.name} has left, and has states that nobody was given")

    def job_done(self, process: Process) -> None:
        if not self._world.ledger.complete():
            raise Violation("E7", f"{process.name} says that the job is done, and it is not")
        unwritten = self._world.clients.posted.unwritten()
        if unwritten is not None:
            raise Violation("E7", f"{process.name} says that the job is done, and {unwritten}")

    def rejected(self, process: Process, rejected: Rejected) -> None:
        """Nobody lies in these worlds."""
        self.refusals[rejected.reason] += 1
        if rejected.reason not in HONEST:
            raise Violation("honest", f"{process.name} rejects ({rejected.reason}): {rejected.detail}")

    def stopped(self, process: Process) -> None:
        if process.host.is_old and "an old copy" in process.stopped:
            return
        raise Violation("admission", f"{process.name} refuses to take part: {process.stopped}")
