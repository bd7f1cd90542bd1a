"""Who comes when a job has ended takes nothing more, and does not keep it from ending."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

import mesh
from mesh.app.plan import compile
from mesh.core.data import DataPlane
from mesh.core.events.planes import SlotsInstalled
from mesh.core.events.work import RecordAsked
from mesh.core.keys import slot_of_key
from mesh.core.slot import ACTIVE, PENDING
from tests.data_kit import Cluster, Given, Node, Nowhere
from tests.test_posts import ending


def two_stages():
    app = mesh.App("ending")
    first = app.source("given", Given([])).key_by(str).stateful("first", int, lambda n, v: (n + 1, v))
    first.values().key_by(lambda v: v + "?").fold("second", int, lambda n, _: n + 1).to(Nowhere())
    return compile(app)


class Moving(Cluster):
    def _perform(self, node, effects):
        super()._perform(node, [e for e in effects if not isinstance(e, SlotsInstalled)])


def test_nothing_is_applied_at_the_end_that_a_latecomer_took_for_a_slot_that_it_got() -> None:
    two = Moving(two_stages(), Random(0), owners=2)
    two.run()  # all is done, sinks are closed
    late = Node(b"\x03" * 16, DataPlane(b"\x03" * 16, two.plan, two.slots, 0))
    two.nodes.append(late)
    two.by_id[late.id] = late
    old = two.table
    mine = [0]
    key = next(k for k in map(str, range(999)) if slot_of_key(k, 0, 8) == 0 and slot_of_key(k + "?", 0, 8) not in mine)

    def table(epoch, status):
        return replace(
            old,
            epoch=epoch,
            members=(*old.members, late.id),
            workers=(*old.workers, late.id),
            owner_of_slot=(2, *old.owner_of_slot[1:]),
            donor_of_slot=(0 if status == PENDING else -1, *old.donor_of_slot[1:]),
            status_of_slot=(status, *old.status_of_slot[1:]),
            term_of_slot=(2, *old.term_of_slot[1:]),
        )

    joined = replace(old, epoch=2, members=(*old.members, late.id), workers=(*old.workers, late.id))
    two.table = joined
    two.give(late, joined)
    two.give(late, RecordAsked(1, "first", key, key))  # before it has listed its source
    for t in (joined, table(3, PENDING), table(4, ACTIVE)):
        two.table = t
        for node in two.nodes:
            if node.data.table is not t:
                two.give(node, t)
        for _ in range(300):
            c = two._choices()
            if c:
                two.random.choice(c)()
    for _ in range(300):
        c = two._choices()
        two.random.choice(c)() if c else two.tick()
    assert not two.states("second")


@pytest.mark.parametrize("asks", [False, True])
def test_a_latecomer_that_is_asked_now_and_then_ends_too(asks: bool) -> None:
    """One ask a second, from the moment on at which it has the table."""
    two = Cluster(ending(), Random(0), owners=2)
    two.run()
    late = Node(b"\x03" * 16, DataPlane(b"\x03" * 16, two.plan, two.slots, 0))
    two.nodes.append(late)
    two.by_id[late.id] = late
    old = two.table
    two.table = replace(old, epoch=2, members=(*old.members, late.id), workers=(*old.workers, late.id))
    for node in two.nodes:
        two.give(node, two.table)
    if asks:
        two.give(late, RecordAsked(1, "count", "x", "x"))
    ticket, last = 1, two.now
    for _ in range(20_000):
        if late.done:
            break
        choices = two._choices()
        if choices:
            two.random.choice(choices)()
        else:
            two.tick()
        if asks and two.now >= last + 1_000:
            ticket, last = ticket + 1, two.now
            two.give(late, RecordAsked(ticket, "count", "x", "x"))
    assert late.done
