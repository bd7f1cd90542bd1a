"""States change once a record, in order; a record whose step raises leaves no trace, whatever its state is made of."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.app.fragment import Emit, Fragment
from mesh.app.graph import StageKind
from mesh.app.plan import StagePlan
from mesh.core import guard, owner
from mesh.core.guard import Applied
from mesh.core.owner import Owner, StageStates

SLOTS = 16
SHIFT = 33 - SLOTS.bit_length()


def nothing(keys: list[Any] | None, values: list[Any], out: Emit) -> None:
    pass


def stage(kind: StageKind, new: Callable[[], Any], step: Any, *, read: bool = True) -> StageStates:
    """One whose outputs somebody reads, or nobody."""
    fragment = Fragment(nothing, (0,) if read else (), ())
    return StageStates(StagePlan(0, "stage", 1, new, step, kind, fragment, "app.py:1"), SHIFT, 0)


def failed(applied: Applied) -> list[int]:
    return [index for index, _ in applied.failures]


@dataclass
class Account:
    """Changes itself before it fails."""

    total: int = 0
    seen: list[int] = field(default_factory=list)

    def on_record(self, amount: int) -> Any:
        self.seen.append(amount)
        self.total += amount
        if amount < 0:
            raise ValueError(amount)
        return self.seen if amount % 2 else None


class Cell:
    """Neither a dataclass nor anything that travels."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.values == other.values

    def __hash__(self) -> int:
        return 0


def appended(state: list[int], value: int) -> list[int]:
    state.append(value)
    if value < 0:
        raise ValueError(value)
    return state


def appended_in_tuple(state: tuple[list[int], int], value: int) -> tuple[list[int], int]:
    appended(state[0], value)
    return state[0], state[1] + 1


def listed_from_the_second_on(state: Any, value: int) -> Any:
    """The first state is plain, later ones are not."""
    return value if state is None and value >= 0 else appended(state if type(state) is list else [state], value)


def celled(state: Cell, value: int) -> tuple[Cell, Any]:
    appended(state.values, value)
    return state, state


def summed(state: int, value: int) -> int:
    if value < 0:
        raise ValueError(value)
    return state + value


def forked(state: Any, value: int) -> tuple[Any, Any]:
    """A new object a record, which shares a part with the one before."""
    after = {"last": value, "all": appended(state["all"], value)} if state else {"last": value, "all": [value]}
    if value % 5 == 0:
        raise KeyError(value)
    return after, after["all"] if value % 2 else None


KINDS: list[tuple[StageKind, Callable[[], Any], Any]] = [
    ("class", Account, Account.on_record),
    ("fold", list, appended),
    ("fold", lambda: ([], 0), appended_in_tuple),
    ("fold", lambda: None, listed_from_the_second_on),
    ("fold", int, summed),
    ("step", Cell, celled),
    ("step", lambda: None, forked),
]


def run_with_copies(
    kind: StageKind, new: Any, step: Any, records: list[tuple[str, int]]
) -> tuple[dict[Any, Any], list[Any], list[int]]:
    """What shall come out: a deep copy of everything around each single record."""
    states: dict[Any, Any] = {}
    outs, failures = [], []
    for index, (key, value) in enumerate(records):
        state = copy.deepcopy(states[key]) if key in states else new()
        try:
            if kind == "fold":
                state = out = step(state, value)
            elif kind == "class":
                out = state.on_record(value)
            else:
                state, out = step(state, value)
        except Exception:
            failures.append(index)
            continue
        states[key] = copy.deepcopy(state)
        if out is not None:
            outs.append((key, copy.deepcopy(out)))
    return states, outs, failures


@pytest.mark.parametrize("small_image", [0, 4096])
@pytest.mark.parametrize(("kind", "new", "step"), KINDS)
@given(batches=st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 10)), max_size=12), max_size=4))
def test_batches_do_what_a_deep_copy_around_every_record_would_do(
    small_image: int, kind: StageKind, new: Any, step: Any, batches: list[list[tuple[str, int]]]
) -> None:
    tried, plain = stage(kind, new, step), []
    got_outs: list[Any] = []
    got_failures: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "SMALL_IMAGE", small_image)  # 0: images once a batch, so what is good runs again
        for batch in batches:
            applied = tried.apply([key for key, _ in batch], [value for _, value in batch])
            got_outs += zip(applied.out_keys, applied.outs, strict=True)
            got_failures += [len(plain) + index for index in failed(applied)]
            plain += batch
    states, outs, failures = run_with_copies(kind, new, step, plain)
    assert tried.states == states
    assert got_outs == outs
    assert got_failures == failures


@given(st.lists(st.tuples(st.one_of(st.text(), st.integers(), st.binary()), st.integers())))
def test_equal_looking_keys_of_different_types_have_states_of_their_own(records: list[tuple[Any, int]]) -> None:
    records = [*records, ("1", 10), (1, 100), (b"1", 1000)]
    tried = stage("fold", int, lambda n, value: n + value, read=False)
    tried.apply([key for key, _ in records], [value for _, value in records])
    assert tried.states == {
        key: sum(value for other, value in records if (type(other), other) == (type(key), key)) for key, _ in records
    }


