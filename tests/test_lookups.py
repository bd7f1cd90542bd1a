"""Every read that another node is asked for is answered once: by that node, or as overdue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.events.work import Answered
from mesh.core.lookups import LOOKUP_MS, MAX_WAITING, UNAVAILABLE, Lookups
from mesh.core.messages.outside import Found

A, B = b"a" * 16, b"b" * 16


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from([A, B]), st.integers(0, 1500)),
            st.tuples(st.just("found"), st.sampled_from([A, B]), st.integers(0, 12)),
            st.tuples(st.just("woke"), st.just(A), st.integers(0, 1500)),
        ),
        max_size=40,
    )
)
def test_every_ticket_is_answered_exactly_once(steps: list[tuple[str, bytes, int]]) -> None:
    lookups = Lookups()
    now, tickets = 0, 0
    asked: dict[int, tuple[bytes, int]] = {}  # number -> (who, ticket)
    answers: list[Answered] = []

    def take(effects: list[object]) -> None:
        answers.extend(effect for effect in effects if isinstance(effect, Answered))

    for what, who, number in steps:
        if what == "ask":
            now += number
            take(list(lookups.overdue(now)))
            tickets += 1
            given_number = lookups.wait_for(who, tickets, now)
            assert given_number is not None
            asked[given_number] = (who, tickets)
        elif what == "found":
            before = len(answers)
            take(list(lookups.found(who, Found(number, "found", b"1"))))
            if len(answers) > before:
                assert asked[number] == (who, answers[-1].ticket)
        else:
            now += number
            take(list(lookups.overdue(now)))
        deadline = lookups.next_deadline()
        assert deadline is None or now - number < deadline <= now + LOOKUP_MS
    take(list(lookups.overdue(now + LOOKUP_MS)))
    assert lookups.next_deadline() is None
    assert sorted(answer.ticket for answer in answers) == list(range(1, tickets + 1))


def test_after_waking_at_the_deadline_it_has_moved_on() -> None:
    lookups = Lookups()
    lookups.wait_for(A, 1, 0)
    lookups.wait_for(A, 2, 5)
    assert lookups.next_deadline() == LOOKUP_MS
    assert lookups.overdue(LOOKUP_MS) == [Answered(1, UNAVAILABLE)]
    assert lookups.next_deadline() == LOOKUP_MS + 5


def test_too_many_at_once_are_told_so_and_make_room_again() -> None:
    lookups = Lookups()
    numbers = [lookups.wait_for(A, ticket, 0) for ticket in range(MAX_WAITING)]
    assert None not in numbers
    assert lookups.wait_for(A, MAX_WAITING, 0) is None
    assert lookups.found(A, Found(numbers[0] or 0, "absent", b"")) == [Answered(0, "absent")]
    assert lookups.wait_for(A, MAX_WAITING, 0) is not None
