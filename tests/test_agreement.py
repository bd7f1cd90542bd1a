from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core import ballots
from mesh.core.agreement import BACK_OFF_MOST, GOSSIP, KEEPER, PATIENCE, RESEND, Agreement
from mesh.core.ballots import Ballot, Vote
from mesh.core.boots import Boots
from mesh.core.electorate import Electorate, founding_electorate
from mesh.core.events import Effect, Persist, Persisted, Received, Rejected, Send, Woke
from mesh.core.events.planes import EpochChosen, MemberChanged, Propose, Withdraw
from mesh.core.history import KEPT, record, record_name
from mesh.core.messages import Message, NodeId
from mesh.core.messages.epochs import (
    Accept,
    Accepted,
    Booted,
    BootKnown,
    Chosen,
    EpochHeld,
    EpochKnown,
    Outbid,
    Prepare,
    Promise,
)
from mesh.core.messages.members import ALIVE, DEAD, Member
from tests.agreement_network import Faults, HastyDurable, Network, Violation, fault, member, value, voters_of

SEEDS = range(150)
STORM = 4_000  # ms


# -- whole clusters under faults --------------------------------------------------------------------------------------


def names(count: int) -> list[str]:
    return [f"n{place}" for place in range(count)]


def everybody_proposes(network: Network, random: Random, voters: Sequence[str]) -> None:
    """Every live node that feels like it proposes a value of its own for the epoch after the newest it has seen."""
    for process in network.living():
        if random.random() < 0.5:
            some = random.sample(voters, random.randint(1, len(voters))) if network.voters_change else voters
            seats = [(name, network.processes[name].home) for name in some]
            epoch = process.machine.epoch + 1
            before = process.machine.newest
            network.propose(process.name, epoch, value(epoch, f"{process.name}@{network.now}", seats, before))


def storm(network: Network, random: Random, voters: Sequence[str], *, wiped: Sequence[str] = ()) -> None:
    """Faults of all kinds at once; names in `wiped` lose their data when they restart."""
    until = network.now + STORM
    while network.now < until:
        network.faults = Faults(random.choice([0, 0.1, 0.4]), random.choice([0, 0.3]), random.choice([5, 60, 400]), 60)
        network.split = {name for name in network.processes if random.random() < random.choice([0, 0.3])}
        everybody_proposes(network, random, voters)
        for name, process in list(network.processes.items()):
            if process.alive and random.random() < 0.2:
                network.crash(name)
            elif not process.alive and random.random() < 0.6:
                network.start(name, keep=name not in wiped)
        network.run(random.choice([20, 100, 300]))


def heal(network: Network, *, gone: Sequence[str] = (), wiped: Sequence[str] = ()) -> None:
    network.faults = Faults()
    network.split = set()
    for name, process in list(network.processes.items()):
        if not process.alive and name not in gone:
            network.start(name, keep=name not in wiped)
        elif process.alive and name in gone:
            network.crash(name)


def agree_soon(network: Network, random: Random, voters: Sequence[str]) -> None:
    """Everybody knows one epoch more than anybody knew, within bounded time."""
    goal = max(network.epochs()) + 1
    for _ in range(40):
        everybody_proposes(network, random, voters)
        network.run(500)
        if min(network.epochs()) >= goal:
            return
    network.check(False, f"no epoch {goal} everywhere, 20 s after all was well: {network.epochs()}")


