"""A file sink that is told names has each item once: whoever dies, or is late, between any two operations."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

import mesh
from mesh.connect import commit_log
from mesh.connect.commit_log import CommitLog
from mesh.connect.folder import Folder
from mesh.connect.parts import PartsWriter
from tests.sink_kit import RUN, HeldFolder, World

SEEDS = 60
STEPS = 400


def shown(directory: Path) -> list[Any]:
    """What readers see."""
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine lives on here, so whether it waits for its disk is seen in one test only."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# -- any order of several writers


@pytest.fixture
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "WHOLE", 3)


def world(directory: Path, seed: int) -> World:
    """Run; what is shown is as it should be."""
    directory.mkdir()
    found = World(directory, seed, deaths=seed % 3 > 0)
    found.run(STEPS)
    wanted = Counter((stream, number) for stream, made in found.made.items() for number in range(made))
    assert Counter(map(tuple, shown(directory))) == wanted
    assert found.died or hidden(directory) == []
    return found


def worlds(directory: Path) -> list[World]:
    return [world(directory / str(seed), seed) for seed in range(SEEDS)]


@pytest.mark.usefixtures("short_log")
def test_every_item_is_shown_once_in_any_order_of_writers_that_come_go_and_die(tmp_path: Path) -> None:
    found = worlds(tmp_path)
    assert sum(each.died for each in found) > SEEDS / 3
    assert sum(sum(each.made.values()) for each in found) > 20 * SEEDS


def taking_it_anyway(folder: Folder, name: str, as_name: str) -> bool:
    folder.remove(as_name)
    os.link(name, as_name, src_dir_fd=folder._fd, dst_dir_fd=folder._fd)
    return True


def freeing_names(log: CommitLog, whole: int) -> None:
    for number in range(max(1, whole - 3), whole):
        log.hidden.remove(str(number))


def removing_at_once(log: CommitLog) -> None:
    for name in log.hidden.names():
        if name != "writers":
            log.hidden.remove(name)


MISTAKES: dict[str, tuple[type, str, Any]] = {
    "two take one commit": (Folder, "link", taking_it_anyway),
    "what others have shown is not left out": (PartsWriter, "_left", lambda writer, part: part),
    "who reads a commit does not show its part": (
        CommitLog, "_show",
        lambda log, commit: commit["part"].startswith(log.writer + "~")
        and log.hidden.move(commit["part"], log.shown, commit["shown"]),
    ),
    "what is given again is written again": (
        PartsWriter, "_new", lambda writer, names: range(len(names))
    ),
    "the names of old commits become free": (CommitLog, "_empty_before", freeing_names),
    "who leaves takes the log along": (CommitLog, "leave", removing_at_once),
}  # fmt: skip


@pytest.mark.usefixtures("short_log")
@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    monkeypatch.setattr(*MISTAKES[mistake])
    with pytest.raises(AssertionError):
        worlds(tmp_path)


# -- real processes


STREAMS = "xyz"
ROUNDS = 3


class Signalled:
    """A process that sends itself a signal before the operation of that number."""

    def __init__(self, operation: int, number: signal.Signals) -> None:
        self.operations = operation
        self.number = number

    def pause(self) -> None:
        if self.operations == 0:
            os.kill(os.getpid(), self.number)
        self.operations -= 1


def items_of(number: int) -> list[tuple[str, int]]:
    return [(stream, 2 * number + each) for each in range(2) for stream in STREAMS]


def opened(directory: Path, name: str) -> Any:
    return mesh.jsonl(directory).open_named(f"{RUN}.{name}")


def writing(directory: Path, told: int, operation: int, number: signal.Signals) -> None:
    """In a process of its own: rounds of items, each flushed, and then told."""
    process = Signalled(operation if number == signal.SIGKILL else -1, number)
    sink = mesh.jsonl(directory)
    sink.folders = lambda path: HeldFolder(path, process)
    writer = sink.open_named(f"{RUN}.first")
    if number == signal.SIGSTOP:  # a node has opened its sinks before others count on it
        process.operations = operation
    for each in range(ROUNDS):
        writer.write_named([list(name) for name in items_of(each)], items_of(each))
        writer.flush()
        os.write(told, struct.pack("B", each))
    writer.close()


def started(directory: Path, operation: int, number: signal.Signals) -> tuple[int, int]:
    """(process, where it tells)."""
    mine, told = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            writing(directory, told, operation, number)
        finally:
            os._exit(0)
    os.close(told)
    return process, mine


def take_over(directory: Path, flushed: int) -> None:
    """Another writer is given what is not known to be in the sink."""
    names = [name for each in range(flushed, ROUNDS) for name in items_of(each)]
    writer = opened(directory, "second")
    writer.write_named([list(name) for name in names], names)
    writer.flush()
    writer.close()


def once(directory: Path) -> bool:
    wanted = Counter(name for each in range(ROUNDS) for name in items_of(each))
    return Counter(map(tuple, shown(directory))) == wanted


def test_a_process_that_is_killed_before_any_operation_leaves_each_item_once(tmp_path: Path) -> None:
    operation, flushes = 0, []
    while True:
        directory = tmp_path / str(operation)
        process, told = started(directory, operation, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        flushes.append(len(os.read(told, ROUNDS + 1)))
        os.close(told)
        take_over(directory, flushes[-1])
        assert once(directory), f"killed before operation {operation}"
        if os.WIFEXITED(status):
            break
        operation += 1
    assert sorted(set(flushes)) == list(range(ROUNDS + 1))


def test_a_process_that_is_paused_before_any_operation_and_goes_on_later_writes_nothing_twice(tmp_path: Path) -> None:
    operation = 0
    while True:
        directory = tmp_path / str(operation)
        process, told = started(directory, operation, signal.SIGSTOP)
        _, status = os.waitpid(process, os.WUNTRACED)
        if os.WIFEXITED(status):
            break
        os.set_blocking(told, False)
        try:
            flushed = len(os.read(told, ROUNDS + 1))
        except BlockingIOError:
            flushed = 0
        take_over(directory, flushed)
        os.kill(process, signal.SIGCONT)
        assert os.waitpid(process, 0)[1] == 0
        os.close(told)
        assert once(directory), f"paused before operation {operation}"
        assert hidden(directory) == []
        operation += 1
    assert operation > 7 * ROUNDS


# -- a machine that loses power


class TellingFolder(Folder):
    """Which operations there are, in order."""

    done: ClassVar[list[str]] = []

    def link(self, name: str, as_name: str) -> bool:
        self.done.append("commit")
        return super().link(name, as_name)

    def move(self, name: str, to: Folder, as_name: str) -> None:
        self.done.append("show")
        super().move(name, to, as_name)

    def sync(self) -> None:
        self.done.append("names of " + Path(os.readlink(f"/proc/self/fd/{self._fd}")).name)
        super().sync()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of descriptors are read in /proc")
def test_a_part_is_on_the_disk_before_its_commit_and_that_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_file():
            done.append(path.suffix)

    done = TellingFolder.done
    monkeypatch.setattr(os, "fsync", fsync)
    sink = mesh.jsonl(tmp_path)
    sink.folders = TellingFolder
    writer = sink.open_named("run1.alpha")
    writer.write_named([1], [("s", 1)])
    done.clear()
    writer.flush()
    before, after = done[: done.index("commit")], done[done.index("commit") + 1 :]
    assert {".part", ".commit", "names of .run1"} <= set(before)
    assert before.index("names of .run1") > before.index(".part")
    assert after == ["names of .run1", "show", f"names of {tmp_path.name}"]


# -- what readers see


def test_parts_have_the_names_of_their_run_and_writer_and_nothing_else_stays(tmp_path: Path) -> None:
    writer = opened(tmp_path, "alpha")
    for number in range(3):
        writer.write_named([["item", number]], [("s", number)])
        writer.flush()
        assert [item for _, item in shown(tmp_path)] == list(range(number + 1))
    writer.flush()
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run1.alpha.jsonl", "run1.alpha~2.jsonl", "run1.alpha~3.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "run1.alpha~2.jsonl").read_text() == '["item", 1]\n'


def test_nothing_is_seen_before_it_is_flushed(tmp_path: Path) -> None:
    writer = opened(tmp_path, "alpha")
    writer.write_named(["item"] * 1000, [("s", number) for number in range(1000)])
    assert shown(tmp_path) == []
    writer.close()
    assert shown(tmp_path) == ["item"] * 1000


def test_items_without_names_are_written_whenever_they_are_given(tmp_path: Path) -> None:
    writer = opened(tmp_path, "alpha")
    writer.write(["a", "a"])
    writer.write_named(["b", "b"], [("s", 1), ("s", 1)])
    writer.close()
    assert sorted(shown(tmp_path)) == ["a", "a", "b"]


def test_two_sinks_of_one_node_may_share_a_directory(tmp_path: Path) -> None:
    writers = opened(tmp_path, "alpha"), opened(tmp_path, "alpha")
    for number, writer in enumerate(writers):
        writer.write_named([number], [(f"sink-{number}/s", 7)])
    for writer in writers:
        writer.close()
    assert sorted(shown(tmp_path)) == [0, 1]
    assert hidden(tmp_path) == []


def test_a_directory_of_another_run_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    opened(tmp_path, "alpha").close()
    with pytest.raises(mesh.ConnectorError, match=r"must be new or empty, but it holds run1.alpha.jsonl"):
        mesh.jsonl(tmp_path).open_named("run2.alpha")
    assert [path.name for path in tmp_path.iterdir()] == ["run1.alpha.jsonl"]


def test_a_log_that_somebody_has_deleted_is_told_and_not_begun_again(tmp_path: Path) -> None:
    writer = opened(tmp_path, "alpha")
    writer.write_named([1], [("s", 1)])
    for path in (tmp_path / ".run1").rglob("*"):
        if path.is_file():
            path.unlink()
    (tmp_path / ".run1" / "writers").rmdir()
    (tmp_path / ".run1").rmdir()
    with pytest.raises(mesh.ConnectorError, match=str(tmp_path)):
        writer.flush()


def test_a_long_log_is_not_read_from_its_beginning(tmp_path: Path) -> None:
    first = opened(tmp_path, "alpha")
    for number in range(commit_log.WHOLE + 5):
        first.write_named([number], [(f"stream-{number}", 3)])
        first.flush()
    log = tmp_path / ".run1"
    assert [(log / str(number)).stat().st_size for number in (1, commit_log.WHOLE - 1)] == [0, 0]
    second = opened(tmp_path, "beta")
    second.write_named(["again", "new"], [("stream-0", 3), ("stream-0", 4)])
    second.close()
    assert sorted(shown(tmp_path), key=str) == sorted([*range(commit_log.WHOLE + 5), "new"], key=str)
    first.close()
    assert hidden(tmp_path) == []
