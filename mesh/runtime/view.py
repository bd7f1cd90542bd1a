"""What can be said about a node and its cluster right now: pure functions of the planes, called under the lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from mesh.core.data import DataPlane
from mesh.core.keys import Key, hash_key, interval_of_slot, slot_of_hash
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, STATUS_NAMES, STAYING, SUSPECT, Member
from mesh.core.messages.work import Report
from mesh.core.node import Node
from mesh.core.slot import Slot
from mesh.core.table import Seat, Table
from mesh.runtime.config import NodeConfig
from mesh.runtime.status import (
    Metric,
    Moving,
    NodeStatus,
    Ownership,
    Ring,
    RingRun,
    SlotCounts,
    SourceStatus,
    Status,
)


def status(node: Node, job_done: bool) -> Status:
    """The body of `GET /v1/status`."""
    reports = all_reports(node)
    return Status(
        cluster=node.identity.cluster,
        epoch=epoch(node),
        this=node.identity.me.name,
        app=node.data.plan.app_name,
        ready=ready(node),
        done=job_done,
        nodes=tuple(_node_status(node, member, reports) for member in _shown_members(node)),
        slots=_slot_counts(node),
        sources=_sources(node, reports.values()),
    )


def epoch(node: Node) -> int:
    table = node.control.table
    return 0 if table is None else table.epoch


def ready(node: Node) -> bool:
    """A member, all its slots ACTIVE, a majority of the voters in contact."""
    return not why_not_ready(node)


def why_not_ready(node: Node) -> str:
    """What stands between this node and its readiness; nothing if it is ready."""
    table = node.control.table
    if table is None:
        return "the cluster is not founded yet, or nobody of it was met"
    if node.control.contact.fenced or not _majority_in_sight(node, table):
        return "a majority of the voters is out of touch"
    seat = table.seat_of(node.id)
    if seat is None:
        return (
            "joining: the partition does not name this node yet" if _is_staying(node) else "it has left the partition"
        )
    if not seat.up:
        return "returning: the partition still has this node as unreachable"
    return _own_troubles(table, seat)


def _majority_in_sight(node: Node, table: Table) -> bool:
    contacts = [seat.name for seat in table.voters() if _reachable(_belief(node, seat.node))]
    return table.electorate().enough(contacts)


def _is_staying(node: Node) -> bool:
    return node.control.membership.me.leaving == STAYING


def _own_troubles(table: Table, seat: Seat) -> str:
    counts: dict[str, int] = {}
    for first, count, slot in _runs(table):
        if table.members[slot.owner] is seat:
            state = table.state_of(first)
            counts[state] = counts.get(state, 0) + count
    total = sum(counts.values())
    counts.pop("active", None)
    troubles = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"of its {total} slots, {troubles}" if troubles else ""


def all_reports(node: Node) -> dict[NodeId, Report]:
    """Each node's newest counts, this one's own included."""
    return {**node.data.reports, node.id: node.data.report()}


def owner(node: Node, key: Key) -> Ownership | None:
    """Where a key lives; None before there is a partition."""
    table = node.control.table
    if table is None:
        return None
    hashed = hash_key(key, node.identity.seed)
    slot = slot_of_hash(hashed, len(table.slots))
    backups = tuple(seat.name for seat in table.backups_of(slot))
    interval = interval_of_slot(slot, len(table.slots))
    return Ownership(hashed, slot, interval, table.owner_of(slot).name, backups, table.slots[slot].term, table.epoch)


def ring(node: Node, moving: Moving) -> Ring:
    """The hash interval as contiguous runs of slots."""
    table = node.control.table
    if table is None:
        return Ring(node.identity.cluster, 0, node.identity.slots, (), ())
    alike = groupby(_runs(table), lambda run: _shown_as(table, run[0], run[2]))
    runs = [(key, list(group)) for key, group in alike]
    shown = tuple(RingRun(group[0][0], group[-1][0] + group[-1][1] - 1, *key) for key, group in runs)
    voters = tuple(seat.name for seat in table.voters())
    return Ring(node.identity.cluster, table.epoch, len(table), voters, shown, moving)


def _shown_as(table: Table, number: int, slot: Slot) -> tuple[str, str, str]:
    """Its owner, its state, and who else has it until the owner has it."""
    donor = "" if slot.donor is None or slot.promotes else table.members[slot.donor].name
    return table.members[slot.owner].name, table.state_of(number), donor


def why_unavailable(node: Node, key: Key) -> str:
    """The end of a sentence about a key whose state cannot be read now."""
    table = node.control.table
    if table is None:
        return "the cluster is not founded yet"
    if node.control.contact.fenced:
        return "a majority of the voters is out of touch with this node"
    number = slot_of_hash(hash_key(key, node.identity.seed), len(table))
    return why_slot_is_unavailable(table, number)


def why_slot_is_unavailable(table: Table, number: int) -> str:
    slot = table.slots[number]
    owner, state, donor = _shown_as(table, number, slot)
    if state == "active":
        return f"its owner is {owner}"
    if state == "pending":
        taken = f"{owner} takes it over" if slot.promotes else f"a copy takes over from {owner}, which is out of reach"
        return f"it moves from {donor} to {owner}" if donor else taken
    if state == "lost":
        return (
            "the process that had its state has ended" if table.copies == 1 else "all that had a copy of it have ended"
        )
    copies = " and ".join(sorted(table.members[place].name for place in slot.members))
    return (
        f"it is with {copies}, which are out of reach"
        if slot.backups
        else f"it is with {donor or owner}, which is out of reach"
    )


def metrics(node: Node, rejected: dict[str, int], backlog: int) -> list[Metric]:
    """Prometheus samples; all of this node alone."""
    data = node.data
    counts = data.sources.counts()
    samples = [
        Metric("mesh_records_read_total", "records read from sources", sum(each.records for each in counts)),
        Metric("mesh_records_keyed_total", "records that keyed stages took", data.records_keyed),
        Metric("mesh_records_out_total", "items written to sinks", data.records_out),
        Metric("mesh_records_set_aside_total", "records that could not be used", data.set_aside.count),
        Metric("mesh_keys", "keys created on this node, over all stages", data.owner.key_count()),
        Metric("mesh_epoch", "number of the agreed partition", epoch(node)),
        Metric("mesh_bytes_in_flight", "bytes sent to owners and not yet applied", data.router.bytes_in_flight()),
        Metric("mesh_link_backlog_bytes", "bytes that links hold for peers", backlog),
        Metric("mesh_inbox", "events that wait for the data plane", len(node.inbox)),
    ]
    slots = _slot_counts(node)
    for state in ("active", "pending", "unavailable", "lost"):
        samples.append(Metric("mesh_slots", "slots by state", getattr(slots, state), (("state", state),)))
    for name, state_count in _member_states(node).items():
        samples.append(Metric("mesh_members", "members by state", state_count, (("state", name),)))
    for reason, count in sorted(rejected.items()):
        samples.append(Metric("mesh_rejected_total", "bad peer input", count, (("reason", reason),)))
    return samples


# -- members and their slots ------------------------------------------------------------------------------------------


def _shown_members(node: Node) -> list[Member]:
    """Those of the partition, and whoever else is alive; by name."""
    table = node.control.table
    members = node.control.membership.members
    seats = set() if table is None else {seat.node for seat in table.members}
    shown = [each for each in members.values() if each.node in seats or _reachable(each)]
    known = {each.node for each in shown}
    missing = [] if table is None else [_never_met(seat) for seat in table.members if seat.node not in known]
    return sorted(shown + missing, key=lambda each: (each.name, each.node not in seats, each.node))


def _never_met(seat: Seat) -> Member:
    return Member(seat.node, seat.name, seat.endpoint, seat.http, seat.role, seat.zone, 0, DEAD)


def _belief(node: Node, peer: NodeId) -> Member | None:
    return node.control.membership.members.get(peer)


def _reachable(member: Member | None) -> bool:
    return member is not None and member.status in (ALIVE, SUSPECT)


def _node_status(node: Node, member: Member, reports: dict[NodeId, Report]) -> NodeStatus:
    table = node.control.table
    seated = table is not None and table.seat_of(member.node) is not None
    slots, backups = (0, 0) if table is None or not seated else table.counts_of(member.node)
    keys = reports[member.node].keys if member.node in reports else 0
    state = _member_state(member, seated=seated)
    return NodeStatus(member.name, state, member.role, member.endpoint, member.http, slots, backups, keys)


def _member_state(member: Member, *, seated: bool) -> str:
    """joining | alive | suspect | dead | leaving | left."""
    if member.status == ALIVE and member.leaving != STAYING:
        return "leaving"
    return "joining" if member.status == ALIVE and not seated else STATUS_NAMES[member.status]


def _slot_counts(node: Node) -> SlotCounts:
    table = node.control.table
    if table is None:
        return SlotCounts(node.identity.slots, 0, node.identity.slots, 0, 0)
    return SlotCounts(len(table), **table.counts())


def _runs(table: Table) -> Iterator[tuple[int, int, Slot]]:
    """(first, count, slot) of neighbouring slots of one configuration."""
    first = 0
    for slot, group in groupby(table.slots):
        count = sum(1 for _ in group)
        yield first, count, slot
        first += count


def awaited(node: Node, declared: Sequence[NodeConfig]) -> str:
    """A sentence on what the founding waits for, or what a node that would join one does."""
    here = {member.name for member in node.control.membership.alive()}
    if all(each.name != node.identity.me.name for each in declared):
        met = ", ".join(sorted(here - {node.identity.me.name}))
        told = f"met {met}, and their cluster is not founded yet" if met else "nobody answers there"
        return f"this node would join cluster {node.identity.cluster} at {', '.join(node.identity.seeds)}; {told}"
    workers = sum(each.role == "worker" and each.name in here for each in declared)
    missing = [f"{each.name} at {each.endpoint}" for each in declared if each.name not in here]
    told = f"the founding takes {node.identity.expect} workers, so far {workers} here"
    return f"{told}; not met yet: {', '.join(missing)}" if missing else f"{told}; the partition is being agreed"


def _member_states(node: Node) -> dict[str, int]:
    counts = dict.fromkeys(STATUS_NAMES, 0)
    for member in node.control.membership.members.values():
        counts[STATUS_NAMES[member.status]] += 1
    return counts


def _sources(node: Node, reports: Iterable[Report]) -> tuple[SourceStatus, ...]:
    return tuple(_source(name, reports) for name in _source_names(node.data))


def _source_names(data: DataPlane) -> list[str]:
    return [source.name for source in data.plan.sources]


def _source(name: str, reports: Iterable[Report]) -> SourceStatus:
    counts = [count for report in reports for count in report.sources if count.name == name]
    return SourceStatus(
        name,
        sum(count.splits for count in counts),
        sum(count.splits_done for count in counts),
        sum(count.records for count in counts),
    )
