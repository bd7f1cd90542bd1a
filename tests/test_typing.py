"""What an author's editor underlines: mypy over graphs that are right, and over one mistake a line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[1]
MARK = "# WRONG"


def errors_of_mypy(*files: str) -> dict[str, set[int]]:
    """File name -> lines with an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    paths = [str(HERE / file) for file in files]
    done = subprocess.run([*command, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[int]] = {file: set() for file in files}
    for path, line in re.findall(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE):
        assert Path(path).name in found, done.stdout
        found[Path(path).name].add(int(line))
    return found


def test_every_wrong_pipe_is_underlined_and_no_right_one() -> None:
    text = (HERE / "wrong_pipes.py").read_text()
    marked = {number for number, line in enumerate(text.splitlines(), 1) if MARK in line}
    errors = errors_of_mypy("right_pipes.py", "wrong_pipes.py")
    assert errors["right_pipes.py"] == set()
    assert errors["wrong_pipes.py"] == marked
    assert len(marked) > 15


def test_the_examples_are_typed() -> None:
    examples = sorted(str(path) for path in (ROOT / "examples").glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *examples], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
