"""The book of all records: what each consumer is owed, in which order, and what it has got.

A consumer is a stage or a sink. Within (consumer, stream, key) the records must arrive exactly in the order in which
they were sent, each once, none left out; what is owed when a job says that it is done is lost. All of this is noted
where the application itself runs, so it is about what the author sees, not about what the mesh says of itself.
"""

from __future__ import annotations

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

    seqs: dict[int, NodeId] = field(default_factory=dict)  # in the order of sending; who gave it out
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
        self.applied: dict[tuple[int, Any], int] = {}  # stage and key -> records that have changed its state
        self._next_offset: dict[str, int] = {}  # of a stream, whoever reads it
        self._readers: dict[str, list[NodeId]] = {}  # of a stream, one after the other

    def complete(self) -> bool:
        """Everything was read, and everybody has got what they are owed."""
        return self.sent == self.arrived and self.everything_read()

    def everything_read(self) -> bool:
        return all(self._is_read(f"{source}/{split}", len(lines)) for source, split, lines in self._splits())

    def _splits(self) -> list[tuple[int, int, Sequence[Line]]]:
        sources = enumerate(self._workload.sources)
        return [(source, split, lines) for source, splits in sources for split, lines in enumerate(splits)]

    def _is_read(self, stream: str, lines: int) -> bool:
        return self._next_offset.get(stream) == lines

    def readers(self, stream: str) -> list[NodeId]:
        return self._readers.get(stream, [])

    def level_of(self, stream: str) -> int:
        """The level of a stream's producer: 0 for a source, else its stage's."""
        place, separator, _ = stream.partition(":")
        return int(place) + 1 if separator else 0

    def least(self, stage: int, key: Any) -> int:
        """How many records of a key have been applied, wherever that was."""
        return self.applied.get((stage, key), 0)

    most = least

    def shown(self, stage: int, key: Any, count: int) -> None:
        """Somebody has read this state."""

    def acknowledged(self, stage: int, stream: str, seq: int, number: int) -> bool:
        """A sender is told that it need not keep this record any more."""
        owed = self.owed.get((stage, stream, self._workload.key(stage, number)))
        return owed is not None and seq not in owed.seqs

    def lacking(self, producer: NodeId, level: int) -> str | None:
        """What somebody still lacks that this node gave out below a level."""
        found = [
            f"{consumer} lacks {stream}"
            for (consumer, stream, _), owed in self.owed.items()
            if producer in owed.seqs.values() and self.level_of(stream) < level
        ]
        return found[0] if found else None

    # -- what happens

    def reading(self, reader: NodeId, stream: str, offset: int, lines: Sequence[Line]) -> None:
        """A split has one reader at a time, and nothing is left out or read twice when it changes its reader."""
        expected = self._next_offset.get(stream, 0)
        if offset != expected:
            self._fault("E5", f"split {stream} is read from line {offset}, and {expected} was the next")
        self._next_offset[stream] = offset + len(lines)
        readers = self._readers.setdefault(stream, [])
        if not readers or readers[-1] != reader:
            readers.append(reader)
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
            return
        self.applied[stage, key] = count
        if fate == OUT:
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
            owed = self.owed[consumer, stream, key] = Owed()
        owed.seqs[seq] = producer
        self.sent += 1

    def _take(self, consumer: Consumer, stream: str, key: Any, seq: int) -> None:
        owed = self.owed.get((consumer, stream, key))
        if owed is None or seq not in owed.seqs:
            last = -1 if owed is None else owed.last
            what = "again" if 0 <= seq <= last else "though nobody sent it"
            self._fault("I8", f"{_named(consumer)} got record {seq} of {stream} (key {key!r}) {what}")
            return
        first = next(iter(owed.seqs))
        if first != seq:
            self._fault("I9", f"{_named(consumer)} got record {seq} of {stream} (key {key!r}) before {first}")
        del owed.seqs[seq]
        owed.last = max(owed.last, seq)
        self.arrived += 1

    def _fault(self, rule: str, detail: str) -> None:
        self.found.append(Violation(rule, detail))


def _named(consumer: Consumer) -> str:
    return f"sink {consumer}" if isinstance(consumer, str) else f"stage {consumer}"
