"""The partition: which node owns each slot, in one epoch. It is what the nodes agree on.

Each slot has a configuration of its own, see `slot`: its owner, donor, backups and who joins are places in `members`.
Members stand in the order of service, the longest first, which decides the half vote of even sets. A member that is
down keeps its seat, as what it owns may return with it. A seat names a process (`node`), which has what it owns in its
memory, and a home, which has the vote. In a *durable* cluster the home also has, on its disk, all that its processes
held as copies: the process that follows one of the same home is a copy of whatever the seat was a copy of, though it
owns nothing before a later term says so.

Invariants: those of every slot; names, node ids and homes are distinct; who is down has no vote; who left is no member;
the number of slots is a power of two. A *target* is also level: the workers' slot counts differ by at most one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mesh.core.electorate import MAX_VOTERS, Electorate, electorate
from mesh.core.slot import ACTIVE, LOST, Slot

WORKER, WITNESS = "worker", "witness"
MAX_SLOTS = 1 << 16  # slot numbers travel as 16 bits
MAX_MEMBERS = 1 << 12
MAX_LEFT = 64  # who left last; whoever was away while more than that left waits for their reports in vain
GENERATION = 1_000_000_000  # epochs; a recovery (`recovery`) starts at the next multiple, above any that can be known
MAX_COPIES = 3


@dataclass(frozen=True, slots=True)
class Seat:
    """A member of the cluster as the epoch names it."""

    name: str
    node: bytes  # 16 bytes; the process. Another one of the same name may follow in its place
    endpoint: str
    http: str
    role: str  # worker | witness
    zone: str
    voter: bool
    up: bool = True  # False: agreed to be unreachable; it has no vote, gets no slots, and its slots are unavailable
    home: bytes = b""  # 16 bytes: whose vote it is; the node's own if there is no data directory
    boot: int = 1  # which process of its home this one is

    def __post_init__(self) -> None:
        if not self.home:
            object.__setattr__(self, "home", self.node)


@dataclass(frozen=True, slots=True)
class Run:
    """Slots first .. last, all of one owner."""

    first: int
    last: int
    owner: Seat

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Table:
    """The members and the slots of one epoch."""

    epoch: int
    cluster_id: bytes
    members: tuple[Seat, ...]
    slots: tuple[Slot, ...]
    left: tuple[bytes, ...] = ()  # node ids that were seats and left properly, the newest last; at most MAX_LEFT
    founders: tuple[bytes, ...] = ()  # node ids of the first epoch's workers: the sources' splits were dealt to them
    copies: int = 1  # of each slot, where so many workers are up
    durable: bool = False  # copies survive the process that has them

    def __len__(self) -> int:
        """The number of slots."""
        return len(self.slots)

    @property
    def generation(self) -> int:
        """How often an operator has had it go on without its majority."""
        return self.epoch // GENERATION

    @property
    def fills(self) -> bool:
        """Whether a slot goes to another owner by a copy that is filled, or else by being shipped."""
        return self.copies > 1 or self.durable

    def asking(self) -> int:
        """How many slots wait for somebody's word."""
        asks = {name: bool(slot.asked()) for name, slot in {id(slot): slot for slot in self.slots}.items()}
        return sum(asks[id(slot)] for slot in self.slots) if any(asks.values()) else 0

    # -- who has what

    def owner_of(self, slot: int) -> Seat:
        return self.members[self.slots[slot].owner]

    def backups_of(self, slot: int) -> tuple[Seat, ...]:
        return tuple(self.members[place] for place in self.slots[slot].backups)

    def owners(self) -> tuple[str, ...]:
        """The owner's name of each slot."""
        return tuple(self.members[slot.owner].name for slot in self.slots)

    def state_of(self, slot: int) -> str:
        """active | pending | unavailable | lost."""
        return self._state(self.slots[slot])

    def counts(self) -> dict[str, int]:
        """How many slots are in each state."""
        counts = {"active": 0, "pending": 0, "unavailable": 0, "lost": 0}
        for _, count, slot in runs_of(self.slots):
            counts[self._state(slot)] += count
        return counts

    def _state(self, slot: Slot) -> str:
        if slot.status == LOST:
            return "lost"
        up = [self.members[place].up for place in slot.members]
        if not (any(up) if slot.backups else all(up)):
            return "unavailable"
        return "active" if slot.status == ACTIVE and self.members[slot.owner].up else "pending"

    def seat_of(self, node: bytes) -> Seat | None:
        return next((seat for seat in self.members if seat.node == node), None)

    def seat_named(self, name: str) -> Seat | None:
        return next((seat for seat in self.members if seat.name == name), None)

    def workers(self) -> tuple[Seat, ...]:
        return tuple(seat for seat in self.members if seat.role == WORKER)

    def voters(self) -> tuple[Seat, ...]:
        return tuple(seat for seat in self.members if seat.voter)

    def slots_of(self, node: bytes) -> tuple[int, ...]:
        """The slots that a node owns, ascending."""
        places = [place for place, seat in enumerate(self.members) if seat.node == node]
        return tuple(number for number, slot in enumerate(self.slots) if slot.owner in places)

    def counts_of(self, node: bytes) -> tuple[int, int]:
        """How many slots a node owns, and backs up."""
        place = next((place for place, seat in enumerate(self.members) if seat.node == node), None)
        owned = sum(count for _, count, slot in runs_of(self.slots) if slot.owner == place)
        return owned, sum(count for _, count, slot in runs_of(self.slots) if place in slot.backups)

    def owned_counts(self) -> tuple[int, ...]:
        """Slots owned, one number a member."""
        return self._counts(slot.owner for slot in self.slots)

    def backup_counts(self) -> tuple[int, ...]:
        """Slots backed up, one number a member."""
        return self._counts(place for slot in self.slots for place in slot.backups)

    def slots_in_words(self, name: str) -> str:
        """What the member of this name owns, as a person writes it: "0-341, 900", or "none"."""
        owned = [run for run in self.runs() if run.owner.name == name]
        ranges = [f"{run.first}-{run.last}" if run.first < run.last else f"{run.first}" for run in owned]
        return ", ".join(ranges) or "none"

    def runs(self) -> tuple[Run, ...]:
        """The partition as contiguous runs, ascending."""
        return tuple(
            Run(first, first + count - 1, self.members[owner])
            for first, count, owner in runs_of([slot.owner for slot in self.slots])
        )

    def electorate(self) -> Electorate:
        """Who chooses the next epoch."""
        voters = self.voters()
        return electorate([(seat.name, seat.home) for seat in voters], [seat.node for seat in voters])

    def spread(self) -> int:
        """By how much the workers' slot counts differ, of those that are up."""
        owned = zip(self.members, self.owned_counts(), strict=True)
        counts = [count for seat, count in owned if seat.role == WORKER and seat.up]
        return max(counts, default=0) - min(counts, default=0)

    def _counts(self, places: Iterable[int]) -> tuple[int, ...]:
        counts = [0] * len(self.members)
        for place in places:
            counts[place] += 1
        return tuple(counts)

    def fault(self) -> str | None:
        """The first broken invariant, as a sentence."""
        workers = [place for place, seat in enumerate(self.members) if seat.role == WORKER]
        voters = len(self.voters())
        size = len(self.slots)
        nodes = {seat.node for seat in self.members}
        if len({seat.name for seat in self.members}) < len(self.members):
            return "two members have one name"
        if len(nodes) < len(self.members):
            return "two members have one node id"
        if len({seat.home for seat in self.members}) < len(self.members):
            return "two members have one home"
        if any(seat.voter and not seat.up for seat in self.members):
            return "a member that is down has a vote"
        if len({*self.left}) < len(self.left) or nodes & {*self.left} or len(self.left) > MAX_LEFT:
            return "who left is a member, or named twice, or too many are named"
        if not workers:
            return "no member is a worker"
        if not 1 <= voters <= MAX_VOTERS:
            return f"{voters} voters, not 1 to {MAX_VOTERS}"
        if not 1 <= self.copies <= MAX_COPIES:
            return f"{self.copies} copies, not 1 to {MAX_COPIES}"
        if not 1 <= size <= MAX_SLOTS or size & (size - 1):
            return f"{size} slots, not a power of two up to {MAX_SLOTS}"
        distinct = {id(slot): slot for slot in self.slots}.values()
        if self.durable and any(slot.moves for slot in distinct):
            return "what is durable is shipped"
        return next((fault for slot in distinct if (fault := slot.fault(workers))), None)

    def invariants(self, *, target: bool = False) -> None:
        """Asserts those of the header; `target`: also that it is level."""
        fault = self.fault()
        assert fault is None, fault
        assert not target or self.spread() <= 1, f"the workers' slot counts differ by {self.spread()}"


def runs_of(items: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    """(first, count, item) of each run of equal items."""
    first = 0
    for item, group in groupby(items):
        count = len(list(group))
        yield first, count, item
        first += count
