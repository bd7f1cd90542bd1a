"""The control plane: composes admission, membership, agreement, planner, what these have to know, and links.

It never runs the application's code and never waits, so that probing goes on while the data plane is busy. Messages go
to the machine whose grammar they are; effects that are another machine's events are passed on; everything else is for
the driver. Only admission talks to strangers: whatever else an unknown node sends is rejected.

Effects   Post, Persist, Log, Rejected, Stop, Departed for the driver;
          Delivered, TableAgreed, MemberChanged, Fenced, StartLeaving for the data plane
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from mesh.core.agreement import Agreement
from mesh.core.boots import Boots
from mesh.core.claims import Claimed, Claims
from mesh.core.contact import CaughtUp, Contact
from mesh.core.electorate import founding_electorate
from mesh.core.events import (
    Approach,
    Departed,
    Effect,
    Event,
    Log,
    Millis,
    Persisted,
    Post,
    Received,
    Rejected,
    Send,
    Stop,
    Woke,
)
from mesh.core.events.operator import AcceptLoss, AskToLeave, Recover
from mesh.core.events.planes import (
    Consumed,
    EpochChosen,
    HandedOver,
    MayVote,
    MemberChanged,
    PeerGone,
    Propose,
    SlotsInstalled,
    SlotsRooted,
    StartLeaving,
    Transmit,
    Withdraw,
)
from mesh.core.leaving import Leaving
from mesh.core.link import Links
from mesh.core.losses import GivenUp, Losses
from mesh.core.membership.admission import Admission
from mesh.core.membership.facts import Admitted, Heard, Lagged, Leave, Missed
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import Message, NodeId
from mesh.core.messages.epochs import (
    Accept,
    Accepted,
    Booted,
    BootKnown,
    Chosen,
    EpochHeld,
    EpochKnown,
    Installed,
    LeaveAsked,
    LossAccepted,
    Outbid,
    Prepare,
    Promise,
)
from mesh.core.messages.links import Frame, LinkAck, LinkProbe
from mesh.core.messages.members import (
    ALIVE,
    DEAD,
    READY,
    STAYING,
    SUSPECT,
    Ack,
    Gossip,
    Hello,
    Introduction,
    Member,
    Nack,
    Ping,
    PingReq,
    PushPull,
    Refused,
    Welcome,
)
from mesh.core.news import table_agreed, told
from mesh.core.planner import Declared, Planner, gathering
from mesh.core.recovery import Recovery, recovered
from mesh.core.seating import Facts
from mesh.core.succession import value_fault
from mesh.core.table import Seat, Table
from mesh.core.table_bytes import table_from_bytes, table_to_bytes, voters_of

MISSED_AFTER = 2_000  # ms from the first table until members of it that nobody has told of are looked for
LINK_WINDOW = 4 << 20  # bytes a (peer, channel); as much as a router lets be on its way

_ADMISSION = (Hello, Welcome, Refused)
_MEMBERSHIP = (Ping, Ack, PingReq, Nack, PushPull, Gossip)
_AGREEMENT = (Prepare, Promise, Accept, Accepted, Outbid, Chosen, EpochKnown)
_LINKS = (Frame, LinkAck, LinkProbe)
_OF_LINKS = (Transmit, Consumed)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is and what it must have in common with others."""

    me: Member
    cluster: str
    slots: int
    seed: int
    graph: str
    started: int  # unix milliseconds
    declared: tuple[Declared, ...]
    expect: int
    copies: int
    seeds: tuple[str, ...]  # addresses to approach
    durable: bool = False  # copies survive the process that has them


