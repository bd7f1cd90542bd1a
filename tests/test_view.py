"""What a node says of itself and its cluster while members come, go and are away: whole nodes on a made-up network."""

from __future__ import annotations

from mesh.core.events.operator import AskToLeave
from mesh.core.slot import ACTIVE, LOST, PENDING, Slot
from mesh.core.table import Seat, Table
from mesh.runtime import view
from mesh.runtime.moves import MoveWatch, still_to_start
from mesh.runtime.status import Moving, SlotCounts
from tests.node_network import SLOTS, Nodes, Process


def working(*names: str) -> Nodes:
    nodes = Nodes(*names)
    nodes.until(nodes.settled)
    nodes.run(60)
    return nodes


def state_of(asked: Process, name: str) -> str:
    return next(each.state for each in view.status(asked.node, job_done=False).nodes if each.name == name)


def watched(nodes: Nodes, name: str, watch: MoveWatch, *, steps: int) -> list[Moving]:
    """What that node would say, time and again, for so many steps of 2 ms."""
    said = []
    control = nodes.processes[name].node.control
    for _ in range(steps):
        nodes.run(2)
        if control.table is not None:
            watch.agreed(control.table, control.membership.members)
            said.append(watch.now(control.table, control.membership.members))
    return said


def test_who_watches_a_join_sees_how_far_it_is_and_that_it_ends() -> None:
    nodes = working("a", "b", "c")
    watch = MoveWatch()
    assert set(watched(nodes, "a", watch, steps=1)) == {Moving(0, 0, ())}
    nodes.start("d")
    said = [each for each in watched(nodes, "a", watch, steps=2_000) if each.total]
    nodes.until(nodes.settled)
    assert said
    assert {each.total for each in said} == {SLOTS // 4}
    arrived = [each.arrived for each in said]
    assert arrived == sorted(arrived)
    assert {transfer.owner for each in said for transfer in each.transfers} == {"d"}
    for each in said:
        assert each.arrived + sum(transfer.slots for transfer in each.transfers) <= each.total
    assert watched(nodes, "a", watch, steps=1) == [Moving(0, 0, ())]


def test_what_a_leaver_has_must_all_set_out() -> None:
    nodes = working("a", "b", "c")
    control = nodes.processes["a"].node.control
    assert control.table is not None
    assert still_to_start(control.table, control.membership.members) == 0
    watch = MoveWatch()
    watched(nodes, "a", watch, steps=1)
    owned = dict(zip("abc", control.table.owned_counts(), strict=True))["b"]
    nodes.tell("b", AskToLeave(nodes.processes["b"].node.id))
    said = [each for each in watched(nodes, "a", watch, steps=2_000) if each.total]
    assert {each.total for each in said} == {owned}
    assert {transfer.donor for each in said for transfer in each.transfers} == {"b"}
    nodes.until(lambda: nodes.processes["b"].departed)


def test_a_node_says_why_it_is_not_ready_until_it_is() -> None:
    nodes = working("a", "b", "c")
    d = nodes.start("d")
    reasons = []
    while (why := view.why_not_ready(d.node)) or d.node.control.table is None:
        reasons.append(why)
        nodes.run(1)
        assert len(reasons) < 60_000
    assert reasons[0] == "the cluster is not founded yet, or nobody of it was met"
    assert any(why.startswith("of its ") and why.endswith(" pending") for why in reasons)
    assert view.ready(d.node)


def test_states_of_members_and_slots_while_one_is_away() -> None:
    nodes = working("a", "b", "c")
    a, b = nodes.processes["a"], nodes.processes["b"]
    slots = view.status(a.node, job_done=False).slots
    assert (slots.total, slots.active) == (SLOTS, SLOTS)
    b.paused = True
    nodes.until(lambda: state_of(a, "b") == "dead" and view.status(a.node, job_done=False).slots.unavailable > 0)
    assert not view.why_not_ready(a.node)
    assert {run.state for run in view.ring(a.node, Moving(0, 0, ())).runs if run.owner == "b"} == {"unavailable"}
    b.paused = False
    nodes.until(nodes.settled)
    nodes.until(lambda: view.status(a.node, job_done=False).slots.active == SLOTS)


def test_a_minority_says_so_within_five_seconds_and_everybody_else_is_ready() -> None:
    nodes = working("a", "b", "c")
    c = nodes.processes["c"]
    nodes.cut = {"c"}
    took = nodes.until(lambda: view.why_not_ready(c.node) == "a majority of the voters is out of touch", 5_000)
    assert took <= 5_000
    nodes.until(lambda: c.node.control.contact.fenced, 5_000)
    assert view.why_unavailable(c.node, "k1") == "a majority of the voters is out of touch with this node"
    nodes.until(lambda: view.status(nodes.processes["a"].node, job_done=False).slots.unavailable > 0)
    for name in ("a", "b"):
        assert view.ready(nodes.processes[name].node)
    nodes.cut = set()
    nodes.until(nodes.settled)
    nodes.until(lambda: view.ready(c.node))


def test_a_leaver_is_seen_leaving_and_then_not_at_all() -> None:
    nodes = working("a", "b", "c")
    a = nodes.processes["a"]
    nodes.tell("a", AskToLeave(nodes.processes["b"].node.id))
    nodes.until(lambda: state_of(a, "b") == "leaving")
    nodes.until(lambda: nodes.processes["b"].departed)
    nodes.until(lambda: [each.name for each in view.status(a.node, job_done=False).nodes] == ["a", "c"])


# -- slots with copies


def seat(name: str, *, up: bool = True) -> Seat:
    return Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", up, up)


COPIED = [  # a and b are up, c and d are down
    (Slot(3, 0, (1,)), "active", "its owner is a", ""),
    (Slot(3, 2, (0,)), "pending", "a copy takes over from c, which is out of reach", ""),
    (Slot(3, 1, (0,), PENDING, 0, 1), "pending", "it moves from a to b", "a"),
    (Slot(3, 1, (2,), PENDING, 1), "pending", "b takes it over", ""),
    (Slot(3, 2, (3,)), "unavailable", "it is with c and d, which are out of reach", ""),
    (Slot(3, 2, ()), "unavailable", "it is with c, which is out of reach", ""),
    (Slot(3, 0, (), LOST), "lost", "all that had a copy of it have ended", ""),
    (Slot(3, 0, (3,), ACTIVE, None, 1, 1), "active", "its owner is a", ""),
]


def test_slots_with_copies_are_shown_with_who_has_them() -> None:
    """At whoever knows such a table, whatever brought it about."""
    node = working("a").processes["a"].node
    seats = tuple(seat(name, up=name in "ab") for name in "abcd")
    node.control.table = Table(9, b"c" * 16, seats, tuple(slot for slot, *_ in COPIED), copies=2)
    runs = view.ring(node, Moving(0, 0, ())).runs
    states = {number: (run.state, run.donor) for run in runs for number in range(run.first, run.last + 1)}
    assert states == {number: (state, donor) for number, (_, state, _, donor) in enumerate(COPIED)}
    whys = [view.why_slot_is_unavailable(node.control.table, number) for number in range(len(COPIED))]
    assert whys == [why for _, _, why, _ in COPIED]
    shown = view.status(node, job_done=False)
    counts = {each.name: (each.slots, each.backups) for each in shown.nodes if each.state != "joining"}
    assert counts == {"a": (3, 2), "b": (2, 1), "c": (3, 1), "d": (0, 2)}
    assert shown.slots == SlotCounts(8, 2, 3, 2, 1)
    owners = [view.owner(node, f"k{number}") for number in range(40)]
    for each in owners:
        assert each is not None
        slot = COPIED[each.slot][0]
        assert (each.owner, each.backups) == ("abcd"[slot.owner], tuple("abcd"[place] for place in slot.backups))
