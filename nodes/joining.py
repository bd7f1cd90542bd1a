"""A node that is not in the topology file: what it is told on the command line instead, checked as the file would be.

It reads its own copy of the file for the cluster, the app and where others may be; code never travels. A node that the
file names takes all but `--join` from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from mesh.runtime.config import NodeConfig
from nodes.addresses import parse_tcp
from nodes.contradictions import own_contradictions
from nodes.locator import Path
from nodes.mistakes import Failure, Mistake, Mistaken, did_you_mean
from nodes.schema import NodeSection, sentence
from nodes.topology import Topology

NEEDED = ("listen", "http", "join")


def chosen_node(topology: Topology, name: str, given: Mapping[str, str | None], join: Sequence[str]) -> NodeConfig:
    """The node of this name: the file's, or one that joins. `Failure` with every mistake of the options."""
    mistakes = [Mistake(f"--join {each}", 0, 0, text) for each in join if (text := _bad_address(each))]
    node = topology.node(name)
    if node is not None:
        mistakes += [_the_files_to_say(topology, name, key, value) for key, value in given.items() if value is not None]
    else:
        _all_there(topology, name, given, join)
        mistakes += _mistakes(topology, name, given)
    if mistakes:
        raise Mistaken(mistakes)
    return node or NodeConfig(**_section(name, given).model_dump())


def _bad_address(endpoint: str) -> str:
    try:
        parse_tcp(endpoint)
    except ValueError as error:
        return str(error)
    return ""


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _typed(key: str, value: str | None) -> str:
    return f"{_option(key)} {value}"


def _the_files_to_say(topology: Topology, name: str, key: str, value: str | None) -> Mistake:
    told = f'node "{name}" is in {topology.file}, which says its {key}; leave this out, or give it another name'
    return Mistake(_typed(key, value), 0, 0, told)


def _all_there(topology: Topology, name: str, given: Mapping[str, str | None], join: Sequence[str]) -> None:
    stores = topology.cluster.durability == "disk" and given["role"] != "witness"
    needed = (*NEEDED, "data_dir") if stores else NEEDED
    missing = [_option(key) for key in needed if not (join if key == "join" else given[key] is not None)]
    if not missing:
        return
    guess = did_you_mean(name, [each.name for each in topology.nodes])
    told = f'{topology.file} has no node "{name}"{guess}{"" if guess.endswith("?") else "."}'
    needs = ", ".join(missing) + (" is" if len(missing) == 1 else " are")
    raise Failure(2, f"{told} One that is not in the file joins a running cluster, for which {needs} missing here")


def _mistakes(topology: Topology, name: str, given: Mapping[str, str | None]) -> list[Mistake]:
    raw = {"name": name, **{key: value for key, value in given.items() if value is not None}}
    bad: list[tuple[Path, str]] = []
    try:
        NodeSection.model_validate(raw)
    except ValidationError as error:
        bad = [(detail["loc"], sentence(detail)) for detail in error.errors(include_url=False)]
    wrong = {path[-1] for path, _ in bad}
    bad += own_contradictions(raw, lambda path: path[-1] not in wrong)
    taken = given["advertise"] or given["listen"]
    holder = next((each.name for each in topology.nodes if each.endpoint == taken), None)
    if holder is not None:
        key = "advertise" if given["advertise"] else "listen"
        bad.append((("node", 0, key), f'is where node "{holder}" of {topology.file} is'))
    return [Mistake(_typed(str(path[-1]), str(raw.get(str(path[-1]), ""))), 0, 0, text) for path, text in bad]


def _section(name: str, given: Mapping[str, str | None]) -> NodeSection:
    section = NodeSection.model_validate({"name": name, **{k: v for k, v in given.items() if v is not None}})
    return section.model_copy(update={"data_dir": os.path.abspath(section.data_dir)} if section.data_dir else {})
