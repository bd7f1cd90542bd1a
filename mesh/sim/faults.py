"""What is done to a cluster, and how a transcript says it.

A fault begins, lasts, and ends; `lasting` 0 means that nothing remains to be ended. The world is calm when the last one
has ended: from then on the cluster must come right. Who comes and goes on purpose is in `comings`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh.core.events import Millis

if TYPE_CHECKING:
    from mesh.sim.host import Host
    from mesh.sim.world import World

KEPT, OLD, EMPTY = "kept", "old", "empty"  # what is done to a directory before a restart


@dataclass(frozen=True, slots=True)
class Fault:
    at: Millis
    lasting: Millis = 0

    def begin(self, world: World) -> None:
        raise NotImplementedError

    def end(self, world: World) -> None:
        """Nothing, unless the fault lasts."""

    def words(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Crash(Fault):
    """A process ends without a word; what a disk had not finished may be there or not, or torn in two."""

    host: str = ""
    torn: bool = False

    def begin(self, world: World) -> None:
        world.crash(self.host, torn=self.torn)

    def words(self) -> str:
        return f"{self.host} crashes" + (", and its disk tears what it is writing" if self.torn else "")


@dataclass(frozen=True, slots=True)
class BackUp(Fault):
    """Somebody copies a node's directory."""

    host: str = ""

    def begin(self, world: World) -> None:
        disk = world.hosts[self.host].disk
        if disk is not None:
            disk.copy()

    def words(self) -> str:
        return f"the directory of {self.host} is copied"


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """A new process at the old name and address: a new node, which knows only what is on its disk."""

    host: str = ""
    disk: str = KEPT

    def begin(self, world: World) -> None:
        host = world.hosts[self.host]
        if host.disk is not None and host.living() is None:
            put_back = self.disk == OLD and self._may_restore(world, host) and host.disk.restore()
            host.is_old = put_back or (host.is_old and self.disk != EMPTY)
            if self.disk == EMPTY or put_back:
                host.memory += 1
            if self.disk == EMPTY:
                host.disk.empty()
        world.start(self.host)

    def _may_restore(self, world: World, host: Host) -> bool:
        """Of a start of which no table says anything nobody may know: where there are stores, what the one before has
        acknowledged since the copy was made would be lost."""
        latest = host.process
        return world.scenario.stores is None or (latest is not None and latest.id in world.checkers.seated)

    def words(self) -> str:
        with_what = {KEPT: "", OLD: " with an old copy of its directory", EMPTY: " with an empty directory"}
        return f"{self.host} starts again{with_what[self.disk]}"


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """A process is stopped and goes on as if nothing had been; its messages wait."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.pause(self.host, self.lasting)

    def words(self) -> str:
        return f"{self.host} is paused for {self.lasting} ms"


@dataclass(frozen=True, slots=True)
class SlowCode(Fault):
    """The application's code on a node takes seconds a call, and the heart goes on."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.hosts[self.host].slow_code_until = world.now + self.lasting

    def words(self) -> str:
        return f"the application's code is slow on {self.host} for {self.lasting} ms"


@dataclass(frozen=True, slots=True)
class SlowDisk(Fault):
    """What a node wants to keep takes long to be kept."""

    host: str = ""

    def begin(self, world: World) -> None:
        disk = world.hosts[self.host].disk
        if disk is not None:
            disk.slow_until = world.now + self.lasting

    def words(self) -> str:
        return f"the disk of {self.host} is slow for {self.lasting} ms"


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """Nothing gets from some hosts to others; `both`: nor back."""

    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    both: bool = True

    def begin(self, world: World) -> None:
        for pair in self._pairs():
            world.network.cut(pair, world.now)

    def end(self, world: World) -> None:
        for pair in self._pairs():
            world.network.mend(pair, world.now)

    def _pairs(self) -> list[tuple[str, str]]:
        pairs = [(sender, receiver) for sender in self.senders for receiver in self.receivers]
        return pairs + [(receiver, sender) for sender, receiver in pairs] if self.both else pairs

    def words(self) -> str:
        senders, receivers = " ".join(self.senders), " ".join(self.receivers)
        if self.both:
            return f"the network splits for {self.lasting} ms: {senders} | {receivers}"
        return f"nothing gets from {senders} to {receivers} for {self.lasting} ms"


@dataclass(frozen=True, slots=True)
class Torn(Fault):
    """A network in which some pairs do not hear each other, and no two sides can be told apart."""

    shape: str = ""
    pairs: tuple[tuple[str, str], ...] = ()  # from, to

    def begin(self, world: World) -> None:
        for pair in self.pairs:
            world.network.cut(pair, world.now)

    def end(self, world: World) -> None:
        for pair in self.pairs:
            world.network.mend(pair, world.now)

    def words(self) -> str:
        told = " ".join(f"{sender}>{receiver}" for sender, receiver in self.pairs)
        return f"{self.shape} for {self.lasting} ms: nothing goes {told}"


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """A connection is reset: what is on its way in one direction is gone, and the stream goes on."""

    sender: str = ""
    receiver: str = ""

    def begin(self, world: World) -> None:
        world.network.reset((self.sender, self.receiver))

    def words(self) -> str:
        return f"the connection from {self.sender} to {self.receiver} is reset"


@dataclass(frozen=True, slots=True)
class Storm(Fault):
    """The whole network gets worse for a while."""

    lost: int = 300  # of a thousand
    doubled: int = 100
    jitter: Millis = 100

    def begin(self, world: World) -> None:
        before = world.network.conditions
        worse = replace(before, lost=self.lost, doubled=self.doubled, jitter=self.jitter, in_order=False)
        world.network.conditions = worse

    def end(self, world: World) -> None:
        world.network.conditions = world.scenario.conditions

    def words(self) -> str:
        lost, doubled = self.lost / 10, self.doubled / 10
        return f"a storm for {self.lasting} ms: {lost:g} % lost, {doubled:g} % doubled, up to {self.jitter} ms late"
