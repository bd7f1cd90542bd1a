"""Deliberate mutants of what producers and asks are promised (E6): seen in what clients are told, or in the books.

As in `test_mutants`: each in a world of its own, which holds without it. In most of them all is posted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from mesh.core import inject
from mesh.core.ingest import Ingest
from mesh.core.ingest_kept import KeptIngest
from mesh.core.inject import Injects
from mesh.core.inject_kept import KeptInjects
from mesh.core.keeping import Keeping
from mesh.core.pace import Pace
from mesh.core.posts import Posts
from mesh.core.requests import Request
from mesh.core.windows import NEW, Windows
from mesh.sim.clients import Note, Producer
from mesh.sim.comings import Join, Leave
from mesh.sim.faults import Crash, Cut, Pause, Restart
from mesh.sim.network import Conditions
from mesh.sim.scenario import Scenario
from mesh.sim.workload import StageShape
from tests.sim_kit import coming, first_violation, is_caught, noted, posted, scenario, small_workload

Patch = pytest.MonkeyPatch

PATIENT = Producer(1_000, (8,) * 12, 200, 8_000)
BUSY = Producer(1_000, (1,) * 20, 40, 8_000)
ASKS = tuple(Note(at, (at // 7,), True) for at in range(1_000, 5_000, 25))
LATE = Conditions(delay=50)

HEALTHY = [posted(scenario())]
MOVING = [posted(coming(Join(1_500, 0, "delta"), Leave(3_000, 0, "beta")))]
FEW_KEYS = small_workload(1, StageShape("step", 3, False), StageShape("fold", 1, False))
NARROW = [posted(scenario(window_bytes=300, batch_records=1, workload=FEW_KEYS), PATIENT, 6)]
PAUSED = [posted(scenario(Pause(2_000, 9_000, "beta")), PATIENT, notes=ASKS)]
LATECOMER = [
    noted(
        scenario(Crash(6_000, 0, "gamma"), Restart(6_100, 0, "gamma")),
        tuple(Note(at, (at // 7,), True) for at in range(6_000, 10_000, 40)),
    )
]
DYING = [
    posted(scenario(Crash(at, 0, name), copies=2, conditions=LATE), BUSY, 8, ASKS)
    for at in range(2_000, 3_000, 300)
    for name in ("alpha", "beta")
]


CUT_OFF = [
    posted(
        scenario(Cut(2_000, 3_000, ("alpha",), ("beta", "gamma")), Crash(2_500, 0, "alpha"), copies=2), BUSY, 8, ASKS
    )
]


def forgets_what_producers_sent_when_a_slot_moves(patch: Patch) -> None:
    patch.setattr(Windows, "keys_of", lambda self, slot: ())


def applies_a_line_that_comes_again(patch: Patch) -> None:
    patch.setattr(Windows, "take", lambda self, *_: NEW)


def goes_on_behind_what_it_refused(patch: Patch) -> None:
    """Records of a slot of which an earlier one in the piece was refused. A unit of work is one record."""
    chosen = Injects._chosen

    def forgetful(self: Any, piece: Any, start: int, end: int) -> list[int]:
        piece.refused_slots.clear()
        return chosen(self, piece, start, end)

    patch.setattr(Injects, "_chosen", forgetful)
    patch.setattr(inject, "Pace", lambda first, most: Pace(first, 1))


def says_that_nothing_was_applied_when_it_does_not_know(patch: Patch) -> None:
    def sure(self: Any, request: Request) -> None:
        self._end(request, "unavailable")

    patch.setattr(Ingest, "_give_up", sure)


def answers_before_the_copies_have_it(patch: Patch) -> None:
    add = Keeping.add

    def hasty(self: Any, pack: Any, token: Any) -> None:
        if isinstance(token, partial) and getattr(token.func, "__func__", None) is KeptInjects._committed:
            token({})
            token = len  # nobody waits any more
        add(self, pack, token)

    patch.setattr(Keeping, "add", hasty)


def does_not_tell_the_copies_what_producers_sent(patch: Patch) -> None:
    packed = KeptInjects._packed

    def silent(self: Any, *arguments: Any) -> Any:
        pack = packed(self, *arguments)
        pack.windows.clear()
        return pack

    patch.setattr(KeptInjects, "_packed", silent)


def does_not_tell_the_copies_who_is_registered(patch: Patch) -> None:
    marked = KeptInjects._marked

    def silent(self: Any, *arguments: Any) -> Any:
        pack = marked(self, *arguments)
        pack.windows.clear()
        return pack

    patch.setattr(KeptInjects, "_marked", silent)


def sends_again_what_has_no_number(patch: Patch) -> None:
    """When its owner's reign is over."""
    take_back = KeptIngest._take_back

    def eager(self: Any, ended: Any, down: Any) -> None:
        asks = [request for request, _, _ in self._pieces.values() if not request.producer]
        for request in asks:
            request.producer = "somebody"
        take_back(self, ended, down)
        for request in asks:
            request.producer = ""

    patch.setattr(KeptIngest, "_take_back", eager)


def applies_what_comes_by_way_of_a_latecomer(patch: Patch) -> None:
    """Who came when the job was done has not said that it takes nothing more."""
    patch.setattr(Posts, "end", lambda self: None)


MUTANTS: list[tuple[Callable[[Patch], None], str, list[Scenario]]] = [
    (forgets_what_producers_sent_when_a_slot_moves, "I8", MOVING),
    (applies_a_line_that_comes_again, "I8", HEALTHY),
    (goes_on_behind_what_it_refused, "I9", NARROW),
    (says_that_nothing_was_applied_when_it_does_not_know, "E6", PAUSED),
    (answers_before_the_copies_have_it, "I6 I7", CUT_OFF),
    (does_not_tell_the_copies_what_producers_sent, "I8", DYING),
    (does_not_tell_the_copies_who_is_registered, "E6", DYING),
    (sends_again_what_has_no_number, "E6", DYING),
    (applies_what_comes_by_way_of_a_latecomer, "E7", LATECOMER),
]


@pytest.mark.parametrize(("mutant", "rule", "worlds"), MUTANTS, ids=[mutant.__name__ for mutant, _, _ in MUTANTS])
def test_a_mutant_is_caught_by_its_rule(
    mutant: Callable[[Patch], None], rule: str, worlds: list[Scenario], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_caught(rule, worlds)


@pytest.mark.parametrize("worlds", [HEALTHY + MOVING + NARROW + PAUSED + LATECOMER, DYING[:1], CUT_OFF])
def test_without_a_mutant_these_worlds_hold(worlds: list[Scenario]) -> None:
    assert first_violation(worlds) is None
