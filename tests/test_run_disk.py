"""`mesh run --durability disk`: stopped or killed, in one process or several, the same command goes on, and what comes
out is what a run that nobody disturbs would give."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster_kit import counted_anywhere, eventually
from tests.commands import Ended, run_mesh, start_mesh
from tests.flowing_kit import APP, expected

DISK = ("--durability", "disk", "--data-dir", "kept", "--set", "output=out")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def parts(folder: Path) -> int:
    return sum(part.stat().st_size > 0 for part in (folder / "out").glob("*.jsonl"))


def begin(folder: Path, *options: str) -> subprocess.Popen[str]:
    """A run that has come further than those before it."""
    before = parts(folder)
    process = start_mesh("run", "app.py", *DISK, *options, cwd=folder)
    eventually(lambda: process.poll() is not None or parts(folder) > before, "results")
    assert process.poll() is None, process.communicate()
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def kill(folder: Path, process: subprocess.Popen[str]) -> None:
    """It, and its nodes."""
    for lock in (folder / "kept").glob("*/lock"):
        if (pid := int(lock.read_text().split()[-1])) != process.pid:
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=60)


def to_the_end(folder: Path, *options: str) -> Ended:
    (folder / "enough").touch()
    ended = run_mesh("run", "app.py", *DISK, *options, "--json", cwd=folder)
    assert ended.code == 0, ended.err
    return ended


@pytest.mark.parametrize("options", [(), ("--nodes", "2"), ("--nodes", "3", "--copies", "2")])
def test_a_run_that_was_stopped_and_killed_goes_on(folder: Path, options: tuple[str, ...]) -> None:
    stop(begin(folder, *options))
    assert [*(folder / "out").glob(".*/writers")], "what is known of names is gone"
    kill(folder, begin(folder, *options))
    stop(begin(folder, *options))
    to_the_end(folder, *options)
    assert counted_anywhere(folder / "out") == expected(folder)
    again = to_the_end(folder, *options)
    assert json.loads(again.out)["records_keyed"] == 0
    assert counted_anywhere(folder / "out") == expected(folder)


def test_a_finished_run_leaves_no_log_of_names(folder: Path) -> None:
    (folder / "enough").touch()
    to_the_end(folder)
    assert [*(folder / "out").glob(".*")] == []


def test_another_number_of_nodes_is_refused(folder: Path) -> None:
    stop(begin(folder))
    ended = run_mesh("run", "app.py", *DISK, "--nodes", "2", cwd=folder)
    assert ended.code == 2
    assert "the run in kept was begun with --nodes 1: go on with as many, or use another directory" in ended.err


def test_other_params_are_refused(folder: Path) -> None:
    stop(begin(folder))
    ended = run_mesh("run", "app.py", *DISK, "--set", "output=elsewhere", cwd=folder)
    began, now = (f"output={folder / name}" for name in ("out", "elsewhere"))
    assert ended.code == 2
    assert f"was begun with {began}, and not {now}: go on with that, or use another directory" in ended.err
    assert not (folder / "elsewhere").exists()


def test_another_application_is_refused(folder: Path) -> None:
    stop(begin(folder))
    other = APP + 'words.fold("lengths", int, lambda n, _: n + 1)\n'
    (folder / "app.py").write_text(other, encoding="utf-8")
    ended = run_mesh("run", "app.py", *DISK, cwd=folder)
    assert ended.code == 2
    assert "was made for an application with the fingerprint" in ended.err
    assert "Traceback" not in ended.err


def test_a_data_directory_is_needed_for_a_disk(folder: Path) -> None:
    for given in (["--durability", "disk"], ["--set", "cluster.durability=disk"]):
        ended = run_mesh("run", "app.py", *given, cwd=folder)
        assert ended.code == 2
        assert "--durability disk needs --data-dir" in ended.err
