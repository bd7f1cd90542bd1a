"""Nodes with stores die at any point, all at once too, and come back: what comes out is what one process would do.

Each world is drawn from its seed. Then deliberate mistakes, each of which some of these worlds catch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from mesh.core.committing import Committing
from mesh.core.events.work import CommitStore
from mesh.core.journal import Settling
from mesh.core.keeping import Keeping
from mesh.core.marks import StageMarks
from mesh.core.replicas import Replicas
from mesh.core.shelf import NODE, Shelf
from mesh.core.shelved_states import ShelvedStates
from mesh.core.shelving import Shelving
from tests.kept_checks import Job
from tests.kept_worlds import wrong_with
from tests.shelf_kit import a_stored_world

PARTS = 6
WORLDS = 6  # of each part
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_or_done_twice_though_all_may_die(part: int) -> None:
    seeds = range(part * WORLDS, (part + 1) * WORLDS)
    assert [(seed, wrong) for seed in seeds if (wrong := wrong_with(a_stored_world(seed)))] == []


@pytest.mark.parametrize("copies", [1, 2])
def test_these_worlds_have_what_they_are_about(copies: int) -> None:
    """Deaths, returns, promotions, stores without room, fills, requests that are answered and such that are not."""
    happened: Counter[str] = Counter()
    for seed in range(500, 512):
        world = a_stored_world(seed, copies=copies, nodes=2, faults=10)
        assert wrong_with(world) is None
        happened.update(world.happened)
    wanted = ["crash", "replace", "promotion", "full", "found", "committed", "gone"] + ["filled"] * (copies > 1)
    assert [each for each in wanted if not happened[each]] == []


def test_a_job_that_all_nodes_die_in_is_done() -> None:
    kinds = ["die", "replace", "replace"]
    world = a_stored_world(2, nodes=2, copies=1, faults=12, kinds=kinds, job=Job((30, 30, 5)))
    world.run()
    assert world.happened["crash"] > 2
    assert all(node.done for node in world.living())


# -- mistakes ---------------------------------------------------------------------------------------------------------


def answers_before_it_is_durable(patch: Patch) -> None:
    patch.setattr(Committing, "needs", lambda self, put: None)


def acknowledges_packs_before_they_are_durable(patch: Patch) -> None:
    def hasty(self: Any, effects: list[Any], shelving: Shelving) -> list[Any]:
        shelving.next_output(self.next_output)
        shelving.flush()
        return effects

    patch.setattr(Replicas, "_later", hasty)


def marks_a_hand_over_before_all_is_durable(patch: Patch) -> None:
    """Who goes on believes that the donor has all of it."""
    needs = Committing.needs

    def careless(self: Any, put: int) -> None:
        needs(self, put)
        self._newest_put = 0

    patch.setattr(Committing, "needs", careless)


def takes_what_is_put_for_durable(patch: Patch) -> None:
    """It asks for a commit, and does not wait for it."""
    effects = Keeping.store_effects

    def hasty(self: Any, now: int) -> list[Any]:
        found = effects(self, now)
        asked = [each.number for each in found if isinstance(each, CommitStore)]
        return found + [each for number in asked for each in self.durable(number)]

    patch.setattr(Keeping, "store_effects", hasty)


def acknowledges_a_commit_that_was_begun_before(patch: Patch) -> None:
    """Whatever was put until the answer came is taken for durable."""
    committed = Shelf.committed
    patch.setattr(Shelf, "committed", lambda self, number: committed(self, self._in_store()))


def forgets_at_once_that_a_copy_is_filled(patch: Patch) -> None:
    patch.setattr(Shelving, "filled", lambda self, slot: None)


def puts_no_outputs(patch: Patch) -> None:
    patch.setattr(Shelving, "_keep_outputs", lambda self, place, name, kept: None)


def puts_no_marks(patch: Patch) -> None:
    patch.setattr(Shelving, "_keep_marks", lambda self, pack: None)


def puts_marks_as_a_pack_says_them(patch: Patch) -> None:
    """Of records that were known, sent again, and are answered again, it says lower ones than there are."""
    keep = Shelving._keep_marks

    def literal(self: Any, pack: Any) -> None:
        given = {stream: numbers for stream, _, numbers in pack.splits}
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(StageMarks, "of_split", lambda self, stream, slots: given[stream])
            keep(self, pack)

    patch.setattr(Shelving, "_keep_marks", literal)


def puts_no_windows(patch: Patch) -> None:
    patch.setattr(Shelving, "_keep_windows", lambda self, pack: None)


def puts_marks_in_a_put_of_their_own(patch: Patch) -> None:
    keep = Shelving._keep_marks

    def apart(self: Any, pack: Any) -> None:
        self.shelf.flush()
        keep(self, pack)

    patch.setattr(Shelving, "_keep_marks", apart)


def begins_its_numbers_anew(patch: Patch) -> None:
    """Those of outputs."""
    change = Shelf.change

    def forgetful(self: Any, slot: int, stage: int, key: bytes, value: bytes | None) -> None:
        if slot != NODE or key != b"next output":
            change(self, slot, stage, key, value)

    patch.setattr(Shelf, "change", forgetful)


def drops_what_its_home_may_be_asked_for(patch: Patch) -> None:
    patch.setattr(Replicas, "_may_return", lambda self, copy, now: False)


def keeps_what_is_not_its_own_any_more(patch: Patch) -> None:
    """What is warm stays warm when the slot goes."""
    patch.setattr(ShelvedStates, "take_out", lambda self, slot: {})


def forgets_what_waits_for_room(patch: Patch) -> None:
    put = Shelf._put

    def careless(self: Any, draft: Any) -> bool:
        put(self, draft)
        return True

    patch.setattr(Shelf, "_put", careless)


def counts_a_key_again_when_it_is_loaded(patch: Patch) -> None:
    load = ShelvedStates._load
    patch.setattr(ShelvedStates, "_load", lambda self, keys: load(self, keys) or dict.fromkeys(keys))


def does_not_restore_marks_of_stages(patch: Patch) -> None:
    begin = Shelving.begin

    def forgetful(self: Any, me: bytes, marks: Any, splits: Any, kept: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(StageMarks, "raise_stage", lambda self, *columns: None)
            return begin(self, me, marks, splits, kept)

    patch.setattr(Shelving, "begin", forgetful)


def forgets_its_journal_at_the_start(patch: Patch) -> None:
    patch.setattr(Shelf, "_take_in_journal", lambda self: None)


def settles_a_part_and_takes_it_for_all(patch: Patch) -> None:
    begin = Settling.__init__

    def hasty(self: Any, *given: Any) -> None:
        begin(self, *given)
        self._changes = islice(self._changes, 1)

    patch.setattr(Settling, "__init__", hasty)


def lets_records_go_that_have_not_settled(patch: Patch) -> None:
    without = Shelf._without_records
    patch.setattr(Shelf, "_without_records", lambda self, last: without(self, self.last))


MUTANTS = [
    forgets_its_journal_at_the_start,
    settles_a_part_and_takes_it_for_all,
    lets_records_go_that_have_not_settled,
    answers_before_it_is_durable,
    acknowledges_packs_before_they_are_durable,
    marks_a_hand_over_before_all_is_durable,
    takes_what_is_put_for_durable,
    acknowledges_a_commit_that_was_begun_before,
    forgets_at_once_that_a_copy_is_filled,
    puts_no_outputs,
    puts_no_marks,
    puts_marks_as_a_pack_says_them,
    puts_no_windows,
    puts_marks_in_a_put_of_their_own,
    begins_its_numbers_anew,
    drops_what_its_home_may_be_asked_for,
    keeps_what_is_not_its_own_any_more,
    forgets_what_waits_for_room,
    counts_a_key_again_when_it_is_loaded,
    does_not_restore_marks_of_stages,
]
SEEDS = 60
RARE: dict[str, tuple[int, dict[str, object]]] = {  # from which seed on, and in what worlds
    "forgets_at_once_that_a_copy_is_filled": (
        0,
        {
            "nodes": 3, "copies": 2, "faults": 25, "every": 150,
            "kinds": ["die", "crash", "replace", "replace", "replace"],
        },
    ),
    "keeps_what_is_not_its_own_any_more": (
        0,
        {
            "nodes": 3, "copies": 2, "faults": 25, "every": 60, "warm": 1 << 20, "slots": 4,
            "kinds": ["slander", "cut"],
        },
    ),
    "puts_no_windows": (
        0,
        {
            "nodes": 2, "copies": 1, "faults": 25, "every": 20, "slots": 4,
            "kinds": ["crash", "replace", "replace"], "job": Job((), ((3, 3, 3, 3), (12, 3, 1)), keys=(5, 3)),
        },
    ),
    "marks_a_hand_over_before_all_is_durable": (
        0,
        {
            "nodes": 3, "copies": 3, "faults": 25, "every": 60, "warm": 1 << 20, "slots": 4,
            "kinds": ["crash", "replace"],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    first, settings = RARE.get(mutant.__name__, (0, {}))
    seeds = range(first, first + SEEDS)
    assert any(wrong_with(a_stored_world(seed, **settings)) for seed in seeds), "the mutant lives"
