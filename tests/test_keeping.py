"""What a node keeps of its slots and of others': how it comes, goes, counts, and is given out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.codec import decode_with_values
from mesh.core.configuration import Configuration
from mesh.core.events import Effect, Log
from mesh.core.events.planes import Delivered, SlotsInstalled, Transmit
from mesh.core.keeping import Keeping
from mesh.core.kept_outputs import Unfinished
from mesh.core.messages import Message, NodeId
from mesh.core.messages.states import PacksFreed, PacksTaken
from mesh.core.numbers import Numbers
from mesh.core.owner import Owner
from mesh.core.packs import Outputs, Pack, pack_of
from mesh.core.slot import LOST, PENDING
from mesh.core.slot_splits import SlotSplits, split_key
from mesh.core.windows import KNOWN, NEW, PART, Windows
from tests.committing_kit import PLAN, SHAPE, agreed, given_out, named
from tests.committing_kit import SLOTS as SLOT_COUNT
from tests.packs_kit import ME, SEED, B, C
from tests.packs_kit import keys_of_slot as keys_of_8

WORKERS = (ME, B, C)
KEY = keys_of_8(0, 1)[0]  # of 8 slots' first: of slot 0


class Mesh:
    """Some nodes, the links between them, and slot 0; the others are B's."""

    def __init__(self, slot: Configuration, nodes: Sequence[NodeId] = (ME, B), window_bytes: int = 1 << 20) -> None:
        self.owners: dict[NodeId, Owner] = {}
        self.nodes: dict[NodeId, Keeping] = {}
        self.links: list[tuple[NodeId, NodeId, bytes]] = []
        self.said: list[tuple[NodeId, Effect]] = []
        for node in nodes:
            self.owners[node] = Owner([PLAN], SLOT_COUNT, SEED, SlotSplits())
            self.nodes[node] = Keeping(node, self.owners[node], SHAPE, window_bytes)
        self.becomes(1, slot, *nodes)

    def becomes(self, epoch: int, slot: Configuration, *nodes: NodeId) -> None:
        for node in nodes:
            table = {number: Configuration(1, 1, B) for number in range(SLOT_COUNT)}
            self.took(node, self.nodes[node].set_table(agreed(epoch, {**table, 0: slot}, WORKERS)))

    def took(self, node: NodeId, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.links.append((node, effect.to, effect.payload))
            elif isinstance(effect, Log | SlotsInstalled):
                self.said.append((node, effect))

    def pump(self) -> None:
        """All that is on its way comes."""
        while True:
            for keeping in [*self.nodes.items()]:
                self.took(keeping[0], keeping[1].send_some())
            if not self.links:
                return
            source, to, payload = self.links.pop(0)
            message = decode_with_values(payload)
            if isinstance(message, PacksTaken):
                self.nodes[to].packs_taken(source, message)
            elif to in self.nodes:
                self.took(to, self.nodes[to].delivered(Delivered(source, 15, payload), message))

    def messages(self) -> list[Message]:
        return [decode_with_values(payload) for _, _, payload in self.links]

    def apply(self, node: NodeId, *records: int, token: Any = None, outputs: bool = False) -> None:
        keeping, owner = self.nodes[node], self.owners[node]
        slots, numbers = [0] * len(records), named([*records])
        news = keeping.news(0, slots, numbers)
        fresh = [n for place, n in enumerate(records) if news is None or news[place]]
        owner.apply(0, [KEY] * len(fresh), fresh)
        pack = pack_of(0, [KEY] * len(fresh), [0] * len(fresh), owner.stages[0].states)
        pack.mark(slots, numbers)
        if outputs and fresh:
            first = keeping.next_output(0, len(fresh))
            outs: list[Any] = [*fresh]
            pack.outputs = [Outputs(1, [0] * len(fresh), [*range(first, first + len(fresh))], outs, outs)]
        keeping.add(pack, token)
        self.took(node, keeping.take_effects())

    def state(self, node: NodeId) -> Any:
        copy = self.nodes[node].replicas.copies.get(0)
        return (self.owners[node].stages[0].states if copy is None else copy.states[0]).get(KEY)

    def tokens(self, node: NodeId = ME) -> list[Any]:
        return [done.token for done in self.nodes[node].committed()]


MINE = Configuration(1, 1, ME, (B,))


# -- how a slot goes, and comes


def test_a_slot_goes_with_all_that_it_is_and_comes_back_as_it_was() -> None:
    mesh = Mesh(Configuration(1, 1, ME, (B,)))
    mesh.apply(ME, 0, 1, outputs=True)
    mesh.owners[ME].windows.take(0, 0, "p", 5, 6)
    mesh.pump()
    assert [done.outputs[0].numbers for done in mesh.nodes[ME].committed()] == [[0, 1]]
    mesh.becomes(2, Configuration(2, 1, B, (ME,), PENDING, ME), ME, B)
    mesh.pump()
    assert (B, SlotsInstalled(((0, 2),))) in mesh.said
    mesh.becomes(3, Configuration(2, 2, B, (ME,)), ME, B)
    assert (mesh.state(ME), mesh.state(B)) == ((0, 1), (0, 1))
    assert mesh.owners[ME].stages[0].states == {}
    assert [(stage, out.numbers, out.values) for stage, out in mesh.nodes[B].adopted()] == [(0, [0, 1], [0, 1])]
    assert mesh.nodes[B].adopted() == []
    mesh.apply(B, 1, 2, outputs=True)
    mesh.pump()
    (done,) = mesh.nodes[B].committed()
    assert [out.numbers for out in done.outputs] == [[2]]  # above what it adopted
    mesh.becomes(4, Configuration(3, 2, ME, (B,), PENDING, B), ME, B)
    mesh.pump()
    mesh.becomes(5, Configuration(3, 3, ME, (B,)), ME, B)
    assert mesh.owners[ME].stages[0].states == {KEY: (0, 1, 2)}
    assert mesh.nodes[ME].news(0, [0, 0], named([2, 3])) == [False, True]
    assert mesh.owners[ME].windows.take(0, 0, "p", 5, 6) == KNOWN


def test_what_goes_and_has_no_copy_here_leaves_nothing() -> None:
    mesh = Mesh(Configuration(1, 1, ME), (ME,))
    mesh.apply(ME, 0)
    owner = mesh.owners[ME]
    owner.windows.take(0, 0, "p", 5, 6)
    assert owner.splits is not None
    owner.splits.put([split_key(0, 0, "x")], [(1, (0, 0), False, 0, 0)])
    mesh.becomes(9, Configuration(7, 7, B), ME)
    assert (mesh.state(ME), owner.splits.states, [*owner.windows.slots_here()]) == (None, {}, [])
    assert mesh.nodes[ME].marks.stages[0].of_slot(0).splits == []


def test_a_joining_copy_gets_what_producers_sent_and_how_far_splits_are_read() -> None:
    mesh = Mesh(Configuration(1, 1, ME))
    owner, key = mesh.owners[ME], split_key(0, 0, "x")
    assert owner.splits is not None
    owner.splits.put([key], [(1, (4, 5), False, 9, 3)])
    for record in range(2 * PART + 10):
        owner.windows.take(0, 1, "p q", record, record)
    mesh.apply(ME, 0)
    mesh.becomes(2, Configuration(2, 1, ME, (), joining=B), ME, B)
    mesh.pump()
    assert (ME, SlotsInstalled(((0, 2),))) in mesh.said
    backup = mesh.owners[B]
    assert backup.splits is not None
    assert (mesh.state(B), backup.splits.states) == ((0,), {key: (1, (4, 5), False, 9, 3)})
    assert [backup.windows.take(0, 1, "p q", record, record) for record in range(2 * PART + 10)] == [KNOWN] * (
        2 * PART + 10
    )
    mesh.becomes(3, Configuration(3, 1, ME, (), joining=B), ME, B)
    assert (backup.splits.states, [*backup.windows.slots_here()]) == ({}, [])  # dropped, to be filled anew


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=40), st.lists(st.integers(0, 60), max_size=40))
def test_parts_of_a_window_and_what_is_taken_meanwhile_are_all_of_it(before: list[int], during: list[int]) -> None:
    windows, copy, least = Windows(), Windows(), 0
    for record in before:
        windows.take(0, 0, "p", record, record)
    later = iter(during)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mesh.core.windows.PART", 3)
        while (part := windows.part_above(0, 0, "p", least)) is not None:
            key, state, least = part
            copy.merge([key], [state])
            for record in later:
                if windows.take(0, 0, "p", record, record) == NEW:
                    copy.take(0, 0, "p", record, record)  # as a pack tells
                break
    for record in later:
        assert windows.take(0, 0, "p", record, record) == copy.take(0, 0, "p", record, record)
    assert windows.part_above(0, 0, "p", 0) == copy.part_above(0, 0, "p", 0)
    assert windows.marks == copy.marks


