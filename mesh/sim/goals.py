"""What must come true once nothing is broken any more (rule I17), in bounded simulated time.

everybody sees the living alive and the dead dead, and has the same table, if enough of the declared live
enough voters live: all the living have seats that are up and the dead have none; nothing is pending between living
    nodes; what can move is spread evenly; who was asked to leave is gone
with copies: each slot of which one lives has as many as there shall be, or as there are workers
nobody died who had work: the job is done everywhere, and states and outputs are those of a single process
with producers a job has no end: instead each of them knows that all its lines are committed
somebody did: the living have worked off whatever does not need the dead; nobody says that the job is done
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mesh.core.events import Millis
from mesh.core.handoff import HandOff
from mesh.core.messages.members import ALIVE, SUSPECT
from mesh.core.table import WORKER, Table
from mesh.sim.copies import unfinished
from mesh.sim.kept_ledger import KeptLedger
from mesh.sim.workload import tally

if TYPE_CHECKING:
    from mesh.sim.process import Process
    from mesh.sim.world import World

PATIENCE: Millis = 90_000  # from the calm on; the slowest are batches of one record on a late network
SLOW_READS = 40  # and for so many reads of a source at the scenario's pace, as one node may have all of them
SETTLED: Millis = 3_000  # without a member nothing says that it is over: look a little longer
ANSWERED_WITHIN: Millis = 10_000  # whatever clients ask


def unmet(world: World) -> str | None:
    """The first goal that is not reached, as a sentence."""
    living = [process for process in world.processes if process.alive]
    return (
        _beliefs(living) or _founding(world, living) or _partition(world, living) or _work(world, living)
        or _answers(world)
    )  # fmt: skip


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
    declared = {each.name for each in world.scenario.declared if each.role == WORKER}
    workers = sum(process.name in declared for process in living)
    founded = any(process.node.control.table is not None for process in living)
    if workers < world.scenario.expect and not founded:
        return None
    return next((f"{each.name} has no partition" for each in living if each.node.control.table is None), None)


# -- one table, and as it should be -----------------------------------------------------------------------------------


def _partition(world: World, living: list[Process]) -> str | None:
    newest = world.checkers.table
    if newest is None or all(each.node.control.table is None for each in living):
        return None
    for process in living:
        table = process.node.control.table
        if table is None or table.epoch != max(each.node.control.agreement.epoch for each in living):
            return f"{process.name} is behind in epoch {table and table.epoch}"
    if not world.checkers.owners.can_decide():
        return None
    return _members(living, newest) or _slots(world, living, newest) or _leavers(world, living, newest)


def _members(living: list[Process], table: Table) -> str | None:
    ids = {process.id: process for process in living}
    for process in living:
        seat = table.seat_of(process.id)
        if seat is None or not seat.up:
            return f"{process.name} has no seat that is up"
    return next(
        (f"the seat of {each.name}, who is dead, is up" for each in table.members if each.up and each.node not in ids),
        None,
    )


def _slots(world: World, living: list[Process], table: Table) -> str | None:
    counts = table.counts()
    if counts["pending"]:
        return f"{counts['pending']} slots are pending"
    held = {seat.node: 0 for seat in table.workers() if seat.up and seat.node not in world.leaving}
    for slot in range(len(table)):
        owner = table.owner_of(slot)
        if table.state_of(slot) in ("active", "lost") and owner.node in held:
            held[owner.node] += 1
    if held and max(held.values()) > min(held.values()) + 1:
        return f"the slots are not spread evenly: {sorted(held.values())}"
    if told := _copies(world, living, table):
        return told
    ended = [seat for seat in table.members if not seat.up and any(each.name == seat.name for each in living)]
    return f"what the former {ended[0].name} had is not given up" if ended else None


def _copies(world: World, living: list[Process], table: Table) -> str | None:
    if not table.fills:
        return None
    ids = [process.id for process in living]
    return next((told for slot in range(len(table)) if (told := unfinished(table, slot, ids, world.leaving))), None)


def _leavers(world: World, living: list[Process], table: Table) -> str | None:
    """Who is away is waited for, and so is what waits for the dead: only without them a leaver can be through."""
    stay = [seat for seat in table.workers() if seat.node not in world.leaving]
    if not stay or died_with_work(world):
        return None
    return next((f"{each.name} has not left" for each in living if each.id in world.leaving), None)


def died_with_work(world: World) -> list[Process]:
    """Workers of the partition that ended without having left: a part of the job ended with them. With copies it has
    ended only with all that had one of some slot."""
    table, seated = world.checkers.table, world.checkers.seated
    if table is not None and table.fills and not table.counts()["lost"] + table.counts()["unavailable"]:
        return []
    left = () if table is None else table.left
    gone = [process for process in world.processes if not process.alive and not process.left]
    return [each for each in gone if seated.get(each.id) == WORKER and each.id not in left]


# -- the work ---------------------------------------------------------------------------------------------------------


def _work(world: World, living: list[Process]) -> str | None:
    table = world.checkers.table
    if table is None:
        return None
    if died_with_work(world):
        return _without_the_dead(world, {process.id for process in living})
    if isinstance(world.ledger, KeptLedger):
        return _kept_work(world, living)
    members = [process for process in living if process.id in world.checkers.seated]
    if not world.checkers.owners.can_decide():
        return None
    unwritten = world.clients.posted.unwritten()
    return _undone(world, members) or unwritten or _states(world, members) or _reports(members)


def _undone(world: World, members: list[Process]) -> str | None:
    if world.scenario.producers:
        return world.clients.waiting() or (None if world.ledger.complete() else "something is missing")
    return next((f"the job is not done, says {process.name}" for process in members if not process.job_done), None)


def _kept_work(world: World, living: list[Process]) -> str | None:
    members = [process for process in living if process.id in world.checkers.seated]
    if not world.checkers.owners.can_decide():
        return None
    missing = None if world.ledger.complete() else "something is missing"
    return _undone(world, members) or missing or world.clients.posted.unwritten() or _states(world, members)


def _without_the_dead(world: World, living: set[bytes]) -> str | None:
    if world.now < world.calm_since + SETTLED:
        return "settling"
    if isinstance(world.ledger, KeptLedger):
        return None
    for (consumer, stream, key), owed in world.ledger.owed.items():
        waits = any(producer in living for producer in owed.seqs.values())
        if waits and (isinstance(consumer, str) or _free(world, key)):
            return f"{consumer} lacks {stream} (key {key!r})"
    return None


def _free(world: World, key: object) -> bool:
    """Nothing stands in a record's way: windows that a dead owner fills stop the others' records too, and so does what
    the former owner of a slot that has moved gave out to the dead."""
    if world.scenario.window_bytes <= world.ledger.sent * 100 or not world.checkers.owners.is_active(key):
        return False
    living = [process.node.data.handoff for process in world.processes if process.alive]
    return not any(isinstance(each, HandOff) and each._shut for each in living)


def _states(world: World, members: list[Process]) -> str | None:
    if world.scenario.stores is not None:
        return next((told for each in members if (told := _stored(world, each))), None) or _counted(world, members)
    for stage, expected in enumerate(world.scenario.workload.expected()):
        found = [
            (key, tally(state)) for each in members for key, state in each.node.data.owner.stages[stage].states.items()
        ]
        if len(found) != len(expected) or dict(found) != expected:
            return f"the states of stage {stage} are not those of a single process"
    stages = [each.node.data.owner.stages[-1].states for each in members] if world.scenario.workload.notes else []
    if {key: count for states in stages for key, count in states.items()} != world.clients.posted.counts():
        return "the states of the notes are not what counts"
    if isinstance(world.ledger, KeptLedger):
        return None  # what is set aside may be so again, by the next owner
    set_aside = sum(process.node.data.set_aside.count for process in world.processes)
    if set_aside != world.ledger.set_aside:
        return f"{set_aside} records were set aside, and {world.ledger.set_aside} had to be"
    return None


def _stored(world: World, process: Process) -> str | None:
    """On its disk is what it shall have, of its own slots and of those that it copies."""
    table, disk = world.checkers.table, process.host.disk
    if table is None or disk is None or disk.store is None:
        return None
    slots = [
        number
        for number, slot in enumerate(table.slots)
        for place in slot.members
        if table.members[place].node == process.id
    ]
    wanted: list[tuple[Mapping[int, object], Callable[[Any], object]]]
    wanted = [(expected, tally) for expected in world.scenario.workload.expected()]
    wanted += [(world.clients.posted.counts(), int)] if world.scenario.workload.notes else []
    for stage, (expected, shown) in enumerate(wanted):
        found = {key: shown(state) for slot in slots for key, state in disk.store.states(slot, stage).items()}
        if found != {key: state for key, state in expected.items() if world.checkers.owners.slot_of(key) in slots}:
            return f"the states of stage {stage} in the store of {process.name} are not those of a single process"
    return None


def _counted(world: World, members: list[Process]) -> str | None:
    """Those of a slot that was another's are counted a part at a time."""
    counted = sum(each.node.data.owner.key_count() for each in members)
    keys = sum(map(len, world.scenario.workload.expected())) + len(world.clients.posted.counts())
    return None if counted == keys else f"{counted} keys are counted, and there are {keys}"


def _answers(world: World) -> str | None:
    waiting = [question for question in world.reads.open.values() if question.process.alive]
    if waiting:
        return f"a question to {waiting[0].process.name} has not been answered"
    return world.clients.late(ANSWERED_WITHIN)


def _reports(members: list[Process]) -> str | None:
    for process in members:
        for other in members:
            if other is not process and process.node.data.reports.get(other.id) != other.node.data.report():
                return f"what {process.name} knows of {other.name}'s work is not true any more"
    return None
