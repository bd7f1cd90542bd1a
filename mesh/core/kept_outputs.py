"""Outputs that their consumers have not committed yet, as each member of a slot keeps them: by the pack they are of;
and, on the node that gives them out, which of these are not over."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from mesh.core.messages import NodeId
from mesh.core.packs import Outputs

PackName: TypeAlias = tuple[NodeId, int]  # who made it, and its number there
FORGOTTEN_AT_ONCE = 64
FEW = 1 << 10  # packs
SlotOutputs: TypeAlias = list[tuple[NodeId, int, int, Outputs]]  # maker, pack, stage, and what it gave


class KeptOutputs:
    """Those of all slots here."""

    def __init__(self) -> None:
        self.packs: dict[PackName, list[tuple[int, Outputs]]] = {}  # (stage, outputs); none is empty
        self.changed: dict[PackName, None] | None = None  # since whoever puts them into a store did so; None: nobody

    def add(self, name: PackName, stage: int, outputs: Outputs) -> None:
        self.packs.setdefault(name, []).append((stage, outputs))
        if self.changed is not None:
            self.changed[name] = None

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
            if self.changed is not None:
                self.changed[name] = None

    def forget(self, name: PackName) -> None:
        """All of it is over."""
        if self.packs.pop(name, None) is not None and self.changed is not None:
            self.changed[name] = None

    def free_slot(self, slot: int) -> None:
        self.free(self.packs, lambda origin: origin == slot)


class Unfinished:
    """Which packs' outputs are not over, by the numbers under which the stages of this node give them out.

    A stage of this node numbers what it gives out by one rising counter, so a pack has the numbers from its first one
    up to that of the next pack. What another node made, or this one before a slot went and came back, has numbers of
    its own: those are looked up one by one. An output may be on its way twice, since its slot went and came back, and
    then it counts twice.
    """

    def __init__(self, me: NodeId, stages: int) -> None:
        self._me = me
        self._left: dict[PackName, int] = {}  # how many of its outputs are not over
        self._firsts: list[list[int]] = [[] for _ in range(stages)]  # of own packs, ascending
        self._packs: list[list[int]] = [[] for _ in range(stages)]  # one a first number
        self._adopted: list[dict[tuple[int, int], PackName]] = [{} for _ in range(stages)]  # by (origin, number)
        self._numbers_of: dict[PackName, list[tuple[int, int, int]]] = {}  # (stage, origin, number) of the adopted

    def __bool__(self) -> bool:
        return bool(self._left)

    def made(self, pack: int, stage: int, outputs: Iterable[Outputs]) -> None:
        """By this node, just now."""
        numbers = [number for out in outputs for number in out.numbers]
        if numbers:
            self._left[self._me, pack] = len(numbers)
            self._firsts[stage].append(min(numbers))
            self._packs[stage].append(pack)

    def adopted(self, name: PackName, stage: int, out: Outputs) -> None:
        """It is this node's to give out."""
        self._left[name] = self._left.get(name, 0) + len(out.numbers)
        for place in zip(out.origins, out.numbers, strict=True):
            self._adopted[stage][place] = name
            self._numbers_of.setdefault(name, []).append((stage, *place))

    def names_of(self, stage: int, origins: Sequence[int], numbers: Sequence[int]) -> dict[PackName, int]:
        """How many of these are of each pack."""
        found: dict[PackName, int] = {}
        adopted = self._adopted[stage]
        if adopted:
            others = [adopted.get(place) for place in zip(origins, numbers, strict=True)]
            for name in others:
                if name is not None:
                    found[name] = found.get(name, 0) + 1
            numbers = [number for number, name in zip(numbers, others, strict=True) if name is None]
        firsts, packs = self._firsts[stage], self._packs[stage]
        low = high = 0
        name = (self._me, 0)
        for number in numbers:
            if not low <= number < high:
                place = bisect_right(firsts, number) - 1
                assert place >= 0, f"output {number} of stage {stage} was never given out"
                low, high = firsts[place], firsts[place + 1] if place + 1 < len(firsts) else number + 1
                name = (self._me, packs[place])
            found[name] = found.get(name, 0) + 1
        return found

    def over(self, name: PackName, count: int) -> bool:
        """So many of this pack are; is it all?"""
        left = self._left[name] - count
        assert left >= 0, f"more outputs of pack {name[1]} are over than there were"
        self._left[name] = left
        if left:
            return False
        del self._left[name]
        for stage, *place in self._numbers_of.pop(name, ()):
            if self._adopted[stage].get((place[0], place[1])) == name:
                del self._adopted[stage][place[0], place[1]]
        self._forget_first()
        return True

    def _forget_first(self) -> None:
        """Packs of which all is over: at the front, where most are, or all of them, if many are out of turn, as when
        one output waits for a slot that nobody has."""
        for firsts, packs in zip(self._firsts, self._packs, strict=True):
            if len(packs) > 2 * len(self._left) + FEW:
                left = [place for place, pack in enumerate(packs) if (self._me, pack) in self._left]
                firsts[:] = [firsts[place] for place in left]
                packs[:] = [packs[place] for place in left]
            gone = 0
            while gone < len(packs) and (self._me, packs[gone]) not in self._left:
                gone += 1
            if gone == len(packs) or gone >= FORGOTTEN_AT_ONCE:
                del firsts[:gone], packs[:gone]