def test_a_lost_slot_waits_and_begins_empty_if_that_is_accepted() -> None:
    mesh = Mesh(MINE)
    mesh.apply(ME, 0, 1, token="a", outputs=True)
    mesh.becomes(2, Configuration(2, 2, C, (), LOST), ME, B)
    assert mesh.state(ME) == (0, 1)
    assert mesh.state(B) is None
    (done,) = mesh.nodes[ME].committed()
    assert (done.token, [*done.withdrawn], [out.origins for out in done.outputs]) == ("a", [0], [[]])
    mesh.becomes(3, Configuration(3, 3, ME), ME, B)
    assert mesh.state(ME) is None
    assert not mesh.nodes[ME].busy()
    mesh.apply(ME, 0, token="again")
    assert (mesh.state(ME), mesh.tokens()) == ((0,), ["again"])


def test_a_copy_that_left_unseen_holds_up_no_hand_over() -> None:
    mesh = Mesh(Configuration(1, 1, ME, (B, C)))
    mesh.apply(ME, 0, token="a")
    table = {number: Configuration(1, 1, B) for number in range(SLOT_COUNT)}
    sealed = {**table, 0: Configuration(3, 1, B, (ME,), PENDING, ME)}
    mesh.took(ME, mesh.nodes[ME].set_table(agreed(4, sealed, (ME, B))))  # C has no seat any more
    mesh.took(B, mesh.nodes[B].set_table(agreed(4, sealed, (ME, B))))
    mesh.pump()
    assert mesh.tokens() == ["a"]
    assert (B, SlotsInstalled(((0, 3),))) in mesh.said


