"""Deliberate mistakes in what keeps copies: each is caught by worlds in which nodes die.

As in `test_mutants`: made here for the length of a test, and all of these worlds hold without it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mesh.core import copying
from mesh.core.committing import Committing
from mesh.core.copy_lane import CopyLane
from mesh.core.filling import OwnerSnapshot
from mesh.core.keeping import Keeping
from mesh.core.lanes import StageLanes
from mesh.core.reads_kept import KeptReads
from mesh.core.records import Records
from mesh.core.reigns import Reigns
from mesh.core.replicas import Replicas
from mesh.core.split_place import SplitPlace
from tests.kept_checks import Job
from tests.kept_kit import World, a_world
from tests.kept_worlds import wrong_with

Patch = pytest.MonkeyPatch


def answers_before_the_backups_have(patch: Patch) -> None:
    commit = Committing.commit

    def hasty(self: Any) -> Any:
        for entry in self._queue:
            entry.need.clear()
        return commit(self)

    patch.setattr(Committing, "commit", hasty)


def answers_what_is_only_applied(patch: Patch) -> None:
    """A record that is known is answered at once, though whoever applied it may yet lose it."""
    add = Keeping.add

    def hasty(self: Any, pack: Any, token: Any) -> None:
        if pack.keys or pack.outputs:
            add(self, pack, token)
            return
        queue, self.committing._queue = self.committing._queue, type(self.committing._queue)()
        pack.splits, pack.stages, pack.windows = [], [], []
        add(self, pack, token)
        self.committing._queue.extend(queue)

    patch.setattr(Keeping, "add", hasty)


def promotes_a_copy_that_is_being_filled(patch: Patch) -> None:
    """The owner says that it is filled when the filling has begun."""
    begin = Committing._begin
    early: dict[int, list[tuple[int, int]]] = {}

    def hasty(self: Any, fills: Any, lane: Any) -> None:
        begin(self, fills, lane)
        early.setdefault(id(self), []).extend((fill.slot, fill.term) for fill in fills)

    def filled(self: Any) -> list[tuple[int, int]]:
        self._untold.clear()
        return early.pop(id(self), [])

    patch.setattr(Committing, "_begin", hasty)
    patch.setattr(Committing, "filled", filled)


def fills_with_states_as_they_were_when_it_began(patch: Patch) -> None:
    """What was applied since comes first, and is written over by what was before it."""
    marks, of_states = OwnerSnapshot.marks, OwnerSnapshot._of_states
    before: dict[tuple[Any, int, Any], Any] = {}

    def begin(self: Any, slots: Any) -> Any:
        for part in self._owner.parts[: len(self._owner.stages)]:
            for slot in slots:
                before.update({(part, slot, key): copy.deepcopy(part.states[key]) for key in part.keys_of(slot)})
        return marks(self, slots)

    def stale(self: Any, fill: Any) -> Any:
        part = self._owner.parts[fill.stage]
        keys, states = of_states(self, fill)
        return keys, [before.get((part, fill.slot, key), now) for key, now in zip(keys, states, strict=True)]

    patch.setattr(OwnerSnapshot, "marks", begin)
    patch.setattr(OwnerSnapshot, "_of_states", stale)


def commits_without_a_copy_that_is_filled(patch: Patch) -> None:
    """Until a table says that it is one."""
    end = Committing._end

    def forgetful(self: Any, fills: Any, lane: Any) -> None:
        needed = dict(lane.needed)
        before = [dict(entry.need) for entry in self._queue]
        end(self, fills, lane)
        lane.needed = needed
        for entry, need in zip(self._queue, before, strict=True):
            entry.need = need

    patch.setattr(Committing, "_end", forgetful)


def compares_no_marks(patch: Patch) -> None:
    patch.setattr(Keeping, "news", lambda self, stage, slots, numbers: None)


def forgets_outputs_when_they_are_committed(patch: Patch) -> None:
    """And not when they are over."""
    committed = Keeping.committed

    def hasty(self: Any) -> Any:
        found = committed(self)
        for each in found:
            for out in each.outputs:
                self.committing.over(each.pack.stage, out.origins, out.numbers)
        return found

    patch.setattr(Keeping, "committed", hasty)


def gives_nothing_out_again(patch: Patch) -> None:
    patch.setattr(Keeping, "adopted", lambda self: [])


def puts_what_comes_back_behind(patch: Patch) -> None:
    """What an owner did not answer leaves after what was put since."""

    def behind(self: Any, slot: int, refused: Records) -> None:
        held = self.held[slot]
        held.close(refused.epoch, self.same)
        held.parts.append(refused)
        self.held_back += len(refused)

    patch.setattr(StageLanes, "take_back", behind)


def takes_nothing_back(patch: Patch) -> None:
    """From an owner whose reign is over."""
    patch.setattr(StageLanes, "take_back_all", lambda self, slots, ended: None)


def saves_the_place_before_all_is_over(patch: Patch) -> None:
    patch.setattr(SplitPlace, "_done", lambda self: iter(self._chunks))


def believes_who_judged_by_a_newer_table(patch: Patch) -> None:
    """A refusal of a copy that knows a later reign counts as an acknowledgement."""
    taken = CopyLane.taken
    patch.setattr(CopyLane, "taken", lambda self, number, epoch, known: taken(self, number, 0, known))


def reads_without_waiting(patch: Patch) -> None:
    def hasty(self: Any, lookup: Any, tell: Any) -> None:
        from mesh.core.messages.outside import Found

        tell(Found(lookup.number, *self._read_here(lookup.stage, lookup.key[0])))

    patch.setattr(KeptReads, "_when_settled", hasty)


def takes_packs_of_a_deposed_owner(patch: Patch) -> None:
    """Who is filled by the new owner takes what the former one, who knows nothing of it, sends on."""
    patch.setattr(Replicas, "_is_from_its_source", lambda self, slot, sender, epoch: slot in self.copies)


def numbers_outputs_from_its_own_counter(patch: Patch) -> None:
    """Whoever is promoted goes on where it was, and not above what it was told."""
    set_table = Keeping.set_table

    def stubborn(self: Any, table: Any) -> Any:
        before = list(self._next_output)
        effects = set_table(self, table)
        self._next_output[:] = before
        return effects

    patch.setattr(Keeping, "set_table", stubborn)


def applies_whatever_the_epoch(patch: Patch) -> None:
    """A slot that went away and came back is taken for one that was here all the time."""

    def forgiving(self: Any, epoch: int, slots: Callable[[], Any]) -> list[int]:
        return sorted(slot for slot in slots() if slot not in self.active)

    patch.setattr(Reigns, "refused", forgiving)


def marks_nothing_on_the_copies(patch: Patch) -> None:
    """They have the states, and do not know how far these are."""
    from mesh.core.packs import Pack

    patch.setattr(Pack, "mark", lambda self, slots, numbers: None)


def leaves_out_at_once(patch: Patch) -> None:
    """Who is called dead, whoever is left alone with it."""
    without = copying._without

    def hasty(slot: Any, owner: Any, since: Any, backups: Any, out: Any, copies: Any) -> Any:
        return without(slot, owner, since, backups, out, 1)

    patch.setattr(copying, "_without", hasty)


MUTANTS = [
    leaves_out_at_once,
    answers_before_the_backups_have,
    answers_what_is_only_applied,
    promotes_a_copy_that_is_being_filled,
    commits_without_a_copy_that_is_filled,
    fills_with_states_as_they_were_when_it_began,
    compares_no_marks,
    forgets_outputs_when_they_are_committed,
    gives_nothing_out_again,
    puts_what_comes_back_behind,
    takes_nothing_back,
    saves_the_place_before_all_is_over,
    believes_who_judged_by_a_newer_table,
    reads_without_waiting,
    takes_packs_of_a_deposed_owner,
    numbers_outputs_from_its_own_counter,
    applies_whatever_the_epoch,
    marks_nothing_on_the_copies,
]
SEEDS = range(60)


def drawn(seed: int) -> World:
    return a_world(seed)


def deaf(seed: int, copies: int = 2) -> World:
    """Nodes are called dead, while they are well and hear nothing of it for long."""
    job = Job((40, 40, 40), reads=10, keys=(5, 3))
    few = {"nodes": 3, "slots": 4, "faults": 12, "every": 60, "batch_records": 1, "window": 1 << 20, "witnesses": 0}
    return a_world(seed, job=job, kinds=["slander"], copies=copies, **few)


def betrayed(seed: int) -> World:
    """A copy is called dead while it lives, and its owner dies at the same time."""
    job = Job((20, 20), reads=5, keys=(5, 3))
    return a_world(seed, job=job, kinds=["betray", "join"], copies=2, nodes=3, slots=4, faults=6, every=60, witnesses=0)


WORLDS: dict[Callable[[Patch], None], Callable[[int], World]] = {
    believes_who_judged_by_a_newer_table: deaf,
    leaves_out_at_once: betrayed,
    applies_whatever_the_epoch: lambda seed: deaf(seed + 80),  # rare, too
    takes_packs_of_a_deposed_owner: lambda seed: deaf(seed + 20, copies=3),  # rare
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    worlds = WORLDS.get(mutant, drawn)
    assert any(wrong_with(worlds(seed)) for seed in SEEDS), "the mutant lives"


def test_without_a_mutant_the_worlds_of_deaf_nodes_hold() -> None:
    assert [wrong for seed in range(6) if (wrong := wrong_with(deaf(seed))) is not None] == []


def test_a_copy_that_is_called_dead_goes_on_if_its_owner_dies_before_it_knows() -> None:
    happened: Counter[str] = Counter()
    for seed in range(4):
        world = betrayed(seed)
        assert wrong_with(world) is None
        happened.update(world.happened)
    assert happened["promoted instead"] > 0
