"""One vote a voter and ballot (rule I2), by what nodes send, over the restarts of a voter that keeps its directory.

A voter that has promised a ballot accepts no lower one afterwards, and whoever asks it for a promise is told what it
has accepted. All nodes send one value under one ballot. At the founding a voter is a name and what is kept under it,
later it is a home.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mesh.core import codec
from mesh.core.messages import Message
from mesh.core.messages.epochs import Accept, Accepted, Promise
from mesh.core.messages.kinds import KINDS
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process

Voter: TypeAlias = tuple[int, object]  # the epoch that is voted on, and who votes
_LOOKED_AT = [number for number, kind in KINDS.items() if kind in (Promise, Accept, Accepted)]


@dataclass(slots=True)
class _Said:
    promised: int = 0
    accepted: int = 0


class Votes:
    """`posted` sees every message."""

    def __init__(self) -> None:
        self._said: dict[Voter, _Said] = {}
        self._values: dict[tuple[int, int], bytes] = {}  # by epoch and ballot

    def posted(self, process: Process, packed: bytes) -> None:
        if packed[1] in _LOOKED_AT:  # behind the head of a short array stands the message's number
            self._look(process, codec.decode(packed))

    def _look(self, process: Process, message: Message) -> None:
        match message:
            case Accept(epoch, ballot, value):
                if self._values.setdefault((epoch, ballot), value) != value:
                    raise Violation("I2", f"{process.name} sends a second value under ballot {ballot} of epoch {epoch}")
            case Promise(epoch, ballot, accepted_ballot):
                said = self._of(process, epoch)
                if accepted_ballot < said.accepted:
                    raise Violation("I2", f"{process.name} keeps back what it accepted for epoch {epoch}")
                said.promised = max(said.promised, ballot)
            case Accepted(epoch, ballot):
                said = self._of(process, epoch)
                if ballot < said.promised:
                    raise Violation("I2", f"{process.name} accepts for epoch {epoch} less than it has promised")
                said.accepted = max(said.accepted, ballot)

    def _of(self, process: Process, epoch: int) -> _Said:
        who = (process.name, process.host.memory) if epoch == 1 else process.node.identity.me.home
        return self._said.setdefault((epoch, who), _Said())
