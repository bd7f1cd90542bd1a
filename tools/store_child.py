"""Steps of `bench_store` in processes of their own: some end by kill -9, and none finds what another left in memory.

A step is a function of a module: its answer is a JSON object, the last line that the process prints.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def child(
    step: Callable[..., Any], engine: str, path: str, keys: int, *more: Any, quiet: bool = False
) -> subprocess.Popen[bytes]:
    call = json.dumps([step.__module__, step.__name__, engine, path, keys, *more])
    errors = subprocess.DEVNULL if quiet else None
    return subprocess.Popen([sys.executable, "-P", __file__, call], stdout=subprocess.PIPE, stderr=errors)


def result(step: Callable[..., Any], engine: str, path: str, keys: int, *more: Any) -> dict[str, Any]:
    with child(step, engine, path, keys, *more) as process:
        answer = process.communicate()[0]
    return dict(json.loads(answer.splitlines()[-1]))


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    first = runs[0]
    return {
        name: median_of([run[name] for run in runs])
        if isinstance(first[name], dict)
        else statistics.median(run[name] for run in runs)
        for name in first
    }


def size_mb(path: str) -> float:
    """What the files take on the disk, holes left out."""
    return round(sum(file.stat().st_blocks * 512 for file in Path(path).rglob("*") if file.is_file()) / 1e6, 1)


def make_cold(path: str) -> None:
    os.sync()
    for file in Path(path).rglob("*"):
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def memory_mb() -> dict[str, float]:
    """Own memory and mapped file pages, apart: the system takes the second back when it needs it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: round(int(fields[name].split()[0]) / 1000, 1) for name in ("RssAnon", "RssFile")}


def written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    module, step, *arguments = json.loads(sys.argv[1])
    sys.path.insert(0, str(ROOT))
    print(json.dumps(getattr(importlib.import_module(module), step)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
