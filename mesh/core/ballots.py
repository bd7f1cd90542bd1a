"""The two records of Paxos: what an acceptor is bound to, and how far a proposer is.

A ballot number is a round and a part of the proposer's node id. Should two nodes share that part, a promise still
names the one it was given to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgpack

TAG_BITS = 32  # leaves 31 bits for rounds in a 63-bit number: one a second for 68 years
TAG_MASK = (1 << TAG_BITS) - 1


def number(round_: int, node: bytes) -> int:
    return round_ << TAG_BITS | int.from_bytes(node[: TAG_BITS // 8], "big")


def round_of(ballot: int) -> int:
    return ballot >> TAG_BITS


def fits(ballot: int, node: bytes) -> bool:
    """May this node use this number?"""
    return ballot > TAG_MASK and ballot == number(round_of(ballot), node)


@dataclass(frozen=True, slots=True)
class Vote:
    """What a voter has bound itself to for `epoch`."""

    epoch: int
    promised: int = 0
    promised_to: bytes = b""
    accepted_ballot: int = 0  # invariant: <= promised; 0: none
    accepted: bytes = b""

    def to_bytes(self) -> bytes:
        fields = [self.epoch, self.promised, self.promised_to, self.accepted_ballot, self.accepted]
        packed: bytes = msgpack.packb(fields, use_bin_type=True)
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Vote:
        return cls(*msgpack.unpackb(data))

    def allows(self, ballot: int, node: bytes) -> bool:
        return ballot > self.promised or (ballot == self.promised and node == self.promised_to)


@dataclass(slots=True)
class Ballot:
    """One attempt of a proposer to have a value chosen."""

    number: int
    value: bytes | None = None  # None while preparing
    sends: int = 0
    speakers: dict[str, bytes] = field(default_factory=dict)  # the node that answered first for a voter
    promises: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # what each voter has accepted before
    votes: dict[str, None] = field(default_factory=dict)

    def speaks(self, voter: str, node: bytes) -> bool:
        """One node carries a voter's word through the whole ballot."""
        return self.speakers.setdefault(voter, node) == node

    def accepted_before(self) -> bytes | None:
        """The value under the highest ballot among the promises: it may be chosen already."""
        ballot, value = max(self.promises.values(), key=lambda promise: promise[0])
        return value if ballot else None
