"""Where slots have copies nothing is answered before it counts: deposed owners, their senders, and who asks them."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import mesh
from mesh.app.plan import Plan, compile
from mesh.core.events.planes import Fenced
from mesh.core.events.work import LinesPosted, ListingAsked, LookupAsked, RecordAsked
from mesh.core.keys import slot_of_key
from tests.data_kept_kit import KeptCluster
from tests.data_kit import Given, Nowhere

SLOTS = 8
FIRST, SECOND = range(4), range(4, 8)  # slots of the first owner, and of the second
KEYS = [f"key-{number}" for number in range(40)]
OF_SECOND = [key for key in KEYS if slot_of_key(key, 0, SLOTS) in SECOND]


def plan(words: list[str]) -> Plan:
    app = mesh.App("waits")
    source = app.source("given", Given([words, []], endless=True)).merge(app.source("posted", mesh.http()))
    counts = source.key_by(lambda word: word).stateful("count", int, lambda n, word: (n + 1, (word, n + 1)))
    totals = counts.values().key_by(lambda pair: pair[0][-1]).stateful("last", int, lambda n, pair: (n + 1, pair))
    totals.values().to(Nowhere())
    return compile(app)


def two(words: list[str]) -> KeptCluster:
    """Two nodes, each of which has a copy of the other's slots."""
    return KeptCluster(plan(words), Random(1), owners=2, copies=2, slots=SLOTS)


def answers(cluster: KeptCluster, node: int) -> dict[int, tuple[str, Any]]:
    found = cluster.nodes[node].answers
    return {each.ticket: (each.outcome, json.loads(each.state) if each.state else None) for each in found}


def counts(cluster: KeptCluster, node: int) -> dict[Any, int]:
    return cluster.nodes[node].data.owner.stages[0].states


def posted(keys: list[str], producer: str = "") -> LinesPosted:
    return LinesPosted(1, "posted", keys, producer, 0, [len(key) for key in keys])


def test_outputs_and_answers_wait_for_the_copies() -> None:
    cluster = two([])
    cluster.go_on()
    cluster.give(cluster.nodes[1], posted(OF_SECOND))
    cluster.go_on((1, 0))  # the second node's packs stay where they are
    assert counts(cluster, 1) == dict.fromkeys(OF_SECOND, 1)
    assert not answers(cluster, 1)
    assert not cluster.items(0)
    cluster.go_on()
    assert answers(cluster, 1) == {1: ("committed", {"committed": len(OF_SECOND), "duplicates": 0})}
    assert sorted(cluster.items(0)) == sorted((key, 1) for key in OF_SECOND)


def test_a_node_that_is_fenced_gives_nothing_out_though_all_copies_have_it() -> None:
    cluster = two([])
    cluster.go_on()
    cluster.give(cluster.nodes[1], posted(OF_SECOND))
    cluster.go_on((1, 0))
    cluster.give(cluster.nodes[1], Fenced(True))
    cluster.go_on()
    assert not answers(cluster, 1)
    assert not cluster.items(0)
    cluster.give(cluster.nodes[1], Fenced(False))
    cluster.go_on()
    assert answers(cluster, 1)[1][0] == "committed"
    assert sorted(cluster.items(0)) == sorted((key, 1) for key in OF_SECOND)


def test_records_that_a_deposed_owner_applied_are_applied_by_its_successor_once() -> None:
    cluster = two(OF_SECOND * 3)
    cluster.run(lambda: sum(counts(cluster, 1).values()) > 10)
    cluster.go_on((1, 0), ticks=200)  # it goes on, and nobody hears of it
    assert sum(counts(cluster, 1).values()) == 3 * len(OF_SECOND)
    cluster.promote(SECOND, 0, told=[0])
    cluster.go_on((1, 0), ticks=20)
    cluster.go_on()  # what it had sent before comes late
    cluster.give(cluster.nodes[1], cluster.table)
    cluster.go_on()
    assert not counts(cluster, 1)
    assert {key: n for key, n in counts(cluster, 0).items() if key in OF_SECOND} == dict.fromkeys(OF_SECOND, 3)
    assert len(cluster.names) == 3 * len(OF_SECOND)


def test_a_read_waits_until_the_copies_have_answered_and_is_worth_nothing_if_the_slot_is_gone() -> None:
    cluster = two(OF_SECOND)
    cluster.go_on()
    key, other = OF_SECOND[:2]
    cluster.give(cluster.nodes[1], LookupAsked(1, "count", key))
    cluster.go_on((0, 1))
    assert not answers(cluster, 1)
    cluster.go_on()
    assert answers(cluster, 1) == {1: ("found", 1)}
    cluster.give(cluster.nodes[1], LookupAsked(2, "count", other))
    cluster.go_on((0, 1), (1, 0))
    cluster.promote(SECOND, 0, told=[0])
    cluster.go_on((1, 0))
    cluster.give(cluster.nodes[1], cluster.table)
    cluster.go_on()
    assert answers(cluster, 1)[2] == ("unavailable", None)


def test_a_page_of_keys_waits_likewise() -> None:
    cluster = two(OF_SECOND)
    cluster.go_on()
    cluster.give(cluster.nodes[1], ListingAsked(1, "count", (SECOND[0], ()), 1000))
    cluster.go_on((0, 1))
    assert not cluster.nodes[1].listed
    cluster.go_on()
    assert sorted(cluster.nodes[1].listed[0].keys) == sorted(OF_SECOND)


def test_lines_of_a_producer_go_to_the_successor_of_an_owner_that_does_not_answer_and_count_once() -> None:
    for has_it in (False, True):
        cluster = two([])
        cluster.go_on()
        cluster.give(cluster.nodes[0], posted(OF_SECOND, producer="p"))
        cluster.go_on((1, 0))  # it is applied, and its copy is on its way,
        if has_it:
            cluster.go_on((0, 1))  # or there
        cluster.promote(SECOND, 0, told=[0])
        cluster.go_on((1, 0))
        assert answers(cluster, 0) == {1: ("committed", {"committed": len(OF_SECOND), "duplicates": 0})}
        assert counts(cluster, 0) == dict.fromkeys(OF_SECOND, 1)


def test_of_lines_without_a_producer_nobody_can_say() -> None:
    cluster = two([])
    cluster.go_on()
    cluster.give(cluster.nodes[1], posted(OF_SECOND))
    cluster.give(cluster.nodes[1], RecordAsked(2, "count", OF_SECOND[0], OF_SECOND[0]))
    cluster.go_on((1, 0))
    cluster.promote(SECOND, 0, told=[0, 1])
    cluster.go_on((1, 0))
    assert {ticket: outcome for ticket, (outcome, _) in answers(cluster, 1).items()} == {1: "unknown", 2: "unknown"}


def test_without_a_producer_an_answer_of_an_owner_is_not_waited_for_when_it_is_down_and_another_follows() -> None:
    for is_down in (False, True):
        cluster = two([])
        cluster.go_on()
        cluster.give(cluster.nodes[0], posted(OF_SECOND))
        cluster.go_on((0, 1))  # nothing comes to the second
        if is_down:
            cluster.table = replace(cluster.table, down=(cluster.table.workers[1],))
        cluster.promote(SECOND, 0, told=[0])
        assert answers(cluster, 0) == ({1: ("unknown", None)} if is_down else {})
