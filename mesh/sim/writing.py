"""What a process has under way on its disk: records, one after the other, and the commit of its store.

States    of a record: waits -> being written -> kept, and the node is to be told (`written`)
          of a commit: under way -> done, and posted; or, while the disk is full, under way until there is room again
Events    `persist`, `commit` of the process; time

Both take as long as the disk does, which may be slow. Without a disk memory is at once all there is.

Invariant a process that ends writes nothing more, and is told of nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mesh.core.events import Millis
from mesh.core.events.work import StoreCommitted
from mesh.sim.stores import ForgetfulStore

if TYPE_CHECKING:
    from mesh.sim.host import Disk
    from mesh.sim.process import Process
    from mesh.sim.world import World

RETRY: Millis = 50  # after a commit for which there was no room


class Writing:
    """Of one process."""

    def __init__(self, process: Process, world: World) -> None:
        self.written: deque[str] = deque()  # on the disk, and the node does not know it yet
        self._process = process
        self._world = world

    def persist(self, name: str, value: bytes) -> bool:
        """True: it is as durable as it will ever be."""
        disk = self._process.host.disk
        if disk is not None and disk.write(name, value):
            self._write(disk)
        return disk is None

    def _write(self, disk: Disk) -> None:
        self._world.at(self._done_at(disk), self._write_done, disk)

    def _done_at(self, disk: Disk) -> Millis:
        return self._world.now + disk.takes(self._world.now, self._process.random)

    def _write_done(self, disk: Disk) -> None:
        if self._process.alive:
            name, more = disk.written()
            self.written.append(name)
            if more:
                self._write(disk)
            self._process.schedule()

    def commit(self, number: int) -> None:
        """As `mesh.runtime.store_thread` does it: what is put so far is covered."""
        disk = self._process.host.disk
        assert disk is not None
        assert disk.store is not None
        self._world.at(self._done_at(disk), self._commit_done, (number, disk.store, disk.store.begin()))

    def _commit_done(self, under_way: tuple[int, ForgetfulStore, int]) -> None:
        number, store, covered = under_way
        if not self._process.alive:
            return
        if store.full:
            self._world.at(self._world.now + RETRY, self._commit_done, under_way)
        else:
            store.commit(covered)
            self._process.post(StoreCommitted(number))
