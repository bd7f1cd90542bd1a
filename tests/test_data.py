"""Any number of data planes, in any order of events, do together what one process would: once, in order, to the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh.app.connectors import Chunk, Split
from mesh.app.plan import Plan, compile
from mesh.core import codec, data, reading, reports
from mesh.core.events import Woke
from mesh.core.events.planes import Consumed, Delivered, MemberChanged, Transmit
from mesh.core.events.work import Answered, JobDone, LookupAsked, ReadSplit, SplitRead
from mesh.core.keys import slot_of_key
from mesh.core.lookups import LOOKUP_MS
from mesh.core.messages import Message
from mesh.core.messages.members import ALIVE, DEAD, Member
from mesh.core.messages.outside import Found, Lookup
from mesh.core.messages.states import SlotChunk
from mesh.core.messages.work import Batch, BatchDone, Report, SplitsTaken, TakeSplits
from tests.data_kit import Cluster, Given, Nowhere

# -- random applications ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageShape:
    """Who feeds it (sources first, then the stages before it), what it does, and whether a sink gets its outputs."""

    parents: tuple[int, ...]
    kind: str  # fold | step | class
    modulus: int
    keys: str  # int | str | bytes
    sink: bool


@dataclass(frozen=True)
class Shape:
    sources: tuple[tuple[tuple[int, ...], ...], ...]  # records, by source and split
    stages: tuple[StageShape, ...]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    split = st.lists(st.integers(0, 40), max_size=25).map(tuple)
    sources = draw(st.lists(st.lists(split, max_size=4).map(tuple), min_size=1, max_size=2).map(tuple))
    stages: list[StageShape] = []
    for number in range(draw(st.integers(0, 4))):
        producers = st.integers(0, len(sources) + number - 1)
        parents = tuple(sorted(draw(st.sets(producers, min_size=1, max_size=2))))
        kind, keys = draw(st.sampled_from(["fold", "step", "class"])), draw(st.sampled_from(["int", "str", "bytes"]))
        stages.append(StageShape(parents, kind, draw(st.integers(1, 7)), keys, draw(st.booleans())))
    return Shape(sources, tuple(stages))


@dataclass
class Kept:
    """A state that changes in place, before the step fails."""

    values: list[int] = field(default_factory=list)

    def on_record(self, value: int) -> int:
        self.values.append(value)
        return passed(value)


def passed(value: int) -> int:
    """What a stage gives out for a value: it must not depend on the order among streams."""
    if value % 11 == 3:
        raise ValueError(value)
    return value + 1


def key_of(value: int, shape: StageShape) -> Any:
    number = value % shape.modulus
    return {"int": number, "str": str(number), "bytes": b"%d" % number}[shape.keys]


def before_stage(value: int) -> int | None:
    return None if value % 13 == 5 else value


def built(shape: Shape) -> Plan:
    app = mesh.App("random")
    given = [Given([list(split) for split in splits]) for splits in shape.sources]
    streams: list[Any] = [app.source(f"s{number}", source) for number, source in enumerate(given)]
    for stream in list(streams):
        stream.to(Nowhere())
    for number, stage in enumerate(shape.stages):
        first, *others = [streams[parent] for parent in stage.parents]
        merged = first.merge(*others).map(before_stage)
        keyed = merged.key_by(lambda value, stage=stage: key_of(value, stage))
        if stage.kind == "fold":
            states = keyed.fold(f"t{number}", int, lambda n, value: n + passed(value))
            outputs = merged.map(passed) if stage.sink else states.values().map(lambda _: None)
        elif stage.kind == "step":
            outputs = keyed.stateful(f"t{number}", int, lambda n, value: (n + 1, passed(value))).values()
        else:
            outputs = keyed.stateful(f"t{number}", Kept).values()
        streams.append(outputs)
        outputs.to(Nowhere())
    return compile(app)


@dataclass
class Expected:
    """What a person would work out with a pencil."""

    states: list[dict[Any, Any]]
    outputs: list[Counter[int]]  # of every producer
    keyed: int = 0


def expected(shape: Shape) -> Expected:
    outputs = [Counter(value for split in splits for value in split) for splits in shape.sources]
    result = Expected([], outputs)
    for stage in shape.stages:
        arrived = sum((outputs[parent] for parent in stage.parents), Counter[int]())
        taken = [value for value in arrived.elements() if before_stage(value) is not None]
        good = [value for value in taken if value % 11 != 3]
        states: dict[Any, Any] = {}
        for value in good:
            key = key_of(value, stage)
            if stage.kind == "fold":
                states[key] = states.get(key, 0) + passed(value)
            elif stage.kind == "step":
                states[key] = states.get(key, 0) + 1
            else:
                states[key] = sorted([*states.get(key, []), value])
        result.states.append(states)
        result.keyed += len(taken)
        gives = stage.kind != "fold" or stage.sink
        outputs.append(Counter(map(passed, good)) if gives else Counter())
    return result


@given(
    shape=shapes(),
    owners=st.integers(1, 4),
    witnesses=st.integers(0, 1),
    slots=st.sampled_from([1, 2, 16]),
    window=st.sampled_from([1, 60, 500, 1 << 20]),
    batch_records=st.sampled_from([1, 3, 4096]),
    seed=st.integers(0, 1 << 32),
)
def test_many_nodes_do_what_one_process_would(
    shape: Shape, owners: int, witnesses: int, slots: int, window: int, batch_records: int, seed: int
) -> None:
    cluster = Cluster(
        built(shape),
        Random(seed),
        owners=owners,
        witnesses=witnesses,
        slots=slots,
        window=window,
        batch_records=batch_records,
    )
    cluster.run()
    wanted = expected(shape)
    for number, states in enumerate(wanted.states):
        got = cluster.states(f"t{number}")
        if shape.stages[number].kind == "class":
            got = {key: sorted(kept.values) for key, kept in got.items()}
        assert got == states
    assert cluster.total("records_keyed") == wanted.keyed
    for producer, outputs in enumerate(wanted.outputs):
        assert Counter(cluster.items(producer)) == outputs
    assert not any(node.rejected for node in cluster.nodes)
    assert all(not any(queue) for (_, _, channel), queue in cluster.links.items() if channel)


@given(
    splits=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    owners=st.integers(1, 3),
    window=st.sampled_from([1, 200, 1 << 20]),
    batch_records=st.sampled_from([1, 3, 4096]),
    seed=st.integers(0, 1 << 32),
)
def test_a_keys_records_of_one_stream_apply_once_and_in_order_stage_after_stage(
    splits: list[int], owners: int, window: int, batch_records: int, seed: int
) -> None:
    def note(state: dict[Any, list[int]], value: tuple[Any, int]) -> tuple[Any, tuple[int, int]]:
        """Where each stream's records have come to; the output is numbered within the key."""
        state.setdefault(value[0], []).append(value[1])
        return state, (value[1] % 3, sum(map(len, state.values())))

    app = mesh.App("order")
    source = Given([[(split, number) for number in range(count)] for split, count in enumerate(splits)])
    first = app.source("s", source).key_by(lambda value: value[1] % 3).stateful("first", dict, note)
    first.values().key_by(lambda value: value[1] % 2).stateful("second", dict, note)
    cluster = Cluster(compile(app), Random(seed), owners=owners, window=window, batch_records=batch_records)
    cluster.run()
    first_states = cluster.states("first")
    for key, streams in first_states.items():
        for split, numbers in streams.items():
            assert numbers == [number for number in range(splits[split]) if number % 3 == key]
    for key, streams in cluster.states("second").items():
        for first_key, numbers in streams.items():
            count = sum(map(len, first_states[first_key].values()))
            assert numbers == [number for number in range(1, count + 1) if number % 2 == key]
    assert sum(len(numbers) for streams in cluster.states("second").values() for numbers in streams.values()) == sum(
        splits
    )


