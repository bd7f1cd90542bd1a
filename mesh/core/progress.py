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

In kept mode (`KeptProgress`) work belongs to slots, and whoever owns a slot does it: so nothing is lost with a worker,
and nothing is drained for good either, since a table gives slots, and what is left to do in them, to other nodes. There
claims hold for one epoch: a new table takes all of them back, and a claim counts where the same table holds. This is
enough, as of level L at epoch e this is true, if all who are up have claimed it and every slot is ACTIVE with an owner
who is up:

 1. Every slot had one owner who was asked. So the claim must not be made before what the table brings is here: outputs
    to be given out again, and splits to be read, count as work from `set_table` on.
 2. What was claimed is committed: a split has ended, an output was taken over by its receiver, for every copy of the
    slots. So it is true of whoever inherits these slots, too. An inheritor who does not know that an output was taken
    over gives it again: its receiver knows the number, and nothing new comes of that.
 3. So within one epoch level L gets work only from lower levels, all claimed before; and what a deposed owner, who is
    not asked, still sends has the number of something that its successor has had taken over before it claimed.

Hence who hears of everybody's last claim in one epoch may say that the job is done, whatever tables come then. It says
so once; but it goes through the levels again with every table, for others who have not heard that. Work from outside
the graph, posted records, is not taken any more from the first claim on (`closed`), whatever epoch follows. A node that
comes later hears from anybody's report that all have claimed (`ended`); what it took before is refused by who applies
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.messages.work import Report
from mesh.core.slot import ACTIVE


class Progress:
    """`levels` counts the sources' level and every stage level."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._others: dict[NodeId, int] = {}
        self._reading: dict[NodeId, bool] = {}  # what they said last; who said nothing may read
        self._flushing = False
        self.drained = 0  # 0 .. levels + 1; levels + 1 = sinks flushed

    @property
    def closed(self) -> bool:
        """Nothing more may come from outside the graph."""
        return self.drained > 0 or self.ended

    @property
    def ended(self) -> bool:
        """Every worker that was there has claimed; who has come since knows it from any of them."""
        return self.drained > 1 or any(drained > 1 for drained in self._others.values())

    def set_table(self, me: NodeId, table: TableAgreed) -> bool:
        """Must the own report be told again?"""
        self.set_workers((node for node in table.workers if node != me), table.left)
        return False

    def set_workers(self, others: Iterable[NodeId], left: Collection[NodeId] = ()) -> None:
        """The other workers of the partition, and who left properly; whoever else is gone is still asked."""
        known = dict.fromkeys([*self._others, *others])
        self._others = {node: self._others.get(node, 0) for node in known if node not in left}

    def heard(self, node: NodeId, report: Report) -> None:
        """Of an epoch that is known here."""
        self.reported(node, report.drained, report.reading)

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
        return not self._flushing and self.drained == self._levels and self._all_at_least(self._levels)

    def flush(self) -> None:
        """The sinks are told to, once."""
        self._flushing = True

    def flushed(self) -> None:
        assert self.drained == self._levels
        self.drained += 1

    def done(self) -> bool:
        """Every worker has flushed."""
        return self.drained > self._levels and self._all_at_least(self._levels + 1)

    def _all_at_least(self, level: int) -> bool:
        return all(drained >= level for drained in self._others.values())


class KeptProgress:
    """The same for kept mode: claims of exactly one epoch."""

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._epoch = 0
        self._others: dict[NodeId, int] = {}  # who is up, and what it has drained in this epoch
        self._all_active = False
        self._flushes: deque[int] = deque()  # the epochs in which the sinks were told to, unanswered
        self._done = False
        self.closed = False  # has claimed something, in whatever epoch
        self.ended = False  # somebody has drained level 1, in whatever epoch
        self.drained = 0  # in this epoch

    def set_table(self, me: NodeId, table: TableAgreed) -> bool:
        """Must the own report be told again?"""
        up = [node for node in table.workers if node not in table.down]
        owners_up = all(table.workers[owner] in up for owner in dict.fromkeys(table.owner_of_slot))
        all_active = owners_up and all(status == ACTIVE for status in table.status_of_slot)
        return self.begin(table.epoch, (node for node in up if node != me), all_active)

    def begin(self, epoch: int, others: Iterable[NodeId], all_active: bool) -> bool:
        """A new epoch: nobody has claimed anything. Without `all_active` there is work that nobody answers for."""
        if epoch <= self._epoch:
            return False
        self._epoch = epoch
        self._others = dict.fromkeys(others, 0)
        self._all_active = all_active
        self.drained = 0
        return True

    def heard(self, node: NodeId, report: Report) -> None:
        self.ended = self.ended or report.drained > 1
        self.closed = self.closed or self.ended
        if report.epoch == self._epoch and node in self._others:
            self._others[node] = max(self._others[node], report.drained)

    def may_drain(self) -> bool:
        """Has every worker drained all levels below this node's next one?"""
        return self._all_active and self.drained < self._levels and self._all_at_least(self.drained)

    def drain(self) -> None:
        """This node's slots have nothing left of the next level, and have nothing else in hand."""
        assert self.may_drain()
        self.closed = True
        self.drained += 1
        self.ended = self.ended or self.drained > 1

    def may_flush(self) -> bool:
        """Nothing can reach this node's sinks any more, and they were not told so in this epoch."""
        told = bool(self._flushes) and self._flushes[-1] == self._epoch
        return not told and self.drained == self._levels and self._all_at_least(self._levels)

    def flush(self) -> None:
        """The sinks are told to, once an epoch: they answer in turn."""
        assert self.may_flush()
        self._flushes.append(self._epoch)

    def flushed(self) -> None:
        """The sinks' answer; that of an earlier epoch says nothing."""
        if self._flushes.popleft() == self._epoch:
            self.drained += 1

    def done(self) -> bool:
        """Every worker has flushed, in one epoch. Stays true."""
        self._done = self._done or (self.drained > self._levels and self._all_at_least(self._levels + 1))
        return self._done

    def _all_at_least(self, level: int) -> bool:
        return all(drained >= level for drained in self._others.values())
