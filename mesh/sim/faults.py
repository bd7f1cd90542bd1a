"""What is done to a cluster, and how a transcript says it.

A fault begins, lasts, and ends; `lasting` 0 means that nothing remains to be ended. The world is calm when the last one
has ended: from then on the cluster must come right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mesh.core.events import Millis

if TYPE_CHECKING:
    from mesh.sim.world import World


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
    """A process ends without a word; what a disk had not finished may be there or not."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.crash(self.host)

    def words(self) -> str:
        return f"{self.host} crashes"


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """A new process at the old name and address: a new node, which knows only what is on its disk."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.start(self.host)

    def words(self) -> str:
        return f"{self.host} starts again"


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """A process is stopped and goes on as if nothing had been; its messages wait."""

    host: str = ""

    def begin(self, world: World) -> None:
        world.pause(self.host, world.now + self.lasting)

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
        world.hosts[self.host].slow_disk_until = world.now + self.lasting

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
            world.network.cut(pair)

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
