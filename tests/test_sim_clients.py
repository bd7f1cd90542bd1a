"""Clients of simulated clusters: producers that try again through other nodes, and notes; and who looks at answers."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.sim.clients import Note, Producer
from mesh.sim.comings import Join, Leave
from mesh.sim.drawn import CROWD, clients_of
from mesh.sim.faults import Crash, Cut, Pause, Restart
from mesh.sim.ledger import Ledger
from mesh.sim.posted import Attempt, Posted
from mesh.sim.scenario import scenario_of
from mesh.sim.violation import Violation
from mesh.sim.workload import NOTES, Record, Workload
from mesh.sim.world import World
from tests.sim_kit import coming, finished, noted, posted, scenario, small_workload

ASKS = tuple(Note(at, (at // 7,), True) for at in range(1_000, 5_000, 40))
PATIENT = Producer(1_000, (8,) * 8, 200, 8_000)


def outcomes(world: World) -> dict[str, int]:
    return world.clients.posted.outcomes


# -- in worlds --------------------------------------------------------------------------------------------------------


def test_lines_that_are_posted_again_and_again_are_applied_once_while_slots_move() -> None:
    world, summary = finished(posted(coming(Join(1_500, 0, "delta"), Leave(3_000, 0, "beta"))))
    assert summary.done
    assert summary.moved
    assert outcomes(world)["committed"] > sum(len(each.bodies) for each in world.scenario.producers)


def test_with_copies_an_owner_dies_and_its_producers_go_on() -> None:
    crash = Crash(2_000, 0, "beta"), Restart(3_000, 0, "beta")
    world, summary = finished(posted(scenario(*crash, copies=2), notes=ASKS))
    assert summary.done
    assert {"committed", "answered", "unknown"} <= outcomes(world).keys()


def test_with_one_copy_what_died_is_not_there_and_every_request_is_answered() -> None:
    world, summary = finished(posted(scenario(Crash(2_000, 0, "beta")), notes=ASKS))
    assert not summary.done
    assert {"committed", "answered", "unavailable"} <= outcomes(world).keys()
    assert world.clients.late(6_000) is None


def test_a_node_that_is_paused_or_cut_off_answers_late_and_nothing_is_applied_twice() -> None:
    faults = Pause(2_000, 3_000, "beta"), Cut(3_000, 6_000, ("alpha",), ("beta", "gamma"))
    world, summary = finished(posted(scenario(*faults), PATIENT, notes=ASKS))
    assert summary.done
    assert {"committed", "answered", "unavailable", "unknown"} <= outcomes(world).keys()


def test_who_is_one_too_many_is_told_so() -> None:
    world, summary = finished(noted(scenario(), (Note(2_000, (1,), True, CROWD),)))
    assert summary.done
    assert outcomes(world) == {"busy": CROWD - 64, "answered": 64}


def test_a_job_ends_beside_notes_and_then_none_is_taken() -> None:
    world, summary = finished(noted(scenario(Pause(4_900, 50, "alpha"), pace=50), ASKS))
    assert summary.done
    assert all(process.job_done for process in world.processes)
    assert outcomes(world).keys() == {"answered", "unavailable"}


def test_the_known_seeds_have_all_kinds_of_clients() -> None:
    scenarios = [scenario_of(seed) for seed in range(40)]
    assert any(each.producers and each.copies > 1 for each in scenarios)
    assert any(each.producers and each.copies == 1 for each in scenarios)
    assert any(each.notes and not each.producers for each in scenarios)
    assert sum(not each.notes for each in scenarios) > 20


def test_clients_change_nothing_else_that_a_seed_means() -> None:
    for seed in range(20):
        found = scenario_of(seed)
        plain = found.workload
        if found.producers:
            plain = dataclasses.replace(plain, sources=plain.sources[:-1])
        plain = dataclasses.replace(plain, posted=False, notes=False)
        assert clients_of(seed, plain) == (found.workload, found.producers, found.notes)


# -- who looks at the answers -----------------------------------------------------------------------------------------

ALPHA: Any = SimpleNamespace(name="alpha")
LINES = (("0/0", 0, (0, 20)),)  # two records of one key
RECORDS: list[Record] = [("0/0", 0, 0), ("0/0", 1, 20)]
NOTE: Record = (NOTES, 0, 3)


class Book:
    """Of one producer's body, and one note."""

    def __init__(self) -> None:
        shape = Producer(0, (1,), 0, 0)
        workload = Workload(small_workload().stages, ((LINES,),), 3, False, posted=True, notes=True)
        self.ledger = Ledger(workload)
        self.ledger.reading(b"", "0/0", 0, LINES)
        self.posted = Posted(workload, self.ledger)
        self.body, self.again = self._sends(RECORDS, ("0/0", 0)), self._sends(RECORDS, ("0/0", 0))
        for attempt in (self.body, self.again):
            attempt.lines, attempt.shape = 1, shape
        self.note = self._sends([NOTE], asks=True)

    def _sends(self, records: list[Record], place: tuple[str, int] | None = None, *, asks: bool = False) -> Attempt:
        attempt = self.posted.attempt("somebody", records, place, asks=asks)
        self.posted.sends(attempt, ALPHA)
        return attempt

    def says(self, attempt: Attempt, outcome: str, told: Any = None) -> None:
        self.posted.answered(ALPHA, attempt.ticket, outcome, told)

    def applies(self, count: int = 2) -> None:
        for record in RECORDS[:count]:
            self.ledger.stepping(b"alpha", 0, record, record[1] + 1)
            self.posted.taking(record)

    def notes(self, count: int = 1, *, is_done: bool = False) -> None:
        self.posted.noting(0, NOTE, count, is_done=is_done)

    def found(self) -> list[str]:
        return [violation.rule for violation in self.ledger.found]