# -- ends and beginnings ----------------------------------------------------------------------------------------------


def counting(source: Given) -> Plan:
    app = mesh.App("count")
    app.source("s", source).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
    return compile(app)


@pytest.mark.parametrize("owners", [1, 3])
@pytest.mark.parametrize("splits", [[], [[]], [[], []], [[None, None]]])
def test_a_source_that_has_nothing_is_a_job_that_ends(splits: list[list[Any]], owners: int) -> None:
    for seed in range(5):
        cluster = Cluster(counting(Given(splits)), Random(seed), owners=owners)
        cluster.run()
        assert cluster.total("keys") == 0


@pytest.mark.parametrize("owners", [1, 3])
def test_an_app_without_stages_writes_everything_and_ends(owners: int) -> None:
    app = mesh.App("copy")
    app.source("s", Given([[1, 2], [3]])).to(Nowhere())
    cluster = Cluster(compile(app), Random(1), owners=owners)
    cluster.run()
    assert sorted(cluster.items(0)) == [1, 2, 3]


def test_fourteen_stages_one_after_the_other_work_and_a_fifteenth_is_a_mistake() -> None:
    def chain(stages: int) -> mesh.App:
        app = mesh.App("chain")
        stream: Any = app.source("s", Given([[1, 2, 3]]))
        for number in range(stages):
            keyed = stream.key_by(lambda value: value)
            stream = keyed.stateful(f"t{number}", int, lambda n, value: (n + 1, value)).values()
        stream.to(Nowhere())
        return app

    cluster = Cluster(compile(chain(14)), Random(3), owners=2)
    cluster.run()
    assert sorted(cluster.items(0)) == [1, 2, 3]
    (mistake,) = chain(16).check()
    assert "14" in mistake.text
    assert mistake.file == __file__


