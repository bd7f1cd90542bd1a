"""What `mesh run --durability disk` leaves in its data directory, so that the same command goes on with the run.

    D/run.json      the cluster's name, which nodes of another run do not have, and how many nodes there are
    D/node-1 ..     a data directory each

States    none -> noted, before any node is started -> found by each later run of it
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from nodes.local import cluster_name
from nodes.mistakes import Failure

FILE = "run.json"


def kept_name(data_dir: str, app_name: str, nodes: int) -> str:
    """The cluster that the run is, or was before; raises `Failure` if another number of nodes began it."""
    file = Path(data_dir) / FILE
    try:
        noted = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if noted is None:
            return _note(file, cluster_name(app_name), nodes)
        name, count = str(noted["cluster"]), int(noted["nodes"])
    except OSError as error:
        raise Failure(2, f"the data directory {data_dir} cannot be used: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(2, f"{file} is not what a run has written: use another data directory") from None
    if count != nodes:
        raise Failure(
            2, f"the run in {data_dir} was begun with --nodes {count}: go on with as many, or use another directory"
        )
    return name


def _note(file: Path, name: str, nodes: int) -> str:
    """Whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as stream:
        json.dump({"cluster": name, "nodes": nodes}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    return name
