"""An application whose states and outputs say what was done to them, and what must hold of them wherever they are kept.

A record is its own name, (stream, seq, part), and a state is the list of all records that its key has taken, in order.
So what is lost, doubled or out of order is seen where it happens, and not only in the end:

    taken       at most once, and as the next one of its stream for that key
    visible     whatever is answered, read, written, or given to a deeper stage is in the state of every process that
                lives and that the newest table names as a member of the slot: it is committed
    followed    a new table names only members that have all that was ever visible of the slot
    read        at least what was read, or answered, before the question was asked
    written     a name has one content, and a content one name

`Truth` changes nothing. The application's code runs inside the data plane, where an exception would be the author's: so
what is wrong is noted in `wrong`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mesh
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import Plan, compile
from mesh.core.keys import slot_of_key
from tests.data_kit import Nowhere

Id = tuple[Any, ...]  # (stream, seq, part) at the first stage; and which of its followers, at the second
DIRECT = 9  # the follower that comes straight from the source
ASKS = "ask"  # the stream of records that somebody asks for; they have no order
ITEMS_OF_FIRST, ITEMS_OF_SECOND, ITEMS_OF_SOURCE = range(3)  # the sinks


@dataclass(frozen=True)
class Job:
    """How much there is to do. With producers it has no end."""

    splits: tuple[int, ...] = (20, 20)  # records in each
    bodies: tuple[tuple[int, ...], ...] = ()  # of each producer: lines in each of its requests
    asks: int = 0
    reads: int = 0
    keys: tuple[int, int] = (5, 3)
    in_place: bool = False  # states change in place
    rough: bool = False  # some records raise, some keys cannot be used

    # -- what becomes of a record

    def parts(self, stream: str, seq: int) -> list[Id]:
        return [(stream, seq, part) for part in range((1, 2, 1, 0)[seq % 4])]

    def first_key(self, record: Sequence[Any]) -> int:
        return int(record[1] * 5 + record[2] * 3) % self.keys[0]

    def raises(self, record: Sequence[Any]) -> bool:
        return self.rough and record[1] % 11 == 7

    def gives(self, record: Sequence[Any]) -> bool:
        return bool((record[1] + record[2]) % 5 != 4)

    def followers(self, record: Sequence[Any]) -> list[Id]:
        """What the first stage's record becomes at the second, if it gives anything."""
        many = (1, 2, 0)[(record[1] + 2 * record[2]) % 3]
        return [(*record, number) for number in range(many) if (record[1] + number) % 6 != 5]

    def goes_on(self, record: Sequence[Any]) -> bool:
        """Straight from the source to the second stage, too."""
        return bool(record[1] % 3 == 0)

    def second_key(self, follower: Sequence[Any]) -> Any:
        if self.rough and follower[1] % 13 == 3:
            return 1.5  # no key
        return int(follower[1] + follower[2] + 2 * follower[3]) % self.keys[1]

    def given_to(self, key: Any, records: Iterable[Id]) -> list[Id]:
        """What the first stage, having taken these, has given to a key of the second."""
        given = (each for record in records if self.gives(record) for each in self.followers(record))
        return [each for each in given if self.second_key(each) == key]

    # -- all of it, as one process would do it

    def streams(self) -> dict[str, list[int]]:
        found = {f"s{number}": list(range(count)) for number, count in enumerate(self.splits)}
        return found | {f"p{number}": list(range(sum(each))) for number, each in enumerate(self.bodies)}

    def expected(self) -> tuple[dict[Any, dict[str, list[Id]]], dict[Any, dict[str, list[Id]]]]:
        """Of each stage: key -> stream -> its records in order, without those that the first stage gave."""
        first: dict[Any, dict[str, list[Id]]] = {}
        second: dict[Any, dict[str, list[Id]]] = {}
        for stream, seqs in self.streams().items():
            for record in (each for seq in seqs for each in self.parts(stream, seq)):
                if not self.raises(record):
                    first.setdefault(self.first_key(record), {}).setdefault(stream, []).append(record)
                follower = (*record, DIRECT)
                if stream.startswith("s") and self.goes_on(record) and self.second_key(follower) != 1.5:
                    second.setdefault(self.second_key(follower), {}).setdefault(stream, []).append(follower)
        return first, second

    def items_of_source(self) -> list[Id]:
        seqs = [(stream, seq) for stream, seqs in self.streams().items() if stream.startswith("s") for seq in seqs]
        return [part for stream, seq in seqs for part in self.parts(stream, seq) if seq % 2]


