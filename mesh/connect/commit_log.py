"""The order in which the writers of one run show their parts in a directory, and what each part holds.

Why       A node gives items to its writer and dies, or is thought dead and goes on later. Whoever has its slots then
          gives these items to another writer, under the same names. Each item must come to be seen once, whoever of
          the two is first, and whatever the other was just doing.
How       All writers share one log: a hidden folder in which commit n is a file that is called n, made by a hard link,
          so that exactly one of several who try gets it, and whole. A commit says which hidden part it shows, under
          which name, and the highest number in it of each stream. Who wants commit n has read all before it, and left
          out of its part whatever these hold. So no name is in two commits, and nobody need be known to be dead, be
          locked out, or be waited for: who was late reads on, and leaves out what others have shown meanwhile.
States    of a part: hidden, nobody else knows of it -> committed, named by a commit -> shown, moved to where readers
          look. Whoever reads a commit moves its part, if that has not been done; who comes second finds nothing to
          move. Only then is what it holds left out elsewhere, so that is seen, though its writer died.
Asked of  who gives items to a writer: the numbers of a stream rise, and start at or below the lowest one that is not
          known to be in the sink. Where they start again lower, these are the same items.
Long runs Each WHOLE-th commit says the highest numbers of all streams so far, and empties those before it. Who finds an
          empty one goes on from the newest whole one. A name is never free again, or a late writer could take it.
The end   A writer signs in, in the folder `writers`, and signs out. `writers` can be removed only when nobody is in it,
          and who has removed it removes the rest. Without `writers` a log is closed for good: who comes then empties
          it, too, and puts a new one in its place, which works only if it is empty. Where a writer died, all stays;
          and where all have paused, until somebody comes and leaves.

Invariants no name is in two commits; what a flush has returned for is shown; a commit is on the disk before its part is
          shown, and a part before its commit; who has signed in finds the log of all others who have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mesh.connect.folder import Folder

WHOLE = 128
TRIES = 100  # to get into a folder that others leave and remove just then
Folders: TypeAlias = Callable[[Path], Folder]


class CommitLog:
    """One writer's sight of it. `directory` is there; `writer` is nobody else's there."""

    def __init__(self, directory: Path, run: str, writer: str, folders: Folders = Folder) -> None:
        self.highest: dict[str, int] = {}  # of each stream: what is at or below it is shown
        self.writer = writer
        self._path = directory / f".{run}"
        self._folders = folders
        self.shown = folders(directory)
        self.hidden = self._signed_in()
        self._next = max(1, self._newest_whole())

    # -- who is there

    def _signed_in(self) -> Folder:
        for _ in range(TRIES):
            try:
                hidden = self._folders(self._path)
            except FileNotFoundError:
                self._begin()
                continue
            if self._sign_in(hidden):
                return hidden
            _empty(hidden)
            hidden.close()
            self._begin()
        raise OSError(0, "other writers come and go all the time")

    def _sign_in(self, hidden: Folder) -> bool:
        """By a link, so that where there are none that is told at the start. False: it is closed."""
        try:
            hidden.write(f"{self.writer}.writer", b"")
            return hidden.link(f"{self.writer}.writer", f"writers/{self.writer}")
        except FileNotFoundError:
            return False
        finally:
            hidden.remove(f"{self.writer}.writer")

    def _begin(self) -> None:
        """An empty log, unless there is one."""
        fresh = f"{self._path.name}.{self.writer}"
        self.shown.make(fresh)
        self.shown.make(f"{fresh}/writers")
        if not self.shown.replace(fresh, self._path.name):
            self.shown.remove_empty(f"{fresh}/writers")
            self.shown.remove_empty(fresh)

    def pause(self) -> None:
        """Not by this writer, but the run goes on some time: whoever comes then finds the log."""
        self.hidden.remove(f"writers/{self.writer}")
        self.hidden.close()
        self.shown.close()

    def leave(self) -> None:
        """Nothing will be committed here any more."""
        self.hidden.remove(f"writers/{self.writer}")
        if self.hidden.remove_empty("writers"):
            _empty(self.hidden)
            self.shown.remove_empty(self._path.name)
        self.hidden.close()
        self.shown.close()

    # -- what they have shown

    def catch_up(self) -> bool:
        """Know of all commits, and see to it that their parts are shown. True: there were new ones."""
        first = self._next
        while (content := self.hidden.read(str(self._next))) is not None:
            if not content:
                self._next = self._newest_whole()
                continue
            commit = json.loads(content)
            self._show(commit)
            self._learn(commit["highest"])
            self._next += 1
        if self._next != first:
            self.shown.sync()  # who moved them may have died before it did
        return self._next != first

    def commit(self, part: str, shown: str, highest: Mapping[str, int]) -> bool:
        """Show a part that is on the disk; False: others were faster, catch up first."""
        commit = {"part": part, "shown": shown, "highest": dict(highest)}
        if self._next % WHOLE == 0:
            commit["highest"] = {**self.highest, **highest}
        name = f"{part}.commit"
        self.hidden.write(name, json.dumps(commit).encode())
        self.hidden.sync()  # the part's name, too
        taken = not self.hidden.link(name, str(self._next))
        self.hidden.remove(name)
        if taken:
            return False
        self.hidden.sync()
        self._show(commit)
        self.shown.sync()
        self._learn(highest)
        self._next += 1
        if (self._next - 1) % WHOLE == 0:
            self._empty_before(self._next - 1)
        return True

    def _show(self, commit: dict[str, Any]) -> None:
        self.hidden.move(commit["part"], self.shown, commit["shown"])

    def _learn(self, highest: Mapping[str, int]) -> None:
        for stream, number in highest.items():
            if number > self.highest.get(stream, -1):
                self.highest[stream] = number

    # -- long runs

    def _newest_whole(self) -> int:
        numbers = [int(name) for name in self.hidden.names() if name.isdecimal()]
        return max((number for number in numbers if number % WHOLE == 0), default=0)

    def _empty_before(self, whole: int) -> None:
        for number in range(max(1, whole - WHOLE), whole):
            name = f"{self.writer}.empty"
            self.hidden.write(name, b"")
            self.hidden.move(name, self.hidden, str(number))


def _empty(folder: Folder) -> None:
    for name in folder.names():
        folder.remove(name)
