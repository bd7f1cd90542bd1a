"""Real networks for real daemons: every node in a Linux network namespace of its own, all on one bridge, and real cuts.

    node --eth0 ........ port-- bridge in a namespace of its own --port ........ eth0-- node

A cut is a rule at the receiver that drops packets by sender without a word, as a broken network does, so each
direction, and each port, can be cut by itself; rules do that with nothing but iproute2, which netem and nftables are no
part of. The receiver's rule for its own addresses has to come after the cuts, and established connections must be
looked up like all others (no early demux). A link that flaps is the bridge's port going down and up.

The machine's own network is not touched. Threads in a namespace start the processes and ask the HTTP doors, which stay
on loopback: so a node answers whatever is cut.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster_kit import Cluster, NodeProcess
from tests.commands import Ended, run_mesh

PORT = 7400  # of the mesh, in every namespace
CLONE_NEWNET = 0x40000000
CUT = "10"  # preference of the rules that cut; own addresses come after them, at 100

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_networks = itertools.count(1)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


def _enter(namespace: str) -> None:
    """Only the calling thread, and what it starts."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(descriptor)


class Host:
    """A namespace with an address, and threads that are in it: who waits for an answer there is not alone."""

    def __init__(self, name: str, namespace: str, number: int) -> None:
        self.namespace = namespace
        self.address = f"10.77.0.{number}"
        self.port = f"port{number}"  # of the bridge
        self._thread = ThreadPoolExecutor(4, f"in-{name}", _enter, (namespace,))

    def run(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """There; an exception comes back here."""
        return self._thread.submit(call, *arguments, **named).result()

    def close(self) -> None:
        self._thread.shutdown()


class Network:
    """Hosts on a bridge. Use `network`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"mesh-{os.getpid()}-{next(_networks)}"
        self._hub = f"{self._prefix}-hub"
        self.hosts = {name: self._host(name, number) for number, name in enumerate(names, 1)}
        self._cuts: dict[tuple[str, str], tuple[str, ...]] = {}

    def _host(self, name: str, number: int) -> Host:
        return Host(name, f"{self._prefix}-{name}", number)

    def add(self, name: str) -> Host:
        """One more, when all others are there."""
        host = self.hosts[name] = self._host(name, len(self.hosts) + 1)
        self._plug_in(host)
        return host

    def build(self) -> None:
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")
        for host in self.hosts.values():
            self._plug_in(host)

    def _plug_in(self, host: Host) -> None:
        inside, hub = ("-n", host.namespace), ("-n", self._hub)
        _ip("netns", "add", host.namespace)
        _ip(*hub, "link", "add", "dev", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _ip(*hub, "link", "set", "dev", host.port, "master", "bridge", "up")
        _ip(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip(*inside, "rule", "add", "pref", "100", "lookup", "local")
        _ip(*inside, "rule", "del", "pref", "0")
        host.run(Path("/proc/sys/net/ipv4/ip_early_demux").write_text, "0")

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        for namespace in (*(host.namespace for host in self.hosts.values()), self._hub):
            if Path("/run/netns", namespace).exists():
                _ip("netns", "delete", namespace)

    # -- what can be broken

    def cut(self, source: str, target: str, *, mesh_port: bool = False) -> None:
        """Nothing of `source` arrives at `target`; or only nothing at its mesh port, so that answers over connections
        that `target` made still come."""
        if (source, target) in self._cuts:
            return
        port = ("ipproto", "tcp", "dport", str(PORT)) if mesh_port else ()
        rule = ("pref", CUT, "from", self.hosts[source].address, "iif", "eth0", *port)
        _ip("-n", self.hosts[target].namespace, "rule", "add", *rule, "blackhole")
        self._cuts[source, target] = rule

    def split(self, one: Sequence[str], other: Sequence[str]) -> None:
        for a, b in itertools.product(one, other):
            self.cut(a, b)
            self.cut(b, a)

    def heal(self) -> None:
        for (_, target), rule in self._cuts.items():
            _ip("-n", self.hosts[target].namespace, "rule", "del", *rule)
        self._cuts.clear()

    def link(self, name: str, state: str) -> None:
        """The cable of one host: up or down."""
        _ip("-n", self._hub, "link", "set", "dev", self.hosts[name].port, state)


@contextmanager
def network(*names: str) -> Iterator[Network]:
    made = Network(names)
    try:
        made.build()
        yield made
    finally:
        made.close()


def why_not() -> str:
    """Why this machine does not let us, in one line; empty if it does. Found out by doing it."""
    if shutil.which("ip") is None:
        return "network namespaces need iproute2: there is no command `ip`"
    try:
        with network("a", "b") as tried:
            tried.split(["a"], ["b"])
            tried.heal()
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: `{' '.join(error.cmd)}`: {' '.join(error.stderr.split())}"
    except OSError as error:
        return f"no network namespaces here: {error}"
    return ""


# -- daemons in them


class HostedNode(NodeProcess):
    """A node whose HTTP door is on the loopback of its namespace."""

    def __init__(self, host: Host, name: str, file: str, folder: Path, *options: str) -> None:
        self.host = host
        super().__init__(name, file, folder, *options)

    def near(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        return self.host.run(call, *arguments, **named)

    def mesh(self, *words: str) -> Ended:
        """A `mesh` command that asks this node."""
        return self.host.run(run_mesh, *words, "--at", f"http://{self.door}")


@dataclass(frozen=True)
class Connection:
    """An established one to some node's mesh port, as the kernel sees it."""

    unacknowledged: int  # bytes
    repeats: int  # of one segment, each after twice the time of the one before


def connections(node: HostedNode) -> list[Connection]:
    """Those that this node made to others."""
    lines = node.host.run(Path("/proc/thread-self/net/tcp").read_text).splitlines()[1:]
    columns = [line.split() for line in lines]
    return [
        Connection(int(each[4].partition(":")[0], 16), int(each[6], 16))
        for each in columns
        if each[3] == "01" and each[2].endswith(f":{PORT:04X}")
    ]


class HostedCluster(Cluster):
    """A cluster whose nodes each have a namespace."""

    def __init__(self, folder: Path, net: Network, text: str) -> None:
        super().__init__(folder, tuple(net.hosts), text, dict.fromkeys(net.hosts, PORT))
        self.net = net

    def start(self, *names: str, options: tuple[str, ...] = (), text: str | None = None) -> None:
        for name in names or self.names:
            file = self.folder / f"{name}-{len(self.all)}.toml"
            file.write_text(self.text if text is None else text, encoding="utf-8")
            host = self.net.hosts[name]
            self._add(host.run(HostedNode, host, name, file.name, self.folder, "--insecure", *options))

    def join(self, name: str, at: str, *options: str, text: str | None = None) -> NodeProcess:
        """On a machine of its own, which is there afterwards too."""
        host = self.net.hosts.get(name) or self.net.add(name)
        where = ("--listen", f"tcp://{host.address}:{PORT}", "--http", "127.0.0.1:0", "--join", self.nodes[at].listen)
        self.start(name, options=(*where, *options), text=text)
        return self.nodes[name]

    def hosted(self, name: str) -> HostedNode:
        node = self.nodes[name]
        assert isinstance(node, HostedNode)
        return node

    def mesh(self, name: str, *words: str) -> Ended:
        return self.hosted(name).mesh(*words)


def topology(hosts: Mapping[str, Host], **cluster: Any) -> str:
    settings = {"name": "cut"} | cluster
    lines = ["[cluster]", *[f"{key} = {json.dumps(value)}" for key, value in settings.items()]]
    lines += ["[app]", 'module = "app.py"']
    for name, host in hosts.items():
        lines += ["[[node]]", f'name = "{name}"', f'listen = "tcp://{host.address}:{PORT}"']
    return "\n".join(lines) + "\n"


@contextmanager
def hosted(folder: Path, *names: str, app: str | Path, **settings: Any) -> Iterator[HostedCluster]:
    """Nothing is started yet; everything is killed and taken down at the end. `app` is a file, or the text of one."""
    folder.mkdir(parents=True, exist_ok=True)
    text = app if isinstance(app, str) else app.read_text(encoding="utf-8")
    (folder / "app.py").write_text(text, encoding="utf-8")
    with network(*names) as net:
        made = HostedCluster(folder, net, topology(net.hosts, **settings))
        try:
            yield made
        finally:
            made.close()
