"""`mesh`: what each command prints where, and its exit code, without a cluster."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mesh.runtime.status import GivenUp, Moving, SlotCounts, Transfer, Waiting
from nodes import logs
from tests.commands import MESH, ROOT, call_mesh, run_mesh, start_mesh
from tests.served import RING, STATUS, FakeNode, serving

Capture = pytest.CaptureFixture[str]

APP = """\
import mesh

source = mesh.param("input", default="a b a")
app = mesh.App("words")
words = app.source("lines", mesh.items(["a b", "a"])).flat_map(str.split)
words.key_by(lambda word: word).fold("count", int, lambda n, _: n + 1).to(mesh.stdout())
"""

TOPOLOGY = """\
[cluster]
name = "c"
[app]
module = "words.py"
[[node]]
name = "alpha"
listen = "tcp://127.0.0.1:1"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory. The nodes of this process log to stderr, as all nodes do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESH_AT", raising=False)
    (tmp_path / "words.py").write_text(APP, encoding="utf-8")
    handlers = logging.getLogger().handlers[:]
    logs.configure()
    yield tmp_path
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(states={("count", "the"): {"n": 7, "ü": [1]}, ("count", 5): "five", ("count", b"\x00"): None})


@pytest.fixture
def at(node: FakeNode) -> Iterator[str]:
    with serving(node) as url:
        yield url


# -- asking


def test_status_prints_a_table_to_stdout(capsys: Capture, at: str) -> None:
    ended = call_mesh(capsys, "status", "--at", at)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("local-3: epoch 1, app word-count, ready\n")
    assert "beta     suspect" in ended.out


def test_at_may_come_from_the_environment(capsys: Capture, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_AT", at.removeprefix("http://"))
    assert call_mesh(capsys, "status").code == 0


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["status"], "cluster"),
        (["ring"], "cluster"),
        (["owner", "the"], "key"),
        (["get", "count", "the"], "stage"),
        (["keys", "count"], "keys"),
    ],
)
def test_json_is_the_body_on_one_line(capsys: Capture, at: str, arguments: list[str], first: str) -> None:
    ended = call_mesh(capsys, *arguments, "--json", "--at", at)
    assert (ended.code, ended.out.count("\n"), ended.err) == (0, 1, "")
    assert next(iter(json.loads(ended.out))) == first


def test_ring_draws_all_nodes(capsys: Capture, at: str) -> None:
    ended = call_mesh(capsys, "ring", "--at", at)
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert all(f" {run.owner} " in ended.out for run in RING)
    assert max(len(line) for line in ended.out.splitlines()) <= 80


def test_leave_is_passed_on_and_its_refusals_have_exit_codes(capsys: Capture, at: str, node: FakeNode) -> None:
    node.refusals = {"gamma": None, "alpha": "last-worker", "beta": "out-of-touch"}
    ended = call_mesh(capsys, "leave", "gamma", "--at", at)
    assert (ended.code, ended.out, ended.err) == (0, "gamma hands over and leaves\n", "")
    assert call_mesh(capsys, "leave", "gamma", "--json", "--at", at).out == '{"leaving":"gamma"}\n'
    refused = call_mesh(capsys, "leave", "alpha", "--at", at)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "mesh: alpha is the last worker: its slots have nowhere to go\n"
    assert call_mesh(capsys, "leave", "beta", "--at", at).code == 3
    unknown = call_mesh(capsys, "leave", "delta", "--at", at)
    assert (unknown.code, unknown.err) == (4, 'mesh: no node named "delta" is here\n')
    assert node.asked_to_leave == ["gamma", "gamma", "alpha", "beta", "delta"]


def test_what_is_lost_is_given_up_only_on_purpose(capsys: Capture, at: str, node: FakeNode) -> None:
    assert call_mesh(capsys, "slots", "accept-loss", "--at", at).code == 2
    node.losses, node.recovers = 341, True
    assert call_mesh(capsys, "slots", "accept-loss", "--at", at).out == "341 slots start again, empty\n"
    refused = call_mesh(capsys, "recover", "--at", at)
    assert (refused.code, refused.out) == (2, "")
    assert "add --yes" in refused.err
    assert call_mesh(capsys, "recover", "--yes", "--json", "--at", at).out == '{"recovering":true}\n'


