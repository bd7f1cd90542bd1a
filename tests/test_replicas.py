"""A backup takes what its slots' source made, in order and at its time, and nothing else; bad input changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.codec import Malformed, decode_with_values, encode_with_values
from mesh.core.columns import slots_to_bytes
from mesh.core.configuration import Configuration
from mesh.core.events import Effect
from mesh.core.events.planes import Consumed, Delivered, SlotsInstalled, Transmit
from mesh.core.marks import Marks
from mesh.core.messages import Message
from mesh.core.messages.states import LaneMark, OutputsKept, PacksFreed, PacksTaken
from mesh.core.messages.work import Report
from mesh.core.packs import Outputs, Pack
from mesh.core.replicas import BEGINS, FILLED, SEALED, Replicas
from mesh.core.slot import PENDING
from tests.packs_kit import ME, SHAPE, B, C, keys_of_slot

WORKERS = (ME, B, C)


def backup(epoch: int = 1) -> Replicas:
    """Of slots 1 and 2, whose owner is B."""
    replicas = Replicas(ME, SHAPE, Marks(2, 8))
    if epoch:
        assert not replicas.set_table(epoch, {slot: Configuration(1, 1, B, (ME,)) for slot in (1, 2)}, WORKERS)
    return replicas


def part(number: int, *slots: int, epoch: int = 1, state: Any = 1, more: bool = False, out: int = 0) -> Message:
    pack = Pack(B, out, 0, [*slots], [keys_of_slot(slot, 1)[0] for slot in slots], [state] * len(slots))
    if out:
        pack.outputs = [Outputs(2, [*slots], [out] * len(slots), ["o"] * len(slots), ["o"] * len(slots))]
        pack.next_output = out + 1
    return pack.part(number, epoch, more=more)


def mark(number: int, what: int, slot: int, term: int, epoch: int = 1) -> Message:
    return LaneMark(number, epoch, what, slots_to_bytes([slot]), (term,))


def deliver(replicas: Replicas, message: Message, sender: bytes = B) -> list[Effect]:
    return replicas.delivered(Delivered(sender, 15, encode_with_values(message)), message)


def acks(effects: list[Effect]) -> list[Message]:
    return [decode_with_values(each.payload) for each in effects if isinstance(each, Transmit)]


def states(replicas: Replicas, slot: int) -> list[Any]:
    return [*replicas.copies[slot].states[0].values()]


def test_what_its_source_made_is_kept_and_acknowledged() -> None:
    replicas = backup()
    effects = deliver(replicas, part(1, 1, 2))
    assert acks(effects) == [PacksTaken(1, 1)]
    assert [type(each) for each in effects] == [Consumed, Transmit]
    assert states(replicas, 1) == states(replicas, 2) == [1]


def test_what_is_of_a_later_epoch_waits_without_credit_and_so_does_what_follows() -> None:
    replicas = backup(epoch=0)
    assert deliver(replicas, part(1, 1, epoch=1)) == []
    assert replicas.busy()
    replicas.set_table(1, {slot: Configuration(1, 1, B, (ME,)) for slot in (1, 2)}, WORKERS)
    assert acks(replicas.judge_arrived()) == [PacksTaken(1, 1)]
    assert deliver(replicas, part(2, 1, epoch=3)) == []
    assert deliver(replicas, part(3, 1, epoch=3)) == []
    assert states(replicas, 1) == [1]
    replicas.set_table(4, {}, WORKERS)
    assert acks(replicas.judge_arrived()) == [PacksTaken(3, 4)]


def test_what_was_on_its_way_when_its_sender_left_is_let_go() -> None:
    replicas = backup()
    deliver(replicas, part(1, 1))
    replicas.set_table(2, {slot: Configuration(2, 2, C, (ME,)) for slot in (1, 2)}, (ME, C))
    late = part(2, 1, state=2)
    assert deliver(replicas, late) == [Consumed(B, 15, len(encode_with_values(late)))]
    assert replicas.copies[1].source == C


def test_of_a_slot_that_the_sender_has_not_any_more_nothing_is_kept() -> None:
    replicas = backup()
    replicas.set_table(2, {1: Configuration(2, 2, C, (ME, B), PENDING, C)}, WORKERS)
    assert acks(deliver(replicas, part(1, 1, 2))) == [PacksTaken(1, 2)]
    assert (states(replicas, 1), states(replicas, 2)) == ([], [1])


def test_of_a_donor_packs_are_kept_and_its_seal_is_said() -> None:
    replicas = backup()
    replicas.set_table(2, {1: Configuration(2, 1, C, (B, ME), PENDING, B)}, WORKERS)
    deliver(replicas, part(1, 1))
    effects = deliver(replicas, mark(2, SEALED, 1, 2, epoch=2))
    assert SlotsInstalled(((1, 2),)) in effects
    assert states(replicas, 1) == [1]
    assert not any(isinstance(each, SlotsInstalled) for each in deliver(replicas, mark(3, SEALED, 1, 3, epoch=2)))


def test_parts_of_one_slot_count_together() -> None:
    replicas = backup()
    deliver(replicas, part(1, 1, more=True))
    assert states(replicas, 1) == []
    deliver(replicas, part(2, 1))
    assert states(replicas, 1) == [1]


def test_a_joining_copy_counts_when_it_is_filled_for_its_term() -> None:
    replicas = backup()
    joining = Configuration(4, 1, B, (C,), joining=ME)
    replicas.set_table(2, {1: joining}, WORKERS)
    assert 1 not in replicas.copies
    deliver(replicas, part(1, 1, epoch=2))
    deliver(replicas, mark(2, BEGINS, 1, 3, epoch=2))
    assert 1 not in replicas.copies
    deliver(replicas, mark(3, BEGINS, 1, 4, epoch=2))
    deliver(replicas, part(4, 1, epoch=2, state=7))
    assert not replicas.copies[1].complete
    deliver(replicas, mark(5, FILLED, 1, 4, epoch=2))
    assert (replicas.copies[1].complete, states(replicas, 1)) == (True, [7])
    replicas.set_table(3, {1: Configuration(5, 1, B, (), joining=ME)}, WORKERS)
    assert 1 not in replicas.copies


def test_a_slot_that_is_this_nodes_now_is_taken_with_its_outputs_in_order() -> None:
    replicas = backup()
    for number in (1, 2, 3):
        deliver(replicas, part(number, 1, 2, out=number))
    assert replicas.next_output[0] == 4
    deliver(replicas, PacksFreed(4, 1, B, (2,)))
    assert replicas.set_table(2, {1: Configuration(2, 2, ME, (B,), PENDING, ME)}, WORKERS) == []
    assert replicas.judge_arrived() == [SlotsInstalled(((1, 2),))]
    assert replicas.set_table(3, {1: Configuration(2, 2, ME)}, WORKERS) == [1]
    taken = replicas.take(1)
    assert [(pack, out.origins) for _, pack, _, out in taken.outputs] == [(1, [1]), (3, [1])]
    assert sorted(replicas.outputs.packs) == [(B, 1), (B, 3)]
    replicas.set_table(4, {2: Configuration(2, 1, B)}, WORKERS)
    assert not replicas.outputs.packs
    assert not replicas.copies


def test_a_new_owner_says_which_outputs_are_kept() -> None:
    replicas = backup()
    for number in (1, 2, 3):
        deliver(replicas, part(number, 1, 2, out=number))
    replicas.set_table(2, {1: Configuration(2, 2, C, (ME,))}, WORKERS)
    deliver(replicas, OutputsKept(1, 2, 1, (B,), (3,)), sender=C)
    assert {name: [out.origins for _, out in kept] for name, kept in replicas.outputs.packs.items()} == {
        (B, 1): [[2]],
        (B, 2): [[2]],
        (B, 3): [[1, 2]],
    }


BAD: list[Message] = [
    part(2, 1),
    Pack(B, 0, 4).part(1, 1, more=False),
    LaneMark(1, 1, 4, b"", ()),
    LaneMark(1, 1, 0, b"\0\0", ()),
    LaneMark(1, 1, 0, b"\0\1", (1,)),
    OutputsKept(1, 1, 1, (B,), ()),
    Report(1, 0, False, 0, 0, 0, 0, ()),
]


@pytest.mark.parametrize("message", BAD, ids=lambda message: type(message).__name__)
def test_what_is_bad_is_refused_and_changes_nothing(message: Message) -> None:
    replicas = backup()
    with pytest.raises(Malformed):
        deliver(replicas, message)
    assert not replicas.busy()
    deliver(replicas, part(1, 1))  # its number is still the next
    assert states(replicas, 1) == [1]