def life(
    seed: int, kind: type[Agreement] = Agreement, mutate: Any = lambda each: each, *, changing: bool = False
) -> Network:
    """Founding and later epochs with durable voters; in the end a minority is gone for good, unless voters change."""
    random = Random(seed)
    size = random.choice([1, 2, 3, 3, 4, 5])
    network = Network(seed, names(size), size // 2 + 1, kind, mutate)
    network.voters_change = changing
    storm(network, random, names(size))
    heal(network)
    agree_soon(network, random, names(size))
    storm(network, random, names(size))
    heal(network, gone=() if changing else names(size)[1 + size // 2 :])
    agree_soon(network, random, names(size))
    return network


def old_copies(seed: int, boots: type[Boots] = Boots) -> Network:
    """Between storms somebody copies a directory, and later puts it back, when all others know of later starts."""
    random = Random(seed)
    network = Network(seed, names(3), 2, boots=boots)
    storm(network, random, names(3))
    heal(network)
    agree_soon(network, random, names(3))
    for _ in range(4):
        name = random.choice(names(3))
        network.copy(name)
        for _ in range(2):
            network.crash(name)
            network.run(50)
            network.start(name)
            network.run(3_000)
        everybody_proposes(network, random, names(3))
        network.run(random.choice([30, 100]))
        network.crash(name)
        network.run(500)
        put_back = network.put_back(name)
        network.start(name)
        storm_of_words(network, random)
        heal_from_old(network, name if put_back else "")
        agree_soon(network, random, names(3))
    return network


def storm_of_words(network: Network, random: Random) -> None:
    for _ in range(10):
        network.split = {random.choice(names(3))}
        everybody_proposes(network, random, names(3))
        network.run(random.choice([50, 200, 700]))


def heal_from_old(network: Network, old: str) -> None:
    """Who works from an old copy is told so, sooner or later, and gets an empty directory instead."""
    network.split = set()
    network.run(3_000)
    if old:
        network.check(network.processes[old].stopped, "an old copy is in use")
        network.start(old, keep=False)
        network.run(1_000)


def restless(seed: int, kind: type[Agreement] = Agreement) -> Network:
    """Proposals all the time, one node cut off, and somebody always restarts with its directory."""
    random = Random(seed)
    network = Network(seed, names(3), 2, kind)
    while network.now < STORM:
        network.faults = Faults(random.choice([0, 0.1, 0.4]), 0.1, random.choice([5, 60, 200]), 20)
        network.split = {random.choice(names(3))}
        everybody_proposes(network, random, names(3))
        network.run(random.choice([20, 60, 150]))
        name = random.choice(names(3))
        network.crash(name)
        network.start(name)
        network.run(random.choice([20, 60, 300, 600]))
    heal(network)
    agree_soon(network, random, names(3))
    return network


def founding(seed: int, kind: type[Agreement] = Agreement, *, keepers: int = 1) -> Network:
    """A founding by all, of whom only the first `keepers` keep what they promised when they restart."""
    random = Random(seed)
    size = random.choice([2, 3, 3, 4])
    network = Network(seed, names(size), size, kind)
    wiped = names(size)[keepers:]
    for _ in range(3):
        storm(network, random, names(size), wiped=wiped)
        heal(network, wiped=wiped)
        network.run(300)
    everybody_proposes(network, random, names(size))
    while network.now < 60_000 and min(network.epochs()) == 0:
        everybody_proposes(network, random, names(size))
        network.run(500)
    network.check(min(network.epochs()) > 0, f"not founded: {network.epochs()}")
    return network


def first_violation(run: Callable[[int], Network], seeds: Sequence[int] = SEEDS) -> str:
    """What the checks say about the first seed that they do not like."""
    for seed in seeds:
        try:
            run(seed)
        except Violation as violation:
            return str(violation)
    return ""


def test_one_value_an_epoch_and_progress_once_the_network_heals() -> None:
    epochs = [max(life(seed).epochs()) for seed in SEEDS]
    assert max(epochs) > 4  # the storms did not only block


def test_one_value_an_epoch_while_the_voters_change_with_every_epoch() -> None:
    lives = [life(seed, changing=True) for seed in SEEDS]
    assert max(max(network.epochs()) for network in lives) > 4
    assert sum(network.leaps for network in lives) > 0  # some were away for longer than anybody remembers
    kept = [
        len([name for name in each.disk if name.startswith("agreement.epoch.")])
        for network in lives
        for each in network.living()
    ]
    assert max(kept) == KEPT


def test_one_founding_as_long_as_one_process_remembers() -> None:
    for seed in SEEDS:
        founding(seed)


@settings(max_examples=25)
@given(st.integers(0, 1 << 32))
def test_any_seed_holds(seed: int) -> None:
    life(seed)


def test_one_value_an_epoch_while_somebody_always_restarts() -> None:
    assert max(max(restless(seed).epochs()) for seed in range(40)) > 2


def test_old_copies_of_directories_never_vote() -> None:
    assert sum(old_copies(seed).refused for seed in range(25)) > 10


def test_the_same_seed_gives_the_same_history() -> None:
    assert life(5).chosen == life(5).chosen
    assert life(5).chosen != life(6).chosen


def test_a_full_restart_without_data_founds_anew_so_the_check_can_fail() -> None:
    assert "two values of epoch 1" in first_violation(lambda seed: founding(seed, keepers=0))


# -- mutants: the same storms must find each of them ------------------------------------------------------------------


class OneIsEnough(Electorate):
    def enough(self, names: Any) -> bool:
        return len(list(names)) > 0


class AllAreNeeded(Electorate):
    def enough(self, names: Any) -> bool:
        return set(names) >= {voter.name for voter in self.voters}


class ForgetsItsPromise(Agreement):
    def __init__(self, me: NodeId, name: str, founders: Electorate, of: Any, fault: Any, random: Random,
                 stored: Mapping[str, bytes], *start: Any) -> None:  # fmt: skip
        kept = {key: stored[key] for key in stored if key != KEEPER}
        super().__init__(me, name, founders, of, fault, random, kept, *start)


class PrefersItsOwnValue(Agreement):
    def _value_for(self, ballot: Ballot) -> bytes:
        assert self._wish is not None
        return self._wish


class AcceptsLowerBallots(Agreement):
    def _refusal(self, sender: NodeId, ballot: int) -> list[Effect]:
        return []


class SpeaksBeforeItIsDurable(Agreement):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._durable = HastyDurable()


class RemovedSeatVotes(Agreement):
    """Counts those who voted on the epoch before as well."""

    def _learn(self, epoch: int, value: bytes) -> list[Effect]:
        before = self._electorate.voters
        effects = super()._learn(epoch, value)
        names = {voter.name for voter in self._electorate.voters}
        voters = (*self._electorate.voters, *(voter for voter in before if voter.name not in names))
        self._electorate = Loose(voters, self._electorate.needed)
        return effects


class Loose(Electorate):
    def __post_init__(self) -> None:
        pass


class ForgetsToChangeVoters(Agreement):
    def _learn(self, epoch: int, value: bytes) -> list[Effect]:
        before = self._electorate
        effects = super()._learn(epoch, value)
        self._electorate = before
        return effects


class NeverMovesItsDeadline(Agreement):
    def next_deadline(self) -> int | None:
        return 0


def test_mutant_no_majority_is_caught() -> None:
    found = first_violation(lambda seed: life(seed, mutate=lambda each: OneIsEnough(each.voters, each.needed)))
    assert "two values" in found or "nobody decisive" in found


def test_mutant_wait_for_all_is_caught() -> None:
    found = first_violation(lambda seed: life(seed, mutate=lambda each: AllAreNeeded(each.voters, each.needed)))
    assert "20 s after all was well" in found


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (PrefersItsOwnValue, "two values"),
        (AcceptsLowerBallots, "two values"),
        (SpeaksBeforeItIsDurable, "nobody decisive"),
        (NeverMovesItsDeadline, "deadline did not move"),
    ],
)
def test_mutant_is_caught(kind: type[Agreement], told: str) -> None:
    assert told in first_violation(lambda seed: life(seed, kind))


class TakesItselfForConfirmed(Boots):
    def __init__(self, me: Member, stored: Mapping[str, bytes]) -> None:
        super().__init__(me, stored)
        self._settled = self.confirmed = True

    def _answered(self, sender: NodeId, message: BootKnown) -> list[Effect]:
        return []


class NeverSaysNo(Boots):
    def _asked(self, sender: NodeId, message: Booted) -> list[Effect]:
        yes = Send(sender, BootKnown(message.home, message.boot, True))
        return [yes if isinstance(each, Send) else each for each in super()._asked(sender, message)]


@pytest.mark.parametrize("boots", [TakesItselfForConfirmed, NeverSaysNo])
def test_mutant_an_old_directory_votes_is_caught(boots: type[Boots]) -> None:
    found = first_violation(lambda seed: old_copies(seed, boots), range(40))
    assert found, "nobody noticed"


def test_mutant_a_promise_that_a_restart_forgets_is_caught() -> None:
    """Rare: the restarted must be confirmed, and outvote what was chosen, before anybody tells it what that was."""
    assert "two values" in first_violation(lambda seed: life(seed, ForgetsItsPromise), (614, 798))


@pytest.mark.parametrize("kind", [RemovedSeatVotes, ForgetsToChangeVoters])
def test_mutant_of_changing_voters_is_caught(kind: type[Agreement]) -> None:
    found = first_violation(lambda seed: life(seed, kind, changing=True))
    assert "two values" in found or "nobody decisive" in found


# -- one machine, event by event --------------------------------------------------------------------------------------

A, B, C, D, B2 = (name.encode().ljust(16, b".") for name in ("aaaaa", "bbbbb", "ccccc", "ddddd", "bbbb2"))
NAMES = {A: "a", B: "b", C: "c", D: "d", B2: "b"}
SEATS = [("a", A), ("b", B), ("c", C)]


def machine(
    stored: Mapping[str, bytes] | None = None, *, me: NodeId = A, others: Sequence[NodeId] = (B, C), expect: int = 2
) -> Agreement:
    """One of three declared workers, of whom `expect` must agree; its first gossip is over."""
    founders = founding_electorate(["a", "b", "c"], expect)
    each = Agreement(me, NAMES[me], founders, voters_of, fault, Random(1), stored or {})
    for other in others:
        each.know(member(NAMES[other], other, ALIVE))
    each.handle(Woke(), 0)
    return each


def durably(each: Agreement, event: Any, now: int = 1) -> list[Effect]:
    """What comes out when the disk is quick."""
    effects: list[Effect] = []
    waiting = each.handle(event, now)
    while waiting:
        effect = waiting.pop(0)
        effects.append(effect)
        if isinstance(effect, Persist):
            waiting = each.handle(Persisted(effect.name), now) + waiting
    return effects


def told(effects: Sequence[Effect], to: NodeId | None = None) -> list[Message]:
    return [each.message for each in effects if isinstance(each, Send) and to in (None, each.to)]


def written(effects: Sequence[Effect]) -> dict[str, bytes]:
    return {each.name: each.value for each in effects if isinstance(each, Persist)}


def reported(effects: Sequence[Effect]) -> list[EpochChosen]:
    return [each for each in effects if isinstance(each, EpochChosen)]


V1, OTHER = value(1, "mine", SEATS), value(1, "theirs", SEATS)
V2 = value(2, "next", SEATS, V1)
STORED_1 = {record_name(1): record(1, V1)}
STORED_2 = {**STORED_1, record_name(2): record(2, V2)}
BALLOT_B = ballots.number(3, B)


def test_a_promise_is_durable_before_it_is_given() -> None:
    each = machine()
    first = each.handle(Received(B, Prepare(1, BALLOT_B)), 1)
    assert [type(effect) for effect in first] == [Persist]
    assert each.handle(Received(B, Prepare(1, BALLOT_B)), 2) == []
    assert each.handle(Persisted(KEEPER), 3) == [Send(B, Promise(1, BALLOT_B, 0, b""))]
    assert each.handle(Received(B, Prepare(1, BALLOT_B)), 4) == [Send(B, Promise(1, BALLOT_B, 0, b""))]


def test_an_acceptance_is_durable_before_it_is_told() -> None:
    each = machine()
    durably(each, Received(B, Prepare(1, BALLOT_B)))
    first = each.handle(Received(B, Accept(1, BALLOT_B, V1)), 1)
    assert Vote.from_bytes(written(first)[KEEPER]) == Vote(1, BALLOT_B, B, BALLOT_B, V1)
    assert told(first) == []
    assert told(each.handle(Persisted(KEEPER), 2)) == [Accepted(1, BALLOT_B)]


def test_a_ballot_is_durable_before_anybody_hears_of_it() -> None:
    each = machine()
    first = each.handle(Propose(1, V1), 1)
    assert told(first) == []
    ballot = Vote.from_bytes(written(first)[KEEPER]).promised
    second = each.handle(Persisted(KEEPER), 2)
    assert told(second, B) == told(second, C) == [Prepare(1, ballot)]
    again = machine(written(first))
    started = told(durably(again, Propose(1, OTHER)), B)
    assert isinstance(started[0], Prepare)
    assert started[0].ballot > ballot


def test_an_epoch_is_durable_before_it_is_reported() -> None:
    each = machine()
    assert reported(each.handle(Received(B, Chosen(1, V1)), 1)) == []
    assert each.epoch == 1
    assert reported(each.handle(Persisted("agreement.epoch.1"), 2)) == [EpochChosen(1, V1)]


def proposing(each: Agreement) -> int:
    """Has it propose V1; the number of its ballot."""
    (prepare,) = told(durably(each, Propose(1, V1)), B)
    assert isinstance(prepare, Prepare)
    return prepare.ballot


def test_a_value_is_chosen_by_two_of_three_and_everybody_is_told() -> None:
    each = machine()
    ballot = proposing(each)
    accepting = durably(each, Received(B, Promise(1, ballot, 0, b"")))
    assert told(accepting, B) == told(accepting, C) == [Accept(1, ballot, V1)]
    done = durably(each, Received(C, Accepted(1, ballot)))
    assert told(done, B) == told(done, C) == [Chosen(1, V1)]
    assert reported(done) == [EpochChosen(1, V1)]
    assert durably(each, Propose(1, OTHER)) == []  # settled


def test_what_a_promise_carries_wins_over_one_s_own() -> None:
    each = machine()
    ballot = proposing(each)
    lower = ballots.number(1, C)
    accepting = durably(each, Received(B, Promise(1, ballot, lower, OTHER)))
    assert told(accepting, C) == [Accept(1, ballot, OTHER)]


def test_a_name_votes_once_however_many_processes_have_it() -> None:
    each = machine(others=(B, B2, C), expect=3)
    ballot = proposing(each)
    assert told(durably(each, Received(B, Promise(1, ballot, 0, b"")))) == []
    assert told(durably(each, Received(B2, Promise(1, ballot, 0, b"")))) == []
    assert told(durably(each, Received(C, Promise(1, ballot, 0, b""))))
    durably(each, Received(C, Accepted(1, ballot)))
    assert reported(durably(each, Received(B2, Accepted(1, ballot)))) == []  # b spoke through another process
    assert reported(durably(each, Received(B, Accepted(1, ballot)))) == [EpochChosen(1, V1)]


def test_an_outbid_proposer_waits_a_while_and_then_goes_higher() -> None:
    each = machine()
    proposing(each)
    durably(each, Received(B, Outbid(1, ballots.number(9, B))), 50)
    due = each.next_deadline()
    assert due is not None
    assert 50 < due <= 50 + BACK_OFF_MOST
    assert told(durably(each, Woke(), due - 1), C) == []
    (prepare,) = told(durably(each, Woke(), due), C)
    assert isinstance(prepare, Prepare)
    assert ballots.round_of(prepare.ballot) == 10


def test_an_old_refusal_changes_nothing() -> None:
    each = machine()
    ballot = proposing(each)
    due = each.next_deadline()
    assert durably(each, Received(B, Outbid(1, ballot - 1))) == []
    assert each.next_deadline() == due
    assert told(durably(each, Received(B, Promise(1, ballot, 0, b""))), C) == [Accept(1, ballot, V1)]


def test_an_unanswered_ballot_is_repeated_then_raised() -> None:
    each = machine()
    ballots_asked = [proposing(each)]
    for turn in range(1, PATIENCE + 1):
        asked = [m for m in told(durably(each, Woke(), 1 + turn * RESEND), B) if isinstance(m, Prepare)]
        ballots_asked += [m.ballot for m in asked]
    assert ballots_asked[:PATIENCE] == [ballots_asked[0]] * PATIENCE
    assert ballots_asked[PATIENCE] > ballots_asked[0]


def test_only_those_who_have_not_answered_are_asked_again() -> None:
    each = machine(expect=3)
    ballot = proposing(each)
    durably(each, Received(B, Promise(1, ballot, 0, b"")))
    again = durably(each, Woke(), 1 + RESEND)
    assert Prepare(1, ballot) in told(again, C)
    assert Prepare(1, ballot) not in told(again, B)


# -- restarts and laggards --------------------------------------------------------------------------------------------


def test_a_restarted_voter_keeps_its_word() -> None:
    each = machine()
    disk = written(durably(each, Received(B, Prepare(1, BALLOT_B))))
    disk |= written(durably(each, Received(B, Accept(1, BALLOT_B, V1))))
    again = machine(disk)
    assert told(durably(again, Received(C, Prepare(1, ballots.number(2, C))))) == [Outbid(1, BALLOT_B)]
    higher = ballots.number(4, C)
    assert told(durably(again, Received(C, Prepare(1, higher)))) == [Promise(1, higher, BALLOT_B, V1)]


def test_a_restarted_node_reports_its_newest_epoch_first() -> None:
    disk = {**STORED_2, KEEPER: Vote(2, BALLOT_B, B).to_bytes()}
    each = Agreement(A, "a", founding_electorate(["a"], 1), voters_of, fault, Random(1), disk)
    assert each.epoch == 2
    assert each.next_deadline() == 0
    assert reported(each.handle(Woke(), 7)) == [EpochChosen(2, V2)]
    assert reported(each.handle(Woke(), 8)) == []
    assert told(durably(each, Received(B, Prepare(3, ballots.number(1, B))))) == [
        Promise(3, ballots.number(1, B), 0, b"")  # the vote of epoch 2 is over
    ]


def test_who_knows_a_cluster_founds_no_other() -> None:
    each = machine(STORED_1)
    assert durably(each, Propose(1, OTHER)) == []
    assert told(durably(each, Received(B, Prepare(1, BALLOT_B)))) == [Chosen(1, V1)]
    assert told(durably(each, Received(B, Accept(1, BALLOT_B, OTHER)))) == [Chosen(1, V1)]


def test_laggards_are_told_and_laggards_ask() -> None:
    ahead = machine(STORED_2)
    assert told(ahead.handle(Received(B, EpochKnown(0, 0)), 1), B) == [Chosen(1, V1), Chosen(2, V2)]
    assert told(ahead.handle(Received(B, EpochKnown(1, 0)), 1), B) == [Chosen(2, V2)]
    assert told(ahead.handle(Received(B, EpochKnown(2, 0)), 1), B) == []
    behind = machine()
    for message in (EpochKnown(1, 0), EpochKnown(9, 5), Prepare(2, BALLOT_B), Accept(2, BALLOT_B, V2)):
        assert told(behind.handle(Received(B, message), 1), B) == [EpochKnown(0, 0)]


def test_a_new_acquaintance_is_asked_once_what_it_knows() -> None:
    each = machine(others=())
    for status, expected in ((ALIVE, [EpochKnown(0, 0)]), (ALIVE, []), (DEAD, []), (ALIVE, [EpochKnown(0, 0)])):
        assert told(each.handle(MemberChanged(member("b", B, status), None), 1), B) == expected


def test_everybody_is_asked_now_and_then() -> None:
    each = machine()
    asked: list[NodeId] = []
    for turn in range(1, 30):
        effects = each.handle(Woke(), turn * GOSSIP * 2)
        asked += [effect.to for effect in effects if isinstance(effect, Send)]
    assert set(asked) == {B, C}


def test_who_has_no_vote_learns_only() -> None:
    each = machine(me=D)
    assert durably(each, Propose(1, V1)) == []
    assert isinstance(durably(each, Received(B, Prepare(1, BALLOT_B)))[0], Rejected)
    assert reported(durably(each, Received(B, Chosen(1, V1)))) == [EpochChosen(1, V1)]
    assert durably(each, Propose(2, V2)) == []


def test_after_the_founding_another_process_of_a_name_has_no_vote() -> None:
    each = machine(STORED_1, others=(B, B2, C))
    assert isinstance(durably(each, Received(B2, Prepare(2, ballots.number(1, B2))))[0], Rejected)
    assert told(durably(each, Received(B, Prepare(2, ballots.number(1, B)))))
    (prepare,) = {m for m in told(durably(each, Propose(2, V2)), C) if isinstance(m, Prepare)}
    assert told(durably(each, Received(B2, Promise(2, prepare.ballot, 0, b"")))) == []


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "message", "reason"),
    [
        (D, Prepare(1, ballots.number(1, D)), "not-a-voter"),
        (b"x" * 16, Accept(1, BALLOT_B, V1), "not-a-voter"),
        (B, Prepare(1, ballots.number(1, C)), "ballot"),
        (B, Prepare(1, 0), "ballot"),
        (B, Prepare(1, (1 << 63) - 1), "ballot"),
        (B, Outbid(1, (1 << 63) - 1), "ballot"),
        (B, Accept(1, BALLOT_B, b"rubbish"), "value"),
        (B, Accept(1, BALLOT_B, V2), "value"),
        (B, Chosen(1, b"rubbish"), "value"),
        (B, Chosen(7, b"rubbish"), "value"),
        (B, Chosen(0, V1), "history"),
    ],
)
def test_bad_input_is_rejected_and_changes_nothing(sender: NodeId, message: Message, reason: str) -> None:
    each = machine()
    (effect,) = durably(each, Received(sender, message))
    assert isinstance(effect, Rejected)
    assert effect.reason == reason
    assert each.epoch == 0
    assert told(durably(each, Received(C, Prepare(1, ballots.number(1, C))))) == [
        Promise(1, ballots.number(1, C), 0, b"")
    ]


