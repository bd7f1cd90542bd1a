"""Slots that are unavailable, and who could bring them back: what an operator may give up, in a durable cluster, by
naming the nodes whose directories are gone for good.

A slot is given up if all that may have its state are named; while one is up, or is not named, it is not. Nobody is
taken for gone because it is away: names come from a person. Pure functions of the newest table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mesh.core.slot import Slot
from mesh.core.table import Table
from mesh.runtime.status import GivenUp, Waiting


def waiting(table: Table) -> tuple[Waiting, ...]:
    """By who could bring them back, in order of the first slot."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number in _unavailable(table):
        groups.setdefault(_keepers(table, table.slots[number]), []).append(number)
    return tuple(Waiting(len(slots), in_words(slots), names) for names, slots in groups.items())


def given_up(table: Table, gone: Collection[str]) -> tuple[GivenUp, tuple[int, ...]]:
    """The answer, and the slots."""
    refused = _refusal(table, gone)
    if refused is not None:
        return refused, ()
    slots = tuple(
        each for each in _unavailable(table) if all(name in gone for name in _keepers(table, table.slots[each]))
    )
    return GivenUp(len(slots)), slots


def _refusal(table: Table, gone: Collection[str]) -> GivenUp | None:
    if not table.durable:
        return GivenUp(0, "in-memory")
    for name in gone:
        seat = table.seat_named(name)
        if seat is None or seat.up:
            return GivenUp(0, "unknown" if seat is None else "up", name)
    return None


def _unavailable(table: Table) -> list[int]:
    return [number for number in range(len(table)) if table.state_of(number) == "unavailable"]


def _keepers(table: Table, slot: Slot) -> tuple[str, ...]:
    """Whose directories have its state."""
    return tuple(sorted(table.members[place].name for place in slot.members))


def in_words(slots: Sequence[int]) -> str:
    """Ascending numbers as a person writes them: "0-341, 900"."""
    runs: list[list[int]] = []
    for slot in slots:
        if runs and slot == runs[-1][1] + 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in runs)
