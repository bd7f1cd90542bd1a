"""`mesh up` and `mesh node`: nodes of a topology file."""

from __future__ import annotations

import click

from nodes import logs
from nodes.application import Application, load, reads_stdin
from nodes.commands import options
from nodes.mistakes import Failure
from nodes.starting import chosen_node, refuse_to_start
from nodes.topology import Topology, examine_topology, outside_values
from nodes.upkeep import Upkeep


@click.command(epilog="\b\nExample:\n  mesh node cluster.toml --name alpha")
@click.argument("topology")
@click.option("--name", required=True, help="Which node of the file to be.")
@options.sets
@options.insecure
@click.option("--parent-pipe", is_flag=True, hidden=True, help="Stop when standard input ends.")
def node(topology: str, name: str, sets: tuple[str, ...], insecure: bool, parent_pipe: bool) -> int:
    """Run one node of a file, until Ctrl-C."""
    from nodes import daemon  # sockets and web servers: no other command waits for their import

    logs.configure()
    loaded, application = _load(topology, sets)
    chosen = chosen_node(loaded, name)
    refuse_to_start(loaded, [chosen], insecure=insecure)
    return daemon.serve(loaded, chosen, application.plan, parent_pipe=parent_pipe)


@click.command(epilog="\b\nExample:\n  mesh up topologies/local-3.toml --set input=book.txt")
@click.argument("topology")
@options.sets
@options.insecure
def up(topology: str, sets: tuple[str, ...], insecure: bool) -> int:
    """Run all nodes of a file here, with one log.

    On this machine, until Ctrl-C.
    """
    logs.configure()
    loaded, application = _load(topology, sets)
    refuse_to_start(loaded, loaded.nodes, insecure=insecure)
    if reads_stdin(application.plan):
        raise Failure(2, "the app reads standard input, which only one process can: use `mesh run` or `mesh node`")
    return Upkeep(topology, [each.name for each in loaded.nodes], pass_on(sets, insecure=insecure)).run()


def _load(topology: str, sets: tuple[str, ...]) -> tuple[Topology, Application]:
    if topology.endswith(".py"):
        raise Failure(
            2, f"{topology} is an app, and a topology file is needed; to run the app alone: mesh run {topology}"
        )
    return load(examine_topology(topology, outside_values(sets)))


def pass_on(sets: tuple[str, ...], *, insecure: bool) -> list[str]:
    """What the children must be told too."""
    options = [word for pair in sets for word in ("--set", pair)]
    return options + ["--insecure"] * insecure
