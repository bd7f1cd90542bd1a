"""The book of all records: what each consumer is owed, in which order, and what it has got.

A consumer is a stage or a sink. Within (consumer, stream, key) the records must arrive exactly in the order in which
they were sent, each once, none left out; what is owed when a job says that it is done is lost. All of this is noted
where the application itself runs, so it is about what the author sees, not about what the mesh says of itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mesh.core.messages import NodeId
from mesh.sim.violation import Violation
from mesh.sim.workload import OUT, RAISES, Line, Record, Workload

Consumer: TypeAlias = int | str  # a stage's place, or a sink's name


@dataclass(slots=True)
class Owed:
    """What one consumer has not got yet of one stream and key."""

    producer: NodeId
    seqs: deque[int] = field(default_factory=deque)
    last: int = -1  # the last that arrived


class Ledger:
    """Noted by the instruments of every node; violations wait in `found`, since the core would take them for the
    application's own errors."""

    def __init__(self, workload: Workload) -> None:
        self.found: list[Violation] = []
        self.owed: dict[tuple[Consumer, str, Any], Owed] = {}
        self.sent = 0
        self.arrived = 0
        self.set_aside = 0
        self._workload = workload
        self._readers: dict[str, tuple[NodeId, int]] = {}  # stream -> who reads it, next offset

    def complete(self) -> bool:
        """Everything was read, and everybody has got what they are owed."""
        return self.sent == self.arrived and self.everything_read()

    def everything_read(self) -> bool:
        return all(self._is_read(f"{source}/{split}", len(lines)) for source, split, lines in self._splits())

    def _splits(self) -> list[tuple[int, int, Sequence[Line]]]:
        sources = enumerate(self._workload.sources)
        return [(source, split, lines) for source, splits in sources for split, lines in enumerate(splits)]

    def _is_read(self, stream: str, lines: int) -> bool:
        return stream in self._readers and self._readers[stream][1] == lines

    def level_of(self, stream: str) -> int:
        """The level of a stream's producer: 0 for a source, else its stage's."""
        place, separator, _ = stream.partition(":")
        return int(place) + 1 if separator else 0

    # -- what happens

    def reading(self, reader: NodeId, stream: str, offset: int, lines: Sequence[Line]) -> None:
        """A split has one reader, who leaves nothing out."""
        known, expected = self._readers.setdefault(stream, (reader, 0))
        if known != reader:
            self._fault("E5", f"split {stream} is read by two nodes")
        if offset != expected:
            self._fault("E5", f"split {stream} is read from line {offset}, and {expected} was the next")
        self._readers[stream] = (reader, offset + len(lines))
        for name, first, numbers in lines:
            for place, number in enumerate(numbers):
                self._give(-1, reader, name, first + place, number)

    def stepping(self, worker: NodeId, stage: int, record: Record, count: int) -> None:
        """A stage works on a record; what it gives out is owed to the next."""
        stream, seq, number = record
        key = self._workload.key(stage, number)
        self._take(stage, stream, key, seq)
        fate = self._workload.fate(stage, number)
        if fate == RAISES:
            self.set_aside += 1
        elif fate == OUT:
            self._give(stage, worker, self._workload.stream(stage, key), count, number)

    def writing(self, sink: str, items: Sequence[Any]) -> None:
        stage = len(self._workload.stages) - 1 if sink == "last" else 0
        for item in items:
            if stage < 0:
                self._take(sink, item[0], None, item[1])
            else:
                self._take(sink, self._workload.stream(stage, item[0]), None, item[1][0])

    # -- bookkeeping

    def _give(self, stage: int, producer: NodeId, stream: str, seq: int, number: int) -> None:
        for sink in self._workload.sinks(stage):
            self._owe(sink, producer, stream, None, seq)
        following = stage + 1
        if following < len(self._workload.stages):
            if self._workload.has_key(following, number):
                self._owe(following, producer, stream, self._workload.key(following, number), seq)
            elif self._workload.key(following, number) is not None:
                self.set_aside += 1

    def _owe(self, consumer: Consumer, producer: NodeId, stream: str, key: Any, seq: int) -> None:
        owed = self.owed.get((consumer, stream, key))
        if owed is None:
            owed = self.owed[consumer, stream, key] = Owed(producer)
        owed.seqs.append(seq)
        self.sent += 1

    def _take(self, consumer: Consumer, stream: str, key: Any, seq: int) -> None:
        owed = self.owed.get((consumer, stream, key))
        if owed is None or seq not in owed.seqs:
            last = -1 if owed is None else owed.last
            what = "again" if 0 <= seq <= last else "though nobody sent it"
            self._fault("I8", f"{_named(consumer)} got record {seq} of {stream} (key {key!r}) {what}")
            return
        if owed.seqs[0] != seq:
            self._fault("I9", f"{_named(consumer)} got record {seq} of {stream} (key {key!r}) before {owed.seqs[0]}")
        owed.seqs.remove(seq)
        owed.last = max(owed.last, seq)
        self.arrived += 1

    def _fault(self, rule: str, detail: str) -> None:
        self.found.append(Violation(rule, detail))


def _named(consumer: Consumer) -> str:
    return f"sink {consumer}" if isinstance(consumer, str) else f"stage {consumer}"
