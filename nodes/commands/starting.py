"""`mesh up` and `mesh node`: nodes of a topology file."""

from __future__ import annotations

import click

from nodes import logs
from nodes.application import Application, load, reads_stdin
from nodes.commands import options
from nodes.joining import chosen_node
from nodes.mistakes import Failure
from nodes.starting import refuse_to_start, spare_nodes
from nodes.topology import Topology, examine_topology, outside_values
from nodes.upkeep import Upkeep


@click.command(
    epilog="\b\nExample:\n  mesh node cluster.toml --name alpha\n"
    "  mesh node cluster.toml --name delta --listen tcp://127.0.0.1:7404 --http 127.0.0.1:7483 "
    "--join tcp://127.0.0.1:7401"
)
@click.argument("topology")
@click.option("--name", required=True, help="Which node of the file to be, or the name of one that joins.")
@click.option("--listen", metavar="tcp://H:P", help="Of a node that joins; also the next ones, as in [[node]].")
@click.option("--http", metavar="H:P", help="Where it answers HTTP.")
@click.option("--join", metavar="tcp://H:P", multiple=True, help="Where to find the cluster, besides the file's nodes.")
@click.option("--advertise", metavar="tcp://H:P", help="Where others find it.")
@click.option("--role", metavar="worker|witness", help="A witness votes and holds no keys.")
@click.option("--zone", metavar="Z", help="Where it stands.")
@click.option("--data-dir", metavar="D", help="Keeps its vote over a restart.")
@options.sets
@options.insecure
@click.option("--parent-pipe", is_flag=True, hidden=True, help="Stop when standard input ends.")
def node(
    topology: str, name: str, join: tuple[str, ...], sets: tuple[str, ...], insecure: bool, parent_pipe: bool,
    **given: str | None,
) -> int:  # fmt: skip
    """Run one node of a file, until Ctrl-C or `mesh leave`.

    One that the file does not name joins the running cluster: it needs --listen, --http and --join.
    """
    from nodes import daemon  # sockets and web servers: no other command waits for their import

    logs.configure()
    loaded, application = _load(topology, sets)
    chosen = chosen_node(loaded, name, given, join)
    refuse_to_start(loaded, [chosen], insecure=insecure)
    return daemon.serve(loaded, chosen, application.plan, join=join, parent_pipe=parent_pipe)


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
    names = [each.name for each in loaded.nodes]
    return Upkeep(topology, names, pass_on(sets, insecure=insecure), spare=spare_nodes(loaded)).run()


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
