"""Seeded clusters on a broken network: the node of production on a made-up clock, network and disk.

    python tools/simulate.py --seeds 500            one world a seed; exit 1, and for each that fails how to replay it
    python tools/simulate.py --seed 42              that world in words
    python tools/simulate.py --seed 42 --verbose    and with every message

A seed decides everything: two runs of it are the same, line for line.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mesh.sim.scenario import NAMES, scenario_of
from mesh.sim.transcript import Transcript
from mesh.sim.violation import Violation
from mesh.sim.world import Summary, World

PROGRESS_S = 2.0
ENOUGH = 10  # failing seeds; then the rest would say the same


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    if options.seed is not None:
        try:
            return replay(options.seed, _settings(options), verbose=options.verbose)
        except BrokenPipeError:  # whoever read along has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    return search(range(options.start, options.start + options.seeds), _settings(options))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run seeded worlds, or replay one.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--seeds", type=_count, default=100, metavar="N", help="run so many worlds (default 100)")
    what.add_argument("--seed", type=int, metavar="S", help="replay one world and print what happens in it")
    parser.add_argument("--start", type=int, default=0, metavar="S", help="the first seed (default 0)")
    parser.add_argument("--nodes", type=_nodes, metavar="N", help=f"how many nodes, 1 to {len(NAMES)}; else by seed")
    parser.add_argument("--copies", type=int, choices=(1, 2, 3), help="of each slot; else by seed")
    parser.add_argument("--durability", choices=("memory", "disk"), help="what nodes have; else by seed")
    parser.add_argument("--verbose", action="store_true", help="with --seed: every message, too")
    return parser


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What overrules the seed."""
    durable = None if options.durability is None else options.durability == "disk"
    return {"nodes": options.nodes, "copies": options.copies, "durable": durable}


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _nodes(text: str) -> int:
    number = int(text)
    if not 1 <= number <= len(NAMES):
        raise argparse.ArgumentTypeError(f"{number} is not from 1 to {len(NAMES)}")
    return number


# -- one world in words -----------------------------------------------------------------------------------------------


def replay(seed: int, settings: dict[str, Any], *, verbose: bool) -> int:
    scenario = scenario_of(seed, **settings)
    print("\n".join(scenario.words()))
    try:
        summary = World(scenario, Transcript(print, verbose=verbose)).run()
    except Violation as violation:
        print(f"VIOLATED {violation}")
        return 1
    print(_shown(summary))
    return 0


def _shown(summary: Summary) -> str:
    return (
        f"{summary.simulated / 1000:.3f} s simulated; {summary.records} arrivals of records; "
        f"{summary.messages} messages, {summary.lost} lost, {summary.doubled} doubled; {summary.suspicions} suspicions"
    )


# -- many worlds ------------------------------------------------------------------------------------------------------


def search(seeds: range, settings: dict[str, Any]) -> int:
    started = told = time.monotonic()
    totals: Counter[str] = Counter()
    failed = 0
    for seed in seeds:
        failed += not _survives(seed, settings, totals)
        if failed == ENOUGH:
            print(f"{ENOUGH} seeds fail: that is enough", flush=True)
            break
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            _progress(f"{seed - seeds.start + 1} of {len(seeds)} seeds, {failed} fail")
    _progress("")
    print(_total(totals, time.monotonic() - started, failed))
    return 1 if failed else 0


def _survives(seed: int, settings: dict[str, Any], totals: Counter[str]) -> bool:
    totals["seeds"] += 1
    scenario = scenario_of(seed, **settings)
    totals["durable"] += scenario.stores is not None
    totals["faults"] += len(scenario.faults) + len(scenario.at_founding)
    try:
        summary = World(scenario).run()
    except Violation as violation:
        _progress("")
        print(f"seed {seed} FAILS: {violation}\n  python tools/simulate.py --seed {seed}{_given(settings)}", flush=True)
        return False
    totals.update(simulated=summary.simulated, records=summary.records, messages=summary.messages, lost=summary.lost)
    totals.update(doubled=summary.doubled, suspicions=summary.suspicions, reads=summary.reads, done=summary.done)
    totals.update(moved=summary.moved, left=summary.left, fences=summary.fences, requests=summary.requests)
    return True


def _given(settings: dict[str, Any]) -> str:
    """As options of this command."""
    durability = {None: None, True: "disk", False: "memory"}[settings["durable"]]
    given = {"nodes": settings["nodes"], "copies": settings["copies"], "durability": durability}
    return "".join(f" --{name} {value}" for name, value in given.items() if value is not None)


def _progress(line: str) -> None:
    """To whoever watches; a log gets only what stays true."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _total(totals: Counter[str], seconds: float, failed: int) -> str:
    verdict = f"{failed} FAIL" if failed else "all hold"
    return (
        f"{totals['seeds']} seeds, {totals['durable']} of them durable, in {seconds:.1f} s "
        f"({totals['seeds'] / seconds:.1f} a second): {verdict}\n"
        f"{totals['simulated'] / 3_600_000:.1f} hours simulated; {totals['faults']} faults; {totals['suspicions']} "
        f"suspicions; {totals['messages']} messages, {totals['lost']} lost, {totals['doubled']} doubled; "
        f"{totals['records']} arrivals of records; {totals['reads']} reads; {totals['requests']} requests of clients; "
        f"{totals['done']} jobs done; "
        f"{totals['moved']} slots moved; {totals['left']} members left; {totals['fences']} times a minority stopped"
    )


if __name__ == "__main__":
    sys.exit(main())
