"""What can be said about a node and its cluster right now: pure functions of the planes, called under the lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesh.core.data import DataPlane
from mesh.core.keys import Key, hash_key, interval_of_slot, slot_of_hash
from mesh.core.messages import ALIVE, DEAD, LEFT, STATUS_NAMES, SUSPECT, Member, NodeId, Report
from mesh.core.node import Node
from mesh.core.table import ACTIVE, Seat
from mesh.runtime.config import NodeConfig
from mesh.runtime.status import Metric, NodeStatus, Ownership, RingRun, SlotCounts, SourceStatus, Status


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
    table = node.control.table
    if table is None or table.seat_of(node.id) is None:
        return False
    mine = set(table.slots_of(node.id))
    contacts = [seat.name for seat in table.voters() if _reachable(_belief(node, seat.node))]
    return all(table.slots[slot].status == ACTIVE for slot in mine) and table.electorate().enough(contacts)


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


def ring(node: Node) -> tuple[RingRun, ...]:
    """The hash interval as contiguous runs of slots."""
    table = node.control.table
    if table is None:
        return ()
    return tuple(RingRun(run.first, run.last, run.owner.name, _slots_state(node, run.owner)) for run in table.runs())


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
    slots = len(table.slots_of(member.node)) if table is not None and seated else 0
    state = STATUS_NAMES[member.status]
    if not seated and state == "alive":
        state = "joining"
    keys = reports[member.node].keys if member.node in reports else 0
    return NodeStatus(member.name, state, member.role, member.endpoint, member.http, slots, 0, keys)


def _slots_state(node: Node, seat: Seat) -> str:
    """active | unavailable | lost. Without copies, what a process held is lost once it is known to have ended."""
    belief = _belief(node, seat.node)
    if _reachable(belief):
        return "active"
    if belief is None:
        return "unavailable"
    return "lost" if belief.status == LEFT or _replaced(node, seat) else "unavailable"


def _replaced(node: Node, seat: Seat) -> bool:
    """Another process lives under this name and address: the former has ended."""
    others = node.control.membership.members.values()
    return any(
        each.name == seat.name and each.endpoint == seat.endpoint and each.node != seat.node and _reachable(each)
        for each in others
    )


def _slot_counts(node: Node) -> SlotCounts:
    table = node.control.table
    if table is None:
        return SlotCounts(node.identity.slots, 0, node.identity.slots, 0, 0)
    counts = dict.fromkeys(("active", "unavailable", "lost"), 0)
    for seat, owned in zip(table.members, table.owned_counts(), strict=True):
        counts[_slots_state(node, seat)] += owned
    return SlotCounts(len(table.slots), counts["active"], 0, counts["unavailable"], counts["lost"])


def awaited(node: Node, declared: Sequence[NodeConfig]) -> str:
    """A sentence on what the founding waits for."""
    here = {member.name for member in node.control.membership.alive()}
    workers = sum(each.role == "worker" and each.name in here for each in declared)
    missing = [f"{each.name} at {each.endpoint}" for each in declared if each.name not in here]
    told = f"the founding takes {node.identity.expect} workers, so far {workers} here"
    return f"{told}; not met yet: {', '.join(missing)}" if missing else f"{told}; the partition is being agreed"


def why_not_a_member(node: Node) -> str:
    """A sentence for a node that the partition does without, else nothing."""
    table, me = node.control.table, node.identity.me
    if table is None or table.seat_of(me.node) is not None:
        return ""
    told = f"cluster {node.identity.cluster} has its partition already, and this process is not in it"
    if any(seat.name == me.name for seat in table.members):
        told += f": an earlier process of node {me.name} is"
        lost = table.slots_in_words(me.name)
        told += f", and the state in its slots {lost} is gone with it" if lost != "none" else ""
    return f"{told}. This one owns no slots and does no work; it answers for any key that others hold"


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