def test_what_is_unavailable_is_given_up_by_the_names_of_those_who_had_it_and_on_purpose(
    capsys: Capture, at: str, node: FakeNode
) -> None:
    node.waiting = (Waiting(341, "0-340", ("beta",)), Waiting(2, "700, 702", ("beta", "gamma")))
    node.given_up = GivenUp(341)
    shown = call_mesh(capsys, "slots", "accept-loss", "--gone", "beta", "--at", at)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        "mesh: 341 slots that beta had (0-340): would start again, empty\n"
        "  2 slots that beta and gamma had (700, 702): gamma could bring them back\n"
        "  if the directories of beta are gone for good, add --yes\n"
    )
    nothing = call_mesh(capsys, "slots", "accept-loss", "--gone", "gamma", "--at", at)
    assert nothing.err.startswith("mesh: nothing is unavailable that only these nodes could bring back\n  341 slots")
    assert call_mesh(capsys, "slots", "accept-loss", "--yes", "--at", at).code == 2
    assert node.asked_to_give_up == []
    given = call_mesh(capsys, "slots", "accept-loss", "--gone", "beta", "--gone", "gamma", "--yes", "--at", at)
    assert (given.code, given.out) == (0, "341 slots start again, empty\n")
    assert node.asked_to_give_up == [("beta", "gamma")]


def test_status_says_why_a_node_is_not_ready_and_how_far_the_slots_are(
    capsys: Capture, at: str, node: FakeNode
) -> None:
    node.change(ready=False, slots=SlotCounts(1024, 1000, 24, 0, 0))
    node.moving = Moving(40, 256, (Transfer("alpha", "delta", 20), Transfer("beta", "delta", 4)))
    lines = call_mesh(capsys, "status", "--at", at).out.splitlines()
    assert lines[1] == "alpha is not ready: a majority of the voters is out of touch"
    assert lines[-3:] == [
        "moving: 40 of 256 slots have arrived",
        "  alpha -> delta: 20 slots on their way",
        "  beta -> delta: 4 slots on their way",
    ]


def test_owner(capsys: Capture, at: str) -> None:
    ended = call_mesh(capsys, "owner", "the", "--at", at)
    assert ended.out.splitlines()[0] == "owner     beta"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["the"], '{"n": 7, "ü": [1]}'),
        (["5", "--key-type", "int"], '"five"'),
        (["AA", "--key-type", "bytes"], "null"),
    ],
)
def test_get_prints_the_state_as_json(capsys: Capture, at: str, arguments: list[str], shown: str) -> None:
    ended = call_mesh(capsys, "get", "count", *arguments, "--at", at)
    assert (ended.code, ended.out, ended.err) == (0, shown + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "count", "never"], 4, 'mesh: stage count has never seen the key "never"\n'),
        (["keys", "cuont"], 4, 'mesh: the application has no stage "cuont"\n'),
        (["keys", "count", "--limit", "0"], 2, "Invalid value for '--limit'"),
        (["get", "cuont", "the"], 4, 'mesh: the application has no stage "cuont"\n'),
        (["get", "late", "the"], 3, 'mesh: the owner of "the" did not answer within 5 s\n'),
        (["get", "broken", "the"], 1, "mesh: this node failed to answer; its log says why\n"),
        (["get", "count", "x", "--key-type", "int"], 2, "mesh: the key 'x' is not a whole decimal number, "),
        (["owner", "a\udcff"], 2, "mesh: the key 'a\\udcff' has a lone surrogate"),
    ],
)
def test_bad_answers_become_exit_codes(capsys: Capture, at: str, arguments: list[str], code: int, said: str) -> None:
    ended = call_mesh(capsys, *arguments, "--at", at)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err


def test_json_shows_the_error_body_too(capsys: Capture, at: str) -> None:
    ended = call_mesh(capsys, "get", "count", "never", "--json", "--at", at)
    assert ended.code == 4
    assert json.loads(ended.out)["error"] == "not-found"


def test_no_partition_yet_is_not_a_mistake(capsys: Capture, at: str, node: FakeNode) -> None:
    node.formed = False
    assert call_mesh(capsys, "owner", "the", "--at", at).code == 3


@pytest.mark.parametrize("command", [["status"], ["ring"], ["owner", "k"], ["get", "s", "k"], ["keys", "s"]])
def test_nobody_there(capsys: Capture, command: list[str]) -> None:
    ended = call_mesh(capsys, *command, "--at", "http://127.0.0.1:1")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "mesh: no node answers at http://127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize("where", ["ftp://h:1", "http://", "http://h:1/v1", "http://h:99999", "http://h:1?x"])
