"""What must come true once nothing is broken any more (rule I17), in bounded simulated time.

everybody sees the living alive and the dead dead, and holds the partition if enough of the declared live
all members live: the job is done everywhere, and states and outputs are those of a single process
a member is gone: the living have worked off whatever does not need it; nobody says that the job is done
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.core.events import Millis
from mesh.core.messages import ALIVE, SUSPECT
from mesh.sim.workload import tally

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

PATIENCE: Millis = 60_000  # from the calm on; the slowest is a probe's turn among the reconnections of a LAN
SLOW_READS = 40  # and for so many reads of a source at the scenario's pace, as one node may have all of them
SETTLED: Millis = 3_000  # without a member nothing says that it is over: look a little longer


def unmet(world: World) -> str | None:
    """The first goal that is not reached, as a sentence."""
    living = [process for process in world.processes if process.alive]
    return _beliefs(living) or _founding(world, living) or _work(world, living) or _answers(world)


def _beliefs(living: list[Process]) -> str | None:
    ids = {process.id: process.name for process in living}
    for process in living:
        members = process.node.control.membership.members
        for node, name in ids.items():
            if node not in members or members[node].status != ALIVE:
                return f"{process.name} does not see that {name} is alive"
        for member in members.values():
            if member.node not in ids and member.status in (ALIVE, SUSPECT):
                return f"{process.name} does not see that a former {member.name} is dead"
    return None


def _founding(world: World, living: list[Process]) -> str | None:
    roles = {setup.name: setup.role for setup in world.scenario.setups}
    workers = sum(roles[process.name] == "worker" for process in living)
    founded = any(process.node.control.table is not None for process in living)
    if workers < world.scenario.expect and not founded:
        return None
    return next((f"{each.name} has no partition" for each in living if each.node.control.table is None), None)


def _work(world: World, living: list[Process]) -> str | None:
    table = world.checkers.table
    if table is None:
        return None
    ids = {process.id for process in living}
    members = [process for process in world.processes if process.id in world.checkers.seated]
    if any(process.id not in ids for process in members):
        return _without_the_dead(world, ids)
    for process in members:
        if not process.job_done:
            return f"the job is not done, says {process.name}"
    return _states(world, members) or _reports(members)


def _without_the_dead(world: World, living: set[bytes]) -> str | None:
    if world.now < world.calm_since + SETTLED:
        return "settling"
    for (consumer, stream, key), owed in world.ledger.owed.items():
        if owed.seqs and owed.producer in living and (isinstance(consumer, str) or _free(world, key)):
            return f"{consumer} lacks {stream} (key {key!r})"
    return None


def _free(world: World, key: object) -> bool:
    """Nothing stands in a record's way to its owner: windows that a dead owner fills stop the others' records too."""
    return world.scenario.window_bytes > world.ledger.sent * 100 and world.checkers.is_active(key)


def _states(world: World, members: list[Process]) -> str | None:
    for stage, expected in enumerate(world.scenario.workload.expected()):
        found = [
            (key, tally(state)) for each in members for key, state in each.node.data.owner.stages[stage].states.items()
        ]
        if len(found) != len(expected) or dict(found) != expected:
            return f"the states of stage {stage} are not those of a single process"
    set_aside = sum(process.node.data.set_aside.count for process in members)
    if set_aside != world.ledger.set_aside:
        return f"{set_aside} records were set aside, and {world.ledger.set_aside} had to be"
    return None


def _answers(world: World) -> str | None:
    waiting = [question for question in world.reads.open.values() if question.process.alive]
    return f"a question to {waiting[0].process.name} has not been answered" if waiting else None


def _reports(members: list[Process]) -> str | None:
    for process in members:
        for other in members:
            if other is not process and process.node.data.reports.get(other.id) != other.node.data.report():
                return f"what {process.name} knows of {other.name}'s work is not true any more"
    return None
