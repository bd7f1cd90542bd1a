"""News of members, and how often each piece has been told.

Each piece is told a bounded number of times (the rest is left to push-pull), those told least first. A newer belief
about a node replaces the older piece and starts its count again.

Invariant: at most one piece a member, so it is bounded as the members are.
"""

from __future__ import annotations

import heapq

from mesh.core.messages import NodeId


def times_to_tell(spread: int, members: int) -> int:
    """`spread * ceil(log10(members + 1))`: enough for all to hear of it with high probability."""
    return spread * len(str(members))  # the number of decimal digits of n is ceil(log10(n + 1))


class Rumours:
    """Which members to put into the next message."""

    def __init__(self) -> None:
        self._told: dict[NodeId, tuple[int, int]] = {}  # (times told, minus the order of arrival)
        self._arrivals = 0

    def __bool__(self) -> bool:
        return bool(self._told)

    def add(self, node: NodeId) -> None:
        """What is believed of this node is news."""
        self._arrivals += 1
        self._told[node] = (0, -self._arrivals)

    def pick(self, count: int, limit: int, without: tuple[NodeId, ...]) -> list[NodeId]:
        """The freshest pieces, counted as told once more; who reaches the limit is news no longer."""
        candidates = (node for node in self._told if node not in without)
        picked = heapq.nsmallest(count, candidates, key=self._told.__getitem__)
        for node in picked:
            self.told(node, limit)
        return picked

    def told(self, node: NodeId, limit: int) -> None:
        """Once more, if it is news."""
        if node in self._told:
            times, arrival = self._told[node]
            self._told[node] = (times + 1, arrival)
            if times + 1 >= limit:
                del self._told[node]

    def drop(self, node: NodeId) -> None:
        """There is nobody to tell of it."""
        self._told.pop(node, None)

    def clear(self) -> None:
        """There is nobody to tell."""
        self._told.clear()
