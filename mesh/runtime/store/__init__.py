"""Where a node keeps the states of its keys: one small interface, in memory or in a database on the disk.

docs/store.md says why the database is RocksDB, with the figures, and what the node must do on each error.
"""

from mesh.core.storing import (
    Change,
    Chunk,
    Cursor,
    Store,
    StoreBehind,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    TryAgain,
)
from mesh.runtime.store.disk import DiskStore
from mesh.runtime.store.memory import MemoryStore

__all__ = [
    "Change",
    "Chunk",
    "Cursor",
    "DiskStore",
    "MemoryStore",
    "Store",
    "StoreBehind",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "TryAgain",
]
