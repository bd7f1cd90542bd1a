"""The store on the disk: RocksDB, through the package rocksdict. A write goes to its log; commit is the log's fsync.

States: open -> full (a put found no room) -> open, when a put succeeds again; any -> failed, for good.

- The package holds the interpreter's lock while it writes, not while it syncs. So a put never waits inside for the
  upkeep (no_slowdown: it raises StoreBehind, and the caller waits where other threads can run), and it never syncs.
- After a put that found no room the database itself waits until there is enough to write its memory out (16 MB and
  some), and begins a new log. Until a put succeeds, a commit syncs nothing and says StoreFull: it would have to sync a
  log that ends in half a record.
- The log may end in half a record (the process died in the middle): nobody was told of that pack. A record that is
  wrong before the end is damage, and the store does not open: what is behind it would be lost without a word.
- A block that upkeep finds damaged stops all writes: StoreDamaged, without a place.
- An iterator that meets damage just ends. So each scan asks for its status.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mesh.core.storing import (
    CHUNK,
    Change,
    Chunk,
    Cursor,
    StoreBehind,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
)
from mesh.runtime.errors import StartError
from mesh.runtime.store import records
from mesh.runtime.store.log_files import refuse_endless

_MEMTABLE = 16 << 20  # bytes in memory before they go to a file: fits the processor's cache, replayed in 0.3 s
_CACHE = 32 << 20  # blocks, indexes and filters that were read
_OPEN_FILES = 256
_LOG = 4 << 20  # the database's own diary


def _package() -> Any:
    try:
        return importlib.import_module("rocksdict")
    except ImportError:
        raise StartError(
            "states on the disk need the package rocksdict, which is not installed: pip install 'hashmesh[disk]'"
        ) from None


class DiskStore:
    """One process at a time; raises StartError if the place is in use, not a store, of another format, or damaged."""

    def __init__(self, path: str) -> None:
        self._lib = _package()
        self._failed = ""  # why nothing is known any more; "": open
        self._full = False  # the last put found no room
        try:
            _make_directory(Path(path))
            _refuse_remains(Path(path))
            refuse_endless(Path(path))
            self._db = self._lib.Rdict(path, _options(self._lib))
        except Exception as error:
            raise StartError(_why_not_open(path, error)) from None
        self._how = self._lib.WriteOptions()
        self._how.memtable_insert_hint_per_batch = True
        self._how.no_slowdown = True
        try:
            self._check_format(path)
        except BaseException:
            self._db.close()
            raise

    def _check_format(self, path: str) -> None:
        try:
            found = self._db.get(records.FORMAT_KEY)
            if found is None and next(self._keys(b"", b"\xff"), None) is None:
                self._db.put(records.FORMAT_KEY, records.sealed(records.FORMAT_KEY, records.FORMAT))
                self._db.flush()  # into a file that the database counts: a lost log does not look like a new store
                return
            known = None if found is None else records.opened(records.FORMAT_KEY, found)
        except Exception as error:
            raise StartError(_why_not_open(path, error)) from None
        if known != records.FORMAT:
            shown = "no hashmesh store" if known is None else f"of format {known.decode(errors='replace')!r}"
            raise StartError(f"{path} is {shown}; this version reads and writes {records.FORMAT.decode()!r}")

    def put(self, changes: Iterable[Change], metas: Mapping[int, bytes], drop: Collection[int] = ()) -> None:
        batch = self._lib.WriteBatch(raw_mode=True)
        for slot in drop:
            batch.delete_range(*records.slot_range(slot))
            batch.delete(records.meta_key(slot))
        for slot, meta in metas.items():
            key = records.meta_key(slot)
            batch.put(key, records.sealed(key, meta))
        for slot, stage, name, state in changes:
            key = records.state_key(slot, stage, name)
            if state is None:
                batch.delete(key)
            else:
                batch.put(key, records.sealed(key, state))
        self._check_usable()
        try:
            self._db.write(batch, self._how)
        except Exception as error:
            raise self._not_put(error) from None
        self._full = False

    def _not_put(self, error: Exception) -> StoreError:
        why = str(error)
        if "No space left on device" in why:
            self._full = True
            return StoreFull(f"the disk is full: {why}")
        if "Write stall" in why:
            return StoreBehind(f"the store's upkeep is behind: {why}")
        if "Corruption" in why:
            return StoreDamaged(why)
        return self._fail(why)

    def commit(self) -> None:
        self._check_usable()
        if self._full:
            raise StoreFull("the disk is full, and what was put before is not durable yet")
        try:
            self._db.flush_wal(True)
        except Exception as error:
            raise self._fail(str(error)) from None

    def get(self, slot: int, stage: int, key: bytes) -> bytes | None:
        self._check_usable()
        stored_key = records.state_key(slot, stage, key)
        try:
            stored = self._db.get(stored_key)
        except Exception as error:
            raise self._not_read(stored_key, error) from None
        return None if stored is None else records.opened(stored_key, stored)

    def scan(self, slot: int, after: Cursor | None = None, at_most: int = CHUNK) -> Chunk:
        begin, end = records.first_after(slot, after), records.slot_range(slot)[1]
        found: list[tuple[int, bytes, bytes]] = []
        size = 0
        for stored_key, stored in self._items(begin, end):
            if size >= at_most:
                return Chunk(found, found[-1][:2])
            state = records.opened(stored_key, stored)
            found.append((*records.split_state_key(stored_key), state))
            size += len(stored_key) + len(state)
        return Chunk(found, None)

    def metas(self) -> dict[int, bytes]:
        found = self._items(records.METAS_BEGIN, records.METAS_END)
        return {records.slot_of_meta(key): records.opened(key, stored) for key, stored in found}

    def _items(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Stored keys and values of a range; damage is told with the last key that was still whole."""
        self._check_usable()
        reached = begin
        cursor = self._db.iter(self._up_to(end))
        cursor.seek(begin)
        while cursor.valid():
            reached = cursor.key()
            yield reached, cursor.value()
            cursor.next()
        try:
            cursor.status()
        except Exception as error:
            raise self._not_read(reached, error) from None

    def _up_to(self, end: bytes) -> Any:
        how = self._lib.ReadOptions()
        how.set_iterate_upper_bound(end)
        return how

    def _keys(self, begin: bytes, end: bytes) -> Iterator[bytes]:
        return (key for key, _ in self._items(begin, end))

    def _not_read(self, stored_key: bytes, error: Exception) -> StoreError:
        why = str(error)
        return records.damaged(stored_key, why) if "Corruption" in why else self._fail(why)

    def _fail(self, why: str) -> StoreFailed:
        self._failed = why
        return StoreFailed(f"the store failed, and what is on the disk is not known: {why}")

    def _check_usable(self) -> None:
        if self._failed:
            raise StoreFailed(f"the store failed before: {self._failed}")

    def close(self) -> None:
        try:
            self._db.close()
        except Exception as error:  # it writes its memory out, which the log holds as well
            self._failed = self._failed or f"it could not be closed: {error}"
        self._failed = self._failed or "it is closed"


