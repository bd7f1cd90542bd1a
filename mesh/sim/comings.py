"""Members that come and go on purpose, as faults: what a cluster must bear in the middle of a job.

They are asked for once; what follows from it may take longer than the other faults, so the goals wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.core.electorate import MAX_VOTERS
from mesh.core.events import Millis
from mesh.sim.faults import Fault

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

LOOK_EVERY: Millis = 250
PATIENCE: Millis = 30_000  # with one host of a rolling restart


@dataclass(frozen=True, slots=True)
class Join(Fault):
    """A node starts that no topology names."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.start(self.host)

    def words(self) -> str:
        return f"{self.host} comes"


@dataclass(frozen=True, slots=True)
class Leave(Fault):
    """An operator makes a member leave, by way of any node. `returns`: so long after it has gone its name is back."""

    host: str = ""
    returns: Millis | None = None

    def begin(self, world: World) -> None:
        leaver = world.ask_to_leave(self.host)
        if leaver is not None and self.returns is not None:
            _when_gone(world, leaver, self.returns)

    def words(self) -> str:
        return f"{self.host} shall leave" + ("" if self.returns is None else ", and come back")


def _when_gone(world: World, leaver: Process, after: Millis) -> None:
    world.going_on += 1
    give_up = world.now + PATIENCE

    def look(_: None) -> None:
        if leaver.alive and world.now < give_up:
            world.at(world.now + LOOK_EVERY, look, None)
            return
        world.at(world.now + after, back, None)

    def back(_: None) -> None:
        world.start(leaver.name)
        world.going_on -= 1

    look(None)


@dataclass(frozen=True, slots=True)
class RollingRestart(Fault):
    """One host after the other ends, and starts again; the next one's turn comes when it is a member, and may vote."""

    hosts: tuple[str, ...] = ()
    crashes: bool = False  # or leaves, and loses nothing

    def begin(self, world: World) -> None:
        world.going_on += 1
        _Rolling(world, list(self.hosts), crashes=self.crashes).turn(None)

    def words(self) -> str:
        return f"{' '.join(self.hosts)} are {'killed' if self.crashes else 'told to leave'} and started, one by one"


class _Rolling:
    """running -> ending -> started -> member: the next host's turn."""

    def __init__(self, world: World, hosts: list[str], *, crashes: bool) -> None:
        self._world = world
        self._hosts = hosts
        self._crashes = crashes
        self._give_up: Millis = 0

    def turn(self, _: None) -> None:
        if not self._hosts:
            self._world.going_on -= 1
            return
        self._give_up = self._world.now + PATIENCE
        name = self._hosts[0]
        if self._crashes:
            self._world.crash(name)
        self._end(name)

    def _end(self, name: str) -> None:
        process = self._world.hosts[name].living()
        if process is None:
            self._world.at(self._world.now + LOOK_EVERY, self._start, name)
        elif self._world.now > self._give_up:
            self._next()
        else:
            if process.id not in self._world.leaving:
                self._world.ask_to_leave(name)
            self._world.at(self._world.now + LOOK_EVERY, self._end, name)

    def _start(self, name: str) -> None:
        self._world.start(name)
        self._see(name)

    def _see(self, name: str) -> None:
        """A minority of new members must not be all that is left, so each has to vote before the next one ends."""
        process, table = self._world.hosts[name].living(), self._world.checkers.table
        seat = None if process is None or table is None else table.seat_of(process.id)
        votes = seat is not None and table is not None and (seat.voter or len(table.voters()) == MAX_VOTERS)
        if votes or self._world.now > self._give_up:
            self._next()
        else:
            self._world.at(self._world.now + LOOK_EVERY, self._see, name)

    def _next(self) -> None:
        self._hosts.pop(0)
        self._world.at(self._world.now + LOOK_EVERY, self.turn, None)
