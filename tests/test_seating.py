"""Whose process has ended, as a proposer believes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.core.messages.members import ALIVE, DEAD, LEFT, SUSPECT, Member
from mesh.core.seating import new_seat, which_ended
from tests.membership_kit import member

NOW = replace(member("n1", 1), home=b"h" * 16, boot=2)
BEFORE = replace(member("n1", 2), home=b"h" * 16, boot=1)
LATER = replace(member("n1", 3), home=b"h" * 16, boot=3)
ANOTHER = replace(member("n1", 4), home=b"i" * 16, boot=1)


@pytest.mark.parametrize(
    ("belief", "other", "ended"),
    [
        (DEAD, None, False),
        (LEFT, None, True),
        (ALIVE, LATER, True),
        (DEAD, LATER, True),
        (ALIVE, ANOTHER, False),
        (DEAD, ANOTHER, True),
        (DEAD, replace(ANOTHER, status=SUSPECT), True),
        (DEAD, replace(ANOTHER, status=DEAD), False),
        (DEAD, BEFORE, False),
        (DEAD, replace(BEFORE, status=SUSPECT), False),
    ],
)
def test_a_process_has_ended_that_said_goodbye_or_whose_place_is_taken(
    belief: int, other: Member | None, ended: bool
) -> None:
    """That one which was there before it is not known to be dead yet is no reason."""
    members = {each.node: each for each in (replace(NOW, status=belief), other) if each is not None}
    assert which_ended([new_seat(NOW, voter=True)], members) == [ended]
