"""Deliberate mutants of how members come and go, and of who may decide.

As in `test_mutants`: each in a world of its own, which holds without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from mesh.core import control, transitions
from mesh.core.contact import Contact
from mesh.core.data import DataPlane
from mesh.core.electorate import Electorate
from mesh.core.events import Departed, Effect
from mesh.sim.comings import Join, Leave
from mesh.sim.faults import Crash, Cut
from mesh.sim.scenario import Scenario
from tests.sim_kit import coming, first_violation, is_caught, scenario

Patch = pytest.MonkeyPatch

CRASH = [scenario(Crash(1_000, 0, "gamma"))]
JOIN = [coming(Join(1_500, 0, "delta"))]
LEAVE = [coming(Leave(at, 0, "beta")) for at in (1_500, 1_600, 1_700)]
MINORITY = [scenario(Cut(1_500, 9_000, ("alpha",), ("beta", "gamma")), pace=2_000)]


class Everybody(Electorate):
    """An electorate that waits for all."""

    def enough(self, names: Iterable[str]) -> bool:
        return {each.name for each in self.voters} <= {*names}


def waits_for_all(patch: Patch) -> None:
    """After the founding a decision needs every voter, also the dead."""
    voters_of = control.voters_of

    def all_of(epoch: int, value: bytes) -> Electorate:
        plain = voters_of(epoch, value)
        return Everybody(plain.voters, plain.needed)

    patch.setattr(control, "voters_of", all_of)


def moves_one_slot_too_many(patch: Patch) -> None:
    """Whenever something moves, two slots that could stay change their owners, too."""
    rebalance = transitions.rebalance

    def restless(owners: Sequence[str | None], members: Sequence[str]) -> tuple[str, ...]:
        target = list(rebalance(owners, members))
        stay = [slot for slot, owner in enumerate(owners) if owner == target[slot] != ""]
        others = [slot for slot in stay if target[slot] != target[stay[0]]]
        if others and len(stay) < len(target):
            target[stay[0]], target[others[0]] = target[others[0]], target[stay[0]]
        return tuple(target)

    patch.setattr(transitions, "rebalance", restless)


def works_on_in_a_minority(patch: Patch) -> None:
    """It never notices that it is out of touch."""
    patch.setattr(Contact, "_in_touch_until", lambda self: None)


def leaves_with_work_in_hand(patch: Patch) -> None:
    patch.setattr(DataPlane, "_is_empty", lambda self: True)


def leaves_at_once(patch: Patch) -> None:
    """It does not wait for the table without it."""

    def hasty(self: Any) -> list[Effect]:
        return [Departed(0)] if self.membership.me.leaving else []

    patch.setattr(control.ControlPlane, "_depart", hasty)


MUTANTS: list[tuple[Callable[[Patch], None], str, list[Scenario]]] = [
    (waits_for_all, "I17", CRASH),
    (moves_one_slot_too_many, "I4", JOIN),
    (works_on_in_a_minority, "I19", MINORITY),
    (leaves_with_work_in_hand, "I7 I8 I9 I11 E7", LEAVE),
    (leaves_at_once, "A5", LEAVE),
]


@pytest.mark.parametrize(("mutant", "rule", "worlds"), MUTANTS, ids=[mutant.__name__ for mutant, _, _ in MUTANTS])
def test_a_mutant_is_caught_by_its_rule(
    mutant: Callable[[Patch], None], rule: str, worlds: list[Scenario], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_caught(rule, worlds)


def test_without_a_mutant_these_worlds_hold() -> None:
    assert first_violation(CRASH + JOIN + LEAVE + MINORITY) is None
