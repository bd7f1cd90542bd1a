from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.core.boots import ASK, KEEPER, MAX_KNOWN, Boots, next_boot
from mesh.core.events import Effect, Persist, Persisted, Received, Rejected, Send, Stop, Woke
from mesh.core.events.planes import MayVote, MemberChanged
from mesh.core.messages import Message
from mesh.core.messages.epochs import Booted, BootKnown
from mesh.core.messages.members import ALIVE, STAYING, Member
from mesh.core.slot import Slot
from mesh.core.table import Seat, Table


def member(name: str, process: int = 1) -> Member:
    """The `process`th start of the directory of this name."""
    node, home = f"{name}/{process}".encode().ljust(16, b"."), name.encode() * 16
    return Member(node, name, f"tcp://{name}:1", "", "worker", "", 1, ALIVE, STAYING, home, process)


def table(*members: Member) -> Table:
    seats = tuple(Seat(m.name, m.node, m.endpoint, "", m.role, "", True, True, m.home, m.boot) for m in members)
    return Table(1, b"c" * 16, seats, (Slot(1, 0),))


A, B, C = (member(name) for name in "abc")
A2, B2 = member("a", 2), member("b", 2)


def boots(me: Member, *others: Member, stored: dict[str, bytes] | None = None) -> Boots:
    each = Boots(me, stored or {})
    for other in others:
        each.handle(MemberChanged(other, None), 0)
    return each


def sent(effects: list[Effect]) -> list[tuple[bytes, Message]]:
    return [(each.to, each.message) for each in effects if isinstance(each, Send)]


def answer(each: Boots, sender: Member, boot: int = 2, ok: bool = True) -> list[Effect]:
    return each.handle(Received(sender.node, BootKnown(b"a" * 16, boot, ok)), 5)


def test_a_fresh_home_may_vote_and_asks_nobody() -> None:
    each = boots(A, B, C)
    assert each.confirmed
    assert each.agreed(table(A, B, C), 1) == []
    assert each.next_deadline() is None


def test_who_restarts_asks_again_and_again_and_votes_when_enough_have_confirmed() -> None:
    each = boots(A2, B, C)
    assert not each.confirmed
    asked = [(B.node, Booted(b"a" * 16, 2)), (C.node, Booted(b"a" * 16, 2))]
    assert sent(each.agreed(table(A, B, C), 1)) == asked
    assert sent(each.handle(Woke(), ASK)) == []
    assert sent(each.handle(Woke(), 1 + ASK)) == asked
    assert MayVote(True) in answer(each, C)
    assert each.confirmed
    assert sent(each.handle(Woke(), 1 + 2 * ASK)) == [asked[0]]  # the other voter shall know, too


def test_a_directory_that_knows_votes_is_asked_for_even_at_its_first_count() -> None:
    assert not boots(A, stored={"agreement.vote": b"x"}).confirmed


def test_where_there_are_others_one_of_them_must_confirm() -> None:
    pair = boots(A2, B)
    pair.agreed(table(A, B), 1)
    assert not pair.confirmed
    answer(pair, B)
    assert pair.confirmed
    alone = boots(A2)
    assert MayVote(True) in alone.agreed(table(A), 1)


def test_a_confirmation_by_the_voters_of_one_epoch_is_none_by_those_of_the_next() -> None:
    each = boots(A2, B, C, member("d"), member("e"))
    each.agreed(table(A, B, C), 1)
    answer(each, B)
    assert each.confirmed
    assert MayVote(False) in each.agreed(table(A, C, member("d"), member("e")), 9)
    answer(each, C)
    answer(each, member("d"))
    assert each.confirmed
    assert MayVote(False) not in each.agreed(table(A2, B, member("d")), 20)  # it names this process
    assert MayVote(False) not in each.agreed(table(A2, member("x")), 30)


def test_who_is_told_no_stops_and_says_no_more() -> None:
    each = boots(A2, B, C)
    each.agreed(table(A, B, C), 1)
    (persist,) = [effect for effect in answer(each, B, boot=3, ok=False) if isinstance(effect, Persist)]
    assert next_boot(persist.value, b"")[:2] == (A2.home, A2.boot)  # of the next start: this one counts no more
    (stop,) = each.handle(Persisted(persist.name), 1)
    assert isinstance(stop, Stop)
    assert stop.exit_code == 2
    assert "this is start 2 of it, and the cluster knows start 3" in stop.sentence
    assert each.next_deadline() is None
    assert answer(each, C) == []
    assert not each.confirmed


