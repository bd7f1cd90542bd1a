"""The rules (docs/protocol.md) that hold at any time. They look after every event and change nothing.

They look inside the machines: what a checker may trust is what a node does, not what it says of itself. Rules about
single records are the ledger's; what must come true in the end are the goals'.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mesh.core import codec
from mesh.core.events import Delivered, Effect, Rejected, Transmit
from mesh.core.keys import hash_key, slot_of_hash
from mesh.core.membership.merge import rank
from mesh.core.messages import Batch, BatchDone, Member, NodeId
from mesh.core.packing import OWN_BATCHES
from mesh.core.succession import fault
from mesh.core.table import ACTIVE, Table
from mesh.sim.violation import Violation
from mesh.sim.workload import Record

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

# What honest nodes may refuse of each other, because it came late, twice, or to somebody else's successor.
HONEST = {"stranger", "stale-target", "unknown-sender", "unasked-answer", "not-a-voter", "hello-flood"}


@dataclass(slots=True)
class Channel:
    """What was handed to one link, and how much of it has come out."""

    payloads: list[bytes] = field(default_factory=list)
    delivered: int = 0


class Checkers:
    """Each method is called by the world or a process at the moment that it names; all raise Violation."""

    def __init__(self, world: World) -> None:
        self.table: Table | None = None
        self.seated: dict[NodeId, None] = {}  # who was ever a member
        self.refusals: Counter[str] = Counter()
        self.suspicions = 0
        self._world = world
        self._history: dict[int, Table] = {}  # what was chosen, by epoch
        self._epochs: dict[NodeId, int] = {}
        self._slots: dict[Any, int] = {}  # of keys
        self._channels: dict[tuple[NodeId, NodeId, int], Channel] = {}
        self._unapplied: dict[tuple[NodeId, NodeId, int], dict[int, list[tuple[str, int, Any]]]] = {}
        self._drained: dict[NodeId, int] = {}
        self._largest = 0  # payload that was ever sent: a window may be passed by one

    # -- 1, 2, 3: one value an epoch, by a majority, and one owner a slot

    def pumped(self, process: Process) -> None:
        table = process.node.control.table
        known = self._epochs.get(process.id, 0)
        if table is None or table.epoch == known:
            return
        if table.epoch < known:
            raise Violation("I1", f"{process.name} goes back from epoch {known} to {table.epoch}")
        self._epochs[process.id] = table.epoch
        if table.epoch not in self._history:
            self._first_seen(table)
        if self._history[table.epoch] != table:
            raise Violation("I1", f"{process.name} holds another epoch {table.epoch} than others")

    def _first_seen(self, table: Table) -> None:
        """A node that was away may leap over epochs; of the one before, somebody's memory is asked."""
        table.invariants(target=table.epoch == 1)
        before = self._history.get(table.epoch - 1) or self._remembered(table.epoch - 1)
        told = fault(before, table) if table.epoch == 1 or before is not None else None
        if told is not None:
            raise Violation("A2", f"epoch {table.epoch}: {told}")
        if table.epoch == 1 or before is not None:
            self._check_votes(table, before)
        if table.epoch == 1 and len(table.workers()) < self._world.scenario.expect:
            raise Violation("A6", f"a cluster of {len(table.workers())} workers was founded")
        self._history[table.epoch] = table
        self.seated |= {seat.node: None for seat in table.members}
        if self.table is None:
            self._world.founded()
        if self.table is None or table.epoch > self.table.epoch:
            self.table = table

    def _check_votes(self, table: Table, before: Table | None) -> None:
        held = [process for process in self._world.processes if self._has_accepted(process, table)]
        if before is None:
            names = {each.name for each in held}
            voted = [
                each.name for each in self._world.scenario.declared if each.role == "worker" and each.name in names
            ]
            enough = len(voted) >= self._world.scenario.expect
        else:
            nodes = {each.id for each in held}
            voted = [seat.name for seat in before.voters() if seat.node in nodes]
            enough = before.electorate().enough(voted)
        if not enough:
            raise Violation("I2", f"epoch {table.epoch} was chosen by {voted} alone")

    def _remembered(self, epoch: int) -> Table | None:
        values = (each.node.control.agreement._history.get(epoch) for each in self._world.processes)
        return next((Table.from_bytes(value) for value in values if value is not None), None)

    def _has_accepted(self, process: Process, table: Table) -> bool:
        """Or holds it, or a later one: then it has learnt that this one was chosen."""
        agreement = process.node.control.agreement
        return agreement._vote.accepted == table.to_bytes() or agreement.epoch >= table.epoch

    def owner_of(self, key: Any) -> NodeId:
        """By the newest table, and by nothing that a node computes."""
        assert self.table is not None
        return self.table.owner_of(self._slot_of(key)).node

    def is_active(self, key: Any) -> bool:
        """Its slot has an owner that is there, and the voters can still decide."""
        if self.table is None or self.table.state_of(self._slot_of(key)) != "active":
            return False
        living = {process.id for process in self._world.processes if process.alive}
        return self.table.electorate().enough(seat.name for seat in self.table.voters() if seat.node in living)

    def _slot_of(self, key: Any) -> int:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = slot_of_hash(hash_key(key, 0), self._world.scenario.slots)
        return slot

    def stepping(self, process: Process, stage: int, record: Record) -> None:
        """Called in the application's code, where raising would be taken for its own.

        A node works by the newest table that its data plane knows; a term names one owner, and one memory.
        """
        key = self._world.scenario.workload.key(stage, record[2])
        known = process.node.data.table
        table = None if known is None else self._history.get(known.epoch)
        if table is None:
            self._found("I3", f"{process.name} works on {key!r} before there is a partition")
            return
        slot = table.slots[self._slot_of(key)]
        if table.members[slot.owner].node != process.id or slot.status != ACTIVE:
            self._found("I3", f"{process.name} works on {key!r} at stage {stage} and does not own it: {slot}")

    def _found(self, rule: str, detail: str) -> None:
        self._world.ledger.found.append(Violation(rule, detail))

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
            records = [(value[0], value[1], key) for key, value in zip(message.keys, values, strict=True)]
            self._unapplied.setdefault((process.id, sent.to, message.stage), {})[message.number] = records
        elif isinstance(message, BatchDone):
            batches = self._unapplied.get((sent.to, process.id, message.stage), {})
            for number in [number for number in batches if number <= message.number]:
                records = batches.pop(number)
                applied = records if number < message.number else self._not_refused(records, message)
                self._all_applied(process, message.stage, applied)

    def _not_refused(self, records: list[tuple[str, int, Any]], done: BatchDone) -> list[tuple[str, int, Any]]:
        """What a former owner refused of its last batch is sent again, to the new one."""
        slots = [int.from_bytes(done.refused[at : at + 2], "little") for at in range(0, len(done.refused), 2)]
        start = dict(zip(slots, done.starts, strict=True))
        return [each for at, each in enumerate(records) if at < start.get(self._slot_of(each[2]), len(records))]

    def _all_applied(self, process: Process, stage: int, records: list[tuple[str, int, Any]]) -> None:
        for stream, seq, key in records:
            owed = self._world.ledger.owed.get((stage, stream, key))
            if owed is None or seq in owed.seqs:
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
        table = process.node.control.table
        if table is not None and table.seat_of(process.id) is None:
            data = process.node.data
            if data.owner.key_count() or data.records_keyed or any(count.records for count in data.sources.counts()):
                raise Violation("A7", f"{process.name} is not a member and works")

    def _check_claims(self, process: Process) -> None:
        drained = process.node.data.progress.drained
        if drained == self._drained.get(process.id, 0):
            return
        self._drained[process.id] = drained
        self._world.transcript.say(process.name, f"has nothing left to do at level {drained - 1}")
        for (consumer, stream, _), owed in self._world.ledger.owed.items():
            if owed.seqs and owed.producer == process.id and self._world.ledger.level_of(stream) < drained:
                raise Violation(
                    "E7", f"{process.name} says level {drained - 1} is drained, and {consumer} lacks {stream}"
                )

    def woken(self, process: Process) -> None:
        deadline = process.node.control.next_deadline()
        if deadline is not None and deadline <= self._world.now:
            raise Violation("deadline", f"{process.name} was woken, and wants to be woken at {deadline} again")

    # -- the rest

    def job_done(self, process: Process) -> None:
        if not self._world.ledger.complete():
            raise Violation("E7", f"{process.name} says that the job is done, and it is not")

    def rejected(self, process: Process, rejected: Rejected) -> None:
        """Nobody lies in these worlds."""
        self.refusals[rejected.reason] += 1
        if rejected.reason not in HONEST:
            raise Violation("honest", f"{process.name} rejects ({rejected.reason}): {rejected.detail}")

    def stopped(self, process: Process) -> None:
        raise Violation("admission", f"{process.name} refuses to take part: {process.stopped}")
