"""The author's own sources, sinks and steps that fail: one sentence with the place, exit code 1, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import run_mesh

APP = """\
import sys
import mesh


class Numbers:
    endless = False
    blocking = {blocking}

    def splits(self):
        return [mesh.Split("one"), mesh.Split("two")]

    def open(self, split, offset):
        return self

    def read(self, max_bytes):
        return mesh.Chunk([1, 2, 3, 4, 5, 6 // {divisor}], 0, True)

    def close(self):
        pass


class Writer:
    def write(self, items):
        {write}

    def flush(self):
        pass

    def close(self):
        pass


class Sink:
    discards = False

    def open(self, writer):
        return Writer()


def step(count, value):
    if value == 3:
        {step}
    return count + 1


app = mesh.App("fails")
counts = app.source("numbers", Numbers()).key_by(lambda n: n).fold("count", int, step)
counts.to(Sink())
"""
GOOD = {"blocking": "False", "divisor": "1", "write": "pass", "step": "pass"}
SENTENCES = [
    ({"divisor": "0"}, 'source "numbers" failed: ZeroDivisionError: integer division or modulo by zero (at '),
    ({"divisor": "0", "blocking": "True"}, 'source "numbers" failed: ZeroDivisionError: integer'),
    ({"write": 'raise OSError(28, "No space left on device")'}, 'sink "count" failed: OSError: [Errno 28] No space'),
    ({"step": 'sys.exit("enough")'}, "the application's code called sys.exit('enough')"),
]


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize(("wrong", "sentence"), SENTENCES, ids=["source", "blocking source", "sink", "exit"])
def test_what_fails_is_named(tmp_path: Path, wrong: dict[str, str], sentence: str, nodes: int) -> None:
    (tmp_path / "app.py").write_text(APP.format(**GOOD | wrong), encoding="utf-8")
    ended = run_mesh("run", "app.py", "--nodes", str(nodes), cwd=tmp_path)
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    if nodes == 1:
        assert ended.err.startswith(f"mesh: {sentence}")
    else:
        assert ended.event("app.failed")["error"].startswith(sentence)
        died = ended.event("node.died")
        slots = {"node-1": "0-511", "node-2": "512-1023"}[died["name"]]
        assert died["detail"] == f"{died['name']} ended with exit code 1; the state in its slots {slots} is gone, " \
            "nobody else holds it"  # fmt: skip
