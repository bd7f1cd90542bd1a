"""Times of real clusters when a node is killed, one joins, or the network is cut and healed. All are seconds.

What is measured is what a client sees: an answer over HTTP, asked for again and again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster_kit import Cluster, NodeProcess, cluster, eventually
from tests.namespace_kit import HostedCluster, hosted
from tests.split_kit import HALF, JOB, applied, epoch, finish, goes_on, one_table, stopped

NAMES = ("alpha", "beta", "gamma")
IDLE = """\
import mesh

app = mesh.App("idle")
app.source("numbers", mesh.items(range(3))).key_by(lambda n: n).fold("count", int, lambda count, _: count + 1)
"""


def until(condition: Callable[[], object], what: str) -> float:
    """How long it takes from now."""
    start = time.perf_counter()
    eventually(condition, what)
    return time.perf_counter() - start


@contextmanager
def three(network: str) -> Iterator[Cluster]:
    """Nodes that have done their work, on loopback, tuned for `network`."""
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), *NAMES, app=IDLE, network=network) as made:
        made.start()
        made.until_ready()
        made.until_done()
        yield made


def _is_on(node: NodeProcess, before: int) -> bool:
    status = node.status()
    return status["epoch"] > before and status["slots"]["unavailable"] > 0


def kill(turn: int, network: str = "lan") -> float:
    """kill -9 of one of three, each in turn, until both others know the partition without it."""
    victim = NAMES[turn % len(NAMES)]
    with three(network) as made:
        others = [made[name] for name in NAMES if name != victim]
        before = max(epoch(node) for node in others)
        time.sleep(0.25 * (turn * 0.618 % 1))  # kills come at any point of a probe's period
        start = time.perf_counter()
        made[victim].kill()
        eventually(lambda: all(_is_on(node, before) for node in others), "the next partition")
        return time.perf_counter() - start


def join(network: str = "lan") -> dict[str, float]:
    """A fourth worker, until every slot is ACTIVE and it owns its share, as every node says."""
    with three(network) as made:
        start = time.perf_counter()
        made.join("delta", "alpha")
        made["delta"].until("node.listening")
        listening = time.perf_counter() - start
        eventually(lambda: made.settled(*NAMES, "delta"), "all slots active")
        took = time.perf_counter() - start
    return {"from_exec": took, "from_listening": took - listening}


@contextmanager
def _cut_job(names: tuple[str, ...]) -> Iterator[HostedCluster]:
    with tempfile.TemporaryDirectory() as folder, hosted(Path(folder), *names, app=JOB) as made:
        made.start()
        made.until_ready()
        eventually(lambda: applied(made) == HALF, "half of the job")
        yield made


def split(hold: float) -> dict[str, float]:
    """gamma alone: until it has stopped, until the others have the next partition; healed after `hold`."""
    with _cut_job(NAMES) as made:
        before = max(epoch(node) for node in made)
        rest = [made["alpha"], made["beta"]]
        start = time.perf_counter()
        made.net.split(["gamma"], ["alpha", "beta"])
        eventually(lambda: goes_on(rest, before), "the majority goes on")
        goes = time.perf_counter() - start
        eventually(lambda: stopped(made["gamma"]), "the minority says that it is not ready")
        not_ready = time.perf_counter() - start
        made["gamma"].until("node.fenced")  # from then on it applies, reads and answers nothing
        stops = time.perf_counter() - start
        time.sleep(max(0.0, hold - (time.perf_counter() - start)))
        made.net.heal()
        heals = until(lambda: one_table(made), "one table everywhere")
        start = time.perf_counter()
        finish(made)
        return {
            "held": hold,
            "minority_not_ready": not_ready,
            "minority_stops": stops,
            "majority_goes_on": goes,
            "one_table_after_healing": heals,
            "job_ends_after_that": time.perf_counter() - start,
        }