def committed(duplicates: int) -> dict[str, int]:
    return {"committed": 1, "duplicates": duplicates}


def test_true_answers_are_taken() -> None:
    book = Book()
    book.applies()
    book.says(book.body, "committed", committed(0))
    book.says(book.again, "committed", committed(1))
    book.notes()
    book.says(book.note, "answered", {"outputs": [[1, 0]]})
    book.posted.writing([(3, (1, 0))])
    assert not book.found()
    assert book.posted.unwritten() is None


def test_what_was_told_to_be_committed_and_is_not_all_applied() -> None:
    book = Book()
    book.applies(1)
    with pytest.raises(Violation, match="record 1 of it is not applied"):
        book.says(book.body, "committed", committed(0))


@pytest.mark.parametrize("told", [{"committed": 2, "duplicates": 0}, {"committed": 1, "duplicates": 2}])
def test_an_answer_that_counts_wrong(told: dict[str, int]) -> None:
    book = Book()
    book.applies()
    with pytest.raises(Violation, match="E6"):
        book.says(book.body, "committed", told)


def test_who_answers_twice_or_for_another() -> None:
    book = Book()
    book.says(book.body, "unknown")
    with pytest.raises(Violation, match="or again"):
        book.says(book.body, "unknown")
    with pytest.raises(Violation, match="was not asked"):
        book.posted.answered(SimpleNamespace(name="beta"), book.again.ticket, "unknown", None)  # type: ignore[arg-type]


def test_an_answer_to_what_nobody_sent() -> None:
    book = Book()
    with pytest.raises(Violation, match="conflict"):
        book.says(book.body, "conflict", {"seq": 0})


@pytest.mark.parametrize("outcome", ["unavailable", "busy"])
def test_what_was_refused_by_all_who_were_asked_is_not_applied_before_or_after(outcome: str) -> None:
    book = Book()
    book.says(book.body, outcome)
    book.applies(1)
    assert not book.found()  # by the other request
    with pytest.raises(Violation, match="some of it is applied"):
        book.says(book.again, outcome)
    book.posted.taking(RECORDS[1])
    assert book.found() == ["E6"]


def test_a_note_that_is_applied_again_or_when_the_job_is_done() -> None:
    book = Book()
    book.notes()
    book.notes(2)
    book.notes(3, is_done=True)
    assert book.found() == ["E6", "E7", "E6"]


def test_an_ask_that_is_told_what_another_gave_out() -> None:
    book = Book()
    book.notes()
    with pytest.raises(Violation, match="it was the 1th"):
        book.says(book.note, "answered", {"outputs": [[2, 0]]})


def test_a_note_that_counts_must_come_to_the_sink_once() -> None:
    book = Book()
    book.notes()
    book.says(book.note, "answered", {"outputs": [[1, 0]]})
    assert book.posted.unwritten() == "the sink lacks note 0"
    book.posted.writing([(3, (1, 0)), (3, (1, 0))])
    assert book.found() == ["E6"]
