"""What a node can say about itself and its cluster; the HTTP door and the commands show these and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.keys import Key


@dataclass(frozen=True, slots=True)
class NodeStatus:
    name: str
    state: str  # joining | alive | suspect | dead | leaving | left
    role: str
    endpoint: str
    http: str
    slots: int
    backups: int
    keys: int


@dataclass(frozen=True, slots=True)
class SlotCounts:
    total: int
    active: int
    pending: int
    unavailable: int
    lost: int


@dataclass(frozen=True, slots=True)
class SourceStatus:
    name: str
    splits: int
    done: int  # splits read to their end, in the whole cluster
    records: int  # records read, in the whole cluster


@dataclass(frozen=True, slots=True)
class Status:
    """The body of `GET /v1/status`, field for field."""

    cluster: str
    epoch: int
    this: str
    app: str
    ready: bool
    done: bool
    nodes: tuple[NodeStatus, ...]
    slots: SlotCounts
    sources: tuple[SourceStatus, ...]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Where a key lives. `interval` is [low, high) in the hash interval, high up to 2**32."""

    hash: int
    slot: int
    interval: tuple[int, int]
    owner: str
    backups: tuple[str, ...]
    term: int
    epoch: int


@dataclass(frozen=True, slots=True)
class RingRun:
    """Slots first .. last, all of one owner, in one state, and, while they move, from one donor."""

    first: int
    last: int
    owner: str
    state: str  # active | pending | unavailable | lost
    donor: str = ""  # who has the state until the owner has it


@dataclass(frozen=True, slots=True)
class Transfer:
    """Slots that one node is handing to another."""

    donor: str
    owner: str
    slots: int


@dataclass(frozen=True, slots=True)
class Moving:
    """Of the slots that change their owner just now, `arrived` of `total` have; (0, 0) when nothing moves."""

    arrived: int
    total: int
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """The partition as runs of slots, in order; none before it exists."""

    cluster: str
    epoch: int
    total: int
    voters: tuple[str, ...]  # who decides on the next epoch
    runs: tuple[RingRun, ...]
    moving: Moving = Moving(0, 0, ())


@dataclass(frozen=True, slots=True)
class Waiting:
    """Unavailable slots that any one of the same nodes could bring back, with its memory or its directory."""

    count: int
    slots: str  # as a person writes them
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """How many unavailable slots nobody waits for any more; or why not."""

    slots: int
    refused: str = ""  # in-memory | unknown | up | out-of-touch
    name: str = ""  # who is unknown, or up


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to a read of one key's state."""

    outcome: str  # found | absent | unavailable | unknown-stage
    state: object = None  # JSON value
    owner: str = ""
    term: int = 0
    why: str = ""  # not available now: the end of a sentence


@dataclass(frozen=True, slots=True)
class KeysPage:
    """Some of a stage's keys, in the order of all; `next` is where the others begin, None behind the last."""

    outcome: str  # found | unavailable | unknown-stage
    keys: tuple[Key, ...] = ()
    next: str | None = None
    why: str = ""  # unavailable


@dataclass(frozen=True, slots=True)
class Metric:
    """One sample for Prometheus; counters end in _total."""

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
