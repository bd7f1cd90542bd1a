"""Only what an owner of the same partition sends in its turn is queued; everything else changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.app.fragment import Fragment
from mesh.app.plan import StagePlan
from mesh.core.codec import Malformed
from mesh.core.columns import slots_to_bytes
from mesh.core.events.planes import Delivered
from mesh.core.intake import Intake, Waiting
from mesh.core.messages import Message
from mesh.core.messages.work import Batch, BatchDone

PEER, STRANGER = b"p" * 16, b"s" * 16


def stage(index: int, level: int) -> StagePlan:
    return StagePlan(index, f"s{index}", level, int, max, "fold", Fragment(lambda *_: None, (), ()), "app.py:1")


@pytest.fixture
def intake() -> Intake:
    made = Intake([stage(0, 1), stage(1, 2)])
    made.set_table(5, (PEER,))
    return made


def batch(number: int = 1, keys: list[Any] | None = None, **changes: Any) -> Batch:
    keys = ["a", 1, b"c"] if keys is None else keys
    fields = {"stage": 0, "epoch": 5, "slots": slots_to_bytes([0] * len(keys)), "values": None, **changes}
    return Batch(number=number, keys=keys, **fields)


def own(number: int, keys: list[Any], values: list[Any]) -> Waiting:
    return Waiting(None, number, 5, 0, keys, values, [0] * len(keys))


def came(channel: int = 1, sender: bytes = PEER) -> Delivered:
    return Delivered(sender, channel, b"x" * 77)


def test_a_batch_waits_with_its_sender_number_and_size(intake: Intake) -> None:
    intake.delivered(came(), batch())
    intake.delivered(came(), batch(2, [1, 2], values=["x", "y"]))
    first, second = intake.take(0, 10)[0], intake.take(0, 10)[0]
    assert (first.sender, first.number, first.size) == (PEER, 1, 77)
    assert first.values is first.keys
    assert (second.number, second.keys, second.values) == (2, [1, 2], ["x", "y"])
    assert intake.empty()


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (came(), BatchDone(0, 1, 5, b"", ())),
        (came(), batch(stage=2)),
        (came(channel=2), batch()),
        (came(channel=1), batch(stage=1)),
        (came(), batch(values=["one"])),
        (came(), batch(slots=b"\0\0")),
        (came(), batch(slots=b"\0\0\0\0\0\0\0")),
        (came(), batch(keys=["a", True])),
        (came(), batch(keys=[None])),
        (came(), batch(keys=[1.0])),
        (came(), batch(keys=[["a"]])),
        (came(), batch(number=0)),
        (came(), batch(number=2)),
        (came(sender=STRANGER), batch()),
    ],
)
def test_a_batch_that_is_not_right_is_refused_and_changes_nothing(
    intake: Intake, event: Delivered, message: Message
) -> None:
    with pytest.raises(Malformed):
        intake.delivered(event, message)
    assert intake.empty()
    intake.delivered(came(), batch())
    with pytest.raises(Malformed):
        intake.delivered(came(), batch())  # the same once more
    assert intake.take(0, 10)[0].number == 1


def test_an_empty_batch_is_a_batch(intake: Intake) -> None:
    intake.delivered(came(), batch(keys=[]))
    assert intake.take(0, 10)[0].keys == []


def test_stages_have_queues_of_their_own(intake: Intake) -> None:
    intake.put_own(0, own(1, [0], [0]))
    assert not intake.ready(1, ())
    assert not intake.empty()
    assert intake.take(0, 10)[0].keys == [0]
    assert intake.empty()


def test_a_batch_of_an_epoch_that_is_not_known_yet_waits_with_all_behind_it(intake: Intake) -> None:
    intake.delivered(came(), batch(1, epoch=6))
    intake.delivered(came(), batch(2, epoch=6))
    intake.put_own(0, own(1, [0], [0]))
    assert not intake.ready(0, ())
    intake.set_table(6, (PEER,))
    assert intake.ready(0, ())
    assert [intake.take(0, 10)[0].number for _ in range(3)] == [1, 2, 1]


def test_who_is_a_worker_only_in_a_later_epoch_is_listened_to_and_a_stranger_is_not(intake: Intake) -> None:
    intake.delivered(came(sender=STRANGER), batch(1, epoch=6))
    intake.set_table(5, (PEER,))
    intake.delivered(came(sender=STRANGER), batch(2, epoch=6))
    with pytest.raises(Malformed):
        intake.delivered(came(sender=STRANGER), batch(3, epoch=5))


def test_a_batch_with_a_slot_that_is_shut_waits_and_another_one_does_not(intake: Intake) -> None:
    intake.delivered(came(), batch(1, [1, 2], slots=slots_to_bytes([3, 4])))
    assert not intake.ready(0, [4])
    assert intake.ready(0, [5])


def test_what_is_refused_is_left_out_and_noted_with_the_part_that_it_was_in(intake: Intake) -> None:
    intake.delivered(came(), batch(1, [1, 2, 3, 4, 5], slots=slots_to_bytes([3, 4, 3, 4, 3])))
    first, _ = intake.take(0, 2)
    assert first.without([]).keys == [1, 2]
    second, _ = intake.take(0, 2)
    assert second.without([3]).keys == [4]
    third, last = intake.take(0, 2)
    assert last
    assert third.without([4]).keys == [], "a slot that was refused once is refused to the end of the batch"
    assert third.refused == {3: 2, 4: 4}


def test_a_batch_may_be_worked_off_in_parts_and_is_done_with_its_last(intake: Intake) -> None:
    intake.delivered(came(), batch(1, [1, 2, 3, 4, 5], slots=bytes(10)))
    intake.delivered(came(), batch(2))
    taken = [intake.take(0, 2) for _ in range(3)]
    assert [(part.keys, last) for part, last in taken] == [([1, 2], False), ([3, 4], False), ([5], True)]
    assert all(part.values is part.keys and part.number == 1 for part, _ in taken)
    assert intake.take(0, 2)[0].number == 2
