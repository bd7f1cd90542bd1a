"""The door: how nodes that know only addresses meet, and who yields when they do not fit.

An address is approached with Hello, again and again with growing pauses, until the node behind it is known:

    open --Welcome, or gossip knows who lives there--> met --that node is dead or left--> open
    open --Refused by one that stands lower--> open, slowly        open --our own Hello came back--> met (it is us)
    open --Refused by one that stands higher, for long enough--> Stop

Two nodes fit when cluster, slots, seed and graph are equal, they do not belong to two foundings, and no other living
node has the newcomer's name. Of two that do not fit the lower yields, in the order (formed, met, earlier started, id).
`met` never falls: what each knows of the other's standing is at most outdated downwards, so never do both yield. A node
that is formed never yields: it holds state, and a message must not end it. The lower waits a little before it yields,
unless the other is formed: of nodes that start together, the odd one out shall go, not the one that came first to it;
and the holder of a name may be dead without anybody knowing it yet (a process that was moved to another address).

Who is approached by one that does not fit and stands higher, or hears by gossip of a namesake, approaches it a bounded
number of times, so that the matter is settled even if it is nobody's seed.

Invariants: nothing after Stop; what strangers make this node remember and send is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from mesh.core.events import Approach, Effect, Event, Log, Millis, Received, Rejected, Stop, Woke
from mesh.core.events.planes import MemberChanged
from mesh.core.membership.facts import Admitted
from mesh.core.membership.merge import MAX_MEMBERS, implausible
from mesh.core.messages import NodeId
from mesh.core.messages.members import SUSPECT, Hello, Introduction, Member, Refused, Welcome

FIRST_PAUSE = 200  # ms between the first two Hellos to one address
LONGEST_PAUSE = 5_000  # ms; an address that is down costs one message in so long
DISPUTE_PAUSE = 500  # ms between Hellos while it is open who yields
PATIENCE = 2_000  # ms that one that stands higher must keep refusing
NAME_PATIENCE = 6_000  # ms; longer than it takes to see that the holder of the name is dead
RIVAL_TRIES = 40  # Hellos to an address that is no seed
MAX_RIVALS = 16  # such addresses at a time
MAX_DISPUTES = 256  # refusing nodes that are remembered
MAX_HELLOS = 200  # answered a second; each answer may open a connection to the address that the Hello names
MAX_HELLOS_EACH = 10  # answered a second, to one sender
SECOND = 1_000
SHOWN = 200  # characters of a value that are shown

FOUNDING = "founding"
FIELDS = ("cluster", "slots", "seed", "graph", FOUNDING, "name")


def standing(introduction: Introduction) -> tuple[bool, int, int, NodeId]:
    """The order of yielding: the larger stays."""
    return introduction.formed, introduction.met, -introduction.started, introduction.member.node


def mismatch(theirs: Introduction, mine: Introduction) -> tuple[str, str, str] | None:
    """The first field in which two nodes do not fit, and both values."""
    for field in FIELDS[:-2]:
        their, my = str(getattr(theirs, field)), str(getattr(mine, field))
        if their != my:
            return field, their[:SHOWN], my[:SHOWN]
    if theirs.founding and mine.founding and theirs.founding != mine.founding:
        return FOUNDING, theirs.founding.hex()[:SHOWN], mine.founding.hex()[:SHOWN]
    return None


@dataclass(slots=True)
class Address:
    endpoint: str
    next_try: Millis
    pause: Millis = FIRST_PAUSE
    tries_left: int | None = None  # None: a seed, tried for ever
    open: bool = True
    node: NodeId = b""  # who was met there


@dataclass(slots=True)
class Dispute:
    since: Millis
    last: Millis


class Admission:
    """Meets others at their addresses; emits Approach, Admitted, Stop, Rejected, Log. Feed it every MemberChanged."""

    def __init__(self, introduction: Introduction, seeds: tuple[str, ...], random: Random) -> None:
        self.formed = introduction.formed  # set by the control plane once there is a partition
        self.founding = introduction.founding
        self._introduction = introduction
        self._me = introduction.member.node
        self._random = random
        self._living: dict[NodeId, Member] = {self._me: introduction.member}
        self._met = max(introduction.met, 1)
        others = [seed for seed in dict.fromkeys(seeds) if seed != introduction.member.endpoint]
        self._addresses = {seed: Address(seed, 0) for seed in others}
        self._disputes: dict[NodeId, Dispute] = {}  # with those that stand higher
        self._logged: dict[tuple[str, NodeId], None] = {}
        self._second = 0
        self._hellos: dict[NodeId, int] = {}  # in this second
        self._stopped = False
        self._effects: list[Effect] = []

    @property
    def introduction(self) -> Introduction:
        """What this node says of itself now."""
        mine = self._introduction
        return replace(mine, formed=self.formed, met=self._met, member=self._living[self._me], founding=self.founding)

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received (Hello, Welcome, Refused), MemberChanged, Woke."""
        if self._stopped:
            return []
        match event:
            case Received(sender, (Hello() | Welcome() | Refused()) as message):
                self._received(sender, message, now)
            case MemberChanged(member):
                self._changed(member, now)
            case Woke():
                self._woke(now)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> Millis | None:
        """When to wake next."""
        if self._stopped:
            return None
        return min((each.next_try for each in self._addresses.values() if each.open), default=None)

    # -- approaching --------------------------------------------------------------------------------------------------

    def _woke(self, now: Millis) -> None:
        for address in [each for each in self._addresses.values() if each.open and each.next_try <= now]:
            if address.tries_left == 0:
                del self._addresses[address.endpoint]
                continue
            if address.tries_left is not None:
                address.tries_left -= 1
            self._effects.append(Approach(address.endpoint, Hello(self.introduction, address.endpoint)))
            self._pause(address, address.pause, now)
            address.pause = min(address.pause * 2, LONGEST_PAUSE)

    def _pause(self, address: Address, about: Millis, now: Millis) -> None:
        """Randomly up to a quarter shorter or longer, so that nodes started together do not stay in step."""
        address.next_try = now + about - about // 4 + self._random.randrange(about // 2)

    def _open_rival(self, endpoint: str, now: Millis) -> None:
        address = self._addresses.get(endpoint)
        if address is not None:
            if not address.open:
                address.open, address.next_try = True, now + 1
        elif sum(each.tries_left is not None for each in self._addresses.values()) < MAX_RIVALS:
            self._addresses[endpoint] = Address(endpoint, now + 1, tries_left=RIVAL_TRIES)

    def _settle(self, endpoint: str, node: NodeId) -> None:
        address = self._addresses.get(endpoint)
        if address is not None and address.tries_left is not None:
            del self._addresses[endpoint]
        elif address is not None:
            address.open, address.node = False, node

    def _changed(self, member: Member, now: Millis) -> None:
        """Membership's news: whom to name in a Welcome, which addresses are answered for, who took this name."""
        if member.status <= SUSPECT or member.node == self._me:
            self._living[member.node] = member
            self._met = max(self._met, len(self._living))
            if member.node != self._me and member.name == self._introduction.member.name:
                self._open_rival(member.endpoint, now)
            else:
                self._settle(member.endpoint, member.node)
        elif self._living.pop(member.node, None) is not None:
            self._reopen(member, now)

    def _reopen(self, gone: Member, now: Millis) -> None:
        """Where it was met, its successor may be met, or itself after a split that outlasts memory."""
        taken = {member.endpoint for member in self._living.values()}
        for address in self._addresses.values():
            if not address.open and address.node == gone.node and address.endpoint not in taken:
                address.open, address.pause = True, FIRST_PAUSE
                self._pause(address, SECOND, now)

    # -- answering ----------------------------------------------------------------------------------------------------

    def _received(self, sender: NodeId, message: Hello | Welcome | Refused, now: Millis) -> None:
        if sender == self._me:
            if isinstance(message, Hello):
                self._settle(message.at, sender)  # one of the addresses is our own
            return
        member = message.introduction.member
        why = implausible(member) if member.node == sender else f"introduces {member.node.hex()}"
        if why is not None:
            self._effects.append(Rejected("implausible-introduction", f"{sender.hex()}: {why}"))
        elif isinstance(message, Hello):
            self._answer(message, now)
        elif message.at not in self._addresses or (isinstance(message, Refused) and message.field not in FIELDS):
            self._effects.append(Rejected("unasked-answer", f"{type(message).__name__} of {member.name!r}"))
        elif isinstance(message, Welcome):
            self._welcomed(message, now)
        else:
            self._refused(message, now)

    def _answer(self, hello: Hello, now: Millis) -> None:
        member = hello.introduction.member
        if self._flooded(member.node, now):
            self._effects.append(Rejected("hello-flood", f"from {member.name!r} at {member.endpoint}"))
            return
        unfit = self._unfit(hello.introduction)
        if unfit is None:
            self._effects.append(Admitted(member, (), member.endpoint))
            known = tuple(self._living.values())[:MAX_MEMBERS]
            self._effects.append(Approach(member.endpoint, Welcome(self.introduction, known, hello.at)))
            return
        refused = Refused(*unfit, self.introduction, hello.at)
        self._effects.append(Approach(member.endpoint, refused))
        self._effects.append(Rejected("unfit-hello", f"{unfit[0]} of {member.name!r} at {member.endpoint}"))
        self._log_once("admission.refused", member, unfit[0], yours=unfit[1], mine=unfit[2])
        if standing(hello.introduction) > standing(self.introduction) and not self.formed:
            self._open_rival(member.endpoint, now)

    def _unfit(self, theirs: Introduction) -> tuple[str, str, str] | None:
        differs = mismatch(theirs, self.introduction)
        if differs is not None:
            return differs
        newcomer = theirs.member
        for holder in self._living.values():
            if holder.name == newcomer.name and holder.node != newcomer.node and holder.endpoint != newcomer.endpoint:
                return "name", f"{newcomer.name} at {newcomer.endpoint}", f"{holder.name} at {holder.endpoint}"
        return None

    def _flooded(self, sender: NodeId, now: Millis) -> bool:
        if now - self._second >= SECOND:
            self._second = now
            self._hellos = {}
        count = self._hellos.get(sender, 0)
        if count >= MAX_HELLOS_EACH or sum(self._hellos.values()) >= MAX_HELLOS:
            return True
        self._hellos[sender] = count + 1
        return False

    # -- being answered -----------------------------------------------------------------------------------------------

    def _welcomed(self, welcome: Welcome, now: Millis) -> None:
        theirs = welcome.introduction
        unfit = self._unfit(theirs)
        if unfit is not None:
            self._effects.append(Rejected("unfit-welcome", f"{unfit[0]} of {theirs.member.name!r}"))
            return
        self._disputes.pop(theirs.member.node, None)
        self._settle(welcome.at, theirs.member.node)
        self._effects.append(Admitted(theirs.member, welcome.members, welcome.at))

    def _refused(self, refused: Refused, now: Millis) -> None:
        theirs, mine = refused.introduction, self.introduction
        node = theirs.member.node
        address = self._addresses[refused.at]
        if self.formed or standing(mine) > standing(theirs):
            self._disputes.pop(node, None)
            address.pause = LONGEST_PAUSE
            self._pause(address, LONGEST_PAUSE, now)
            self._log_once("admission.ignored", theirs.member, refused.field, yours=refused.mine, mine=refused.yours)
            return
        if self._dispute(node, now) >= self._patience(refused):
            self._stopped = True
            self._effects.append(Stop(self._sentence(refused), 2))
        else:
            self._pause(address, DISPUTE_PAUSE, now)

    def _dispute(self, node: NodeId, now: Millis) -> Millis:
        """For how long a node has kept refusing us."""
        dispute = self._disputes.get(node)
        if dispute is None or now - dispute.last > 2 * LONGEST_PAUSE:
            if len(self._disputes) >= MAX_DISPUTES:
                self._disputes.clear()
            dispute = self._disputes[node] = Dispute(now, now)
        dispute.last = now
        return now - dispute.since

    def _patience(self, refused: Refused) -> Millis:
        theirs = refused.introduction
        if refused.field == "name" and theirs.member.name != self._introduction.member.name:
            return NAME_PATIENCE  # it only knows the holder
        return 0 if theirs.formed else PATIENCE

    def _sentence(self, refused: Refused) -> str:
        me, they = self._introduction.member, refused.introduction.member
        told = f"{they.name!r} at {they.endpoint}"
        if refused.field == "name":
            return (
                f"two nodes have one name: {refused.yours[:SHOWN]!r} is this one, and {refused.mine[:SHOWN]!r} stays, "
                f"says {told}: give this node another name, or stop the other one first"
            )
        option = {"graph": "the same application"}.get(refused.field, f"the same {refused.field}")
        return (
            f"{refused.field} is {refused.yours[:SHOWN]!r} at this node, {me.name!r} at {me.endpoint}, but "
            f"{refused.mine[:SHOWN]!r} at {told}, which stays: give this node {option}, or other addresses to join"
        )

    def _log_once(self, event: str, member: Member, field: str, yours: str, mine: str) -> None:
        """Once a node and event: it keeps trying."""
        if (event, member.node) in self._logged:
            return
        if len(self._logged) >= MAX_DISPUTES:
            self._logged.clear()
        self._logged[event, member.node] = None
        fields = {"member": member.name, "endpoint": member.endpoint, "field": field}
        level = "error" if field == FOUNDING else "warning"  # two clusters of one name: somebody's data is elsewhere
        self._effects.append(Log(event, fields | {"theirs": yours[:SHOWN], "ours": mine[:SHOWN]}, level))
