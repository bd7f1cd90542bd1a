"""Writers of one directory that take turns at every operation on it: any order of theirs, by seed, and any ends.

A writer works in a thread of its own, which waits before each operation until it is told to go on; so one runs at a
time, and who is never told again has died there. The world around them is what the core promises: each stream has an
owner, whoever becomes it is given all items that are not known to be in the sink, and who was it may not have heard.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Protocol

import mesh
from mesh.connect.folder import Folder

RUN = "run1"


class Ended(BaseException):
    """Whoever has died does nothing more."""


class Held(Protocol):
    def pause(self) -> None: ...


class Actor:
    """One writer. `step` lets it do one operation, or begin the next thing on its list."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.todo: deque[Callable[[], None]] = deque()
        self.alive = True
        self.opened = False
        self.leaving = False
        self.busy = False
        self.failure: BaseException | None = None
        self.given: list[tuple[str, int]] = []  # since the last flush began
        self.writer: Any = None
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.todo.append(lambda: self._open(directory))
        self._thread.start()

    def _open(self, directory: Path) -> None:
        sink = mesh.jsonl(directory)
        sink.folders = lambda path: HeldFolder(path, self)
        self.writer = sink.open_named(f"{RUN}.{self.name}")
        self.opened = True

    def _run(self) -> None:
        try:
            while True:
                self.pause()
                if self.todo:
                    self.busy = True
                    self.todo.popleft()()
                    self.busy = False
        except Ended:
            pass
        except BaseException as error:
            self.failure = error
        self.alive = False
        self._paused.release()

    def pause(self) -> None:
        """From its own thread."""
        if self.alive:
            self._paused.release()
            self._go.acquire()
        if not self.alive:
            raise Ended

    def step(self) -> None:
        self._paused.acquire()
        self._go.release()
        self._paused.acquire()
        self._paused.release()
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Now, wherever it is."""
        self._paused.acquire()
        self.alive = False
        self._go.release()
        self._thread.join()


class HeldFolder(Folder):
    """It says `pause` before everything that others can see, or that sees others."""

    def __init__(self, path: Path, actor: Held) -> None:
        actor.pause()
        super().__init__(path)
        self._actor = actor

    def create(self, name: str) -> int:
        self._actor.pause()
        return super().create(name)

    def read(self, name: str) -> bytes | None:
        self._actor.pause()
        return super().read(name)

    def link(self, name: str, as_name: str) -> bool:
        self._actor.pause()
        return super().link(name, as_name)

    def move(self, name: str, to: Folder, as_name: str) -> None:
        self._actor.pause()
        super().move(name, to, as_name)

    def replace(self, name: str, empty: str) -> bool:
        self._actor.pause()
        return super().replace(name, empty)

    def make(self, name: str) -> None:
        self._actor.pause()
        super().make(name)

    def remove(self, name: str) -> None:
        self._actor.pause()
        super().remove(name)

    def remove_empty(self, name: str) -> bool:
        self._actor.pause()
        return super().remove_empty(name)

    def names(self) -> list[str]:
        self._actor.pause()
        return super().names()

    def sync(self) -> None:
        """Nobody sees it."""


class World:
    """Owners, and what they give."""

    def __init__(self, directory: Path, seed: int, *, deaths: bool = True) -> None:
        self.directory = directory
        self.random = Random(seed)
        self.deaths = 2 if deaths else 0
        self.died = 0
        self.actors: list[Actor] = []
        self.owner: dict[str, Actor | None] = dict.fromkeys("xyz")
        self.made = dict.fromkeys("xyz", 0)
        self.over = dict.fromkeys("xyz", 0)
        for _ in range(3):
            self.join()

    def join(self) -> None:
        self.actors.append(Actor(f"w{len(self.actors)}", self.directory))

    def there(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.alive and actor.opened and not actor.leaving]

    def run(self, steps: int) -> None:
        try:
            for _ in range(steps):
                self.something()
            self.finish()
        finally:
            for actor in self.actors:
                if actor.alive:
                    actor.end()

    def something(self) -> None:
        living = [actor for actor in self.actors if actor.alive]
        chance = self.random.random()
        if chance < 0.12:
            self.make(self.random.choice("xyz"))
        elif chance < 0.16:
            self.move(self.random.choice("xyz"))
        elif chance < 0.22 and self.there():
            self.flush(self.random.choice(self.there()))
        elif chance < 0.235 and self.deaths and len(living) > 1:
            self.deaths -= 1
            self.died += 1
            self.random.choice(living).end()
        elif chance < 0.245 and len(self.actors) < 8:
            self.join()
        elif chance < 0.255 and self.there():
            self.leave(self.random.choice(self.there()))
        elif living:
            actor = self.random.choice(living[-2:] if self.random.random() < 0.7 else living)
            for _ in range(self.random.choice((1, 1, 1, 5, 30))):
                if actor.alive:
                    actor.step()

    def make(self, stream: str) -> None:
        owner = self.owner[stream]
        if owner is None or not owner.alive or owner.leaving:
            self.move(stream)
            owner = self.owner[stream]
        if owner is not None and owner.alive:
            start = self.made[stream]
            self.made[stream] += self.random.randint(1, 3)
            self.give(owner, stream, start)

    def move(self, stream: str) -> None:
        """Its former owner, if it lives, still writes what it has."""
        there = self.there()
        self.owner[stream] = owner = self.random.choice(there) if there else None
        if owner is not None:
            self.give(owner, stream, self.over[stream])

    def give(self, owner: Actor, stream: str, start: int) -> None:
        items = list(range(start, self.made[stream]))

        def write() -> None:
            names = [(stream, number) for number in items]
            owner.given += names
            owner.writer.write_named([[stream, number] for number in items], names)

        owner.todo.append(write)

    def flush(self, actor: Actor, then: Callable[[], None] | None = None) -> None:
        def flush() -> None:
            given, actor.given = actor.given, []
            actor.writer.flush()
            for stream, number in given:
                self.over[stream] = max(self.over[stream], number + 1)
            if then is not None:
                then()

        actor.todo.append(flush)

    def leave(self, actor: Actor) -> None:
        def close() -> None:
            actor.writer.close()
            raise Ended

        actor.leaving = True
        self.flush(actor, close)

    def finish(self) -> None:
        """Nobody dies any more; all is given out, by new owners where the old ones have ended."""
        if not self.there():
            self.join()
        self.settle()
        for stream in "xyz":
            owner = self.owner[stream]
            if owner is None or not owner.alive or owner.leaving:
                self.move(stream)
        for actor in self.there():
            self.flush(actor)
        self.settle()
        assert self.over == self.made
        for actor in self.there():
            self.leave(actor)
        self.settle()

    def settle(self) -> None:
        while working := [actor for actor in self.actors if actor.alive and (actor.todo or actor.busy)]:
            self.random.choice(working).step()
