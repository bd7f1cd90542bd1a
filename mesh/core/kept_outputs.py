"""Outputs that their consumers have not committed yet, as each member of a slot keeps them: by the pack they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from mesh.core.messages import NodeId
from mesh.core.packs import Outputs

PackName: TypeAlias = tuple[NodeId, int]  # who made it, and its number there
SlotOutputs: TypeAlias = list[tuple[NodeId, int, int, Outputs]]  # maker, pack, stage, and what it gave


class KeptOutputs:
    """Those of all slots here."""

    def __init__(self) -> None:
        self.packs: dict[PackName, list[tuple[int, Outputs]]] = {}  # (stage, outputs); none is empty

    def add(self, name: PackName, stage: int, outputs: Outputs) -> None:
        self.packs.setdefault(name, []).append((stage, outputs))

    def of_slot(self, slot: int) -> SlotOutputs:
        """In the order in which they were made: of one stage and slot, numbers say so whoever made them."""
        found: SlotOutputs = []
        for (maker, pack), kept in self.packs.items():
            for stage, out in kept:
                mine = out.chosen([origin == slot for origin in out.origins])
                if mine.origins:
                    found.append((maker, pack, stage, mine))
        found.sort(key=lambda each: (each[2], each[3].numbers[0]))
        return found

    def free(self, names: Iterable[PackName], is_free: Callable[[int], bool]) -> None:
        """What these packs gave out of such slots is not kept any more."""
        for name in list(names):
            left = [(stage, out.chosen([not is_free(origin) for origin in out.origins])) for stage, out in
                    self.packs.pop(name, ())]  # fmt: skip
            left = [each for each in left if each[1].origins]
            if left:
                self.packs[name] = left

    def free_slot(self, slot: int) -> None:
        self.free(self.packs, lambda origin: origin == slot)
