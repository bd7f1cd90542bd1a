from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.electorate import founding_electorate
from mesh.core.events import Effect, Propose
from mesh.core.messages import ALIVE, DEAD, SUSPECT, Member
from mesh.core.planner import GRACE, TURN, Declared, Planner, first_table, founding_fault
from mesh.core.table import Table, voters_of

THREE = (Declared("alpha", "worker", ""), Declared("beta", "worker", ""), Declared("gamma", "worker", ""))
TWO_AND_WITNESS = (*THREE[:2], Declared("watch", "witness", ""))


def node(name: str, process: int = 0) -> bytes:
    return f"{name}/{process}".encode().ljust(16, b".")


def member(name: str, role: str = "worker", status: int = ALIVE, process: int = 0, zone: str = "") -> Member:
    return Member(node(name, process), name, f"tcp://{name}:1", f"{name}:2", role, zone, 1, status)


def planner(name: str, declared: tuple[Declared, ...] = THREE, expect: int = 3, copies: int = 1) -> Planner:
    return Planner(node(name), declared, expect, 64, copies, Random(name))


def proposed(effects: list[Effect]) -> Table:
    (effect,) = effects
    assert isinstance(effect, Propose)
    table = Table.from_bytes(effect.value)
    assert table.epoch == effect.epoch == 1
    return table


ALPHA, BETA, GAMMA = member("alpha"), member("beta"), member("gamma")
WATCH = member("watch", "witness")
ALL = (ALPHA, BETA, GAMMA)


def test_nothing_is_proposed_until_expect_workers_are_alive() -> None:
    alpha = planner("alpha")
    for alive in ((ALPHA,), (ALPHA, BETA), (ALPHA, BETA, member("gamma", status=SUSPECT)),
                  (ALPHA, BETA, member("gamma", status=DEAD)), (ALPHA, BETA, member("delta"))):  # fmt: skip
        assert alpha.found(alive, 10_000) == []
        assert alpha.next_deadline() is None
    assert proposed(alpha.found(ALL, 10_001)).owned_counts() == (22, 21, 21)


def test_the_first_table_has_contiguous_shares_in_the_order_of_the_declaration() -> None:
    table = proposed(planner("alpha").found((GAMMA, ALPHA, BETA), 0))
    assert [(run.first, run.last, run.owner.name) for run in table.runs()] == [
        (0, 21, "alpha"), (22, 42, "beta"), (43, 63, "gamma")]  # fmt: skip
    assert {slot.term for slot in table.slots} == {1}
    seat = table.members[1]
    assert (seat.name, seat.node, seat.endpoint, seat.http) == ("beta", node("beta"), "tcp://beta:1", "beta:2")


def test_witnesses_vote_and_own_nothing() -> None:
    alpha = planner("alpha", TWO_AND_WITNESS, expect=2, copies=2)
    table = proposed(alpha.found((ALPHA, BETA, WATCH), 0))
    assert table.owned_counts() == (32, 32, 0)
    assert table.backup_counts() == (32, 32, 0)
    assert [seat.name for seat in table.voters()] == ["alpha", "beta", "watch"]


def test_a_witness_counts_for_nothing_in_expect_and_never_proposes() -> None:
    declared = (Declared("a-watch", "witness", ""), *THREE[:2])
    watch = member("a-watch", "witness")
    assert planner("alpha", declared, expect=2).found((watch, ALPHA), 0) == []
    assert planner("a-watch", declared, expect=2).found((watch, ALPHA, BETA), 0) == []
    assert proposed(planner("alpha", declared, expect=2).found((watch, ALPHA, BETA), 0))


def test_the_absent_get_a_grace_and_then_are_left_out() -> None:
    alpha = planner("alpha", expect=2)
    assert alpha.found((ALPHA, BETA), 1_000) == []
    assert alpha.next_deadline() == 1_000 + GRACE
    assert alpha.found((ALPHA, BETA), 1_000 + GRACE - 1) == []
    table = proposed(alpha.found((ALPHA, BETA), 1_000 + GRACE))
    assert [seat.name for seat in table.members] == ["alpha", "beta"]
    assert alpha.next_deadline() is None