def test_at_that_is_no_address(capsys: Capture, where: str) -> None:
    assert call_mesh(capsys, "status", "--at", where).code == 2


# -- waiting


@pytest.mark.parametrize("what", ["ready", "done"])
def test_wait_ends_when_it_is_so(capsys: Capture, at: str, node: FakeNode, what: str) -> None:
    class Soon(FakeNode):
        asked = 0

        def status(self):  # type: ignore[no-untyped-def]
            self.asked += 1
            self.change(**{what: self.asked > 2})
            return self.shown

    soon = Soon()
    with serving(soon) as url:
        ended = call_mesh(capsys, "status", "--wait", what, "--at", url, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)[what] is True
    assert soon.asked == 3


def test_wait_times_out_with_3(capsys: Capture, at: str) -> None:
    ended = call_mesh(capsys, "status", "--wait", "done", "--timeout", "0", "--at", at)
    assert (ended.code, ended.out, ended.err) == (3, "", f"mesh: not done within 0 s, says {at}\n")
    assert call_mesh(capsys, "status", "--wait", "ready", "--timeout", "0", "--at", "127.0.0.1:1").code == 3


def test_timeout_without_wait_is_a_mistake(capsys: Capture) -> None:
    assert call_mesh(capsys, "status", "--timeout", "3").code == 2


def test_watch_prints_changes_until_ctrl_c(at: str) -> None:
    watching = start_mesh("status", "--watch", "--json", "--at", at)
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["cluster"] == STATUS.cluster
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out, err) == (0, "", "")


# -- checking


def test_check_tells_what_would_be_started(capsys: Capture, folder: Path) -> None:
    (folder / "t.toml").write_text(TOPOLOGY, encoding="utf-8")
    ended = call_mesh(capsys, "check", "t.toml")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:4] == [
        "t.toml: cluster c is well described",
        "  nodes    alpha; founded once 1 of 1 workers are there",
        "  slots    1024, copies 1, durability memory, seed 0",
        "  survives no death: there is one copy of each key, so a dead worker's part of them is gone",
    ]
    assert "app words is well built" in ended.out
    assert "  stages   count  level 1, words.py:6" in ended.out


def test_paths_in_a_file_start_at_the_file(capsys: Capture, folder: Path) -> None:
    text = APP.replace('default="a b a"', "default=None, kind=Path").replace(
        'mesh.items(["a b", "a"])', "mesh.files(source)"
    )
    (folder / "below").mkdir()
    (folder / "below/read.py").write_text("from pathlib import Path\n" + text, encoding="utf-8")
    topology = TOPOLOGY.replace("words.py", "read.py").replace("[[node]]", '[app.params]\ninput = "book.txt"\n[[node]]')
    (folder / "below/t.toml").write_text(topology, encoding="utf-8")
    assert f"input = '{folder}/below/book.txt'" in call_mesh(capsys, "check", "below/t.toml").out
    assert f"input = '{folder}/x.txt'" in call_mesh(capsys, "check", "below/t.toml", "--set", "input=x.txt").out


def test_check_takes_an_app_alone(capsys: Capture) -> None:
    ended = call_mesh(capsys, "check", "words.py")
    assert ended.code == 0
    assert ended.out.startswith("app words is well built\n  sources  lines")


def test_check_notes_what_is_for_later_or_not_safe(capsys: Capture, folder: Path) -> None:
    second = '[[node]]\nname = "beta"\nlisten = "tcp://10.0.0.1:1"\n'
    (folder / "t.toml").write_text(TOPOLOGY + second, encoding="utf-8")
    ended = call_mesh(capsys, "check", "t.toml", "--set", "cluster.copies=2")
    assert ended.code == 0
    notes = [line for line in ended.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert "10.0.0.1" in notes[0]
    assert "survives of two nodes the death of the lighter voter only" in ended.out


def test_check_tells_mistakes_of_file_params_and_graph_at_once(capsys: Capture, folder: Path) -> None:
    (folder / "words.py").write_text(APP + 'app.source("lines", mesh.items([1]))\n', encoding="utf-8")
    (folder / "t.toml").write_text(TOPOLOGY + 'rol = "worker"\n[app.params]\ninptu = 3\n', encoding="utf-8")
    ended = call_mesh(capsys, "check", "t.toml")
    assert (ended.code, ended.out) == (2, "")
    told = ended.err.splitlines()
    assert told[0] == 't.toml:8:1: unknown key "rol" in [[node]]; did you mean "role"?'
    assert told[1].startswith('t.toml:10:9: app "words" has no param "inptu"')
    assert told[2].startswith("words.py:7:5: ")
    assert told[-1] == f"{len(told) - 1} mistakes"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("wrods.py", "t.toml:4:10: there is no such file"),
        ("words.py:apq", 't.toml:4:10: there is no "apq" in it'),
        ("nosuch.module", "t.toml:4:10: there is no such module"),
    ],
)
def test_an_app_that_is_not_there_is_told_at_its_name(capsys: Capture, folder: Path, module: str, told: str) -> None:
    (folder / "t.toml").write_text(TOPOLOGY.replace("words.py", module), encoding="utf-8")
    ended = call_mesh(capsys, "check", "t.toml")
    assert ended.code == 2
    assert ended.err.startswith(told)


