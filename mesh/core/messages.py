"""The grammar of the wire: every message that one node may send to another.

An envelope is two or three ZeroMQ parts: header, message, and for link frames a payload.

    header   = [VERSION, cluster name, cluster id, source, target]
    message  = [kind, *fields]                     the fields of the dataclasses below, in their order
    payload  = [kind, *fields]                     a link's cargo: one of the messages marked (cargo)

Field types are int (0 .. 2**63-1), bool, str (at most 1 KiB), bytes, NodeId (16 bytes), tuples of these, nested
records, and `Column` (a list whose items are the application's). `codec` is the only module that parses what a peer
sent; it builds its checks from the annotations here, so this file is the whole truth about what is acceptable.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from mesh.core.fixed import fixed

VERSION = 2
NodeId: TypeAlias = Annotated[bytes, 16]  # 16 random bytes, new for every process start
HomeId: TypeAlias = Annotated[bytes, 16]  # 16 random bytes, kept in a data directory; without one it is the node id
Column: TypeAlias = list[Any]  # one item a record; what is inside is the application's

ALIVE, SUSPECT, DEAD, LEFT = 0, 1, 2, 3
STATUS_NAMES = ("alive", "suspect", "dead", "left")
STAYING, LEAVING, READY = 0, 1, 2  # what a node says of itself; READY: it has handed over all but its slots


class Message:
    """Base of all messages; `KIND` is the number on the wire."""

    __slots__ = ()


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


# -- admission and membership: unnumbered datagrams, may be lost, doubled or overtaken --------------------------------


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


# -- agreement: one chosen value an epoch -----------------------------------------------------------------------------


@fixed(frozen=True, slots=True)
class Prepare(Message):
    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Promise(Message):
    epoch: int
    ballot: int
    accepted_ballot: int  # 0: none
    accepted: bytes


@fixed(frozen=True, slots=True)
class Accept(Message):
    epoch: int
    ballot: int
    value: bytes


@fixed(frozen=True, slots=True)
class Accepted(Message):
    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Outbid(Message):
    """The ballot was too low; `ballot` is what was promised."""

    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Chosen(Message):
    epoch: int
    value: bytes


@fixed(frozen=True, slots=True)
class EpochKnown(Message):
    """The newest epoch that the sender holds. Who holds it too, or a newer one, answers; a newer one it tells also."""

    epoch: int
    number: int  # repeated in the answer; 0: no answer is wanted, only what is newer


@fixed(frozen=True, slots=True)
class EpochHeld(Message):
    """The answer: the newest epoch that the sender holds, not older than the one that was asked about."""

    epoch: int
    number: int


@fixed(frozen=True, slots=True)
class Booted(Message):
    """The sender's directory has been started for the `boot`th time. Does the receiver know of a later one?"""

    home: HomeId
    boot: int


@fixed(frozen=True, slots=True)
class BootKnown(Message):
    """The answer; or, when a later process of that home has come, unasked to the former one."""

    home: HomeId
    boot: int  # the highest that the sender knows, and keeps
    ok: bool  # it is the receiver's


# -- what the planner's proposers must hear of others; unnumbered, repeated by their senders ---------------------------


@fixed(frozen=True, slots=True)
class Installed(Message):
    """What these slots ask of the sender at these terms is done; from a donor that is not asked: a state in them cannot
    travel, they have to stay where they are. See `claims`."""

    epoch: int  # the sender's
    slots: bytes  # unsigned 16-bit little-endian
    terms: tuple[int, ...]  # one a slot


@fixed(frozen=True, slots=True)
class LeaveAsked(Message):
    """An operator wants `node`, who is the receiver, to leave; repeated until it says that it is leaving."""

    node: NodeId


@fixed(frozen=True, slots=True)
class LossAccepted(Message):
    """An operator wants these slots, which are LOST at these terms, to start again empty; repeated until they have."""

    epoch: int  # the sender's
    slots: bytes  # unsigned 16-bit little-endian
    terms: tuple[int, ...]  # one a slot


