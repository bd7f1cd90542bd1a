"""`mesh run --nodes`, `up` and `node` with real nodes: processes, sockets, signals, exit codes."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes.local import free_ports
from tests.commands import MESH, ROOT, call_mesh, run_mesh, start_mesh

Capture = pytest.CaptureFixture[str]
COUNT = str(ROOT / "examples/word_count.py")
TOPOLOGIES = sorted((ROOT / "topologies").glob("*.toml"))
TEXT = "".join(f"the {number % 97} of {number % 7} words\n" for number in range(20_000))
ENDLESS = """\
import itertools
import mesh
import time


class Ticks:
    endless = True
    blocking = True

    def splits(self):
        return [mesh.Split(f"split-{number}") for number in range(4)]

    def open(self, split, offset):
        return self

    def read(self, max_bytes):
        time.sleep(0.01)
        return mesh.Chunk(["tick", "tock"], 0, False)

    def close(self):
        pass


app = mesh.App("ticks")
app.source("ticks", Ticks()).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
"""

SLOW = """\
import mesh
import time
from pathlib import Path

output = mesh.param("output", default=Path("out"), kind=Path)


class Slow:
    endless = False
    blocking = False

    def splits(self):
        return [mesh.Split(f"split-{number}") for number in range(4)]

    def open(self, split, offset):
        return Reader(offset)


class Reader:
    def __init__(self, offset):
        self.offset = offset

    def read(self, max_bytes):
        time.sleep(0.01)
        self.offset += 1
        return mesh.Chunk(["tick", "tock"], self.offset, self.offset == 300)

    def close(self):
        pass


app = mesh.App("slow")
counts = app.source("ticks", Slow()).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1)
counts.items().to(mesh.jsonl(output))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "ticks.py").write_text(ENDLESS, encoding="utf-8")
    return tmp_path


class Running:
    """A `mesh` that runs beside the test, and its log so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Read the log until the event has come so often."""
        assert self.process.stderr is not None
        while sum(each["event"] == event for each in self.events) < count:
            line = self.process.stderr.readline()
            assert line, f"the log ended without {event}: {self.events}"
            self.events.append(json.loads(line))
        return [each for each in self.events if each["event"] == event]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """All that it still says, and its exit code."""
        self.out, err = self.process.communicate(timeout=100)
        self.events += [json.loads(line) for line in err.splitlines()]
        return self.process.returncode

    def children(self) -> list[int]:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]


