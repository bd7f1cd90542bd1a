"""A slot's state goes to its next owner in chunks, and counts there when the table says so, and not before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mesh.app.fragment import Fragment
from mesh.app.plan import StagePlan
from mesh.core import codec, giving
from mesh.core.codec import Malformed
from mesh.core.events import Effect, Log
from mesh.core.events.planes import Consumed, Delivered, SlotsInstalled, SlotsRooted, TableAgreed, Transmit
from mesh.core.giving import REPLICATION
from mesh.core.handoff import HandOff
from mesh.core.keys import slot_of_key
from mesh.core.messages.states import ChunksTaken, SlotChunk, SlotSettled
from mesh.core.messages.work import Report
from mesh.core.owner import Owner
from mesh.core.slot import ACTIVE, PENDING
from tests.tables import agreed

DONOR, TARGET, THIRD = b"d" * 16, b"t" * 16, b"x" * 16
WORKERS = (DONOR, TARGET, THIRD)
SLOTS = 2  # slot 0 moves
KEYS = [key for key in range(4_000) if slot_of_key(key, 0, SLOTS) == 0]
OTHERS = [key for key in range(100) if slot_of_key(key, 0, SLOTS) == 1]


def table(epoch: int, owner: bytes, status: int = ACTIVE, term: int = 1, donor: bytes | None = None) -> TableAgreed:
    donors = [-1 if donor is None else WORKERS.index(donor), -1]
    return agreed(epoch, WORKERS, [WORKERS.index(owner), 2], donors=donors, statuses=[status, ACTIVE], terms=[term, 1])


FIRST = table(1, DONOR)
MOVING = table(2, TARGET, PENDING, 2, DONOR)
MOVED = table(3, TARGET, ACTIVE, 2)


class Side:
    """One node's hand-off; its router has `unsettled` records."""

    def __init__(self, me: bytes, *, stages: int = 1, window: int = 1 << 20) -> None:
        plans = [
            StagePlan(each, f"s{each}", each + 1, int, max, "fold", Fragment(lambda *_: None, (), ()), "app.py:1")
            for each in range(stages)
        ]
        self.me = me
        self.owner = Owner(plans, SLOTS, 0)
        self.unsettled = 0
        self.handoff = HandOff(me, self.owner, SLOTS, 0, lambda epoch: self.unsettled, window)
        self.effects: list[Effect] = []

    def learn(self, *tables: TableAgreed) -> None:
        for each in tables:
            self.effects += self.handoff.set_table(each)

    def get(self, sender: bytes, payload: bytes) -> None:
        message = codec.decode_with_values(payload)
        self.effects += self.handoff.delivered(Delivered(sender, REPLICATION, payload), message)

    def states(self, stage: int = 0) -> dict[Any, Any]:
        return self.owner.stages[stage].states

    def said(self, kind: type) -> list[Any]:
        return [each for each in self.effects if isinstance(each, kind)]


def donor_and_target(states: dict[Any, Any], **how: Any) -> tuple[Side, Side]:
    donor, target = Side(DONOR, **how), Side(TARGET, **how)
    for side in (donor, target):
        side.learn(FIRST)
    donor.owner.stages[0].put(list(states), list(states.values()))
    return donor, target


def filed(donor: Side) -> list[Transmit]:
    """What it sends when it is asked until it says nothing more."""
    sent: list[Transmit] = []
    while donor.handoff.may_send():
        effects = donor.handoff.send_some()
        donor.effects += effects
        found = [each for each in effects if isinstance(each, Transmit)]
        sent += found
        if effects and not found:
            break
    return sent


def chunks(sent: list[Transmit]) -> list[SlotChunk]:
    messages = [codec.decode_with_values(each.payload) for each in sent]
    return [each for each in messages if isinstance(each, SlotChunk)]


def transfer(donor: Side, target: Side) -> None:
    """Everything, with acknowledgements."""
    while sent := filed(donor):
        for each in sent:
            target.get(donor.me, each.payload)
        for effect in target.said(Transmit):
            answer = codec.decode_with_values(effect.payload)
            assert isinstance(answer, ChunksTaken)
            donor.handoff.chunks_taken(target.me, answer.number)


def test_the_state_arrives_counts_when_it_is_active_and_only_then_leaves_the_donor() -> None:
    states = {key: key + 1 for key in KEYS[:500]}
    donor, target = donor_and_target(states | dict.fromkeys(OTHERS, 7))
    for side in (donor, target):
        side.learn(MOVING)
    transfer(donor, target)
    assert target.said(SlotsInstalled) == [SlotsInstalled(((0, 2),))]
    assert target.states() == {}
    assert donor.states() == states | dict.fromkeys(OTHERS, 7)
    for side in (donor, target):
        side.learn(MOVED)
    assert target.states() == states
    assert donor.states() == dict.fromkeys(OTHERS, 7)
    assert not donor.handoff.busy()
    assert not target.handoff.busy()


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_an_empty_slot_is_handed_over_with_one_chunk(stages: int) -> None:
    donor, target = Side(DONOR, stages=stages), Side(TARGET, stages=stages)
    for side in (donor, target):
        side.learn(FIRST, MOVING)
    transfer(donor, target)
    assert target.said(SlotsInstalled) == [SlotsInstalled(((0, 2),))]


