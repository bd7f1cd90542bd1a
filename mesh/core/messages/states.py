"""Cargo of links: keys' states on their way, to a slot's next owner or to its copies, and what belongs to them.

Where a slot has one copy, its donor ships it (`SlotChunk`); else its owner tells the copies what each batch came to, in
one numbered lane to each backup, by which it also fills new ones (`PackPart` and all that follow; see `copy_lane`).
"""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import Column, Message, NodeId


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