def test_an_app_that_fails_to_load_is_told_at_the_authors_line(capsys: Capture, folder: Path) -> None:
    (folder / "broken_app.py").write_text("import mesh\n\napp = mesh.Appp()\n", encoding="utf-8")
    ended = call_mesh(capsys, "check", "broken_app.py")
    assert ended.code == 2
    assert ended.err.startswith("broken_app.py:3:7: AttributeError")


def test_a_param_of_the_wrong_type_is_told_where_it_was_typed(capsys: Capture, folder: Path) -> None:
    text = APP.replace('default="a b a"', "default=3").replace('["a b", "a"]', "[]") + "\n"
    text += "words.map(lambda word: word * source.value).to(mesh.stdout())\n"
    (folder / "typed_app.py").write_text(text, encoding="utf-8")
    ended = call_mesh(capsys, "check", "typed_app.py", "--set", "input=three")
    assert ended.code == 2
    assert ended.err == "--set input=three: param \"input\" is of type int, not 'three'\n"


# -- usage


COMMANDS = (
    "run", "up", "node", "status", "ring", "owner", "get", "keys", "ask", "leave", "slots", "recover", "check",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(capsys: Capture, command: str) -> None:
    ended = call_mesh(capsys, command, "--help")
    assert ended.code == 0
    assert f"mesh {command}" in ended.out.partition("Example:")[2]


@pytest.mark.parametrize("command", ["nonsense", "slot"])
def test_commands_that_are_not_there(capsys: Capture, command: str) -> None:
    assert call_mesh(capsys, command, "x").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "words.py", "--nodes", "0"],
        ["run", "words.py", "--nodes", "two"],
        ["run", "words.py", "--http", "here"],
        ["run", "words.py", "--http", "0.0.0.0:1"],
        ["run", "words.py", "--http", "127.0.0.1:65535", "--nodes", "2"],
        ["run", "words.py", "--copies", "2"],
        ["run", "words.py", "--copies", "4", "--nodes", "5"],
        ["run", "words.py", "--durability", "disk"],
        ["run", "words.py", "--data-dir", "d"],
        ["run", "words.py", "--set", "nothing=1"],
        ["run", "nowhere.py"],
        ["node", "t.toml"],
        ["node", "t.toml", "--name", "beta"],
        ["node", "t.toml", "--name", "alpha", "--set", "cluster.copies=2"],
        ["up", "none.toml"],
        ["up", "t.toml", "--set", "cluster.durability=disk"],
        ["check"],
        ["check", "none.toml"],
    ],
)
def test_mistakes_are_told_on_stderr_with_exit_code_2(capsys: Capture, folder: Path, arguments: list[str]) -> None:
    (folder / "t.toml").write_text(TOPOLOGY, encoding="utf-8")
    ended = call_mesh(capsys, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert "Traceback" not in ended.err


# -- a run in one process


def test_run_prints_sink_lines_and_the_summary_last(folder: Path) -> None:
    ended = run_mesh("run", "words.py", "--json", cwd=folder)
    assert ended.code == 0
    *results, summary = ended.out.splitlines()
    assert [json.loads(line) for line in results] == [["a", 1], ["b", 1], ["a", 2]]
    told = json.loads(summary)
    assert list(told) == ["app", "nodes", "seconds", "records_in", "records_keyed", "records_out", "keys", "rate"]
    assert (told["app"], told["nodes"], told["records_in"]) == ("words", 1, 2)
    assert (told["records_keyed"], told["records_out"], told["keys"]) == (3, 3, 2)
    assert "3 keyed" in ended.event("run.done")["detail"]


def test_params_reach_the_app_from_the_command_line_and_the_environment(folder: Path) -> None:
    (folder / "book.txt").write_text("x y x", encoding="utf-8")
    (folder / "other.txt").write_text("z", encoding="utf-8")
    app = str(ROOT / "examples/word_count.py")
    from_environment = run_mesh("run", app, "--json", cwd=folder, MESH__APP__PARAMS__INPUT="book.txt")
    assert json.loads(from_environment.out)["records_keyed"] == 3
    both = run_mesh("run", app, "--json", "--set", "input=other.txt", cwd=folder, MESH__APP__PARAMS__INPUT="book.txt")
    assert json.loads(both.out)["records_keyed"] == 1


def test_a_run_whose_records_cannot_be_used_exits_1(folder: Path) -> None:
    (folder / "bad.py").write_text(APP.replace("lambda n, _: n + 1", "lambda n, _: 1 // (1 - n)"), encoding="utf-8")
    ended = run_mesh("run", "bad.py", "--json", cwd=folder)
    assert ended.code == 1
    assert json.loads(ended.out.splitlines()[-1])["records_keyed"] == 3
    assert "could not be used" in ended.event("run.failed")["detail"]


def test_a_missing_input_is_a_mistake_and_not_a_crash(folder: Path) -> None:
    ended = run_mesh("run", str(ROOT / "examples/word_count.py"), "--set", "input=none.txt", cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert "none.txt" in ended.err
    assert "Traceback" not in ended.err


def test_standard_input_can_be_a_source(folder: Path) -> None:
    (folder / "piped.py").write_text(APP.replace('mesh.items(["a b", "a"])', "mesh.stdin()"), encoding="utf-8")
    ended = run_mesh("run", "piped.py", cwd=folder, given="one two\none\n")
    assert (ended.code, ended.out.splitlines()) == (0, ['["one", 1]', '["two", 1]', '["one", 2]'])
    refused = run_mesh("run", "piped.py", "--nodes", "2", cwd=folder)
    assert refused.code == 2
    assert "standard input" in refused.err


def test_a_run_answers_over_http_until_ctrl_c(folder: Path) -> None:
    running = start_mesh("run", "words.py", "--keep", "--http", "127.0.0.1:0", "--json", cwd=folder)
    assert running.stderr is not None
    listening = json.loads(running.stderr.readline())
    assert listening["event"] == "node.listening"
    told = [json.loads(running.stderr.readline()) for _ in range(3)]  # when it is so, not when it is stopped
    assert [each["event"] for each in told] == ["node.ready", "app.done", "run.done"]
    assert (told[1]["name"], told[1]["records_in"], told[1]["keys"]) == ("node-1", 2, 2)
    at = f"http://{listening['http']}"
    waited = run_mesh("status", "--wait", "done", "--timeout", "60", "--at", at)
    assert ": epoch 1, app words, ready, done\n" in waited.out
    assert run_mesh("get", "count", "a", "--at", at).out == "2\n"
    assert run_mesh("get", "count", "zzz", "--at", at).code == 4
    assert json.loads(run_mesh("owner", "a", "--json", "--at", at).out)["owner"] == "node-1"
    assert " node-1 " in run_mesh("ring", "--at", at).out
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert json.loads(out.splitlines()[-1])["keys"] == 2
    assert "Traceback" not in err


def test_an_endless_run_ends_with_0_when_asked_once(folder: Path) -> None:
    endless = APP.replace('mesh.items(["a b", "a"])', "mesh.stdin()")
    (folder / "waits.py").write_text(endless, encoding="utf-8")
    running = start_mesh("run", "waits.py", cwd=folder, stdin=subprocess.PIPE)
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("a\n")
    running.stdin.flush()
    assert running.stdout.readline() == '["a", 1]\n'
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    running.communicate()


def test_results_that_cannot_be_written_are_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*MESH, "check", str(ROOT / "topologies/solo.toml")], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, b"mesh: cannot write: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_not_needed(closed: str, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("to be or not to be", encoding="utf-8")
    words = [*MESH, "run", str(ROOT / "examples/word_count.py"), "--set", "input=book.txt", "--set", "output=out"]
    ended = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], cwd=tmp_path, check=False, capture_output=True)
    assert (ended.returncode, ended.stdout) == (0, b"")
    assert b"Traceback" not in ended.stderr
    assert sum(len(part.read_text(encoding="utf-8").splitlines()) for part in (tmp_path / "out").iterdir()) == 6
