"""What a node is told at its start. `nodes` fills these from a topology file; tests fill them directly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What all nodes of a cluster must agree on."""

    name: str
    slots: int = 1024  # a power of two, 1 .. 65536
    copies: int = 1
    durability: str = "memory"  # memory | disk
    seed: int = 0  # of the key hash
    expect: int = 1  # workers that must be present before the cluster is founded
    network: str = "auto"  # auto | loopback | lan | wan: what the failure detector expects of it


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node; the same record describes the others that the file declares."""

    name: str
    listen: str  # tcp://host:port, bound for all of the mesh
    advertise: str = ""  # tcp://host:port that others connect to; "" means `listen`
    http: str = ""  # host:port of the HTTP door, "" for none
    role: str = "worker"  # worker | witness
    zone: str = ""
    data_dir: str = ""

    @property
    def endpoint(self) -> str:
        return self.advertise or self.listen