def _make_directory(path: Path) -> None:
    """The names on the way to a new directory are durable as well."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir()
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _refuse_remains(path: Path) -> None:
    """Without this file the database would take the directory for a new one, and begin empty."""
    if not (path / "CURRENT").exists() and any(file.suffix in (".sst", ".log") for file in path.iterdir()):
        raise StoreDamaged("its file CURRENT is gone")


def _options(lib: Any) -> Any:
    options = lib.Options(raw_mode=True)
    options.set_wal_recovery_mode(lib.DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_size(_MEMTABLE)
    options.set_allow_concurrent_memtable_write(False)  # one writer: no need to be careful, and a third quicker
    options.set_compression_type(lib.DBCompressionType.lz4())
    options.set_max_open_files(_OPEN_FILES)
    options.set_bytes_per_sync(1 << 20)  # upkeep's files go out little by little, and do not hold up the log's fsync
    options.set_max_log_file_size(_LOG)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    options.set_block_based_table_factory(_tables(lib))
    return options


def _tables(lib: Any) -> Any:
    tables = lib.BlockBasedOptions()
    tables.set_bloom_filter(10, False)
    # In parts: the whole filter of a large file fits no shard of the cache, and would be read anew by every get.
    tables.set_index_type(lib.BlockBasedIndexType.two_level_index_search())
    tables.set_partition_filters(True)
    tables.set_metadata_block_size(4 << 10)
    tables.set_pin_top_level_index_and_filter(True)
    tables.set_block_cache(lib.Cache(_CACHE))
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    return tables


def _why_not_open(path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the store {path} cannot be used: {error.strerror}"
    why = str(error)
    if "lock hold" in why or "While lock file" in why:
        return f"the store {path} is in use by another process, or twice by this one; each node needs one of its own"
    if isinstance(error, StoreDamaged) or "Corruption" in why:
        return (
            f"the store {path} is damaged: {why}. Move it away and start with an empty one; the other copies of its "
            "slots fill it"
        )
    return f"the store {path} cannot be opened: {why}"
