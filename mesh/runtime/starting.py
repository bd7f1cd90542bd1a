"""What a node starts with, out of its configuration: who it is, how patient it is, and where its states are."""

from __future__ import annotations

import time

from mesh.app.plan import Plan
from mesh.core.control import Identity
from mesh.core.membership.tuning import LAN, LOOPBACK, WAN, Tuning
from mesh.core.messages.members import ALIVE, STAYING, Member
from mesh.core.planner import Declared
from mesh.core.storing import StoreError
from mesh.runtime.config import ClusterConfig, NodeConfig
from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import StartError
from mesh.runtime.store_place import Belongs, StorePlace, refuse_store


def store_place(cluster: ClusterConfig, node: NodeConfig, plan: Plan, data_dir: DataDir | None) -> StorePlace | None:
    """Where the states of a durable cluster are; a witness has none. Raises StartError."""
    if cluster.durability != "disk" or node.role != "worker":
        if data_dir is not None:
            refuse_store(data_dir, node.data_dir)
        return None
    if data_dir is None:
        raise StartError(f"node {node.name} needs a data_dir to keep its states in")
    place = StorePlace(data_dir, node.data_dir, Belongs(cluster.name, plan.fingerprint, cluster.slots, cluster.seed))
    place.check()
    return place


def why_not(node: NodeConfig, error: Exception) -> Exception:
    """In an operator's words, where it is not this program's mistake."""
    if isinstance(error, ValueError):
        return StartError(f"the data directory {node.data_dir} is of another version or cluster: {error}")
    return StartError(f"node {node.name} cannot start: {error}") if isinstance(error, StoreError) else error


def identity_of(
    cluster: ClusterConfig,
    node: NodeConfig,
    declared: tuple[NodeConfig, ...],
    plan: Plan,
    node_id: bytes,
    endpoint: str,
    join: tuple[str, ...],
    home: bytes,
    boot: int,
) -> Identity:
    """Who this process is, and what it has to have in common with those that it meets."""
    seeds = [each.endpoint for each in declared if each.name != node.name]
    return Identity(
        me=Member(node_id, node.name, endpoint, node.http, node.role, node.zone, 1, ALIVE, STAYING, home, boot),
        cluster=cluster.name,
        slots=cluster.slots,
        seed=cluster.seed,
        graph=plan.fingerprint,
        started=time.time_ns() // 1_000_000,
        declared=tuple(Declared(each.name, each.role, each.zone) for each in declared),
        expect=cluster.expect,
        copies=cluster.copies,
        seeds=tuple(dict.fromkeys([*join, *seeds])),
        durable=cluster.durability == "disk",
    )


def tuning_for(network: str, endpoint: str) -> Tuning:
    """As the operator says, else by the address: nodes on one machine lose no packets, but they share its cores."""
    named = {"loopback": LOOPBACK, "lan": LAN, "wan": WAN}
    if network in named:
        return named[network]
    return LOOPBACK if endpoint.startswith(("tcp://127.", "tcp://localhost", "tcp://[::1]")) else LAN