def test_two_values_under_one_ballot_are_rejected() -> None:
    each = machine()
    durably(each, Received(B, Accept(1, BALLOT_B, V1)))
    (effect,) = durably(each, Received(B, Accept(1, BALLOT_B, OTHER)))
    assert isinstance(effect, Rejected)
    assert told(durably(each, Received(B, Accept(1, BALLOT_B, V1)))) == [Accepted(1, BALLOT_B)]


def test_a_second_history_is_rejected() -> None:
    each = machine(STORED_1)
    (effect,) = durably(each, Received(B, Chosen(1, OTHER)))
    assert isinstance(effect, Rejected)
    assert effect.reason == "history"
    assert durably(each, Received(B, Chosen(1, V1))) == []


def test_a_promise_with_a_rubbish_value_is_rejected() -> None:
    each = machine()
    ballot = proposing(each)
    (effect,) = durably(each, Received(B, Promise(1, ballot, 1, b"rubbish")))
    assert isinstance(effect, Rejected)
    assert told(durably(each, Received(C, Promise(1, ballot, 0, b""))), B) == [Accept(1, ballot, V1)]


counts = st.one_of(st.integers(0, 3), st.integers(0, (1 << 63) - 1), st.just(BALLOT_B), st.just(ballots.number(1, C)))
data = st.sampled_from([b"", b"rubbish", V1, V2, OTHER])
messages = st.one_of(
    st.builds(Prepare, counts, counts),
    st.builds(Promise, counts, counts, counts, data),
    st.builds(Accept, counts, counts, data),
    st.builds(Accepted, counts, counts),
    st.builds(Outbid, counts, counts),
    st.builds(Chosen, counts, data),
    st.builds(EpochKnown, counts, counts),
)
arrivals = st.builds(Received, st.sampled_from([A, B, B2, C, D]), messages)


