"""What was put is read wherever it is: waiting, recent, settling, in its place; and so it is after a crash.

Puts are drawn from a seed, and so is when the store is full, what becomes durable, and when the process dies. Then
deliberate mistakes, each of which some of these seeds catch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from mesh.core.journal import Settling
from mesh.core.shelf import JOURNAL, MARKS, Much, Shelf
from mesh.runtime.store import MemoryStore
from mesh.sim.stores import ForgetfulStore

LITTLE = Much(changes=7, at_once=2)
SLOTS = 3
KEYS = (b"a", b"b", b"c")
PLACES = [(slot, stage, key) for slot in range(SLOTS) for stage in (0, 1, MARKS) for key in KEYS]
SEEDS = 20
Patch = pytest.MonkeyPatch


class Known:
    """What a shelf has to say, as plain dicts."""

    def __init__(self, states: dict[tuple[int, int, bytes], bytes], metas: dict[int, bytes]) -> None:
        self.states = {**states}
        self.metas = {**metas}

    def after_a_put(self, shelf: Shelf, random: Random) -> Known:
        known = Known(self.states, self.metas)
        if random.random() < 0.3:
            known._drop(shelf, random.randrange(SLOTS))
        slots = [slot for slot in range(SLOTS) if random.random() < 0.5]
        keys, states = [random.choice(KEYS) for _ in slots], [random.randbytes(2) for _ in slots]
        stage = random.choice((0, 1, MARKS))
        shelf.changes(stage, slots, keys, states)
        known.states.update({(slot, stage, key): each for slot, key, each in zip(slots, keys, states, strict=True)})
        place = random.choice(PLACES)
        shelf.change(*place, None)
        known.states.pop(place, None)
        for slot in (*slots, place[0]):
            known.metas[slot] = random.randbytes(1)
            shelf.meta(slot, known.metas[slot])
        shelf.flush()
        return known

    def _drop(self, shelf: Shelf, slot: int) -> None:
        shelf.drop(slot)
        self.states = {place: state for place, state in self.states.items() if place[0] != slot}
        self.metas.pop(slot, None)

    def is_what(self, shelf: Shelf, at_most: int) -> bool:
        found = {place: state for place in PLACES if (state := shelf.get(*place)) is not None}
        return found == scanned(shelf, at_most) == self.states and shelf.metas() == self.metas


def scanned(shelf: Shelf, at_most: int) -> dict[tuple[int, int, bytes], bytes]:
    found = []
    for slot in range(SLOTS):
        chunk = shelf.scan(slot, None, at_most)
        found += [(slot, *each) for each in chunk.states]
        while chunk.after is not None:
            chunk = shelf.scan(slot, chunk.after, at_most)
            found += [(slot, *each) for each in chunk.states]
    assert found == sorted(found), "in order, and each once"
    return {(slot, stage, key): state for slot, stage, key, state in found}


def is_right(seed: int) -> bool:
    """Is what is read at any time what was put, or, after a crash, what was put up to some time after a commit?"""
    random = Random(seed)
    store = ForgetfulStore()
    shelf = Shelf(store, 1 << 20, LITTLE)
    known = [Known({}, {})]  # each may be what a crash leaves
    for step in range(60):
        store.full = random.random() < 0.2
        shelf.retry(100 * step)
        known.append(known[-1].after_a_put(shelf, random))
        if not shelf.stalls() and random.random() < 0.1:
            store.commit()
            known = known[-1:]
        if random.random() < 0.1:
            store = store.crash(random)
            shelf = Shelf(store, 1 << 20, LITTLE)
            known = [each for each in known if each.is_what(shelf, 1)][-1:]
        if not known or not known[-1].is_what(shelf, random.choice((1, 5, 1000))):
            return False
    return True


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_was_put_is_read_wherever_it_is_and_a_crash_leaves_whole_puts(seed: int) -> None:
    assert is_right(seed)


def test_a_key_that_changes_with_every_put_reaches_its_place_seldom_and_the_journal_stays_short() -> None:
    store = MemoryStore()
    shelf = Shelf(store, 1 << 20, LITTLE)
    reached, longest = [], 0
    for number in range(100):
        shelf.change(1, 0, b"hot", b"%d" % number)
        shelf.flush()
        reached.append(store.get(1, 0, b"hot"))
        longest = max(longest, len(store.scan(JOURNAL).states))
    assert 100 // 10 <= len(set(reached)) <= 100 // 7 + 1
    assert longest <= 10


def test_a_large_state_settles_at_once() -> None:
    store = MemoryStore()
    shelf = Shelf(store, 1 << 20, Much(bytes=1000))
    for _ in range(3):
        shelf.change(1, 0, b"large", b"x" * 1000)
        shelf.flush()
    assert store.get(1, 0, b"large") is not None
    assert len(store.scan(JOURNAL).states) <= 2


@pytest.mark.parametrize("turned", [False, True])
def test_what_comes_in_other_sizes_than_what_settles_does_not_pile_up(turned: bool) -> None:
    """Many small changes settle while few large ones come; and the other way round."""
    store, much = MemoryStore(), Much(changes=1000, bytes=100_000, at_once=10, bytes_at_once=100)
    shelf, longest = Shelf(store, 1 << 30, much), 0
    small, large = [b""] * 50, [b"x" * 10_000]
    for round in range(200):
        values = small if (round // 40 % 2 == 0) != turned else large
        names = [b"%d-%d" % (round, number) for number in range(len(values))]
        shelf.changes(0, [1] * len(values), names, values)
        shelf.flush()
        longest = max(longest, sum(len(record) for _, _, record in store.scan(JOURNAL, None, 1 << 30).states))
    assert 100_000 < longest < 3 * 100_000


# -- mistakes ---------------------------------------------------------------------------------------------------------


def forgets_its_journal_at_the_start(patch: Patch) -> None:
    patch.setattr(Shelf, "_take_in_journal", lambda self: None)


def settles_no_drops(patch: Patch) -> None:
    begin = Settling.__init__

    def forgetful(self: Any, *given: Any) -> None:
        begin(self, *given)
        self._drop = []

    patch.setattr(Settling, "__init__", forgetful)


def lets_records_go_that_have_not_settled(patch: Patch) -> None:
    without = Shelf._without_records
    patch.setattr(Shelf, "_without_records", lambda self, last: without(self, self.last))


def settles_what_is_in_no_record_yet(patch: Patch) -> None:
    """Past what waits for room."""
    settle = Shelf._settle

    def hasty(self: Any, *came: int) -> None:
        waiting, self._waiting = self._waiting, deque()
        settle(self, *came)
        self._waiting = waiting + self._waiting

    patch.setattr(Shelf, "_settle", hasty)


def forgets_what_settles_before_it_is_there(patch: Patch) -> None:
    patch.setattr(Shelf, "_in_memory", lambda self: [self._recent])


def reads_what_settles_first(patch: Patch) -> None:
    in_memory = Shelf._in_memory
    patch.setattr(Shelf, "_in_memory", lambda self: reversed([*in_memory(self)]))


def scans_past_what_is_recent(patch: Patch) -> None:
    patch.setattr(Shelf, "scan", lambda self, *given: self._store.scan(*given))


MUTANTS = [
    forgets_its_journal_at_the_start,
    settles_no_drops,
    lets_records_go_that_have_not_settled,
    settles_what_is_in_no_record_yet,
    forgets_what_settles_before_it_is_there,
    reads_what_settles_first,
    scans_past_what_is_recent,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    assert not all(is_right(seed) for seed in range(SEEDS)), "the mutant lives"
