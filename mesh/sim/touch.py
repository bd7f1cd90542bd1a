"""A minority stops (rule I19): a node applies and reads nothing once a decisive set of the voters that it knows cannot
have confirmed anything that it asked in the last STOPS_WITHIN.

For a question to be answered its way there must have been open since it was asked, and so must its way back, and the
voter must have run. So the latest question that a voter can have answered is not younger than the last moment at which
each of these was so. Lost messages are no cut. Who learns its first partition is given as long from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.core.events import Millis
from mesh.core.messages import NodeId
from mesh.core.table import Seat, Table
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

STOPS_WITHIN: Millis = 5_000


class Touch:
    def __init__(self, world: World) -> None:
        self.fences = 0  # how often somebody stopped
        self._world = world
        self._learnt: dict[NodeId, Millis] = {}  # when a node knew its first partition

    def learnt(self, process: Process) -> None:
        self._learnt.setdefault(process.id, self._world.now)

    def working(self, process: Process) -> Violation | None:
        """Called when a node applies or reads."""
        now, table = self._world.now, process.node.control.table
        if table is None or now <= self._learnt.get(process.id, now) + STOPS_WITHIN:
            return None
        if self._heard_enough(process, table, now - STOPS_WITHIN):
            return None
        return Violation("I19", f"{process.name} works, and for 5 s it cannot have heard of a majority")

    def _heard_enough(self, process: Process, table: Table, since: Millis) -> bool:
        heard = [seat for seat in table.voters() if self._last_heard(process, seat) >= since]
        return table.electorate().enough(seat.name for seat in heard)

    def _last_heard(self, process: Process, seat: Seat) -> Millis:
        """At most; of a voter's home, whichever process lives there."""
        if seat.home == process.node.identity.me.home:
            return self._world.now
        processes = self._world.hosts[seat.name].processes
        ran = [each.last_ran() for each in processes if each.node.identity.me.home == seat.home]
        ways = ((process.name, seat.name), (seat.name, process.name))
        return min(max(ran, default=0), *(self._world.network.last_open(way, self._world.now) for way in ways))