def test_an_owner_says_that_it_knows_who_parts_and_commits_nothing_without_it_before_it_is_out() -> None:
    mesh = Mesh(Configuration(1, 1, ME, (B,)))
    mesh.apply(ME, 0, token="a")
    mesh.becomes(2, Configuration(2, 1, ME, (B,), parts=True), ME)
    mesh.links.clear()  # B is dead
    assert mesh.said == [(ME, SlotsInstalled(((0, 2),)))]
    assert mesh.tokens() == []
    mesh.becomes(3, Configuration(3, 1, ME, ()), ME)
    assert mesh.tokens() == ["a"]
    assert len(mesh.said) == 1


def test_what_a_recovery_asks_of_a_node_that_dropped_it_is_told_and_goes_on() -> None:
    mesh = Mesh(MINE)
    mesh.becomes(2, Configuration(2, 1, ME), ME, B)
    mesh.becomes(1_000_000_000, Configuration(1_000_000_000, 1_000_000_000, B, (ME,), PENDING, B), B)
    assert [each for node, each in mesh.said if node == B] == [SlotsInstalled(((0, 1_000_000_000),))]
    mesh.becomes(1_000_000_001, Configuration(1_000_000_001, 1_000_000_001, ME, (B,), PENDING, ME), ME, B)
    assert [each.event for _, each in mesh.said if isinstance(each, Log)] == ["slot.no_copy"]
    mesh.pump()


# -- what counts


def test_a_read_alone_waits_for_what_was_applied_before_it() -> None:
    mesh = Mesh(Configuration(1, 1, ME), (ME,))
    mesh.apply(ME, 0, token="a")
    mesh.nodes[ME].wait([0], "read")
    assert mesh.tokens() == ["a", "read"]


