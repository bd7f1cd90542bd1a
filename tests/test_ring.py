"""The picture of the partition can be read in 80 columns, with colour and without."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from nodes.ring import Run, cells, picture, ranges
from nodes.tables import owner_lines, status_table
from tests.served import RING, STATUS

STATUS_BODY: dict[str, Any] = dataclasses.asdict(STATUS)
RING_BODY: dict[str, Any] = {
    "cluster": "local-3",
    "epoch": 1,
    "total": 1024,
    "runs": [dataclasses.asdict(run) for run in RING],
}


def drawn(shown: RenderableType, *, colours: bool = False, width: int = 80) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        no_color=not colours,
        force_terminal=colours,
        color_system="standard" if colours else None,
    )
    console.print(shown)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_ring_without_colour() -> None:
    assert drawn(picture(RING_BODY, STATUS_BODY, width=60, colours=False)) == [
        "local-3: epoch 1, 1024 slots",
        "0            2^30           2^31          3*2^30        2^32",
        "AAAAAAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBBBBB????????????????????",
        "AAAAAA alpha AAAAAAABBBBBBB beta BBBBBBB?????? gamma ???????",
        "AAAAAAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBBBBB????????????????????",
        "",
        "   node   share  slots  runs    keys  hash interval",
        "A  alpha  33.4%    342     1  41,203  00000000-557fffff",
        "B  beta   33.3%    341     1  40,000  55800000-aabfffff",
        "C  gamma  33.3%    341     1  39,999  aac00000-ffffffff",
        "? 341 slots are unavailable: 683-1023",
    ]


def test_the_ring_of_slots_with_copies_says_how_many_each_node_backs_up() -> None:
    nodes = [node | {"backups": 300 + place} for place, node in enumerate(STATUS_BODY["nodes"])]
    lines = drawn(picture(RING_BODY, STATUS_BODY | {"nodes": nodes}, width=60, colours=False), width=80)
    assert lines[6:8] == [
        "   node   share  slots  runs  backups    keys  hash interval",
        "A  alpha  33.4%    342     1      300  41,203  00000000-557fffff",
    ]


def test_the_ring_in_colour_names_nodes_in_their_colours() -> None:
    lines = drawn(picture(RING_BODY, STATUS_BODY, width=78, colours=True), colours=True)
    named = next(line for line in lines if " alpha " in line)
    assert "\x1b[30;46m" in named  # black on cyan
    assert "\x1b[30;45m" in named  # black on magenta
    assert "\x1b[37;41m" in named  # white on red: unavailable
    assert any(line.startswith("\x1b[36m██") and "alpha" in line for line in lines)


def test_a_ring_that_is_not_there_yet() -> None:
    shown = picture({"cluster": "c", "epoch": 0, "total": 8, "runs": []}, STATUS_BODY, width=60, colours=False)
    assert drawn(shown) == ["c: epoch 0, 8 slots", "there is no partition yet"]


def test_many_small_runs_of_one_node_are_summed_up() -> None:
    runs = [{"first": i, "last": i, "owner": "ab"[i % 2], "state": "active"} for i in range(8)]
    body = {"cluster": "c", "epoch": 4, "total": 8, "runs": runs}
    lines = drawn(picture(body, {"nodes": []}, width=40, colours=False))
    assert lines[2] == "AAAAABBBBB" * 4
    assert lines[-2] == "A  a     50.0%      4     4     0  00000000-1fffffff and 3 more"
    assert all(len(line) <= 80 for line in lines)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 200))
def test_the_bar_shows_each_node_as_wide_as_its_share(sizes: list[int], width: int) -> None:
    runs, total = [], 0
    for number, size in enumerate(sizes):
        runs.append(Run(total, total + size - 1, f"n{number}", "active"))
        total += size
    bar = cells(runs, total, width)
    assert len(bar) == width
    for run in runs:
        shown = sum(cell.owner == run.owner for cell in bar)
        assert abs(shown - run.slots * width / total) <= 1


def test_slots_are_named_as_ranges() -> None:
    assert ranges([Run(0, 341, "a", ""), Run(1000, 1000, "a", "")]) == "0-341, 1000"


def test_many_slots_that_are_not_active_are_cut_short() -> None:
    assert ranges([Run(slot, slot, "a", "") for slot in range(0, 20, 2)]) == "0, 2, 4, 6, 8, 10, 12, 14 and 2 more"


def test_slots_that_move_are_drawn_with_who_hands_them_to_whom() -> None:
    runs = [
        {"first": 0, "last": 511, "owner": "alpha", "state": "active", "donor": ""},
        {"first": 512, "last": 1023, "owner": "beta", "state": "pending", "donor": "alpha"},
    ]
    moving = {"arrived": 100, "total": 612, "transfers": [{"donor": "alpha", "owner": "beta", "slots": 512}]}
    body = RING_BODY | {"runs": runs, "moving": moving}
    lines = drawn(picture(body, STATUS_BODY, width=60, colours=False))
    assert lines[2] == "A" * 30 + "." * 30
    assert lines[-3:] == [
        ". 512 slots are pending: 512-1023",
        "moving: 100 of 612 slots have arrived",
        "  alpha -> beta: 512 slots on their way",
    ]


def test_the_status_table_says_what_moves_and_why_the_node_is_not_ready() -> None:
    moving = {"arrived": 1, "total": 90, "transfers": [{"donor": "a", "owner": f"n{n}", "slots": 1} for n in range(15)]}
    lines = drawn(status_table({**STATUS_BODY, "ready": False}, "of its 342 slots, 5 pending", moving))
    assert lines[:2] == [
        "local-3: epoch 1, app word-count, not ready",
        "alpha is not ready: of its 342 slots, 5 pending",
    ]
    assert lines[-2:] == ["  a -> n11: 1 slots on their way", "  and 3 more"]


def test_a_source_without_splits_has_records_only() -> None:
    source = {"name": "events", "splits": 0, "done": 0, "records": 1234}
    assert drawn(status_table({**STATUS_BODY, "sources": [source]}))[-1] == "source events: 1,234 records"


def test_the_status_table_in_80_columns() -> None:
    assert drawn(status_table(STATUS_BODY)) == [
        "local-3: epoch 1, app word-count, ready",
        "node     state    role    slots    keys  endpoint              http",
        "alpha *  alive    worker    342  41,203  tcp://127.0.0.1:7401  127.0.0.1:7480",
        "beta     suspect  worker    341  40,000  tcp://127.0.0.1:7402  127.0.0.1:7481",
        "gamma    dead     worker    341  39,999  tcp://127.0.0.1:7403  127.0.0.1:7482",
        "slots: 683 active, 341 unavailable, of 1024",
        "source lines: 7 of 12 splits read, 1,234,567 records",
    ]


def test_a_cluster_that_is_not_founded_yet() -> None:
    body = {**STATUS_BODY, "ready": False, "epoch": 0, "slots": dict.fromkeys(STATUS_BODY["slots"], 0) | {"total": 8}}
    lines = drawn(status_table(body))
    assert lines[0] == "local-3: epoch 0, app word-count, not ready"
    assert lines[-2] == "slots: not assigned yet, of 8"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_long_names_do_not_break_the_tables(width: int) -> None:
    long = "a-node-with-a-name-that-has-sixty-four-characters-which-is-the-mo"
    nodes = [{**STATUS_BODY["nodes"][0], "name": long}]
    ring = {**RING_BODY, "runs": [{"first": 0, "last": 1023, "owner": long, "state": "active"}]}
    for shown in (
        status_table({**STATUS_BODY, "nodes": nodes}),
        picture(ring, {**STATUS_BODY, "nodes": nodes}, width=78, colours=False),
    ):
        assert all(len(line) <= width for line in drawn(shown, width=width))


def test_an_owner_in_lines() -> None:
    body = {"owner": "beta", "interval": [0, 1 << 22], "slot": 0, "hash": 255, "term": 1, "epoch": 2, "backups": ["a"]}
    assert owner_lines(body) == [
        "owner     beta",
        "slot      0  (hash 000000ff in 00000000-003fffff)",
        "term      1  (epoch 2)",
        "backups   a",
    ]
