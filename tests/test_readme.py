"""Every snippet of the README runs: files are written as they are shown, commands are typed as they are shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.]+)\n")
MESH = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the README shows."""
    folder = tmp_path_factory.mktemp("readme")
    for language, text in BLOCK.findall(README):
        named = FILE.match(text)
        if named:
            (folder / named.group(1)).write_text(text)
        else:
            assert language == "console", f"a snippet that no test runs:\n{text}"
    return folder


def test_the_files_that_the_readme_shows_are_there(folder: Path) -> None:
    assert {"shop.py", "test_shop.py", "shop.toml"} <= {each.name for each in folder.iterdir()}


def test_its_test_passes(folder: Path) -> None:
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py"], cwd=folder)
    assert ran.returncode == 0


def test_its_application_type_checks(folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "shop.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},  # mypy does not see an editable install
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout


def commands() -> list[str]:
    """The console blocks, in order: each starts with a `$ ` line and may show the end of what is printed."""
    return [text for language, text in BLOCK.findall(README) if language == "console"]


@pytest.mark.parametrize("block", commands(), ids=lambda block: block.split("\n")[0][2:])
def test_its_commands_do_what_it_shows(folder: Path, block: str) -> None:
    lines = block.splitlines()
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    shown = lines[max(index for index, line in enumerate(lines) if line.startswith("$ ")) + 1 :]
    script = "set -e\n" + "\n".join(typed[:-1]) + "\necho ---shown---\n" + typed[-1] + "\n"
    environment = {**os.environ, "PATH": f"{MESH}:{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert shell.stdout is not None
        printed = _until_end(shell, len(shown))
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(30)
    assert printed == shown


def _until_end(shell: subprocess.Popen[str], count: int) -> list[str]:
    """What the last command prints; the block may have left `mesh up` running, so nobody waits for the end of file."""
    assert shell.stdout is not None
    for line in shell.stdout:
        if line == "---shown---\n":
            return [shell.stdout.readline().rstrip("\n") for _ in range(count)]
    raise AssertionError("a command before the last one failed")