@contextmanager
def running(*arguments: str, cwd: Path = ROOT) -> Iterator[Running]:
    process = start_mesh(*arguments, cwd=cwd)
    try:
        yield Running(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for_end(pids: list[int]) -> None:
    """Until none of these processes is left; a test's own time limit ends it otherwise."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        select.select([handle], [], [])
        os.close(handle)


def counts_in(folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in folder.glob("*.jsonl"):
        for line in part.read_text(encoding="utf-8").splitlines():
            word, count = json.loads(line)
            counts[word] = max(counts[word], count)
    return counts


# -- run


@pytest.mark.parametrize("nodes", [2, 3])
def test_a_run_on_nodes_counts_like_a_counter(folder: Path, nodes: int) -> None:
    ended = run_mesh(
        "run", COUNT, "--nodes", str(nodes), "--set", "input=book.txt", "--set", "output=out", "--json", cwd=folder
    )
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    expected = Counter(TEXT.split())
    assert counts_in(folder / "out") == expected
    assert (summary["app"], summary["nodes"], summary["keys"]) == ("word-count", nodes, len(expected))
    assert summary["records_in"] == TEXT.count("\n")
    assert summary["records_keyed"] == summary["records_out"] == expected.total()
    assert summary["rate"] == pytest.approx(summary["records_keyed"] / summary["seconds"], rel=0.01)
    assert {event["node"] for event in ended.events if event["event"] == "app.done"} == {
        f"node-{number + 1}" for number in range(nodes)
    }
    assert sum(event["event"] == "node.left" for event in ended.events) == nodes


def test_sink_lines_of_all_nodes_come_whole_and_the_summary_last(folder: Path) -> None:
    (folder / "prints.py").write_text(
        Path(COUNT).read_text(encoding="utf-8").replace("mesh.jsonl(output)", "mesh.stdout()"), encoding="utf-8"
    )
    ended = run_mesh("run", "prints.py", "--nodes", "2", "--set", "input=book.txt", "--json", cwd=folder)
    assert ended.code == 0, ended.err
    *results, summary = [json.loads(line) for line in ended.out.splitlines()]
    assert Counter(word for word, _ in results) == Counter(TEXT.split())
    assert summary["records_out"] == len(results)


def test_records_that_cannot_be_used_make_it_exit_1(folder: Path) -> None:
    (folder / "fails.py").write_text(
        "import mesh\n"
        'app = mesh.App("fails")\n'
        'numbers = app.source("numbers", mesh.items([1, 2, 0, 3]))\n'
        'numbers.map(lambda number: 6 // number).key_by(lambda n: n).fold("n", int, lambda n, _: n + 1)\n',
        encoding="utf-8",
    )
    ended = run_mesh("run", "fails.py", "--nodes", "2", "--json", cwd=folder)
    assert ended.code == 1
    assert json.loads(ended.out)["records_keyed"] == 3
    assert ended.event("run.failed")["detail"].startswith("1 records could not be used")


def test_a_kept_run_answers_at_the_ports_that_were_asked_for(folder: Path, capsys: Capture) -> None:
    port = consecutive_ports(2)
    arguments = ["run", COUNT, "--nodes", "2", "--set", "input=book.txt", "--keep", "--http", f"127.0.0.1:{port}"]
    with running(*arguments, "--json", cwd=folder) as run:
        run.until("run.done")
        doors = {event["name"]: event["http"] for event in run.until("node.listening", 2)}
        assert doors == {"node-1": f"127.0.0.1:{port}", "node-2": f"127.0.0.1:{port + 1}"}
        for door in doors.values():
            assert call_mesh(capsys, "get", "count", "the", "--at", door).out == "20000\n"
            assert call_mesh(capsys, "status", "--wait", "done", "--timeout", "60", "--at", door).code == 0
        assert run.stop() == 0
        assert json.loads(run.out)["keys"] == len(set(TEXT.split()))


def test_an_endless_run_lasts_until_it_is_asked_to_stop(folder: Path) -> None:
    with running("run", "ticks.py", "--nodes", "2", cwd=folder) as run:
        run.until("node.ready", 2)
        assert run.stop(signal.SIGTERM) == 0
        assert run.out == ""
        assert {event["node"] for event in run.events if event["event"] == "node.left"} == {"node-1", "node-2"}


def test_a_second_ctrl_c_ends_everything_at_once(folder: Path) -> None:
    (folder / "stuck.py").write_text(
        ENDLESS.replace("time.sleep(0.01)", "time.sleep(60)").replace("blocking = True", "blocking = False"),
        encoding="utf-8",
    )
    with running("run", "stuck.py", "--nodes", "2", cwd=folder) as run:
        run.until("node.ready", 2)
        children = run.children()
        assert len(children) == 2
        run.process.send_signal(signal.SIGINT)
        run.until("mesh.stopping")
        assert run.stop() == 130
        wait_for_end(children)


def test_nodes_do_not_outlive_a_parent_that_was_killed(folder: Path) -> None:
    with running("run", "ticks.py", "--nodes", "2", cwd=folder) as run:
        run.until("node.ready", 2)
        children = run.children()
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_for_end(children)


def test_a_node_that_dies_fails_the_run_and_its_slots_are_named(folder: Path) -> None:
    with running("run", "ticks.py", "--nodes", "3", cwd=folder) as run:
        run.until("node.ready", 3)
        os.kill(run.children()[1], signal.SIGKILL)
        died = run.until("node.died")[0]
        assert run.end() == 1
        assert (died["name"], died["slots"]) == ("node-2", "342-682")
        assert "342-682" in died["detail"]


def test_a_run_with_copies_goes_on_without_a_node_that_is_killed(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    with running("run", "slow.py", "--nodes", "3", "--copies", "2", "--json", "--set", "output=out", cwd=folder) as run:
        run.until("node.ready", 3)
        os.kill(run.children()[1], signal.SIGKILL)
        died = run.until("node.died")[0]
        assert (died["level"], died["name"]) == ("warning", "node-2")
        assert "the others have copies" in died["detail"]
        assert run.end() == 0
        assert json.loads(run.out)["records_in"] == 4 * 2 * 300
    lines = [json.loads(line) for part in (folder / "out").glob("*.jsonl") for line in part.read_text().splitlines()]
    assert sorted(lines) == [[word, count] for word in ("tick", "tock") for count in range(1, 1201)]


def test_a_node_that_leaves_before_the_end_fails_the_run(folder: Path) -> None:
    with running("run", "ticks.py", "--nodes", "2", cwd=folder) as run:
        run.until("node.ready", 2)
        os.kill(run.children()[0], signal.SIGTERM)
        assert run.until("node.died")[0]["name"] == "node-1"
        assert run.end() == 1


def test_a_reader_that_has_seen_enough_ends_the_run(folder: Path) -> None:
    endless = ENDLESS.replace("n + 1)", "n + 1).to(mesh.stdout())").replace("time.sleep(0.01)", "time.sleep(0)")
    (folder / "prints.py").write_text(endless, encoding="utf-8")
    with running("run", "prints.py", "--nodes", "2", cwd=folder) as run:
        assert run.process.stdout is not None
        run.process.stdout.readline()
        run.process.stdout.close()
        assert run.process.stderr is not None
        events = [json.loads(line) for line in run.process.stderr]
        assert run.process.wait(100) == 0
        assert sum(event["event"] == "node.left" for event in events) == 2


def test_results_that_cannot_be_written_end_the_run(folder: Path) -> None:
    prints = Path(COUNT).read_text(encoding="utf-8").replace("mesh.jsonl(output)", "mesh.stdout()")
    (folder / "prints.py").write_text(prints, encoding="utf-8")
    command = [*MESH, "run", "prints.py", "--nodes", "2", "--set", "input=book.txt"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    told = next(each["detail"] for each in events if each["event"] == "mesh.stdout_failed")
    assert told == "results cannot be written: No space left on device"
    assert ended.returncode == 1
    assert [each["event"] for each in events].count("node.left") == 2


def test_a_door_that_is_taken_is_one_sentence(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        door = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_mesh("run", COUNT, "--nodes", "2", "--set", "input=book.txt", "--http", door, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    refused = f"the HTTP door cannot listen on {door}: another process listens there already"
    assert ended.event("node.refused")["detail"] == refused


# -- up and node


def on_free_ports(topology: Path, folder: Path) -> Path:
    """The same file with other ports, so that tests can run beside one another."""
    text = topology.read_text(encoding="utf-8").replace("../examples/", f"{ROOT}/examples/")
    written = sorted(set(re.findall(r":(7\d{3})\b", text)))
    for old, new in zip(written, free_ports(len(written)), strict=True):
        text = text.replace(f":{old}", f":{new}")
    copy = folder / topology.name
    copy.write_text(text, encoding="utf-8")
    return copy


def consecutive_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        (first,) = free_ports(1)
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, each in enumerate(sockets):
                each.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()


@pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
def test_each_topology_comes_up_works_and_goes_down(file: Path, folder: Path, capsys: Capture) -> None:
    topology = on_free_ports(file, folder)
    names = re.findall(r'^name = "(.*)"', topology.read_text(encoding="utf-8"), re.MULTILINE)[1:]
    with running("up", topology.name, "--set", "input=book.txt", cwd=folder) as up:
        doors = {event["name"]: event["http"] for event in up.until("node.listening", len(names))}
        assert sorted(doors) == sorted(names)
        for door in doors.values():
            assert call_mesh(capsys, "status", "--wait", "done", "--timeout", "100", "--at", door).code == 0
        status = json.loads(call_mesh(capsys, "status", "--json", "--at", doors[names[0]]).out)
        assert status["slots"]["active"] == 1024
        assert [node["name"] for node in status["nodes"]] == sorted(names)
        assert sum(node["keys"] for node in status["nodes"]) == len(set(TEXT.split()))
        for word, count in (("the", 20000), ("words", 20000), ("96", Counter(TEXT.split())["96"])):
            told = [
                json.loads(call_mesh(capsys, "get", "count", word, "--json", "--at", at).out) for at in doors.values()
            ]
            owners = {
                json.loads(call_mesh(capsys, "owner", word, "--json", "--at", at).out)["owner"] for at in doors.values()
            }
            assert {each["state"] for each in told} == {count}
            assert {each["owner"] for each in told} == owners
        assert call_mesh(capsys, "get", "count", "never-seen", "--at", doors[names[-1]]).code == 4
        assert up.stop() == 0
        assert {event["node"] for event in up.events if event["event"] == "node.left"} == set(names)
        assert all(event["level"] != "error" for event in up.events)


def test_the_others_go_on_when_one_node_is_refused(folder: Path, capsys: Capture) -> None:
    topology = on_free_ports(ROOT / "topologies/local-3.toml", folder)
    port = int(re.findall(r"tcp://127.0.0.1:(\d+)", topology.read_text(encoding="utf-8"))[1])
    with socket.socket() as taken, running("up", topology.name, "--set", "input=book.txt", cwd=folder) as up:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused = up.until("node.refused")[0]
        assert refused["node"] == "beta"
        assert f"127.0.0.1:{port}" in refused["detail"]
        doors = [event["http"] for event in up.until("node.listening", 2)]
        assert call_mesh(capsys, "status", "--at", doors[0]).code == 0
        assert up.stop() == 2


def test_one_node_in_the_foreground_stays_when_its_sources_have_ended(folder: Path) -> None:
    topology = on_free_ports(ROOT / "topologies/solo.toml", folder)
    with running("node", topology.name, "--name", "alpha", "--set", "input=book.txt", cwd=folder) as node:
        done = node.until("app.done")[0]
        assert (done["node"], done["keys"], done["failed"]) == ("alpha", len(set(TEXT.split())), 0)
        assert node.process.poll() is None
        assert node.stop(signal.SIGTERM) == 0
        assert node.events[-1]["event"] == "node.left"


def test_a_data_directory_in_use_is_refused(folder: Path) -> None:
    text = on_free_ports(ROOT / "topologies/solo.toml", folder).read_text(encoding="utf-8")
    (folder / "first.toml").write_text(text + 'data_dir = "data"\n', encoding="utf-8")
    with running("node", "first.toml", "--name", "alpha", "--set", "input=book.txt", cwd=folder) as node:
        node.until("node.ready")
        (port,) = free_ports(1)
        second = re.sub(r"tcp://127.0.0.1:\d+", f"tcp://127.0.0.1:{port}", text)
        second = re.sub(r'http = ".*"', 'http = ""', second) + 'data_dir = "data"\n'
        (folder / "second.toml").write_text(second, encoding="utf-8")
        ended = run_mesh("node", "second.toml", "--name", "alpha", "--set", "input=book.txt", cwd=folder)
        assert ended.code == 2
        assert "is in use by node alpha, process" in ended.event("node.refused")["detail"]
        assert node.stop() == 0
