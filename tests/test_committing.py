"""Copies are a prefix of what their owner applied, answers and outputs come when all have it, and all that once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from mesh.core.codec import Malformed
from mesh.core.committing import Committing
from mesh.core.configuration import Configuration
from mesh.core.copy_lane import CopyLane
from mesh.core.filling import Fill
from mesh.core.marks import StageMarks
from mesh.core.messages.states import PackPart
from mesh.core.packs import Pack
from mesh.core.replicas import Replicas, Taken
from mesh.core.windows import Windows
from tests.committing_kit import World
from tests.packs_kit import ME, B, C, keys_of_slot

Patch = pytest.MonkeyPatch
SIZES = [(1 << 20, 1 << 18), (300, 200), (1 << 20, 60)]


@pytest.mark.parametrize("seed", range(120))
def test_everything_counts_once_whatever_becomes_of_owners_and_backups(seed: int) -> None:
    window, part = SIZES[seed % 3]
    world = World(Random(seed), window=window, part=part)
    world.run(30 + seed % 60)
    world.check_end()


def test_what_the_worlds_are_to_try_does_happen() -> None:
    happened: dict[str, int] = {}
    for seed in range(12):
        world = World(Random(seed))
        world.run(30)
        for name, count in world.happened.items():
            happened[name] = happened.get(name, 0) + count
    wanted = (
        "crashed",
        "promoted",
        "deposed",
        "joined",
        "dropped",
        "handed over",
        "called off",
        "refused",
        "known output",
    )
    assert {name: happened.get(name, 0) for name in wanted if happened.get(name, 0) < 3} == {}


class NothingHere:
    """A snapshot of an owner without keys."""

    def ready(self) -> bool:
        return True

    def marks(self, slot: int) -> list[Pack]:
        return []

    def piece(self, fill: Fill) -> Pack | None:
        return None


def owner(*backups: bytes, window_bytes: int = 1 << 20, slots: int = 8) -> Committing:
    committing = Committing(ME, NothingHere(), window_bytes)
    committing.set_table(1, {slot: Configuration(1, 1, ME, backups) for slot in range(slots)}, (ME, *backups))
    return committing


def pack(*some: int) -> Pack:
    keys = [keys_of_slot(slot, 1)[0] for slot in some]
    return Pack(b"", 0, 0, [*some], keys, [1] * len(keys))


def tokens(committing: Committing) -> list[Any]:
    return [done.token for done in committing.commit()]


def test_without_backups_everything_counts_at_once_and_nothing_is_sent() -> None:
    committing = owner()
    committing.add(pack(1), "a")
    committing.add(pack(2), "b")
    assert tokens(committing) == ["a", "b"]
    assert (committing.applied, committing.committed, committing.take_effects()) == (2, 2, [])


def test_packs_count_in_order_when_every_backup_of_theirs_has_them() -> None:
    committing = owner(B)
    committing.set_table(2, {5: Configuration(2, 1, ME, (C,))}, (ME, B, C))
    committing.add(pack(1), "to b")
    committing.add(pack(5), "to c")
    committing.add(pack(1, 5), "to both")
    committing.taken(C, 2, 2)
    assert tokens(committing) == []
    committing.taken(B, 1, 2)
    assert tokens(committing) == ["to b", "to c"]
    committing.taken(B, 2, 2)
    assert tokens(committing) == ["to both"]


def test_an_acknowledgement_counts_once_its_epoch_is_known() -> None:
    committing = owner(B)
    committing.add(pack(1, 2), "a")
    committing.taken(B, 1, 3)
    assert tokens(committing) == []
    committing.set_table(3, {1: Configuration(2, 2, B)}, (ME, B))
    (done,) = committing.commit()
    assert (done.token, [*done.withdrawn]) == ("a", [1])


def test_a_backup_that_left_holds_up_nothing() -> None:
    committing = owner(B, C)
    committing.add(pack(1), "a")
    committing.taken(C, 1, 1)
    assert tokens(committing) == []
    committing.set_table(2, {slot: Configuration(2, 1, ME, (C,)) for slot in range(8)}, (ME, C))
    assert tokens(committing) == ["a"]


def test_a_full_window_stops_the_owner_until_it_is_acknowledged() -> None:
    committing = owner(B, window_bytes=200)
    packs = 0
    while committing.open_for():
        committing.add(pack(packs % 8), packs)
        packs += 1
    assert 1 < packs < 20
    committing.taken(B, 1, 9)  # whatever its epoch: it has arrived
    assert committing.open_for()


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    committing = owner(B)
    committing.add(pack(1), "a")
    with pytest.raises(Malformed):
        committing.taken(B, 2, 1)
    committing.taken(C, 2, 1)  # no backup of ours any more
    assert tokens(committing) == []


def test_what_has_no_copy_since_it_cannot_travel_is_told() -> None:
    committing = owner(B)
    odd = pack(1, 2)
    odd.states[0] = object()
    committing.add(odd, "a")
    assert [each.keys for each, _ in committing.left_out] == [odd.keys[:1]]
    committing.taken(B, next(iter(committing.lanes())).last_number, 1)
    assert tokens(committing) == ["a"]


def commits_at_once(patch: Patch) -> None:
    """An answer before the backups have it."""
    add = Committing.add

    def eager(self: Committing, pack: Pack, token: Any) -> None:
        add(self, pack, token)
        self._queue[-1].need.clear()

    patch.setattr(Committing, "add", eager)


def counts_what_was_refused(patch: Patch) -> None:
    """The owner takes an acknowledgement without knowing the table under which it was given."""

    before = CopyLane.taken

    def taken(self: CopyLane, number: int, epoch: int, known: int) -> None:
        before(self, number, epoch, max(known, epoch))

    patch.setattr(CopyLane, "taken", taken)


def needs_a_joining_copy_too_late(patch: Patch) -> None:
    """Only once it knows the table that names it: what was committed in between is not there."""
    add = Committing.add

    def lazy(self: Committing, pack: Pack, token: Any) -> None:
        add(self, pack, token)
        for fill in self._fills.values():
            self._queue[-1].need.pop(fill.joiner, None)

    patch.setattr(Committing, "add", lazy)


def takes_packs_of_a_former_owner(patch: Patch) -> None:
    def anybody(self: Replicas, slot: int, sender: bytes, epoch: int) -> bool:
        return slot in self.copies

    patch.setattr(Replicas, "_is_from_its_source", anybody)


def copies_no_marks(patch: Patch) -> None:
    patch.setattr(StageMarks, "raise_split", lambda self, stream, slots, numbers: None)


def forgets_outputs(patch: Patch) -> None:
    """The new owner does not give out again what may not have arrived."""
    take = Replicas.take

    def forgetful(self: Replicas, slot: int) -> Taken:
        return Taken(take(self, slot).states)

    patch.setattr(Replicas, "take", forgetful)


def fills_with_states_alone(patch: Patch) -> None:
    def begin(self: Committing, fills: list[Fill], lane: CopyLane) -> None:
        for fill in fills:
            fill.begun = True
            lane.carried[fill.slot] = None

    patch.setattr(Committing, "_begin", begin)


def counts_parts_of_a_slot_one_by_one(patch: Patch) -> None:
    """So a part of a batch may be promoted."""
    part = Replicas._part

    def hasty(self: Replicas, sender: bytes, message: PackPart, pack: Pack) -> None:
        part(self, sender, replace(message, more=False), pack)

    patch.setattr(Replicas, "_part", hasty)


def asks_nobody_before_a_read(patch: Patch) -> None:
    """So it may read what another owner has gone beyond."""
    wait = Committing.wait

    def hasty(self: Committing, slots: Collection[int], token: Any) -> None:
        wait(self, slots, token)
        self._queue[-1].need.clear()

    patch.setattr(Committing, "wait", hasty)


def copies_no_windows(patch: Patch) -> None:
    patch.setattr(Windows, "merge", lambda self, keys, states: None)


def copies_no_splits(patch: Patch) -> None:
    keep = Replicas._keep

    def forgetful(self: Replicas, pack: Pack) -> None:
        if pack.stage != 2:
            keep(self, pack)

    patch.setattr(Replicas, "_keep", forgetful)


MUTANTS: list[Callable[[Patch], None]] = [
    commits_at_once, counts_what_was_refused, needs_a_joining_copy_too_late, takes_packs_of_a_former_owner,
    copies_no_marks, forgets_outputs, fills_with_states_alone, counts_parts_of_a_slot_one_by_one,
    asks_nobody_before_a_read, copies_no_windows, copies_no_splits,
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.__name__)
def test_the_worlds_catch_a_mistake(mutant: Callable[[Patch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        assert any(goes_wrong(seed) for seed in range(300))


def goes_wrong(seed: int) -> bool:
    window, part = SIZES[seed % 3]
    try:
        world = World(Random(seed), window=window, part=part)
        world.run(30)
        world.check_end()
    except AssertionError:
        return True
    return False