def test_states_of_several_stages_arrive_each_at_its_own() -> None:
    donor, target = donor_and_target({}, stages=3)
    donor.owner.stages[0].put(KEYS[:3], [1, 2, 3])
    donor.owner.stages[2].put(KEYS[:2], [4, 5])
    for side in (donor, target):
        side.learn(MOVING)
    transfer(donor, target)
    target.learn(MOVED)
    assert [target.states(stage) for stage in range(3)] == [dict(zip(KEYS, [1, 2, 3], strict=False)), {}, dict(
        zip(KEYS, [4, 5], strict=False))]  # fmt: skip


def test_a_large_slot_leaves_in_bounded_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "CHUNK_BYTES", 2_000)
    donor, _ = donor_and_target(dict.fromkeys(KEYS[:1000], "x" * 100))
    donor.learn(MOVING)
    sent = filed(donor)
    assert len(sent) > 10
    assert max(len(each.payload) for each in sent) <= 4_000
    found = chunks(sent)
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert [key for each in found for key in each.keys] == KEYS[:1000]
    assert [each.last for each in found] == [False] * (len(found) - 1) + [True]


def test_no_more_than_a_window_is_on_its_way_until_chunks_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "CHUNK_BYTES", 100)
    donor, _ = donor_and_target(dict.fromkeys(KEYS[:1000], "x" * 100), window=1_000)
    donor.learn(MOVING)
    sent = filed(donor)
    assert 1_000 <= sum(len(each.payload) for each in sent) < 2_000
    donor.handoff.chunks_taken(TARGET, 1)
    assert donor.handoff.may_send() == (sum(len(each.payload) for each in sent[1:]) < 1_000)
    donor.handoff.chunks_taken(TARGET, len(sent))
    assert donor.handoff.may_send()


def test_another_target_is_given_everything_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving, "CHUNK_BYTES", 500)
    states = dict.fromkeys(KEYS[:50], "x" * 100)
    donor, target = donor_and_target(states, window=1_000)
    for side in (donor, target):
        side.learn(MOVING)
    for sent in filed(donor):
        target.get(DONOR, sent.payload)
    other = Side(THIRD)
    retargeted = table(3, THIRD, PENDING, 3, DONOR)
    other.learn(FIRST)
    for side in (donor, target, other):
        side.learn(retargeted)
    assert not target.handoff.busy(), "what it was given is of no use"
    transfer(donor, other)
    other.learn(table(4, THIRD, ACTIVE, 3))
    assert other.states() == states


def test_a_donor_that_is_chosen_again_installs_at_once_and_keeps_its_states() -> None:
    states = dict.fromkeys(KEYS[:5], 1)
    donor, _ = donor_and_target(states)
    donor.learn(MOVING, table(3, DONOR, PENDING, 3, DONOR))
    assert donor.said(SlotsInstalled) == [SlotsInstalled(((0, 3),))]
    assert not donor.handoff.may_send()
    donor.learn(table(4, DONOR, ACTIVE, 3))
    assert donor.states() == states


def chunk(number: int = 1, **changes: Any) -> bytes:
    fields = {"epoch": 2, "slot": 0, "term": 2, "stage": 0, "keys": KEYS[:1], "states": [1], "last": True, **changes}
    return codec.encode_with_values(SlotChunk(number=number, unsettled=0, **fields))


@pytest.mark.parametrize(
    ("sender", "changes"),
    [(DONOR, {"term": 1}), (DONOR, {"term": 3}), (THIRD, {}), (DONOR, {"slot": 1, "keys": [], "states": []})],
)
def test_a_chunk_of_another_term_slot_or_sender_is_looked_at_and_of_no_use(sender: bytes, changes: Any) -> None:
    target = Side(TARGET)
    target.learn(FIRST, MOVING)
    target.get(sender, chunk(**changes))
    assert target.said(SlotsInstalled) == []
    assert len(target.said(Consumed)) == 1
    assert not target.handoff.busy()


def test_a_chunk_of_a_newer_epoch_waits_for_it_without_credit_and_so_does_what_follows() -> None:
    target = Side(TARGET)
    target.learn(FIRST)
    target.get(DONOR, chunk(1, last=False))
    target.get(DONOR, chunk(2, keys=KEYS[1:2]))
    assert target.effects == []
    assert target.handoff.busy()
    target.learn(MOVING)
    assert target.said(SlotsInstalled) == [SlotsInstalled(((0, 2),))]
    assert len(target.said(Consumed)) == 2
    target.learn(MOVED)
    assert target.states() == {KEYS[0]: 1, KEYS[1]: 1}


