"""Records that the program already has: for tests, examples and first steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from mesh.app.connectors import Chunk, Split

T = TypeVar("T")
BYTES_AN_ITEM = 64  # a guess: the memory of items is the author's, only the work of one read must be bounded


class _Items(Generic[T]):
    endless = False
    blocking = False

    def __init__(self, items: Iterable[T], splits: int) -> None:
        self.items = list(items)
        self.count = max(1, splits)

    def __repr__(self) -> str:
        return f"mesh.items({len(self.items)} items)"

    def splits(self) -> list[Split]:
        return [Split(f"items-{number}", len(self._part(number))) for number in range(self.count)]

    def open(self, split: Split, offset: int) -> _ItemsReader[T]:
        return _ItemsReader(self._part(int(split.name.removeprefix("items-"))), offset)

    def _part(self, number: int) -> list[T]:
        size = len(self.items)
        return self.items[size * number // self.count : size * (number + 1) // self.count]


class _ItemsReader(Generic[T]):
    def __init__(self, items: list[T], offset: int) -> None:
        self.items = items
        self.offset = offset

    def read(self, max_bytes: int) -> Chunk[T]:
        end = self.offset + max(1, max_bytes // BYTES_AN_ITEM)
        values = [item for item in self.items[self.offset : end] if item is not None]
        self.offset = min(end, len(self.items))
        return Chunk(values, self.offset, self.offset == len(self.items))

    def close(self) -> None:
        pass


def items(iterable: Iterable[T], *, splits: int = 1) -> _Items[T]:
    """A source of the items of `iterable`, cut into so many consecutive parts."""
    return _Items(iterable, splits)
