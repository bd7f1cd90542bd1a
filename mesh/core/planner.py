"""When to propose, and what: the founding here, every later table in `transitions`.

The lowest-named live worker (at the founding) or voter proposes; the others wait their turn, in case it cannot. That
only avoids duels: agreement is safe whoever proposes. Founding takes `expect` live workers. Once they are there the
absent get a short grace, so that nodes started together get in together. A name that two live nodes claim is nobody's
until one is gone: an old process may not have been found dead yet, and its slots would be unavailable for ever.

    founding   too few -> grace (some are absent) -> my turn comes -> proposed -> founded; again when others are there
    after it   at rest -> stirred -> my turn comes -> looked: at rest, or proposed -> next epoch: stirred

What an ended process had is called lost only after MOURNING: claims for what it handed over are repeated ten times in
that time, and a mesh that is being stopped as a whole is gone by then.

Where slots have copies, or are durable, nothing is levelled in the first ABSENCE of a worker's death: it may come back,
or another process in its place, and what moved away would move again. What it owned is promoted, and filled, without
waiting.

There, too, claims come from many nodes for many slots: for GATHER they are waited for together, or for GATHER_FILLS if
none of these slots pauses, but no longer than until all have claimed; and what is proposed goes its way for REVISE,
whatever else is claimed meanwhile.

A proposal that nothing speaks for any more is withdrawn: a minority's view of who is dead must not be decided when the
network heals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from mesh.core.electorate import MAX_VOTERS
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import Propose, Withdraw
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, SUSPECT, Member
from mesh.core.rebalance import assign_backups, rebalance
from mesh.core.seating import Facts, new_seat, spokesman, which_ended
from mesh.core.slot import ACTIVE, PENDING, Slot
from mesh.core.table import WORKER, Seat, Table
from mesh.core.table_bytes import table_to_bytes
from mesh.core.transitions import next_table

GRACE = 300  # ms from `expect` live workers to a founding without the absent
TURN = 2_000  # ms that each further worker or voter waits for those before it
PAUSE = 20  # ms between two looks at a formed cluster: what is ready together is proposed together
GATHER = 50  # ms from a new epoch in which claims come together, where slots have copies
GATHER_FILLS = 500  # ms of the same, while nobody waits for what is claimed: each epoch costs every node a little
REVISE = 100  # ms that what is proposed goes its way, where slots have copies, though more is claimed
MOURNING = 1_000  # ms from an end until anything is called lost; see the header
ABSENCE = 15_000  # ms from a worker's death until its share is levelled among the others; see the header


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
    """`plan` is asked after every event; `stir` says that something may have changed for a formed cluster."""

    def __init__(
        self,
        me: NodeId,
        declared: Sequence[Declared],
        expect: int,
        slots: int,
        copies: int,
        random: Random,
        durable: bool = False,
    ) -> None:
        self._me = me
        self._declared = tuple(declared)
        self._expect = expect
        self._slots = slots
        self._copies = copies
        self._durable = durable
        self._cluster_id = random.randbytes(16)
        self._reached: Millis | None = None  # since when `expect` workers are there without a break
        self._due: Millis | None = None  # when to look again
        self._proposed = b""  # to what end, at the founding and in this epoch
        self._stirred: Millis | None = None  # since when there may be something to do in this epoch
        self._looked = -PAUSE
        self._claims_from: Millis = 0  # claims are looked at from then on
        self._seen: Facts | None = None  # with which `_found` follows `_seen_table`
        self._seen_table: Table | None = None
        self._found: Table | None = None
        self._ended: dict[NodeId, Millis] = {}  # since when
        self._down: dict[NodeId, Millis] = {}  # workers, since when

    def next_deadline(self) -> Millis | None:
        return self._due

    def found(self, alive: Sequence[Member], now: Millis) -> list[Effect]:
        """As long as no epoch is known. `alive` holds this node too."""
        self._due = None
        present = self._present(alive)
        workers = [member for member in present if member.role == WORKER]
        if len(workers) < self._expect:
            self._reached = None
            return []
        if self._reached is None:
            self._reached = now
        turn = self._turn([(each.name, each.node) for each in workers])
        if turn is None:
            return []
        grace = GRACE if len(present) < len(self._declared) else 0
        due = self._reached + grace + turn * TURN
        if now < due:
            self._due = due
            return []
        return self._propose_first(present)

    def _present(self, alive: Sequence[Member]) -> list[Member]:
        """The declared nodes that are alive and have their name to themselves, in the order of the declaration."""
        claims: dict[str, list[Member]] = {}
        for member in alive:
            if member.status == ALIVE:
                claims.setdefault(member.name, []).append(member)
        claimants = [(each, claims.get(each.name, [])) for each in self._declared]
        return [found[0] for each, found in claimants if len(found) == 1 and found[0].role == each.role]

    def _turn(self, candidates: Sequence[tuple[str, NodeId]]) -> int | None:
        """How many go before this node, by name; None if it is not among them."""
        return next((place for place, (_, node) in enumerate(sorted(candidates)) if node == self._me), None)

    def _propose_first(self, present: Sequence[Member]) -> list[Effect]:
        nodes = b"".join(member.node for member in present)
        if nodes == self._proposed:
            return []
        self._proposed = nodes
        table = first_table(present, self._cluster_id, self._slots, self._copies, self._durable)
        return [Propose(table.epoch, table_to_bytes(table))]

    # -- a formed cluster

    def agreed(self, now: Millis, *, gather: Millis = 0) -> None:
        """There is a new epoch; `gather`: so long claims are waited for together."""
        self._proposed = b""
        self._stirred = now
        self._due = self._claims_from = now + gather

    def stir(self, now: Millis) -> None:
        """Who is there, what is installed, or who is caught up has changed."""
        if self._stirred is None:
            self._stirred = now
        self._due = now

    def claimed(self, now: Millis, *, all_heard: bool) -> None:
        """What is installed has changed; `all_heard`: nothing more is waited for."""
        if self._stirred is None:
            self._stirred = now
        goes_its_way = self._proposed and self._seen_table is not None and self._seen_table.fills
        due = self._looked + REVISE if goes_its_way else now if all_heard else max(now, self._claims_from)
        self._due = due if self._due is None else min(due, self._due)

    def follow(self, table: Table, facts: Facts, now: Millis) -> list[Effect]:
        """What should come after `table`, if it is time to look."""
        if self._stirred is None or self._due is None or now < self._due:
            return []
        speakers = [(seat.name, spokesman(seat, facts.members)) for seat in table.voters()]
        turn = self._turn([(name, each.node) for name, each in speakers if each is not None and each.status == ALIVE])
        if turn is None:
            self._stirred = self._due = None
            return self._withdraw(table)
        self._due = max(self._looked + PAUSE, self._stirred + turn * TURN)
        if now >= self._due:
            mourned, absent = self._mourn(table, facts, now), self._expect_back(table, facts, now)
            return self._look(table, replace(facts, mourned=mourned, absent=absent), now)
        return self._withdraw(table) if turn else []

    def _mourn(self, table: Table, facts: Facts, now: Millis) -> list[NodeId]:
        ends = zip(table.members, which_ended(table.members, facts.members), strict=True)
        ended = [seat.node for seat, has_ended in ends if has_ended]
        self._ended = {node: self._ended.get(node, now) for node in ended}
        return [node for node, since in self._ended.items() if now - since >= MOURNING]

    def _expect_back(self, table: Table, facts: Facts, now: Millis) -> list[NodeId]:
        ends = zip(table.members, which_ended(table.members, facts.members), strict=True)
        back = [seat for seat, has_ended in ends if table.durable or not has_ended]
        away = [seat.node for seat in back if _is_down(seat, facts.members)]
        self._down = {node: self._down.get(node, now) for node in away} if table.fills else {}
        return [node for node, since in self._down.items() if now - since < ABSENCE]

    def _look(self, table: Table, facts: Facts, now: Millis) -> list[Effect]:
        self._looked = now
        waits = [since + MOURNING for since in self._ended.values()] + [
            since + ABSENCE for since in self._down.values()
        ]
        self._due = min((due for due in waits if due > now), default=None)
        follower = self._next(table, facts)
        if follower is None:
            self._stirred = None if self._due is None else now
            return self._withdraw(table)
        value = table_to_bytes(follower)
        if value == self._proposed:
            return []
        self._proposed = value
        return [Propose(follower.epoch, value)]

    def _next(self, table: Table, facts: Facts) -> Table | None:
        """It takes milliseconds: not twice for the same."""
        now = _copied(facts)
        if table is not self._seen_table or now != self._seen:
            self._found = next_table(table, facts)
            self._seen_table, self._seen = table, now
        return self._found

    def _withdraw(self, table: Table) -> list[Effect]:
        """What was proposed for the next epoch is not wanted any more, or others are to say what is."""
        wanted, self._proposed = self._proposed, b""
        return [Withdraw(table.epoch + 1)] if wanted else []


def gathering(table: Table) -> Millis:
    """How long what is claimed for this table is gathered."""
    if not table.fills:
        return 0
    is_waited_for = any(slot.status == PENDING or slot.parting for slot in table.slots)
    return GATHER if is_waited_for else GATHER_FILLS


def _copied(facts: Facts) -> Facts:
    """As they are now: what is in them goes on changing."""
    return Facts(
        {**facts.members}, {**facts.installed}, [*facts.caught_up], facts.mourned, {**facts.accepted}, facts.absent,
        {**facts.rooted}, {**facts.given_up},
    )  # fmt: skip


def _is_down(seat: Seat, members: Mapping[NodeId, Member]) -> bool:
    belief = members.get(seat.node)
    return seat.role == WORKER and (not seat.up if belief is None else belief.status > SUSPECT)


def first_table(present: Sequence[Member], cluster_id: bytes, slots: int, copies: int, durable: bool = False) -> Table:
    """The slots in equal contiguous runs, in the order of the members; the first seven members vote."""
    seats = tuple(new_seat(each, voter=place < MAX_VOTERS) for place, each in enumerate(present))
    workers = [seat for seat in seats if seat.role == WORKER]
    place_of = {seat.name: place for place, seat in enumerate(seats)}
    owners = rebalance([None] * slots, [seat.name for seat in workers])
    backups = assign_backups(owners, [(seat.name, seat.zone) for seat in workers], copies)
    configurations = tuple(
        Slot(1, place_of[owner], tuple(place_of[name] for name in names), ACTIVE)
        for owner, names in zip(owners, backups, strict=True)
    )
    founders = tuple(seat.node for seat in workers)
    table = Table(1, cluster_id, seats, configurations, (), founders, copies, durable)
    table.invariants(target=True)
    return table
