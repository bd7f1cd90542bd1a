"""Cargo of links: records on their way to owners, splits that change their readers, and how far the job is.

A record leaves in a `Batch` and is its sender's until `BatchDone`; a split is its reader's until `SplitsTaken`. Who
leaves says farewell once it applies nothing more.
"""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import Column, Message


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
