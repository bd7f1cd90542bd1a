from __future__ import annotations

from tests.node_network import Nodes


def test_three_nodes_count_every_record_once_and_in_order() -> None:
    nodes = Nodes("a", "b", "c")
    nodes.until(nodes.settled)
    nodes.until(nodes.finished)
    nodes.check()
    assert len(nodes.sink.items) == nodes.records
