"""Cargo of links: what somebody outside asked of one node, on its way to the owner that knows, and the answers.

Reads of a key, lists of keys, and records that came by HTTP. Who asks numbers its questions; an answer repeats it.
"""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import Column, Message


@fixed(frozen=True, slots=True)
class Lookup(Message):
    """(cargo) A read of one key's state, sent to the owner."""

    number: int
    stage: str
    key: Column  # exactly one item


@fixed(frozen=True, slots=True)
class Found(Message):
    """(cargo) The answer: JSON text of the state; `outcome` is found | absent | unavailable | unknown-stage |
    unreadable, with a sentence in the place of the state."""

    number: int
    outcome: str
    state: bytes


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
