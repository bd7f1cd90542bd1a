from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.electorate import founding_electorate
from mesh.core.events import Effect
from mesh.core.events.planes import Propose, Withdraw
from mesh.core.messages.members import ALIVE, DEAD, LEFT, SUSPECT, Member
from mesh.core.planner import (
    GATHER,
    GATHER_FILLS,
    GRACE,
    MOURNING,
    PAUSE,
    REVISE,
    TURN,
    Declared,
    Planner,
    first_table,
    founding_fault,
    gathering,
)
from mesh.core.seating import Facts
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import Table
from mesh.core.table_bytes import table_from_bytes, table_to_bytes, voters_of

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
    table = table_from_bytes(effect.value)
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


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 10), st.integers(0, 3))
def test_every_first_table_is_a_level_target_whose_value_can_be_agreed_on(
    workers: int, copies: int, power: int, zones: int
) -> None:
    alive = [member(f"n{place}", zone=f"z{place % zones}" if zones else "") for place in range(workers)]
    table = first_table(alive, b"c" * 16, 1 << power, copies)
    table.invariants(target=True)
    assert all(len(slot.backups) == min(copies, workers) - 1 for slot in table.slots)
    assert voters_of(1, table_to_bytes(table)) == table.electorate()


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


# -- a formed cluster -------------------------------------------------------------------------------------------------

TABLE = first_table([member(name) for name in ("alpha", "beta", "gamma")], b"c" * 16, 64, 1)
DELTA = member("delta")


def facts(*members: Member) -> Facts:
    return Facts({each.node: each for each in members}, {}, ())


def following(name: str, now: int = 0) -> Planner:
    each = planner(name)
    each.agreed(now)
    return each


def next_of(effects: list[Effect]) -> Table:
    (effect,) = effects
    assert isinstance(effect, Propose)
    table = table_from_bytes(effect.value)
    assert table.epoch == effect.epoch == TABLE.epoch + 1
    return table


def test_a_table_that_is_as_it_should_be_is_left_alone_until_something_stirs() -> None:
    alpha = following("alpha")
    assert alpha.follow(TABLE, facts(*ALL), 0) == []
    assert alpha.next_deadline() is None
    assert alpha.follow(TABLE, facts(*ALL, DELTA), 100) == []  # nobody has said that anything is new
    alpha.stir(100)
    assert [seat.name for seat in next_of(alpha.follow(TABLE, facts(*ALL, DELTA), 100)).members][3] == "delta"


def test_what_is_new_within_a_short_while_is_looked_at_together() -> None:
    alpha = following("alpha")
    alpha.follow(TABLE, facts(*ALL), 0)
    alpha.stir(5)
    assert alpha.follow(TABLE, facts(*ALL, DELTA), 5) == []
    assert alpha.next_deadline() == PAUSE
    table = next_of(alpha.follow(TABLE, facts(*ALL, DELTA, member("epsilon")), PAUSE))
    assert len(table.members) == 5


def test_where_slots_have_copies_claims_come_together_and_what_is_proposed_goes_its_way_first() -> None:
    first = first_table(ALL, bytes(16), 64, copies=2)
    table = replace(first, slots=(*[Slot(2, 0, (1,), since=1, joining=2)] * 2, *first.slots[2:]))
    assert table.asking() == 2
    alpha = planner("alpha", copies=2)
    alpha.agreed(0, gather=GATHER)
    one = replace(facts(*ALL), installed={0: 2})
    alpha.claimed(1, all_heard=False)
    assert alpha.next_deadline() == GATHER
    assert alpha.follow(table, one, 1) == []
    assert len(next_of(alpha.follow(table, one, GATHER)).slots[0].backups) == 2
    alpha.claimed(GATHER + 1, all_heard=True)
    assert alpha.next_deadline() == GATHER + REVISE
    more = replace(one, installed={0: 2, 1: 2})
    assert alpha.follow(table, more, GATHER + REVISE - 1) == []
    assert len(next_of(alpha.follow(table, more, GATHER + REVISE)).slots[1].backups) == 2
    alpha.agreed(1_000, gather=GATHER)
    alpha.claimed(1_001, all_heard=True)
    assert alpha.next_deadline() == 1_001


