"""`mesh run`: one application, in this process or on so many local nodes, until its sources are exhausted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import click

from mesh.app.plan import Plan
from nodes import logs
from nodes.addresses import Address, parse_host_port
from nodes.application import load, missing_input, reads_stdin, takes_posts
from nodes.commands import options
from nodes.commands.starting import pass_on
from nodes.job import Job
from nodes.kept_runs import kept_name
from nodes.local import chosen_app, cluster_name, free_ports, local_topology, node_names
from nodes.mistakes import Failure, Mistake
from nodes.overrides import Override
from nodes.starting import TYPE_INSECURE, refuse_to_start, spare_nodes
from nodes.summary import Summary
from nodes.topology import examine_topology, outside_values

MOST_NODES = 64  # of one machine
ATTEMPTS = 2  # somebody may take a port between the moment we find it free and the node's start


@click.command(
    epilog="\b\nExample:\n  mesh run examples/word_count.py --nodes 3 --set input=book.txt --set output=out --json"
)
@click.argument("app")
@click.option(
    "--nodes", type=click.IntRange(1, MOST_NODES), default=1, show_default=True, help="1: all in this process."
)
@options.sets
@click.option("--copies", type=int, help="How many nodes hold each key's state.")
@click.option("--durability", type=click.Choice(("memory", "disk")), help="disk needs --data-dir.")
@click.option(
    "--data-dir",
    metavar="D",
    type=click.Path(file_okay=False),
    help="Where states are kept on disk; a run with the same directory goes on.",
)
@click.option(
    "--http", metavar="H:P", help="Node i answers at port P+i-1; without it, at free ports, or, with one node, nowhere."
)
@click.option("--keep", is_flag=True, help="Stay after the sources are exhausted, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object, last.")
@options.insecure
def run(
    app: str,
    nodes: int,
    sets: tuple[str, ...],
    copies: int | None,
    durability: str | None,
    data_dir: str | None,
    http: str | None,
    keep: bool,
    as_json: bool,
    insecure: bool,
) -> int:
    """Run an app to the end of its sources.

    APP is file.py[:attr] or package.module[:attr]. Where a source is endless, or with --keep, it runs until Ctrl-C.
    """
    logs.configure()
    door = _door(http, nodes, insecure=insecure)
    typed: list[Override] = [chosen_app(app)]
    typed += [Override(("cluster", "copies"), copies, f"--copies {copies}")] if copies is not None else []
    typed += [Override(("cluster", "durability"), durability, f"--durability {durability}")] if durability else []
    overrides = [*outside_values(sets), *typed]
    _check_data_dir(overrides, nodes, data_dir)
    draft = local_topology(cluster_name("run"), [1 + index for index in range(nodes)], door, data_dir)
    topology, application = load(examine_topology("mesh run", overrides, draft))
    refuse_to_start(topology, topology.nodes, insecure=insecure)
    _check_sources(application.plan, nodes)
    _check_posts(application.plan, nodes, door)
    disk = topology.cluster.durability == "disk"
    app_name = application.plan.app_name
    params = {name: param.value for name, param in application.app.params.items()}
    cluster = kept_name(data_dir, app_name, nodes, params) if disk and data_dir else cluster_name(app_name)
    if nodes == 1:
        from nodes.solo import run_solo  # a web server: no other command waits for its import

        config = replace(topology.cluster, name=cluster)
        code, summary = run_solo(config, application.plan, door, keep=keep, data_dir=topology.nodes[0].data_dir)
    else:
        words = [*pass_on(sets, insecure=insecure), "--set", f"app.module={topology.app.module}"]
        words += [word for each in typed[1:] for word in ("--set", f"{'.'.join(each.path)}={each.value}")]
        made = partial(local_topology, cluster, http=door, data_dir=data_dir)
        code, summary = _run_on_nodes(app_name, nodes, made, door, words, keep=keep, spare=spare_nodes(topology))
    if as_json and summary is not None:
        click.echo(summary.as_json())
    return code


def _check_data_dir(overrides: list[Override | Mistake], nodes: int, data_dir: str | None) -> None:
    """The last one that says where states are kept counts."""
    said = [each.value for each in overrides if isinstance(each, Override) and each.path == ("cluster", "durability")]
    disk = bool(said) and said[-1] == "disk"
    if disk and not data_dir:
        raise click.UsageError("--durability disk needs --data-dir")
    if data_dir and nodes == 1 and not disk:
        raise Failure(2, "a run in one process keeps nothing on disk, but with --durability disk: leave --data-dir out")


def _door(http: str | None, nodes: int, *, insecure: bool) -> Address | None:
    if http is None:
        return None
    try:
        address = parse_host_port(http)
    except ValueError as error:
        raise click.UsageError(f"--http {error}") from None
    if address.port + nodes - 1 > 65535:
        raise click.UsageError(f"--http {http} leaves no ports for {nodes} nodes")
    if not (address.is_loopback or insecure):
        raise Failure(2, f"--http {http} is open to everybody who can reach it, with no security yet; {TYPE_INSECURE}")
    return address


def _check_sources(plan: Plan, nodes: int) -> None:
    if nodes > 1 and reads_stdin(plan):
        raise Failure(2, "the app reads standard input, which only one process can: run it without --nodes")
    if missing := missing_input(plan):
        raise Failure(2, *missing)


def _check_posts(plan: Plan, nodes: int, door: Address | None) -> None:
    """One node has a door only if it is asked for."""
    if nodes == 1 and door is None and (names := takes_posts(plan)):
        sources = " and ".join(f'"{name}"' for name in names)
        raise Failure(2, f"nobody could post to the source {sources}: give the run a door, as in --http 127.0.0.1:7480")


def _run_on_nodes(
    app: str,
    nodes: int,
    topology: Callable[[list[int]], str],
    door: Address | None,
    words: list[str],
    *,
    keep: bool,
    spare: int,
) -> tuple[int, Summary | None]:
    with tempfile.TemporaryDirectory(prefix="mesh-run-") as folder:
        for attempt in range(1, ATTEMPTS + 1):
            file = os.path.join(folder, f"attempt-{attempt}.toml")
            with open(file, "w", encoding="utf-8") as stream:
                stream.write(topology(free_ports(nodes)))
            job = Job(file, node_names(nodes), words, app=app, keep=keep, spare=spare)
            code = job.run()
            if not (code == 2 and job.port_taken and door is None and attempt < ATTEMPTS):
                break
            logs.logger().warning("run.again", detail="a port was taken before its node had it; with other ports now")
    return code, job.summary
