"""A node's directory: what must survive the process. One process at a time; every file written whole, with a checksum.

    lock            held (flock) by the process that uses the directory; its text names that process
    NAME.record     one record of the protocol: 4 bytes CRC-32, little-endian, then the value; `identity` names the
                    home, whose vote it is, and counts the starts; `name` is the node's: a vote that wandered to another
                    node with its directory would be a mistake of whoever copied it

A record is written beside the old one, synced, renamed, and the directory synced: after a crash it is the old or the
new, never half. A failed sync raises and the process must end: what the disk holds is then not known any more.
"""

from __future__ import annotations

import fcntl
import os
import re
import zlib
from pathlib import Path

from mesh.core.boots import HOME_BYTES, IDENTITY, next_boot
from mesh.runtime.errors import StartError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
NODE_NAME = "name"  # the record


class DataDir:
    """Raises StartError if the directory is in use, not writable, or not intact."""

    def __init__(self, path: str, node: str) -> None:
        self._path = Path(path)
        self._node = node
        try:
            self._make()
            self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._take_lock(node)
        except OSError as error:
            raise StartError(f"the data directory {path} cannot be used: {error.strerror}") from None

    def _make(self) -> None:
        """Durably, with what is missing above it: a directory that a crash takes away takes its vote along."""
        missing = [each for each in (self._path, *self._path.parents) if not each.exists()]
        self._path.mkdir(parents=True, exist_ok=True)
        for each in missing:
            _sync_directory(each.parent)

    def _take_lock(self, node: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 200).decode(errors="replace").strip() or "another process"
            os.close(self._lock)
            raise StartError(
                f"the data directory {self._path} is in use by {holder}; node {node} needs one of its own"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"node {node}, process {os.getpid()}\n".encode(), 0)

    def start(self) -> tuple[bytes, int]:
        """(home, boot) of this start, which is durably counted when it returns. Raises StartError."""
        self._check_name()
        file = self._path / f"{IDENTITY}.record"
        try:
            home, boot, kept = next_boot(self._read(file) if file.exists() else None, os.urandom(16))
        except ValueError:
            raise StartError(f"{file} is damaged: move the directory away, and start as a new node") from None
        self.write_at_start(IDENTITY, kept)
        return home, boot

    def home(self) -> bytes | None:
        """None: it was never started with."""
        kept = self.record(IDENTITY)
        return None if kept is None else kept[:HOME_BYTES]

    def knows_a_cluster(self) -> bool:
        """Has anything been promised or accepted with it?"""
        return any(self._path.glob("agreement.*.record"))

    def record(self, name: str) -> bytes | None:
        """None: there is none. Raises StartError if it is not what was written."""
        file = self._path / f"{name}.record"
        return self._read(file) if file.exists() else None

    def _check_name(self) -> None:
        file, mine = self._path / f"{NODE_NAME}.record", self._node.encode()
        if not file.exists():
            self.write_at_start(NODE_NAME, mine)
        elif (theirs := self._read(file)) != mine:
            holder = theirs.decode(errors="replace")
            raise StartError(
                f"the data directory {self._path} is that of node {holder}; node {self._node} needs one of its own"
            )

    def write_at_start(self, name: str, value: bytes) -> None:
        """As `write`, while nothing depends on the directory yet. Raises StartError."""
        try:
            self.write(name, value)
        except OSError as error:
            raise StartError(f"the data directory {self._path} cannot be used: {error.strerror}") from None

    def records(self) -> dict[str, bytes]:
        """All records; raises StartError naming a file that is not what was written."""
        return {file.name.removesuffix(".record"): self._read(file) for file in sorted(self._path.glob("*.record"))}

    def _read(self, file: Path) -> bytes:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise StartError(f"{file} cannot be read: {error.strerror}") from None
        value = data[4:]
        if len(data) < 4 or zlib.crc32(value).to_bytes(4, "little") != data[:4]:
            raise StartError(
                f"{file} is damaged (its checksum does not fit): this node's vote is gone with it. Move the directory "
                "away and start with an empty one, as a new node"
            )
        return value

    def write(self, name: str, value: bytes) -> None:
        """Durable when it returns; an OSError means that nothing is known, and the process must end."""
        assert _NAME.fullmatch(name), name
        beside = self._path / f"{name}.new"
        with open(beside, "wb") as file:
            file.write(zlib.crc32(value).to_bytes(4, "little") + value)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._path / f"{name}.record")
        _sync_directory(self._path)

    def close(self) -> None:
        os.close(self._lock)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
