"""The book of records of a cluster with copies notices what must not be; what may come again may come again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.core.messages import NodeId
from mesh.sim.branches import Branches
from mesh.sim.kept_ledger import KeptLedger
from mesh.sim.violation import Violation
from mesh.sim.workload import Workload
from tests.sim_kit import small_workload

LINES = (("0/0", 0, (0, 20, 40, 60)),)  # four records of one key at stage 0, and of one at stage 1
A, B = b"A", b"B"
REIGNS = {A: 1, B: 2}


def workload() -> Workload:
    plain = small_workload(1, lines=1)
    return Workload(plain.stages, ((LINES,),), 3, False)


def book() -> KeptLedger:
    made = KeptLedger(workload(), lambda worker, key: REIGNS[worker])
    made.reading(A, "0/0", 0, LINES)
    return made


def step(ledger: KeptLedger, owner: NodeId, seq: int, count: int) -> None:
    ledger.stepping(owner, 0, ("0/0", seq, 20 * seq), count)


def then(ledger: KeptLedger, owner: NodeId, seq: int, count: int) -> None:
    """At the second stage."""
    ledger.stepping(owner, 1, ("0:key-0", seq, 20 * (seq - 1)), count)


def write(ledger: KeptLedger, seq: int) -> None:
    ledger.writing("last", [(workload().key(1, 0), (seq, 0, 20 * (seq - 1)))])


def test_it_is_complete_when_every_state_and_every_sink_has_all() -> None:
    ledger = book()
    for seq in range(4):
        step(ledger, A, seq, seq + 1)
        then(ledger, A, seq + 1, seq + 1)
        assert not ledger.complete()
        write(ledger, seq + 1)
    assert not ledger.found
    assert ledger.complete()


def test_what_a_dead_owner_alone_had_seen_comes_again() -> None:
    ledger = book()
    for seq in range(3):
        step(ledger, A, seq, seq + 1)
    then(ledger, A, 1, 1)  # the first counts; of the others no copy has heard
    step(ledger, B, 1, 2)
    step(ledger, A, 3, 4)  # it does not know yet that it is none any more
    step(ledger, B, 2, 3)
    then(ledger, B, 1, 1)
    then(ledger, B, 2, 2)
    write(ledger, 1)
    write(ledger, 1)
    write(ledger, 2)
    assert not ledger.found
    assert (ledger.arrived, ledger.again) == (2, 1)


@pytest.mark.parametrize(
    ("owner", "seq", "count", "rule"),
    [
        (A, 2, 2, "I13"),  # it goes back
        (A, 1, 3, "I8"),  # again
        (A, 3, 3, "I9"),  # one is left out
        (A, 9, 3, "I9"),  # nobody sent it
        (B, 1, 2, "I7"),  # what counts is gone
        (B, 2, 4, "I5"),  # with a record that nobody had
        (B, 3, 3, "I9"),
    ],
)
def test_it_notices_what_is_taken_twice_or_left_out_or_taken_back(
    owner: NodeId, seq: int, count: int, rule: str
) -> None:
    ledger = book()
    for each in range(2):
        step(ledger, A, each, each + 1)
    assert ledger.acknowledged(0, "0/0", 1, 20)
    step(ledger, owner, seq, count)
    assert [violation.rule for violation in ledger.found] == [rule]


def shows(ledger: KeptLedger) -> None:
    ledger.shown(0, "key-0", 2)


def gives_out(ledger: KeptLedger) -> None:
    then(ledger, A, 1, 1)
    then(ledger, A, 2, 2)


def writes(ledger: KeptLedger) -> None:
    gives_out(ledger)
    write(ledger, 1)


@pytest.mark.parametrize("told", [shows, gives_out, writes])
def test_a_later_reign_has_all_that_anybody_was_told_of(told: Callable[[KeptLedger], None]) -> None:
    ledger = book()
    for seq in range(2):
        step(ledger, A, seq, seq + 1)
    told(ledger)
    assert not ledger.found
    step(ledger, B, 1, 2)
    assert [violation.rule for violation in ledger.found] == ["I7"]


def test_who_does_not_know_that_it_is_deposed_may_begin_with_a_key_that_counts_elsewhere() -> None:
    ledger = book()
    step(ledger, B, 0, 1)
    then(ledger, B, 1, 1)
    step(ledger, A, 0, 1)
    step(ledger, A, 1, 2)
    assert not ledger.found
    step(ledger, B, 1, 2)
    ledger.shown(0, "key-0", 2)
    assert not ledger.found


def test_what_only_a_former_owner_has_may_not_be_seen() -> None:
    ledger = book()
    for seq in range(3):
        step(ledger, A, seq, seq + 1)
    step(ledger, B, 1, 2)
    for told in (lambda: ledger.shown(0, "key-0", 3), lambda: ledger.acknowledged(0, "0/0", 2, 40)):
        with pytest.raises(Violation, match="I6"):
            told()
    with pytest.raises(Violation, match="at most 3"):
        ledger.shown(0, "key-0", 5)


def test_an_acknowledgement_of_what_was_never_applied_is_noticed() -> None:
    ledger = book()
    step(ledger, A, 0, 1)
    assert ledger.acknowledged(0, "0/0", 0, 0)
    assert not ledger.acknowledged(0, "0/0", 1, 20)


def test_a_sink_that_lacks_an_item_or_has_one_that_does_not_count() -> None:
    ledger = book()
    for seq in range(3):
        step(ledger, A, seq, seq + 1)
        then(ledger, A, seq + 1, seq + 1)
    write(ledger, 1)
    write(ledger, 3)
    assert [violation.rule for violation in ledger.found] == ["I9"]


def test_who_reads_again_leaves_nothing_out() -> None:
    ledger = book()
    ledger.reading(B, "0/0", 0, [])
    assert not ledger.found
    ledger.reading(B, "0/0", 2, [])
    assert [violation.rule for violation in ledger.found] == ["E5"]
    assert ledger.readers("0/0") == [A, B]


def test_a_chain_that_forks_below_what_counts() -> None:
    branches = Branches("key")
    branches.take(1, 0, ("s", 0, 0))
    branches.take(2, 0, ("s", 9, 0))
    branches.seen(1)
    with pytest.raises(Violation, match="I6"):
        branches.answered(("s", 0, 0))
