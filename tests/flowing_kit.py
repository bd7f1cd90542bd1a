"""Words that flow for as long as a test wants: the file `enough` ends the sources; what each then had said is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster_kit import Cluster, cluster, counted_anywhere, eventually

SPLITS = 6
WORDS = 60  # each split has words of its own, so that each word has one order
CHUNK = 20

APP = f"""\
import contextlib
import json
import os
import time
from pathlib import Path

import mesh

output = mesh.param("output", default=Path("out"), kind=Path)


class Words:
    endless = False
    blocking = False

    def splits(self):
        return [mesh.Split(f"split-{{number}}") for number in range({SPLITS})]

    def open(self, split, offset):
        return Reader(split.name, offset)


class Reader:
    def __init__(self, name, offset):
        self.name, self.offset = name, offset
        self.given = open(f"given-{{name}}-{{os.getpid()}}-{{time.monotonic_ns()}}", "w")

    def read(self, max_bytes):
        time.sleep(0.002)  # a source that is not the fastest
        if Path("enough").exists() and self.offset >= self.end():
            return mesh.Chunk([], self.offset, True)
        words = [f"{{self.name}}-{{(self.offset + index) % {WORDS}}}" for index in range({CHUNK})]
        self.offset += len(words)
        self.given.seek(0)
        self.given.write(str(self.offset))
        self.given.flush()
        return mesh.Chunk(words, self.offset, False)

    def end(self):
        # where the one of all its readers so far that had got furthest had got to
        end, mine = Path(f"ended-{{self.name}}"), Path(f"ended-{{self.name}}-{{os.getpid()}}")
        if not end.exists():
            given = [each.read_text() for each in Path().glob(f"given-{{self.name}}-*")]
            mine.write_text(json.dumps(max(int(each or 0) for each in given)))
            with contextlib.suppress(FileExistsError):
                os.link(mine, end)
            mine.unlink()
        return json.loads(end.read_text())

    def close(self):
        self.given.close()


app = mesh.App("flowing")
words = app.source("words", Words()).key_by(lambda word: word)
words.fold("count", int, lambda n, _: n + 1).items().to(mesh.jsonl(output))
"""


class Flowing:
    """A cluster of it."""

    def __init__(self, made: Cluster, folder: Path) -> None:
        self.made = made
        self.folder = folder

    def in_flow(self) -> None:
        """Every running worker has keyed more than it had."""
        before = {node.name: node.metric("mesh_records_keyed_total") for node in self.made.running()}
        for name, keyed in before.items():
            eventually(
                lambda name=name, keyed=keyed: self.made[name].metric("mesh_records_keyed_total") > keyed,  # type: ignore[misc]
                f"{name} at work",
            )

    def enough(self) -> None:
        """Let the sources end, and see that every word was counted once."""
        (self.folder / "enough").touch()
        for node in self.made.running():
            node.until("app.done", 100.0)
        assert counted_anywhere(self.folder / "out") == expected(self.folder)


def expected(folder: Path) -> Counter[str]:
    """As one process would count."""
    counts: Counter[str] = Counter()
    for number in range(SPLITS):
        name = f"split-{number}"
        said = json.loads((folder / f"ended-{name}").read_text())
        for index in range(WORDS):
            counts[f"{name}-{index}"] = said // WORDS + (index < said % WORDS)
    return +counts


@contextmanager
def flowing(folder: Path, *names: str, **settings: Any) -> Iterator[Flowing]:
    """These nodes at work."""
    with cluster(folder, *names, app=APP, **settings) as made:
        made.start()
        made.until_ready()
        words = Flowing(made, folder)
        words.in_flow()
        yield words
