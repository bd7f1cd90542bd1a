"""Lines of named items, in parts that are shown whole: a part is what was written between two flushes.

Lines go to a hidden file as they come; a flush makes it a part that readers see, by the rules of `commit_log`. What
another writer of the run has shown by then is left out, so the file may have to be written again; names are all that is
kept in memory for it. Items without names are shown with the rest, whoever has shown what.

Invariants of one stream the numbers in a part rise; a line is one item.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from mesh.app.connectors import ItemName
from mesh.connect.commit_log import CommitLog


class _Part:
    """A file that nobody else knows."""

    def __init__(self, log: CommitLog, name: str) -> None:
        self.name = name
        self.names: list[ItemName | None] = []  # one a line
        self.file: BinaryIO = os.fdopen(log.hidden.create(name), "w+b")

    def write(self, lines: bytes, names: Sequence[ItemName | None]) -> None:
        self.names += names
        self.file.write(lines)
        self.file.write(b"\n")

    def lines(self) -> list[bytes]:
        self.file.seek(0)
        return self.file.read().split(b"\n")[:-1]

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def highest(self) -> dict[str, int]:
        return dict(name for name in self.names if name is not None)  # they rise: the last one stays


class PartsWriter:
    """`stem` begins the names of its parts, and is nobody else's; the first is called `first`. Raises OSError."""

    def __init__(self, log: CommitLog, stem: str, first: str) -> None:
        self._log = log
        self._stem = stem
        self._shown = first
        self._files = 0  # created
        self._parts = 0  # shown
        self._part: _Part | None = None
        self._given: dict[str, int] = {}  # of each stream, the highest in the part

    def write(self, lines: Sequence[str], names: Sequence[ItemName | None]) -> None:
        new = self._new(names)
        if len(new) < len(names):
            lines, names = [lines[place] for place in new], [names[place] for place in new]
        if not names:
            return
        if self._part is None:
            self._part = self._new_part()
        self._part.write("\n".join(lines).encode("utf-8", "backslashreplace"), names)

    def _new(self, names: Sequence[ItemName | None]) -> list[int]:
        """Where those are that are neither shown nor in the part: they may have been given again."""
        given, shown = self._given, self._log.highest
        new = []
        for place, name in enumerate(names):
            if name is not None:
                stream, number = name
                highest = given.get(stream)
                if number <= (shown.get(stream, -1) if highest is None else highest):
                    continue
                given[stream] = number
            new.append(place)
        return new

    def _is_shown(self, name: ItemName | None) -> bool:
        return name is not None and name[1] <= self._log.highest.get(name[0], -1)

    def flush(self) -> None:
        """What was written is shown, by this writer or another."""
        while self._part is not None:
            part = self._left(self._part) if self._log.catch_up() else self._part
            if part is None or self._commit(part):
                self._end_part()

    def _commit(self, part: _Part) -> bool:
        part.sync()
        if not self._log.commit(part.name, self._shown, part.highest()):
            return False
        self._parts += 1
        self._shown = f"{self._stem}~{self._parts + 1}.jsonl"
        return True

    def _left(self, part: _Part) -> _Part | None:
        """What nobody has shown, in a file without the rest."""
        left = [place for place, name in enumerate(part.names) if not self._is_shown(name)]
        if len(left) == len(part.names):
            return part
        lines, names = part.lines(), part.names
        self._discard(part)
        self._part = self._new_part() if left else None
        if self._part is not None:
            self._part.write(b"\n".join([lines[place] for place in left]), [names[place] for place in left])
        return self._part

    def _new_part(self) -> _Part:
        self._files += 1
        return _Part(self._log, f"{self._stem}~{self._files}.part")

    def _discard(self, part: _Part) -> None:
        part.file.close()
        self._log.hidden.remove(part.name)

    def _end_part(self) -> None:
        if self._part is not None:
            self._part.file.close()
        self._part = None
        self._given.clear()

    def pause(self) -> None:
        self.flush()
        self._log.pause()

    def close(self) -> None:
        self.flush()
        self._log.leave()
