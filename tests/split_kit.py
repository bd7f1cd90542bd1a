"""What is asked of daemons whose network is cut, by tests and by the benchmark: a job that notices, and conditions.

The job's records are (split, round, key); a state holds how many rounds of each split it has seen, and raises if a
round is missing, doubled or out of order: `failed` then is not 0. Each split stops half way until there is a file `go`,
so that there is always work left when the network breaks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.cluster_kit import Cluster, NodeProcess

SPLITS, ROUNDS, KEYS = 6, 40, 300
HALF = SPLITS * KEYS * ROUNDS // 2  # records
JOB = f"""\
import os

import mesh

SPLITS, ROUNDS, KEYS = {SPLITS}, {ROUNDS}, {KEYS}


class Rounds:
    endless = False
    blocking = False

    def splits(self):
        return [mesh.Split(f"split-{{number}}", ROUNDS) for number in range(SPLITS)]

    def open(self, split, offset):
        return Reader(split.name, offset)


class Reader:
    def __init__(self, split, at):
        self.split, self.at = split, at

    def read(self, max_bytes):
        if self.at == ROUNDS // 2 and not os.path.exists("go"):
            return mesh.Chunk([], self.at, False)
        values = [f"{{self.split}} {{self.at}} {{key}}" for key in range(KEYS)]
        self.at += 1
        return mesh.Chunk(values, self.at, self.at == ROUNDS)

    def close(self):
        pass


def see(seen, record):
    split, number, _ = record.split()
    if seen.get(split, 0) != int(number):
        raise ValueError(f"{{record}} after {{seen}}")
    return seen | {{split: int(number) + 1}}


app = mesh.App("rounds")
app.source("rounds", Rounds()).key_by(lambda record: int(record.split()[2])).fold("seen", dict, see)
"""
ALL_SEEN = {f"split-{number}": ROUNDS for number in range(SPLITS)}


def applied(nodes: Iterable[NodeProcess]) -> int:
    return round(sum(node.metric("mesh_records_keyed_total") for node in nodes))


def ready(node: NodeProcess) -> bool:
    return node.get("/readyz").code == 200


def stopped(*nodes: NodeProcess) -> bool:
    """They say so, in both places."""
    return not any(ready(node) or node.status()["ready"] for node in nodes)


def epoch(node: NodeProcess) -> int:
    return int(node.status()["epoch"])


def owner(node: NodeProcess, key: str) -> str:
    return str(node.get("/v1/owner", key=key, key_type="int").body["owner"])


def states(node: NodeProcess) -> dict[str, str]:
    return {each["name"]: each["state"] for each in node.status()["nodes"]}


def goes_on(nodes: Iterable[NodeProcess], after: int) -> bool:
    """All ready, on one table, that is later than `after`."""
    tables = [(ready(node), epoch(node)) for node in nodes]
    return all(each == tables[0] for each in tables) and tables[0][0] and tables[0][1] > after


def one_table(nodes: Iterable[NodeProcess]) -> bool:
    """Everybody is ready and knows the same partition, of which every slot is active."""
    looked = [(ready(node), node.get("/v1/ring").body) for node in nodes]
    return all(
        is_ready and ring == looked[0][1] and all(run["state"] == "active" for run in ring["runs"])
        for is_ready, ring in looked
    )


def finish(made: Cluster) -> None:
    """Let the job end; every record must have been applied once, in its stream's order."""
    (made.folder / "go").touch()
    made.until_done()
    done = [node.until("app.done") for node in made]
    assert [each["failed"] for each in done] == [0] * len(done), done
    assert sum(each["records_keyed"] for each in done) == 2 * HALF
    for key in (0, KEYS // 2, KEYS - 1):
        answers = [node.get("/v1/state/seen", key=str(key), key_type="int") for node in made]
        assert [_state(answer.body) for answer in answers] == [ALL_SEEN] * len(answers)


def _state(body: Any) -> Any:
    return body.get("state", body)