def test_none_means_nothing_also_from_a_source() -> None:
    cluster = Cluster(counting(Given([["a", None, "b", None]])), Random(1))
    cluster.run()
    assert cluster.states("count") == {"a": 1, "b": 1}
    assert cluster.total("failed") == 0


def test_bad_keys_and_what_cannot_travel_are_set_aside_and_the_rest_goes_on() -> None:
    app = mesh.App("bad")
    good: list[Any] = ["a", 1, b"c", "ü"]
    bad: list[Any] = [True, 1.5, float("nan"), "\ud800", [], object()]
    records = [good[0], *bad[:3], *good[1:3], *bad[3:], good[3]]
    app.source("s", Given([records])).key_by(lambda value: value).fold("count", int, lambda n, _: n + 1)
    cluster = Cluster(compile(app), Random(1), owners=3)
    cluster.run()
    assert cluster.states("count") == dict.fromkeys(good, 1)
    assert cluster.total("failed") == len(bad)
    assert any(log.event == "record.set_aside" for node in cluster.nodes for log in node.logs)


def test_an_endless_source_that_is_quiet_is_not_asked_all_the_time() -> None:
    cluster = Cluster(counting(Given([["a"], ["b"], []], endless=True)), Random(1))
    cluster.run(until=lambda: cluster.total("keys") == 2)
    node = cluster.nodes[0]
    reads: list[int] = []
    while cluster.now < 5_000:
        while node.pending or node.data.runnable(cluster.now):
            effects = node.data.work(cluster.now) if node.data.runnable(cluster.now) else []
            reads += [cluster.now for effect in effects if isinstance(effect, ReadSplit)]
            cluster._perform(node, effects)
            if node.pending:
                cluster._answer(node)
        before = cluster.now
        cluster.tick()
        deadline = node.data.next_deadline()
        assert deadline is not None
        assert cluster.now > before
    assert 3 * 100 < len(reads) <= 3 * (5_000 // reading.QUIET_MS + 1)
    assert not node.done


def test_a_blocking_read_that_does_not_come_back_holds_up_nothing_else() -> None:
    app = mesh.App("two")
    stuck, busy = Given([["x"]]), Given([["a", "b", "a"]])
    words = app.source("stuck", stuck).merge(app.source("busy", busy))
    words.key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
    cluster = Cluster(compile(app), Random(1))
    node = cluster.nodes[0]
    while cluster.states("count") != {"a": 2, "b": 1}:
        node.pending = [event for event in node.pending if not (isinstance(event, SplitRead) and event.source == 0)]
        cluster.random.choice(cluster._choices() or [cluster.tick])()
    assert not node.done


class Busy(Given):
    """Always has more."""

    def chunk(self, split: Split, offset: int, random: Random) -> Chunk[Any]:
        return Chunk(self.records[0][offset : offset + 10], offset + 10, False)


def test_a_node_that_is_never_idle_does_not_keep_a_few_records_to_itself() -> None:
    app = mesh.App("two")
    rare = app.source("rare", Given([["x"]])).key_by(lambda word: word).fold("rare", int, lambda n, _: n + 1)
    rare.to(Nowhere())
    often = app.source("often", Busy([["y"] * 100_000]))
    often.key_by(lambda word: word).fold("often", int, lambda n, _: n + 1)
    cluster = Cluster(compile(app), Random(1))
    node = cluster.nodes[0]
    cluster.give(node, node.pending.pop())
    for stage in (0, 1):
        node.data.router._stages[stage].lane(node.id).full_at = 4096  # as after the first batches
    for now in range(3 * data.FLUSH_MS):
        cluster.now = now
        while node.pending:
            cluster._answer(node)
        assert node.data.runnable(now)
        cluster.work(node)
        node.data.took(0)
    assert cluster.items(0) == [("x", 1)]


class Growing(Given):
    """Somebody adds to it while the nodes look at it, one after the other."""

    def splits(self) -> list[Split]:
        self.records.append(["more"])
        return super().splits()


@pytest.mark.parametrize(("kind", "told"), [(Given, 0), (Growing, 1)])
def test_nodes_that_list_a_source_differently_say_so(kind: type[Given], told: int) -> None:
    app = mesh.App("listed")
    app.source("lines", kind([["a", "b"], ["a"]])).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
    cluster = Cluster(compile(app), Random(1), owners=2)
    cluster.run()
    for node in cluster.nodes:
        assert node.data.set_aside.count == told
        assert ("source lines (its list of splits): SplitsDiffer" in node.data.set_aside.first) == bool(told)


def silenced(plan: Plan, records: int) -> tuple[Cluster, int]:
    """Work until nothing moves, while the other owner takes nothing; how many records were read."""
    cluster = Cluster(plan, Random(1), owners=2, window=200, batch_records=4)
    node, other = cluster.nodes
    other.pending.clear()
    for _ in range(20 * records):
        if node.pending:
            cluster._answer(node)
        elif node.data.runnable(cluster.now):
            cluster.work(node)
        else:
            cluster.tick()
    assert not node.data.runnable(cluster.now)
    return cluster, node.data.sources.counts()[0].records


def test_an_owner_that_takes_nothing_stops_the_sources() -> None:
    cluster, read = silenced(counting(Given([[f"w{number}" for number in range(5_000)], []])), 5_000)
    assert 0 < read < 200
    assert 0 < cluster.nodes[0].data.router.bytes_in_flight() < 200 + 4096
    buffered = sum(len(lane.keys) for lane in cluster.nodes[0].data.router.lanes())
    assert buffered < 50


def test_a_node_that_stops_waits_for_an_owner_that_is_slow_but_not_for_one_that_is_gone() -> None:
    cluster, _ = silenced(counting(Given([[f"w{number}" for number in range(500)], []])), 500)
    node, other = cluster.nodes
    assert not node.data.drained()
    cluster.give(node, MemberChanged(member(other.id, DEAD), ALIVE))
    assert node.data.drained()
    assert not node.data.quiet()  # the job is not done for that
    cluster.give(node, MemberChanged(member(other.id, ALIVE), DEAD))
    assert not node.data.drained()


def test_a_stage_whose_consumer_takes_nothing_stops_and_so_do_the_sources() -> None:
    app = mesh.App("two-stages")
    first = app.source("s", Given([list(range(5_000)), []])).key_by(lambda _: "one key, and so one owner")
    spread = first.stateful("first", int, lambda n, value: (n + 1, value)).values().key_by(lambda value: value)
    spread.fold("second", int, lambda n, _: n + 1)
    plan = compile(app)
    cluster, read = silenced(plan, 5_000)
    owner = cluster.table.workers[cluster.table.owner_of_slot[slot_of_key("one key, and so one owner", 0, 8)]]
    assert owner == cluster.nodes[0].id, "choose another key"
    assert 0 < cluster.nodes[0].data.records_keyed < 1_000
    assert read < 1_000


# -- what others say --------------------------------------------------------------------------------------------------


def two_nodes(seed: int = 0) -> Cluster:
    """Formed, and at work with an endless source, so that nothing ends."""
    cluster = Cluster(counting(Given([["a", "b", "c", "d"], []], endless=True)), Random(seed), owners=2)
    cluster.run(until=lambda: cluster.total("keys") == 4 and all(node.data.quiet() for node in cluster.nodes))
    return cluster


def payload(message: Message) -> bytes:
    return codec.encode_with_values(message)


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (0, Batch(0, 1, 1, b"\0\0", ["a"], None)),
        (1, BatchDone(0, 1, 1, b"", ())),
        (1, Batch(0, 1, 99, b"\0\0", ["a"], None)),
        (1, Batch(5, 1, 1, b"\0\0", ["a"], None)),
        (1, Batch(0, 1, 1, b"\0\0", [True], None)),
        (0, BatchDone(0, 1 << 40, 1, b"", ())),
        (0, BatchDone(3, 1, 1, b"", ())),
        (0, BatchDone(0, 1, 1, b"\0\0", ())),
        (0, SplitsTaken(1, True)),
        (0, TakeSplits(1, 0, ("a",), (), (0,))),
        (0, TakeSplits(1, 9, ("a",), (1,), (0,))),
        (15, Batch(0, 1, 99, b"\0\0", ["a"], None)),
        (15, SlotChunk(1, 7, 0, 2, 0, [], [], True, 0)),
        (15, SlotChunk(1, 1, 99, 2, 0, [], [], True, 0)),
        (15, SlotChunk(1, 1, 0, 2, 0, ["a"], [], True, 0)),
        (15, SlotChunk(1, 1, 0, 2, 0, ["a", "b", "c", "d"], [1, 1, 1, 1], True, 0)),
        (0, Lookup(1, "count", [])),
        (0, Lookup(1, "count", ["a", "b"])),
        (0, Lookup(1, "count", [1.5])),
        (0, Report(1, 99, False, 0, 0, 0, 0, ())),
    ],
)
def test_cargo_that_is_not_right_is_rejected_and_changes_nothing_but_gives_its_credit_back(
    channel: int, message: Message
) -> None:
    cluster = two_nodes()
    node, other = cluster.nodes
    before = (node.data.report(), node.data.router.bytes_in_flight())
    effects = node.data.handle(Delivered(other.id, channel, payload(message)), cluster.now)
    assert [type(effect).__name__ for effect in effects] == ["Rejected", "Consumed"]
    assert effects[1] == Consumed(other.id, channel, len(payload(message)))
    assert (node.data.report(), node.data.router.bytes_in_flight()) == before