def test_a_read_waits_until_its_backups_have_answered_what_was_sent_since() -> None:
    mesh = Mesh(MINE)
    mesh.apply(ME, 0, token="a")
    mesh.pump()
    assert mesh.tokens() == ["a"]
    mesh.nodes[ME].wait([0], "read")
    mesh.nodes[ME].wait([0], "another")
    mesh.took(ME, mesh.nodes[ME].take_effects())
    assert len(mesh.links) == 1  # both are in one mark
    assert mesh.tokens() == []
    mesh.pump()
    assert mesh.tokens() == ["read", "another"]


def test_a_read_here_is_none_if_another_owns_the_slot_by_then() -> None:
    mesh = Mesh(MINE)
    mesh.nodes[ME].wait([0], "read")
    mesh.took(ME, mesh.nodes[ME].take_effects())
    promoted = Configuration(2, 2, B, (ME,), PENDING, B)
    mesh.becomes(2, promoted, B)  # and it refuses this owner from then on
    mesh.pump()
    assert mesh.tokens() == []
    mesh.becomes(2, promoted, ME)
    (done,) = mesh.nodes[ME].committed()
    assert (done.token, [*done.withdrawn]) == ("read", [0])


def test_a_read_of_a_slot_that_is_not_active_here_is_none() -> None:
    mesh = Mesh(Configuration(1, 1, B, (ME,)))
    mesh.nodes[ME].wait([0], "read")
    assert [[*done.withdrawn] for done in mesh.nodes[ME].committed()] == [[0]]


def test_who_joins_leaves_half_of_the_window_to_what_is_applied() -> None:
    mesh = Mesh(Configuration(1, 1, ME), window_bytes=600)
    owner = mesh.owners[ME]
    for record in range(100):
        owner.windows.take(0, 0, f"p{record}", record, record)
    mesh.becomes(2, Configuration(2, 1, ME, (), joining=B), ME, B)
    while mesh.nodes[ME].may_send():
        mesh.took(ME, mesh.nodes[ME].send_some())
    (lane,) = mesh.nodes[ME].committing.lanes()
    assert 300 <= lane.bytes_in_flight < 600
    assert mesh.nodes[ME].open_for()


def test_what_cannot_be_copied_is_told_once() -> None:
    mesh = Mesh(MINE)
    for token in ("a", "b"):
        mesh.nodes[ME].add(Pack(b"", 0, 0, [0], [KEY], [object()]), token)
        mesh.took(ME, mesh.nodes[ME].take_effects())
    (log,) = (each for _, each in mesh.said if isinstance(each, Log))
    assert (log.event, log.level, log.fields["stage"], log.fields["key"]) == (
        "state.not_copied",
        "error",
        "s",
        f"'{KEY}'",
    )
    mesh.pump()
    assert mesh.tokens() == ["a", "b"]


# -- outputs


def test_outputs_are_kept_by_copies_until_they_are_over() -> None:
    mesh = Mesh(MINE)
    mesh.apply(ME, 0, 1, outputs=True)
    mesh.pump()
    (done,) = mesh.nodes[ME].committed()
    assert mesh.nodes[B].replicas.outputs.packs.keys() == {(ME, 1)}
    mesh.nodes[ME].over(0, given_out(done.outputs[0].chosen([True, False])))
    mesh.pump()
    assert mesh.nodes[ME].busy()
    mesh.nodes[ME].over(0, given_out(done.outputs[0].chosen([False, True])))
    mesh.pump()
    assert not mesh.nodes[B].replicas.outputs.packs
    assert not mesh.nodes[ME].busy()


def test_of_many_packs_it_is_told_at_once_that_they_are_over() -> None:
    mesh = Mesh(MINE)
    for record in range(200):
        mesh.apply(ME, record, outputs=True)
    mesh.pump()
    given = [out for done in mesh.nodes[ME].committed() for out in done.outputs]
    for out in given:
        mesh.nodes[ME].over(0, given_out(out))
        mesh.took(ME, mesh.nodes[ME].take_effects())
    told = [message for message in mesh.messages() if isinstance(message, PacksFreed)]
    assert sum(len(message.packs) for message in told) == 200
    assert len(told) < 10


