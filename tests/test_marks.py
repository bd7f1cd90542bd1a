"""A record is new once, for each slot that takes it and whoever sends it again; marks move with their slot."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.marks import Marks, StageMarks

SLOTS = 4
pairs = st.tuples(st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1))


def replayed(records: list[int], cuts: list[tuple[int, int]]) -> list[list[int]]:
    """Batches of indexes: each cut goes back to a place and sends so many again."""
    return [list(range(start, min(len(records), start + count))) for start, count in cuts]


cuts = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=8).map(
    lambda starts: [(0, 1), *starts, (0, 100)]
)


def in_order(batches: list[list[int]]) -> list[list[int]]:
    """As a sender would: nobody sends a record before all earlier ones have been sent once."""
    sent, kept = 0, []
    for batch in batches:
        first = min(batch[0], sent) if batch else sent
        kept.append(list(range(first, batch[-1] + 1)) if batch else [])
        sent = max(sent, first + len(kept[-1]))
    return kept


@settings(max_examples=60)
@given(st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=20), cuts)
def test_a_record_of_a_split_is_new_once(slots: list[int], starts: list[tuple[int, int]]) -> None:
    marks, taken = StageMarks(SLOTS), []
    for batch in in_order(replayed(slots, starts)):
        news = marks.news_of_split((0, "x"), [slots[n] for n in batch], batch)
        taken += [n for place, n in enumerate(batch) if news is None or news[place]]
        assert all(marks.known((0, "x"), slots[n], n) for n in batch)
    assert taken == list(range(len(slots)))
    assert not marks.known((0, "x"), slots[-1], len(slots))
    assert not marks.known((0, "y"), slots[-1], 0)


@settings(max_examples=60)
@given(st.lists(pairs, min_size=1, max_size=20), cuts)
def test_what_a_slot_gave_is_new_once_to_each_slot(
    given_to: list[tuple[int, int]], starts: list[tuple[int, int]]
) -> None:
    marks, taken = StageMarks(SLOTS), []
    for batch in in_order(replayed([0] * len(given_to), starts)):
        origins, slots = [given_to[n][0] for n in batch], [given_to[n][1] for n in batch]
        news = marks.news_of_stage(1, origins, slots, batch)
        taken += [n for place, n in enumerate(batch) if news is None or news[place]]
        assert all(marks.known((1, given_to[n][0]), given_to[n][1], n) for n in batch)
    assert taken == list(range(len(given_to)))


def test_numbers_of_one_slot_may_come_behind_higher_ones_of_another() -> None:
    marks = StageMarks(SLOTS)
    assert marks.news_of_split((0, "x"), [1, 1], [5, 9]) is None
    assert marks.news_of_split((0, "x"), [2, 1, 2], [3, 9, 7]) == [True, False, True]
    assert not marks.known((0, "x"), 2, 8)


@settings(max_examples=40)
@given(st.lists(st.tuples(pairs, st.integers(0, 50)), max_size=15), st.integers(0, SLOTS - 1))
def test_marks_move_with_their_slot_and_no_other(made: list[tuple[tuple[int, int], int]], moved: int) -> None:
    here, there = StageMarks(SLOTS), StageMarks(SLOTS)
    for (origin, slot), number in made:
        here.raise_stage(0, [origin], [slot], [number])
        here.raise_split((0, str(origin)), [slot], [number])
    there.put(moved, here.of_slot(moved))
    here.drop(moved)
    assert not here.of_slot(moved).splits
    assert not here.of_slot(moved).stages
    for (origin, slot), number in made:
        for stream in ((0, origin), (0, str(origin))):
            assert there.known(stream, slot, number) == (slot == moved)
            assert here.known(stream, slot, number) == (slot != moved)


def test_a_record_that_is_in_one_batch_twice_is_new_once() -> None:
    marks = StageMarks(SLOTS)
    assert marks.news_of_split((0, "x"), [0, 1, 0, 0, 1], [4, 5, 6, 4, 5]) == [True, True, True, False, False]
    assert marks.news_of_split((0, "x"), [0, 0], [6, 7]) == [False, True]


def test_marks_never_fall() -> None:
    marks = StageMarks(SLOTS)
    marks.raise_split((0, "x"), [1], [7])
    marks.raise_split((0, "x"), [1], [3])
    marks.raise_stage(0, [2], [1], [7])
    marks.raise_stage(0, [2], [1], [3])
    assert marks.known((0, "x"), 1, 7)
    assert marks.known((0, 2), 1, 7)


def test_of_a_split_that_has_ended_everything_is_known_and_nothing_is_kept_but_its_name() -> None:
    marks = Marks(2, SLOTS)
    for number in range(100):
        stream = (0, str(number))
        marks.stages[0].raise_split(stream, [number % SLOTS], [number])
        marks.end_split(stream)
        assert marks.stages[0].known(stream, 0, 10**9)
        assert marks.stages[0].news_of_split(stream, [0, 1], [200, 201]) == [False, False]
        marks.stages[0].raise_split(stream, [1], [300])
    assert sum(stage.size() for stage in marks.stages) == 0


def test_arrays_are_as_many_as_slots_here_and_open_splits() -> None:
    marks = StageMarks(SLOTS)
    marks.news_of_stage(0, [0, 1, 2, 3], [1, 1, 2, 2], [1, 2, 3, 4])
    marks.news_of_split((0, "x"), [1, 2], [0, 1])
    assert marks.size() == 3 * SLOTS * 8
    marks.drop(1)
    assert marks.size() == 2 * SLOTS * 8
