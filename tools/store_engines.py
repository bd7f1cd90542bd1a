"""The databases that `bench_store` compares, each as a node would use it: ordered bytes, packs that are durable."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

Changes = list[tuple[bytes, bytes]]


class Rocks:
    """write() keeps the interpreter's lock, flush_wal() does not: so the batch first, its fsync after."""

    def __init__(self, path: str) -> None:
        import rocksdict

        self.lib = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.set_write_buffer_size(16 << 20)
        options.set_allow_concurrent_memtable_write(False)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.tolerate_corrupted_tail_records())
        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        options.set_keep_log_file_num(2)
        self.db = rocksdict.Rdict(path, options)
        self.how = rocksdict.WriteOptions()
        self.how.memtable_insert_hint_per_batch = True

    def put(self, changes: Changes, sync: bool = True) -> None:
        batch = self.lib.WriteBatch(raw_mode=True)
        for key, value in changes:
            batch.put(key, value)
        self.db.write(batch, self.how)
        if sync:
            self.db.flush_wal(True)

    def get(self, key: bytes) -> bytes | None:
        return self.db.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self.db.iter()
        cursor.seek(begin)
        while cursor.valid() and (key := cursor.key()) < end:
            yield key, cursor.value()
            cursor.next()
        cursor.status()

    def drop(self, begin: bytes, end: bytes) -> None:
        batch = self.lib.WriteBatch(raw_mode=True)
        batch.delete_range(begin, end)
        self.db.write(batch)
        self.db.flush_wal(True)

    def upkeep(self) -> None:
        self.db.compact_range(None, None)

    def close(self) -> None:
        self.db.close()


class Lmdb:
    library = 0  # of the two that the package brings: 0.9

    def __init__(self, path: str) -> None:
        import lmdb

        self.env = lmdb.open(path, map_size=1 << 36, lib_version=self.library)

    def put(self, changes: Changes, sync: bool = True) -> None:
        with self.env.begin(write=True) as txn:
            txn.cursor().putmulti(changes)

    def get(self, key: bytes) -> bytes | None:
        with self.env.begin() as txn:
            return txn.get(key)

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self.env.begin() as txn:
            cursor = txn.cursor()
            found = cursor.set_range(begin)
            while found and cursor.key() < end:
                yield cursor.item()
                found = cursor.next()

    def drop(self, begin: bytes, end: bytes) -> None:
        with self.env.begin(write=True) as txn:
            cursor = txn.cursor()
            found = cursor.set_range(begin)
            while found and cursor.key() < end:
                found = cursor.delete()

    def upkeep(self) -> None:
        """None that works in place: free pages are used again, and the file never shrinks."""

    def close(self) -> None:
        self.env.close()


class Lmdb1(Lmdb):
    library = 1


class Sqlite:
    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.db = sqlite3.connect(f"{path}/state.db", isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute("create table if not exists state(key blob primary key, value blob) without rowid")

    def put(self, changes: Changes, sync: bool = True) -> None:
        self.db.execute("begin immediate")
        try:
            self.db.executemany("insert or replace into state values(?, ?)", changes)
            self.db.execute("commit")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("rollback")
            raise

    def get(self, key: bytes) -> bytes | None:
        row = self.db.execute("select value from state where key = ?", (key,)).fetchone()
        return row[0] if row else None

    def scan(self, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self.db.execute("select key, value from state where key >= ? and key < ? order by key", (begin, end))

    def drop(self, begin: bytes, end: bytes) -> None:
        self.db.execute("delete from state where key >= ? and key < ?", (begin, end))

    def upkeep(self) -> None:
        self.db.execute("pragma wal_checkpoint(truncate)")
        self.db.execute("vacuum")

    def close(self) -> None:
        self.db.close()


ENGINES: dict[str, Callable[[str], Any]] = {"rocksdb": Rocks, "lmdb": Lmdb, "lmdb-1.0": Lmdb1, "sqlite": Sqlite}
