"""Which process speaks for which voter. A vote belongs to a home, messages go to processes, and a home's process
changes with every restart.

Of several processes of one home that are believed alive only the one of the highest boot speaks: the others work from
an older state of its memory. Whom nobody has met speaks if the epoch names it. At the founding voters have names only,
and each process speaks for its name.

Invariant: what is remembered is bounded by the members.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.core.electorate import Electorate, Voter
from mesh.core.messages import NodeId
from mesh.core.messages.members import Member


@dataclass(frozen=True, slots=True)
class Voice:
    name: str
    home: bytes
    boot: int


class Voices:
    """The processes that are believed alive, this one always among them."""

    def __init__(self, me: NodeId, voice: Voice) -> None:
        self._me = me
        self._of: dict[NodeId, Voice] = {me: voice}

    def know(self, member: Member) -> bool:
        """A process can be reached; True if it is new."""
        new = member.node not in self._of
        if member.node != self._me:
            self._of[member.node] = Voice(member.name, member.home, member.boot)
        return new

    def forget(self, node: NodeId) -> None:
        if node != self._me:
            self._of.pop(node, None)

    def nodes(self) -> list[NodeId]:
        return list(self._of)

    def voter(self, voters: Electorate, node: NodeId) -> Voter | None:
        """Whose vote a process carries."""
        return next((voter for voter in voters.voters if self._speaks(voter, node)), None)

    def speakers(self, voters: Electorate) -> Iterator[tuple[Voter, NodeId]]:
        """(voter, process) of all that can speak for a voter, as far as known."""
        for voter in voters.voters:
            found = [node for node in self._of if self._speaks(voter, node)]
            yield from ((voter, node) for node in found or ([voter.node] if voter.node else []))

    def _speaks(self, voter: Voter, node: NodeId) -> bool:
        voice = self._of.get(node)
        if not voter.home:
            return voice is not None and voice.name == voter.name
        if voice is None:
            return voter.node == node
        return voice.home == voter.home and not any(
            other.home == voice.home and other.boot > voice.boot for other in self._of.values()
        )
