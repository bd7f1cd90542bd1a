"""The cluster that `mesh run` makes up for one application: a topology like any other, only nobody wrote it."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Sequence

from nodes.addresses import Address
from nodes.mistakes import Failure
from nodes.overrides import Override

SOLO = '[cluster]\nname = "solo"\n[[node]]\nname = "node-1"\nlisten = "tcp://127.0.0.1:1"\n'  # nothing binds it
LOOPBACK = "127.0.0.1"
PORTS = range(16_384, 32_768)
TRIES = 100
MAX_APP_NAME = 50  # characters of it in the cluster's name


def chosen_app(spec: str) -> Override:
    """The app that a command was given; relative to the working directory. Raises `Failure` for what is none."""
    if not spec or spec.endswith(".toml") or (os.path.isdir(spec) and not os.path.exists(f"{spec}/__init__.py")):
        what = "is a topology file: mesh up takes it" if spec.endswith(".toml") else "is no app"
        raise Failure(
            2, f"{json.dumps(spec, ensure_ascii=False)} {what}; an app is file.py[:attr] or package.module[:attr]"
        )
    return Override(("app", "module"), spec, spec)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now; somebody may before we do.

    Below those that systems hand out by themselves (from 32768 on Linux, 49152 on macOS): else any connection that is
    made meanwhile may get one of them.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            sockets.append(_bound())
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _bound() -> socket.socket:
    for port in [*secrets.SystemRandom().sample(PORTS, TRIES), 0]:
        made = socket.socket()
        try:
            made.bind((LOOPBACK, port))
            return made
        except OSError:
            made.close()
    raise Failure(1, f"no free port on {LOOPBACK}")


def node_names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def cluster_name(app_name: str) -> str:
    """Two runs that meet on a port must not mix."""
    return f"{app_name[:MAX_APP_NAME]}-{secrets.token_hex(3)}"


def local_topology(cluster: str, ports: Sequence[int], http: Address | None, data_dir: str | None) -> str:
    """The text of a topology file: so many nodes on loopback. With `http`, node i has the i-th port from there on."""
    text = f"[cluster]\nname = {json.dumps(cluster)}\n"
    for index, (name, port) in enumerate(zip(node_names(len(ports)), ports, strict=True)):
        door = Address(http.host, http.port + index) if http and http.port else http or Address(LOOPBACK, 0)
        text += f'\n[[node]]\nname = "{name}"\nlisten = "tcp://{LOOPBACK}:{port}"\nhttp = {json.dumps(str(door))}\n'
        if data_dir:
            text += f"data_dir = {json.dumps(os.path.join(os.path.abspath(data_dir), name))}\n"
    return text
