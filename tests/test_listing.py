"""All keys of a stage, page by page, asked at any node, while keys are made and slots move."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mesh
from mesh.app.plan import Plan, compile
from mesh.core import codec, slot_keys
from mesh.core.events import Effect, Rejected, Woke
from mesh.core.events.planes import Delivered, Fenced, MemberChanged, SlotsInstalled, Transmit
from mesh.core.events.work import Listed, ListingAsked
from mesh.core.keys import Key, slot_of_key
from mesh.core.listing import MAX_LIMIT, MAX_PAGES, PAGE_BYTES, PAGE_MS
from mesh.core.messages import Message
from mesh.core.messages.members import ALIVE, DEAD, Member
from mesh.core.messages.outside import KeysAsked, KeysTold
from mesh.core.places import BEGINNING, START, Position, place_of
from mesh.core.slot import ACTIVE, LOST, PENDING
from mesh.core.slot_keys import AT_ONCE, MAX_SEARCHES, PART_BYTES
from tests.data_kit import Cluster, Given, Node, Nowhere
from tests.moves_kit import Job, Moving
from tests.tables import agreed

SLOTS = 8


def counting() -> Plan:
    app = mesh.App("count")
    app.source("s", Given([[]], endless=True)).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1).to(
        Nowhere()
    )
    return compile(app)


class Standing(Cluster):
    """Nobody hears that slots have arrived."""

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        super()._perform(node, [effect for effect in effects if not isinstance(effect, SlotsInstalled)])


def with_keys(keys: Sequence[Key], owners: int = 3) -> Cluster:
    """Formed, and with these keys where they belong."""
    cluster = Standing(counting(), Random(0), owners=owners, slots=SLOTS)
    for node in cluster.nodes:
        cluster.give(node, cluster.table)
        node.pending.clear()
    add(cluster, keys)
    return cluster


def add(cluster: Cluster, keys: Sequence[Key]) -> None:
    for key in keys:
        owner = cluster.table.workers[cluster.table.owner_of_slot[slot_of_key(key, 0, SLOTS)]]
        cluster.by_id[owner].data.owner.stages[0].put([key], [1])


def positions(keys: Sequence[Key]) -> list[Position]:
    return [(slot_of_key(key, 0, SLOTS), place_of(key)) for key in keys]


def in_order(keys: Sequence[Key]) -> list[Key]:
    return [key for _, key in sorted(zip(positions(keys), keys, strict=True))]


def turn(cluster: Cluster, nodes: Sequence[Node]) -> None:
    for node in nodes:
        if node.data._listing.may_work():
            cluster._perform(node, node.data.work(cluster.now))
    for link in [link for link, queue in cluster.links.items() if queue]:
        cluster._deliver(link)


def page(cluster: Cluster, at: int, limit: int = MAX_LIMIT, position: Position = START, stage: str = "count") -> Listed:
    node = cluster.nodes[at]
    cluster.give(node, ListingAsked(1, stage, position, limit))
    for _ in range(10_000):
        if node.listed:
            return node.listed.pop()
        turn(cluster, cluster.nodes)
    raise AssertionError("no answer")


def walk(cluster: Cluster, limits: Sequence[int] = (MAX_LIMIT,)) -> tuple[list[Key], list[Listed]]:
    """Each page through another node."""
    pages, position = [], START
    while True:
        number = len(pages)
        listed = page(cluster, number % len(cluster.nodes), limits[number % len(limits)], position)
        assert listed.outcome == "found"
        pages.append(listed)
        if listed.next is None:
            return [key for each in pages for key in each.keys], pages
        assert listed.next > position
        position = listed.next


keys: st.SearchStrategy[Key] = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=3),
    st.integers(-3, 300),
    st.binary(max_size=2),
    st.integers(0, 9).map(lambda number: "x" * BEGINNING + str(number)),
    st.just(1 << 3000),
)


@settings(max_examples=60)
@given(
    st.lists(keys, max_size=60, unique_by=lambda key: (type(key), key)),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_all_pages_are_all_keys_in_their_order_whoever_is_asked(
    some: list[Key], limits: list[int], owners: int
) -> None:
    cluster = with_keys(some, owners)
    found, pages = walk(cluster, limits)
    assert found == in_order(some)
    assert [type(key) for key in found] == [type(key) for key in in_order(some)]
    for number, each in enumerate(pages):
        assert each.next is None or len(each.keys) == limits[number % len(limits)]
    assert not any(node.rejected for node in cluster.nodes)


def test_the_last_page_says_so_also_when_it_is_just_full() -> None:
    cluster = with_keys(range(20))
    assert page(cluster, 0, 20).next is None
    assert page(cluster, 0, 19).next is not None
    assert page(with_keys([]), 1, 1) == Listed(1, "found", [])


def test_a_stage_that_is_not_there() -> None:
    assert page(with_keys([1]), 0, stage="cuont").outcome == "unknown-stage"


def test_keys_that_come_later_do_not_disturb_who_is_on_his_way() -> None:
    cluster = with_keys(range(0, 100, 2))
    first = page(cluster, 0, 25)
    assert first.next is not None
    add(cluster, range(1, 100, 2))
    rest = page(cluster, 1, MAX_LIMIT, first.next)
    before = positions(range(100))
    assert positions(rest.keys) == sorted(each for each in before if each > positions(first.keys)[-1])


def test_more_keys_than_a_turn_looks_at_take_several_turns_and_other_listings_have_theirs_meanwhile() -> None:
    many = 3 * AT_ONCE * SLOTS
    cluster = with_keys([], owners=1)
    node = cluster.nodes[0]
    node.data.owner.stages[0].put(list(range(many)), [1] * many)
    cluster.give(node, ListingAsked(7, "count", START, MAX_LIMIT))
    cluster.give(node, ListingAsked(8, "count", (SLOTS - 1, ()), 3))
    turns = 0
    while not node.listed:
        cluster._perform(node, node.data.work(0))
        turns += 1
    assert turns > many // slot_keys.FILED_AT_ONCE
    while len(node.listed) < 2:
        cluster._perform(node, node.data.work(0))
    assert [len(each.keys) for each in sorted(node.listed, key=lambda each: each.ticket)] == [MAX_LIMIT, 3]
    assert {each.ticket for each in node.listed} == {7, 8}


def test_slots_that_are_filed_anew_are_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_keys, "AT_ONCE", 2)
    cluster = with_keys(range(40), owners=1)
    node, stage = cluster.nodes[0], cluster.nodes[0].data.owner.stages[0]
    cluster.give(node, ListingAsked(1, "count", START, MAX_LIMIT))
    for _ in range(200):
        cluster._perform(node, node.data.work(0))
        if node.listed:
            break
        if _ < 10:
            key = next(iter(stage.states))
            stage.states[key] = stage.states.pop(key)  # another order
            stage._keys_of_slot.clear()
            stage._unfiled.clear()
            stage._seen = 0
    assert node.listed[0].keys == in_order(range(40))


# -- bounds


def test_pages_and_answers_are_bounded_in_bytes_and_a_large_key_fits() -> None:
    large: list[Key] = [f"{number}" + "é" * 20_000 for number in range(100)]
    large += ["x" * 1_000_000, b"x" * 1_000_001, "y" * 2_000_000]
    cluster = with_keys(large)
    sizes: list[int] = []
    for node in cluster.nodes:
        perform = node.data.work

        def work(now: int, perform: Any = perform) -> list[Effect]:
            effects = perform(now)
            sizes.extend(len(effect.payload) for effect in effects if isinstance(effect, Transmit))
            return effects

        node.data.work = work  # type: ignore[method-assign]
    found, pages = walk(cluster)
    assert found == in_order(large)
    assert max(sizes) < 2_000_000 + PART_BYTES
    assert sum(size > PART_BYTES + 100_000 for size in sizes) <= 3
    for each in pages:
        assert sum(len(str(key)) for key in each.keys[:-1]) < PAGE_BYTES + PART_BYTES


def test_too_many_pages_at_once_are_refused() -> None:
    cluster = with_keys(range(9))
    node = cluster.nodes[0]
    for ticket in range(MAX_PAGES + 1):
        cluster.give(node, ListingAsked(ticket, "count", START, 1))
    assert [(each.ticket, each.outcome) for each in node.listed] == [(MAX_PAGES, "unavailable")]


def test_too_many_searches_for_peers_are_refused() -> None:
    cluster = with_keys(range(9))
    node, other = cluster.nodes[:2]
    answers: list[Message] = []
    for number in range(MAX_SEARCHES + 1):
        answers += told(node.data.handle(asked(other, KeysAsked(number, "count", 0, 0, [], 1)), 0))
    assert answers == [KeysTold(MAX_SEARCHES, "unavailable", [], False)]


# -- what cannot be listed now


def test_before_the_partition_and_without_the_majority_there_are_no_pages() -> None:
    cluster = Cluster(counting(), Random(0))
    assert page(cluster, 0).why == "the cluster is not founded yet"
    cluster = with_keys([1])
    cluster.give(cluster.nodes[0], Fenced(True))
    assert page(cluster, 0).why == "this node has lost touch with the majority"


@pytest.mark.parametrize(("status", "said"), [(PENDING, "pending"), (LOST, "lost")])
def test_a_page_ends_before_a_slot_that_is_not_active_and_the_next_one_says_why(status: int, said: str) -> None:
    cluster = with_keys(range(100), owners=2)
    statuses = [status if slot == 5 else ACTIVE for slot in range(SLOTS)]
    donors = [1 if slot == 5 and status == PENDING else -1 for slot in range(SLOTS)]
    owners = [0 if slot == 5 and status == PENDING else each for slot, each in enumerate(cluster.table.owner_of_slot)]
    terms = [2 if slot == 5 else 1 for slot in range(SLOTS)]
    table = agreed(2, cluster.table.workers, owners, donors=donors, statuses=statuses, terms=terms)
    cluster.give(cluster.nodes[0], table)
    for _ in range(2):  # the other one does not know it yet, and then it does
        listed = page(cluster, 0)
        assert listed.next == (5, ())
        assert [slot for slot, _ in positions(listed.keys)] == sorted(
            slot for slot, _ in positions(range(100)) if slot < 5
        )
        assert page(cluster, 0, 10, (5, ())) == Listed(1, "unavailable", why=f"slot 5 is {said}")
        assert len(page(cluster, 0, MAX_LIMIT, (6, ())).keys) > 0
        cluster.give(cluster.nodes[1], table)


def test_the_owner_knows_first_that_a_slot_is_not_active() -> None:
    cluster = with_keys(range(100), owners=2)
    statuses = [PENDING if slot == 6 else ACTIVE for slot in range(SLOTS)]
    donors = [1 if slot == 6 else -1 for slot in range(SLOTS)]
    owners = [0 if slot == 6 else each for slot, each in enumerate(cluster.table.owner_of_slot)]
    terms = [2 if slot == 6 else 1 for slot in range(SLOTS)]
    cluster.give(
        cluster.nodes[1], agreed(2, cluster.table.workers, owners, donors=donors, statuses=statuses, terms=terms)
    )
    listed = page(cluster, 0)
    assert {slot for slot, _ in positions(listed.keys)} == set(range(6))
    assert listed.next == positions(listed.keys)[-1]
    refused = page(cluster, 0, 5, listed.next)
    assert (refused.outcome, refused.why[:40]) == ("unavailable", "of the slots 5 to 7 one is pending, or t")


def member(node: Node, status: int) -> Member:
    return Member(node.id, "n", "tcp://n:1", "", "worker", "", 1, status)


def test_an_owner_that_does_not_answer_is_waited_for_and_then_told() -> None:
    cluster = with_keys(range(100), owners=2)
    node, other = cluster.nodes
    cluster.give(node, ListingAsked(3, "count", (4, ()), 10))
    deadline = node.data.next_deadline()
    assert deadline is not None
    assert deadline <= PAGE_MS
    assert node.listed == []
    cluster.now = PAGE_MS
    cluster.give(node, Woke())
    assert node.listed == [Listed(3, "unavailable", why="the owner of slot 4 did not answer in time")]
    late = node.data.handle(asked(other, KeysTold(1, "found", [], False)), cluster.now)
    assert not [effect for effect in late if isinstance(effect, Rejected | Listed)]
    cluster.give(node, MemberChanged(member(other, DEAD), ALIVE))
    assert page(cluster, 0, 10, (4, ())).why == "slot 4 is unavailable: its owner does not answer"


def test_what_was_found_in_time_is_told() -> None:
    cluster = with_keys(range(100), owners=2)
    node = cluster.nodes[0]
    cluster.give(node, ListingAsked(3, "count", START, MAX_LIMIT))
    turn(cluster, [node])
    cluster.now = PAGE_MS
    cluster.give(node, Woke())
    assert [slot for slot, _ in positions(node.listed[0].keys)][-1] == 3
    assert node.listed[0].next == (4, ())


def test_a_long_way_to_nothing_is_not_gone_twice() -> None:
    cluster = with_keys([], owners=2)
    node = cluster.nodes[0]
    cluster.give(node, ListingAsked(3, "count", START, 10))
    turn(cluster, [node])
    cluster.now = PAGE_MS
    cluster.give(node, Woke())
    assert node.listed == [Listed(3, "found", [], (4, ()))]


# -- what peers may say


def asked(sender: Node, message: Message) -> Delivered:
    return Delivered(sender.id, 0, codec.encode_with_values(message))


def come(cluster: Cluster, to: Node, sender: Node, message: Message) -> None:
    """Over the link."""
    cluster.links.setdefault((sender.id, to.id, 0), deque()).append(codec.encode_with_values(message))
    while cluster.links[sender.id, to.id, 0]:
        cluster._deliver((sender.id, to.id, 0))


def told(effects: list[Effect]) -> list[Message]:
    return [codec.decode_with_values(effect.payload) for effect in effects if isinstance(effect, Transmit)]


@pytest.mark.parametrize(
    "message",
    [
        KeysAsked(1, "count", 3, 2, [], 1),
        KeysAsked(1, "count", 0, SLOTS, [], 1),
        KeysAsked(1, "count", 0, 1, [], 0),
        KeysAsked(1, "count", 0, 1, [], MAX_LIMIT + 1),
        KeysAsked(1, "count", 0, 1, ["a"], 1),
        KeysAsked(1, "count", 0, 1, ["a", b"", 1], 1),
        KeysAsked(1, "count", 0, 1, [1.5, b""], 1),
        KeysAsked(1, "count", 0, 1, ["a", b"x"], 1),
        KeysAsked(1, "count", 0, 1, [["a"], b""], 1),
    ],
)
def test_questions_that_are_not_right_are_rejected(message: KeysAsked) -> None:
    cluster = with_keys(range(9))
    come(cluster, cluster.nodes[0], cluster.nodes[1], message)
    assert [each.reason for each in cluster.nodes[0].rejected] == ["keys-asked"]
    assert not cluster.nodes[0].data._listing.may_work()


def test_a_question_for_a_stage_that_is_not_there_is_answered() -> None:
    cluster = with_keys(range(9))
    effects = cluster.nodes[0].data.handle(asked(cluster.nodes[1], KeysAsked(4, "cuont", 0, 0, [], 1)), 0)
    assert told(effects) == [KeysTold(4, "unknown-stage", [], False)]


def in_slot(slot: int) -> list[Key]:
    return in_order([key for key in range(1000) if slot_of_key(key, 0, SLOTS) == slot])


@pytest.mark.parametrize(
    "answer",
    [
        KeysTold(1, "found", [], True),
        KeysTold(1, "found", in_slot(4)[:6], True),
        KeysTold(1, "found", in_slot(4)[1::-1], True),
        KeysTold(1, "found", in_slot(4)[:1] * 2, True),
        KeysTold(1, "found", [*in_slot(5)[:1], *in_slot(4)[:1]], True),
        KeysTold(1, "found", in_slot(3)[:1], True),
        KeysTold(1, "found", [True], True),
        KeysTold(1, "found", [1.5], False),
        KeysTold(1, "found", [["a"]], False),
    ],
)
def test_answers_that_are_not_right_are_rejected_and_the_page_waits_on(answer: KeysTold) -> None:
    cluster = with_keys([], owners=2)
    node, other = cluster.nodes
    cluster.give(node, ListingAsked(3, "count", (4, ()), 5))
    come(cluster, node, other, answer)
    assert [each.reason for each in node.rejected] == ["keys-told"]
    assert node.listed == []
    come(cluster, node, other, KeysTold(1, "found", in_slot(4)[:5], True))
    assert node.listed[0].keys == in_slot(4)[:5]


def test_an_answer_of_somebody_else_changes_nothing() -> None:
    cluster = with_keys([], owners=3)
    node = cluster.nodes[0]
    cluster.give(node, ListingAsked(3, "count", (SLOTS - 1, ()), 5))
    come(cluster, node, cluster.nodes[1], KeysTold(1, "found", [], False))
    assert node.listed == []
    come(cluster, node, cluster.nodes[2], KeysTold(1, "found", [], False))
    assert node.listed == [Listed(3, "found", [])]


# -- while slots move


@dataclass
class Walker:
    """Walks through a stage of a cluster that changes, each page through any node that is there."""

    ticket: int
    stage: int
    there: list[Key]  # when it set out
    found: list[Key] = field(default_factory=list)
    position: Position = START
    at: Node | None = None


class Walked(Moving):
    """With walkers."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.walkers: list[Walker] = []
        self.tickets = 0

    def work(self, node: Node) -> None:
        self._perform(node, node.data.work(self.now))  # a part of a search leaves no trace

    def step(self) -> None:
        super().step()
        if len(self.walkers) < 3 and self.tickets < 6 and self.random.random() < 0.03:
            stage = self.random.randrange(len(self.job.moduli))
            self.tickets += 1
            self.walkers.append(Walker(self.tickets, stage, self._there(stage)))
        for walker in list(self.walkers):
            self._ask_or_listen(walker)

    def _there(self, stage: int) -> list[Key]:
        return list(dict.fromkeys(key for number, _, key in self.applied if number == stage))

    def _ask_or_listen(self, walker: Walker) -> None:
        if walker.at is None or self.seat(walker.at.id).exited:
            walker.at = self.random.choice([seat for seat in self.present() if self.runs(seat)]).node
            question = ListingAsked(walker.ticket, f"t{walker.stage}", walker.position, self.random.choice((1, 2, 5)))
            self.give(walker.at, question)
        for listed in [each for each in walker.at.listed if each.ticket == walker.ticket]:
            walker.at.listed.remove(listed)
            self._told(walker, listed)

    def _told(self, walker: Walker, listed: Listed) -> None:
        walker.at = None
        if listed.outcome == "unavailable":
            assert listed.why
            return
        walker.found += listed.keys
        if listed.next is not None:
            assert listed.next > walker.position
            walker.position = listed.next
            return
        self.walkers.remove(walker)
        where = [(slot_of_key(key, 0, self.slots), place_of(key)) for key in walker.found]
        assert all(a < b for a, b in pairwise(where)), "doubled, or not in order"
        assert not set(walker.there) - set(walker.found), "a key that was there all the time is missing"
        assert not set(walker.found) - set(self._there(walker.stage)), "a key that nobody made"

    def progress(self) -> object:
        return self.tickets, len(self.walkers), [len(walker.found) for walker in self.walkers]

    def finished(self) -> bool:
        return super().finished() and self.tickets == 6 and not self.walkers


@settings(max_examples=40)
@given(
    splits=st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple),
    moduli=st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple),
    founders=st.integers(1, 4),
    slots=st.sampled_from([1, 4, 16]),
    changes=st.integers(0, 40),
    at_once=st.sampled_from([1, 3, 4096]),
    part_bytes=st.sampled_from([1, 100, PART_BYTES]),
    seed=st.integers(0, 1 << 32),
)
def test_a_walk_meets_every_key_that_was_there_all_the_time_once_while_slots_move(
    splits: Any, moduli: Any, founders: int, slots: int, changes: int, at_once: int, part_bytes: int, seed: int
) -> None:
    job = Job(splits, moduli, in_place=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot_keys, "AT_ONCE", at_once)
        patch.setattr(slot_keys, "PART_BYTES", part_bytes)
        cluster = Walked(job, Random(seed), founders=founders, slots=slots, changes=changes)
        cluster.run()
    cluster.check_states()
