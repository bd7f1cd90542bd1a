"""What a join costs those who use the cluster: a third node joins two that work, and clients say what they waited for.

    python -P tools/bench_join.py                         two copies and one, at full load and at half of it
    python -P tools/bench_join.py --copies 2 --load 1.0   one of these
    python -P tools/bench_join.py --json                  one JSON object on stdout; the lines go to stderr

Producers and clients are those of `tools/load.py`. Half of the clients' keys are of slots that will move, which is
known beforehand as levelling is a pure function, but for one slot: a share that is left over goes to who has most when
it is asked again, on the way.

Told, for the time before, during and after the join: p50, p99 and the longest wait of both kinds of keys, records a
second, and cores in use by process. A slot is handed over in a small part of the join, so what its keys wait for is
also told for that part alone (`handed over`): from the first to the last moment at which a slot was seen pending.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.core.keys import slot_of_key
from mesh.core.rebalance import rebalance
from tests.cluster_kit import Cluster, NodeProcess, cluster, eventually
from tools.bench_membership import tell
from tools.load import EXAMPLE, SLOTS, Look, Result, is_level, under_load

QUIET = 5.0  # seconds that are measured before, and after


def join(copies: int, load: float, keys: int, full: float = 0.0) -> Result:
    """`load`: a part of `full` records a second; 1: as many as go."""
    pace = 0.0 if load == 1 else load * full
    with _cluster(copies) as made:
        probes = _probes(made)
        mixed = [key for pair in zip(*map(sorted, probes.values()), strict=True) for key in pair]
        with under_load(made, made.names, keys, pace, mixed) as work:
            time.sleep(QUIET)
            before = _owners(made["alpha"])
            begun = time.perf_counter()
            made.join("delta", "alpha")
            ended = work.looks.until(lambda look: _has_joined(look, copies), "the third has its share", 170.0)
            time.sleep(QUIET)
            after = _owners(made["alpha"])
    moved = {slot for slot in range(SLOTS) if before[slot] != after[slot]}
    stayed = {slot_of_key(key, 0, SLOTS) for key in probes["moving"]} - moved
    assert len(stayed) <= SLOTS % 3, (
        f"somebody else came or went meanwhile: {len(stayed)} slots that should move did not"
    )
    probes = {
        "moving": {key for key in mixed if slot_of_key(key, 0, SLOTS) in moved},
        "staying": {key for key in mixed if slot_of_key(key, 0, SLOTS) not in moved},
    }
    phases = {"before": (begun - QUIET, begun), "during": (begun, ended), "after": (ended, ended + QUIET)}
    phases["handed over"] = work.looks.handed_over()
    result: Result = {"copies": copies, "load": load, "keys": keys, "seconds": round(ended - begun, 1)}
    result["moved"] = round(len(moved) / SLOTS, 3)
    result["by_second"] = work.looks.by_second()
    for name, (start, end) in phases.items():
        result[name] = work.looks.over(start, end) if end else {}
        for kind, chosen in probes.items():
            result[name][kind] = work.waited(start, end, chosen)
    result["foreground"] = round(result["during"]["records_per_second"] / result["before"]["records_per_second"], 2)
    _show(result)
    return result


def _has_joined(look: Look, copies: int) -> bool:
    return len(look.status["nodes"]) == 3 and not look.pending() and is_level(look.status, copies)


def _show(result: Result) -> None:
    tell(
        f"copies {result['copies']}, load {result['load']}, {result['keys']:,} keys: the join took "
        f"{result['seconds']} s, moved {result['moved']}, the foreground kept {result['foreground']:.0%}"
    )
    for name in ("before", "during", "handed over", "after"):
        tell(f"  {name}: " + ", ".join(f"{what} {each}" for what, each in result[name].items()))
    tell(f"  by second: {result['by_second']}")


@contextmanager
def _cluster(copies: int) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), "alpha", "beta", app=EXAMPLE, copies=copies) as made,
    ):
        made.start()
        made.until_ready()
        eventually(lambda: is_level(made["alpha"].status(), copies), "every slot has its copies")
        yield made


def _probes(made: Cluster) -> dict[str, set[str]]:
    """Keys whose slots will move, and as many whose slots will not."""
    owners = _owners(made["alpha"])
    target = rebalance(owners, [*made.names, "delta"])
    moves = {slot for slot in range(SLOTS) if owners[slot] != target[slot]}
    found: dict[str, set[str]] = {"moving": set(), "staying": set()}
    number = 0
    while any(len(each) < 200 for each in found.values()):
        key, number = f"probe-{number}", number + 1
        kind = found["moving" if slot_of_key(key, 0, SLOTS) in moves else "staying"]
        if len(kind) < 200:
            kind.add(key)
    return found


def _owners(node: NodeProcess) -> list[str]:
    owners = [""] * SLOTS
    for run in node.get("/v1/ring").body["runs"]:
        owners[run["first"] : run["last"] + 1] = [run["owner"]] * (run["last"] + 1 - run["first"])
    return owners


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, action="append", choices=(1, 2))
    parser.add_argument("--load", type=float, action="append", help="a part of what goes at most")
    parser.add_argument("--full", type=float, default=0.0, help="records a second that go at most, if it is known")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    tell(f"on {machine['cores']} cores, Python {machine['python']}, {machine['system']}, load {os.getloadavg()[0]:.1f}")
    results: list[Result] = []
    for copies in options.copies or (2, 1):
        full = options.full
        for load in options.load or (1.0, 0.5):
            results.append(join(copies, load, options.keys, full))
            full = results[-1]["before"]["records_per_second"] if load == 1 else full
    if options.json:
        print(json.dumps({"machine": machine, "results": results}))


if __name__ == "__main__":
    main()
