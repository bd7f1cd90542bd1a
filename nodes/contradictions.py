"""What is wrong with a topology though each of its values is good by itself.

A check looks only at values that are good (`Good` says so), so that one mistake is told once and hides no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from nodes.addresses import Address, parse_host_port, parse_listen, parse_tcp
from nodes.locator import Path
from nodes.schema import ClusterSection, NodeSection

Good: TypeAlias = Callable[[Path], bool]
Found: TypeAlias = Iterator[tuple[Path, str]]  # the value to point at, and the sentence


def contradictions(tree: dict[str, Any], good: Good) -> Found:
    nodes = tree.get("node")
    if not (good(("node",)) and isinstance(nodes, list)):
        nodes = []
    views = [_NodeView(index, raw, good) for index, raw in enumerate(nodes) if isinstance(raw, dict)]
    yield from _expectations(tree.get("cluster"), views, good)
    yield from _stores(tree.get("cluster"), views, good)
    for view in views:
        yield from _advertised(view)
        yield from _own_ports(view)
    for index, view in enumerate(views):
        yield from _twins(view, views[:index])


def own_contradictions(node: dict[str, Any], good: Good) -> Found:
    """Of one node by itself."""
    view = _NodeView(0, node, good)
    yield from _advertised(view)
    yield from _own_ports(view)


class _NodeView:
    """The good values of one [[node]]."""

    def __init__(self, index: int, raw: dict[str, Any], good: Good) -> None:
        self.path: Path = ("node", index)
        self._raw = raw
        self._good = good
        self.name = self.text("name")
        self.role = self.text("role")
        self.listen = self._address("listen", parse_listen)
        self.advertise = self._address("advertise", parse_tcp)
        self.http = self._address("http", parse_host_port)
        self.data_dir = self.text("data_dir")

    def text(self, key: str) -> str | None:
        """None where it is bad, its default where it is absent."""
        if not self._good((*self.path, key)):
            return None
        return str(self._raw.get(key, NodeSection.model_fields[key].get_default() or ""))

    def _address(self, key: str, parse: Callable[[str], Address]) -> Address | None:
        text = self.text(key)
        return parse(text) if text else None

    @property
    def label(self) -> str:
        return f'"{self.name}"' if self.name else f"number {int(self.path[1]) + 1}"

    @property
    def machine(self) -> str | None:
        """Nodes of one machine share its ports. None: it cannot be told, as behind a mapped port."""
        if self.listen is None:
            return None
        if self.advertise is None or self.advertise == self.listen:
            return "" if self.listen.is_loopback else self.listen.host
        return self.advertise.host if self.advertise.port == self.listen.port else None


def _expectations(cluster: Any, nodes: list[_NodeView], good: Good) -> Found:
    if not isinstance(cluster, dict) or not nodes or any(node.role is None for node in nodes):
        return
    workers = sum(node.role == "worker" for node in nodes)
    if workers * 2 <= len(nodes):
        yield (
            ("node",),
            f"{workers} of the {len(nodes)} nodes can work; more than half must be workers to found a cluster",
        )
        return
    expect = cluster.get("expect", workers)
    if not good(("cluster", "expect")):
        expect = workers
    elif expect > workers:
        yield ("cluster", "expect"), f"expect = {expect}, but only {_workers(workers)} in the file"
    elif expect * 2 <= len(nodes):
        least = len(nodes) // 2 + 1
        yield (
            ("cluster", "expect"),
            f"expect = {expect} is not more than half of the {len(nodes)} nodes; at least {least}",
        )
    copies = cluster.get("copies", ClusterSection.model_fields["copies"].get_default())
    if good(("cluster", "copies")) and copies > expect:
        yield ("cluster", "copies"), f"copies = {copies}, but the cluster starts with only {expect} (expect)"


def _stores(cluster: Any, nodes: list[_NodeView], good: Good) -> Found:
    if not isinstance(cluster, dict) or not good(("cluster", "durability")) or cluster.get("durability") != "disk":
        return
    for node in nodes:
        if node.role == "worker" and node.data_dir == "":
            yield node.path, f'node {node.label} has no data_dir, which is where durability = "disk" keeps states'


def _workers(number: int) -> str:
    return f"{number} worker is" if number == 1 else f"{number} workers are"


def _advertised(node: _NodeView) -> Found:
    if node.listen and node.listen.is_wildcard and node.advertise is None and node.text("advertise") is not None:
        yield (*node.path, "listen"), "a wildcard needs advertise: the tcp://host:port where others find this node"
    if node.advertise and node.advertise.is_wildcard:
        yield (
            (*node.path, "advertise"),
            f"advertise must be an address that others can connect to, not {node.advertise}",
        )


def _own_ports(node: _NodeView) -> Found:
    if node.listen and node.http and node.listen.clashes_with(node.http):
        yield (*node.path, "http"), f"http {node.http} is taken by this node's own listen"


def _twins(node: _NodeView, earlier: list[_NodeView]) -> Found:
    for other in earlier:
        if node.name and node.name == other.name:
            yield (*node.path, "name"), f'two nodes are named "{node.name}"'
        yield from _one_address(node, other)


def _one_address(node: _NodeView, other: _NodeView) -> Found:
    endpoint, taken = node.advertise or node.listen, other.advertise or other.listen
    if endpoint and endpoint == taken:
        key = "advertise" if node.advertise else "listen"
        yield (*node.path, key), f"nodes {other.label} and {node.label} are both at tcp://{endpoint}"
        return
    if node.machine is None or node.machine != other.machine:
        return
    for key, mine in (("listen", node.listen), ("http", node.http)):
        for their_key, theirs in (("listen", other.listen), ("http", other.http)):
            if mine and theirs and mine.clashes_with(theirs):
                yield (
                    (*node.path, key),
                    f"{key} {mine} of node {node.label} is taken: {their_key} of node {other.label}",
                )
    if node.data_dir and node.data_dir == other.data_dir:
        yield (*node.path, "data_dir"), f'nodes {other.label} and {node.label} share data_dir "{node.data_dir}"'
