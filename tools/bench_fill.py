"""What repair costs those who use the cluster: one of three nodes dies, and the others fill new copies of its slots.

    python -P tools/bench_fill.py              two copies, a million keys
    python -P tools/bench_fill.py --json       one JSON object on stdout; the lines go to stderr

Producers and clients are those of `tools/load.py`, at the two nodes that stay, at full speed all the time. Told are
records a second, waits of clients, and cores in use, before the death, while copies are filled (from the moment at
which all slots are written again until the last one has two copies), and when that is over. Asked is that two nodes do
at least 80 % while they fill of what the same two do afterwards. As long as a slot lacks its second copy nobody waits
for that one, and it is sent nothing: what a fill takes is in truth a little more than this says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster_kit import cluster, eventually
from tools.bench_membership import tell
from tools.load import EXAMPLE, Look, Result, is_level, under_load

NAMES = ("alpha", "beta", "gamma")
VICTIM = "gamma"
BEFORE = 5.0  # seconds that are measured
AFTER = 10.0


def fill(keys: int) -> Result:
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), *NAMES, app=EXAMPLE, copies=2) as made,
    ):
        made.start()
        made.until_ready()
        eventually(lambda: is_level(made["alpha"].status(), 2), "every slot has its copies")
        with under_load(made, NAMES[:2], keys, 0.0, [f"probe-{number}" for number in range(400)]) as work:
            time.sleep(BEFORE)
            begun = time.perf_counter()
            made[VICTIM].kill()
            written = work.looks.until(_all_are_written, "all slots are somebody's", 30.0)
            filled = work.looks.until(lambda look: look.has_copies(2), "all slots have two copies", 120.0)
            time.sleep(AFTER)
    phases = {"before": (begun - BEFORE, begun), "filling": (written, filled), "after": (filled, filled + AFTER)}
    result: Result = {"keys": keys, "written_again": round(written - begun, 1), "seconds": round(filled - written, 1)}
    for name, (start, end) in phases.items():
        result[name] = work.looks.over(start, end) | work.waited(start, end)
    result["foreground"] = round(result["filling"]["records_per_second"] / result["after"]["records_per_second"], 2)
    _show(result | {"by_second": work.looks.by_second()}, phases)
    return result


def _all_are_written(look: Look) -> bool:
    owned = {node["name"]: node["slots"] for node in look.status["nodes"]}
    return not look.pending() and not owned.get(VICTIM)


def _show(result: Result, phases: Result) -> None:
    tell(
        f"{result['keys']:,} keys: written again after {result['written_again']} s, filled {result['seconds']} s "
        f"later; the foreground kept {result['foreground']:.0%} (asked: 80%)"
    )
    for name in phases:
        tell(f"  {name}: " + ", ".join(f"{what} {each}" for what, each in result[name].items()))
    tell(f"  by second: {result['by_second']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results = [fill(options.keys) for _ in range(options.runs)]
    if options.json:
        print(json.dumps({"machine": machine, "asked": {"foreground": 0.8}, "results": results}))


if __name__ == "__main__":
    main()
