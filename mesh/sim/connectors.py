"""Where the watched application reads and writes: lines in memory, a door for what is posted, a sink that tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh.app.connectors import Chunk, Split

if TYPE_CHECKING:
    from mesh.sim.workload import Line, Observer, Workload


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Lines in memory; a chunk is a random number of them, and now and then there is nothing right now."""

    workload: Workload
    place: int
    observer: Observer
    endless = False
    blocking = False

    def splits(self) -> list[Split]:
        splits = self.workload.sources[self.place]
        return [Split(f"{self.place}/{number}", len(lines)) for number, lines in enumerate(splits)]

    def open(self, split: Split, offset: int) -> _Reader:
        lines = self.workload.sources[self.place][int(split.name.partition("/")[2])]
        return _Reader(self, split.name, lines, offset)


@dataclass(frozen=True, slots=True)
class Door:
    """As `mesh.http`, but a job may end beside it: what is posted then is not taken any more."""

    endless = False
    blocking = False
    takes_posts = True

    def splits(self) -> list[Split]:
        return []

    def open(self, split: Split, offset: int) -> _Reader:
        raise LookupError("nothing to read")


class _Reader:
    def __init__(self, source: MadeUp, stream: str, lines: tuple[Line, ...], offset: int) -> None:
        self._observer = source.observer
        self._most = source.workload.chunk_lines
        self._stream = stream
        self._lines = lines
        self._offset = offset

    def read(self, max_bytes: int) -> Chunk[Line]:
        random = self._observer.random()
        start = self._offset
        self._offset = min(start + random.choice((0, 1, self._most // 2, self._most, self._most)), len(self._lines))
        lines = list(self._lines[start : self._offset])
        self._observer.reading(self._stream, start, lines)
        return Chunk(lines, self._offset, self._offset == len(self._lines))

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Watched:
    name: str
    observer: Observer

    def open(self, writer: str) -> _Writer:
        return _Writer(self)


@dataclass(frozen=True, slots=True)
class _Writer:
    sink: Watched

    def write(self, items: Sequence[Any]) -> None:
        self.sink.observer.writing(self.sink.name, items)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
