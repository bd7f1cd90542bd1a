"""Deliberate mutants of what happens while slots move: each is caught by data planes among which slots move at random.

As in `test_mutants`: made here for the length of a test, and all of these worlds hold without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import Any

import pytest

from mesh.core.handoff import HandOff
from mesh.core.holdings import Holdings
from mesh.core.intake import Waiting
from mesh.core.lanes import Records, StageLanes
from mesh.core.messages import NodeId
from mesh.core.messages.states import SlotChunk
from tests.moves_kit import Job, Moving

Patch = pytest.MonkeyPatch
SEEDS = range(12)


def many_slots(seed: int) -> Moving:
    job, window = Job((30, 20, 30), (5, 3), bool(seed % 2)), (1, 100, 1 << 20)[seed % 3]
    return Moving(job, Random(seed), founders=3, slots=4, changes=30, window=window, batch_records=3)


def one_slot(seed: int) -> Moving:
    """It goes to and fro while many small batches are on their way to it."""
    job = Job((60, 60), (1,), False)
    return Moving(job, Random(seed), founders=2, slots=1, changes=60, batch_records=1, most=3)


def caught(cluster: Moving) -> str | None:
    """What is wrong in a world, if anything."""
    try:
        cluster.run()
        cluster.check_everything_applied()
        cluster.check_states()
    except AssertionError as error:
        return str(error) or repr(error)
    return None


def forgets_what_was_refused(patch: Patch) -> None:
    """A record that comes too late for the former owner is dropped."""

    def forgetful(self: StageLanes, slot: int, refused: Records) -> None:
        self.over(refused.epoch, len(refused))

    patch.setattr(StageLanes, "take_back", forgetful)


def applies_what_it_refuses(patch: Patch) -> None:
    """So it is applied there, and again by the next owner."""

    def eager(self: Waiting, refused: Collection[int]) -> Waiting:
        for slot in refused:
            self.refused.setdefault(slot, self.start)
        return self

    patch.setattr(Waiting, "without", eager)


def overtakes_what_the_former_owner_has_not_answered(patch: Patch) -> None:
    patch.setattr(StageLanes, "_wait_behind", lambda self, lane, slots: None)


def does_not_seal(patch: Patch) -> None:
    """A donor goes on applying to what it gives away."""

    def unsealed(self: Holdings, epoch: int, slots: Callable[[], Collection[int]]) -> list[int]:
        return [slot for slot in sorted(slots()) if slot not in self.here]

    patch.setattr(Holdings, "refused", unsealed)


def takes_a_state_of_another_term(patch: Patch) -> None:
    """What an earlier hand-over left behind is as good as any."""

    def whatever(self: Any, sender: NodeId, chunk: SlotChunk) -> bool:
        return chunk.slot in self.holdings.promised

    patch.setattr(HandOff, "_is_expected", whatever)


def deletes_what_it_has_sent(patch: Patch) -> None:
    """And not when another node is known to have it."""
    send_some = HandOff.send_some

    def hasty(self: Any) -> list[Any]:
        waiting = [given.slot for target in self._giving._targets.values() for given in target.waiting]
        effects = send_some(self)
        still = [given.slot for target in self._giving._targets.values() for given in target.waiting]
        for slot in waiting:
            if slot not in still:
                self._owner.drop(slot)
        return effects

    patch.setattr(HandOff, "send_some", hasty)


def ignores_the_epoch_of_a_batch(patch: Patch) -> None:
    """A slot that went away and has come back is taken for one that was here all the time."""

    def forgiving(self: Holdings, epoch: int, slots: Callable[[], Collection[int]]) -> list[int]:
        return sorted(slot for slot in slots() if slot not in self.active)

    patch.setattr(Holdings, "refused", forgiving)


OUT_OF_ORDER, NOT_ITS_OWN, STUCK = "gets ", "is not its own", "nothing moves"

Worlds = Callable[[int], Moving]
MOVING_MUTANTS: list[tuple[Callable[[Patch], None], str, Worlds]] = [
    (forgets_what_was_refused, OUT_OF_ORDER, many_slots),
    (applies_what_it_refuses, NOT_ITS_OWN, many_slots),
    (overtakes_what_the_former_owner_has_not_answered, OUT_OF_ORDER, one_slot),
    (does_not_seal, NOT_ITS_OWN, many_slots),
    (takes_a_state_of_another_term, STUCK, one_slot),
    (deletes_what_it_has_sent, OUT_OF_ORDER, many_slots),
    (ignores_the_epoch_of_a_batch, OUT_OF_ORDER, one_slot),
]


@pytest.mark.parametrize(
    ("mutant", "words", "worlds"), MOVING_MUTANTS, ids=[mutant.__name__ for mutant, _, _ in MOVING_MUTANTS]
)
def test_a_mutant_is_caught_by_what_it_does(
    mutant: Callable[[Patch], None], words: str, worlds: Worlds, monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    found = next((wrong for seed in SEEDS if (wrong := caught(worlds(seed))) is not None), None)
    assert found is not None, "the mutant lives"
    assert words in found, found


@pytest.mark.parametrize("worlds", [many_slots, one_slot])
def test_without_a_mutant_these_worlds_hold(worlds: Worlds) -> None:
    assert [wrong for seed in SEEDS if (wrong := caught(worlds(seed))) is not None] == []
