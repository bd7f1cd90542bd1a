"""What nodes say of one another: admission and membership. Unnumbered datagrams; may be lost, doubled or overtaken.

A node is described by what is gossiped about it (`Member`), which only the node itself and `membership` write; whoever
hears of it keeps the larger of two. Before two nodes talk of members, each shows an `Introduction`.
"""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import HomeId, Message, NodeId

ALIVE, SUSPECT, DEAD, LEFT = 0, 1, 2, 3
STATUS_NAMES = ("alive", "suspect", "dead", "left")
STAYING, LEAVING, READY = 0, 1, 2  # what a node says of itself; READY: it has handed over all but its slots


@fixed(frozen=True, slots=True)
class Member:
    """What is gossiped about a node. (node, incarnation, status) is ordered; the largest wins (see membership)."""

    node: NodeId
    name: str
    endpoint: str  # tcp://host:port that others connect to
    http: str  # host:port of its HTTP door, or ""
    role: str  # worker | witness
    zone: str
    incarnation: int
    status: int  # ALIVE | SUSPECT | DEAD | LEFT
    leaving: int = STAYING  # STAYING | LEAVING | READY; only the node itself sets it, with a higher incarnation
    home: HomeId = b""  # whose memory it has; votes belong to homes
    boot: int = 1  # which process of its home it is, from 1

    def __post_init__(self) -> None:
        if not self.home:
            object.__setattr__(self, "home", self.node)


@fixed(frozen=True, slots=True)
class Introduction:
    """What two nodes must have in common before they talk, and who is the elder if they have not."""

    cluster: str
    slots: int
    seed: int
    graph: str  # fingerprint of the application's graph
    started: int  # unix milliseconds of the process start: the elder stays when two disagree
    formed: bool  # it belongs to a cluster that has a partition
    met: int  # compatible nodes it knows, itself included
    member: Member
    founding: bytes = b""  # the id of the cluster that it belongs to, or nothing


@fixed(frozen=True, slots=True)
class Hello(Message):
    """To an address whose owner is not known yet. `at` is that address; the answer repeats it."""

    introduction: Introduction
    at: str = ""


@fixed(frozen=True, slots=True)
class Welcome(Message):
    """The answer to a Hello that fits: who I am and whom I know."""

    introduction: Introduction
    members: tuple[Member, ...]
    at: str = ""


@fixed(frozen=True, slots=True)
class Refused(Message):
    """The answer to a Hello that does not fit: the field and both values."""

    field: str  # cluster | slots | seed | graph | founding | name
    yours: str
    mine: str
    introduction: Introduction
    at: str = ""


@fixed(frozen=True, slots=True)
class Ping(Message):
    number: int
    gossip: tuple[Member, ...]


@fixed(frozen=True, slots=True)
class Ack(Message):
    number: int
    gossip: tuple[Member, ...]


@fixed(frozen=True, slots=True)
class PingReq(Message):
    """Please probe `target` for me."""

    number: int
    target: NodeId
    gossip: tuple[Member, ...]


@fixed(frozen=True, slots=True)
class Nack(Message):
    """The helper is alive but did not reach the target in time (Lifeguard)."""

    number: int


@fixed(frozen=True, slots=True)
class PushPull(Message):
    """All that is known of members, both ways."""

    members: tuple[Member, ...]
    reply: bool  # True: please answer with yours


@fixed(frozen=True, slots=True)
class Gossip(Message):
    """News of members that waits for no probe to ride on; not answered."""

    gossip: tuple[Member, ...]