@pytest.mark.parametrize("cargo", [b"\xc1", b"", b"\x91\xcd\xff\xff", b"\x93" + b"\xc0" * 3])
def test_bytes_that_are_no_cargo_are_rejected(cargo: bytes) -> None:
    cluster = two_nodes()
    effects = cluster.nodes[0].data.handle(Delivered(cluster.nodes[1].id, 1, cargo), cluster.now)
    assert [type(effect).__name__ for effect in effects] == ["Rejected", "Consumed"]


def test_a_report_of_who_is_no_member_counts_for_nothing() -> None:
    cluster = two_nodes()
    node = cluster.nodes[0]
    node.data.handle(Delivered(b"x" * 16, 0, payload(Report(1, 1, False, 7, 7, 7, 7, ()))), cluster.now)
    assert b"x" * 16 not in node.data.reports


def test_news_that_came_before_the_partition_are_not_lost() -> None:
    plan = counting(Given([]))
    cluster = Cluster(plan, Random(0), owners=2)
    early, late = cluster.nodes
    late_table = late.pending.pop()
    while cluster._choices():
        cluster.random.choice(cluster._choices())()
        cluster.tick()
    assert not late.done
    late.pending.append(late_table)
    cluster.run()
    assert early.done


def test_early_cargo_gives_its_credit_back_only_when_it_is_handled() -> None:
    cluster = Cluster(counting(Given([])), Random(0), owners=2)
    node, other = cluster.nodes
    report = payload(Report(1, 0, True, 0, 0, 0, 0, ()))
    assert node.data.handle(Delivered(other.id, 0, report), 0) == []
    assert Consumed(other.id, 0, len(report)) in node.data.handle(cluster.table, 0)


