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
from mesh.core.claims import Claimed, Claims
from mesh.core.contact import CaughtUp, Contact
from mesh.core.electorate import founding_electorate
from mesh.core.events import (
    Approach,
    AskToLeave,
    Consumed,
    Departed,
    Effect,
    EpochChosen,
    Event,
    HandedOver,
    MemberChanged,
    Millis,
    PeerGone,
    Persisted,
    Post,
    Propose,
    Received,
    Rejected,
    Send,
    SlotsInstalled,
    StartLeaving,
    Stop,
    Transmit,
    Withdraw,
    Woke,
)
from mesh.core.leaving import Leaving
from mesh.core.link import Links
from mesh.core.membership.admission import Admission
from mesh.core.membership.facts import Admitted, Heard, Lagged, Leave
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import Tuning
from mesh.core.messages import (
    ALIVE,
    Accept,
    Accepted,
    Ack,
    Chosen,
    EpochHeld,
    EpochKnown,
    Frame,
    Gossip,
    Hello,
    Installed,
    Introduction,
    LeaveAsked,
    LinkAck,
    LinkProbe,
    Member,
    Message,
    Nack,
    NodeId,
    Outbid,
    Ping,
    PingReq,
    Prepare,
    Promise,
    PushPull,
    Refused,
    Welcome,
)
from mesh.core.news import table_agreed, told
from mesh.core.planner import Declared, Planner
from mesh.core.succession import value_fault
from mesh.core.table import Table, voters_of
from mesh.core.transitions import Facts

LINK_WINDOW = 4 << 20  # bytes a (peer, channel); as much as a router lets be on its way

_ADMISSION = (Hello, Welcome, Refused)
_MEMBERSHIP = (Ping, Ack, PingReq, Nack, PushPull, Gossip)
_AGREEMENT = (Prepare, Promise, Accept, Accepted, Outbid, Chosen, EpochKnown)
_LINKS = (Frame, LinkAck, LinkProbe)


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
        introduction = Introduction(
            identity.cluster, identity.slots, identity.seed, identity.graph, identity.started, False, 1, me
        )
        self.admission = Admission(introduction, identity.seeds, random)
        self.membership = Membership(me, tuning, random)
        workers = [each.name for each in identity.declared if each.role == "worker"]
        self.agreement = Agreement(
            me.node, me.name, founding_electorate(workers, identity.expect), voters_of, value_fault, random, stored
        )
        self.planner = Planner(me.node, identity.declared, identity.expect, identity.slots, identity.copies, random)
        self.contact = Contact(me.node)
        self.claims = Claims(me.node)
        self.leaving = Leaving(me.node)
        self.links = Links(link_window)
        self.table: Table | None = None
        self._seated = False  # some table had a seat for this node
        self._departed = False

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        outward: list[Effect] = []
        self._pass_on(deque(self._dispatch(event, now)), outward, now)
        if not isinstance(event, Transmit | Consumed):
            self._pass_on(deque(self._plan(now)), outward, now)
            outward += self._depart()
        return outward

    def next_deadline(self) -> Millis | None:
        machines = (
            self.admission, self.membership, self.agreement, self.links, self.planner,
            self.contact, self.claims, self.leaving,
        )  # fmt: skip
        return min((due for each in machines if (due := each.next_deadline()) is not None), default=None)

    # -- events to machines

    def _dispatch(self, event: Event, now: Millis) -> list[Effect]:
        match event:
            case Received():
                return self._received(event, now)
            case Transmit() | Consumed() | PeerGone():
                return self.links.handle(event, now)
            case Persisted():
                return self.agreement.handle(event, now)
            case Lagged() | Leave() | HandedOver():
                return self.membership.handle(event, now)
            case SlotsInstalled():
                return self.claims.handle(event, now)
            case StartLeaving():
                return self.leaving.handle(AskToLeave(self.identity.me.node), now)
            case AskToLeave():
                return self.leaving.handle(event, now)
            case Woke():
                machines = (
                    self.admission, self.membership, self.agreement, self.links,
                    self.contact, self.claims, self.leaving,
                )  # fmt: skip
                return [effect for each in machines for effect in each.handle(event, now)]
        raise AssertionError(f"not an event of the control plane: {event}")

    def _received(self, event: Received, now: Millis) -> list[Effect]:
        message = event.message
        if isinstance(message, _ADMISSION):
            return self.admission.handle(event, now)
        if event.sender not in self.membership.members:
            return [Rejected("stranger", f"{type(message).__name__} from a node that never said hello")]
        if isinstance(message, _MEMBERSHIP):
            return self.membership.handle(event, now)
        heard = self.membership.handle(Heard(event.sender), now)
        if isinstance(message, _LINKS):
            return heard + self.links.handle(event, now)
        if isinstance(message, _AGREEMENT):
            heard += self.agreement.handle(event, now)
            return heard + (self.contact.handle(event, now) if isinstance(message, EpochKnown) else [])
        if isinstance(message, EpochHeld):
            return heard + self.contact.handle(event, now)
        if isinstance(message, Installed):
            return heard + self.claims.handle(event, now)
        if isinstance(message, LeaveAsked):
            return heard + self.leaving.handle(event, now)
        return [Rejected("cargo", f"{type(message).__name__} travels on links only")]

    def _plan(self, now: Millis) -> list[Effect]:
        if self.table is None:
            return self.planner.found(self.membership.alive(), now)
        facts = Facts(self.membership.members, self.claims.heard, self.contact.caught_up)
        return self.planner.follow(self.table, facts, now)

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
                    self.planner.stir(now)
                    outward.append(effect)
                case Propose() | Withdraw():
                    effects.extend(self.agreement.handle(effect, now))
                case EpochChosen():
                    effects.extend(self._epoch_chosen(effect, now))
                case Claimed() | CaughtUp():
                    self.planner.stir(now)
                case StartLeaving():
                    effects.extend(self.membership.handle(effect, now))
                    outward.append(effect)
                case _:
                    outward.append(effect)

    def _post(self, to: NodeId, message: Message, payload: bytes) -> list[Effect]:
        member = self.membership.members.get(to)
        return [] if member is None else [Post(member.endpoint, to, message, payload)]

    def _epoch_chosen(self, chosen: EpochChosen, now: Millis) -> list[Effect]:
        before, table = self.table, Table.from_bytes(chosen.value)
        self.table = table
        self.admission.formed = True
        self.planner.agreed(now)
        self.claims.agreed(table)
        asked = self.contact.agreed(table.epoch, table.electorate(), now)
        return [table_agreed(table), *told(before, table, self.identity.me.node), *asked]

    def _depart(self) -> list[Effect]:
        """A leaving node may go when a decisive set knows the table without it; who lost its seat otherwise must go."""
        me = self.membership.me
        seated = self.table is not None and self.table.seat_of(me.node) is not None
        self._seated = self._seated or seated
        if seated or self._departed or me.status != ALIVE:
            return []
        if me.leaving and (self.table is None or self.contact.is_held()):
            self._departed = True
            return [Departed(0 if self.table is None else self.table.epoch)]
        if self._seated and not me.leaving:
            self._departed = True
            return [Stop(f"another process named {me.name!r} has taken this one's place in the cluster", 2)]
        return []