def test_who_comes_within_the_grace_is_in_and_ends_it() -> None:
    alpha = planner("alpha", expect=2)
    assert alpha.found((ALPHA, BETA), 1_000) == []
    assert len(proposed(alpha.found(ALL, 1_000 + GRACE // 2)).members) == 3


def test_the_grace_starts_again_when_there_are_too_few_in_between() -> None:
    alpha = planner("alpha", expect=2)
    alpha.found((ALPHA, BETA), 1_000)
    alpha.found((ALPHA,), 1_200)
    assert alpha.found((ALPHA, GAMMA), 1_900) == []
    assert alpha.next_deadline() == 1_900 + GRACE


def test_only_the_lowest_named_live_worker_proposes_at_once() -> None:
    assert planner("alpha").found(ALL, 0)
    assert planner("beta").found(ALL, 0) == planner("gamma").found(ALL, 0) == []
    assert planner("delta").found((*ALL, member("delta")), 0) == []
    beta = planner("beta", expect=2)
    assert beta.found((BETA, GAMMA), 0) == []
    assert proposed(beta.found((BETA, GAMMA), GRACE))


def test_the_next_ones_propose_when_the_first_does_not() -> None:
    beta, gamma = planner("beta"), planner("gamma")
    for each, turn in ((beta, 1), (gamma, 2)):
        each.found(ALL, 500)
        assert each.next_deadline() == 500 + turn * TURN
        assert each.found(ALL, 500 + turn * TURN - 1) == []
        assert proposed(each.found(ALL, 500 + turn * TURN))
        assert each.next_deadline() is None


def test_a_proposal_is_repeated_only_with_other_members() -> None:
    alpha = planner("alpha", expect=2)
    first = proposed(alpha.found(ALL, 0))
    assert alpha.found(ALL, 1) == alpha.found((GAMMA, BETA, ALPHA), GRACE) == []
    second = proposed(alpha.found((ALPHA, GAMMA), GRACE))
    assert [seat.name for seat in second.members] == ["alpha", "gamma"]
    assert second.cluster_id == first.cluster_id


def test_a_name_that_two_live_nodes_claim_is_nobody_s() -> None:
    alpha = planner("alpha")
    old, new = member("gamma", process=1), member("gamma", process=2)
    assert alpha.found((ALPHA, BETA, old, new), 0) == []
    table = proposed(alpha.found((ALPHA, BETA, member("gamma", status=DEAD, process=1), new), 5_000))
    assert table.members[2].node == new.node


def test_a_node_with_another_role_than_declared_is_not_that_node() -> None:
    assert planner("alpha").found((ALPHA, BETA, member("gamma", "witness")), 0) == []


def test_cluster_ids_come_from_the_random_argument() -> None:
    tables = [proposed(Planner(node("alpha"), THREE, 3, 64, 1, Random(seed)).found(ALL, 0)) for seed in (1, 1, 2)]
    assert tables[0] == tables[1]
    assert tables[0].cluster_id != tables[2].cluster_id


def test_at_most_seven_vote() -> None:
    declared = tuple(Declared(f"n{place}", "worker", "") for place in range(9))
    alive = tuple(member(each.name) for each in declared)
    table = proposed(Planner(node("n0"), declared, 9, 64, 2, Random(1)).found(alive, 0))
    assert len(table.voters()) == 7
    assert len(table.workers()) == 9


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 10), st.integers(0, 3))
def test_every_first_table_is_a_level_target_whose_value_can_be_agreed_on(
    workers: int, copies: int, power: int, zones: int
) -> None:
    alive = [member(f"n{place}", zone=f"z{place % zones}" if zones else "") for place in range(workers)]
    table = first_table(alive, b"c" * 16, 1 << power, copies)
    table.invariants(target=True)
    assert all(len(slot.backups) == min(copies, workers) - 1 for slot in table.slots)
    assert voters_of(1, table.to_bytes()) == table.electorate()


# -- what can be declared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "expect", "fault"),
    [
        (THREE, 3, None), (THREE, 2, None), (TWO_AND_WITNESS, 2, None), (THREE[:1], 1, None), (THREE[:2], 2, None),
        (THREE, 1, "expect is 1 of 3 declared nodes; it must be more than half, at least 2"),
        (THREE, 0, "expect is 0 of 3"), (THREE, 4, "expect is 4, but only 3 workers"),
        (THREE[:2], 1, "at least 2"), (TWO_AND_WITNESS, 3, "only 2 workers"),
        ((THREE[0], TWO_AND_WITNESS[2]), 1, "at least 2"), (TWO_AND_WITNESS[2:], 1, "no declared node is a worker"),
        ((), 1, "no declared node is a worker"),
    ],
)  # fmt: skip
def test_expect_is_more_than_half_of_the_declared(
    declared: tuple[Declared, ...], expect: int, fault: str | None
) -> None:
    found = founding_fault(declared, expect)
    assert found == fault if fault is None else found is not None and fault in found
    if fault is None:
        founding_electorate([each.name for each in declared if each.role == "worker"], expect)