@given(st.lists(st.one_of(arrivals, st.sampled_from([Propose(1, V1), Woke(), Persisted(KEEPER)])), max_size=30))
def test_no_message_of_the_grammar_raises(events: list[Any]) -> None:
    each = machine()
    for now, event in enumerate(events):
        effects = durably(each, event, now * 40)
        for effect in effects:
            assert not isinstance(effect, Send) or effect.to != A


# -- leaps, withdrawals, confirmations --------------------------------------------------------------------------------

V9 = value(9, "far", SEATS, b"whatever it was")
V10 = value(10, "on", SEATS, V9)


def test_who_was_away_for_long_leaps_and_its_former_vote_is_over() -> None:
    each = machine()
    disk = written(durably(each, Received(B, Accept(1, BALLOT_B, V1))))
    assert reported(durably(each, Received(B, Chosen(9, V9)))) == [EpochChosen(9, V9)]
    assert durably(each, Received(C, Accept(1, ballots.number(9, C), V1)))[0] == Send(C, Chosen(9, V9))
    assert told(durably(each, Received(B, Prepare(10, BALLOT_B)))) == [Promise(10, BALLOT_B, 0, b"")]
    disk |= {record_name(9): record(9, V9)}
    again = machine(disk)
    assert told(durably(again, Received(B, Prepare(10, BALLOT_B)))) == [Promise(10, BALLOT_B, 0, b"")]
    assert told(durably(again, Received(B, Accept(10, BALLOT_B, V10)))) == [Accepted(10, BALLOT_B)]


