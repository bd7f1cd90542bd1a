"""Every good record leaves once, to the owner of its slot, in order, in batches that are bounded and numbered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core import codec, packing
from mesh.core.events.planes import TableAgreed
from mesh.core.keys import slot_of_key
from mesh.core.messages.work import Batch
from mesh.core.packing import Packed
from mesh.core.router import Router
from mesh.core.slot import ACTIVE, LOST
from tests.tables import agreed

ME, PEER, THIRD = b"m" * 16, b"p" * 16, b"t" * 16
OWNERS = (ME, PEER, THIRD)
SLOTS = 16
OWNER_OF_SLOT = [slot % 3 for slot in range(SLOTS)]


def routed(window_bytes: int = 1 << 20, batch_records: int = 4, owners: tuple[bytes, ...] = OWNERS) -> Router:
    tried = Router(ME, [1, 2], SLOTS, 0, window_bytes, batch_records)
    tried.set_table(agreed(1, owners, [slot % len(owners) for slot in range(SLOTS)]))
    return tried


def owner_of(key: Any) -> bytes:
    return OWNERS[OWNER_OF_SLOT[slot_of_key(key, 0, SLOTS)]]


def records_of(batch: Packed) -> list[tuple[Any, Any]]:
    """What the owner gets, through the codec if it is another node."""
    if batch.records is not None:
        return list(zip(batch.records.keys, batch.records.values, strict=True))
    message = codec.decode_with_values(batch.payload)
    assert isinstance(message, Batch)
    return list(zip(message.keys, message.keys if message.values is None else message.values, strict=True))


def number_of(batch: Packed) -> int:
    if batch.payload:
        message = codec.decode_with_values(batch.payload)
        assert isinstance(message, Batch)
        assert message.number == batch.number
    return batch.number


def answer(tried: Router, batches: list[Packed]) -> None:
    for batch in batches:
        assert tried.done(batch.owner, batch.stage, number_of(batch)) is None


def flush_all(tried: Router) -> list[Packed]:
    """Everything, with owners that answer at once."""
    batches: list[Packed] = []
    while tried.may_flush():
        some = tried.flush()
        answer(tried, some)
        batches += some
    return batches


class Untravelled:
    """No codec takes it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Untravelled)

    def __hash__(self) -> int:
        return 1


keys = st.one_of(st.integers(0, 30), st.text("abc", max_size=2), st.binary(max_size=1), st.sampled_from([True, 1.5]))
values = st.one_of(st.integers(), st.text("xyz", max_size=300), st.just(Untravelled()))


@given(
    puts=st.lists(st.tuples(st.integers(0, 1), st.lists(st.tuples(keys, values), max_size=20), st.booleans())),
    window=st.sampled_from([1, 200, 1 << 20]),
    batch_records=st.integers(1, 6),
)
def test_every_record_leaves_once_and_in_order_or_is_refused(puts: Any, window: int, batch_records: int) -> None:
    tried = routed(window, batch_records)
    left: list[Packed] = []
    for stage, records, same in puts:
        column = [key for key, _ in records]
        tried.put(stage, column, column if same else [value for _, value in records])
        left += tried.full_batches([stage])
    answer(tried, left)
    left += flush_all(tried)
    for stage in range(2):
        for key in {key for _, records, _ in puts for key, _ in records if type(key) in (int, str, bytes)}:
            got = [
                value
                for batch in left
                if batch.stage == stage
                for other, value in records_of(batch)
                if (type(other), other) == (type(key), key)
            ]
            put = [
                other if same else value
                for at, records, same in puts
                if at == stage
                for other, value in records
                if (type(other), other) == (type(key), key)
            ]
            if owner_of(key) != ME:
                put = [value for value in put if not isinstance(value, Untravelled)]
            assert got == put
    total = sum(len(records) for _, records, _ in puts)
    assert total == sum(len(records_of(batch)) for batch in left) + len(tried.set_aside())
    assert tried.idle()
    assert all(owner_of(key) == batch.owner for batch in left for key, _ in records_of(batch))


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.lists(st.text("abcdefgh", min_size=1, max_size=40), max_size=30)),
            st.tuples(st.just("flush"), st.none()),
            st.tuples(st.just("done"), st.integers(0, 1)),
        )
    ),
    window=st.sampled_from([1, 50, 300]),
)
def test_no_owner_is_sent_more_than_a_window_and_one_batch(steps: Any, window: int) -> None:
    tried = routed(window, 4)
    sent: dict[bytes, list[Packed]] = {PEER: [], THIRD: []}
    answered = {PEER: 0, THIRD: 0}
    for what, how in steps:
        batches: list[Packed] = []
        if what == "put" and tried.open_for(0):
            tried.put(0, how, how)
            batches = tried.full_batches([0])
        elif what == "flush":
            batches = tried.flush()
        elif what == "done":
            peer = (PEER, THIRD)[how]
            if answered[peer] < len(sent[peer]):
                answered[peer] += 1
                assert tried.done(peer, 0, answered[peer]) is None
        for batch in batches:
            if batch.owner != ME:
                sent[batch.owner].append(batch)
        for peer, every in sent.items():
            assert [number_of(batch) for batch in every] == list(range(1, len(every) + 1))
            on_the_way = [len(batch.payload) for batch in every[answered[peer] :]]
            assert sum(on_the_way[:-1]) < window
        assert tried.bytes_in_flight() == sum(
            len(batch.payload) for peer, every in sent.items() for batch in every[answered[peer] :]
        )
        full = [sum(len(batch.payload) for batch in every[answered[peer] :]) >= window for peer, every in sent.items()]
        assert not (tried.open_for(0) and any(full))


