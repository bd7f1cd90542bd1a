"""What the store's tests share: every implementation, and children that write until they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mesh.runtime.store import Change, DiskStore, MemoryStore, Store

KINDS = ("memory", "disk")
ROOT = Path(__file__).parents[1]


def open_store(kind: str, path: Path) -> Store:
    return DiskStore(str(path / "store")) if kind == "disk" else MemoryStore()


def whole_slot(store: Store, slot: int, at_most: int = 1 << 20) -> list[tuple[int, bytes, bytes]]:
    """All chunks of a scan."""
    found: list[tuple[int, bytes, bytes]] = []
    chunk = store.scan(slot, None, at_most)
    found += chunk.states
    while chunk.after is not None:
        chunk = store.scan(slot, chunk.after, at_most)
        found += chunk.states
    return found


def everything(store: Store, slots: range) -> dict[tuple[int, int, bytes], bytes]:
    return {(slot, stage, key): state for slot in slots for stage, key, state in whole_slot(store, slot)}


def numbered(number: int, keys: int = 500) -> list[Change]:
    """A pack over four slots that says its number in every state, so that a half one shows."""
    return [(each % 4, 0, b"key-%d" % each, b"%d" % number) for each in range(keys)]


def python(code: str) -> subprocess.Popen[str]:
    """A child that runs code against this tree, to be killed in the middle."""
    return subprocess.Popen(_command(code), stdout=subprocess.PIPE, text=True, env=_environment(), cwd=ROOT)


def run_python(
    code: str, before: tuple[str, ...] = (), *, seconds: float = 100, **environment: str
) -> tuple[int, list[str]]:
    """Exit code and lines of a child; it is killed if it does not end."""
    done = subprocess.run(
        [*before, *_command(code)],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment() | environment,
        cwd=ROOT,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def _command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
