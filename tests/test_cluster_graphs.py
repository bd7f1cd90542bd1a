"""Applications of other shapes than a word count do on three nodes what they do in one process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.commands import ROOT, run_mesh

GRAPH = """\
from dataclasses import dataclass
from pathlib import Path

import mesh

output = mesh.param("output", default=None, kind=Path)


@dataclass
class Sums:
    count: int = 0
    total: int = 0

    def on_record(self, value: int) -> tuple[int, int] | None:
        self.count += 1
        self.total += value
        return (self.count, self.total) if self.count % 2 else None


def add(n, _):
    return n + 1


def largest(state, value):
    return max(state, value), None


app = mesh.App("graph")
ones = app.source("ones", mesh.items(range(3000), splits=5))
tens = app.source("tens", mesh.items(range(0, 30000, 10), splits=3))
nothing = app.source("nothing", mesh.items([]))
both = ones.merge(tens, nothing)

# a chain of seven stages, each fed by the one before it
chain = both.key_by(lambda n: n % 401).fold("level-1", int, add)
for level in range(2, 8):
    again = chain.items().key_by(lambda item, level=level: f"{item[0]}/{item[1]}"[-level:])
    chain = again.fold(f"level-{level}", int, add)
chain.to(mesh.jsonl(output))

# two stages of one stream, and one behind both
evens = both.filter(lambda n: n % 2 == 0).key_by(lambda n: n % 13)
sums = evens.stateful("sums", Sums)
top = both.key_by(lambda n: n % 11).stateful("largest", int, largest)
counts = ones.flat_map(lambda n: [n, None, -n]).key_by(lambda n: n.to_bytes(4, signed=True)).fold("signed", int, add)
counts.items().map(lambda item: ["signed", item[0].hex(), item[1]]).to(mesh.jsonl(output))
"""


def lines_of(folder: Path) -> Counter[str]:
    """Whatever node wrote them, in whatever order."""
    return Counter(line for part in folder.glob("*.jsonl") for line in part.read_text(encoding="utf-8").splitlines())


def test_a_deep_graph_with_several_sources_and_sinks(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(GRAPH, encoding="utf-8")
    lines, summaries = [], []
    for nodes in ("1", "3"):
        arguments = ["run", "graph.py", "--nodes", nodes, "--set", f"output=out-{nodes}", "--json"]
        ended = run_mesh(*arguments, cwd=tmp_path)
        assert ended.code == 0, ended.err
        lines.append(lines_of(tmp_path / f"out-{nodes}"))
        summary = json.loads(ended.out)
        summaries.append([summary[name] for name in ("records_in", "records_keyed", "records_out", "keys")])
    assert lines[0].total() > 10_000
    assert lines[0] == lines[1]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("name", ["word_count_by_letter", "stock_prices"])
def test_an_example_writes_the_same_on_one_node_and_on_three(tmp_path: Path, name: str) -> None:
    (tmp_path / "book.txt").write_text("".join(f"the {n % 97} of {n % 7} words\n" for n in range(5_000)))
    example = str(ROOT / "examples" / f"{name}.py")
    sets = ["--set", "input=book.txt"] * name.startswith("word")
    keyed = []
    for nodes in ("1", "3"):
        ended = run_mesh(
            *("run", example, "--nodes", nodes, *sets, "--set", f"output=out-{nodes}", "--json"), cwd=tmp_path
        )
        assert ended.code == 0, ended.err
        keyed.append(json.loads(ended.out)["records_keyed"])
    assert keyed[0] == keyed[1] > 5_000
    one, three = lines_of(tmp_path / "out-1"), lines_of(tmp_path / "out-3")
    if name != "stock_prices":
        assert one == three
        return
    assert one.total() == three.total()  # the price that is last depends on which split is read when
    assert highest(one) == highest(three)


def highest(lines: Counter[str]) -> dict[str, float]:
    prices: dict[str, float] = {}
    for line in lines:
        symbol, price = json.loads(line)
        prices[symbol] = max(prices.get(symbol, 0.0), price["highest"])
    return prices


def test_the_example_that_prints_prints_the_same_mails_on_three_nodes(tmp_path: Path) -> None:
    example = str(ROOT / "examples/new_customers.py")
    told = []
    for nodes in ("1", "3"):
        ended = run_mesh("run", example, "--nodes", nodes, cwd=tmp_path)
        assert ended.code == 0, ended.err
        told.append(Counter(json.loads(line)["to"] for line in ended.out.splitlines()))
    assert told[0] == told[1]
    assert told[0].total() == len(told[0]) > 20
