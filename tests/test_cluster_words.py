"""The word count equals collections.Counter, word for word: real text, odd texts, one process and several nodes.

`counted` also checks that every word's counts were written as 1, 2, 3 ...: each record applied once.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from mesh.app.load import load_app
from tests.cluster_kit import WORD_COUNT, cluster, counted
from tests.commands import run_mesh

ODD = {
    "invalid.txt": b"caf\xe9 \xff\xfe \xc3( caf\xe9\n\xf0\x9f\x98 half\n",
    "windows.md": b"one two\r\nthree\rfour\r\n\r\n",
    "unended.txt": b"no newline at the end",
    "null.py": b"a\x00b a\x00b \x00\n\x00\x00",
    "empty.txt": b"",
    "blank.txt": b"\n\n\n \t \n",
    "spaces.txt": "non\u00a0breaking thin\u2009space line\u2028separator next\x85line form\x0cfeed".encode(),
    "mark.txt": b"\xef\xbb\xbfmarked words",
    "utf16.txt": "to be or not".encode("utf-16"),
    "sub/folder/deep.txt": "Ünï cödé 日本語 \U0001f600 ünï\n".encode(),
    "long.txt": b"x" * 300_000 + b" short " + b"y" * 70_000,
    "quotes.txt": b'"quoted" \\back\\slash {"json": [1]} \x1b[31mred\x1b[0m\n',
    "no word count.dat": b"not these words",
}


def words_of(*texts: bytes) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        for line in text.decode("utf-8", "replace").split("\n"):
            counts.update(line.split())
    return counts


@pytest.fixture(scope="module")
def library() -> Counter[str]:
    """All words of the standard library's own source."""
    root = Path(load_app(str(WORD_COUNT)).params["input"].value)
    texts = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != root / "site-packages"]
        paths = [Path(folder, name) for name in names if name.endswith((".py", ".txt", ".md"))]
        texts += [path.read_bytes() for path in paths if not path.is_symlink()]
    counts = words_of(*texts)
    assert counts.total() > 1_000_000
    return counts


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_the_whole_standard_library(tmp_path: Path, library: Counter[str], nodes: int) -> None:
    ended = run_mesh("run", str(WORD_COUNT), "--nodes", str(nodes), "--set", "output=out", "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert counted(tmp_path / "out") == library
    assert len(list((tmp_path / "out").iterdir())) == nodes  # each writer has a part of its own
    summary = json.loads(ended.out)
    assert (summary["records_keyed"], summary["keys"]) == (library.total(), len(library))


def test_the_whole_standard_library_on_one_daemon(tmp_path: Path, library: Counter[str]) -> None:
    with cluster(tmp_path, "alpha", app=WORD_COUNT) as made:
        made.start(options=("--set", f"output={tmp_path / 'out'}"))
        made.until_done()
        assert made["alpha"].get("/v1/state/count", key="import").body["state"] == library["import"]
        assert made["alpha"].end(signal.SIGTERM) == 0
    assert counted(tmp_path / "out") == library


@pytest.mark.parametrize("nodes", [1, 3])
def test_texts_that_are_odd(tmp_path: Path, nodes: int) -> None:
    for name, text in ODD.items():
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    (tmp_path / "texts" / "link.txt").symlink_to(tmp_path / "texts" / "quotes.txt")
    ended = run_mesh(
        *("run", str(WORD_COUNT), "--nodes", str(nodes), "--set", "input=texts", "--set", "output=out"), cwd=tmp_path
    )
    assert ended.code == 0, ended.err
    assert counted(tmp_path / "out") == words_of(*[text for name, text in ODD.items() if not name.endswith(".dat")])


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_file_that_the_user_names_whatever_its_name(tmp_path: Path, nodes: int) -> None:
    (tmp_path / "a file.log").write_bytes(b"to be\nor not\nto be")
    arguments = ["run", str(WORD_COUNT), "--nodes", str(nodes), "--set", "input=a file.log", "--set", "output=out"]
    ended = run_mesh(*arguments, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert counted(tmp_path / "out") == {"to": 2, "be": 2, "or": 1, "not": 1}
    again = run_mesh(*arguments, "--json", cwd=tmp_path)
    assert (again.code, again.out) == (2, ""), again.err
    assert "must be new or empty" in again.err
    assert "Traceback" not in again.err
    assert counted(tmp_path / "out") == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert len(list((tmp_path / "out").iterdir())) == nodes


@pytest.mark.parametrize("nodes", [1, 2])
def test_nothing_to_count(tmp_path: Path, nodes: int) -> None:
    (tmp_path / "texts").mkdir()
    ended = run_mesh(
        *("run", str(WORD_COUNT), "--nodes", str(nodes), "--set", "input=texts", "--set", "output=out", "--json"),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert [summary[name] for name in ("records_in", "records_keyed", "records_out", "keys")] == [0, 0, 0, 0]
    assert counted(tmp_path / "out") == {}
