"""How soon do members agree when one dies, joins or is cut off, and what does it cost? Every number, and what is asked.

    python -P tools/bench_membership.py                         all of it, about ten minutes
    python -P tools/bench_membership.py --only kill --kills 100 one part: kill, join, splits, deaths, crowd
    python -P tools/bench_membership.py --json                  one JSON object on stdout; the lines go to stderr
    python -P tools/bench_membership.py --only crowd --plot docs/membership.svg

`kill`, `join` and `splits` are real processes; `splits` are in network namespaces (root, iproute2). `deaths` and
`crowd` run the same membership classes on a made-up clock and network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.namespace_kit import why_not
from tools import stopwatch
from tools.chart import Line, Panel, chart
from tools.crowd import Crowd, convergence, false_deaths, traffic

Result = dict[str, Any]

SIZES = (5, 10, 25, 50, 100, 200)
HOLDS = (6.0, 15.0, 40.0)  # seconds; TCP repeats ever more rarely what nobody acknowledges


def centile(values: Sequence[float], part: float) -> float:
    """The smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-part * len(ordered) // 1) - 1))]


def spread(values: Sequence[float]) -> Result:
    return {
        "p50": round(statistics.median(values), 3),
        "p99": round(centile(values, 0.99), 3),
        "max": round(max(values), 3),
        "count": len(values),
    }


def kill(options: argparse.Namespace) -> Result:
    times = []
    for turn in range(options.kills):
        times.append(stopwatch.kill(turn))
        tell(f"kill {turn + 1}: {times[-1]:.3f} s")
    seconds = spread(times)
    tell(f"kill -9 of one of three, until the others are on the next partition: {shown(seconds)}")
    return {"asked": {"p50": 2.0, "p99": 5.0}, "network": "lan", "seconds": seconds}


def join(options: argparse.Namespace) -> Result:
    runs = [stopwatch.join() for _ in range(options.joins)]
    result: Result = {"asked": {"seconds": 1.5}}
    for name in runs[0]:
        result[name] = spread([run[name] for run in runs])
        tell(f"join of a fourth, until all slots are active with it, {name}: {shown(result[name])}")
    return result


def splits(options: argparse.Namespace) -> Result:
    if reason := why_not():
        tell(f"splits: skipped: {reason}")
        return {"skipped": reason}
    runs = [stopwatch.split(hold) for hold in HOLDS for _ in range(options.splits)]
    for run in runs:
        tell("split: " + ", ".join(f"{name} {value:.2f} s" for name, value in run.items()))
    result: Result = {"asked": {"minority_stops": 5.0, "one_table_after_healing": 10.0}, "held": list(HOLDS)}
    for name in [name for name in runs[0] if name != "held"]:
        result[name] = spread([run[name] for run in runs])
        tell(f"split, {name}: {shown(result[name])}")
    return result


def deaths(options: argparse.Namespace) -> Result:
    result: Result = {
        "asked": {"deaths": 0},
        "loss": 0.1,
        "delay_ms": "50 +- 30",
        "minutes": 10,
        "runs": options.worlds,
    }
    for size in (2, 3, 5, 9):
        total: Counter[str] = Counter()
        for seed in range(options.worlds):
            total.update(false_deaths(size, 10, seed))
        result[str(size)] = {name: total[name] for name in ("deaths", "suspicions", "messages")}
        tell(f"{size} members, {options.worlds} times 10 minutes at 10 % loss, 50 +- 30 ms: {result[str(size)]}")
    return result


def crowd(options: argparse.Namespace) -> Result:
    result: Result = {"asked": "messages per node and second independent of the members"}
    for size in SIZES:
        members, random = Crowd(size, seed=1, sized=True), Random(1)
        members.settle()
        quiet = traffic(members, options.seconds)
        times: dict[float, list[float]] = {}
        for members.loss in (0.0, 0.1):
            times[members.loss] = _known(convergence(members, options.rumours, random))
        result[str(size)] = {
            "messages_per_node_and_second": round(quiet["messages"], 2),
            "bytes_per_node_and_second": round(quiet["bytes"]),
            "convergence_ms": spread(times[0.0]),
            "convergence_ms_at_10_percent_loss": spread(times[0.1]),
        }
        tell(f"{size:3} members: {result[str(size)]}")
    if options.plot:
        Path(options.plot).write_text(plotted(result), encoding="utf-8")
    return result


def _known(times: Sequence[int | None]) -> list[float]:
    if None in times:
        raise SystemExit("a rumour did not reach everybody within a minute")
    return [float(each) for each in times if each is not None]


def plotted(result: Result) -> str:
    def line(label: str, *path: str) -> Line:
        return Line(label, [_at(result[str(size)], path) for size in SIZES])

    messages = line("LAN preset, nothing happens", "messages_per_node_and_second")
    medians = [line("no loss", "convergence_ms", "p50"), line("10 % loss", "convergence_ms_at_10_percent_loss", "p50")]
    return chart(
        [
            Panel("Messages a node sends in a second", "members", SIZES, [messages]),
            Panel("One rumour known to all: median, ms", "members", SIZES, medians),
        ]
    )


def _at(tree: Any, path: Sequence[str]) -> float:
    for name in path:
        tree = tree[name]
    return float(tree)


def shown(values: Result) -> str:
    return f"p50 {values['p50']} s, p99 {values['p99']} s, max {values['max']} s, of {values['count']}"


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "kill": kill,
    "join": join,
    "splits": splits,
    "deaths": deaths,
    "crowd": crowd,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="this part, and others that are named so")
    parser.add_argument("--kills", type=int, default=21)
    parser.add_argument("--joins", type=int, default=7)
    parser.add_argument("--splits", type=int, default=2, help=f"for each of the holding times {HOLDS}")
    parser.add_argument("--worlds", type=int, default=3, help="of ten made-up minutes, for each size")
    parser.add_argument("--rumours", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=20, help="made-up ones, in which messages are counted")
    parser.add_argument("--plot", metavar="FILE.svg")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = _options()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results = {name: PARTS[name](options) for name in options.only or PARTS}
    if options.json:
        print(json.dumps({"machine": machine, **results}))


if __name__ == "__main__":
    main()
