"""What to propose next. So far that is the founding: who is in the first table, and which slots they own.

The lowest-named live worker proposes; the others wait their turn, in case it cannot. That only avoids duels: agreement
is safe whoever proposes. Founding takes `expect` live workers. Once they are there the absent get a short grace, so
that nodes started together get in together. A name that two live nodes claim is nobody's until one is gone: an old
process may not have been found dead yet, and its slots would be unavailable for ever.

States: too few -> grace (some are absent) -> my turn comes -> proposed -> founded. A proposal is repeated only when
other members are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mesh.core.electorate import MAX_VOTERS
from mesh.core.events import Effect, Millis, Propose
from mesh.core.messages import ALIVE, Member, NodeId
from mesh.core.rebalance import assign_backups, rebalance
from mesh.core.table import ACTIVE, WORKER, Seat, Slot, Table

GRACE = 300  # ms from `expect` live workers to a founding without the absent
TURN = 2_000  # ms that each further worker waits for those before it


@dataclass(frozen=True, slots=True)
class Declared:
    """A node that the topology names."""

    name: str
    role: str  # worker | witness
    zone: str


def founding_fault(declared: Sequence[Declared], expect: int) -> str | None:
    """A sentence about a cluster that could never be founded, or twice."""
    workers = sum(each.role == WORKER for each in declared)
    least = len(declared) // 2 + 1
    if workers == 0:
        return "no declared node is a worker, so nobody could own a slot"
    if expect > workers:
        return f"expect is {expect}, but only {workers} workers are declared"
    if expect < least:
        return (
            f"expect is {expect} of {len(declared)} declared nodes; it must be more than half, at least {least}, "
            "or two parts of the network could found a cluster each"
        )
    return None


class Planner:
    """`plan` is asked after every event that may have changed who is alive, and when the deadline comes."""

    def __init__(
        self, me: NodeId, declared: Sequence[Declared], expect: int, slots: int, copies: int, random: Random
    ) -> None:
        self._me = me
        self._declared = tuple(declared)
        self._expect = expect
        self._slots = slots
        self._copies = copies
        self._cluster_id = random.randbytes(16)
        self._reached: Millis | None = None  # since when `expect` workers are there without a break
        self._due: Millis | None = None  # when to look again
        self._proposed: tuple[NodeId, ...] = ()

    def next_deadline(self) -> Millis | None:
        return self._due

    def plan(self, alive: Sequence[Member], epoch: int, now: Millis) -> list[Effect]:
        """`alive` holds this node too; `epoch` is the newest known here."""
        self._due = None
        present = self._present(alive) if epoch == 0 else []
        workers = [member for member in present if member.role == WORKER]
        if len(workers) < self._expect:
            self._reached = None
            return []
        if self._reached is None:
            self._reached = now
        turn = self._turn(workers)
        if turn is None:
            return []
        grace = GRACE if len(present) < len(self._declared) else 0
        due = self._reached + grace + turn * TURN
        if now < due:
            self._due = due
            return []
        return self._propose(present)

    def _present(self, alive: Sequence[Member]) -> list[Member]:
        """The declared nodes that are alive and have their name to themselves, in the order of the declaration."""
        claims: dict[str, list[Member]] = {}
        for member in alive:
            if member.status == ALIVE:
                claims.setdefault(member.name, []).append(member)
        claimants = [(each, claims.get(each.name, [])) for each in self._declared]
        return [found[0] for each, found in claimants if len(found) == 1 and found[0].role == each.role]

    def _turn(self, workers: Sequence[Member]) -> int | None:
        """How many go before this node; None if it is not among them."""
        in_order = sorted(workers, key=lambda member: member.name)
        return next((place for place, member in enumerate(in_order) if member.node == self._me), None)

    def _propose(self, present: Sequence[Member]) -> list[Effect]:
        nodes = tuple(member.node for member in present)
        if nodes == self._proposed:
            return []
        self._proposed = nodes
        table = first_table(present, self._cluster_id, self._slots, self._copies)
        return [Propose(table.epoch, table.to_bytes())]


def first_table(present: Sequence[Member], cluster_id: bytes, slots: int, copies: int) -> Table:
    """The slots in equal contiguous runs, in the order of the members; the first seven members vote."""
    seats = tuple(
        Seat(each.name, each.node, each.endpoint, each.http, each.role, each.zone, place < MAX_VOTERS)
        for place, each in enumerate(present)
    )
    workers = [seat for seat in seats if seat.role == WORKER]
    place_of = {seat.name: place for place, seat in enumerate(seats)}
    owners = rebalance([None] * slots, [seat.name for seat in workers])
    backups = assign_backups(owners, [(seat.name, seat.zone) for seat in workers], copies)
    configurations = tuple(
        Slot(1, place_of[owner], tuple(place_of[name] for name in names), ACTIVE)
        for owner, names in zip(owners, backups, strict=True)
    )
    table = Table(1, cluster_id, seats, configurations)
    table.invariants(target=True)
    return table
