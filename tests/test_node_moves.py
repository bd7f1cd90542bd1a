from __future__ import annotations

import pytest

from mesh.core.events.operator import AskToLeave
from tests.node_network import SLOTS, Nodes


def working(*names: str, seed: int = 0, **job: int) -> Nodes:
    """In the middle of the job."""
    nodes = Nodes(*names, seed=seed, **job)
    nodes.until(nodes.settled)
    nodes.run(60)
    assert 0 < len(nodes.sink.items) < nodes.records
    return nodes


def finish(nodes: Nodes) -> None:
    nodes.until(nodes.finished)
    nodes.check()
    assert len(nodes.sink.items) == nodes.records


def test_three_nodes_count_every_record_once_and_in_order() -> None:
    nodes = Nodes("a", "b", "c")
    nodes.until(nodes.settled)
    finish(nodes)


@pytest.mark.parametrize("seed", range(5))
def test_a_join_in_the_middle_of_the_job_loses_and_doubles_nothing(seed: int) -> None:
    nodes = working("a", "b", "c", seed=seed)
    nodes.start("d")
    nodes.until(nodes.settled)
    assert nodes.processes["d"].node.control.table is not None
    assert sorted(nodes.processes["d"].node.control.table.owned_counts()) == [SLOTS // 4] * 4
    finish(nodes)


@pytest.mark.parametrize("seed", range(5))
def test_a_leave_in_the_middle_of_the_job_loses_and_doubles_nothing(seed: int) -> None:
    nodes = working("a", "b", "c", seed=seed)
    nodes.tell("a", AskToLeave(nodes.processes["b"].node.id))
    nodes.until(lambda: nodes.processes["b"].departed)
    nodes.until(nodes.settled)
    finish(nodes)


@pytest.mark.parametrize("seed", range(5))
def test_joins_and_a_leave_at_once(seed: int) -> None:
    nodes = working("a", "b", "c", seed=seed)
    for name in ("d", "e"):
        nodes.start(name)
    nodes.tell("c", AskToLeave(nodes.processes["a"].node.id))
    nodes.until(lambda: nodes.processes["a"].departed)
    nodes.until(nodes.settled)
    finish(nodes)


@pytest.mark.parametrize("gap", [0, 40, 60, 80])
def test_of_two_that_are_both_told_to_leave_one_finishes_the_job(gap: int) -> None:
    nodes = working("a", "b", seed=3)
    for name in ("a", "b"):
        nodes.tell(name, AskToLeave(nodes.processes[name].node.id))
        nodes.run(gap)
    finish(nodes)


def test_slots_with_states_that_cannot_travel_work_on_where_they_are_whoever_joins_or_is_to_leave() -> None:
    nodes = working("a", "b", "c", rooted=True)
    nodes.start("d")
    nodes.tell("a", AskToLeave(nodes.processes["b"].node.id))
    nodes.until(nodes.finished)
    nodes.until(nodes.settled)
    nodes.check()
    assert len(nodes.sink.items) == nodes.records
    logs = [log for process in nodes.living() for log in process.logs]
    assert any(log.event == "slot.cannot_move" for log in logs)
    assert not nodes.processes["b"].departed


def test_a_pause_that_is_taken_for_death_loses_nothing() -> None:
    nodes = working("a", "b", "c")
    nodes.processes["b"].paused = True
    nodes.run(8_000)
    nodes.check()
    assert not nodes.finished()
    nodes.processes["b"].paused = False
    nodes.until(nodes.settled)
    finish(nodes)


def test_what_a_killed_node_held_is_waited_for_and_the_rest_goes_on() -> None:
    nodes = working("a", "b", "c")
    nodes.kill("b")
    nodes.run(20_000)
    nodes.check()
    assert not nodes.finished()


def storm(seed: int) -> Nodes:
    """Joins, leaves, pauses and splits; nobody dies, so all must come out.

    A leaver does not wait for who is away, and what that one had sent to it stays unanswered: leaves are in calm times.
    """
    nodes = working("a", "b", "c", seed=seed, records=150_000)
    random = nodes.random
    for number in range(8):
        name = random.choice(sorted(nodes.processes))
        process = nodes.processes[name]
        match random.randrange(4):
            case 0:
                nodes.start(f"n{number}")
            case 1 if process in nodes.living() and len(nodes.living()) > 2:
                calm(nodes)
                nodes.until(nodes.settled)
                nodes.tell(nodes.living()[0].name, AskToLeave(process.node.id))
                nodes.until(lambda process=process: process.departed)  # type: ignore[misc]
            case 2 if process in nodes.living() and len(nodes.living()) > 2:
                process.paused = True
            case 3:
                nodes.cut = {each for each in sorted(nodes.processes) if random.random() < 0.3}
        nodes.run(random.choice([20, 60, 200, 2_000]))
        nodes.check()
        if random.random() < 0.5:
            calm(nodes)
    calm(nodes)
    return nodes


def calm(nodes: Nodes) -> None:
    nodes.cut = set()
    for process in nodes.processes.values():
        process.paused = False


@pytest.mark.parametrize("seed", range(6))
def test_through_storms_without_deaths_every_record_is_counted_once_and_in_order(seed: int) -> None:
    nodes = storm(seed)
    nodes.until(nodes.settled)
    finish(nodes)
