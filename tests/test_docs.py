"""Every snippet of the README and of docs/ runs: files are written as they are shown, commands are typed as they are
shown, and print what is shown.

A block that begins with `# name.ext` is a file of its page. A `console` block is what a person types; all blocks of a
page are typed into one shell, in order. What stands below a command is all that it prints, `...` being anything; a
command without such lines may print what it likes, and must succeed. Of a command that fails, stderr is shown as well.
Ports 74xx become others that are free: somebody may have a mesh running. A block without a language is a picture.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_kept_mutants import MUTANTS as KEPT_MUTANTS
from tests.test_moving_mutants import MOVING_MUTANTS
from tests.test_mutants import MUTANTS
from tests.test_mutants_clients import MUTANTS as CLIENT_MUTANTS
from tests.test_mutants_comings import MUTANTS as COMING_MUTANTS
from tests.test_shelf_worlds import MUTANTS as STORE_MUTANTS
from tests.test_sim_stores import SIMULATED_MUTANTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.]+\.\w+)\n")
PORT = re.compile(r"\b74(\d\d)\b")
END = "---end of command---"


@dataclass(frozen=True)
class Command:
    typed: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    folder: Path
    commands: list[Command]

    def files(self, pattern: str) -> list[str]:
        return sorted(each.name for each in self.folder.glob(pattern))

    @property
    def applications(self) -> list[str]:
        return [name for name in self.files("*.py") if not name.startswith("test_")]


@pytest.fixture(params=PAGES, ids=lambda page: page.name, scope="module")
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page's commands, and a folder with every file that it shows."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    text = with_free_ports(request.param.read_text())
    commands: list[Command] = []
    for language, block in BLOCK.findall(text):
        named = FILE.match(block)
        if named:
            (folder / named.group(1)).write_text(block)
        else:
            assert language == "console", f"a snippet that no test runs:\n{block}"
            commands += commands_of(block)
    return Page(folder, commands)


def with_free_ports(text: str) -> str:
    """As wide as before, so that tables keep their shape; others than those of a run beside this one."""
    wanted = [int(number) for number in PORT.findall(text)]
    prefixes = (60 + (os.getpid() + each) % 39 for each in range(39))
    prefix = next(each for each in prefixes if all(is_free(each * 100 + number) for number in wanted))
    return PORT.sub(rf"{prefix}\1", text)


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def commands_of(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        typed, *shown = part.rstrip("\n").split("\n")
        yield Command(typed, tuple(shown))


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_pages_are_found() -> None:
    names = {page.name for page in PAGES}
    assert names >= {"README.md", "applications.md", "connectors.md", "operations.md", "protocol.md"}


def test_its_tests_pass(page: Page) -> None:
    tests = page.files("test_*.py")
    if tests:
        ran = in_folder(page, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
        assert ran.returncode == 0, ran.stdout


def test_its_applications_type_check(page: Page) -> None:
    if page.applications:
        ran = in_folder(page, "-m", "mypy", "--strict", *page.applications)
        assert ran.returncode == 0, ran.stdout


def test_its_applications_are_well_built(page: Page) -> None:
    for name in page.applications:
        ran = in_folder(page, "-P", "-m", "nodes.cli", "check", name)
        assert ran.returncode == 0, ran.stderr


def in_folder(page: Page, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}  # mypy does not see an editable install
    return subprocess.run([sys.executable, *words], cwd=page.folder, env=environment, capture_output=True, text=True)


# -- commands ---------------------------------------------------------------------------------------------------------


def test_its_commands_do_what_it_shows(page: Page) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["MESH_AT"] = with_default_port(page)
    shell = subprocess.Popen(
        ["bash"], cwd=page.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        for number, command in enumerate(page.commands):
            code, printed = enter(shell, number, command.typed)
            if command.shown:
                assert as_shown(printed, command.shown), f"$ {command.typed}\n" + "\n".join(printed)
            else:
                assert code == 0, f"$ {command.typed}\n" + "\n".join(printed)
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(30)


def with_default_port(page: Page) -> str:
    """Where the commands look if nobody says it: what has become of port 7480."""
    topologies = "".join((page.folder / name).read_text() for name in page.files("*.toml"))
    found = re.search(r"127\.0\.0\.1:\d\d80", topologies)
    return f"http://{found[0]}" if found else ""


def enter(shell: subprocess.Popen[str], number: int, typed: str) -> tuple[int, list[str]]:
    """The exit code, and what a person would see of the results. What was started with & may go on printing."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    errors = f".stderr-{number}"
    shell.stdin.write(f"(exit ${{code:-0}})\n{{ {typed}\n}} 2>{errors} </dev/null\ncode=$?\n")
    shell.stdin.write(f'[ $code = 0 ] || cat {errors}\necho "{END} $code"\n')
    shell.stdin.flush()
    printed: list[str] = []
    for line in shell.stdout:
        text, found, code = line.rstrip("\n").partition(END)
        if text or not found:
            printed.append(text)
        if found:
            return int(code), printed
    raise AssertionError(f"the shell has ended at {typed}")


def as_shown(printed: list[str], shown: tuple[str, ...]) -> bool:
    """Trailing blanks do not count; `...` is anything, also on several lines."""
    pattern = re.escape("\n".join(shown)).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in printed), re.DOTALL) is not None


# -- what is said of the tests ----------------------------------------------------------------------------------------


def test_the_protocol_page_names_the_mutants_that_there_are() -> None:
    table = (ROOT / "docs" / "protocol.md").read_text().partition("| mutants that it catches |")[2]
    rows = [row.split("|")[3] for row in table.split("\n\n")[0].splitlines()[2:]]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(
        mutant.__name__ for mutant, _, _ in MUTANTS + COMING_MUTANTS + CLIENT_MUTANTS
    )


def test_the_page_of_copies_names_the_mutants_that_there_are() -> None:
    table = (ROOT / "docs" / "copies.md").read_text().partition("| mutants that they catch |")[2]
    named = re.findall(r"`(\w+)`", table.split("\n\n")[0])
    assert sorted(named) == sorted(mutant.__name__ for mutant in KEPT_MUTANTS + STORE_MUTANTS)


def test_the_page_of_copies_names_the_mutants_of_whole_clusters_that_there_are() -> None:
    told = (ROOT / "docs" / "copies.md").read_text().partition("whole clusters catch")[2]
    named = re.findall(r"`(\w+)`", told.split("\n\n")[0])
    assert sorted(named) == sorted(mutant.__name__ for mutant, _, _ in SIMULATED_MUTANTS)


def test_the_protocol_page_names_the_mutants_of_moves_that_there_are() -> None:
    table = (ROOT / "docs" / "protocol.md").read_text().partition("| mutants of them that it catches |")[2]
    named = re.findall(r"`(\w+)`", table.split("\n\n")[0])
    assert sorted(named) == sorted(mutant.__name__ for mutant, _, _ in MOVING_MUTANTS)