def member(node: bytes, status: int) -> Member:
    return Member(node, "other", "tcp://o:1", "", "worker", "", 1, status)


def test_news_wait_for_who_is_gone_and_are_told_when_it_returns() -> None:
    cluster = two_nodes()
    node, other = cluster.nodes
    cluster.give(node, MemberChanged(member(other.id, DEAD), ALIVE))
    for _ in range(5):
        cluster.now += reports.REPORT_MS
        node.data._emitting.records_out += 1  # something to report
        effects = node.data.handle(Woke(), cluster.now)
        assert not [effect for effect in effects if isinstance(effect, Transmit)]
    effects = node.data.handle(MemberChanged(member(other.id, ALIVE), DEAD), cluster.now)
    told = [codec.decode_with_values(effect.payload) for effect in effects if isinstance(effect, Transmit)]
    assert told == [node.data.report()]


# -- reads ------------------------------------------------------------------------------------------------------------


def asked(cluster: Cluster, stage: str, key: Any) -> Answered:
    """Through the first node, wherever the key lives."""
    node = cluster.nodes[0]
    cluster.give(node, LookupAsked(1, stage, key))
    for _ in range(200):
        if node.answers:
            return node.answers.pop()
        for link in [key for key, queue in cluster.links.items() if queue]:
            cluster._deliver(link)
    raise AssertionError("no answer")