class Records:
    """A finite source; how much a read gives, nobody knows before."""

    blocking = endless = False

    def __init__(self, splits: Sequence[int]) -> None:
        self.sizes = splits

    def splits(self) -> list[Split]:
        return [Split(f"s{number}", size) for number, size in enumerate(self.sizes)]

    def open(self, split: Split, offset: int) -> mesh.Reader[Any]:
        raise NotImplementedError

    def chunk(self, split: Split, offset: int, most: int, *, ends: bool) -> Chunk[Any]:
        end = min(split.size, offset + most)
        values = [(split.name, seq) for seq in range(offset, end)]
        return Chunk(values, end, end == split.size and ends)


def plan_of(job: Job, note: Callable[[int, Any, Any, Id], None]) -> Plan:
    """The graph; `note(stage, key, state, record)` is called before a record changes a state."""
    app = mesh.App("kept")
    data: Any = app.source("data", Records(job.splits)).flat_map(lambda each: job.parts(each[0], each[1]))
    into: Any = data
    if job.bodies:
        lines = app.source("lines", mesh.http()).flat_map(lambda each: job.parts(each["stream"], each["seq"]))
        into = data.merge(lines)
    new: Any = list if job.in_place else tuple

    def first_step(state: Any, value: Any) -> Any:
        record = tuple(value)
        if job.raises(record):
            raise ValueError("this one is not taken")
        note(0, job.first_key(record), state, record)
        return taken(state, record), record if job.gives(record) else None

    def second_step(state: Any, value: Any) -> Any:
        record = tuple(value)
        note(1, job.second_key(record), state, record)
        return taken(state, record), record

    def taken(state: Any, record: Id) -> Any:
        if job.in_place:
            state.append(record)
            return state
        return (*state, record)

    first = into.key_by(job.first_key).stateful("first", new, first_step)
    first.to(Nowhere())
    straight = data.filter(job.goes_on).map(lambda each: (*each, DIRECT))
    second = first.values().flat_map(job.followers).merge(straight).key_by(job.second_key)
    second.stateful("second", new, second_step).values().to(Nowhere())
    data.filter(lambda each: each[1] % 2).to(Nowhere())
    return compile(app)


