"""What `mesh run --durability disk` leaves in its data directory, so that the same command goes on with the run.

    D/run.json      the cluster's name, which nodes of another run do not have, how many nodes there are, and its
                    params: who goes on lists no sources anew, and would be done without a look at another input
    D/node-1 ..     a data directory each

States    none -> noted, before any node is started -> found by each later run of it
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from nodes.local import cluster_name
from nodes.mistakes import Failure

FILE = "run.json"


def kept_name(data_dir: str, app_name: str, nodes: int, params: Mapping[str, object]) -> str:
    """The cluster that the run is, or was before; raises `Failure` if it was begun otherwise. `params`: by name."""
    file = Path(data_dir) / FILE
    said = {name: _said(value) for name, value in params.items()}
    try:
        noted = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if noted is None:
            return _note(file, cluster_name(app_name), nodes, said)
        name, count, before = str(noted["cluster"]), int(noted["nodes"]), dict(noted["params"])
    except OSError as error:
        raise Failure(2, f"the data directory {data_dir} cannot be used: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(2, f"{file} is not what a run has written: use another data directory") from None
    if count != nodes:
        raise Failure(
            2, f"the run in {data_dir} was begun with --nodes {count}: go on with as many, or use another directory"
        )
    for each in [each for each in said if before.get(each, said[each]) != said[each]]:
        began, now = (f"{each}={text}" for text in (before[each], said[each]))
        raise Failure(
            2, f"the run in {data_dir} was begun with {began}, and not {now}: go on with that, or use another directory"
        )
    return name


def _said(value: object) -> str:
    """A param, wherever the command is given."""
    return os.path.abspath(value) if isinstance(value, Path) else "" if value is None else str(value)


def _note(file: Path, name: str, nodes: int, params: Mapping[str, str]) -> str:
    """Whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as stream:
        json.dump({"cluster": name, "nodes": nodes, "params": params}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    return name