def test_any_node_answers_for_any_key_and_creates_nothing() -> None:
    cluster = two_nodes()
    assert [asked(cluster, "count", key) for key in "abcd"] == [Answered(1, "found", b"1")] * 4
    assert asked(cluster, "count", "never seen").outcome == "absent"
    assert asked(cluster, "count", 1).outcome == "absent"
    assert asked(cluster, "cuont", "a").outcome == "unknown-stage"
    assert asked(cluster, "\ud800", "a").outcome == "unknown-stage"
    assert cluster.total("keys") == 4


@pytest.mark.parametrize("key", [True, 1.5, None, "\ud800", ["a"]])
def test_a_key_that_no_state_can_have_is_absent(key: Any) -> None:
    assert asked(two_nodes(), "count", key).outcome == "absent"


def test_who_is_not_there_to_answer_is_told_within_its_time() -> None:
    cluster = two_nodes()
    node, other = cluster.nodes
    remote = next(key for key in "abcd" if node.data._reads.owner_of(key) == other.id)
    cluster.give(node, LookupAsked(1, "count", remote))
    deadline = node.data.next_deadline()
    assert deadline is not None
    assert deadline <= cluster.now + LOOKUP_MS
    cluster.now += LOOKUP_MS
    cluster.give(node, Woke())
    assert node.answers == [Answered(1, "unavailable")]
    late = node.data.handle(Delivered(other.id, 0, payload(Found(1, "found", b"1"))), cluster.now)
    assert [type(effect) for effect in late] == [Consumed]
    cluster.give(node, MemberChanged(member(other.id, DEAD), ALIVE))
    cluster.give(node, LookupAsked(2, "count", remote))
    assert node.answers[1:] == [Answered(2, "unavailable")]


def test_before_the_partition_nothing_can_be_read() -> None:
    cluster = Cluster(counting(Given([])), Random(0))
    assert asked(cluster, "count", "a").outcome == "unavailable"


# -- stopping ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
def test_a_node_that_stops_reading_works_off_what_it_has_read(seed: int) -> None:
    cluster = Cluster(counting(Given([list("abcd" * 20), list("efgh" * 20)])), Random(seed), owners=2, window=50)
    cluster.run(until=lambda: cluster.total("records_keyed") > 20)
    for node in cluster.nodes:
        node.data.stop_reading()
    cluster.run(until=lambda: not cluster._choices() and all(node.data.quiet() for node in cluster.nodes))
    read = sum(count.records for node in cluster.nodes for count in node.data.sources.counts())
    assert cluster.total("records_keyed") == read
    assert sum(cluster.states("count").values()) == read


def test_the_end_is_told_once_however_often_time_passes() -> None:
    cluster = Cluster(counting(Given([["a"]])), Random(0), owners=2)
    cluster.run()
    for node in cluster.nodes:
        for _ in range(3):
            cluster.now += 1_000
            assert not [each for each in node.data.handle(Woke(), cluster.now) if isinstance(each, JobDone)]
            assert node.data.work(cluster.now) == []


def test_splits_are_dealt_to_owners_only() -> None:
    cluster = Cluster(counting(Given([["a"]] * 7)), Random(0), owners=3, witnesses=1)
    cluster.run()
    counts = [node.data.sources.counts()[0] for node in cluster.nodes]
    assert sorted(count.splits for count in counts[:3]) == [2, 2, 3]
    assert counts[3].splits == 0
