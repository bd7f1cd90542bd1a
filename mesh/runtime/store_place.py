"""Where a node's store is, and whose it is: the folder `store` of its data directory, and beside it a record.

    nothing -> begun (the record says so) -> made (the store is there) -> opened again, as often as need be

A store is not opened for another cluster, graph, number of slots, seed or home than it was made for: what is in it
would be found under other slots, read by other code, or promoted where something else is known. Nor is one begun again
where there has been one, since the cluster counts on what a home has.

Invariant whoever is refused has changed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path

from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import StartError
from mesh.runtime.store import DiskStore

RECORD = "store"
FORMAT = "hashmesh store 1"
MAKING, MADE = "begun", "made"
AS_NEW = "move the whole data directory away, and start with an empty one as a new node"


@dataclass(frozen=True, slots=True)
class Belongs:
    """To what a store belongs, in the words of a sentence."""

    cluster: str
    graph: str
    slots: int
    seed: int

    def lines(self) -> list[str]:
        return [
            f"cluster {self.cluster}",
            f"an application with the fingerprint {self.graph[:16]}",
            f"{self.slots} slots",
            f"seed {self.seed}",
        ]


def refuse_store(data_dir: DataDir, path: str) -> None:
    """Who has one must not be started without it: the cluster counts on what is in it. Raises StartError."""
    if data_dir.record(RECORD) is not None:
        raise StartError(
            f'{path} has a store, and this node is started with durability = "memory": start it with "disk", as '
            "before, or with another data directory"
        )


class StorePlace:
    """`check`, then `open` once this start is counted. Raises StartError."""

    def __init__(self, data_dir: DataDir, path: str, belongs: Belongs) -> None:
        self._data_dir = data_dir
        self._path = path
        self._store = Path(path) / "store"
        self._belongs = belongs
        self._made = False

    def check(self) -> None:
        """Changes nothing."""
        if find_spec("rocksdict") is None:
            raise StartError(
                "states on the disk need the package rocksdict, which is not installed: pip install 'hashmesh[disk]'"
            )
        kept = self._data_dir.record(RECORD)
        there = (self._store / "CURRENT").exists()
        if kept is None:
            if there:
                raise StartError(f"nothing says whose store {self._store} is, as {RECORD}.record is gone: {AS_NEW}")
            if self._data_dir.knows_a_cluster():
                raise StartError(f"{self._path} is of a cluster whose states are in memory: {AS_NEW}")
            return
        state, *lines = kept.decode("utf-8", "replace").split("\n")
        self._compare(lines)
        self._made = state == MADE
        if self._made and not there:
            raise StartError(f"the store {self._store} is gone, and the cluster counts on what this node had: {AS_NEW}")

    def _compare(self, lines: list[str]) -> None:
        mine = self._lines(self._data_dir.home())
        for theirs, ours in zip_longest(lines, mine, fillvalue="nothing"):
            if theirs != ours:
                raise StartError(
                    f"the store {self._store} was made for {theirs}, and this node is started for {ours}: start what "
                    "it was made for, or with another data directory"
                )

    def _lines(self, home: bytes | None) -> list[str]:
        whose = "nobody yet" if home is None else home.hex()
        return [FORMAT, *self._belongs.lines(), f"home {whose}"]

    def open(self) -> DiskStore:
        """After `check`, and the data directory's start."""
        if self._made:
            return DiskStore(str(self._store))
        self._say(MAKING)
        store = DiskStore(str(self._store))
        self._say(MADE)
        return store

    def _say(self, state: str) -> None:
        lines = self._lines(self._data_dir.home())
        self._data_dir.write_at_start(RECORD, "\n".join([state, *lines]).encode())