def test_a_leap_in_the_middle_of_a_ballot_ends_it() -> None:
    each = machine()
    ballot = proposing(each)
    durably(each, Received(B, Chosen(9, V9)))
    assert durably(each, Received(C, Promise(1, ballot, 0, b""))) == [Send(C, Chosen(9, V9))]
    assert [m for m in told(durably(each, Woke(), 5_000)) if isinstance(m, Prepare | Accept)] == []


def test_who_is_far_behind_is_told_the_newest_only() -> None:
    each = machine({record_name(epoch): record(epoch, of) for epoch, of in ((9, V9), (10, V10))})
    assert told(each.handle(Received(B, EpochKnown(3, 0)), 1), B) == [Chosen(10, V10)]
    assert told(each.handle(Received(B, EpochKnown(8, 0)), 1), B) == [Chosen(9, V9), Chosen(10, V10)]
    assert told(each.handle(Received(B, Prepare(2, BALLOT_B)), 1), B) == [Chosen(10, V10)]
    assert durably(each, Received(B, Chosen(2, V2))) == []  # forgotten: nothing to compare it with


def test_who_holds_an_epoch_or_a_newer_one_confirms_it_and_repeats_the_number() -> None:
    each = machine(STORED_2)
    assert told(each.handle(Received(B, EpochKnown(2, 77)), 1), B) == [EpochHeld(2, 77)]
    assert told(each.handle(Received(B, EpochKnown(1, 78)), 1), B) == [Chosen(2, V2), EpochHeld(2, 78)]
    assert told(each.handle(Received(B, EpochKnown(3, 79)), 1), B) == [EpochKnown(2, 0)]


