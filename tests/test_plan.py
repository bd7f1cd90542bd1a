"""Numbers, levels, names and the fingerprint of a compiled app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mesh
from mesh.app.plan import Plan, compile


@dataclass
class Tally:
    count: int = 0

    def on_record(self, record: object) -> int | None:
        self.count += 1
        return self.count if self.count > 1 else None


def count(n: int, _: object) -> int:
    return n + 1


def diamond(name: str = "diamond", deep: str = "deep", factor: int = 1) -> mesh.App:
    """Two sources; `deep` is written first but fed by `left`, which is fed by `right`."""
    app = mesh.App(name)
    one = app.source("one", mesh.items(["a"]))
    two = app.source("two", mesh.items(["b"]))
    right = one.merge(two).key_by(lambda x: x * factor).fold("right", int, count)
    left = right.stateful("left", Tally)
    left.values().map(str).merge(one).key_by(lambda x: x).stateful(deep, int, lambda n, _: (n, None))
    two.key_by(len).fold("side", int, count).to(mesh.stdout())
    left.to(mesh.stdout())
    one.to(mesh.stdout())
    return app


def test_stages_are_numbered_by_level_and_then_as_they_were_written() -> None:
    plan = compile(diamond())
    assert [(stage.name, stage.index, stage.level) for stage in plan.stages] == [
        ("right", 0, 1),
        ("side", 1, 1),
        ("left", 2, 2),
        ("deep", 3, 3),
    ]
    assert plan.levels == 3
    assert [stage.kind for stage in plan.stages] == ["fold", "fold", "class", "step"]


def test_fragments_name_what_they_feed() -> None:
    plan = compile(diamond())
    assert [(source.name, source.fragment.stages, source.fragment.sinks) for source in plan.sources] == [
        ("one", (0, 3), (2,)),
        ("two", (0, 1), ()),
    ]
    assert [(stage.fragment.stages, stage.fragment.sinks) for stage in plan.stages] == [
        ((2,), ()),
        ((), (0,)),
        ((3,), (1,)),
        ((), ()),
    ]
    assert [stage.fragment.empty for stage in plan.stages] == [False, False, False, True]


def test_sinks_are_named_after_what_feeds_them() -> None:
    app = mesh.App("app")
    lines = app.source("lines", mesh.items([""]))
    lines.to(mesh.stdout())
    lines.map(len).to(mesh.stdout())
    lines.key_by(len).fold("count", int, count).to(mesh.stdout())
    plan = compile(app)
    assert [(sink.index, sink.name, sink.keyed) for sink in plan.sinks] == [
        (0, "lines", False),
        (1, "lines-2", False),
        (2, "count", True),
    ]


def test_a_stage_knows_how_its_state_begins_and_goes_on() -> None:
    stages = {stage.name: stage for stage in compile(diamond()).stages}
    assert stages["right"].new() == 0
    assert stages["right"].step(2, "x") == 3
    assert stages["deep"].step(2, "x") == (2, None)
    tally = stages["left"].new()
    assert [stages["left"].step(tally, "x") for _ in range(3)] == [None, 2, 3]
    assert tally == Tally(3)


def test_a_stage_is_found_by_its_name() -> None:
    plan = compile(diamond())
    assert plan.stage("left") is plan.stages[2]
    assert plan.stage("lfet") is None


def test_the_fingerprint_is_of_the_shape_and_of_nothing_else() -> None:
    same = compile(diamond()).fingerprint
    assert compile(diamond(factor=2)).fingerprint == same
    assert len(same) == 12
    assert compile(diamond(name="other")).fingerprint != same
    assert compile(diamond(deep="deeper")).fingerprint != same
    more = diamond()
    more.source("three", mesh.items([1])).to(mesh.stdout())
    assert compile(more).fingerprint != same


def test_the_fingerprint_tells_a_fold_from_a_step_and_one_edge_from_another() -> None:
    def plan(kind: str, source: int) -> Plan:
        app = mesh.App("app")
        streams = [app.source("a", mesh.items([""])), app.source("b", mesh.items([""]))]
        streams[1 - source].to(mesh.stdout())
        keyed: Any = streams[source].key_by(len)
        keyed.fold("s", int, count) if kind == "fold" else keyed.stateful("s", int, lambda n, _: (n, None))
        return compile(app)

    plans = [plan("fold", 0), plan("step", 0), plan("fold", 1)]
    assert len({each.fingerprint for each in plans}) == 3


def test_a_sink_that_discards_makes_no_work(tmp_path: Path) -> None:
    output = mesh.param("output", default=None, kind=Path)
    app = mesh.App("app")
    counts = app.source("lines", mesh.items([""])).key_by(len).fold("count", int, count)
    counts.items().map(str).to(mesh.jsonl(output))
    silent = compile(app)
    assert silent.stages[0].fragment.empty
    assert silent.sinks[0].discards
    assert compile(app, all_sinks=True).stages[0].fragment.sinks == (0,)
    app.set_params({"output": tmp_path})
    speaking = compile(app)
    assert not speaking.stages[0].fragment.empty
    assert not speaking.sinks[0].discards
    assert speaking.fingerprint == silent.fingerprint


def test_an_app_with_mistakes_is_not_compiled() -> None:
    with pytest.raises(mesh.AppError):
        compile(mesh.App("empty"))
