"""Deliberate mutants: each breaks one rule of the protocol, and the simulator names that rule.

A test kit that cannot fail is worth nothing. Every mutant is made here, by changing a class for the length of a test,
and every one of its worlds holds without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from mesh.core import codec, control
from mesh.core.agreement import Agreement
from mesh.core.ballots import Vote
from mesh.core.cargo import Cargo
from mesh.core.data import DataPlane
from mesh.core.electorate import Electorate, Voter
from mesh.core.events import Effect
from mesh.core.events.planes import Delivered, TableAgreed, Transmit
from mesh.core.handoff import CONTROL
from mesh.core.intake import Intake
from mesh.core.link import Links
from mesh.core.membership import roster
from mesh.core.membership.swim import Membership
from mesh.core.membership.tuning import LAN
from mesh.core.messages.work import BatchDone
from mesh.core.owner import Owner
from mesh.core.packing import Packer
from mesh.core.planner import Planner
from mesh.core.progress import Progress
from mesh.core.reads import Reads
from mesh.core.router import Router
from mesh.runtime.worker import Worker
from mesh.sim.faults import Crash, Cut, Pause, Reset, Restart, SlowDisk, Storm
from mesh.sim.network import Conditions
from mesh.sim.scenario import Scenario, scenario_of
from tests.sim_kit import first_violation, is_caught, scenario

Patch = pytest.MonkeyPatch

RESETS = [
    scenario(
        *(Reset(at, 0, *pair) for at in range(300, 3_000, 20) for pair in (("alpha", "beta"), ("beta", "alpha"))),
        conditions=Conditions(delay=15),
        pace=50,
    )
]
DOUBLES = [scenario(Storm(0, 4_000, lost=0, doubled=400, jitter=50))]
HEALTHY = [scenario()]
TWO = [scenario(workers=2)]
PAUSE = [scenario(Pause(300, 4_000, "beta"), window_bytes=200, batch_records=4)]
SPLIT = [scenario(Cut(500, 4_000, ("alpha",), ("beta", "gamma")))]
AGAIN = [scenario(Crash(1_000, 0, "gamma"), Restart(2_000, 0, "gamma"))]
LATE_DISK = [scenario(SlowDisk(0, 5_000, "gamma"), disks=True, expect=2)]
FOUNDINGS = [scenario_of(seed, mood="founding", copies=1) for seed in range(100)]


def forgetful_founding(seed: int) -> Scenario:
    """Alpha and beta found a cluster; alpha is cut off, beta crashes while it may not know it, and gamma comes."""
    crash = (1, 5, 15, 30)[seed % 4]
    found = scenario(
        Crash(1, 0, "gamma"),
        SlowDisk(0, 6_000, "beta"),
        disks=True,
        expect=2,
        conditions=Conditions(20, 10),
        tuning=LAN,
    )
    after = (
        Cut(0, 9_000, ("alpha",), ("beta", "gamma")),
        Crash(crash, 0, "beta"),
        Restart(crash + 30, 0, "beta"),
        Restart(crash + 30, 0, "gamma"),
    )
    return dataclasses.replace(found, seed=seed, at_founding=after)


FORGETFUL = [forgetful_founding(seed) for seed in range(24)]


# -- links ------------------------------------------------------------------------------------------------------------


def accepts_a_gap(patch: Patch) -> None:
    """A frame that was lost is never missed."""
    patch.setattr(Links, "_expected", lambda self, link, number: max(number, link.received + 1))


def delivers_twice(patch: Patch) -> None:
    patch.setattr(Links, "_expected", lambda self, link, number: min(number, link.received + 1))


def never_repeats(patch: Patch) -> None:
    """What was lost is complained about, and nobody listens."""
    patch.setattr(Links, "_go_back", lambda self, link: None)


# -- the data plane ---------------------------------------------------------------------------------------------------


def routes_to_the_wrong_owner(patch: Patch) -> None:
    set_table = Router.set_table

    def shifted(self: Router, table: TableAgreed) -> None:
        owners = tuple((owner + 1) % len(table.workers) for owner in table.owner_of_slot)
        set_table(self, dataclasses.replace(table, owner_of_slot=owners))

    patch.setattr(Router, "set_table", shifted)


def acknowledges_before_it_applies(patch: Patch) -> None:
    delivered = Cargo.delivered

    def eager(self: Any, event: Delivered) -> None:
        delivered(self, event)
        if event.channel:
            batch: Any = codec.decode_with_values(event.payload)
            done = BatchDone(batch.stage, batch.number, batch.epoch, b"", ())
            self._effects.append(Transmit(event.sender, CONTROL, codec.encode_with_values(done)))

    patch.setattr(Cargo, "delivered", eager)


def applies_twice(patch: Patch) -> None:
    apply = Owner.apply

    def twice(self: Owner, stage: int, keys: list[Any], items: list[Any]) -> Any:
        apply(self, stage, keys, items)
        return apply(self, stage, keys, items)

    patch.setattr(Owner, "apply", twice)


def applies_the_newest_first(patch: Patch) -> None:
    take = Intake.take

    def newest(self: Any, stage: int, *arguments: Any) -> Any:
        self._queues[stage].rotate(1)
        return take(self, stage, *arguments)

    patch.setattr(Intake, "take", newest)


def loses_a_batch_in_the_owners_hands(patch: Patch) -> None:
    """It is acknowledged all the same."""
    apply = Owner.apply
    calls = iter(range(1_000_000))

    def forgetful(self: Owner, stage: int, keys: list[Any], items: list[Any]) -> Any:
        return apply(self, stage, [], []) if next(calls) % 20 == 10 else apply(self, stage, keys, items)

    patch.setattr(Owner, "apply", forgetful)


def drops_what_comes_before_the_partition(patch: Patch) -> None:
    handle = DataPlane.handle

    def impatient(self: DataPlane, event: Any, now: int) -> list[Effect]:
        return [] if isinstance(event, Delivered) and self.table is None else handle(self, event, now)

    patch.setattr(DataPlane, "handle", impatient)


def knows_no_window(patch: Patch) -> None:
    patch.setattr(Packer, "is_open", lambda self, lane: True)
    patch.setattr(Router, "open_for", lambda self, stage: True)


def claims_to_be_drained_with_work_in_hand(patch: Patch) -> None:
    patch.setattr(DataPlane, "quiet", lambda self: True)


def drains_without_asking_the_others(patch: Patch) -> None:
    patch.setattr(Progress, "_all_at_least", lambda self, level: True)


def lets_an_answer_overtake(patch: Patch) -> None:
    perform = Worker._perform

    def hasty(self: Any, effects: list[Effect], now: int, outward: list[Effect]) -> None:
        for effect in effects:
            perform(self, [effect], now, outward)  # and all that follows from it

    patch.setattr(Worker, "_perform", hasty)


def answers_for_the_owner(patch: Patch) -> None:
    """Whoever is asked looks on its own shelf."""
    patch.setattr(Reads, "owner_of", lambda self, key: self._me)
    patch.setattr(Reads, "_read_here", lambda self, stage, key: self._owner.read(stage, key))


# -- agreement --------------------------------------------------------------------------------------------------------


class Anybody(Electorate):
    """An electorate in which one vote decides."""

    def __post_init__(self) -> None:
        pass


def founds_without_a_majority(patch: Patch) -> None:
    def anybody(workers: list[str], expect: int) -> Electorate:
        return Anybody(tuple(Voter(name, b"", 1) for name in workers), 1)

    patch.setattr(control, "founding_electorate", anybody)


def founds_with_whoever_is_there(patch: Patch) -> None:
    """It does not wait until `expect` workers are there."""
    found = Planner.found

    def eager(self: Any, *arguments: Any) -> list[Effect]:
        self._expect = 1
        return found(self, *arguments)

    patch.setattr(Planner, "found", eager)


def forgets_its_promise(patch: Patch) -> None:
    """A voter accepts any ballot."""
    patch.setattr(Vote, "allows", lambda self, ballot, node: True)


def forgets_its_vote_in_a_restart(patch: Patch) -> None:
    restore = Agreement._restore

    def forgetful(self: Any, stored: dict[str, bytes]) -> None:
        restore(self, {name: value for name, value in stored.items() if name != "agreement.vote"})

    patch.setattr(Agreement, "_restore", forgetful)


def votes_before_it_is_durable(patch: Patch) -> None:
    def hasty(self: Any, vote: Vote, then: Effect) -> list[Effect]:
        self._vote = vote
        return [*self._durable.persist("agreement.vote", vote.to_bytes(), []), then]

    patch.setattr(Agreement, "_bind", hasty)


def takes_the_place_of_who_had_its_name(patch: Patch) -> None:
    """A process that starts again goes on as the member that died."""
    chosen = control.ControlPlane._epoch_chosen

    def usurping(self: Any, event: Any, now: int) -> list[Effect]:
        effects = chosen(self, event, now)
        me = self.identity.me
        old = {seat.node for seat in self.table.members if seat.name == me.name}
        return [_renamed(each, old, me.node) if isinstance(each, TableAgreed) else each for each in effects]

    patch.setattr(control.ControlPlane, "_epoch_chosen", usurping)


def _renamed(table: TableAgreed, old: set[bytes], new: bytes) -> TableAgreed:
    def renamed(nodes: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(new if node in old else node for node in nodes)

    return dataclasses.replace(
        table, members=renamed(table.members), workers=renamed(table.workers), founders=renamed(table.founders)
    )


# -- membership and time ----------------------------------------------------------------------------------------------


def believes_whatever_it_heard_last(patch: Patch) -> None:
    """The dead rise at a lower incarnation."""
    patch.setattr(roster, "newer", lambda known, claim: known if known == claim else claim)


def has_a_deadline_that_never_moves(patch: Patch) -> None:
    def standing(self: Any) -> int:
        return int(self._next_probe) - 100

    patch.setattr(Membership, "next_deadline", standing)


MUTANTS: list[tuple[Callable[[Patch], None], str, list[Scenario]]] = [
    (accepts_a_gap, "I18", RESETS),
    (delivers_twice, "I18", DOUBLES),
    (never_repeats, "I17", RESETS),
    (routes_to_the_wrong_owner, "I3", HEALTHY),
    (acknowledges_before_it_applies, "I11", HEALTHY),
    (applies_twice, "I8", HEALTHY),
    (applies_the_newest_first, "I9 I11", PAUSE),
    (loses_a_batch_in_the_owners_hands, "I9 I11", HEALTHY),
    (drops_what_comes_before_the_partition, "honest", LATE_DISK),
    (knows_no_window, "I16", PAUSE),
    (claims_to_be_drained_with_work_in_hand, "E7", HEALTHY),
    (drains_without_asking_the_others, "E7", HEALTHY),
    (lets_an_answer_overtake, "I17", TWO),
    (answers_for_the_owner, "reads", HEALTHY),
    (founds_without_a_majority, "I2", HEALTHY),
    (founds_with_whoever_is_there, "A6", FOUNDINGS),
    (forgets_its_promise, "I1 I2", FOUNDINGS),
    (forgets_its_vote_in_a_restart, "I1 I2", FORGETFUL),
    (votes_before_it_is_durable, "I1 I2", FORGETFUL),
    (takes_the_place_of_who_had_its_name, "A7 E5", AGAIN),
    (believes_whatever_it_heard_last, "M2", SPLIT),
    (has_a_deadline_that_never_moves, "deadline", HEALTHY),
]


@pytest.mark.parametrize(("mutant", "rule", "worlds"), MUTANTS, ids=[mutant.__name__ for mutant, _, _ in MUTANTS])
def test_a_mutant_is_caught_by_its_rule(
    mutant: Callable[[Patch], None], rule: str, worlds: list[Scenario], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_caught(rule, worlds)


@pytest.mark.parametrize(
    "worlds",
    [
        RESETS + DOUBLES + HEALTHY + TWO + PAUSE + SPLIT + AGAIN + LATE_DISK,
        FOUNDINGS[:12],
        FORGETFUL[:12],
    ],
    ids=["forced", "foundings", "forgetful"],
)
def test_without_a_mutant_these_worlds_hold(worlds: list[Scenario]) -> None:
    assert first_violation(worlds) is None
