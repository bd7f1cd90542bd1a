"""What RocksDB must not be given to read: a damaged kind in one of its log files makes its open loop for ever.

A log file (the write-ahead logs, and MANIFEST) is blocks of 32 KiB. A block is records, each with a header: checksum
(4 bytes), length (2, little-endian), kind (1). A rest of a block that is too short for a header, or whose header is
zeros, is empty. Kinds 5 to 8, and odd ones from 11 on, are of files that are used again, which this store never does;
where a bit that flipped makes one of them, the reader steps neither over nor out of it (facebook/rocksdb issue 13333,
seen with rocksdict 0.3.29), with the interpreter's lock held: the node would say nothing and never start.

So the headers are looked at first, which takes a millisecond a MB. Whether the bytes are right is left to the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mesh.core.storing import StoreDamaged

_BLOCK = 32 << 10
_HEADER = 7


def refuse_endless(directory: Path) -> None:
    """Raises StoreDamaged if one of the directory's log files has a record that the database would read for ever."""
    for pattern in ("*.log", "MANIFEST-*"):
        for file in sorted(directory.glob(pattern)):
            for place, kind in _kinds(file):
                if 5 <= kind <= 8 or (kind > 10 and kind % 2):
                    raise StoreDamaged(f"{file.name} has a record of kind {kind} at {place}, which nobody wrote there")


def _kinds(file: Path) -> Iterator[tuple[int, int]]:
    with file.open("rb") as opened:
        start = 0
        while block := opened.read(_BLOCK):
            yield from ((start + at, kind) for at, kind in _kinds_in(block))
            start += len(block)


def _kinds_in(block: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at + _HEADER <= len(block):
        length, kind = block[at + 4] | block[at + 5] << 8, block[at + 6]
        if not length and not kind:
            return
        yield at, kind
        at += _HEADER + length
