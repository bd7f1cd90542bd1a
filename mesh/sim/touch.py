"""A minority stops (rule I19): who cannot reach a decisive set of the voters that it knows, there and back, applies and
reads nothing STOPS_WITHIN after that began.

Reach is what the network, crashes and pauses allow; that messages get lost is no cut. A node that learns its first
partition while it is cut off counts from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.core.events import Millis
from mesh.core.messages import NodeId
from mesh.core.table import Table
from mesh.sim.violation import Violation

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

STOPS_WITHIN: Millis = 5_000


class Touch:
    """`look` is called whenever somebody's reach may have changed."""

    def __init__(self, world: World) -> None:
        self.stops = 0  # how often somebody was cut off for so long
        self._world = world
        self._cut_since: dict[NodeId, Millis] = {}

    def look(self) -> None:
        for process in self._world.processes:
            if process.alive:
                self.look_at(process)

    def look_at(self, process: Process) -> None:
        """Also when a process has learnt another table."""
        table = process.node.control.table
        if table is None or self._reaches_enough(process, table):
            since = self._cut_since.pop(process.id, self._world.now)
            self.stops += self._world.now > since + STOPS_WITHIN
        else:
            self._cut_since.setdefault(process.id, self._world.now)

    def _reaches_enough(self, process: Process, table: Table) -> bool:
        voters = [seat for seat in table.voters() if self._reaches(process, seat.name, seat.home)]
        return table.electorate().enough(seat.name for seat in voters)

    def _reaches(self, process: Process, name: str, home: bytes) -> bool:
        if home == process.node.identity.me.home:
            return True
        voter = self._world.hosts[name].living()
        if voter is None or voter.node.identity.me.home != home or voter.paused:
            return False
        network = self._world.network
        return not (network.is_cut((process.name, name)) or network.is_cut((name, process.name)))

    def working(self, process: Process) -> Violation | None:
        """Called when a node applies or reads."""
        since = self._cut_since.get(process.id)
        if since is None or self._world.now <= since + STOPS_WITHIN:
            return None
        seconds = (self._world.now - since) / 1000
        return Violation("I19", f"{process.name} works, and for {seconds:g} s it cannot have heard of a majority")
