"""A node as a process: configuration, log, HTTP thread and signals around the inner daemon.

Sockets are bound before anything is announced, so a port in use is one sentence and exit code 2. The main thread is the
inner daemon's; SIGTERM and SIGINT ask it to drain, a second one ends the process with 130.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace

from mesh.app.plan import Plan
from mesh.runtime.collecting import freeze_what_stays
from mesh.runtime.config import NodeConfig
from mesh.runtime.daemon import Daemon
from mesh.runtime.errors import StartError
from nodes import logs
from nodes.addresses import parse_host_port
from nodes.door import Door, bind, bound_address
from nodes.http import make_app
from nodes.mistakes import Failure
from nodes.signals import on_stop_signals
from nodes.topology import Topology

ORPHAN_SECONDS = 10.0  # a node whose parent is gone may drain for so long


def serve(
    topology: Topology, node: NodeConfig, plan: Plan, *, join: tuple[str, ...] = (), parent_pipe: bool = False
) -> int:
    """Run one node until it is stopped or has left; its exit code."""
    log = logs.logger(node=node.name)
    try:
        return _serve(topology, node, plan, join, parent_pipe)
    except (Failure, StartError) as error:
        log.error("node.refused", detail=str(error))
        return error.code if isinstance(error, Failure) else 2
    except Exception as error:  # ours, or the application's where nobody expected it: one line, and the process ends
        log.critical("node.crashed", detail=f"{type(error).__name__}: {error}", exc_info=error)
        return 1


def _serve(topology: Topology, node: NodeConfig, plan: Plan, join: tuple[str, ...], parent_pipe: bool) -> int:
    log = logs.logger(node=node.name)
    address = parse_host_port(node.http) if node.http else None
    server = bind(address) if address else None
    if server and address:
        node = replace(node, http=str(bound_address(server, address)))
    try:
        daemon = Daemon(topology.cluster, node, topology.nodes, plan, log, join=join)
    except BaseException:
        if server:
            server.close()
        raise
    on_stop_signals(daemon.request_stop)
    if parent_pipe:
        _watch_parent(daemon)
    log.info("node.listening", name=node.name, listen=daemon.endpoint, http=node.http)
    door = Door(make_app(daemon.outside), server) if server else None
    if door:
        door.start()
    freeze_what_stays(daemon.states_in_memory)
    code = daemon.run()
    if door:
        door.stop()
    return code


def _watch_parent(daemon: Daemon) -> None:
    """Standard input is a pipe that the parent never writes to: its end is the parent's end, however that came."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):  # not through a buffer, whose lock the interpreter wants at its end
            pass
        daemon.request_stop()
        threading.Event().wait(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
