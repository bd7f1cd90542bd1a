"""The store on a disk that is taken away: kill -9, half a record, damage, no room, an fsync that fails."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.runtime.errors import StartError
from mesh.runtime.store import Change, DiskStore, StoreDamaged, StoreFailed
from tests.store_kit import everything, python, run_python, whole_slot

WRITER = """
import sys
from mesh.runtime.store import DiskStore
from tests.store_kit import everything, numbered, python, run_python, whole_slot
store = DiskStore({path!r})
for number in range({first}, 10**9):
    store.put(numbered(number), {{0: b"%d" % number}})
    if number % 3 == 0:
        store.commit()
        print(number, flush=True)
"""


LAST_BLOCK = 32 << 10  # bytes at a log's end where a length that became larger looks like half a record


def states() -> list[Change]:
    return [(each % 4, 0, b"key-%d" % each, random.Random(each).randbytes(50)) for each in range(2000)]


def in_files(path: Path) -> Path:
    """A store whose states are in a table file, and not in the log."""
    store = DiskStore(str(path))
    store.put(states(), dict.fromkeys(range(4), b"meta"))
    store.commit()
    store.close()
    DiskStore(str(path)).close()
    assert list(path.glob("*.sst"))
    return path


def in_log(path: Path) -> Path:
    """A store that was killed with all its states in the log."""
    code = f"""
import os
from mesh.runtime.store import DiskStore
from tests.test_store_disk import states
store = DiskStore({str(path)!r})
for each in states():
    store.put([each], {{}})