class ControlPlane:
    """One node's part in membership, agreement and transport."""

    def __init__(
        self,
        identity: Identity,
        tuning: Tuning,
        random: Random,
        stored: Mapping[str, bytes],
        link_window: int = LINK_WINDOW,
    ) -> None:
        self.identity = identity
        me = identity.me
        self._judged: tuple[tuple[int, bytes | None, bytes], str | None] = (0, None, b""), ""  # each is asked of often
        introduction = Introduction(
            identity.cluster, identity.slots, identity.seed, identity.graph, identity.started, False, 1, me
        )
        self.admission = Admission(introduction, identity.seeds, random)
        self.membership = Membership(me, tuning, random)
        self._members = self.membership.members
        workers = [each.name for each in identity.declared if each.role == "worker"]
        self.boots = Boots(me, stored)
        self.agreement = Agreement(
            me.node, me.name, founding_electorate(workers, identity.expect), voters_of, self._value_fault, random,
            stored, me.home, me.boot, self.boots.confirmed,
        )  # fmt: skip
        self.planner = Planner(
            me.node, identity.declared, identity.expect, identity.slots, identity.copies, random, identity.durable
        )
        self.contact = Contact(me.node, me.home, me.boot, self.boots.confirmed)
        self.claims = Claims(me.node)
        self.leaving = Leaving(me.node)
        self.losses = Losses(me.node)
        self.recovery = Recovery()
        self.links = Links(link_window)
        self.table: Table | None = None
        self._seated = False  # some table had a seat for this node
        self._departed = False
        self._miss_at: Millis | None = None
        self._due: Millis | None = None  # see `_next_but_links`
        self._due_is_known = False

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        if self._is_of_links(event, now):
            return self._of_links(event, now)
        outward: list[Effect] = []
        self._due_is_known = False
        self._pass_on(deque(self._dispatch(event, now)), outward, now)
        if self.losses.waits_for_holders and self.contact.is_held():
            self.losses.held(now)
        self._pass_on(deque(self._plan(now)), outward, now)
        outward += self._depart()
        return outward

    def _is_of_links(self, event: Event, now: Millis) -> bool:
        """Most of what comes, and nothing to plan for."""
        if isinstance(event, Received):
            return isinstance(event.message, _LINKS)
        if isinstance(event, Woke):
            due = self._next_but_links()
            return due is None or now < due
        return isinstance(event, _OF_LINKS)

    def _of_links(self, event: Event, now: Millis) -> list[Effect]:
        if isinstance(event, Received) and not self.membership.spoke(event.sender, now):
            return [_of_a_stranger(event)]
        outward: list[Effect] = []
        for effect in self.links.handle(event, now):
            if not isinstance(effect, Send):
                outward.append(effect)
            elif (member := self._members.get(effect.to)) is not None:
                outward.append(Post(member.endpoint, effect.to, effect.message, effect.payload))
        return outward

    def next_deadline(self) -> Millis | None:
        due, of_links = self._next_but_links(), self.links.next_deadline()
        return of_links if due is None or (of_links is not None and of_links < due) else due

    def _next_but_links(self) -> Millis | None:
        """Events of links do not change it."""
        if not self._due_is_known:
            self._due, self._due_is_known = self._earliest(), True
        return self._due

    def _earliest(self) -> Millis | None:
        machines = (
            self.admission, self.membership, self.agreement, self.contact, self.claims, self.leaving, self.boots,
            self.losses, self.recovery,
        )  # fmt: skip
        deadlines = [each.next_deadline() for each in machines]
        deadlines += [self._miss_at, self.planner.next_deadline() if self._may_plan() else None]
        return min((due for due in deadlines if due is not None), default=None)

    def _value_fault(self, epoch: int, before: bytes | None, value: bytes) -> str | None:
        question = epoch, before, value
        if question != self._judged[0]:
            self._judged = question, value_fault(*question, self.identity.slots)
        return self._judged[1]

    # -- events to machines

    def _dispatch(self, event: Event, now: Millis) -> list[Effect]:
        match event:
            case Received():
                return self._received(event, now)
            case PeerGone():
                return self.links.handle(event, now)
            case Persisted():
                return self.agreement.handle(event, now) + self.boots.handle(event, now)
            case Lagged() | Leave() | HandedOver():
                return self.membership.handle(event, now)
            case SlotsInstalled() | SlotsRooted():
                return self.claims.handle(event, now)
            case StartLeaving():
                return self.leaving.handle(AskToLeave(self.identity.me.node), now)
            case AskToLeave():
                return self.leaving.handle(event, now)
            case AcceptLoss():
                return self.losses.handle(event, now)
            case Recover():
                return self.recovery.handle(event, now, fenced=self.contact.fenced)
            case Woke():
                machines = (
                    self.admission, self.membership, self.agreement, self.links,
                    self.contact, self.claims, self.leaving, self.boots, self.losses,
                )  # fmt: skip
                effects = [effect for each in machines for effect in each.handle(event, now)]
                return effects + self._look_for_missed(now) + self._recover(now)
        raise AssertionError(f"not an event of the control plane: {event}")

    def _received(self, event: Received, now: Millis) -> list[Effect]:
        message = event.message
        if isinstance(message, _ADMISSION):
            return self.admission.handle(event, now)
        if not self.membership.knows(event.sender, now):
            return [_of_a_stranger(event)]
        if isinstance(message, _MEMBERSHIP):
            return self.membership.handle(event, now)
        heard = self.membership.handle(Heard(event.sender), now)
        if isinstance(message, _AGREEMENT):
            heard += self.agreement.handle(event, now)
            return heard + (self.contact.handle(event, now) if isinstance(message, EpochKnown) else [])
        if isinstance(message, EpochHeld):
            return heard + self.contact.handle(event, now)
        if isinstance(message, Installed):
            return heard + self.claims.handle(event, now)
        if isinstance(message, LeaveAsked):
            return heard + self.leaving.handle(event, now)
        if isinstance(message, LossAccepted):
            return heard + self.losses.handle(event, now)
        if isinstance(message, Booted | BootKnown):
            return heard + self.boots.handle(event, now)
        return [Rejected("cargo", f"{type(message).__name__} travels on links only")]

    def _plan(self, now: Millis) -> list[Effect]:
        if self.table is None:
            return self.planner.found(self.membership.alive(), now)
        if not self._may_plan():
            return []
        facts = Facts(
            self.membership.members, self.claims.heard, self.contact.caught_up,
            accepted=self.losses.accepted, rooted=self.claims.rooted, given_up=self.losses.given_up,
        )  # fmt: skip
        return self.planner.follow(self.table, facts, now)

    def _may_plan(self) -> bool:
        return self.table is None or self.boots.confirmed

    def _look_for_missed(self, now: Millis) -> list[Effect]:
        """Members that this process knows from the table alone, as those who knew them are gone too: are they alive?"""
        if self._miss_at is None or now < self._miss_at or self.table is None:
            return []
        self._miss_at = None
        return self.membership.handle(Missed(tuple(_as_member(seat) for seat in self.table.members)), now)

    def _recover(self, now: Millis) -> list[Effect]:
        if self.table is None or not self.recovery.is_due(now):
            return []
        table = recovered(self.table, self.membership.members) if self.contact.fenced else None
        if table is None:
            why = "no worker is alive" if self.contact.fenced else "a decisive set of the voters is in touch again"
            return [Log("cluster.recovery_refused", {"detail": why}, "error")]
        return self.agreement.decree(table.epoch, table_to_bytes(table))

    # -- effects to machines, or outward

    def _pass_on(self, effects: deque[Effect], outward: list[Effect], now: Millis) -> None:
        while effects:
            effect = effects.popleft()
            match effect:
                case Send(to, message, payload):
                    outward += self._post(to, message, payload)
                case Approach(endpoint, message):
                    outward.append(Post(endpoint, b"", message, b""))
                case Admitted():
                    effects.extend(self.membership.handle(effect, now))
                case MemberChanged():
                    effects.extend(self.agreement.handle(effect, now))
                    effects.extend(self.admission.handle(effect, now))
                    effects.extend(self.contact.handle(effect, now))
                    effects.extend(self.leaving.handle(effect, now))
                    effects.extend(self.boots.handle(effect, now))
                    self.planner.stir(now)
                    outward.append(effect)
                case Propose() | Withdraw():
                    effects.extend(self.agreement.handle(effect, now))
                case EpochChosen():
                    effects.extend(self._epoch_chosen(effect, now))
                case MayVote():
                    effects.extend(self.agreement.handle(effect, now))
                    effects.extend(self.contact.handle(effect, now))
                    self.planner.agreed(now)
                case Claimed():
                    self.planner.claimed(now, all_heard=self.claims.all_heard())
                case CaughtUp() | GivenUp():
                    self.planner.stir(now)
                case StartLeaving():
                    effects.extend(self.membership.handle(effect, now))
                    outward.append(effect)
                case _:
                    outward.append(effect)

    def _post(self, to: NodeId, message: Message, payload: bytes) -> list[Effect]:
        member = self._members.get(to)
        return [] if member is None else [Post(member.endpoint, to, message, payload)]

    def _epoch_chosen(self, chosen: EpochChosen, now: Millis) -> list[Effect]:
        before, table = self.table, table_from_bytes(chosen.value)
        self.table = table
        self.admission.founding = table.cluster_id
        if table.seat_of(self.identity.me.node) is not None:
            self.admission.formed = True  # one that restarted with its directory holds no state until it has a seat
        self.claims.agreed(table)
        self.planner.agreed(now, gather=gathering(table) if self.claims.asking else 0)
        self.losses.agreed(table, now)
        if before is None:
            self._miss_at = now + MISSED_AFTER
        asked = self.contact.agreed(table.epoch, table.electorate(), now) + self.boots.agreed(table, now)
        return [table_agreed(table), *told(before, table, self.identity.me.node), *asked]

    def _depart(self) -> list[Effect]:
        """A leaving node may go when it has handed over all, and a decisive set knows the table without it; who never
        had a seat, too: it may have got one that it does not know of. Who lost its seat otherwise must go."""
        me = self.membership.me
        seated = self.table is not None and self.table.seat_of(me.node) is not None
        self._seated = self._seated or seated
        if seated or self._departed or me.status != ALIVE:
            return []
        if me.leaving and (self.table is None or (me.leaving == READY and self.contact.is_held())):
            self._departed = True
            return [Departed(0 if self.table is None else self.table.epoch)]
        if self._seated and not me.leaving:
            self._departed = True
            return [Stop(self._why_without_a_seat(), 2)]
        return []

    def _why_without_a_seat(self) -> str:
        name = self.membership.me.name
        if self.table is not None and self.table.seat_named(name) is None and self.table.generation:
            return f"the cluster was recovered without node {name!r}: start it again, as a new member"
        return f"another process named {name!r} has taken this one's place in the cluster"


def _of_a_stranger(event: Received) -> Rejected:
    return Rejected("stranger", f"{type(event.message).__name__} from a node that never said hello")


def _as_member(seat: Seat) -> Member:
    """What a table says of a member, which any word of its own overrules."""
    status = SUSPECT if seat.up else DEAD
    return Member(
        seat.node, seat.name, seat.endpoint, seat.http, seat.role, seat.zone, 0, status, STAYING, seat.home, seat.boot
    )
