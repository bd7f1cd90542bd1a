from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.core.events import Effect, Received, Rejected, Send, Woke
from mesh.core.events.operator import AskToLeave
from mesh.core.events.planes import MemberChanged, StartLeaving
from mesh.core.leaving import MAX_ASKED, REPEAT, Leaving, refusal
from mesh.core.messages import NodeId
from mesh.core.messages.epochs import LeaveAsked
from mesh.core.messages.members import ALIVE, DEAD, LEAVING, LEFT, STAYING, SUSPECT, Member
from mesh.core.slot import Slot
from mesh.core.table import Seat, Table

A, B, W = (name.encode() * 16 for name in "abw")


def member(node: NodeId, status: int = ALIVE, leaving: int = STAYING, role: str = "worker") -> Member:
    return Member(node, node[:1].decode(), "tcp://h:1", "", role, "", 1, status, leaving)


def sent(effects: list[Effect]) -> list[tuple[NodeId, object]]:
    return [(each.to, each.message) for each in effects if isinstance(each, Send)]


def test_the_node_itself_starts_once() -> None:
    each = Leaving(A)
    assert each.handle(AskToLeave(A), 1)[0] == StartLeaving()
    assert each.handle(AskToLeave(A), 2) == each.handle(Received(B, LeaveAsked(A)), 3) == []
    assert Leaving(A).handle(Received(B, LeaveAsked(A)), 3)[0] == StartLeaving()


@pytest.mark.parametrize("end", [member(B, ALIVE, LEAVING), member(B, LEFT)])
def test_another_is_asked_until_it_says_so_or_is_gone(end: Member) -> None:
    each = Leaving(A)
    assert sent(each.handle(AskToLeave(B), 1)) == [(B, LeaveAsked(B))]
    assert each.next_deadline() == 1 + REPEAT
    for changed in (member(B, SUSPECT), member(B, DEAD), member(B), member(W, LEFT)):
        each.handle(MemberChanged(changed, ALIVE), 2)
    assert each.handle(Woke(), REPEAT) == []
    assert sent(each.handle(Woke(), 1 + REPEAT)) == [(B, LeaveAsked(B))]
    each.handle(MemberChanged(end, ALIVE), 600)
    assert sent(each.handle(Woke(), 1 + 2 * REPEAT)) == []
    assert each.next_deadline() is None


def test_who_is_asked_for_another_refuses() -> None:
    (effect,) = Leaving(A).handle(Received(B, LeaveAsked(W)), 1)
    assert isinstance(effect, Rejected)


def test_what_is_asked_is_bounded() -> None:
    each = Leaving(A)
    for number in range(MAX_ASKED + 10):
        each.handle(AskToLeave(number.to_bytes(16)), 1)
    assert len(sent(each.handle(Woke(), 1 + REPEAT))) == MAX_ASKED


SEATS = [Seat(node[:1].decode(), node, "tcp://h:1", "", role, "", True)
         for node, role in ((A, "worker"), (B, "worker"), (W, "witness"))]  # fmt: skip
TABLE = Table(3, b"i" * 16, tuple(SEATS), (Slot(1, 0), Slot(1, 1)))
ALL = {A: member(A), B: member(B), W: member(W, role="witness")}


@pytest.mark.parametrize(
    ("members", "name", "told"),
    [
        (ALL, "a", None), (ALL, "w", None), (ALL, "x", "unknown"),
        ({**ALL, B: member(B, SUSPECT)}, "a", None), ({**ALL, B: member(B, DEAD)}, "a", "last-worker"),
        ({**ALL, B: member(B, DEAD)}, "b", "unreachable"), ({**ALL, B: member(B, ALIVE, LEAVING)}, "a", "last-worker"),
        ({**ALL, B: member(B, DEAD)}, "w", None),
        ({**ALL, A: member(A, ALIVE, LEAVING), B: member(B, DEAD)}, "a", None),
    ],
)  # fmt: skip
def test_the_last_worker_and_strangers_cannot_leave(members: dict[NodeId, Member], name: str, told: str | None) -> None:
    assert refusal(TABLE, members, name) == told


def test_a_joiner_without_a_seat_does_not_count_as_a_worker_that_stays() -> None:
    joiner = replace(member(b"j" * 16), name="j")
    assert refusal(TABLE, {**ALL, B: member(B, DEAD), joiner.node: joiner}, "a") == "last-worker"
    assert refusal(None, ALL, "a") is None
