"""A real cluster for tests: node processes on free loopback ports, their logs as events, their HTTP doors as questions.

Everything that is waited for has a deadline and is an event or an answer, never a span of time.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from nodes.local import free_ports
from tests.commands import ENVIRONMENT, ROOT

PATIENCE = 60.0  # seconds for what must come; a loaded machine may take a while
ANSWER = 20.0  # seconds for an HTTP answer
WORD_COUNT = ROOT / "examples" / "word_count.py"
ALARMS = ("member.dead", "member.left", "node.not_ready", "node.crashed")  # a suspicion may be a busy machine's

T = TypeVar("T")

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Said:
    """An HTTP answer."""

    code: int
    text: str
    headers: Mapping[str, str]  # names in lower case

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def fetch(door: str, path: str, method: str = "GET", **query: str) -> Said:
    url = f"http://{door}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        with _NO_PROXY.open(urllib.request.Request(url, method=method), timeout=ANSWER) as response:
            return Said(response.status, response.read().decode(), _lower(response.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Said(error.code, error.read().decode(), _lower(error.headers))


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def eventually(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Look until it is there; the last look is the result."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; the last look gave {found!r}")
        time.sleep(0.02)
    return found


class NodeProcess:
    """One `python -P -m nodes`, and all that it has logged."""

    def __init__(self, name: str, file: str, folder: Path, *options: str) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.noise: list[str] = []  # lines on stderr that are not log lines
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nodes", file, "--name", name, *options],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                else:
                    self.noise.append(line)
                self._heard.notify_all()
        with self._heard:
            self.process.wait()
            self._heard.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def door(self) -> str:
        return str(self.until("node.listening")["http"])

    @property
    def listen(self) -> str:
        """Its mesh port."""
        return str(self.until("node.listening")["listen"])

    def all_of(self, *names: str) -> list[dict[str, Any]]:
        with self._heard:
            return [event for event in self.events if event["event"] in names]

    def until(self, event: str, seconds: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The first event with this name and these fields."""

        def found() -> dict[str, Any] | None:
            fit = (each for each in self.events if each["event"] == event and fields.items() <= each.items())
            return next(fit, None)

        with self._heard:
            self._heard.wait_for(
                lambda: found() or not self._reader.is_alive() or self.process.poll() is not None, seconds
            )
            self._heard.wait_for(found, 1.0)  # what a process said last may still be on its way
            came = found()
        assert came, f"{self.name} did not log {event} {fields}: {self.events} {self.noise}"
        return came

    def near(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """What is asked of its door is asked from where that can be reached."""
        return call(*arguments, **named)

    def get(self, path: str, **query: str) -> Said:
        return self.near(fetch, self.door, path, **query)

    def status(self) -> Any:
        return self.get("/v1/status").body

    def slots(self) -> dict[str, int]:
        """How many are in each state."""
        counts: dict[str, int] = self.status()["slots"]
        return counts

    def leave(self, name: str) -> Said:
        """Ask this node to make that one leave."""
        return self.order("/v1/leave", name=name)

    def order(self, path: str, **query: str) -> Said:
        return self.near(fetch, self.door, path, "POST", **query)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def rejected(self) -> Counter[str]:
        """Bad peer input, by reason."""
        counts: Counter[str] = Counter()
        for line in self.get("/metrics").text.splitlines():
            if line.startswith('mesh_rejected_total{reason="'):
                reason, _, count = line.removeprefix('mesh_rejected_total{reason="').partition('"} ')
                counts[reason] = round(float(count))
        return counts

    def peak(self) -> int:
        """The most memory that it ever had in use, in bytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int | None = None, seconds: float = PATIENCE) -> int:
        """Send a signal, if one is given; the exit code."""
        if number is not None:
            self.signal(number)
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()


class Cluster:
    """Nodes of one topology; `nodes` holds those that were started, the last of each name."""

    def __init__(self, folder: Path, names: tuple[str, ...], text: str, ports: dict[str, int]) -> None:
        self.folder = folder
        self.names = names
        self.text = text
        self.ports = ports
        self.nodes: dict[str, NodeProcess] = {}
        self.all: list[NodeProcess] = []

    def start(self, *names: str, options: tuple[str, ...] = (), text: str | None = None) -> None:
        for name in names or self.names:
            file = self.folder / f"{name}-{len(self.all)}.toml"
            file.write_text(self.text if text is None else text, encoding="utf-8")
            self._add(NodeProcess(name, file.name, self.folder, *options))

    def join(self, name: str, at: str, *options: str, text: str | None = None) -> NodeProcess:
        """A node that is not in the file joins at the node `at`; it reads a copy of its own of the file."""
        file = self.folder / f"{name}-{len(self.all)}.toml"
        file.write_text(self.text if text is None else text, encoding="utf-8")
        port = self.ports.setdefault(name, free_ports(1)[0])
        where = ("--listen", f"tcp://127.0.0.1:{port}", "--http", "127.0.0.1:0", "--join", self.nodes[at].listen)
        self._add(NodeProcess(name, file.name, self.folder, *where, *options))
        return self.nodes[name]

    def _add(self, node: NodeProcess) -> None:
        self.nodes[node.name] = node
        self.all.append(node)

    def __getitem__(self, name: str) -> NodeProcess:
        return self.nodes[name]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(list(self.nodes.values()))

    def until_ready(self) -> None:
        for node in self:
            node.until("node.ready")

    def until_done(self, seconds: float = 100.0) -> None:
        for node in self:
            node.until("app.done", seconds)

    def owner_of(self, key: str, key_type: str = "str") -> str:
        running = next(node for node in self if node.running)
        return str(running.get("/v1/owner", key=key, key_type=key_type).body["owner"])

    def running(self) -> list[NodeProcess]:
        return [node for node in self if node.running]

    def settled(self, *names: str) -> bool:
        """All of these, and only these, are in one partition, as each of them says, and nothing is on its way."""
        seen = [self.nodes[name].get("/v1/ring").body for name in names]
        counts = [self.nodes[name].slots() for name in names]
        owners = {run["owner"] for ring in seen for run in ring["runs"]}
        at_rest = all(count["active"] == count["total"] for count in counts)
        return at_rest and len({ring["epoch"] for ring in seen}) == 1 and owners == {*names}

    def until_settled(self, *names: str, seconds: float = PATIENCE) -> None:
        eventually(lambda: self.settled(*names), f"a partition of {', '.join(names)}, at rest", seconds)

    def alarms(self) -> list[tuple[str, dict[str, Any]]]:
        """What is logged only when somebody seemed to be gone, or broke."""
        return self.alarms_of(*ALARMS)

    def alarms_of(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        return [(node.name, event) for node in self for event in node.all_of(*names)]

    def noise(self) -> list[str]:
        """Tracebacks and the like."""
        traces = [event["exception"] for node in self.all for event in node.events if event.get("exception")]
        return traces + [line for node in self.all for line in node.noise]

    def close(self) -> None:
        for node in self.all:
            node.kill()


def topology(
    names: Mapping[str, int], app: str | Path, *, extra: Mapping[str, str] | None = None, **cluster: Any
) -> str:
    """The text of a file with these nodes and mesh ports; `extra` adds lines to single nodes."""
    settings = {"name": "tested"} | cluster
    lines = ["[cluster]", *[f"{key} = {json.dumps(value)}" for key, value in settings.items()]]
    lines += ["[app]", f"module = {json.dumps(str(app))}"]
    for name, port in names.items():
        lines += ["[[node]]", f'name = "{name}"', f'listen = "tcp://127.0.0.1:{port}"', 'http = "127.0.0.1:0"']
        lines += [extra[name]] if extra and name in extra else []
    return "\n".join(lines) + "\n"


@contextmanager
def cluster(
    folder: Path, *names: str, app: str | Path, extra: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Cluster]:
    """Nothing is started yet; everything is killed at the end. `app` is a file, or the text of one."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(app, str):
        (folder / "app.py").write_text(app, encoding="utf-8")
        app = "app.py"
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    made = Cluster(folder, names, topology(ports, app, extra=extra, **settings), ports)
    try:
        yield made
    finally:
        made.close()


def counted_anywhere(folder: Path) -> dict[str, int]:
    """As `counted`, of words whose counts were written by one node after another."""
    seen: dict[str, list[int]] = {}
    for part in sorted(folder.glob("*.jsonl")):
        here: dict[str, int] = {}
        for line in part.read_text(encoding="utf-8").splitlines():
            word, count = json.loads(line)
            assert count > here.get(word, 0), (part, line, here[word])
            here[word] = count
            seen.setdefault(word, []).append(count)
    for word, counts in seen.items():
        assert sorted(counts) == list(range(1, len(counts) + 1)), (word, len(counts))
    return {word: len(counts) for word, counts in seen.items()}


def counted(folder: Path) -> dict[str, int]:
    """The words of a word count's parts. Every line ["word", n] must be the one after ["word", n - 1]."""
    counts: dict[str, int] = {}
    for part in sorted(folder.glob("*.jsonl")):
        with part.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                word, _, count = line.rpartition(", ")
                so_far = counts[word] = counts.get(word, 0) + 1
                assert int(count[:-2]) == so_far, (part, line, so_far)
    return {json.loads(word[1:]): count for word, count in counts.items()}