@pytest.mark.parametrize(
    ("slot", "millis"),
    [
        (Slot(2, 0, (1,), ACTIVE, None, 1, 2), GATHER_FILLS),
        (Slot(2, 0, (1,), PENDING, 1, 1), GATHER),
        (Slot(2, 0, (1,), ACTIVE, None, 1, None, (1,)), GATHER),  # its owner commits nothing before
    ],
    ids=["filled", "handed over", "parting"],
)
def test_claims_that_somebody_waits_for_are_not_gathered_for_long(slot: Slot, millis: int) -> None:
    table = replace(first_table(ALL, b"c" * 16, 16, copies=2), slots=(slot,) * 16)
    assert gathering(table) == millis


def test_the_lowest_named_live_voter_proposes_and_the_others_wait_their_turn() -> None:
    for name, turn in (("alpha", 0), ("beta", 1), ("gamma", 2)):
        each = following(name, 1_000)
        due = 1_000 + turn * TURN
        if turn:
            assert each.follow(TABLE, facts(*ALL, DELTA), 1_000) == []
            assert each.next_deadline() == due
        assert next_of(each.follow(TABLE, facts(*ALL, DELTA), due))
    assert following("delta").follow(TABLE, facts(*ALL, DELTA), 99_000) == []  # it has no vote


def test_whose_turn_it_is_changes_with_who_is_alive() -> None:
    beta = following("beta")
    assert beta.follow(TABLE, facts(*ALL, DELTA), 0) == []
    beta.stir(50)
    assert next_of(beta.follow(TABLE, facts(member("alpha", status=SUSPECT), BETA, GAMMA, DELTA), 50))


def test_a_node_that_has_left_proposes_nothing() -> None:
    gone = (member("alpha", status=LEFT), BETA, GAMMA)
    assert following("alpha").follow(TABLE, facts(*gone), 99_000) == []


def test_the_same_proposal_is_made_once_and_a_better_one_replaces_it() -> None:
    alpha = following("alpha")
    first = alpha.follow(TABLE, facts(*ALL, DELTA), 0)
    assert next_of(first)
    alpha.stir(100)
    assert alpha.follow(TABLE, facts(*ALL, DELTA), 100) == []
    alpha.stir(200)
    assert len(next_of(alpha.follow(TABLE, facts(*ALL, DELTA, member("epsilon")), 200)).members) == 5
    alpha.agreed(300)
    assert alpha.follow(TABLE, facts(*ALL, DELTA), 300) == first


def test_a_proposal_that_nothing_speaks_for_any_more_is_withdrawn() -> None:
    alpha = following("alpha")
    lonely = facts(ALPHA, member("beta", status=DEAD), member("gamma", status=DEAD))
    assert not any(seat.up for seat in next_of(alpha.follow(TABLE, lonely, 0)).members[1:])
    alpha.stir(100)
    assert alpha.follow(TABLE, facts(*ALL), 100) == [Withdraw(2)]
    alpha.stir(200)
    assert alpha.follow(TABLE, facts(*ALL), 200) == []


def test_who_proposed_out_of_turn_withdraws_when_those_before_it_are_back() -> None:
    gamma = following("gamma")
    assert next_of(gamma.follow(TABLE, facts(member("alpha", status=DEAD), member("beta", status=DEAD), GAMMA), 0))
    gamma.stir(100)
    assert gamma.follow(TABLE, facts(*ALL), 100) == [Withdraw(2)]
    assert gamma.next_deadline() == 2 * TURN


def test_who_loses_its_vote_withdraws() -> None:
    alpha = following("alpha")
    alpha.follow(TABLE, facts(*ALL, DELTA), 0)
    alpha.stir(100)
    assert alpha.follow(TABLE, facts(member("alpha", status=LEFT), BETA, GAMMA), 100) == [Withdraw(2)]


def test_nothing_is_called_lost_before_what_an_ended_process_sent_has_arrived() -> None:
    moving = replace(TABLE, slots=(Slot(2, 0, (), PENDING, 2), *TABLE.slots[1:]))
    alpha = following("alpha")
    ended = facts(ALPHA, BETA, member("gamma", status=LEFT))
    first = next_of(alpha.follow(moving, ended, 0))
    assert first.slots[0].status == PENDING
    assert first.counts()["lost"] == 0
    assert alpha.next_deadline() == MOURNING
    alpha.stir(500)
    assert alpha.follow(moving, ended, 500) == []
    last = next_of(alpha.follow(moving, ended, MOURNING))
    assert last.slots[0].status == LOST
    assert last.counts()["lost"] == 22
    assert [seat.name for seat in last.members] == ["alpha", "beta"]
