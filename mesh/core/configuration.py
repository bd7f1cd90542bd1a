"""One slot's configuration as the data plane sees it: with nodes for places, and for whoever keeps copies.

`since` is the term at which the present owner became it: a change of backups leaves it, so that it disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE, PENDING


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
    parts: bool = False  # backups go once the owner says that it knows

    @property
    def source(self) -> NodeId:
        """Whose packs are the slot's."""
        return self.owner if self.donor is None else self.donor

    @property
    def promotes(self) -> bool:
        """Its owner is asked to go on alone."""
        return self.status == PENDING and self.donor == self.owner

    def has_copy(self, node: NodeId) -> bool:
        """Is it one of those that must have all, beside the source?"""
        return node != self.source and (node in self.backups or (self.status == PENDING and node == self.owner))


def changed_between(before: TableAgreed | None, table: TableAgreed) -> Mapping[int, Configuration]:
    """The slots whose configuration is another: of another term, or ACTIVE at its term. Equal ones are one object."""
    same = [] if before is None else [*zip(before.term_of_slot, before.status_of_slot, strict=True)]
    now = [*zip(table.term_of_slot, table.status_of_slot, strict=True)]
    found: dict[tuple[object, ...], Configuration] = {}
    parting = dict.fromkeys(table.parting)
    changed = {}
    for slot in [slot for slot, name in enumerate(now) if before is None or same[slot] != name]:
        columns = (
            table.term_of_slot[slot], table.since_of_slot[slot], table.owner_of_slot[slot], table.backups_of_slot[slot],
            table.status_of_slot[slot], table.donor_of_slot[slot], table.joining_of_slot[slot],
            slot in parting,
        )  # fmt: skip
        if columns not in found:
            found[columns] = _configuration(table, slot, slot in parting)
        changed[slot] = found[columns]
    return changed


def _configuration(table: TableAgreed, slot: int, parts: bool) -> Configuration:
    nodes, donor, joining = table.workers, table.donor_of_slot[slot], table.joining_of_slot[slot]
    return Configuration(
        table.term_of_slot[slot],
        table.since_of_slot[slot],
        nodes[table.owner_of_slot[slot]],
        tuple(nodes[place] for place in table.backups_of_slot[slot]),
        table.status_of_slot[slot],
        nodes[donor] if donor >= 0 else None,
        nodes[joining] if joining >= 0 else None,
        parts,
    )
