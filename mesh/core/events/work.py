"""Between the data plane and its driver: sources, sinks, the store, and what is asked of the data plane from outside.

The driver lists, reads, writes, flushes and commits when the data plane asks for it, and says when that is done. Who
asks from outside gives a ticket, and has one answer under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesh.app.connectors import Split
from mesh.core.events import Effect, Event
from mesh.core.fixed import fixed
from mesh.core.numbers import Numbers


@fixed(frozen=True, slots=True)
class ListSplits(Effect):
    source: int


@fixed(frozen=True, slots=True)
class SplitsListed(Event):
    source: int
    splits: Sequence[Split]


@fixed(frozen=True, slots=True)
class ReadSplit(Effect):
    source: int
    split: Split
    offset: int
    most_bytes: int  # about so much at once


@fixed(frozen=True, slots=True)
class SplitRead(Event):
    source: int
    split: Split
    values: list[Any]
    next_offset: int
    ended: bool


@fixed(frozen=True, slots=True)
class WriteSink(Effect):
    """With `names` an item may be given again, under its name; of all of them the driver says `SinkWritten`."""

    sink: int
    items: list[Any]
    names: Numbers | None = None  # one an item


@fixed(frozen=True, slots=True)
class SinkWritten(Event):
    """The first `count` items of those that have been given to a sink, and not been told of yet, are safely in it."""

    sink: int
    count: int


@fixed(frozen=True, slots=True)
class FlushSinks(Effect):
    """Nothing more will come: flush and close; the answer is SinksFlushed."""


@fixed(frozen=True, slots=True)
class SinksFlushed(Event):
    pass


@fixed(frozen=True, slots=True)
class CommitStore(Effect):
    """Make durable what has been put into the store, on a thread that may wait; on TryAgain again, a little later. The
    answer is StoreCommitted with this number; the next one is asked for only after that."""

    number: int


@fixed(frozen=True, slots=True)
class StoreCommitted(Event):
    """All that was put before `CommitStore` with this number is durable."""

    number: int


@fixed(frozen=True, slots=True)
class JobDone(Effect):
    """Every worker has read, applied and flushed everything."""


@fixed(frozen=True, slots=True)
class LookupAsked(Event):
    """Somebody at this node wants to read a key's state; `ticket` is handed back in `Answered`."""

    ticket: int
    stage: str
    key: Any


@fixed(frozen=True, slots=True)
class ListingAsked(Event):
    """Somebody at this node wants the next keys of a stage, of the whole cluster, after a position (see places)."""

    ticket: int
    stage: str
    position: tuple[int, tuple[Any, ...]]
    limit: int


@fixed(frozen=True, slots=True)
class LinesPosted(Event):
    """A producer sent lines for a source by HTTP; `Answered` says when all that came of them has been applied."""

    ticket: int
    source: str
    values: list[Any]
    producer: str = ""  # its name, if it has one
    first: int = 0  # seq of the first line
    digests: Sequence[int] = ()  # of each line, if the producer has a name


@fixed(frozen=True, slots=True)
class RecordAsked(Event):
    """Somebody gives one record straight to the owner of a key and wants the stage's outputs, in `Answered`."""

    ticket: int
    stage: str
    key: Any
    value: Any


@fixed(frozen=True, slots=True)
class Answered(Effect):
    """The answer to a ticket; `state` is JSON text when the outcome is `found`."""

    ticket: int
    outcome: str  # found | absent | unavailable | unknown-stage
    state: bytes = b""


@fixed(frozen=True, slots=True)
class Listed(Effect):
    """The answer to a ticket."""

    ticket: int
    outcome: str  # found | unavailable | unknown-stage
    keys: Sequence[Any] = ()
    next: tuple[int, tuple[Any, ...]] | None = None  # None: these are the last ones
    why: str = ""  # unavailable
