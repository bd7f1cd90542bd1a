"""When is a job done? Level by level, by numbers that only grow, so that plain reports suffice.

The graph's producers have levels: sources 0, a stage one more than the highest that feeds it, and after the last level
the sinks. `drained` = the number of levels this node has drained for good:

    a node drains level L when   every worker has drained all levels below L   (so nothing new can reach level L)
                         and     its own producers of level L have nothing unsent and nothing unacknowledged.

An acknowledged batch has been applied and its outputs are in the next router, so once every worker has drained L,
everything that level L ever produced has been worked off. Each claim stays true for ever: reports may be late, doubled
or overtaken. After the last level the sinks are flushed; when every worker has flushed, the job is done.

Workers come and go. A claim is counted only by who knows the epoch in which it was made (`core.reports` sees to that),
hence all workers whom the claimant knew: whoever got splits or slots from it is asked, too. Splits move; so a node
first waits until every worker says that it has nothing to read, then claims level 0, and from then on takes no split
any more: where all have claimed there is none left. Who comes after that has nothing and claims at once. A worker
that left properly had nothing left and is not asked any more; one that ended otherwise took its work along, and the job
will never be done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mesh.core.messages import NodeId


class Progress:
    """`levels` counts the sources' level and every stage level."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._others: dict[NodeId, int] = {}
        self._reading: dict[NodeId, bool] = {}  # what they said last; who said nothing may read
        self.drained = 0  # 0 .. levels + 1; levels + 1 = sinks flushed

    def set_workers(self, others: Iterable[NodeId], left: Collection[NodeId] = ()) -> None:
        """The other workers of the partition, and who left properly; whoever else is gone is still asked."""
        known = dict.fromkeys([*self._others, *others])
        self._others = {node: self._others.get(node, 0) for node in known if node not in left}

    def reported(self, node: NodeId, drained: int, reading: bool) -> None:
        """Another worker's claim. A node that is no worker of the partition has no say."""
        if node in self._others:
            self._others[node] = max(self._others[node], drained)
            self._reading[node] = reading

    def may_drain(self) -> bool:
        """Has every worker drained all levels below this node's next one?"""
        if self.drained == 0 and any(self._reading.get(node, True) for node, at in self._others.items() if not at):
            return False
        return self.drained < self._levels and self._all_at_least(self.drained)

    def drain(self) -> None:
        """This node's producers of the next level are quiet for good."""
        assert self.may_drain()
        self.drained += 1

    def may_flush(self) -> bool:
        """Nothing can reach this node's sinks any more; who comes later has nothing to send."""
        return self.drained == self._levels and self._all_at_least(self._levels)

    def flushed(self) -> None:
        assert self.drained == self._levels
        self.drained += 1

    def done(self) -> bool:
        """Every worker has flushed."""
        return self.drained > self._levels and self._all_at_least(self._levels + 1)

    def _all_at_least(self, level: int) -> bool:
        return all(drained >= level for drained in self._others.values())