def test_a_state_is_made_at_a_keys_first_record_and_never_before() -> None:
    made: list[int] = []

    def new() -> int:
        made.append(1)
        return 0

    tried = stage("fold", new, lambda n, value: n + value)
    assert not made
    tried.apply(["a", "b", "a"], [1, 1, 1])
    assert (len(made), tried.states) == (2, {"a": 2, "b": 1})


@pytest.mark.parametrize("kind", ["fold", "step", "class"])
def test_every_step_runs_once_a_record_also_around_a_failure(kind: StageKind) -> None:
    runs: list[int] = []

    class Counted:
        def __init__(self) -> None:
            self.values: list[int] = []

        def on_record(self, value: int) -> int:
            runs.append(value)
            appended(self.values, value)
            return value

    def step(state: Any, value: int) -> Any:
        out = state.on_record(value)
        return state if kind == "fold" else (state, out)

    tried = stage(kind, Counted, step)
    applied = tried.apply(list("aaab"), [1, 2, 3, 4])
    assert runs == [1, 2, 3, 4]
    assert not applied.failures


class Diary:
    """Its entries are never the same twice."""

    turn = 0

    def __init__(self) -> None:
        self.entries: list[int] = []

    def on_record(self, value: int) -> int:
        Diary.turn += 1
        self.entries.append(Diary.turn)
        if value < 0:
            raise ValueError(value)
        return Diary.turn


def test_a_small_state_is_put_back_without_running_anything_again() -> None:
    tried = stage("class", Diary, Diary.on_record)
    applied = tried.apply(list("aaaa"), [1, 2, -1, 3])
    assert failed(applied) == [2]
    assert tried.states["a"].entries == applied.outs


def test_an_output_that_is_the_state_is_what_it_was_when_it_was_made() -> None:
    tried = stage("fold", list, appended)
    applied = tried.apply(list("aaa"), [1, 2, 3])
    assert applied.outs == [[1], [1, 2], [1, 2, 3]]
    tried.apply(["a"], [4])
    assert applied.outs == [[1], [1, 2], [1, 2, 3]]


def test_a_wrong_tuple_is_that_records_failure() -> None:
    answers: dict[int, Any] = {0: (1, 2, 3), 1: None, 2: 5, 3: (7, "out"), 4: (1,)}
    tried = stage("step", int, lambda state, value: answers[value])
    applied = tried.apply(list("aaaaa"), [0, 1, 2, 3, 4])
    assert failed(applied) == [0, 1, 2, 4]
    assert (tried.states, applied.outs) == ({"a": 7}, ["out"])


@pytest.mark.parametrize("error", [KeyError, StopIteration, RecursionError, MemoryError, AssertionError, IndexError])
@pytest.mark.parametrize("new", [int, list])
def test_any_error_of_a_step_is_its_records_alone(error: type[Exception], new: Any) -> None:
    def step(state: Any, value: int) -> Any:
        if value < 0:
            raise error
        return state + ([value] if new is list else value)

    tried = stage("fold", new, step)
    applied = tried.apply(list("abab"), [-1, 2, 3, -4])
    assert failed(applied) == [0, 3]
    assert [type(raised) for _, raised in applied.failures] == [error, error]
    assert tried.states == {"b": new() + ([2] if new is list else 2), "a": new() + ([3] if new is list else 3)}


@pytest.mark.parametrize("new", [int, list])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_passes_through(new: Any, error: type[BaseException]) -> None:
    def step(state: Any, value: Any) -> Any:
        raise error

    tried = stage("fold", new, step)
    with pytest.raises(error):
        tried.apply(["a"], [1])


def test_a_new_that_raises_creates_nothing() -> None:
    def new() -> int:
        raise RuntimeError

    tried = stage("fold", new, lambda n, _: n)
    assert failed(tried.apply(["a", "b"], [1, 2])) == [0, 1]
    assert tried.states == {}


def test_a_state_that_cannot_be_copied_is_refused_at_its_first_record() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def on_record(self, value: int) -> int:
            return value

    tried = stage("class", Locked, Locked.on_record)
    applied = tried.apply(["a", "a"], [1, 2])
    assert failed(applied) == [0, 1]
    assert "cannot be a state" in str(applied.failures[0][1])
    assert (tried.states, applied.outs) == ({}, [])


def test_a_state_that_cannot_be_copied_any_more_stays_as_it_is_and_is_told() -> None:
    def step(state: list[Any], value: int) -> list[Any]:
        state.append(threading.Lock() if value < 0 else value)
        return state

    tried = stage("fold", list, step, read=False)
    assert not tried.apply(["a", "a"], [1, -1]).failures
    assert failed(tried.apply(["a", "b"], [2, 3])) == [0]
    assert len(tried.states["a"]) == 2
    assert tried.states["b"] == [3]


