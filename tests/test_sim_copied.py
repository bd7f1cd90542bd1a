"""Whole simulated clusters with copies: workers die in the middle of a job, and it is done all the same."""

from __future__ import annotations

import dataclasses

import pytest

from mesh.core.copy_lane import CopyLane
from mesh.core.replicas import Replicas
from mesh.sim.faults import Crash, Pause, Restart
from mesh.sim.network import Conditions
from mesh.sim.scenario import Scenario
from tests.sim_kit import finished, is_caught, scenario


def test_a_worker_dies_in_the_middle_and_the_others_do_its_part() -> None:
    world, summary = finished(scenario(Crash(3_000, 0, "gamma"), copies=2))
    assert summary.done
    assert world.checkers.table is not None
    assert world.checkers.table.counts()["active"] == 16


def test_two_of_three_copies_die_at_once() -> None:
    crashes = Crash(3_000, 0, "gamma"), Crash(3_010, 0, "delta")
    _, summary = finished(scenario(*crashes, workers=5, copies=3))
    assert summary.done


def test_a_worker_dies_and_another_process_takes_its_place() -> None:
    _, summary = finished(scenario(Crash(3_000, 0, "beta"), Restart(3_500, 0, "beta"), copies=2))
    assert summary.done


def test_who_was_found_dead_and_was_not_does_no_harm() -> None:
    _, summary = finished(scenario(Pause(2_500, 4_000, "beta"), copies=2))
    assert summary.done


# -- mutants


def dying(copies: int = 2) -> list[Scenario]:
    """Somebody dies while the network loses much, so that some of what it sent never reaches the copies."""
    late = Conditions(delay=5, jitter=20, lost=300)
    return [
        dataclasses.replace(scenario(Crash(at, 0, name), copies=copies, pace=60), conditions=late)
        for at in range(2_000, 3_500, 100)
        for name in ("alpha", "beta")
    ]


def test_what_counts_before_the_copies_have_it_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    acked = property(lambda self: 1 << 60, lambda self, value: None)
    monkeypatch.setattr(CopyLane, "acked", acked, raising=False)
    is_caught("I5 I6 I7 I8 I9", dying())


def test_a_copy_that_does_not_keep_what_it_is_told_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replicas, "_keep", lambda self, *_: None)
    is_caught("I5 I6 I7 I8 I9", dying())
