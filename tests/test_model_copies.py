"""The model of the copies' life: what it finds, and that it goes by the rules that the tables go by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.core.slot import ACTIVE, PENDING, Slot
from mesh.core.succession import fault
from mesh.core.table import Seat, Table
from tools.model_copies import RULES, SCOPES, Config, Model, State, search

SEATS = tuple(Seat(name, name.encode() * 16, f"tcp://{name}:1", "", "worker", "", True) for name in "ABC")
QUICK = [  # the others take longer than a test should
    "ask the promoted", "another process", "refuse the deposed", "promote members", "claims of this term", "name all",
    "keep while PENDING", "wait for who is filled", "say that it knows",
]  # fmt: skip


@pytest.mark.parametrize("rule", QUICK)
def test_without_a_rule_something_is_lost(rule: str) -> None:
    names, entries, most, chain, late, ends, held = SCOPES[RULES[rule][1]]
    without = Model(names, entries, min(most, 4), rule)
    found, _, steps = search(without, without.start(chain, late, ends, held), 40_000)
    assert found
    assert steps


def test_with_all_rules_nothing_is_lost_between_two() -> None:
    names, entries, _, chain, late, ends, held = SCOPES["two copies"]
    whole = Model(names, entries, 4, "")
    assert search(whole, whole.start(chain, late, ends, held), 40_000)[0] == ""


def as_slot(config: Config) -> Slot:
    place = {seat.name: number for number, seat in enumerate(SEATS)}
    status = ACTIVE if config.status == "ACTIVE" else PENDING
    backups = tuple(sorted(place[name] for name in config.backups))
    return Slot(
        config.term,
        place[config.owner],
        backups,
        status,
        place.get(config.donor),
        config.since,
        place.get(config.joining),
        tuple(sorted(place[name] for name in config.parting)),
    )


@pytest.mark.parametrize("scope", ["two copies", "three copies"])
def test_whatever_the_model_agrees_on_follows_by_succession(scope: str) -> None:
    names, entries, most, chain, late, _, held = SCOPES[scope]
    copies = 3 if scope == "three copies" else 2
    whole = Model(names, entries, most, "", copies=copies)
    waiting = [whole.start(chain, late, 0, held)]
    seen: dict[State, None] = {}
    steps: dict[tuple[Config, Config], None] = {}
    while waiting and len(seen) < 10_000:
        state = waiting.pop()
        for _, new in whole.steps(state):
            steps[state.chain[-1], new.chain[-1]] = None
            if new not in seen:
                seen[new] = None
                waiting.append(new)
    changes = [(before, after) for before, after in steps if before != after]
    assert len(changes) > 8
    for before, after in changes:
        old = Table(5, b"c" * 16, SEATS, (as_slot(before),), copies=copies)
        following = Table(6, b"c" * 16, SEATS, (as_slot(after),), copies=copies)
        following.invariants()
        assert fault(old, following) is None


# -- with disks

RETURNS = "two copies, and somebody returns"


def durable(rule: str = "", copies: int = 1) -> tuple[Model, State]:
    """With one copy wanted, who is left out goes at once: there is less to search."""
    names, entries, _, chain, late, ends, held = SCOPES[RETURNS]
    model = Model(names, entries, 4, rule, durable=True, copies=copies)
    return model, model.start(chain, late, ends, held)


def test_who_returns_and_goes_on_at_the_old_term_loses_something() -> None:
    found, _, steps = search(*durable("returned rest"), 40_000)
    assert "lacks ['p'], which was committed" in found
    assert any("ends, and returns" in step for step in steps)


def test_with_all_rules_nothing_is_lost_when_somebody_returns() -> None:
    assert search(*durable(), 60_000)[0] == ""


def of_lives(config: Config, epoch: int) -> Table:
    seats = (
        replace(seat, node=bytes([config.life(seat.name)]) + seat.node[1:], boot=1 + config.life(seat.name))
        for seat in (replace(each, home=each.node) for each in SEATS)
    )
    return Table(epoch, b"c" * 16, tuple(seats), (as_slot(config),), copies=2, durable=True)


def test_whatever_the_model_agrees_on_when_somebody_returns_follows_by_succession() -> None:
    whole, start = durable(copies=2)
    waiting, seen = [start], {start: None}
    steps: dict[tuple[Config, Config], None] = {}
    while waiting and len(seen) < 10_000:
        state = waiting.pop()
        for _, new in whole.steps(state):
            steps[state.chain[-1], new.chain[-1]] = None
            if new not in seen:
                seen[new] = None
                waiting.append(new)
    returns = [(before, after) for before, after in steps if before.lives != after.lives]
    assert len(returns) > 8
    for before, after in steps:
        if before != after:
            assert fault(of_lives(before, 5), of_lives(after, 6)) is None, (before, after)
