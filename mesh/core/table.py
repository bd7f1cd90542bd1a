"""The partition: which node owns each slot, in one epoch. It is what the nodes agree on, so it must be the same bytes
everywhere: a canonical, run-length encoded msgpack, which is refused when it is anything else.

Each slot has a configuration of its own (term, owner, backups, status). A term rises by one whenever that slot's
configuration changes, so that what was said under an older one is known to be old. LOST: every process that had the
state has ended. PENDING has one of three forms, which succession goes on from in different ways:

    moves       no backups, another donor    the donor, who alone has the state, ships it to the owner
    hands over  the donor is a backup        all have the state; the donor stops, and the owner goes on
    promotes    the donor is the owner       it has the state, and shall go on alone, whoever else has it (or has not)

`joining`: who is being filled by the owner, and becomes a backup when the owner says that it is; a fill belongs to one
term. `parting`: backups that are to be left out although fewer copies than wanted stay. They count as before, and may
be promoted, until the owner says that it knows: so nobody who lives is left out in favour of an owner that has died
meanwhile. `since`: the term at which this reign began; it never falls, and a change of backups leaves it as it is, so
that who sends to an owner need not care. Whatever stops an owner ends its reign: after a hand-over that is called off
it is an owner anew, so that what was said before is told from what is said after it.

Owners, donors, backups and who joins are places in `members`; members stand in the order of service, the longest first,
which decides the half vote of even sets. A member that is down keeps its seat, as what it owns may return with it. A
seat names a process (`node`), which has what it owns in its memory, and a home, which has the vote. In a *durable*
cluster the home also has, on its disk, all that its processes held as copies: the process that follows one of the same
home is a copy of whatever the seat was a copy of, though it owns nothing before a later term says so.

An epoch's value is the whole table, not what changed: it is a few KB, and who was away needs the newest one only.

Invariants: every slot has one owner, who is a worker and not among its backups; it has a donor, a worker, exactly while
it is PENDING; backups are distinct workers, and who joins is another one, of an ACTIVE slot; who parts is a backup of
an ACTIVE slot that nobody joins; what is LOST has none; a reign is at most as old as the slot, and begins with the term
if the slot is LOST, moves, or is promoted; names, node ids and homes are distinct; who is down has no vote; who left is
no member; the number of slots is a power of two. A *target* is also level: the workers' slot counts differ by at most
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import msgpack

from mesh.core.electorate import MAX_VOTERS, Electorate, electorate

PENDING, ACTIVE, LOST = 0, 1, 2
WORKER, WITNESS = "worker", "witness"
MAX_SLOTS = 1 << 16  # slot numbers travel as 16 bits
MAX_MEMBERS = 1 << 12
MAX_LEFT = 64  # who left last; whoever was away while more than that left waits for their reports in vain
MAX_TERM = (1 << 63) - 1
MAX_BYTES = 4 << 20  # of an encoded table: it must fit into a message
MAX_TEXT = 1024
GENERATION = 1_000_000_000  # epochs; a recovery (`recovery`) starts at the next multiple, above any that can be known
MAX_COPIES = 3
FORMAT = 6


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
class Slot:
    """One slot's configuration. Equal ones are usually the same object."""

    term: int  # from 1
    owner: int  # place in members
    backups: tuple[int, ...] = ()  # places in members
    status: int = ACTIVE  # PENDING | ACTIVE | LOST
    donor: int | None = None  # while PENDING: the owner of the last ACTIVE configuration, or who is promoted
    since: int = 0  # the term at which its owner, or the donor that hands over, became the owner; 0: this one
    joining: int | None = None  # place in members; while ACTIVE: who is being filled
    parting: tuple[int, ...] = ()  # of the backups; while ACTIVE: those that are left out once the owner knows

    def __post_init__(self) -> None:
        if not self.since:
            object.__setattr__(self, "since", self.term)

    @property
    def members(self) -> tuple[int, ...]:
        """Who may hold the state: the copies of the last ACTIVE configuration, and who it is shipped to."""
        donors = () if self.donor is None or self.donor in (self.owner, *self.backups) else (self.donor,)
        return (self.owner, *self.backups, *donors)

    @property
    def moves(self) -> bool:
        """It is shipped by the only one that has it."""
        return self.status == PENDING and not self.backups and self.donor != self.owner

    @property
    def hands_over(self) -> bool:
        return self.status == PENDING and self.donor in self.backups

    @property
    def promotes(self) -> bool:
        return self.status == PENDING and self.donor == self.owner

    def activated(self) -> Slot:
        """What it becomes, while it is PENDING, once all whose word it waits for have given it."""
        return Slot(self.term, self.owner, self.backups if self.hands_over else ())

    def asked(self) -> tuple[int, ...]:
        """Whose word this configuration waits for: that they hold, or have filled, what it asks of them."""
        if self.hands_over:
            return tuple(place for place in (self.owner, *self.backups) if place != self.donor)
        return (self.owner,) if self.status == PENDING or self.joining is not None or self.parting else ()


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
        for _, count, slot in _runs(self.slots):
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
        owned = sum(count for _, count, slot in _runs(self.slots) if slot.owner == place)
        return owned, sum(count for _, count, slot in _runs(self.slots) if place in slot.backups)

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
            for first, count, owner in _runs([slot.owner for slot in self.slots])
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

    def invariants(self, *, target: bool = False) -> None:
        """Asserts those of the header; `target`: also that it is level."""
        fault = _fault(self)
        assert fault is None, fault
        assert not target or self.spread() <= 1, f"the workers' slot counts differ by {self.spread()}"

    # -- bytes

    def to_bytes(self) -> bytes:
        """The same bytes on every machine."""
        self.invariants()
        return self._encoded()

    def _encoded(self) -> bytes:
        members = [
            [s.name, s.node, s.endpoint, s.http, s.role, s.zone, s.voter, s.up, s.home, s.boot] for s in self.members
        ]
        runs = [
            [
                count, slot.term, slot.owner, slot.status, list(slot.backups), slot.donor, slot.since, slot.joining,
                list(slot.parting),
            ]
            for _, count, slot in _runs(self.slots)
        ]  # fmt: skip
        lists = [members, runs, list(self.left), list(self.founders)]
        fields = [FORMAT, self.epoch, self.cluster_id, *lists, self.copies, self.durable]
        packed: bytes = msgpack.packb(fields, use_bin_type=True)
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Table:
        """Raises ValueError, whatever the bytes."""
        if len(data) > MAX_BYTES:
            raise ValueError(f"a table of {len(data)} bytes")
        return _parsed(data)