def test_code_that_fails_when_it_runs_again_does_not_end_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SMALL_IMAGE", 0)
    calls: list[int] = []

    def step(state: list[int], value: int) -> list[int]:
        calls.append(value)
        if value < 0 or len(calls) > 3:
            raise ValueError(value)
        return appended(state, value)

    tried = stage("fold", list, step)
    applied = tried.apply(list("aab"), [1, -1, 1])
    assert 1 in failed(applied)
    assert failed(applied).count(1) <= 2
    assert tried.states["a"] in ([], [1])


def test_a_generator_of_outputs_is_drawn_within_the_step() -> None:
    class Mails:
        def __init__(self) -> None:
            self.sent: list[int] = []

        def on_record(self, value: int) -> Iterator[int]:
            for number in range(value):
                self.sent.append(number)
                yield number
            if value == 3:
                raise ValueError(value)

    tried = stage("class", Mails, Mails.on_record)
    applied = tried.apply(list("aaa"), [1, 3, 2])
    assert applied.outs == [[0], [0, 1]]
    assert failed(applied) == [1]
    assert tried.states["a"].sent == [0, 0, 1]


def test_no_output_is_made_that_nobody_reads() -> None:
    for kind, new, step in KINDS:
        if kind == "fold":
            assert not stage(kind, new, step, read=False).apply(list("aab"), [1, 2, 3]).outs
    guarded = stage("class", Account, Account.on_record, read=False)
    assert not guarded.apply(list("aab"), [1, 3, 5]).outs


def test_an_empty_batch_changes_nothing() -> None:
    for kind, new, step in KINDS:
        tried = stage(kind, new, step)
        assert tried.apply([], []) == Applied()
        assert tried.states == {}


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError


def reading(new: Callable[[], Any]) -> Owner:
    plan = StagePlan(0, "stage", 1, new, lambda state, _: state, "fold", Fragment(nothing, (), ()), "app.py:1")
    all_states = Owner([plan], SLOTS, 0)
    all_states.apply(0, ["a"], [1])
    return all_states


def test_reading_finds_what_is_there_and_creates_nothing() -> None:
    all_states = reading(lambda: {"n": [1]})
    assert all_states.read("stage", "a") == ("found", b'{"n": [1]}')
    assert all_states.read("stage", "b") == ("absent", b"")
    assert all_states.read("stag", "a") == ("unknown-stage", b"")
    assert all_states.key_count() == 1


def test_any_state_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, text = reading(Mute).read("stage", "a")
    assert (outcome, text) == ("found", b'{"repr": "<Mute>"}')
    monkeypatch.setattr(owner, "MAX_STATE", 10)
    assert reading(lambda: "x" * 100).read("stage", "a")[1].startswith(b'{"repr"')
    assert reading(lambda: "\ud800").read("stage", "a") == ("found", b'"?"')


# -- where states must travel -----------------------------------------------------------------------------------------

SURROGATE, LOCK = "\ud800", -2


def marked(state: dict[str, Any], value: int) -> tuple[dict[str, Any], Any]:
    """LOCK and what is above 90 make a state that cannot travel; -1 fails."""
    state["seen"] = [*state.get("seen", []), value]
    if value == -1:
        raise ValueError(value)
    if value == LOCK:
        state["seen"].append(SURROGATE)
    return state, [value, len(state["seen"])]


def texted(state: str, value: int) -> str:
    return state + (SURROGATE if value == LOCK else str(value))


def padded(state: dict[str, Any], value: int) -> tuple[dict[str, Any], Any]:
    """Large from the beginning."""
    state.setdefault("weight", list(range(3 * guard.SMALL_IMAGE)))
    return marked(state, value)


@pytest.mark.parametrize(
    ("kind", "new", "step"), [("step", dict, marked), ("step", dict, padded), ("fold", str, texted)]
)
@given(batches=st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2, -1, LOCK])))))
def test_a_record_after_which_a_state_cannot_travel_leaves_no_trace(
    kind: StageKind, new: Callable[[], Any], step: Any, batches: list[list[tuple[str, int]]]
) -> None:
    bad = (LOCK,) if step is texted else (LOCK, -1)
    with_bad, without = stage(kind, new, step), stage(kind, new, step)
    with_bad.must_travel = without.must_travel = True
    for batch in batches:
        keys, items = [key for key, _ in batch], [value for _, value in batch]
        good = [(key, value) for key, value in batch if value not in bad]
        applied = with_bad.apply(keys, items)
        expected = without.apply([key for key, _ in good], [value for _, value in good])
        assert sorted(failed(applied)) == [place for place, value in enumerate(items) if value in bad]
        assert with_bad.states == without.states
        for key in "ab":
            assert outputs_of(applied, key) == outputs_of(expected, key)


def outputs_of(applied: Applied, key: str) -> list[Any]:
    return [out for each, out in zip(applied.out_keys, applied.outs, strict=True) if each == key]
