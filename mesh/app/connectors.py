"""What a source and a sink are. The ones that come with the mesh are in `mesh.connect`; an author may write others.

A source is cut into splits. A split is a stream: it is read in order, by one reader at a time, and an offset that its
reader gave out can be opened again. All nodes must see the same splits under the same names, in the same order.
A sink gives every node a writer of its own, so that no two processes ever write to one file.

Where slots have copies, what a node gave to its writer may be given again, by whoever has the slot next, as long as it
is not known to be in the sink. A sink that can be opened with names is then told the name of each item. Items of one
name are the same item; the numbers of a stream rise, and where they start again lower, these are items given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

LONGEST_LINE = 64 << 20  # bytes; a longer one is not text, and would have to be held in memory

ItemName: TypeAlias = tuple[str, int]  # a stream, and the number in it

T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class ConnectorError(Exception):
    """A source or a sink cannot do its work: one sentence that names what it was given."""


@dataclass(frozen=True, slots=True)
class Split:
    """One stream of a source. `size` is for progress only: bytes, or whatever offsets count; 0 when nobody knows."""

    name: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T_co]):
    """What one read gave. No values and not `ended` means: nothing right now, ask again later."""

    values: list[T_co]
    next_offset: int  # opening the split here gives the records after these
    ended: bool


class Reader(Protocol[T_co]):
    """One open split."""

    def read(self, max_bytes: int) -> Chunk[T_co]: ...

    def close(self) -> None: ...


class Source(Protocol[T_co]):
    """Where records come from."""

    @property
    def endless(self) -> bool:
        """True: it never ends by itself, and a run of it lasts until it is stopped."""
        ...

    @property
    def blocking(self) -> bool:
        """True: a read may wait for as long as it likes, so it needs a thread of its own."""
        ...

    def splits(self) -> list[Split]: ...

    def open(self, split: Split, offset: int) -> Reader[T_co]: ...


class Writer(Protocol[T_contra]):
    """One node's part of a sink."""

    def write(self, items: Sequence[T_contra]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Sink(Protocol[T_contra]):
    """Where results go. A sink whose attribute `discards` is true is never opened, and its items are never made."""

    def open(self, writer: str) -> Writer[T_contra]: ...


class NamedWriter(Writer[T_contra], Protocol[T_contra]):
    """One that is told names. `flush` returns when all that was written before is safely in the sink."""

    def write_named(self, items: Sequence[T_contra], names: Sequence[ItemName]) -> None: ...


@runtime_checkable
class Pausing(Protocol):
    """A writer that can end while its run goes on later: what it knows of names stays known."""

    def pause(self) -> None:
        """In place of `close`."""
        ...


@runtime_checkable
class NamedSink(Protocol[T_contra]):
    """A sink that wants names, where there are any. Items that have none come by `write`."""

    def open_named(self, writer: str) -> NamedWriter[T_contra]: ...


def writer_name(run: str, part: str) -> str:
    """What a node passes to `Sink.open`: `run` is the same on all nodes of a run, `part` is nobody else's."""
    assert "." not in run, run
    return f"{run}.{part}"


def run_of(writer: str) -> str:
    """The run that a writer belongs to: what stands before its first dot, so that names alone tell runs apart."""
    return writer.partition(".")[0]