store.put([], {{slot: b"meta" for slot in range(4)}})
store.commit()
os._exit(0)
"""
    assert run_python(code)[0] == 0
    return path


@pytest.fixture(scope="module", params=[in_files, in_log])
def origin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("origin") / "store")
    return made


def test_kill_in_the_middle_leaves_whole_packs_and_every_committed_one(tmp_path: Path) -> None:
    path, first = str(tmp_path / "store"), 0
    for delay in (0.01, 0.1, 0.2, 0.3):
        with python(WRITER.format(path=path, first=first)) as child:
            assert child.stdout is not None
            committed = int(child.stdout.readline())
            time.sleep(delay)  # how far it gets does not matter
            child.send_signal(signal.SIGKILL)
            committed = max([committed, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
        again = DiskStore(path)
        found = set(everything(again, range(4)).values()) | set(again.metas().values())
        again.close()
        assert len(found) == 1, "a pack is whole, its meta as well"
        first = int(found.pop()) + 1
        assert first > committed


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_told_or_harmless(origin: Path, place: float, bit: int) -> None:
    for kind in ("*.sst", "*.log", "MANIFEST-*", "CURRENT"):
        end = LAST_BLOCK if kind == "*.log" else 0
        check_damage(origin, kind, lambda data, end=end: flipped(data, int(place * (len(data) - end)), bit))


def test_a_record_of_a_kind_that_the_database_would_read_for_ever_is_told(tmp_path: Path) -> None:
    """Kind 1, a whole record, becomes 5 by one bit: the first of a log of another number, to RocksDB."""
    path = in_log(tmp_path / "store")
    for pattern in ("MANIFEST-*", "*.log"):
        (file,) = path.glob(pattern)
        whole = file.read_bytes()
        assert whole[6] == 1
        file.write_bytes(flipped(whole, 6, 2))
        with pytest.raises(StartError, match=rf"damaged: {file.name} has a record of kind 5 at 0, which nobody wrote"):
            DiskStore(str(path))
        file.write_bytes(whole)
    DiskStore(str(path)).close()


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if data else data


def check_damage(origin: Path, kind: str, change: object) -> None:
    assert callable(change)
    copy = origin.parent / "copy"
    for file in sorted(origin.glob(kind)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(origin, copy)
        (copy / file.name).write_bytes(change(file.read_bytes()))
        if (found := read_all(copy)) is not None:
            assert found == {change[:3]: change[3] for change in states()}, file.name


def read_all(path: Path) -> dict[tuple[int, int, bytes], bytes] | None:
    """None: it was told. Scans and gets have to agree."""
    try:
        store = DiskStore(str(path))
    except StartError:
        return None
    try:
        assert store.metas() == dict.fromkeys(range(4), b"meta")
        found = everything(store, range(4))
        assert all(store.get(*place) == state for place, state in found.items())
    except StoreDamaged:
        return None
    finally:
        store.close()
    return found


def test_damage_names_the_state_and_the_others_are_still_given(tmp_path: Path) -> None:
    path = in_files(tmp_path / "store")
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = table.read_bytes()
    table.write_bytes(flipped(data, len(data) // 3, 0))
    store = DiskStore(str(path))
    told: list[tuple[bool, bool]] = []
    given_back = 0
    for slot, stage, key, state in states():
        try:
            assert store.get(slot, stage, key) == state
            given_back += 1
        except StoreDamaged as error:
            named = (error.slot, error.stage, error.key) == (slot, stage, key)
            told.append((named, f"at slot {slot}, stage 0, key {key!r}: Corruption" in str(error)))
    assert set(told) == {(True, True)}
    assert given_back > 1000
    named_by_scans = [named_by_scan(store, slot) for slot in range(4)]
    assert None in named_by_scans, "other slots are whole"
    assert [slot for slot, named in enumerate(named_by_scans) if named is not None] == [
        named for named in named_by_scans if named is not None
    ]
    assert any(named is not None for named in named_by_scans)
    store.close()


def named_by_scan(store: DiskStore, slot: int) -> int | None:
    try:
        whole_slot(store, slot)
    except StoreDamaged as error:
        return error.slot
    return None


def test_a_right_value_under_a_wrong_key_is_told(tmp_path: Path) -> None:
    path = in_files(tmp_path / "store")
    import rocksdict

    raw = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True))
    place = b"\x02" + (1).to_bytes(4, "big") + b"\0\0"
    raw[place + b"key-1"] = raw[place + b"key-5"]
    raw[place + b"key-9"] = b"abc"
    raw.close()
    store = DiskStore(str(path))
    for key in (b"key-1", b"key-9"):
        with pytest.raises(StoreDamaged, match=f"slot 1, stage 0, key b'{key.decode()}': a record's checksum does not"):
            store.get(1, 0, key)
    with pytest.raises(StoreDamaged, match="slot 1, stage 0, key b'key-1'"):
        store.scan(1)
    store.close()


def test_half_a_record_at_the_end_of_the_log_is_no_damage(tmp_path: Path) -> None:
    path = in_log(tmp_path / "store")
    log = max(path.glob("*.log"), key=lambda file: file.stat().st_size)
    log.write_bytes(log.read_bytes()[:-3])
    store = DiskStore(str(path))
    assert len(everything(store, range(4))) == 2000
    assert store.metas() == {}, "the last pack was torn, and it is absent as a whole"
    store.close()


def test_damage_that_upkeep_meets_stops_all_writes(tmp_path: Path) -> None:
    path = in_files(tmp_path / "store")
    table = max(path.glob("*.sst"), key=lambda file: file.stat().st_size)
    data = table.read_bytes()
    table.write_bytes(flipped(data, len(data) // 3, 0))
    import rocksdict

    raw = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True))
    raw[b"\x02\0\0\0\0\0\0key-4"] = b"so that there is something to merge"
    raw.flush()
    with pytest.raises(Exception, match="Corruption"):
        [raw.compact_range(None, None), raw.put(b"\x02\0\0\0\0\0\0z", b"")]
    shutil.copytree(path, tmp_path / "copy")
    store = DiskStore(str(tmp_path / "copy"))
    assert store.get(0, 0, b"key-1996") is not None, "what is whole can be read, to be copied elsewhere"
    store.close()


@pytest.mark.parametrize("gone", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_file_that_is_gone_is_told_and_nothing_begins_empty(tmp_path: Path, gone: str) -> None:
    path = in_files(tmp_path / "store")
    for file in path.glob(gone):
        file.unlink()
    left = sorted(file.name for file in path.glob("*.sst"))
    with pytest.raises(StartError, match=r"is damaged|cannot be opened"):
        DiskStore(str(path))
    assert sorted(file.name for file in path.glob("*.sst")) == left


def test_another_format_or_another_database_is_refused(tmp_path: Path) -> None:
    import rocksdict

    from mesh.runtime.store import records

    path = str(tmp_path / "store")
    DiskStore(path).close()
    raw = rocksdict.Rdict(path, rocksdict.Options(raw_mode=True))
    raw[records.FORMAT_KEY] = records.sealed(records.FORMAT_KEY, b"hashmesh 7")
    raw.close()
    with pytest.raises(StartError, match="of format 'hashmesh 7'; this version reads and writes 'hashmesh 3'"):
        DiskStore(path)
    foreign = rocksdict.Rdict(str(tmp_path / "foreign"), rocksdict.Options(raw_mode=True))
    foreign[b"x"] = b"y"
    foreign.close()
    with pytest.raises(StartError, match="is no hashmesh store"):
        DiskStore(str(tmp_path / "foreign"))


def test_a_store_in_use_is_refused(tmp_path: Path) -> None:
    store = DiskStore(str(tmp_path / "store"))
    with pytest.raises(StartError, match="is in use by another process"):
        DiskStore(str(tmp_path / "store"))
    assert run_python(f"from mesh.runtime.store import DiskStore; DiskStore({str(tmp_path / 'store')!r})")[0] == 1
    store.close()


def test_a_place_where_no_directory_can_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot be used: (Not a directory|File exists)"):
        DiskStore(str(tmp_path / "file" / "store"))


def test_the_missing_package_is_one_sentence() -> None:
    code = """
import sys
sys.modules["rocksdict"] = None
from mesh.runtime.errors import StartError
from mesh.runtime.store import DiskStore, MemoryStore
MemoryStore().close()
try:
    DiskStore("never made")
except StartError as error:
    print(error)
"""
    assert run_python(code) == (
        0,
        ["states on the disk need the package rocksdict, which is not installed: pip install 'hashmesh[disk]'"],
    )


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = DiskStore(str(tmp_path / "store"))
    store.close()
    store.close()
    for call in (
        store.commit,
        store.metas,
        lambda: store.put([], {}),
        lambda: store.get(0, 0, b""),
        lambda: store.scan(0),
    ):
        with pytest.raises(StoreFailed, match="it is closed"):
            call()
