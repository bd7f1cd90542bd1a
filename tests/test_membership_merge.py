"""M2 as algebra, on all beliefs of a small scope and on drawn ones; the same laws catch wrong merges."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.membership.merge import MAX_JUMP, MAX_MEMBERS, implausible, leaps, newer
from mesh.core.membership.roster import Roster
from mesh.core.messages.members import ALIVE, DEAD, LEAVING, LEFT, READY, STAYING, SUSPECT, Member
from tests.membership_kit import member

Merge = Callable[[Member, Member], Member]

ONE = member("alpha")
SMALL_SCOPE = [
    replace(ONE, incarnation=incarnation, status=status, name=name, leaving=leaving)
    for incarnation in range(3)
    for status in (ALIVE, SUSPECT, DEAD, LEFT)
    for name, leaving in (("alpha", STAYING), ("beta", STAYING), ("alpha", LEAVING))
]
beliefs = st.builds(
    Member,
    st.just(ONE.node),
    st.sampled_from(["alpha", "beta", ""]),
    st.sampled_from(["tcp://a:1", "tcp://b:2"]),
    st.sampled_from(["", "a:80"]),
    st.sampled_from(["worker", "witness", "?"]),
    st.sampled_from(["", "z"]),
    st.integers(0, 5) | st.integers(0, 2**63 - 1),
    st.sampled_from([ALIVE, SUSPECT, DEAD, LEFT]),
    st.sampled_from([STAYING, LEAVING, READY]),
)


def broken_law(merge: Merge) -> str | None:
    """The first law that does not hold in the small scope."""
    for a, b in itertools.product(SMALL_SCOPE, repeat=2):
        if merge(a, b) != merge(b, a):
            return "commutative"
        if merge(a, a) != a or merge(merge(a, b), b) != merge(a, b):
            return "idempotent"
        if a.status == DEAD and b.status == ALIVE and b.incarnation <= a.incarnation and merge(a, b) != a:
            return "the dead do not rise"
        if a.status == LEFT and merge(a, b).status != LEFT:
            return "left is final"
        if merge(a, b).status != LEFT and merge(a, b).incarnation != max(a.incarnation, b.incarnation):
            return "the largest incarnation is kept"
    for a, b, c in itertools.product(SMALL_SCOPE[::2], repeat=3):
        if merge(merge(a, b), c) != merge(a, merge(b, c)):
            return "associative"
    return None


def _dead_rises(a: Member, b: Member) -> Member:
    awake = [each for each in (a, b) if each.status != DEAD]  # as if a death were forgotten with its incarnation
    return newer(a, b) if len(awake) != 1 else awake[0]


def _last_one_wins(a: Member, b: Member) -> Member:
    return b if b.incarnation >= a.incarnation else a


def _status_first(a: Member, b: Member) -> Member:
    return max(a, b, key=lambda each: (each.status, each.incarnation, each.name))


def _left_returns(a: Member, b: Member) -> Member:
    return max(a, b, key=lambda each: (each.incarnation, each.status, each.name))


def _deaf_to_names(a: Member, b: Member) -> Member:
    return max(a, b, key=lambda each: (each.status == LEFT, each.incarnation, each.status))


def test_merge_obeys_every_law_in_the_small_scope() -> None:
    assert broken_law(newer) is None


@pytest.mark.parametrize("mutant", [_dead_rises, _last_one_wins, _status_first, _left_returns, _deaf_to_names])
def test_the_laws_catch_a_wrong_merge(mutant: Merge) -> None:
    assert broken_law(mutant) is not None


@given(beliefs, beliefs, beliefs)
def test_merge_is_a_semilattice(a: Member, b: Member, c: Member) -> None:
    assert newer(a, b) == newer(b, a)
    assert newer(newer(a, b), c) == newer(a, newer(b, c))
    assert newer(a, a) == a
    assert newer(a, b) in (a, b)


@given(st.lists(beliefs, min_size=1, max_size=8), st.randoms())
def test_a_roster_believes_the_same_whatever_the_order_of_news(claims: list[Member], random: object) -> None:
    claims = [each for each in claims if implausible(each) is None and each.incarnation <= MAX_JUMP]
    shuffled = list(claims)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Roster(member("me")), Roster(member("me"))
    for claim in claims:
        one.merge(claim, 0)
    for claim in shuffled:
        other.merge(claim, 0)
    assert one.members.get(ONE.node) == other.members.get(ONE.node)


def test_the_forgotten_dead_do_not_rise_at_their_incarnation() -> None:
    roster = Roster(member("me"))
    roster.merge(replace(ONE, status=DEAD, incarnation=7), now=1_000)
    roster.forget(before=1_001)
    assert ONE.node not in roster.members
    assert roster.merge(replace(ONE, incarnation=7), now=2_000) is None
    assert roster.merge(replace(ONE, status=DEAD, incarnation=7), now=2_000) is None
    risen = roster.merge(replace(ONE, incarnation=8), now=2_000)
    assert risen is not None
    assert risen.before == DEAD
    assert roster.members[ONE.node].status == ALIVE


def test_who_died_lately_is_not_forgotten() -> None:
    roster = Roster(member("me"))
    roster.merge(replace(ONE, status=DEAD), now=1_000)
    roster.forget(before=1_000)
    assert roster.members[ONE.node].status == DEAD


def test_an_incarnation_may_not_leap() -> None:
    assert not leaps(7 + MAX_JUMP, 7)
    assert leaps(8 + MAX_JUMP, 7)


@pytest.mark.parametrize(
    "changes",
    [
        {"node": b"short"},
        {"status": 4},
        {"name": ""},
        {"name": "a\x1b[2J"},
        {"name": "x" * 65},
        {"role": "boss"},
        {"zone": "z" * 65},
        {"endpoint": "alpha:7400"},
        {"endpoint": "tcp://alpha:0"},
        {"endpoint": "tcp://alpha:65536"},
        {"endpoint": "tcp://*:7400"},
        {"endpoint": "tcp://a b:7400"},
        {"endpoint": "ipc:///tmp/x"},
    ],
)
def test_a_member_that_no_honest_node_can_be_is_implausible(changes: dict[str, object]) -> None:
    assert implausible(replace(ONE, **changes)) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:7400", "tcp://[::1]:65535", "tcp://node-1.example:1"])
def test_honest_endpoints_are_plausible(endpoint: str) -> None:
    assert implausible(replace(ONE, endpoint=endpoint)) is None


def test_a_full_roster_gives_up_the_longest_dead_and_refuses_when_all_live() -> None:
    roster = Roster(member("me"))
    for number in range(MAX_MEMBERS - 1):
        roster.merge(replace(ONE, node=number.to_bytes(16, "big"), status=DEAD if number == 5 else ALIVE), now=number)
    newcomer = member("new")
    assert roster.refusal(newcomer) is None
    assert roster.merge(newcomer, now=99_999) is not None
    assert len(roster.members) == MAX_MEMBERS
    assert (5).to_bytes(16, "big") not in roster.members
    refusal = roster.refusal(member("newer"))
    assert refusal is not None
    assert refusal[0] == "members-full"
