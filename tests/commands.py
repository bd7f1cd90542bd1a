"""Running `mesh` in tests: as a person would, in a process of its own, or quickly, in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodes.cli import exit_code, mesh

ROOT = Path(__file__).parents[1]
MESH = [sys.executable, "-P", "-m", "nodes.cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        return next(event for event in self.events if event["event"] == name)


def run_mesh(*arguments: str, cwd: Path = ROOT, given: str = "", **environment: str) -> Ended:
    """In a process of its own."""
    ended = subprocess.run(
        [*MESH, *arguments],
        cwd=cwd,
        input=given,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def start_mesh(*arguments: str, cwd: Path = ROOT, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MESH, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def call_mesh(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """In this process: for commands that start nothing."""
    capsys.readouterr()
    code = exit_code(mesh, list(arguments))
    said = capsys.readouterr()
    return Ended(code, said.out, said.err)