def test_a_full_window_of_one_owner_stops_the_stage_and_no_other_stage() -> None:
    tried = routed(window_bytes=1, batch_records=1)
    key = next(key for key in range(100) if owner_of(key) == PEER)
    tried.put(0, [key], [key])
    assert not tried.idle()
    assert len(tried.flush()) == 1
    assert not tried.open_for(0)
    assert tried.open_for(1)
    tried.done(PEER, 0, 1)
    assert tried.open_for(0)
    assert tried.idle()


def test_a_chunk_of_many_batches_stops_the_stage_until_all_of_it_has_left() -> None:
    tried = routed(window_bytes=100, batch_records=2, owners=(PEER,))
    words = ["word"] * 200
    tried.put(0, words, words)
    sent = tried.full_batches([0])
    while (left := 200 - sum(len(records_of(batch)) for batch in sent)) > 0:
        assert tried.done(PEER, 0, number_of(sent[-1])) is None
        assert not tried.open_for(0), f"{left} records wait, and more may come"
        sent += tried.flush()
    tried.done(PEER, 0, number_of(sent[-1]))
    assert tried.open_for(0)
    assert tried.idle()


def test_what_waits_behind_a_full_window_is_no_work_until_it_opens() -> None:
    tried = routed(window_bytes=1, batch_records=1, owners=(PEER,))
    tried.put(0, ["a"], ["a"])
    assert len(tried.flush()) == 1
    tried.put(0, ["b"], ["b"])
    assert not tried.may_flush()
    assert tried.flush() == []
    assert not tried.idle()
    tried.done(PEER, 0, 1)
    assert tried.may_flush()
    assert [records_of(batch) for batch in tried.flush()] == [[("b", "b")]]


@dataclass
class Row:
    """Worth many units of the receiver's limit."""

    a: int = 0
    b: int = 0


def test_one_chunk_that_becomes_more_records_than_a_batch_may_have_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ITEMS", 1000)
    monkeypatch.setattr(codec, "COUNTED_ABOVE", 1000)
    monkeypatch.setattr(codec, "MAX_UNITS", 4000)
    tried = routed(batch_records=4096, owners=(PEER,))
    tried.put(0, list(range(5000)), [Row(number, number) for number in range(5000)])
    left = flush_all(tried)
    assert [record for batch in left for record in records_of(batch)] == [(n, Row(n, n)) for n in range(5000)]
    assert not tried.set_aside()


def test_large_records_travel_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BATCH_BYTES", 10_000)
    tried = Router(ME, [1], SLOTS, 0)
    tried.set_table(agreed(1, (PEER,), [0] * SLOTS))
    sizes: list[int] = []
    for number in range(100):
        tried.put(0, [number], ["x" * 1000])
        sizes += [len(batch.payload) for batch in tried.full_batches([0])]
    assert len(sizes) > 5
    assert max(sizes) <= 20_000
    tried.put(0, list(range(500)), ["x" * 1000] * 500)
    assert max(len(batch.payload) for batch in flush_all(tried)) <= 20_000


