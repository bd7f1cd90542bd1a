"""Numbered records: each is taken once and in order, and is over once, whoever owns its slot meanwhile."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mesh.core import codec
from mesh.core.codec import Malformed
from mesh.core.columns import slots_to_bytes
from mesh.core.events.planes import Delivered, TableAgreed
from mesh.core.intake import Intake
from mesh.core.keys import slot_of_key
from mesh.core.messages.work import Batch, NumberedRun
from mesh.core.numbers import Numbers
from mesh.core.packing import Packed
from mesh.core.router import Router
from mesh.core.slot import ACTIVE, LOST, PENDING
from tests.numbered_kit import ME, PLANS, SLOTS, Name, Untravelled, World, names_of
from tests.tables import agreed

PEER, THIRD = b"p" * 16, b"t" * 16
SPLIT = (False, 0, "x")


def by_stream(names: list[Name]) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for producer, origin, number in names:
        found.setdefault((producer, origin), []).append(number)
    return found


@pytest.mark.parametrize("seed", [*range(40), 299])
def test_each_number_is_taken_once_and_in_order_and_is_over_once(seed: int) -> None:
    world = World(seed)
    for _ in range(800):
        world.step_any()
    assert world.finish(), world.router.waits_for()
    for place, truth in world.truth.items():
        assert by_stream(truth.log) == by_stream(world.put_names.get(place, []))
    assert sorted(world.over) == sorted(world.all_put)
    assert world.router.at_rest()
    assert world.router.unsettled(len(world.tables) + 1) == 0
    assert world.router.waits_for() == set()


# -- one slot at a time


def table(epoch: int, owner: int = 0, term: int = 1, since: int = 1, status: int = ACTIVE, **more: Any) -> TableAgreed:
    """All slots alike; of two peers one is their owner."""
    count = more.pop("workers", (PEER, THIRD))
    donors = [more.pop("donor")] * SLOTS if "donor" in more else None
    made = agreed(epoch, count, [owner] * SLOTS, donors=donors, statuses=[status] * SLOTS, terms=[term] * SLOTS, **more)
    return dataclasses.replace(made, since_of_slot=(since,) * SLOTS)


def routed(first: TableAgreed | None = None, window: int = 1 << 20) -> Router:
    made = Router(ME, [1], SLOTS, 0, window, 4, numbered=True)
    made.set_table(first or table(1))
    return made


def put(to: Router, *numbers: int, key: Any = "a", value: Any = None) -> list[Packed]:
    """And all that may leave."""
    to.put(0, [key] * len(numbers), [value] * len(numbers), Numbers([*numbers], [0] * len(numbers), [0], [SPLIT]))
    return to.flush()


def sent(batches: list[Packed]) -> list[tuple[bytes, list[int]]]:
    found = []
    for each in batches:
        batch = codec.decode_with_values(each.payload)
        assert isinstance(batch, Batch)
        found.append((each.owner, Numbers.from_runs(batch.runs).numbers))
    return found


def over(of: Router) -> list[int]:
    return [number for _, numbers in of.take_over() for _, _, number in names_of(numbers)]


def slot_of(key: Any) -> int:
    return slot_of_key(key, 0, SLOTS)


def test_what_is_on_its_way_goes_to_the_promoted_owner_at_once_and_before_what_is_newer() -> None:
    tried = routed()
    put(tried, 1, 2)
    put(tried, 3)
    tried.set_table(table(2, 1, 2, 2, PENDING, donor=1, down=(PEER,)))
    assert put(tried, 4) == []
    tried.set_table(table(3, 1, 2, 2, down=(PEER,)))
    assert sent(tried.released() + tried.flush()) == [(THIRD, [1, 2, 3]), (THIRD, [4])]
    assert tried.done(PEER, 0, 2, 3) is None
    assert over(tried) == [], "it was not the owner any more"
    assert tried.done(THIRD, 0, 1, 3) is None
    assert over(tried) == [1, 2, 3]


def test_while_it_is_handed_over_the_donor_still_answers_and_then_no_more() -> None:
    tried = routed()
    put(tried, 1)
    put(tried, 2)
    tried.set_table(table(2, 1, 2, 1, PENDING, donor=0))
    assert tried.done(PEER, 0, 1, 1) is None
    assert over(tried) == [1]
    tried.set_table(table(3, 1, 2, 2))
    assert tried.done(PEER, 0, 2, 1) is None
    assert over(tried) == []
    assert sent(tried.released() + tried.flush()) == [(THIRD, [2])]


def test_a_change_of_backups_holds_nothing() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(2, term=2))
    assert sent(put(tried, 2)) == [(PEER, [2])], "batch 1 is unanswered, and that does not matter"
    assert tried.done(PEER, 0, 2, 1) is None
    assert over(tried) == [1, 2]


def test_an_owner_that_may_have_stopped_meanwhile_is_sent_nothing_new_before_it_has_answered() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(3, term=3))
    assert put(tried, 2) == []
    assert tried.done(PEER, 0, 1, 2, {slot_of("a"): 0}) is None
    assert sent(tried.released() + tried.flush()) == [(PEER, [1]), (PEER, [2])]


def test_the_same_term_under_another_owner_is_another_reign() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(1_000_000_000, 1))
    assert sent(tried.released() + tried.flush()) == [(THIRD, [1])]


def test_a_late_refusal_of_what_was_taken_back_is_ignored_and_one_of_the_rest_is_not() -> None:
    other = next(key for key in map(str, range(99)) if slot_of(key) != slot_of("a"))
    tried = routed()
    tried.put(0, ["a", other, "a"], [None] * 3, Numbers([1, 2, 3], [0] * 3, [0], [SPLIT]))
    assert sent(tried.flush()) == [(PEER, [1, 2, 3])]
    changed = [slot == slot_of("a") for slot in range(SLOTS)]
    terms = tuple(1 + each for each in changed)
    after = dataclasses.replace(table(2), owner_of_slot=tuple(map(int, changed)), term_of_slot=terms)
    tried.set_table(dataclasses.replace(after, since_of_slot=terms))
    assert sent(tried.released() + tried.flush()) == [(THIRD, [1, 3])]
    assert tried.done(PEER, 0, 1, 9, {slot_of("a"): 0, slot_of(other): 1}) is None
    assert tried.flush() == [], "the other slot waits for the table that its owner knows"
    assert tried.done(THIRD, 0, 1) is None
    assert over(tried) == [1, 3]
    assert not tried.idle()
    assert tried.done(THIRD, 0, 2) is not None, "a false claim is one still"


def test_the_full_window_of_who_is_down_stops_nothing_once_its_slots_have_another_owner() -> None:
    tried = routed(window=1)
    put(tried, 1)
    assert not tried.open_for(0)
    tried.set_table(table(3, 1, 2, 2, down=(PEER,)))
    assert len(tried.released() + tried.flush()) == 1
    assert tried.done(THIRD, 0, 1) is None
    assert tried.open_for(0)
    assert tried.bytes_in_flight() == 0
    assert tried.idle()


def test_nothing_is_kept_of_who_has_ended_and_what_it_says_later_is_ignored() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(3, 0, 2, 2, workers=(THIRD,)))
    assert {lane.owner for lane in tried.lanes()} == {THIRD}
    assert tried.done(PEER, 0, 1) is None
    assert tried.waits_for() == {THIRD}
    assert tried.done(PEER, 1, 1) is not None, "there is no such stage"


def test_what_is_lost_is_held_and_nothing_waits_for_it_until_its_slot_starts_again() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(2, 0, 2, 2, LOST, workers=(THIRD,)))
    assert tried.at_rest()
    assert tried.unsettled(3) == 0
    assert not tried.idle()
    put(tried, 2)
    tried.set_table(table(3, 0, 3, 3, workers=(THIRD,)))
    assert sent(tried.released() + tried.flush()) == [(THIRD, [1]), (THIRD, [2])]
    assert not tried.at_rest()


def test_what_waits_for_an_owner_that_is_down_waits_while_it_may_return() -> None:
    tried = routed()
    put(tried, 1)
    tried.set_table(table(2, down=(PEER,)))
    assert put(tried, 2) == []
    assert tried.unsettled(2) == 1
    assert tried.waits_for() == {PEER}
    tried.set_table(table(3))
    assert tried.flush() == []
    assert tried.done(PEER, 0, 1) is None
    assert sent(tried.released() + tried.flush()) == [(PEER, [2])]


def test_who_says_farewell_has_refused_all_that_it_has_not_answered() -> None:
    tried = routed()
    put(tried, 1)
    tried.farewell(PEER, 1)
    tried.set_table(table(3, 0, 2, 2, workers=(THIRD,), left=(PEER,)))
    assert sent(tried.released() + tried.flush()) == [(THIRD, [1])]


def test_what_is_set_aside_is_over_at_once() -> None:
    tried = routed()
    put(tried, 1, key=True)
    put(tried, 2, value=Untravelled())
    assert over(tried) == [1, 2]
    assert over(tried) == []
    assert len(tried.set_aside()) == 2
    assert tried.idle()


# -- what comes


RUN = NumberedRun(False, 1, "x", b"", 7, b"\0\0\0\0\1\0\0\0")
GOOD = Batch(0, 1, 1, slots_to_bytes([3, 4]), ["a", "b"], None, (RUN,))


def intake(*, numbered: bool = True) -> Intake:
    made = Intake(PLANS, numbered=numbered, sources=2, slots=SLOTS)
    made.set_table(1, (PEER,))
    return made


@pytest.mark.parametrize(
    "bad",
    [
        dataclasses.replace(GOOD, runs=()),
        dataclasses.replace(GOOD, runs=(RUN, RUN)),
        dataclasses.replace(GOOD, runs=(dataclasses.replace(RUN, producer=2),)),
        dataclasses.replace(GOOD, slots=slots_to_bytes([3, SLOTS])),
    ],
)
def test_records_without_their_numbers_or_a_slot_are_refused_and_change_nothing(bad: Batch) -> None:
    tried = intake()
    with pytest.raises(Malformed):
        tried.delivered(Delivered(PEER, 1, b""), bad)
    assert tried.empty()
    tried.delivered(Delivered(PEER, 1, b""), GOOD)
    batch, _ = tried.take(0, 9)
    assert batch.numbers is not None
    assert names_of(batch.numbers) == [((False, 1, "x"), 0, 7), ((False, 1, "x"), 0, 8)]


def test_where_none_is_numbered_nobody_may_send_numbers() -> None:
    with pytest.raises(Malformed):
        intake(numbered=False).delivered(Delivered(PEER, 1, b""), GOOD)


def test_numbers_stay_with_their_records_in_parts_and_choices() -> None:
    tried = intake()
    tried.delivered(Delivered(PEER, 1, b""), GOOD)
    first, _ = tried.take(0, 1)
    second, _ = tried.take(0, 1)
    for part, number in ((first, 7), (second, 8)):
        assert part.numbers is not None
        assert part.numbers.numbers == [number]
    for chosen in (second.only([True]), second.without([3])):
        assert chosen.numbers is not None
        assert (chosen.keys, [*chosen.slot_list()], chosen.numbers.numbers, chosen.start) == (["b"], [4], [8], 1)
    none = second.without([4])
    assert (none.keys, none.numbers, none.refused) == ([], Numbers(), {3: 1, 4: 1})
