"""A node's directory: one process at a time, and after a crash every record is the old or the new one, or told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.runtime import data_dir
from mesh.runtime.data_dir import DataDir
from mesh.runtime.errors import StartError


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    first = DataDir(str(tmp_path / "a" / "b"), "alpha")
    first.write("promise", b"one")
    first.write("promise", b"two")
    first.write("epoch-1", b"")
    first.close()
    again = DataDir(str(tmp_path / "a" / "b"), "alpha")
    assert again.records() == {"promise": b"two", "epoch-1": b""}
    again.close()


def test_a_new_directory_has_no_records(tmp_path: Path) -> None:
    fresh = DataDir(str(tmp_path), "alpha")
    assert fresh.records() == {}
    fresh.close()


def test_a_directory_in_use_names_who_uses_it(tmp_path: Path) -> None:
    first = DataDir(str(tmp_path), "alpha")
    with pytest.raises(StartError, match=f"in use by node alpha, process {os.getpid()}; node beta needs one"):
        DataDir(str(tmp_path), "beta")
    first.close()
    DataDir(str(tmp_path), "beta").close()


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    code = f"import os; from mesh.runtime.data_dir import DataDir; DataDir({str(tmp_path)!r}, 'alpha'); os.abort()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert ended.returncode < 0
    DataDir(str(tmp_path), "beta").close()


@given(damage=st.data(), value=st.binary(max_size=50))
def test_a_damaged_record_is_told_by_its_file(
    tmp_path_factory: pytest.TempPathFactory, damage: st.DataObject, value: bytes
) -> None:
    directory = tmp_path_factory.mktemp("data")
    kept = DataDir(str(directory), "alpha")
    kept.write("promise", value)
    file = directory / "promise.record"
    good = file.read_bytes()
    place = damage.draw(st.integers(0, len(good) - 1))
    if damage.draw(st.booleans()):
        bad = good[:place]
    else:
        bad = good[:place] + bytes([good[place] ^ damage.draw(st.integers(1, 255))]) + good[place + 1 :]
    file.write_bytes(bad)
    with pytest.raises(StartError, match=r"promise\.record is damaged"):
        kept.records()
    assert file.read_bytes() == bad, "looking changes nothing"
    kept.close()


def test_a_write_that_was_torn_leaves_the_old_record(tmp_path: Path) -> None:
    kept = DataDir(str(tmp_path), "alpha")
    kept.write("promise", b"old")
    (tmp_path / "promise.new").write_bytes(b"half of the n")
    assert kept.records() == {"promise": b"old"}
    kept.write("promise", b"newer")
    assert kept.records() == {"promise": b"newer"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "promise.record"]
    kept.close()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_raises_and_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    kept = DataDir(str(tmp_path), "alpha")
    kept.write("promise", b"old")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(data_dir.os, call, fails)
        with pytest.raises(OSError, match="No space"):
            kept.write("promise", b"new")
    assert kept.records() == {"promise": b"old"}
    kept.close()


def test_a_record_is_synced_before_it_replaces_the_old_one_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    kept = DataDir(str(tmp_path), "alpha")
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        calls.append("sync " + Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append(f"rename {target.name}")
        replace(source, target)

    monkeypatch.setattr(data_dir.os, "fsync", noted_fsync)
    monkeypatch.setattr(data_dir.os, "replace", noted_replace)
    kept.write("promise", b"x")
    assert calls == ["sync promise.new", "rename promise.record", f"sync {tmp_path.name}"]
    kept.close()


def test_a_new_directory_is_durable_and_so_is_what_was_made_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(data_dir.os, "fsync", noted)
    DataDir(str(tmp_path / "a" / "b"), "alpha").close()
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a")]
    DataDir(str(tmp_path / "a" / "b"), "alpha").close()
    assert len(synced) == 2


def test_a_place_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StartError, match="cannot be used: Not a directory"):
        DataDir(str(tmp_path / "file" / "below"), "alpha")
    (tmp_path / "taken" / "lock").mkdir(parents=True)
    with pytest.raises(StartError, match="cannot be used: Is a directory"):
        DataDir(str(tmp_path / "taken"), "alpha")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_is_only_to_be_read_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartError, match="cannot be used: Permission denied"):
        DataDir(str(tmp_path), "alpha")


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    kept = DataDir(str(tmp_path), "alpha")
    (tmp_path / "promise.record").mkdir()
    with pytest.raises(StartError, match=r"promise\.record cannot be read"):
        kept.records()
    kept.close()


def test_a_directory_keeps_its_home_and_counts_its_starts(tmp_path: Path) -> None:
    first = DataDir(str(tmp_path), "alpha")
    home, boot = first.start()
    assert (len(home), boot) == (16, 1)
    first.close()
    again = DataDir(str(tmp_path), "alpha")
    assert again.start() == (home, 2)
    again.close()
    other = DataDir(str(tmp_path / "other"), "alpha")
    assert other.start()[0] != home
    other.close()


def test_a_directory_belongs_to_the_node_that_began_it(tmp_path: Path) -> None:
    kept = DataDir(str(tmp_path), "alpha")
    home, _ = kept.start()
    kept.close()
    other = DataDir(str(tmp_path), "beta")
    with pytest.raises(StartError, match="is that of node alpha; node beta needs one of its own"):
        other.start()
    other.close()
    assert DataDir(str(tmp_path), "alpha").start() == (home, 2)


def test_a_start_is_counted_durably_before_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = DataDir(str(tmp_path), "alpha")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(data_dir.os, "fsync", fails)
        with pytest.raises(StartError, match="cannot be used: No space left on device"):
            kept.start()
    assert kept.start()[1] == 1
    kept.close()


def test_an_identity_that_is_none_is_told(tmp_path: Path) -> None:
    kept = DataDir(str(tmp_path), "alpha")
    kept.write("identity", b"short")
    with pytest.raises(StartError, match=r"identity\.record is damaged"):
        kept.start()
    kept.close()
