"""Who has a seat in the next table, and who of them a vote: the present seats, and what a proposer believes of members.

States    a seat is up, down (it keeps what it has, and loses its vote), or its process has ended (it said goodbye, or a
          new process has its name, or its home). New members get seats: in the place of the process that they follow,
          if it had their name and role, else at the end. Who follows with the same home keeps the vote, as the memory
          of what it voted is the same; another home gets it when it has caught up.

For a process that has ended the seat waits, until it is mourned, for a later process of its home that is alive. In a
durable cluster that one takes the seat in place, at once.

Invariants: names and homes stay distinct; who is down has no vote; one worker that is up always stays; nobody is left
out whom a slot names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mesh.core.electorate import MAX_VOTERS, electorate
from mesh.core.messages import NodeId
from mesh.core.messages.members import ALIVE, DEAD, LEFT, READY, STAYING, SUSPECT, Member
from mesh.core.table import MAX_MEMBERS, WITNESS, WORKER, Seat, Table


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
    """Whose process said goodbye, or is dead and another lives under its name, or has a later one of its home alive.
    An earlier one of its home is not another: who was cut off may not have heard yet that it ended."""
    latest: dict[bytes, int] = {}
    homes: dict[str, dict[bytes, None]] = {}
    for each in members.values():
        if each.status <= SUSPECT:
            latest[each.home] = max(each.boot, latest.get(each.home, 0))
            homes.setdefault(each.name, {})[each.home] = None
    return [_has_ended(seat, members.get(seat.node), latest, homes.get(seat.name, {})) for seat in seats]


def _has_ended(seat: Seat, belief: Member | None, latest: Mapping[bytes, int], homes: Collection[bytes]) -> bool:
    """`homes`: of those that live under its name."""
    is_anothers = any(home != seat.home for home in homes)
    if latest.get(seat.home, 0) > seat.boot or (belief is not None and belief.status == LEFT):
        return True
    if belief is None:
        return not seat.up and is_anothers  # never met: others may know it well
    return belief.status == DEAD and is_anothers


def spokesman(seat: Seat, members: Mapping[NodeId, Member]) -> Member | None:
    """The latest process of a seat's home that is believed alive: it has the seat's vote."""
    living = [each for each in members.values() if each.home == seat.home and each.status <= SUSPECT]
    return max(living, key=lambda each: (each.boot, each.node), default=None)


class Seating:
    """Places are those of the present table; new seats come after them."""

    def __init__(self, table: Table, facts: Facts) -> None:
        self._table = table
        self._facts = facts
        self.ended = which_ended(table.members, facts.members)
        self.seats = list(table.members)
        self.returned = self._return() if table.durable else {}
        self.there = [self._is_there(place, seat) for place, seat in enumerate(self.seats)]
        self.waiting = any(self._waits(place, seat) for place, seat in enumerate(self.seats))
        self.seats = [self._up_or_down(place, seat) for place, seat in enumerate(self.seats)]

    def _is_there(self, place: int, seat: Seat) -> bool:
        """The process itself."""
        belief = self._facts.members.get(seat.node)
        return not self.ended[place] and (seat.up if belief is None else belief.status <= SUSPECT)

    def _up_or_down(self, place: int, seat: Seat) -> Seat:
        return replace(seat, up=self.there[place] or self._waits(place, seat))

    def _waits(self, place: int, seat: Seat) -> bool:
        """Until it is mourned, for a later process of its home, which then follows in its place and has its vote."""
        latest = spokesman(seat, self._facts.members)
        follows = latest is not None and latest.status == ALIVE and _follows(latest, seat)
        return self.ended[place] and seat.up and seat.node not in self._facts.mourned and follows

    def leaving(self, seat: Seat) -> int:
        belief = self._facts.members.get(seat.node)
        return STAYING if belief is None else belief.leaving

    def _return(self) -> dict[int, None]:
        """Places whose home has a later process: that one has them from now on."""
        returned: dict[int, None] = {}
        for member in [each for claimants in self.claimants().values() for each in claimants]:
            for place, seat in enumerate(self.seats):
                if self.ended[place] and seat.home == member.home and _follows(member, seat):
                    self.seats[place] = new_seat(member, voter=seat.voter)
                    self.ended[place] = False
                    returned[place] = None
        return returned

    def claimants(self) -> dict[str, list[Member]]:
        """By name, who has no seat; of one home only the latest."""
        living = [each for each in self._facts.members.values() if each.status <= SUSPECT]
        latest: dict[bytes, int] = {}
        for each in living:
            latest[each.home] = max(each.boot, latest.get(each.home, 0))
        claims: dict[str, list[Member]] = {}
        seated = {seat.node for seat in self.seats}
        agreed = {seat.home: seat.boot for seat in self.seats}  # of an old copy there is nothing to welcome
        for each in living:
            fresh = each.node not in seated and each.node not in self._table.left
            if fresh and each.status == ALIVE and each.boot == latest[each.home] > agreed.get(each.home, 0):
                claims.setdefault(each.name, []).append(each)
        return claims

    def _inherits(self, member: Member) -> bool:
        return any(_follows(member, seat) and seat.voter and seat.home == member.home for seat in self._table.members)

    def _has_room(self, member: Member, bound: Collection[int]) -> bool:
        """A witness in the place of a worker waits until the seat is gone: its slots must find another worker first."""
        namesake = next((place for place, seat in enumerate(self.seats) if seat.name == member.name), None)
        if any(seat.home == member.home and place != namesake for place, seat in enumerate(self.seats)):
            return False  # the home had another name; that seat goes first
        if namesake is None:
            return len(self.seats) < MAX_MEMBERS
        roles = (self.seats[namesake].role, member.role)
        return self.ended[namesake] and not self.waiting and namesake not in bound and roles != (WORKER, WITNESS)

    def welcome(self, claims: Mapping[str, Sequence[Member]], bound: Collection[int]) -> None:
        """New members whose name is free, or becomes free as its former process has ended: they start in its place.
        `bound` are places that some slot will name whatever is done in this step."""
        for _, claimants in sorted(claims.items()):
            member = claimants[0]
            if len(claimants) == 1 and member.leaving == STAYING and self._has_room(member, bound):
                self.seats.append(new_seat(member, voter=self._inherits(member)))
                self.ended.append(False)
                self.there.append(True)

    def eligible(self) -> list[int]:
        """Places of the workers that shall own the slots; if all leave, one has to stay: the first that has not said
        farewell, since nobody sends anything to one that has."""
        up = [place for place, seat in enumerate(self.seats) if self.there[place] and seat.role == WORKER]
        staying = [place for place in up if self.leaving(self.seats[place]) == STAYING]
        return staying or sorted(up, key=lambda place: self.leaving(self.seats[place]) == READY)[:1]

    def gone(self, named: Collection[int | None]) -> list[int]:
        """Places of those that have ended, or may go, and that no slot names; one worker that is up always stays."""
        workers = [place for place, seat in enumerate(self.seats) if self.there[place] and seat.role == WORKER]
        gone: list[int] = []
        for place, seat in enumerate(self.seats):
            may_go = self.there[place] and self.leaving(seat) == READY and workers != [place]
            if place not in named and place not in self.returned and (may_go or self.ended[place]):
                gone.append(place)
                workers = [each for each in workers if each != place]
        return gone

    def order(self, gone: Sequence[int]) -> list[int]:
        """The places that stay; who follows a process of its name and role stands where that one stood."""
        old = len(self._table.members)
        heirs = {
            place: new
            for place in gone
            for new in range(old, len(self.seats))
            if (self.seats[new].name, self.seats[new].role) == (self.seats[place].name, self.seats[place].role)
        }
        kept = [heirs.get(place, place) for place in range(old) if place in heirs or place not in gone]
        return kept + [place for place in range(old, len(self.seats)) if place not in kept]

    def with_votes(self, stay: Sequence[int]) -> tuple[Seat, ...]:
        """The seats at these places; the first that are up and know what there is to know have the votes."""
        seats = [self.seats[place] for place in stay]
        may = [seat.node for seat in seats if seat.up and (seat.voter or seat.node in self._facts.caught_up)]
        return tuple(replace(seat, voter=seat.node in may[:MAX_VOTERS]) for seat in seats)

    def can_decide(self, seats: Sequence[Seat]) -> bool:
        """Whether enough of those who would vote next are believed alive: else that table would be the last."""
        voters = [seat for seat in seats if seat.voter]
        alive = [seat.name for seat in voters if spokesman(seat, self._facts.members) is not None]
        nodes = [seat.node for seat in voters]
        return bool(voters) and electorate([(seat.name, seat.home) for seat in voters], nodes).enough(alive)


def _follows(member: Member, seat: Seat) -> bool:
    return (member.name, member.role) == (seat.name, seat.role) and member.node != seat.node


def new_seat(member: Member, *, voter: bool) -> Seat:
    return Seat(
        member.name, member.node, member.endpoint, member.http, member.role, member.zone, voter, True, member.home,
        member.boot,
    )  # fmt: skip
