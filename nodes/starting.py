"""What stands between a good topology file and a running node: what is not safe; and what it will survive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mesh.runtime.config import NodeConfig
from nodes.addresses import parse_host_port, parse_listen
from nodes.mistakes import Mistake, Mistaken
from nodes.topology import Topology

TYPE_INSECURE = "type --insecure if that is meant"


def exposures(node: NodeConfig) -> list[str]:
    """What others could reach without being asked who they are, a sentence each."""
    listen = parse_listen(node.listen)
    doors = [("the mesh", listen)] if not listen.is_loopback else []
    if node.http and not parse_host_port(node.http).is_loopback:
        doors.append(("the HTTP door", parse_host_port(node.http)))
    return [
        f'node "{node.name}" would open {what} on {address}, to everybody who can reach it, with no security yet; '
        f"{TYPE_INSECURE}"
        for what, address in doors
    ]


def refuse_to_start(topology: Topology, nodes: Sequence[NodeConfig], *, insecure: bool) -> None:
    """Raises `Failure` or `Mistaken` if these nodes must not be started as they are."""
    places = dict(zip((each.name for each in topology.nodes), topology.node_places, strict=True))
    typed = Mistake("--listen, --http", 0, 0, "")  # by a node that the file does not name
    found = [replace(places.get(node.name, typed), text=text) for node in nodes for text in exposures(node)]
    if found and not insecure:
        raise Mistaken(found)


def survived(topology: Topology) -> str:
    """What a cluster of this file can lose and go on."""
    copies = topology.cluster.copies
    voters = len(topology.nodes)
    if copies == 1 and topology.cluster.durability == "disk":
        return (
            "no death for good: a worker's part of the keys is unavailable until it is started again, with its data_dir"
        )
    if copies == 1:
        return "no death: there is one copy of each key, so a dead worker's part of them is gone"
    if voters == 1:
        return "no death: there is one node"
    if voters == 2:
        return (
            "of two nodes the death of the lighter voter only; when the other dies, all stops. Three nodes, or two "
            "and a witness, survive the death of any one"
        )
    lost = spare_nodes(topology)
    return f"the death of any {lost} at once, with {copies} copies of each key" if lost else "no death"


def spare_nodes(topology: Topology) -> int:
    """So many, whichever they are, may die at once, and the others go on with all that there was."""
    workers = sum(node.role == "worker" for node in topology.nodes)
    return min(topology.cluster.copies - 1, (len(topology.nodes) - 1) // 2, workers - 1)
