"""What the next table should be: a pure function of the present one and of what its proposer believes.

Beliefs about members come first: who is dead is down (keeps its seat, loses its vote), who is back is up, who has ended
(it said goodbye, or a new process has its name, or its home) loses what it had, and new members get seats: in the place
of the process that they follow, if it had their name and role, else at the end. Who follows with the same home keeps
the vote, as the memory of what it voted is the same; another home gets it when it has caught up. Then the slots
that can move are levelled among the workers that are up and stay. What a member holds that is down stays pinned where
it is, and is not counted: it may return with it. So does what its holder cannot give away, though it goes on
working there; it goes back if it was to move. What is LOST starts again, empty, where an operator accepts that. Only
few slots are PENDING at once, so that most of a busy mesh works on while some of it moves; the next ones follow
as these arrive.

Where slots have copies, `copying` says what becomes of each; that a slot is given up, or pinned, then needs all of them
to have ended, or to be down. Who is down for a short time is expected back: until then nothing is levelled, and its
slots, which others own by then, are filled again elsewhere.

In a durable cluster a process takes its home's seat in place, at once, with all that is on its disk (`succession` says
what that is good for). Nothing is LOST there unless an operator gives it up: any home may return.

A merely suspected member changes nothing. A table that nothing speaks against yields None.

Invariants: the result follows by `succession`; the number of moves is the lower bound of `rebalance`; nothing becomes
LOST while a process that may have it lives; there is always a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mesh.core.copying import backups_for, in_turn, renumbered, settled, urgent
from mesh.core.electorate import MAX_VOTERS, electorate
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, LEFT, READY, STAYING, SUSPECT, Member
from mesh.core.rebalance import PINNED, rebalance
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import MAX_LEFT, MAX_MEMBERS, WITNESS, WORKER, Seat, Table

T = TypeVar("T")

LEAST_MOVING = 16  # slots that are shipped at once: each pauses for as long as all of them take
MOVING_PART = 64  # of many slots, which have the fewer keys, one part in so many


@dataclass(frozen=True, slots=True)
class Facts:
    """What a proposer believes."""

    members: Mapping[NodeId, Member]
    installed: Mapping[int, int]  # slot -> term at which all that it asks say that they hold what it wants
    caught_up: Collection[NodeId]  # have shown that they hold the newest epoch
    mourned: Collection[NodeId] = ()  # ended so long ago that what they had may be called lost; see `planner`
    accepted: Mapping[int, int] = field(default_factory=dict)  # slot -> term at which its loss is accepted
    absent: Collection[NodeId] = ()  # down, but for so short a time that they are expected back; see `planner`
    rooted: Mapping[int, NodeId] = field(default_factory=dict)  # slot -> who has it, and cannot give it away
    given_up: Mapping[int, int] = field(default_factory=dict)  # durable slots: at which term nobody shall wait for it


def which_ended(seats: Sequence[Seat], members: Mapping[NodeId, Member]) -> list[bool]:
    """Whose process said goodbye, or is dead and another lives under its name, or has a later one of its home alive."""
    latest: dict[bytes, int] = {}
    names: dict[str, None] = {}
    for each in members.values():
        if each.status <= SUSPECT:
            latest[each.home] = max(each.boot, latest.get(each.home, 0))
            names[each.name] = None
    return [_has_ended(seat, members.get(seat.node), latest, names) for seat in seats]


def _has_ended(seat: Seat, belief: Member | None, latest: Mapping[bytes, int], names: Collection[str]) -> bool:
    if latest.get(seat.home, 0) > seat.boot or (belief is not None and belief.status == LEFT):
        return True
    if belief is None:
        return not seat.up and seat.name in names  # never met: others may know it well
    return belief.status == DEAD and seat.name in names


def most_moving(slots: int) -> int:
    """How many of so many slots are shipped at once."""
    return max(LEAST_MOVING, slots // MOVING_PART)


def spokesman(seat: Seat, members: Mapping[NodeId, Member]) -> Member | None:
    """The latest process of a seat's home that is believed alive: it has the seat's vote."""
    living = [each for each in members.values() if each.home == seat.home and each.status <= SUSPECT]
    return max(living, key=lambda each: (each.boot, each.node), default=None)


def next_table(table: Table, facts: Facts) -> Table | None:
    """The table to propose, or None if this one is as it should be."""
    draft = _Draft(table, facts)
    draft.follow()
    draft.welcome()
    draft.move()
    return draft.result()


def _once(method: Callable[[_Draft, Slot], T]) -> Callable[[_Draft, Slot], T]:
    """Equal configurations are usually one object, and what is asked of one depends on nothing that a draft changes."""

    def asked(draft: _Draft, slot: Slot) -> T:
        known = draft.known.setdefault(method, {})
        found = known.get(id(slot))
        if found is None:
            found = known[id(slot)] = slot, method(draft, slot)
        answer: T = found[1]
        return answer

    return asked


class _Draft:
    """Places are those of the present table until `result`; new seats come after them."""

    def __init__(self, table: Table, facts: Facts) -> None:
        self.table = table
        self.facts = facts
        self.ended = which_ended(table.members, facts.members)
        self.seats = list(table.members)
        self.returned = self._return() if table.durable else {}
        self.there = [self._is_there(place, seat) for place, seat in enumerate(self.seats)]
        self.waiting = any(self._waits(place, seat) for place, seat in enumerate(self.seats))
        self.seats = [self._up_or_down(place, seat) for place, seat in enumerate(self.seats)]
        self.slots = list(table.slots)
        self.busy: dict[int, None] = {}  # slots that this step has changed
        self.losers: dict[int, None] = {}  # places whose slots become LOST in this step
        self.shares: dict[int, str] = {}  # by place, the names of those that shall own the slots
        self.known: dict[object, dict[int, tuple[Slot, Any]]] = {}  # see `_once`; slots are kept: no other has their id

    def _is_there(self, place: int, seat: Seat) -> bool:
        """The process itself."""
        belief = self.facts.members.get(seat.node)
        return not self.ended[place] and (seat.up if belief is None else belief.status <= SUSPECT)

    def _up_or_down(self, place: int, seat: Seat) -> Seat:
        return replace(seat, up=self.there[place] or self._waits(place, seat))

    def _waits(self, place: int, seat: Seat) -> bool:
        """Until it is mourned, for a later process of its home, which then follows in its place and has its vote."""
        latest = spokesman(seat, self.facts.members)
        follows = latest is not None and latest.status == ALIVE and _follows(latest, seat)
        return self.ended[place] and seat.up and seat.node not in self.facts.mourned and follows

    def _leaving(self, seat: Seat) -> int:
        belief = self.facts.members.get(seat.node)
        return STAYING if belief is None else belief.leaving

    # -- seats

    def _return(self) -> dict[int, None]:
        """Places whose home has a later process: that one has them from now on."""
        returned: dict[int, None] = {}
        for member in [each for claimants in self._claimants().values() for each in claimants]:
            for place, seat in enumerate(self.seats):
                if self.ended[place] and seat.home == member.home and _follows(member, seat):
                    self.seats[place] = new_seat(member, voter=seat.voter)
                    self.ended[place] = False
                    returned[place] = None
        return returned

    def welcome(self) -> None:
        """New members whose name is free, or becomes free as its former process has ended: they start in its place."""
        claims = self._claimants()
        bound = self._bound() if claims else set()
        for _, claimants in sorted(claims.items()):
            member = claimants[0]
            if len(claimants) == 1 and member.leaving == STAYING and self._has_room(member, bound):
                self.seats.append(new_seat(member, voter=self._inherits(member)))
                self.ended.append(False)
                self.there.append(True)

    def _claimants(self) -> dict[str, list[Member]]:
        """By name, who has no seat; of one home only the latest."""
        living = [each for each in self.facts.members.values() if each.status <= SUSPECT]
        latest: dict[bytes, int] = {}
        for each in living:
            latest[each.home] = max(each.boot, latest.get(each.home, 0))
        claims: dict[str, list[Member]] = {}
        seated = {seat.node for seat in self.seats}
        agreed = {seat.home: seat.boot for seat in self.seats}  # of an old copy there is nothing to welcome
        for each in living:
            fresh = each.node not in seated and each.node not in self.table.left
            if fresh and each.status == ALIVE and each.boot == latest[each.home] > agreed.get(each.home, 0):
                claims.setdefault(each.name, []).append(each)
        return claims

    def _inherits(self, member: Member) -> bool:
        return any(_follows(member, seat) and seat.voter and seat.home == member.home for seat in self.table.members)

    def _has_room(self, member: Member, bound: Collection[int]) -> bool:
        """A witness in the place of a worker waits until the seat is gone: its slots must find another worker first."""
        namesake = next((place for place, seat in enumerate(self.seats) if seat.name == member.name), None)
        if any(seat.home == member.home and place != namesake for place, seat in enumerate(self.seats)):
            return False  # the home had another name; that seat goes first
        if namesake is None:
            return len(self.seats) < MAX_MEMBERS
        roles = (self.seats[namesake].role, member.role)
        return self.ended[namesake] and not self.waiting and namesake not in bound and roles != (WORKER, WITNESS)

    def _bound(self) -> set[int]:
        """Places that some slot will name whatever is done in this step."""
        pinned = [slot for slot in self.slots if self._is_pinned(slot)]
        copies = {place for slot in self.slots if slot.backups and not self._is_lost(slot) for place in slot.members}
        owners = {slot.owner for slot in pinned if not self._waits_in_vain(slot)}
        return copies | owners | {slot.donor for slot in pinned if slot.donor is not None}

    def _eligible(self) -> list[int]:
        """Places of the workers that shall own the slots; if all leave, one has to stay: the first that has not said
        farewell, since nobody sends anything to one that has."""
        up = [place for place, seat in enumerate(self.seats) if self.there[place] and seat.role == WORKER]
        staying = [place for place in up if self._leaving(self.seats[place]) == STAYING]
        return staying or sorted(up, key=lambda place: self._leaving(self.seats[place]) == READY)[:1]

    # -- slots

    def follow(self) -> None:
        """Activate what has arrived, and whatever else cannot wait."""
        gone = self._going()
        known: dict[tuple[int, bool], Slot] = {}
        for number, slot in enumerate(self.table.slots):
            claimed = self.facts.installed.get(number) == slot.term
            new = known.get((id(slot), claimed))
            if new is None:
                new = known[id(slot), claimed] = self._followed(slot, claimed, gone)
            if self.facts.given_up and self._is_given_up(number, slot):
                new = self._lost(slot, slot.owner)
            if new is not slot:
                self.slots[number] = new
                self.busy[number] = None

    def _followed(self, slot: Slot, claimed: bool, gone: Collection[int]) -> Slot:
        if slot.status == PENDING and not slot.backups and not self.table.durable:
            return slot.activated() if claimed and self.there[slot.owner] else slot
        new = slot if self._is_lost(slot) else self._urgent(slot, claimed, gone)
        return slot if new == slot else new

    def _urgent(self, slot: Slot, claimed: bool, gone: Collection[int]) -> Slot:
        return urgent(slot, claimed, self.there, gone, self.returned, copies=self.table.copies)

    def _going(self) -> set[int]:
        """Places that no slot shall name any more after this step, so that they go: of those that have ended."""
        if self.waiting or not any(self.ended) or not self._eligible() or self.table.durable:
            return set()
        doomed = [slot for slot in self.slots if slot.status != LOST and all(self.ended[each] for each in slot.members)]
        held = {place for slot in doomed if not self._is_lost(slot) for place in slot.members}
        return {place for place, has_ended in enumerate(self.ended) if has_ended and place not in held}

    def move(self) -> None:
        """Give up what is lost, and level the rest."""
        eligible = {self.seats[place].name: place for place in self._eligible()}
        if self.waiting or not eligible:
            return  # who follows shall find its share where it is
        self.shares = {place: name for name, place in eligible.items()}
        target = self._target(eligible)
        if self.table.fills:
            self._level_copies(target, eligible)
        else:
            self._level(target, eligible)

    def _target(self, eligible: Mapping[str, int]) -> Sequence[str]:
        """Who shall own each slot."""
        holders = [self._holder(number, slot) for number, slot in enumerate(self.slots)]
        if not self.facts.absent:
            return rebalance(holders, list(eligible))
        target = rebalance([PINNED if name else name for name in holders], list(eligible))
        return [name if holder is None else holder for name, holder in zip(target, holders, strict=True)]

    def _level(self, target: Sequence[str], eligible: Mapping[str, int]) -> None:
        moving = sum(slot.status == PENDING and not self._is_pinned(slot) for slot in self.slots)
        most = most_moving(len(self.slots))
        for number, (slot, name) in enumerate(zip(self.slots, target, strict=True)):
            root = self._root(number, slot)
            if name == PINNED and root is None and self._waits_in_vain(slot):
                self.slots[number] = self._towards(slot, next(iter(eligible.values())), number)
            if (name == PINNED and root is None) or number in self.busy:
                continue
            to = eligible[name] if root is None else root
            starts = slot.status == ACTIVE and not self._is_lost(slot) and slot.owner != to
            if not starts or moving < most:
                self.slots[number] = self._towards(slot, to, number)
                moving += starts

    def _level_copies(self, target: Sequence[str], eligible: Mapping[str, int]) -> None:
        names = [seat.name for seat in self.seats]
        zones = {name: self.seats[place].zone for name, place in eligible.items()}
        backups = backups_for(self.slots, target, names, zones, self.table.copies)
        steps: dict[int, Slot] = {}
        known: dict[tuple[int, bool, str, tuple[str, ...]], Slot] = {}
        for number, (slot, name) in enumerate(zip(self.slots, target, strict=True)):
            if name == PINNED or number in self.busy:
                continue
            if slot.status == LOST or self._is_lost(slot):
                self.slots[number] = self._towards(slot, eligible[name], number)
            elif slot.status == ACTIVE and all(self.there[each] for each in slot.parting):
                claimed = self.facts.installed.get(number) == slot.term
                kind = id(slot), claimed, name, backups[number]  # busy slots stay: this one is the table's
                new = known.get(kind)
                if new is None:
                    others = [eligible[each] for each in backups[number]]
                    new = known[kind] = settled(slot, claimed, eligible[name], others, self.table.copies)
                if new is not slot:
                    steps[number] = new
        most = self.table.copies
        busy = (slot for slot in self.slots if slot.joining is not None or slot.hands_over or len(slot.members) > most)
        moving = (slot for slot in busy if not self._is_pinned(slot))
        for number, new in in_turn(moving, steps, most).items():
            self.slots[number] = new

    def _is_given_up(self, number: int, slot: Slot) -> bool:
        """A durable slot that an operator does not want to wait for."""
        asked = self.facts.given_up.get(number) == slot.term and slot.status != LOST and self.table.durable
        return asked and not any(self.there[each] for each in slot.members)

    @_once
    def _is_lost(self, slot: Slot) -> bool:
        """All processes that may have the state have ended, and what they sent has arrived or never will."""
        if self.table.durable:
            return False
        if slot.backups:
            return all(self.ended[each] and self.seats[each].node in self.facts.mourned for each in slot.members)
        has_it = slot.owner if slot.donor is None else slot.donor
        if slot.status == LOST or not self.ended[has_it] or self.seats[has_it].node not in self.facts.mourned:
            return False
        return slot.donor is None or self.ended[slot.owner] or self.there[slot.owner]

    def _waits_in_vain(self, slot: Slot) -> bool:
        """Its owner-to-be has ended; whoever it is given to instead waits for the donor."""
        return slot.status == PENDING and self.ended[slot.owner] and not slot.backups and not self.table.durable

    @_once
    def _is_pinned(self, slot: Slot) -> bool:
        """It can only wait, for a member that is down or for a claim."""
        if slot.backups or self.table.durable:
            away = slot.status != LOST and not any(self.there[each] for each in slot.members)
            return away and not self._is_lost(slot)
        has_it = slot.owner if slot.donor is None else slot.donor
        return slot.status != LOST and not self.there[has_it] and not self._is_lost(slot)

    def _root(self, number: int, slot: Slot) -> int | None:
        """The place of who has this slot, is there, and cannot give it away."""
        if not self.facts.rooted:
            return None
        has_it = slot.owner if slot.donor is None else slot.donor
        rooted = slot.status != LOST and self.facts.rooted.get(number) == self.seats[has_it].node
        return has_it if rooted and self.there[has_it] else None

    def _holder(self, number: int, slot: Slot) -> str | None:
        """Whose share a slot is counted to before it is levelled."""
        return self._sharer(slot) if self._root(number, slot) is None else PINNED

    @_once
    def _sharer(self, slot: Slot) -> str | None:
        """Where it is going, else where it comes from."""
        if self._is_pinned(slot):
            return PINNED
        places = [] if self._is_lost(slot) else [slot.owner, slot.donor, *slot.backups]
        return next((self.shares[place] for place in places if place in self.shares), None)

    def _towards(self, slot: Slot, owner: int, number: int) -> Slot:
        if self._is_lost(slot):
            return self._lost(slot, owner)
        if slot.status == LOST and self.facts.accepted.get(number) == slot.term:
            return Slot(slot.term + 1, owner, (), ACTIVE)
        if slot.owner == owner:
            return slot
        if slot.status == LOST:
            return Slot(slot.term + 1, owner, (), LOST)
        return Slot(slot.term + 1, owner, (), PENDING, slot.owner if slot.donor is None else slot.donor)

    def _lost(self, slot: Slot, owner: int) -> Slot:
        self.losers |= dict.fromkeys(slot.members if slot.backups else slot.members[-1:])
        return Slot(slot.term + 1, owner, (), LOST)

    # -- the table

    def result(self) -> Table | None:
        gone = self._gone()
        stay = self._order(gone)
        seats = self._with_votes([self.seats[place] for place in stay])
        if not self._can_decide(seats):
            return None
        left = tuple(self.seats[place].node for place in gone if self._left_properly(place))
        place_of = {old: new for new, old in enumerate(stay)}
        slots = _renumbered(self.slots, place_of) if gone else tuple(self.slots)
        table = replace(self.table, members=seats, slots=slots, left=(*self.table.left, *left)[-MAX_LEFT:])
        return None if table == self.table else replace(table, epoch=self.table.epoch + 1)

    def _can_decide(self, seats: Sequence[Seat]) -> bool:
        """Whether enough of those who would vote next are believed alive: else that table would be the last."""
        voters = [seat for seat in seats if seat.voter]
        alive = [seat.name for seat in voters if spokesman(seat, self.facts.members) is not None]
        nodes = [seat.node for seat in voters]
        return bool(voters) and electorate([(seat.name, seat.home) for seat in voters], nodes).enough(alive)

    def _gone(self) -> list[int]:
        """Places of those that have ended, or may go, and that no slot names; one worker that is up always stays."""
        distinct = {id(slot): slot for slot in self.slots}.values()
        named: set[int | None] = {place for slot in distinct for place in (*slot.members, slot.joining)}
        workers = [place for place, seat in enumerate(self.seats) if self.there[place] and seat.role == WORKER]
        gone: list[int] = []
        for place, seat in enumerate(self.seats):
            may_go = self.there[place] and self._leaving(seat) == READY and workers != [place]
            if place not in named and place not in self.returned and (may_go or self.ended[place]):
                gone.append(place)
                workers = [each for each in workers if each != place]
        return gone

    def _order(self, gone: Sequence[int]) -> list[int]:
        """The places that stay; who follows a process of its name and role stands where that one stood."""
        old = len(self.table.members)
        heirs = {
            place: new
            for place in gone
            for new in range(old, len(self.seats))
            if (self.seats[new].name, self.seats[new].role) == (self.seats[place].name, self.seats[place].role)
        }
        kept = [heirs.get(place, place) for place in range(old) if place in heirs or place not in gone]
        return kept + [place for place in range(old, len(self.seats)) if place not in kept]

    def _left_properly(self, place: int) -> bool:
        return self._leaving(self.seats[place]) == READY and place not in self.losers

    def _with_votes(self, seats: Sequence[Seat]) -> tuple[Seat, ...]:
        """The first that are up and know what there is to know."""
        may = [seat.node for seat in seats if seat.up and (seat.voter or seat.node in self.facts.caught_up)]
        return tuple(replace(seat, voter=seat.node in may[:MAX_VOTERS]) for seat in seats)


def _follows(member: Member, seat: Seat) -> bool:
    return (member.name, member.role) == (seat.name, seat.role) and member.node != seat.node


def _renumbered(slots: Sequence[Slot], place_of: Mapping[int, int]) -> tuple[Slot, ...]:
    known = {name: renumbered(slot, place_of) for name, slot in {id(slot): slot for slot in slots}.items()}
    return tuple(known[id(slot)] for slot in slots)


def new_seat(member: Member, *, voter: bool) -> Seat:
    return Seat(
        member.name, member.node, member.endpoint, member.http, member.role, member.zone, voter, True, member.home,
        member.boot,
    )  # fmt: skip
