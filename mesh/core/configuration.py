"""One slot's configuration as the data plane sees it: with nodes for places, and for whoever keeps copies.

`since` is the term at which the present owner became it: a change of backups leaves it, so that it disturbs nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.messages import NodeId
from mesh.core.table import ACTIVE, PENDING


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who has a slot, and who shall have a copy of it."""

    term: int
    since: int
    owner: NodeId
    backups: tuple[NodeId, ...] = ()
    status: int = ACTIVE
    donor: NodeId | None = None  # while PENDING: the owner of the last ACTIVE configuration
    joining: NodeId | None = None  # is being filled by the owner

    @property
    def source(self) -> NodeId:
        """Whose packs are the slot's."""
        return self.owner if self.donor is None else self.donor

    def has_copy(self, node: NodeId) -> bool:
        """Is it one of those that must have all, beside the source?"""
        return node != self.source and (node in self.backups or (self.status == PENDING and node == self.owner))
