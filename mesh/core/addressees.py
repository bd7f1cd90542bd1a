"""Who takes the records of a slot now: its owner, as far as it is ACTIVE there and the owner can be reached.

Events    a table (`set_table`); an owner says farewell (`depart`), and takes nothing any more, whatever table comes,
          until one names it among those who left. Who is unreachable for the moment is asked for each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.requests import Record
from mesh.core.slot import ACTIVE


class Addressees:
    """None: nobody takes them now."""

    def __init__(self, unreachable: Callable[[], Collection[NodeId]]) -> None:
        self._unreachable = unreachable
        self._owners: list[NodeId | None] = []
        self._departed: dict[NodeId, None] = {}

    def owner(self, slot: int) -> NodeId | None:
        owner = self._owners[slot]
        return None if owner in self._unreachable() else owner

    def owners_of(self, records: Iterable[Record]) -> list[NodeId | None]:
        unreachable, owners = self._unreachable(), [self._owners[record.slot] for record in records]
        return [None if owner in unreachable else owner for owner in owners] if unreachable else owners

    def set_table(self, table: TableAgreed) -> Collection[NodeId]:
        """Who takes nothing under it."""
        self._departed = {node: None for node in self._departed if node not in table.left}
        away = (*table.down, *self._departed)
        owners = [None if node in away else node for node in table.workers]
        self._owners = [
            owners[place] if status == ACTIVE else None
            for place, status in zip(table.owner_of_slot, table.status_of_slot, strict=True)
        ]
        return away

    def depart(self, owner: NodeId) -> None:
        self._departed[owner] = None
        self._owners = [None if each == owner else each for each in self._owners]