def voters_of(epoch: int, value: bytes) -> Electorate:
    """Who follows up on this value of this epoch. Raises ValueError if it is no table of that epoch."""
    table = Table.from_bytes(value)
    if table.epoch != epoch:
        raise ValueError(f"a table of epoch {table.epoch} where one of epoch {epoch} belongs")
    return table.electorate()


def _runs(items: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    """(first, count, item) of each run of equal items."""
    first = 0
    for item, group in groupby(items):
        count = len(list(group))
        yield first, count, item
        first += count


def _fault(table: Table) -> str | None:
    """The first broken invariant, as a sentence."""
    workers = [place for place, seat in enumerate(table.members) if seat.role == WORKER]
    voters = len(table.voters())
    size = len(table.slots)
    nodes = {seat.node for seat in table.members}
    if len({seat.name for seat in table.members}) < len(table.members):
        return "two members have one name"
    if len(nodes) < len(table.members):
        return "two members have one node id"
    if len({seat.home for seat in table.members}) < len(table.members):
        return "two members have one home"
    if any(seat.voter and not seat.up for seat in table.members):
        return "a member that is down has a vote"
    if len({*table.left}) < len(table.left) or nodes & {*table.left} or len(table.left) > MAX_LEFT:
        return "who left is a member, or named twice, or too many are named"
    if not workers:
        return "no member is a worker"
    if not 1 <= voters <= MAX_VOTERS:
        return f"{voters} voters, not 1 to {MAX_VOTERS}"
    if not 1 <= table.copies <= MAX_COPIES:
        return f"{table.copies} copies, not 1 to {MAX_COPIES}"
    if not 1 <= size <= MAX_SLOTS or size & (size - 1):
        return f"{size} slots, not a power of two up to {MAX_SLOTS}"
    distinct = {id(slot): slot for slot in table.slots}.values()
    if table.durable and any(slot.moves for slot in distinct):
        return "what is durable is shipped"
    return next((fault for slot in distinct if (fault := _slot_fault(slot, workers))), None)


def _slot_fault(slot: Slot, workers: list[int]) -> str | None:
    places = (slot.owner, *slot.backups)
    if len(set(places)) < len(places):
        return f"owner and backups are not distinct: {slot}"
    if any(place not in workers for place in places):
        return f"owner or a backup is no worker: {slot}"
    if (slot.donor is not None) != (slot.status == PENDING):
        return f"a donor without need, or none where one is needed: {slot}"
    if slot.donor is not None and slot.donor not in workers:
        return f"the donor is no worker: {slot}"
    return _reign_fault(slot) or _joining_fault(slot, workers) or _parting_fault(slot)


def _reign_fault(slot: Slot) -> str | None:
    if slot.status == LOST and slot.backups:
        return f"what is lost has backups: {slot}"
    if slot.status == PENDING and slot.backups and slot.donor not in slot.members[: 1 + len(slot.backups)]:
        return f"the donor is none of the copies: {slot}"
    if not 1 <= slot.since <= slot.term:
        return f"a reign that is younger than its term: {slot}"
    if slot.since == slot.term and slot.hands_over:
        return f"a hand-over by an owner that has just begun: {slot}"
    if slot.since < slot.term and slot.status != ACTIVE and not slot.hands_over:
        return f"a reign that is over, and is said to last: {slot}"
    return None


def _joining_fault(slot: Slot, workers: list[int]) -> str | None:
    if slot.joining is None:
        return None
    if slot.status != ACTIVE or slot.joining not in workers or slot.joining in slot.members:
        return f"who joins is no other worker, or the slot is not active: {slot}"
    return None


def _parting_fault(slot: Slot) -> str | None:
    if not slot.parting:
        return None
    among = len(set(slot.parting)) == len(slot.parting) and all(place in slot.backups for place in slot.parting)
    if slot.status != ACTIVE or slot.joining is not None or not among:
        return f"who parts is no backup, or the slot is not active, or somebody joins: {slot}"
    return None


# -- what came from elsewhere -----------------------------------------------------------------------------------------


@lru_cache(maxsize=16)  # each value is looked at several times: as it is proposed, accepted, chosen, and followed
def _parsed(data: bytes) -> Table:
    try:
        plain = msgpack.unpackb(data, max_array_len=MAX_SLOTS, max_map_len=0, max_ext_len=0)
    except Exception as error:  # msgpack raises ValueError's children, but also others
        raise ValueError(f"a table that is not msgpack: {error}") from None
    table = _table(plain)
    if table._encoded() != data:
        raise ValueError("a table that is not in its canonical form")
    return table


def _table(plain: Any) -> Table:
    items = _list(plain, 9)
    if items[0] != FORMAT:
        raise ValueError(f"a table of format {items[0]!r:.40}, not {FORMAT}")
    members = tuple(_seat(each) for each in _list(items[3], None, MAX_MEMBERS))
    left = tuple(_id(each) for each in _list(items[5], None, MAX_LEFT))
    founders = tuple(_id(each) for each in _list(items[6], None, MAX_MEMBERS))
    epoch, copies = _count(items[1], 1, MAX_TERM), _count(items[7], 1, MAX_COPIES)
    if type(items[8]) is not bool:
        raise ValueError(f"a table that is durable: {items[8]!r:.40}")
    table = Table(epoch, _id(items[2]), members, _slots(items[4]), left, founders, copies, items[8])
    fault = _fault(table)
    if fault is not None:
        raise ValueError(f"a table in which {fault}")
    return table


def _seat(plain: Any) -> Seat:
    name, node, endpoint, http, role, zone, voter, up, home, boot = _list(plain, 10)
    if role not in (WORKER, WITNESS) or type(voter) is not bool or type(up) is not bool:
        raise ValueError(f"a table in which a seat is {role!r:.40}, has the vote {voter!r:.40}, is up {up!r:.40}")
    texts = _text(name), _text(endpoint), _text(http), _text(zone)
    return Seat(
        texts[0], _id(node), texts[1], texts[2], role, texts[3], voter, up, _id(home), _count(boot, 1, MAX_TERM)
    )


def _slots(plain: Any) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    known: dict[bytes, Slot] = {}
    for each in _list(plain, None, MAX_SLOTS):
        count, *fields = _list(each, 9)
        if len(slots) + _count(count, 1, MAX_SLOTS) > MAX_SLOTS:
            raise ValueError(f"a table of more than {MAX_SLOTS} slots")
        name = msgpack.packb(fields)
        if name not in known:
            known[name] = _slot(fields)
        slots.extend([known[name]] * count)
    return tuple(slots)


def _slot(fields: Sequence[Any]) -> Slot:
    term, owner, status, backups, donor, since, joining, parting = fields
    places, goers = (tuple(_place(each) for each in _list(given, None, MAX_MEMBERS)) for given in (backups, parting))
    giver, comer = (None if place is None else _place(place) for place in (donor, joining))
    reign = _count(since, 1, MAX_TERM)
    return Slot(
        _count(term, 1, MAX_TERM), _place(owner), places, _count(status, PENDING, LOST), giver, reign, comer, goers
    )


def _place(value: Any) -> int:
    return _count(value, 0, MAX_MEMBERS)


def _list(value: Any, length: int | None, most: int = 0) -> list[Any]:
    if type(value) is not list or (len(value) > most if length is None else len(value) != length):
        raise ValueError(f"a table with {value!r:.40} in place of a list of {length or f'up to {most}'}")
    return value


def _count(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"a table with {value!r:.40} in place of a number from {low} to {high}")
    return value


def _id(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 16:
        raise ValueError(f"a table with {value!r:.40} in place of an id of 16 bytes")
    return value


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise ValueError(f"a table with {value!r:.40} in place of a short text")
    return value
