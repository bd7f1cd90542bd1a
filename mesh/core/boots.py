"""May this process vote? One that restarted with its data directory keeps its vote, but a directory may be an old copy,
whose votes are not all that were given. So each start is counted in the directory, and a start is confirmed by voters
that keep, durably, the highest count they know of each home.

    fresh (a new home) ------------------------------------------------------------------> confirmed
    restarted -> asking --a decisive set of the voters, this one included, knows no later start--> confirmed
                 asking, confirmed --one knows a later start, or another process of this one--> Stop

Where there are other voters at least one of them must have confirmed: the longest-serving of two would otherwise decide
about itself. Who waits for its own confirmation does answer others, or a mesh that restarts as a whole would hang. The
confirmation is of the newest epoch's voters, again at each epoch, until an epoch names this process. It is told to
all voters, not just to enough, so that any of them knows an old copy later.

Of two processes of one home the later start wins: its voters tell the other one to stop. That start counts no more in
its directory, else an old copy that is started again and again would catch up with what is known, and pass for the
newest.

What this cannot know: a copy that was made during the latest start lacks what was voted after it; and a decisive set of
which all others were away while the later start was known takes an old copy for the newest.

Invariants: nothing is confirmed for others before it is durable here; what is known is bounded; the count in a
directory does not grow by starts that are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgpack

from mesh.core.durable import Durable
from mesh.core.events import Effect, Event, Log, Millis, Persisted, Received, Rejected, Send, Stop, Woke
from mesh.core.events.planes import MayVote, MemberChanged
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import Booted, BootKnown
from mesh.core.messages.members import SUSPECT, Member
from mesh.core.table import Table
from mesh.core.voices import Voice, Voices

ASK = 200  # ms between two questions
TELL = 2_000  # ms between two tellings, once it is confirmed, to voters that have not heard
MAX_KNOWN = 1_024  # homes; those of present members are never dropped
KEEPER = "boots"
IDENTITY = "identity"  # the record of a data directory
HOME_BYTES, _BOOT_BYTES = 16, 8


def next_boot(kept: bytes | None, new_home: bytes) -> tuple[bytes, int, bytes]:
    """(home, boot, what to keep, before anything is announced) of a start, from what the start before kept.

    Raises ValueError.
    """
    if kept is not None and len(kept) != HOME_BYTES + _BOOT_BYTES:
        raise ValueError(f"an identity of {len(kept)} bytes")
    home = new_home if kept is None else kept[:HOME_BYTES]
    boot = 1 if kept is None else int.from_bytes(kept[HOME_BYTES:]) + 1
    return home, boot, home + boot.to_bytes(_BOOT_BYTES)


class Boots:
    """`confirmed` says whether this process may vote."""

    def __init__(self, me: Member, stored: Mapping[str, bytes]) -> None:
        self._me = me
        self._voices = Voices(me.node, Voice(me.name, me.home, me.boot))
        self._members: dict[NodeId, Member] = {}  # the living others
        self._table: Table | None = None
        self._known: dict[bytes, tuple[int, NodeId]] = _unpacked(stored.get(KEEPER))
        self._durable = Durable()
        self._restarted = me.boot > 1 or any(name.startswith("agreement.") for name in stored)
        self._settled = not self._restarted  # for good
        self._confirmers: dict[bytes, None] = {}  # homes
        self._ask_at: Millis | None = None
        self._stopped = False
        self.confirmed = self._settled

    def next_deadline(self) -> Millis | None:
        return self._ask_at

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received (Booted, BootKnown), Persisted, MemberChanged, Woke."""
        match event:
            case Received(sender, Booted() as message):
                return self._asked(sender, message)
            case Received(sender, BootKnown() as message):
                return self._answered(sender, message)
            case Persisted(name):
                return self._durable.persisted(name)
            case MemberChanged(member):
                self._changed(member, now)
            case Woke() if self._ask_at is not None and now >= self._ask_at:
                return self._ask(now)
        return []

    def agreed(self, table: Table, now: Millis) -> list[Effect]:
        """There is a new epoch: its voters are to be asked."""
        self._table = table
        asked: list[Effect] = []
        if self._ask_at is not None:
            self._ask_at = min(self._ask_at, now + ASK)
        elif self._restarted:
            asked = self._ask(now)
        return asked + self._weigh()

    # -- this process's own start

    def _ask(self, now: Millis) -> list[Effect]:
        waiting = self._unheard()
        self._ask_at = None if not waiting else now + (TELL if self.confirmed else ASK)
        return [Send(node, Booted(self._me.home, self._me.boot)) for node in waiting]

    def _unheard(self) -> list[NodeId]:
        if self._table is None or self._stopped:
            return []
        speakers = self._voices.speakers(self._table.electorate())
        return [node for voter, node in speakers if voter.home not in self._confirmers and node != self._me.node]

    def _answered(self, sender: NodeId, message: BootKnown) -> list[Effect]:
        fits = message.boot == self._me.boot if message.ok else message.boot >= self._me.boot
        if message.home != self._me.home or not fits:
            return [Rejected("boot", f"{sender.hex()[:12]} answers about boot {message.boot} of another process")]
        voter = None if self._table is None else self._voices.voter(self._table.electorate(), sender)
        if voter is None or voter.home == self._me.home:
            return [Rejected("not-a-voter", f"{sender.hex()[:12]} has no say in who may vote")]
        if message.ok:
            self._confirmers[voter.home] = None
            return self._weigh()
        return self._stop(message.boot)

    def _weigh(self) -> list[Effect]:
        if self._table is None or self._stopped:
            return []
        voters = self._table.electorate()
        others = [voter.name for voter in voters.voters if voter.home in self._confirmers]
        own = [voter.name for voter in voters.voters if voter.home == self._me.home]
        alone = len(own) == len(voters.voters)
        may = self._settled or (voters.enough([*own, *others]) and (alone or bool(others)))
        if may and self._table.seat_of(self._me.node) is not None:
            self._settled = True
        if may == self.confirmed:
            return []
        self.confirmed = may
        return [MayVote(may), *([Log("node.vote_kept", {"boot": self._me.boot})] if may and own else [])]

    def _changed(self, member: Member, now: Millis) -> None:
        """A later process of this home: ask again who has the vote."""
        if member.node == self._me.node:
            return
        if member.status > SUSPECT:
            self._members.pop(member.node, None)
            self._voices.forget(member.node)
            return
        new = member.node not in self._members
        self._members[member.node] = member
        self._voices.know(member)
        if self._restarted and self._ask_at is None and self._unheard():
            self._ask_at = now + TELL  # it may be a voter that has not heard yet
        if new and member.home == self._me.home and member.boot >= self._me.boot:
            self._confirmers = {}
            self._ask_at = now + 1

    def _stop(self, boot: int) -> list[Effect]:
        if self._stopped:
            return []
        self._stopped, self._ask_at = True, None
        which = f"start {boot}" if boot > self._me.boot else "another process"
        sentence = (
            f"the data directory of node {self._me.name!r} is an old copy, or a copy of it is in use: this is start "
            f"{self._me.boot} of it, and the cluster knows {which}. Its vote could contradict one that was given: move "
            "the directory away and start with an empty one, as a new member"
        )
        changed: list[Effect] = [MayVote(False)] if self.confirmed else []
        self.confirmed = self._settled = False
        uncounted = self._me.home + (self._me.boot - 1).to_bytes(_BOOT_BYTES)
        return [*changed, *self._durable.persist(IDENTITY, uncounted, [Stop(sentence, 2)])]

    # -- those of others

    def _asked(self, sender: NodeId, message: Booted) -> list[Effect]:
        member = self._members.get(sender)
        if member is None or self._stopped:
            return []  # it will ask again
        if (member.home, member.boot) != (message.home, message.boot):
            return [Rejected("boot", f"{sender.hex()[:12]} asks for boot {message.boot} of a home that is not its own")]
        former = self._highest(message.home)
        if former is not None and former[0] >= message.boot:
            ok = former == (message.boot, sender)
            return self._durable.after_all(Send(sender, BootKnown(message.home, former[0], ok)))
        if not self._make_room(message.home):
            return [Rejected("boot", f"no room for another home beside {MAX_KNOWN}")]
        self._known[message.home] = (message.boot, sender)
        told: list[Effect] = [Send(sender, BootKnown(message.home, message.boot, True))]
        if former is not None and former[1] in self._members:
            told.append(Send(former[1], BootKnown(message.home, message.boot, False)))
        return self._durable.persist(KEEPER, _packed(self._known), told)

    def _highest(self, home: bytes) -> tuple[int, NodeId] | None:
        """The latest start that is known of a home; the table names one, too."""
        if home == self._me.home:
            return (self._me.boot, self._me.node)
        seats = () if self._table is None else self._table.members
        agreed = [(seat.boot, seat.node) for seat in seats if seat.home == home]
        heard = [self._known[home]] if home in self._known else []
        return max([*heard, *agreed], key=lambda each: each[0], default=None)

    def _make_room(self, home: bytes) -> bool:
        if home not in self._known and len(self._known) >= MAX_KNOWN:
            seats = () if self._table is None else self._table.members
            homes = {seat.home for seat in seats}
            self._known = {each: boot for each, boot in self._known.items() if each in homes}
        return home in self._known or len(self._known) < MAX_KNOWN


def _packed(known: Mapping[bytes, tuple[int, NodeId]]) -> bytes:
    packed: bytes = msgpack.packb([[home, boot, node] for home, (boot, node) in known.items()], use_bin_type=True)
    return packed


def _unpacked(kept: bytes | None) -> dict[bytes, tuple[int, NodeId]]:
    return {} if kept is None else {home: (boot, node) for home, boot, node in msgpack.unpackb(kept)}