class Truth:
    """What the world outside has seen so far. `members(slot)`: how the living members of a slot see a key's state."""

    def __init__(
        self, job: Job, slots: int, members: Callable[[int], Sequence[tuple[str, Callable[[int, Any], Any]]]]
    ) -> None:
        self.job = job
        self.slots = slots
        self.members = members
        self.wrong: list[str] = []
        self.given: dict[int, dict[tuple[int, Any], dict[Id, None]]] = {}  # slot -> (stage, key) -> what was visible
        self.answered: dict[tuple[int, Any], dict[Id, None]] = {}  # of requests that were answered
        self.seen: dict[tuple[int, Any], tuple[Id, ...]] = {}  # the longest that was read
        self.names: list[dict[Any, Any]] = [{}, {}, {}]  # of each sink
        self.items: list[dict[Any, Any]] = [{}, {}, {}]
        self._slot_of = {key: slot_of_key(key, 0, slots) for key in range(max(job.keys))}
        self._before: dict[Id, Id | None] = {}  # the one before it of its stream and key
        for states in job.expected():
            for streams in states.values():
                for records in streams.values():
                    self._before.update(zip(records, [None, *records], strict=False))

    def slot_of(self, key: Any) -> int:
        return self._slot_of[key]

    def complain(self, sentence: str) -> None:
        self.wrong.append(sentence)

    # -- a state is about to change

    def taking(self, who: str, stage: int, key: Any, state: Sequence[Id], record: Id, *, reigns: bool) -> None:
        """`reigns`: who takes it owns the slot. Else it was deposed, and may lack what its successor has; what it takes
        then must never count."""
        if record in state:
            self.complain(f"{who} takes {record} twice at stage {stage}")
        elif record[0] == ASKS and stage == 0:
            return
        elif stage == 1 and record[3] != DIRECT:
            self._taking_what_was_given(who, key, state, record)
        else:
            direct = stage == 1
            mine = [each for each in state if each[0] == record[0] and (not direct or each[3] == DIRECT)]
            last = mine[-1] if mine else None
            if reigns and last != self._before[record]:
                self.complain(f"{who} takes {record} at stage {stage} after {last}, not after {self._before[record]}")

    def _taking_what_was_given(self, who: str, key: Any, state: Sequence[Id], record: Id) -> None:
        origin, from_key = record[:3], self.job.first_key(record)
        self.visible(0, from_key, [origin], f"{who} takes what it became")
        found = [see(0, from_key) for _, see in self.members(self.slot_of(from_key))]
        mine = [each for each in state if each[3] != DIRECT and self.job.first_key(each) == from_key]
        if found and (given := self.job.given_to(key, found[0])[: len(mine) + 1]) != [*mine, record]:
            self.complain(f"{who} takes {record} after {mine}, and it was given {given}")

    # -- what is seen outside

    def visible(self, stage: int, key: Any, records: Iterable[Id], how: str) -> None:
        """It counts from now on, whoever dies."""
        slot = self.slot_of(key)
        known = self.given.setdefault(slot, {}).setdefault((stage, key), {})
        new = [record for record in records if record not in known]
        if new:
            known.update(dict.fromkeys(new))
            self._check_members(slot, stage, key, new, how)

    def _check_members(self, slot: int, stage: int, key: Any, records: Iterable[Id], how: str) -> None:
        for who, see in self.members(slot):
            state = see(stage, key)
            for record in records:
                if record not in state:
                    self.complain(f"{who} is a member of slot {slot} and has no {record} of {key} at {stage}: {how}")
                    return

    def followed(self, slots: Iterable[int]) -> None:
        """Of these slots the members are others now."""
        for slot in slots:
            for (stage, key), records in self.given.get(slot, {}).items():
                self._check_members(slot, stage, key, records, "it was visible before")

    def answer(self, records: Iterable[Id]) -> None:
        """A request is answered: all its records are taken."""
        for record in records:
            if not self.job.raises(record):
                key = self.job.first_key(record)
                self.visible(0, key, [record], "it is answered")
                self.answered.setdefault((0, key), {})[record] = None

    def asked(self, stage: int, key: Any) -> tuple[tuple[Id, ...], tuple[Id, ...]]:
        """What a read that is asked for now must show at least: read before, and answered before."""
        return self.seen.get((stage, key), ()), tuple(self.answered.get((stage, key), ()))

    def read(self, who: str, stage: int, key: Any, state: Sequence[Id], least: tuple[Any, Any]) -> None:
        before, answered = least
        if tuple(state[: len(before)]) != before:
            self.complain(f"{who} reads {state} of {key} at {stage}, after {before} had been read")
        if missing := [record for record in answered if record not in state]:
            self.complain(f"{who} reads {key} without {missing}, which were answered before")
        self.visible(stage, key, state, f"{who} reads it")
        if len(state) > len(self.seen.get((stage, key), ())):
            self.seen[stage, key] = tuple(state)

    def written(self, who: str, sink: int, name: Any, item: Any) -> None:
        """It is given to a sink, once more perhaps."""
        record = tuple(item[1]) if sink == ITEMS_OF_FIRST else tuple(item)
        if self.names[sink].setdefault(name, record) != record:
            self.complain(f"{who} writes {record} under {name}, which was {self.names[sink][name]}")
        if self.items[sink].setdefault(record, name) != name:
            self.complain(f"{who} writes {record} under {name} and {self.items[sink][record]}")
        if sink == ITEMS_OF_FIRST:
            self.visible(0, self.job.first_key(record), [record], f"{who} writes it")
        elif sink == ITEMS_OF_SECOND:
            self.visible(1, self.job.second_key(record), [record], f"{who} writes it")

    # -- the end

    def check_states(self, stage: int, found: dict[Any, Sequence[Id]], first: dict[Any, Sequence[Id]]) -> None:
        """`found` is all states of a stage, `first` those of the first."""
        for key, streams in self.job.expected()[stage].items():
            for stream, records in streams.items():
                mine = [each for each in found.get(key, ()) if each[0] == stream and (stage == 0 or each[3] == DIRECT)]
                assert mine == records, f"stage {stage} has for {key} of {stream} {mine}, not {records}"
        for key, state in found.items():
            assert len(set(state)) == len(state), "one twice"
            others = [each for each in state if (stage == 0 or each[3] == DIRECT) and each[0] != ASKS]
            assert all(each in self._before for each in others), "one that nobody sent"
            if stage == 1:
                self._check_given(key, state, first)

    def _check_given(self, key: Any, state: Sequence[Id], first: dict[Any, Sequence[Id]]) -> None:
        for origin, records in first.items():
            mine = [each for each in state if each[3] != DIRECT and self.job.first_key(each) == origin]
            given = self.job.given_to(key, records)
            assert mine == given, f"{key} has of what {origin} gave {mine}, not {given}"

    def check_items(self, first: dict[Any, Sequence[Id]], second: dict[Any, Sequence[Id]], stored: list[Any]) -> None:
        """Every sink has everything once; `stored`: content by name, of each sink."""
        wanted = [
            [record for state in first.values() for record in state if self.job.gives(record)],
            [record for state in second.values() for record in state],
            self.job.items_of_source(),
        ]
        for sink, records in enumerate(wanted):
            assert sorted(stored[sink].values()) == sorted(records), f"sink {sink}"