@st.composite
def packs_of_two_makers(draw: st.DrawFn) -> list[tuple[NodeId, int, list[tuple[int, int]]]]:
    """Packs with (origin, number) of each output; those of B have numbers that mine have, of other slots."""
    found: list[tuple[NodeId, int, list[tuple[int, int]]]] = []
    for maker, origins in ((ME, [0, 1]), (B, [2, 3])):
        number = 0
        for pack in range(1, draw(st.integers(1, 5))):
            given = [draw(st.sampled_from(origins)) for _ in range(draw(st.integers(1, 4)))]
            found.append((maker, pack, [(origin, number + place) for place, origin in enumerate(given)]))
            number += len(given) + draw(st.integers(0, 2))
    return found


@settings(max_examples=80, deadline=None)
@given(packs_of_two_makers(), st.randoms(use_true_random=False), st.booleans())
def test_a_pack_is_over_when_its_last_output_is(
    packs: list[tuple[NodeId, int, list[tuple[int, int]]]], random: Any, twice: bool
) -> None:
    unfinished = Unfinished(ME, 1)
    on_the_way: list[tuple[int, int]] = []
    left: dict[tuple[NodeId, int], int] = {}
    for maker, pack, places in packs:
        out = Outputs(1, [origin for origin, _ in places], [number for _, number in places], [0] * len(places), [])
        if maker == ME:
            unfinished.made(pack, 0, [out])
        if maker == B or twice:  # it went, and came back
            unfinished.adopted((maker, pack), 0, out)
        times = 2 if maker == ME and twice else 1
        on_the_way += times * places
        left[maker, pack] = times * len(places)
    name_of = {place: (maker, pack) for maker, pack, places in packs for place in places}
    random.shuffle(on_the_way)
    while on_the_way:
        some = [on_the_way.pop() for _ in range(min(len(on_the_way), random.randint(1, 4)))]
        for name, count in unfinished.names_of(0, [a for a, _ in some], [b for _, b in some]).items():
            assert count == sum(name_of[place] == name for place in some)
            left[name] -= count
            assert unfinished.over(name, count) == (left[name] == 0)
    assert not unfinished


def test_records_of_all_kinds_of_producers_are_known_once() -> None:
    keeping = Mesh(Configuration(1, 1, ME), (ME,)).nodes[ME]
    numbers = Numbers()
    numbers.begin((False, 0, "x"))
    numbers.numbers, numbers.origins = [0, 1], [0, 0]
    numbers.begin((True, 0, ""))
    numbers.numbers += [7, 7]
    numbers.origins += [2, 3]
    assert keeping.news(0, [0] * 4, numbers) is None
    numbers.numbers[-1] = 8
    assert keeping.news(0, [0] * 4, numbers) == [False, False, False, True]


@pytest.mark.parametrize("count", [1, 5])
def test_numbers_of_outputs_are_given_once(count: int) -> None:
    keeping = Mesh(MINE).nodes[ME]
    assert [keeping.next_output(0, count) for _ in range(3)] == [0, count, 2 * count]
    assert keeping.shut(0) == ()


def test_who_leaps_to_its_own_promotion_counts_nothing_that_another_refused_meanwhile() -> None:
    mesh = Mesh(Configuration(1, 1, ME, (B,)))
    mesh.becomes(2, Configuration(2, 2, B, (ME,), PENDING, B), B)
    mesh.apply(ME, 1, token="one", outputs=True)
    back = Configuration(3, 3, ME, (B,), PENDING, ME)
    mesh.becomes(3, back, B)
    mesh.pump()
    assert mesh.nodes[ME].committed() == []
    mesh.becomes(3, back, ME)
    assert [(done.token, [*done.withdrawn]) for done in mesh.nodes[ME].committed()] == [("one", [0])]
    mesh.becomes(4, Configuration(3, 3, ME), ME)
    assert mesh.owners[ME].stages[0].states == {KEY: (1,)}
    assert mesh.nodes[ME].news(0, [0], named([1])) == [False]
    assert [out.values for _, out in mesh.nodes[ME].adopted()] == [[1]]
