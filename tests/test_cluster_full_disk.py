"""A node whose disk has no room stands still, says so, and goes on by itself when there is some; one whose disk fails
ends with a sentence. Nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.cluster_kit import eventually
from tests.commands import ENVIRONMENT
from tests.deaths_kit import on_disk
from tests.store_kit import run_python
from tests.test_store_full import FAILING_FSYNC, can_mount
from tests.windows_kit import events, windows

FULL = """
import os, subprocess
from pathlib import Path
from random import Random
from tests.cluster_kit import eventually
from tests.windows_kit import lines, post, windows

folder = Path({folder!r})
small = folder / "small"
small.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(small)], check=True)
ballast = small / "ballast"
ballast.write_bytes(bytes(40_000_000))
random = Random(1)


def body(number):
    return [(f"{{number}}-{{index}}-" + random.randbytes(300).hex(), number) for index in range(400)]


with windows(folder, "alpha", extra={{"alpha": 'data_dir = "small/alpha"'}}, durability="disk") as made:
    alpha, sent = made["alpha"], []

    def send(number, seconds=30.0):
        try:
            said = post(alpha.door, "/v1/sources/events", lines(bodies[number]), PRODUCER(number), seconds)
        except OSError:
            return None
        return said if said.code == 200 else None

    bodies = {{}}
    PRODUCER = lambda number: {{"Producer-Id": f"p{{number}}", "First-Seq": "0"}}
    for number in range(10_000):
        bodies[number] = body(number)
        while send(number, 5.0) is None and not alpha.all_of("store.full"):
            pass
        if alpha.all_of("store.full"):
            break
    assert number > 10, number
    assert send(number) is None
    assert alpha.running
    assert alpha.get("/v1/status").code == 200
    assert alpha.get("/v1/state/window", key=bodies[0][0][0]).code == 503, "it stands behind what has no room"
    os.truncate(ballast, 0)
    said = eventually(lambda: send(number), "it is committed after all")
    alpha.until("store.goes_on")
    alpha.kill()
    made.start("alpha")
    alpha = made["alpha"]
    eventually(lambda: alpha.get("/readyz").code == 200, "it is ready again")
    for each in range(number + 1):
        for key, value in bodies[each][::37]:
            said = alpha.get("/v1/state/window", key=key)
            assert said.code == 200, said
            assert said.body["state"]["count"] == 1, said
    assert made.alarms_of("node.crashed", "store.failed", "partition.lost") == []
    print("went on")
"""


def test_a_full_disk_stalls_a_node_until_there_is_room(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be made here")
    code, said = run_python(FULL.format(folder=str(tmp_path)), ("unshare", "-rm"), seconds=250)
    assert (code, said[-1:]) == (0, ["went on"])


def test_a_disk_that_fails_ends_the_node_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, so no fsync can be made to fail")
    (tmp_path / "fails.c").write_text(FAILING_FSYNC.replace("int fsync(", "int another("))  # the database's own only
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "fails.so", "fails.c", "-ldl"], cwd=tmp_path, check=True)
    monkeypatch.setitem(ENVIRONMENT, "LD_PRELOAD", str(tmp_path / "fails.so"))
    monkeypatch.setitem(ENVIRONMENT, "NO_SYNC_FILE", str(tmp_path / "no-sync"))
    with windows(tmp_path / "nodes", "alpha", **on_disk("alpha", copies=1)) as made:
        sent = [(f"key-{number}", number) for number in range(60)]
        assert events(made["alpha"].door, sent, "p").code == 200
        (tmp_path / "no-sync").touch()
        with contextlib.suppress(OSError, HTTPException):
            assert events(made["alpha"].door, [("more", 1)], "p", 60).code != 200
        said = made["alpha"].until("store.failed")["error"]
        assert said.startswith("the store failed, and what is on the disk is not known: IO error: ")
        assert made["alpha"].end() == 1
        assert made.noise() == []
        (tmp_path / "no-sync").unlink()
        made.start()
        eventually(lambda: made["alpha"].get("/readyz").code == 200, "it is ready again")
        assert events(made["alpha"].door, sent, "p").body == {"committed": 60, "duplicates": 60}