def test_a_record_that_is_too_large_for_any_node_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_PAYLOAD", 10_000)
    monkeypatch.setattr(codec, "COUNTED_ABOVE", 5_000)
    tried = routed(batch_records=4096, owners=(PEER,))
    tried.put(0, [1, 2, 3], ["a", "x" * 20_000, "b"])
    left = flush_all(tried)
    assert [record for batch in left for record in records_of(batch)] == [(1, "a"), (3, "b")]
    assert [(stage, len(value)) for stage, value, _ in tried.set_aside()] == [(0, 20_000)]


@pytest.mark.parametrize("place", [0, 77, 199])
def test_what_cannot_travel_is_refused_and_the_rest_of_its_batch_is_not(place: int) -> None:
    tried = routed(batch_records=4096, owners=(PEER,))
    column: list[Any] = list(range(200))
    column[place] = Untravelled()
    tried.put(0, list(range(200)), column)
    left = flush_all(tried)
    assert [key for batch in left for key, _ in records_of(batch)] == [key for key in range(200) if key != place]
    assert [number_of(batch) for batch in left] == list(range(1, len(left) + 1))
    assert [type(value) for _, value, _ in tried.set_aside()] == [Untravelled]


def test_a_column_that_is_its_own_values_is_sent_once() -> None:
    tried = routed(batch_records=100, owners=(PEER,))
    words = ["word"] * 50
    tried.put(0, words, words)
    (batch,) = tried.flush()
    message = codec.decode_with_values(batch.payload)
    assert isinstance(message, Batch)
    assert message.values is None
    mixed: list[Any] = ["word", None, "word"]
    tried.put(0, mixed, mixed)
    (batch,) = tried.flush()
    message = codec.decode_with_values(batch.payload)
    assert isinstance(message, Batch)
    assert (message.keys, message.values) == (["word", "word"], None)


@pytest.mark.parametrize(
    ("owner", "stage", "number"), [(PEER, 0, 2), (PEER, 2, 1), (ME, 0, 2), (b"x" * 16, 0, 1), (PEER, 1, 1)]
)
def test_a_false_claim_to_have_worked_something_off_changes_nothing(owner: bytes, stage: int, number: int) -> None:
    tried = routed(owners=(PEER, ME))
    tried.put(0, ["a", "b", "c", "d"], [1, 2, 3, 4])
    tried.flush()
    before = tried.bytes_in_flight()
    assert before
    assert tried.done(owner, stage, number) is not None
    assert tried.bytes_in_flight() == before
    assert tried.done(PEER, 0, 1) is None
    assert tried.done(PEER, 0, 1) is None  # told twice


@pytest.mark.parametrize("slots", [1, 65536])
def test_one_slot_and_as_many_as_there_can_be(slots: int) -> None:
    tried = Router(ME, [1], slots, 0)
    owner_of_slot = [slot % 2 for slot in range(slots)]
    tried.set_table(agreed(1, (PEER, THIRD), owner_of_slot))
    words = [f"w{number}" for number in range(1000)]
    tried.put(0, words, words)
    left = flush_all(tried)
    for batch in left:
        for key, _ in records_of(batch):
            assert batch.owner == (PEER, THIRD)[owner_of_slot[slot_of_key(key, 0, slots)]]
    assert sum(len(records_of(batch)) for batch in left) == 1000


# -- what is lost


def with_statuses(epoch: int, workers: tuple[bytes, ...], owners: list[int], statuses: list[int]) -> TableAgreed:
    return agreed(epoch, workers, owners, statuses=statuses, terms=[1 if each == ACTIVE else 2 for each in statuses])


def in_slot(slot: int) -> int:
    return next(key for key in range(1000) if slot_of_key(key, 0, SLOTS) == slot)


def test_nothing_waits_for_what_was_sent_to_a_process_that_has_ended() -> None:
    tried = routed(owners=(PEER, THIRD))
    tried.put(0, [in_slot(0)], ["sent"])
    tried.flush()
    assert tried.unsettled(2) == 1
    assert not tried.at_rest()
    after = with_statuses(2, (THIRD,), [0] * SLOTS, [ACTIVE if slot % 2 else LOST for slot in range(SLOTS)])
    tried.set_table(after)
    assert tried.unsettled(3) == 0
    assert tried.at_rest()
    assert not tried.idle(), "a record was lost, and nobody may call the job done"


