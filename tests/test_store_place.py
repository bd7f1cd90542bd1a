"""A store is opened for what it was made for, and never begun again: one sentence, and nothing is changed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import StartError
from mesh.runtime.store import DiskStore
from mesh.runtime.store_place import AS_NEW, Belongs, StorePlace, refuse_store

MINE = Belongs("words", "ab" * 32, 1024, 7)


def started(path: Path, belongs: Belongs = MINE) -> DiskStore:
    """As a node starts; the directory is free again when this one is closed."""
    data_dir = DataDir(str(path), "alpha")
    try:
        place = StorePlace(data_dir, str(path), belongs)
        place.check()
        data_dir.start()
        return place.open()
    finally:
        data_dir.close()


def begun(path: Path) -> None:
    store = started(path)
    store.put([(1, 0, b"key", b"state")], {1: b"meta"})
    store.commit()
    store.close()


def contents(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file() and file.name != "lock"}


def refused(path: Path, belongs: Belongs = MINE) -> str:
    before = contents(path)
    with pytest.raises(StartError) as told:
        started(path, belongs)
    assert contents(path) == before, "it was changed"
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_store_is_there_again_for_whom_it_was_made(tmp_path: Path) -> None:
    begun(tmp_path)
    again = started(tmp_path)
    assert again.get(1, 0, b"key") == b"state"
    again.close()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(MINE, cluster="birds"), "was made for cluster words, and this node is started for cluster birds"),
        (replace(MINE, graph="cd" * 32), "fingerprint abababababababab, and this node is started for an application"),
        (replace(MINE, slots=512), "was made for 1024 slots, and this node is started for 512 slots"),
        (replace(MINE, seed=8), "was made for seed 7, and this node is started for seed 8"),
    ],
)
def test_nobody_else_gets_it(tmp_path: Path, other: Belongs, words: str) -> None:
    begun(tmp_path)
    assert words in refused(tmp_path, other)
    started(tmp_path).close()


def test_a_store_that_came_from_another_home_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "one")
    begun(tmp_path / "two")
    for name in ("store.record", "store"):
        if (tmp_path / "one" / name).is_dir():
            shutil.rmtree(tmp_path / "one" / name)
            shutil.copytree(tmp_path / "two" / name, tmp_path / "one" / name)
        else:
            shutil.copy(tmp_path / "two" / name, tmp_path / "one" / name)
    assert "was made for home " in refused(tmp_path / "one")


def test_another_format_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    data_dir = DataDir(str(tmp_path), "alpha")
    kept = data_dir.record("store")
    assert kept is not None
    data_dir.write("store", kept.replace(b"hashmesh store 1", b"hashmesh store 2"))
    data_dir.close()
    assert "was made for hashmesh store 2, and this node is started for hashmesh store 1" in refused(tmp_path)


@pytest.mark.parametrize("gone", ["store", "store.record", "identity.record"])
def test_a_store_or_its_papers_that_are_gone_are_not_made_anew(tmp_path: Path, gone: str) -> None:
    begun(tmp_path)
    place = tmp_path / gone
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    said = refused(tmp_path)
    assert AS_NEW in said or "for home nobody yet" in said


def test_a_start_that_ended_before_the_store_was_there_may_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mesh.runtime.store_place.DiskStore", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            started(tmp_path)
    begun(tmp_path)
    started(tmp_path).close()


def _interrupted(_: str) -> DiskStore:
    raise KeyboardInterrupt


def test_a_directory_of_a_cluster_in_memory_has_no_store_to_begin(tmp_path: Path) -> None:
    data_dir = DataDir(str(tmp_path), "alpha")
    data_dir.start()
    data_dir.write("agreement.1", b"promised")
    data_dir.close()
    assert "is of a cluster whose states are in memory" in refused(tmp_path)


def test_who_has_a_store_is_not_started_without_it(tmp_path: Path) -> None:
    begun(tmp_path)
    data_dir = DataDir(str(tmp_path), "alpha")
    with pytest.raises(StartError, match='has a store, and this node is started with durability = "memory"'):
        refuse_store(data_dir, str(tmp_path))
    data_dir.close()


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    monkeypatch.setattr("mesh.runtime.store_place.find_spec", lambda name: None if name == "rocksdict" else 1)
    assert "pip install 'hashmesh[disk]'" in refused(tmp_path)
