"""An owner that is deposed while its senders know nothing of it: what it never had committed counts as refused."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

import mesh
from mesh.app.plan import Plan, compile
from mesh.core.events.work import LinesPosted
from mesh.core.giving import REPLICATION
from mesh.core.keys import slot_of_key
from mesh.core.slot import LOST
from tests.data_kept_kit import KeptCluster
from tests.data_kit import Given

SLOTS = 8
PACKS = (1, 0, REPLICATION)  # of the second node, to the first
WORDS = [f"word-{number}" for number in range(80)]


def plan(words: list[str]) -> Plan:
    """The third founder's split has these words."""
    app = mesh.App("deposed")
    fillers: list[list[Any]] = [[None] * 300, [None] * 200, list(words)]
    words_given = app.source("given", Given(fillers, endless=True)).merge(app.source("posted", mesh.http()))
    words_given.key_by(lambda word: word.split(":")[0]).stateful(
        "list", tuple, lambda state, word: ((*state, word), None)
    )
    return compile(app)


def cluster_of(owners: int, words: list[str]) -> KeptCluster:
    """All have copies of all slots."""
    return KeptCluster(plan(words), Random(1), owners=owners, copies=owners, slots=SLOTS)


def owned_by(cluster: KeptCluster, owner: int) -> range:
    slots = [slot for slot, each in enumerate(cluster.table.owner_of_slot) if each == owner]
    return range(slots[0], slots[-1] + 1)


def words_in(slots: range) -> list[str]:
    return [word for word in WORDS if slot_of_key(word, 0, SLOTS) in slots]


def lists(cluster: KeptCluster, node: int, slots: range) -> dict[Any, Any]:
    states = cluster.nodes[node].data.owner.stages[0].states
    return {key: state for key, state in states.items() if slot_of_key(key, 0, SLOTS) in slots}


def outcomes(cluster: KeptCluster, node: int) -> dict[int, tuple[str, Any]]:
    return {each.ticket: (each.outcome, json.loads(each.state or b"null")) for each in cluster.nodes[node].answers}


def tell(cluster: KeptCluster, node: int) -> None:
    cluster.give(cluster.nodes[node], cluster.table)


def test_of_a_batch_every_slot_that_is_withdrawn_is_refused() -> None:
    slots = owned_by(cluster_of(3, []), 1)
    words = words_in(slots)
    cluster = cluster_of(3, words)
    cluster.go_on((1, 0), ticks=100)
    assert lists(cluster, 1, slots) == {word: (word,) for word in words}
    cluster.promote(slots, 0, told=[0, 1])
    cluster.go_on((1, 0), ticks=20)
    tell(cluster, 2)
    cluster.go_on(ticks=20)
    assert lists(cluster, 0, slots) == {word: (word,) for word in words}


def test_what_is_sent_again_by_another_reader_counts_when_it_counted_the_first_time() -> None:
    slots = owned_by(cluster_of(4, []), 1)
    words = words_in(slots)
    cluster = cluster_of(4, words)
    cluster.go_on((1, 0), ticks=100)
    assert lists(cluster, 1, slots) == {word: (word,) for word in words}
    cluster.promote(owned_by(cluster, 2), 3, told=[1, 3])
    cluster.go_on((1, 0), (2, 1), ticks=100)  # the fourth node reads them again, and the second one knows them
    cluster.promote(slots, 0, told=[0, 1])
    cluster.go_on((1, 0), (2, 0), ticks=20)
    tell(cluster, 3)
    cluster.go_on((2, 0), ticks=20)  # whoever read them first says nothing
    assert lists(cluster, 0, slots) == {word: (word,) for word in words}


@pytest.mark.parametrize("owner_of_name", [0, 1])
def test_lines_that_are_withdrawn_are_applied_by_the_next_owner_and_count_once(owner_of_name: int) -> None:
    cluster = cluster_of(3, [])
    cluster.go_on(ticks=10)
    slots, names = owned_by(cluster, 1), words_in(owned_by(cluster, owner_of_name))
    words = words_in(slots)
    for ticket in (1, 2):  # the second one finds that all is known
        digests = [len(word) for word in words]
        cluster.give(cluster.nodes[2], LinesPosted(ticket, "posted", words, names[0], 0, digests))
    cluster.go_on(PACKS)
    assert lists(cluster, 1, slots) == ({word: (word,) for word in words} if owner_of_name == 0 else {})
    cluster.promote(slots, 0, told=[0, 1])
    cluster.go_on(PACKS)
    assert outcomes(cluster, 2) == {}
    tell(cluster, 2)
    cluster.go_on(ticks=3)
    assert {ticket: outcome for ticket, (outcome, _) in outcomes(cluster, 2).items()} == {
        1: "committed",
        2: "committed",
    }
    assert lists(cluster, 0, slots) == {word: (word,) for word in words}


@pytest.mark.parametrize("has_it", [False, True])
def test_lines_are_sent_again_when_their_owner_is_never_heard_of_again(has_it: bool) -> None:
    cluster = cluster_of(3, [])
    cluster.go_on(ticks=10)
    slots, name = owned_by(cluster, 1), words_in(owned_by(cluster, 0))[0]
    words = words_in(slots)
    cluster.give(cluster.nodes[2], LinesPosted(1, "posted", words, name, 0, [len(word) for word in words]))
    cluster.go_on(PACKS)
    assert lists(cluster, 1, slots) == {word: (word,) for word in words}
    if has_it:
        cluster.go_on((0, 1))
    cluster.promote(slots, 0, told=[0, 2])
    cluster.go_on((1, 0), (1, 2))
    assert outcomes(cluster, 2) == {1: ("committed", {"committed": len(words), "duplicates": 0})}
    assert lists(cluster, 0, slots) == {word: (word,) for word in words}


def test_a_piece_whose_slot_was_gone_in_its_midst_goes_on_with_nothing_of_that_slot() -> None:
    cluster = cluster_of(3, [])
    cluster.go_on(ticks=10)
    slots = owned_by(cluster, 1)
    word = words_in(slots)[0]
    lines = [f"{word}:{number}" for number in range(6)]
    owner = cluster.nodes[1]
    cluster.give(owner, LinesPosted(1, "posted", lines, words_in(owned_by(cluster, 0))[0], 0, [1] * 6))
    while not lists(cluster, 1, slots):
        cluster.random.choice(cluster._choices())()
    assert lists(cluster, 1, slots) == {word: (lines[0],)}
    cluster.next_table(slots, 1, LOST)
    cluster.give(owner, cluster.table)
    cluster.next_table(slots, 1)
    cluster.give(owner, cluster.table)
    cluster.go_on(ticks=3)
    assert lists(cluster, 1, slots) == {word: tuple(lines)}


def test_numbers_whose_claim_is_withdrawn_are_claimed_from_the_next_owner() -> None:
    cluster = cluster_of(3, [])
    cluster.go_on(ticks=10)
    slots = owned_by(cluster, 1)
    name = words_in(slots)[0]
    for ticket, owner in ((1, 0), (2, 2)):  # two lines under one number
        word = words_in(owned_by(cluster, owner))[0]
        cluster.give(cluster.nodes[2], LinesPosted(ticket, "posted", [word], name, 0, [ticket]))
    cluster.go_on(PACKS)
    cluster.promote(slots, 0, told=[0, 1])
    cluster.go_on()
    tell(cluster, 2)
    cluster.go_on(ticks=3)
    assert {ticket: outcome for ticket, (outcome, _) in outcomes(cluster, 2).items()} == {
        1: "committed",
        2: "conflict",
    }
