"""The book of all records where slots have copies: owners die, and what they did comes again, under the same names.

The application may see a record more than once, as a later owner goes on from a copy that has not heard of the last of
what the former one did; and a sink may be given an item again. What must hold is what counts (see `branches`): in the
state of every key each record once, none left out, and within each stream in the order of sending; nothing that anybody
has seen is ever taken back. Who reads a split again reads on from no later than where others stopped.

Wherever the application runs an exception would be taken for its own: what is found waits in `found`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mesh.core.messages import NodeId
from mesh.sim.branches import Branches
from mesh.sim.violation import Violation
from mesh.sim.workload import OUT, RAISES, Line, Record, Workload

_Place = tuple[int, Any]  # stage and key


class KeptLedger:
    """`reign_of` says under which reign a worker has a key now, as far as it knows."""

    def __init__(self, workload: Workload, reign_of: Callable[[NodeId, Any], int]) -> None:
        self.found: list[Violation] = []
        self.sent = sum(len(_kept(workload, sink)) for sink in _sinks(workload))
        self.arrived = 0  # at sinks, each item once
        self.again = 0  # items that sinks were given before
        self.set_aside = 0
        self._workload = workload
        self._reign_of = reign_of
        self._branches: dict[_Place, Branches] = {}
        self._makers: dict[str, _Place] = {}  # of a stage's stream
        self._read: dict[str, int] = {}  # of a split: how far anybody has come
        self._readers: dict[str, list[NodeId]] = {}
        self._before: dict[tuple[str, int, Any], dict[int, int]] = {}  # of a split, for a key of the first stage
        self._written: dict[tuple[str, str], int] = {}  # sink and stream -> the last

    # -- what is the case

    def complete(self) -> bool:
        """Everything was read, every state is that of a single process, and every item is in its sink."""
        return self.everything_read() and self.arrived == self.sent and self._states_are_whole()

    def everything_read(self) -> bool:
        splits = [(f"{source}/{split}", len(lines)) for source, split, lines in _splits(self._workload)]
        return all(self._read.get(name) == lines for name, lines in splits)

    def _states_are_whole(self) -> bool:
        for stage, expected in enumerate(self._workload.expected()):
            found = {key: branches for (place, key), branches in self._branches.items() if place == stage}
            if any(key not in found or len(found[key].newest()) != count for key, (count, _) in expected.items()):
                return False
        return True

    def readers(self, stream: str) -> list[NodeId]:
        return self._readers.get(stream, [])

    def least(self, stage: int, key: Any) -> int:
        """How many records of a key somebody knows to count."""
        return len(self._at(stage, key).committed)

    def most(self, stage: int, key: Any) -> int:
        return self._at(stage, key).longest()

    def shown(self, stage: int, key: Any, count: int) -> None:
        """Somebody has read this state. Raises Violation."""
        if count:
            self._at(stage, key).seen(count)

    def acknowledged(self, stage: int, stream: str, seq: int, number: int) -> bool:
        """A sender is told that it need not keep this record any more. Raises Violation."""
        if not self._workload.has_key(stage, number) or self._workload.fate(stage, number) == RAISES:
            return True
        return self._at(stage, self._workload.key(stage, number)).answered((stream, seq, number))

    def lacking(self, producer: NodeId, level: int) -> str | None:
        """What a node gave out and nobody has is in the copies of its slots."""
        return None

    # -- what happens

    def reading(self, reader: NodeId, stream: str, offset: int, lines: Sequence[Line]) -> None:
        furthest = self._read.get(stream, 0)
        if offset > furthest:
            self._fault("E5", f"split {stream} is read from line {offset}, and nobody has come further than {furthest}")
        self._read[stream] = max(furthest, offset + len(lines))
        readers = self._readers.setdefault(stream, [])
        if not readers or readers[-1] != reader:
            readers.append(reader)

    def stepping(self, worker: NodeId, stage: int, record: Record, count: int) -> None:
        """`count`: as many as the state will have taken with this one."""
        key = self._workload.key(stage, record[2])
        try:
            self._step(self._reign_of(worker, key), stage, key, record, count)
        except Violation as violation:
            self.found.append(violation)

    def _step(self, reign: int, stage: int, key: Any, record: Record, count: int) -> None:
        branches = self._at(stage, key)
        state = branches.state(reign, count - 1)
        if stage:
            self._seen_by_the_next(record)
        if self._workload.fate(stage, record[2]) == RAISES:
            self.set_aside += 1
            return
        last = max((seq for stream, seq, _ in state if stream == record[0]), default=-1)
        before = self._one_before(stage, key, record)
        if last != before:
            rule, how = ("I8", "again") if last >= record[1] else ("I9", f"after {last}, where {before} belongs")
            raise Violation(rule, f"stage {stage} takes record {record[1]} of {record[0]} (key {key!r}) {how}")
        branches.take(reign, count - 1, record)

    def _seen_by_the_next(self, record: Record) -> None:
        """What a stage is given is what the stage before has committed."""
        stream, seq, number = record
        if stream not in self._makers:
            raise Violation("I8", f"record {seq} of {stream} comes, and nobody ever gave anything out there")
        maker = self._branches[self._makers[stream]]
        maker.seen(seq)
        if maker.committed[seq - 1][2] != number:
            raise Violation("I5", f"record {seq} of {stream} is {number}, and {maker.committed[seq - 1][2]} counts")

    def _one_before(self, stage: int, key: Any, record: Record) -> int:
        """The record's forerunner in its stream, of those that this key takes; none: -1."""
        stream, seq, _ = record
        if stage == 0:
            return self._of_split(stream, key).get(seq, -2)
        made = self._branches[self._makers[stream]].committed[: seq - 1]
        found = [
            place + 1
            for place, (_, _, number) in enumerate(made)
            if self._passes(stage - 1, number) and self._takes(stage, key, number)
        ]
        return found[-1] if found else -1

    def _of_split(self, stream: str, key: Any) -> dict[int, int]:
        """seq -> the one before, for a key of the first stage."""
        if (stream, 0, key) not in self._before:
            numbers = [
                (first + place, number)
                for source, split, lines in _splits(self._workload)
                if f"{source}/{split}" == stream
                for _, first, line in lines
                for place, number in enumerate(line)
            ]
            taken = [seq for seq, number in numbers if self._takes(0, key, number)]
            self._before[stream, 0, key] = dict(zip(taken, [-1, *taken], strict=False))
        return self._before[stream, 0, key]

    def _takes(self, stage: int, key: Any, number: int) -> bool:
        work = self._workload
        return work.has_key(stage, number) and work.key(stage, number) == key and work.fate(stage, number) != RAISES

    def _passes(self, stage: int, number: int) -> bool:
        return self._workload.fate(stage, number) == OUT

    def writing(self, sink: str, items: Sequence[Any]) -> None:
        stage = _stage_of(self._workload, sink)
        for item in items:
            try:
                if stage < 0:
                    self._write(sink, item[0], item[1], item[1] - 1)
                else:
                    self._write_output(sink, stage, item[0], item[1])
            except Violation as violation:
                self.found.append(violation)

    def _write_output(self, sink: str, stage: int, key: Any, shown: Any) -> None:
        stream, seq = self._workload.stream(stage, key), shown[0]
        maker = self._at(stage, key)
        maker.seen(seq)
        before = [place + 1 for place, each in enumerate(maker.committed[: seq - 1]) if self._passes(stage, each[2])]
        self._write(sink, stream, seq, before[-1] if before else -1)

    def _write(self, sink: str, stream: str, seq: int, before: int) -> None:
        last = self._written.get((sink, stream), -1)
        if seq <= last:
            self.again += 1
            return
        if before != last:
            raise Violation("I9", f"sink {sink} gets item {seq} of {stream} after {last}, where {before} belongs")
        self._written[sink, stream] = seq
        self.arrived += 1

    # -- bookkeeping

    def _at(self, stage: int, key: Any) -> Branches:
        if (stage, key) not in self._branches:
            self._branches[stage, key] = Branches(f"key {key!r} of stage {stage}")
            self._makers[self._workload.stream(stage, key)] = stage, key
        return self._branches[stage, key]

    def _fault(self, rule: str, detail: str) -> None:
        self.found.append(Violation(rule, detail))


def _splits(workload: Workload) -> list[tuple[int, int, Sequence[Line]]]:
    sources = enumerate(workload.sources)
    return [(source, split, lines) for source, splits in sources for split, lines in enumerate(splits)]


def _sinks(workload: Workload) -> list[str]:
    return list(dict.fromkeys(sink for stage in range(-1, len(workload.stages)) for sink in workload.sinks(stage)))


def _stage_of(workload: Workload, sink: str) -> int:
    return len(workload.stages) - 1 if sink == "last" else 0


def _kept(workload: Workload, sink: str) -> list[int]:
    """The numbers of all records that come to a sink in the end."""
    numbers = [number for _, _, lines in _splits(workload) for _, _, line in lines for number in line]
    for stage in range(_stage_of(workload, sink) + 1):
        numbers = [
            number for number in numbers if workload.has_key(stage, number) and workload.fate(stage, number) == OUT
        ]
    return numbers