# -- links: numbered frames, acks and credits -------------------------------------------------------------------------


@fixed(frozen=True, slots=True)
class Frame(Message):
    """One numbered frame of a channel; its cargo is the envelope's payload part."""

    channel: int
    number: int  # from 1


@fixed(frozen=True, slots=True)
class LinkAck(Message):
    """`received`: all frames up to this number have arrived. `limit`: bytes that may be sent in all, ever."""

    channel: int
    received: int
    limit: int
    gap: bool  # True: a later frame arrived (or was named) but not received + 1: go back


@fixed(frozen=True, slots=True)
class LinkProbe(Message):
    """An idle or stuck sender names its highest number."""

    channel: int
    highest: int


# -- cargo of links ---------------------------------------------------------------------------------------------------


@fixed(frozen=True, slots=True)
class SourceCount(Message):
    """(record) How far one node is with its part of one source."""

    name: str
    records: int
    splits: int
    splits_done: int
    endless: bool
    listing: int  # CRC-32 of all splits as this node lists them, or 0: it has not, or never will


@fixed(frozen=True, slots=True)
class Report(Message):
    """(cargo) What a node tells all others about its work; all but `reading` only grow."""

    epoch: int  # the sender's: who does not know it yet does not know all members that the claims are about
    drained: int  # levels of the graph that this node has drained; see core.progress
    reading: bool  # it has splits that are not read to their end
    keys: int
    records_keyed: int
    records_out: int
    failed: int
    sources: tuple[SourceCount, ...]


@fixed(frozen=True, slots=True)
class NumberedRun(Message):
    """(record) Consecutive records of a batch that one split of a source, or one stage, gave, and their numbers."""

    of_stage: bool
    producer: int  # the stage, or the source
    split: str  # its name; of a stage nothing
    origins: bytes  # of a stage the slot that gave each; of a split nothing
    base: int
    numbers: bytes  # unsigned 32-bit little-endian, above the base


@fixed(frozen=True, slots=True)
class Batch(Message):
    """(cargo) Records from one node to one owner of one stage, by columns."""

    stage: int
    epoch: int  # the sender's when it packed: its table says that the receiver owns all these slots
    number: int  # from 1, per (sender, owner, stage)
    slots: bytes  # unsigned 16-bit little-endian, one a record
    keys: Column
    values: Column | None  # None: the values are the keys themselves
    runs: tuple[NumberedRun, ...] = ()  # where records are numbered


@fixed(frozen=True, slots=True)
class BatchDone(Message):
    """(cargo) All batches of this stage up to `number` are committed, but for what is refused of the last one."""

    stage: int
    number: int
    epoch: int  # the owner's: what was refused may be sent again under this one or a later one
    refused: bytes  # slots, 16 bits each as above: records of this batch for them were not applied,
    starts: tuple[int, ...]  # for each of these slots from this record of the batch on


@fixed(frozen=True, slots=True)
class Lookup(Message):
    """(cargo) A read of one key's state, sent to the owner."""

    number: int
    stage: str
    key: Column  # exactly one item


@fixed(frozen=True, slots=True)
class Found(Message):
    """(cargo) The answer: JSON text of the state; `outcome` is found | absent | unavailable | unknown-stage."""

    number: int
    outcome: str
    state: bytes


@fixed(frozen=True, slots=True)
class SlotChunk(Message):
    """(cargo) A part of one slot's state, from its donor to its PENDING owner."""

    epoch: int  # the donor's
    number: int  # from 1, per (donor, owner)
    slot: int
    term: int  # at which the slot is PENDING
    stage: int
    keys: Column
    states: Column
    last: bool  # with this the slot is complete
    unsettled: int  # see SlotSettled; meant with the last chunk


@fixed(frozen=True, slots=True)
class ChunksTaken(Message):
    """(cargo) All chunks up to `number` are kept, or of no use any more."""

    number: int