def test_a_start_is_kept_durably_before_it_is_confirmed() -> None:
    each = boots(C, A2)
    (persist,) = each.handle(Received(A2.node, Booted(A2.home, 2)), 1)
    assert isinstance(persist, Persist)
    assert each.handle(Received(A2.node, Booted(A2.home, 2)), 2) == []  # asked again meanwhile
    assert sent(each.handle(Persisted(KEEPER), 3)) == [(A2.node, BootKnown(A2.home, 2, True))]
    assert sent(each.handle(Received(A2.node, Booted(A2.home, 2)), 4)) == [(A2.node, BootKnown(A2.home, 2, True))]
    again = boots(C, replace(A2, node=b"copy".ljust(16)), stored={KEEPER: persist.value})
    assert sent(again.handle(Received(b"copy".ljust(16), Booted(A2.home, 2)), 1)) == [
        (b"copy".ljust(16), BootKnown(A2.home, 2, False))
    ]


def test_the_former_of_two_processes_is_told_when_the_later_one_comes() -> None:
    each = boots(C, A2, member("a", 3))
    each.handle(Received(A2.node, Booted(A2.home, 2)), 1)
    each.handle(Persisted(KEEPER), 1)
    each.handle(Received(member("a", 3).node, Booted(A2.home, 3)), 2)
    told = sent(each.handle(Persisted(KEEPER), 3))
    assert (A2.node, BootKnown(A2.home, 3, False)) in told
    assert (member("a", 3).node, BootKnown(A2.home, 3, True)) in told


def test_the_table_knows_starts_too() -> None:
    each = boots(C, A2)
    each.agreed(table(member("a", 3), B, C), 1)
    assert sent(each.handle(Received(A2.node, Booted(A2.home, 2)), 2)) == [(A2.node, BootKnown(A2.home, 3, False))]


@pytest.mark.parametrize(
    ("sender", "message", "reason"),
    [
        (B, Booted(A2.home, 9), "boot"), (B, Booted(B.home, 9), "boot"),
        (B, BootKnown(B.home, 2, True), "boot"), (B, BootKnown(A2.home, 3, True), "boot"),
        (B, BootKnown(A2.home, 1, False), "boot"), (member("x"), BootKnown(A2.home, 3, False), "not-a-voter"),
        (member("a", 7), BootKnown(A2.home, 7, False), "not-a-voter"),
    ],
)  # fmt: skip
def test_bad_input_is_rejected_and_changes_nothing(sender: Member, message: Message, reason: str) -> None:
    each = boots(A2, B, C, member("x"))
    each.agreed(table(A, B, C), 1)
    (effect,) = each.handle(Received(sender.node, message), 2)
    assert isinstance(effect, Rejected)
    assert effect.reason == reason
    assert not each.confirmed
    assert MayVote(True) in answer(each, B)


def test_what_strangers_make_it_remember_is_bounded_and_members_are_not_forgotten() -> None:
    each = boots(C, A2)
    each.agreed(table(A, B, C), 1)
    each.handle(Received(A2.node, Booted(A2.home, 2)), 1)
    for number in range(MAX_KNOWN + 10):
        crowd = replace(member("x"), node=number.to_bytes(16), home=number.to_bytes(16), boot=2)
        each.handle(MemberChanged(crowd, None), 2)
        each.handle(Received(crowd.node, Booted(crowd.home, 2)), 2)
    assert len(each._known) <= MAX_KNOWN
    assert each._known[A2.home] == (2, A2.node)


def test_starts_are_counted_from_one() -> None:
    home, boot, kept = next_boot(None, b"h" * 16)
    assert (home, boot) == (b"h" * 16, 1)
    assert next_boot(kept, b"x" * 16)[:2] == (b"h" * 16, 2)
    with pytest.raises(ValueError, match="an identity of 3 bytes"):
        next_boot(b"abc", b"x" * 16)
