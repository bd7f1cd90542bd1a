"""A node that leaves while another worker is away waits for it, says so, and goes once it has ended."""

from __future__ import annotations

from random import Random

import pytest

from mesh.core.codec import decode_with_values
from mesh.core.departure import Departure
from mesh.core.events.planes import HandedOver, Transmit
from mesh.core.messages.work import Farewell
from mesh.core.progress import KeptProgress
from mesh.core.reports import Reports
from tests.moves_kit import Job, Moving, Seat
from tests.tables import agreed

SEEDS = range(6)


def running(seed: int, *, endless: bool = False) -> Moving:
    """Three nodes in the middle of a job."""
    cluster = Moving(Job((40, 40, 40), (6, 4), True, endless), Random(seed), founders=3, slots=16, changes=0)
    for seat in cluster.seats:
        seat.attention = 1.0
    cluster.run(lambda: sum(map(len, cluster.applied.values())) >= 30)
    return cluster


def waits(seat: Seat) -> list[list[str]]:
    return [log.fields["for"] for log in seat.node.logs if log.event == "node.leave_waits"]


def stands_still(cluster: Moving, leaver: Seat) -> None:
    for _ in range(3_000):
        cluster.step()
        assert not leaver.handed_over


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leaver_waits_for_a_worker_that_is_down_tells_whom_and_goes_when_that_has_ended(seed: int) -> None:
    cluster = running(seed)
    leaver, away, _ = cluster.seats
    cluster.kill(away)
    cluster.leave(leaver)
    stands_still(cluster, leaver)
    assert waits(leaver) == [[away.node.id.hex()[:12]]]
    cluster.end(away)
    cluster.run(lambda: leaver.exited)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leaver_goes_on_when_who_was_down_returns_and_nothing_is_lost(seed: int) -> None:
    cluster = running(seed)
    leaver, away, _ = cluster.seats
    cluster.kill(away)
    cluster.leave(leaver)
    stands_still(cluster, leaver)
    away.killed = False
    cluster.run()
    assert leaver.exited
    cluster.check_everything_applied()
    cluster.check_states()


@pytest.mark.parametrize("seed", SEEDS)
def test_who_left_before_is_not_waited_for(seed: int) -> None:
    cluster = running(seed, endless=True)
    first, second, _ = cluster.seats
    cluster.leave(first)
    cluster.run(lambda: first.exited)
    cluster.leave(second)
    cluster.run(lambda: second.exited)
    assert waits(second) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leaver_goes_although_what_it_had_for_another_is_lost(seed: int) -> None:
    cluster = running(seed)
    leaver, away, _ = cluster.seats
    cluster.end(away)
    cluster.leave(leaver)
    cluster.run(lambda: leaver.exited)


def test_where_slots_have_copies_a_leaver_gives_no_splits_and_waits_for_nobody_who_is_down() -> None:
    me, up, down = (bytes([number]) * 16 for number in (1, 2, 3))
    departure = Departure(me, None, Reports(me, KeptProgress(1)))
    departure.table = agreed(7, [me, up, down], [1], down=[down])
    departure.leaving = True
    assert departure.takers() == []
    assert departure.step(False) == []
    assert [
        (told.to, decode_with_values(told.payload)) for told in departure.step(True) if isinstance(told, Transmit)
    ] == [(up, Farewell(7))]
    departure.table = agreed(8, [me, up, down], [1])
    assert [type(effect) for effect in departure.step(True)] == [Transmit], "who is back is told, too"
    departure.confirmed(up)
    assert departure.step(True) == []
    departure.table = agreed(9, [me, up, down], [1], down=[down])
    assert departure.step(True) == [HandedOver()]
    assert departure.step(True) == []
