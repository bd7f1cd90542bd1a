"""`mesh check`: every mistake of a topology file and its app, or a summary of what would be started."""

from __future__ import annotations

import os
from typing import Any

import click

from mesh import Param
from mesh.app.plan import SinkPlan, SourcePlan
from nodes.application import Application, load, missing_input
from nodes.commands import options
from nodes.local import SOLO, chosen_app
from nodes.starting import exposures, survived
from nodes.topology import Topology, examine_topology, outside_values


@click.command(epilog="\b\nExample:\n  mesh check topologies/local-3.toml")
@click.argument("topology_or_app")
@options.sets
def check(topology_or_app: str, sets: tuple[str, ...]) -> None:
    """Tell every mistake at once, with its place.

    In a topology file and its app, or in an app alone; without mistakes, what would be started.
    """
    overrides = outside_values(sets)
    if topology_or_app.endswith(".toml"):
        examined = examine_topology(topology_or_app, overrides)
    else:
        examined = examine_topology("mesh check", [*overrides, chosen_app(topology_or_app)], SOLO)
    click.echo("\n".join(_summary(topology_or_app, *load(examined))))


def _summary(given: str, topology: Topology, application: Application) -> list[str]:
    whole = given == topology.file
    lines = _cluster_lines(topology) if whole else []
    return lines + _app_lines(application) + _notes(topology if whole else None, application)


def _cluster_lines(topology: Topology) -> list[str]:
    cluster = topology.cluster
    nodes = ", ".join(node.name + " (witness)" * (node.role == "witness") for node in topology.nodes)
    workers = sum(node.role == "worker" for node in topology.nodes)
    return [
        f"{topology.file}: cluster {cluster.name} is well described",
        f"  nodes    {nodes}; founded once {cluster.expect} of {workers} workers are there",
        f"  slots    {cluster.slots}, copies {cluster.copies}, durability {cluster.durability}, seed {cluster.seed}",
        f"  survives {survived(topology)}",
    ]


def _app_lines(application: Application) -> list[str]:
    app, plan = application.app, application.plan
    lines = [f"app {plan.app_name} is well built"]
    lines += _listed("sources", [_source(source) for source in plan.sources])
    lines += _listed("stages", [f"{stage.name}  level {stage.level}, {_short(stage.where)}" for stage in plan.stages])
    lines += _listed("sinks", [_sink(sink) for sink in plan.sinks])
    return lines + _listed("params", [_param(name, param) for name, param in app.params.items()])


def _source(source: SourcePlan) -> str:
    return f"{source.name}  {source.connector!r:.300}" + "  endless" * source.connector.endless


def _sink(sink: SinkPlan) -> str:
    return f"{sink.name}  " + ("nothing is written" if sink.discards else f"{sink.connector!r:.300}")


def _param(name: str, param: Param[Any]) -> str:
    value = "not set" if param.value is None else f"{str(param.value)!r:.300}"
    return f"{name} = {value}" + (f"  {param.help}" if param.help else "")


def _short(where: str) -> str:
    short = os.path.relpath(where)
    return where if short.startswith("..") else short


def _listed(heading: str, items: list[str]) -> list[str]:
    return [f"  {heading if number == 0 else '':8} {item}" for number, item in enumerate(items)]


def _notes(topology: Topology | None, application: Application) -> list[str]:
    sentences: list[str] = []
    for node in topology.nodes if topology else ():
        sentences += exposures(node)
    sentences += [f"on this machine, {sentence}" for sentence in missing_input(application.plan)]
    return [f"note: {sentence}" for sentence in sentences]