def test_what_follows_a_complete_slot_changes_nothing() -> None:
    target = Side(TARGET)
    target.learn(FIRST, MOVING)
    target.get(DONOR, chunk(1))
    target.get(DONOR, chunk(2, states=[99]))
    target.learn(MOVED)
    assert target.said(SlotsInstalled) == [SlotsInstalled(((0, 2),))]
    assert target.states() == {KEYS[0]: 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 2},
        {"slot": SLOTS},
        {"stage": 1},
        {"states": []},
        {"keys": [1.5]},
        {"keys": OTHERS[:1]},
    ],
    ids=str,
)
def test_a_bad_chunk_changes_nothing(changes: dict[str, Any]) -> None:
    target = Side(TARGET)
    target.learn(FIRST, MOVING)
    with pytest.raises(Malformed):
        target.get(DONOR, chunk(**changes))
    target.get(DONOR, chunk(1))
    assert target.said(SlotsInstalled) == [SlotsInstalled(((0, 2),))]


def test_other_messages_do_not_travel_there_and_what_was_never_sent_is_not_taken() -> None:
    target = Side(TARGET)
    target.learn(FIRST, MOVING)
    with pytest.raises(Malformed):
        target.get(DONOR, codec.encode_with_values(Report(1, 0, False, 0, 0, 0, 0, ())))
    donor, _ = donor_and_target({})
    donor.learn(MOVING)
    filed(donor)
    with pytest.raises(Malformed):
        donor.handoff.chunks_taken(TARGET, 2)
    donor.handoff.chunks_taken(THIRD, 2)  # was given nothing


class Local:
    """No codec takes it."""


@dataclass(frozen=True)
class Plain:
    number: int


@pytest.mark.parametrize("place", [0, 3, 9])
def test_a_slot_with_a_state_that_cannot_travel_stays_and_the_operator_is_told_once(place: int) -> None:
    states: dict[Any, Any] = {key: Plain(key) for key in KEYS[:10]} | {KEYS[place]: Local()}
    donor, target = donor_and_target(states)
    for side in (donor, target):
        side.learn(MOVING)
    transfer(donor, target)
    (log,) = donor.said(Log)
    assert (log.event, log.fields["slot"], log.fields["key"]) == ("slot.cannot_move", 0, str(KEYS[place]))
    assert target.said(SlotsInstalled) == []
    assert donor.said(SlotsRooted) == [SlotsRooted(((0, 2),))]
    assert donor.states() == states
    assert not donor.handoff.may_send()


def test_the_donors_end_throws_away_what_it_sent_and_opens_what_it_held_shut() -> None:
    donor, target = donor_and_target({KEYS[0]: 1})
    donor.unsettled = 2
    for side in (donor, target):
        side.learn(MOVING)
    transfer(donor, target)
    target.learn(MOVED)
    assert target.handoff.shut(1) == [0]
    target.learn(agreed(4, WORKERS[1:], [0, 1], terms=[2, 1]))
    assert target.handoff.shut(1) == []


def test_the_targets_end_leaves_the_donor_nothing_to_do() -> None:
    donor, _ = donor_and_target({KEYS[0]: 1})
    donor.unsettled = 2
    donor.learn(MOVING)
    filed(donor)
    assert donor.handoff.busy()
    statuses, donors = [PENDING, ACTIVE], [0, -1]
    donor.learn(agreed(3, (DONOR, THIRD), [0, 1], donors=donors, statuses=statuses, terms=[3, 1]))
    assert not donor.handoff.busy()
    assert donor.said(SlotsInstalled) == [SlotsInstalled(((0, 3),))]


def test_nothing_is_applied_to_a_slot_before_what_its_donor_gave_out_for_it_is_settled() -> None:
    donor, target = donor_and_target({KEYS[0]: 1})
    donor.unsettled = 3
    for side in (donor, target):
        side.learn(MOVING)
    transfer(donor, target)
    for side in (donor, target):
        side.learn(MOVED)
    assert [list(target.handoff.shut(level)) for level in (1, 2, 3)] == [[0], [0], []]
    for unsettled, shut in ((2, [[0], [], []]), (0, [[], [], []])):
        donor.unsettled = unsettled
        for told in donor.handoff.tell_settled():
            assert isinstance(told, Transmit)
            assert isinstance(codec.decode_with_values(told.payload), SlotSettled)
            target.get(DONOR, told.payload)
        assert [list(target.handoff.shut(level)) for level in (1, 2, 3)] == shut
    assert donor.handoff.tell_settled() == []
    assert not donor.handoff.busy()


def test_a_promise_that_was_lost_in_tables_that_this_node_skipped_leads_to_an_empty_slot() -> None:
    donor, target = donor_and_target(dict.fromkeys(KEYS, 1))
    for side in (donor, target):
        side.learn(MOVING)
    target.get(DONOR, filed(donor)[0].payload)
    target.learn(table(9, THIRD, PENDING, 5, TARGET))
    assert target.states() == {}
    assert filed(target)