@fixed(frozen=True, slots=True)
class SlotSettled(Message):
    """(cargo) Of what the donor gave out for a slot, only records for levels up to `unsettled` may not be applied."""

    slot: int
    term: int
    unsettled: int


@fixed(frozen=True, slots=True)
class SplitMarks(Message):
    """(record) Of one split: the last number that each of these slots has taken, at the stage of the pack."""

    source: int
    split: str
    slots: bytes  # unsigned 16-bit little-endian
    numbers: bytes  # unsigned 64-bit little-endian, one a slot


@fixed(frozen=True, slots=True)
class StageMarks(Message):
    """(record) Likewise of what another stage's slots gave out."""

    stage: int
    origins: bytes  # slots that gave out
    slots: bytes  # slots that took, one an origin
    numbers: bytes


@fixed(frozen=True, slots=True)
class WindowMarks(Message):
    """(record) Of one producer: records that were taken at a stage, or lines that were claimed, see `windows`."""

    stage: int  # numbered on behind the stages: lines
    producer: str
    slots: bytes
    ids: bytes  # unsigned 64-bit little-endian, one a slot
    digests: bytes  # likewise


@fixed(frozen=True, slots=True)
class OutputColumns(Message):
    """(record) What was given out for one target: a stage, or, numbered on behind the stages, a sink."""

    target: int
    origins: bytes  # the slot that gave each out
    numbers: bytes  # of each, in the stream (stage of the pack, origin)
    keys: Column
    values: Column | None  # None: the values are the keys; so it is for a sink, too


@fixed(frozen=True, slots=True)
class PackPart(Message):
    """(cargo) What one applied batch came to, as far as one backup has the slots; or a part of a copy's filling."""

    number: int  # from 1, per (owner, backup); all that follows up to LaneMark is in one numbering
    epoch: int  # the owner's
    more: bool  # the rest of the same slot follows, and all of it counts together
    maker: NodeId  # who applied it, and
    pack: int  # its number there: by these the outputs are freed. 0: there are none
    stage: int  # numbered on behind the stages: what producers sent, and the splits of sources
    slots: bytes  # one a key
    keys: Column
    states: Column  # of the first ones; the last keys, which have none here, have no state any more
    splits: tuple[SplitMarks, ...]
    stages: tuple[StageMarks, ...]
    windows: tuple[WindowMarks, ...]
    outputs: tuple[OutputColumns, ...]
    next_output: int  # every output of this stage so far has a lower number


@fixed(frozen=True, slots=True)
class PacksFreed(Message):
    """(cargo) The outputs of these packs, as far as the sender owns their slots, need not be kept any more."""

    number: int
    epoch: int
    maker: NodeId
    packs: tuple[int, ...]


@fixed(frozen=True, slots=True)
class OutputsKept(Message):
    """(cargo) From a slot's new owner: of its outputs only those of these packs need be kept. The former owner may have
    freed others in words that some copies do not take from it any more."""

    number: int
    epoch: int
    slot: int
    makers: tuple[NodeId, ...]
    packs: tuple[int, ...]  # one a maker


@fixed(frozen=True, slots=True)
class LaneMark(Message):
    """(cargo) A place in the lane: `what` is 0: from here on these slots are filled; 1: now the receiver has all of
    them; 2: sealed, nothing more comes of them at their terms; 3: no more than that this is to be acknowledged."""

    number: int
    epoch: int
    what: int
    slots: bytes
    terms: tuple[int, ...]  # one a slot


@fixed(frozen=True, slots=True)
class PacksTaken(Message):
    """(cargo) All that came by the lane up to `number` is kept, or refused under a table not later than `epoch`."""

    number: int
    epoch: int


@fixed(frozen=True, slots=True)
class TakeSplits(Message):
    """(cargo) Please read these splits of a source from these offsets on; the sender does not any more."""

    number: int  # from 1, per sender
    source: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    offsets: tuple[int, ...]


