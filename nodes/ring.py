"""The picture of the partition: the hash interval as a bar in the nodes' colours, and who has how much of it.

It must be readable in 80 columns, and without colour too: then each node's part is filled with the node's letter.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nodes.tables import moving_lines

COLOURS = ("cyan", "magenta", "yellow", "green", "bright_blue", "bright_magenta", "bright_cyan", "bright_green")
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
FILL_OF_STATE = {"pending": ".", "unavailable": "?", "lost": "!"}  # "active" is filled with the owner's letter
TICKS = ("0", "2^30", "2^31", "3*2^30", "2^32")
ROWS = 3
MAX_RANGES = 8  # of slots that are not active; those that move are many small ones
MAX_INTERVALS = 1  # shown of one node; a joiner has many small ones


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring slots of one owner."""

    first: int
    last: int
    owner: str
    state: str

    @property
    def slots(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One character of the bar."""

    owner: str
    state: str


def picture(ring: Mapping[str, Any], status: Mapping[str, Any], *, width: int, colours: bool) -> RenderableType:
    """From the bodies of /v1/ring and /v1/status."""
    runs = [Run(run["first"], run["last"], run["owner"], run["state"]) for run in ring["runs"]]
    total = int(ring["total"])
    title = Text(f"{ring['cluster']}: epoch {ring['epoch']}, {total} slots")
    if not runs:
        return Group(title, Text("there is no partition yet"))
    names = [node["name"] for node in status["nodes"]]
    names += sorted({run.owner for run in runs} - set(names))
    bar = _bar(cells(runs, total, width), names, colours)
    table = _table(runs, total, names, status, colours)
    return Group(title, _scale(width), *bar, Text(), table, *_troubles(runs), *moving_lines(ring.get("moving")))


def cells(runs: Sequence[Run], total: int, width: int) -> list[Cell]:
    """For each character, the slot in its middle."""
    bar = []
    at = 0
    for column in range(width):
        slot = (2 * column + 1) * total // (2 * width)
        while runs[at].last < slot and at + 1 < len(runs):
            at += 1
        bar.append(Cell(runs[at].owner, runs[at].state))
    return bar


def _scale(width: int) -> Text:
    line = [" "] * width
    for number, tick in enumerate(TICKS):
        middle = number * width // (len(TICKS) - 1)
        start = min(max(0, middle - len(tick) // 2), width - len(tick))
        line[start : start + len(tick)] = tick
    return Text("".join(line))


def _bar(bar: Sequence[Cell], names: Sequence[str], colours: bool) -> list[Text]:
    return [_row(bar, names, colours, named=row == ROWS // 2) for row in range(ROWS)]


def _row(bar: Sequence[Cell], names: Sequence[str], colours: bool, *, named: bool) -> Text:
    text = Text(no_wrap=True)
    start = 0
    for column in range(1, len(bar) + 1):
        if column == len(bar) or bar[column] != bar[start]:
            width = column - start
            fill = _fill(bar[start], names, colours)
            label = f" {bar[start].owner} " if named and width >= len(bar[start].owner) + 4 else ""
            text.append(label.center(width, fill), _style(bar[start], names) if colours else "")
            start = column
    return text


def _fill(cell: Cell, names: Sequence[str], colours: bool) -> str:
    return FILL_OF_STATE.get(cell.state) or (" " if colours else _letter(cell.owner, names))


def _letter(name: str, names: Sequence[str]) -> str:
    return LETTERS[names.index(name) % len(LETTERS)]


def _colour(name: str, names: Sequence[str]) -> str:
    return COLOURS[names.index(name) % len(COLOURS)]


def _style(cell: Cell, names: Sequence[str]) -> str:
    if cell.state in ("unavailable", "lost"):
        return "white on red"
    return f"black on {_colour(cell.owner, names)}"


def _table(
    runs: Sequence[Run], total: int, names: Sequence[str], status: Mapping[str, Any], colours: bool
) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "node"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    backups = {node["name"]: node["backups"] for node in status["nodes"]}
    with_backups = any(backups.values())
    for heading in ("share", "slots", "runs", *["backups"] * with_backups, "keys"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("hash interval", no_wrap=True, overflow="ellipsis")
    keys = {node["name"]: node["keys"] for node in status["nodes"]}
    for name in names:
        own = [run for run in runs if run.owner == name]
        slots = sum(run.slots for run in own)
        mark = Text("██" if colours else _letter(name, names), _colour(name, names))
        counts = [f"{slots * 100 / total:.1f}%", str(slots), str(len(own))]
        counts += [str(backups.get(name, 0))] * with_backups + [f"{keys.get(name, 0):,}"]
        table.add_row(mark, Text(name), *counts, _intervals(own, total))
    return table


def _intervals(runs: Sequence[Run], total: int) -> str:
    width = (1 << 32) // total
    shown = [f"{run.first * width:08x}-{(run.last + 1) * width - 1:08x}" for run in runs[:MAX_INTERVALS]]
    more = [f"and {len(runs) - MAX_INTERVALS} more"] if len(runs) > MAX_INTERVALS else []
    return " ".join(shown + more)


def _troubles(runs: Sequence[Run]) -> list[Text]:
    lines = []
    for state, fill in FILL_OF_STATE.items():
        slots = sum(run.slots for run in runs if run.state == state)
        if slots:
            lines.append(Text(f"{fill} {slots} slots are {state}: {ranges([r for r in runs if r.state == state])}"))
    return lines


def ranges(runs: Sequence[Run]) -> str:
    """Slots as a person writes them: 0-341, 1000."""
    shown = [f"{run.first}-{run.last}" if run.slots > 1 else str(run.first) for run in runs[:MAX_RANGES]]
    return ", ".join(shown) + (f" and {len(runs) - MAX_RANGES} more" if len(runs) > MAX_RANGES else "")