def test_nothing_waits_for_records_of_lost_slots_and_everything_for_the_others() -> None:
    tried = routed(owners=(PEER, THIRD))
    after = with_statuses(2, (THIRD,), [0] * SLOTS, [ACTIVE if slot % 2 else LOST for slot in range(SLOTS)])
    tried.set_table(after)
    tried.put(0, [in_slot(0), in_slot(1)], ["lost", "good"])
    assert not tried.at_rest()
    sent = tried.flush()
    assert [records_of(batch) for batch in sent] == [[(in_slot(1), "good")]]
    answer(tried, sent)
    assert tried.at_rest()
    assert not tried.idle()
    assert tried.waits_for() == set()


def test_what_an_ended_process_never_answered_for_a_lost_slot_leaves_first_when_the_slot_starts_again() -> None:
    tried = routed(owners=(PEER, THIRD))
    for value in ("first", "second"):
        tried.put(0, [in_slot(0), in_slot(2)], [value, value])
        tried.flush()
    tried.put(0, [in_slot(0)], ["held"])
    tried.set_table(agreed(2, (PEER, THIRD), [slot % 2 for slot in range(SLOTS)], down=(PEER,)))
    lost = with_statuses(3, (THIRD,), [0] * SLOTS, [LOST if slot == 0 else ACTIVE for slot in range(SLOTS)])
    tried.set_table(lost)
    assert tried.flush() == []
    tried.put(0, [in_slot(0)], ["new"])
    tried.set_table(agreed(4, (THIRD,), [0] * SLOTS, terms=[3 if slot == 0 else 1 for slot in range(SLOTS)]))
    sent = tried.released() + tried.flush()
    assert {batch.owner for batch in sent} == {THIRD}
    found = [record for batch in sent for record in records_of(batch)]
    assert found == [(in_slot(0), value) for value in ("first", "second", "held", "new")]
    answer(tried, sent)
    assert tried.at_rest()
    assert not tried.idle(), "what was sent for the other slot may have been applied, or not"


def test_the_full_window_of_who_said_farewell_stops_nothing_any_more() -> None:
    tried = routed(window_bytes=1, owners=(PEER, THIRD))
    tried.put(0, [in_slot(0)], ["sent"])
    tried.flush()
    assert any(lane.blocked for lane in tried.lanes())
    tried.farewell(PEER, 1)
    assert not any(lane.blocked for lane in tried.lanes())


def test_a_refusal_of_nothing_holds_nothing_back() -> None:
    tried = routed(owners=(PEER, THIRD))
    tried.put(0, [in_slot(0)], ["sent"])
    tried.flush()
    assert tried.done(PEER, 0, 1, 1, {0: 9}) is None
    tried.put(0, [in_slot(0)], ["next"])
    assert [records_of(batch) for batch in tried.flush()] == [[(in_slot(0), "next")]]


def test_what_is_sent_to_a_worker_that_is_only_down_is_waited_for() -> None:
    tried = routed(owners=(PEER, THIRD))
    tried.put(0, [in_slot(0)], ["sent"])
    tried.flush()
    tried.put(0, [in_slot(0)], ["held"])
    tried.set_table(agreed(2, (PEER, THIRD), [slot % 2 for slot in range(SLOTS)], down=(PEER,)))
    assert tried.unsettled(3) == 1
    assert not tried.at_rest()
    assert tried.waits_for() == {PEER}


def test_what_is_held_behind_an_unanswered_batch_waits_for_its_owner_and_not_for_the_next_one() -> None:
    tried = routed(owners=(PEER, THIRD))
    tried.put(0, [in_slot(0)], ["sent"])
    tried.flush()
    tried.set_table(agreed(2, (PEER, THIRD), [1] * SLOTS, terms=[2] * SLOTS))
    tried.put(0, [in_slot(0)], ["held"])
    assert tried.waits_for() == {PEER}
    tried.done(PEER, 0, 1)
    assert tried.waits_for() == {THIRD}