def test_an_epoch_is_confirmed_only_once_it_is_durable() -> None:
    each = machine()
    each.handle(Received(B, Chosen(1, V1)), 1)
    assert told(each.handle(Received(B, EpochKnown(1, 77)), 2)) == []
    assert told(each.handle(Persisted(record_name(1)), 3)) == [EpochHeld(1, 77)]


def test_what_does_not_follow_is_neither_voted_for_nor_learnt() -> None:
    each = machine(STORED_1)
    stray = value(2, "stray", SEATS, OTHER)
    for message in (Accept(2, BALLOT_B, stray), Chosen(2, stray)):
        (effect,) = durably(each, Received(B, message))
        assert isinstance(effect, Rejected)
        assert effect.reason == "value"
    assert told(durably(each, Received(B, Accept(2, BALLOT_B, V2)))) == [Accepted(2, BALLOT_B)]


def test_a_withdrawn_wish_is_pushed_no_further() -> None:
    each = machine()
    ballot = proposing(each)
    durably(each, Withdraw(2))  # of another epoch
    assert Prepare(1, ballot) in told(durably(each, Woke(), 1 + RESEND))
    durably(each, Withdraw(1))
    assert durably(each, Received(B, Promise(1, ballot, 0, b""))) == []
    later = durably(each, Woke(), 60_000)
    assert [m for m in told(later) if isinstance(m, Prepare | Accept)] == []
    assert [m for m in told(durably(each, Propose(1, V1), 60_001)) if isinstance(m, Prepare)]
