"""A process that only a table names, at an address where this node still believes in another one."""

from __future__ import annotations

from random import Random

from mesh.core.control import _as_member
from mesh.core.membership.facts import Admitted
from mesh.core.membership.swim import Membership, Missed
from mesh.core.membership.tuning import LAN
from mesh.core.messages.members import SUSPECT
from mesh.core.planner import first_table
from mesh.core.seating import which_ended
from tests.membership_kit import member


def test_who_was_there_before_it_does_not_end_it_without_a_data_directory_either() -> None:
    """Without directories each process is a home of its own: its slots would be LOST, though it lives."""
    alpha, former, beta, gamma = member("alpha"), member("beta", 1), member("beta", 2), member("gamma")
    membership = Membership(alpha, LAN, Random(0))
    for each in (former, gamma):
        membership.handle(Admitted(each, (), each.endpoint), 0)
    table = first_table([alpha, beta, gamma], b"c" * 16, 8, 1)
    membership.handle(Missed(tuple(_as_member(seat) for seat in table.members)), 100)
    assert membership.members[beta.node].status == SUSPECT
    assert which_ended(table.members, membership.members) == [False, False, False]