@fixed(frozen=True, slots=True)
class SplitsTaken(Message):
    """(cargo) The answer: they are mine now, or stay yours."""

    number: int
    taken: bool


@fixed(frozen=True, slots=True)
class Farewell(Message):
    """(cargo) A leaving node applies nothing any more: what it has not answered by now is refused."""

    epoch: int


@fixed(frozen=True, slots=True)
class FarewellHeard(Message):
    """(cargo) The answer: no more batches, and all that came before the farewell has arrived."""

    epoch: int  # repeated


@fixed(frozen=True, slots=True)
class KeysAsked(Message):
    """(cargo) Which keys come next in these slots of the receiver? See core.places."""

    number: int
    stage: str
    first: int
    last: int
    after: Column  # nothing, or [beginning, digest] of a place in the first slot
    limit: int


@fixed(frozen=True, slots=True)
class KeysTold(Message):
    """(cargo) The answer: keys in their order; `outcome` is found | unavailable | unknown-stage."""

    number: int
    outcome: str
    keys: Column
    more: bool  # after the last of these, there may be some in the slots that were asked for


@fixed(frozen=True, slots=True)
class Inject(Message):
    """(cargo) Records of one stage that came by HTTP, from the node that was asked to the owner of their keys."""

    number: int  # from 1, per sender
    stage: int
    keys: Column
    values: Column
    producer: str  # "": one that does not name itself
    ids: bytes  # of the producer's records, unsigned 64-bit little-endian: its line, and the place among its records;
    digests: bytes  # of these lines, likewise; both are empty without a producer
    wants_outputs: bool


@fixed(frozen=True, slots=True)
class Injected(Message):
    """(cargo) The answer, when all of them have been looked at: applied, but for those that are named here."""

    number: int
    known: bytes  # indexes, unsigned 16-bit little-endian: applied before
    refused: bytes  # indexes, likewise: not applied, since their slots may not be changed here now
    wrong: str  # "", or "conflict" | "too-old": those that are neither known nor new, of which
    wrong_seq: int  # this is the first one's line
    outputs: bytes  # JSON array, if they are wanted
    error: bytes  # what the step of the last one raised, if outputs are wanted


@fixed(frozen=True, slots=True)
class ClaimLines(Message):
    """(cargo) Consecutive lines of a producer, to the owner of its name: has it used their numbers for others?"""

    number: int  # from 1, per sender, together with those of Inject
    producer: str
    first: int
    digests: bytes


@fixed(frozen=True, slots=True)
class LinesClaimed(Message):
    """(cargo) The answer; `verdict`: see `ingest`, "" for yes; `seq` the first line's of which."""

    number: int
    verdict: str
    seq: int


KINDS: dict[int, type[Message]] = {
    1: Hello,
    2: Welcome,
    3: Refused,
    4: Ping,
    5: Ack,
    6: PingReq,
    7: Nack,
    8: PushPull,
    9: Gossip,
    20: Prepare,
    21: Promise,
    22: Accept,
    23: Accepted,
    24: Outbid,
    25: Chosen,
    26: EpochKnown,
    27: EpochHeld,
    28: Booted,
    29: BootKnown,
    30: Installed,
    31: LeaveAsked,
    32: LossAccepted,
    40: Frame,
    41: LinkAck,
    42: LinkProbe,
    60: Report,
    61: Batch,
    62: BatchDone,
    63: Lookup,
    64: Found,
    65: SlotChunk,
    66: ChunksTaken,
    67: SlotSettled,
    68: TakeSplits,
    69: SplitsTaken,
    70: Farewell,
    71: FarewellHeard,
    72: PackPart,
    73: PacksFreed,
    74: LaneMark,
    75: PacksTaken,
    76: OutputsKept,
    80: KeysAsked,
    81: KeysTold,
    90: Inject,
    91: Injected,
    92: ClaimLines,
    93: LinesClaimed,
}
