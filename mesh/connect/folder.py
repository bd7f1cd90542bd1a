"""A directory by its handle: what is done in it is done there, whatever its path has come to mean meanwhile.

Whoever works with a directory that another process may remove, and a third make anew under the same path, must not
touch the new one by mistake. Raises OSError, but for what is said at each method.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_TAKEN = errno.ENOTEMPTY, errno.EEXIST


class Folder:
    """Names are of files in it; "a/b" is b in its folder a."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def create(self, name: str) -> int:
        """A new file, as a descriptor."""
        return os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=self._fd)

    def write(self, name: str, content: bytes) -> None:
        """A new file that is on the disk."""
        with os.fdopen(self.create(name), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def read(self, name: str) -> bytes | None:
        """None: there is none."""
        try:
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def link(self, name: str, as_name: str) -> bool:
        """A second name for a file; False: it is taken. Of several who try at once, one succeeds."""
        try:
            os.link(name, as_name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileExistsError:
            return False
        return True

    def move(self, name: str, to: Folder, as_name: str) -> None:
        """In place of a file of that name, if there is one. What is not here was moved by somebody else."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, as_name, src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def replace(self, name: str, empty: str) -> bool:
        """One folder in place of another, if that is empty or not there."""
        try:
            os.rename(name, empty, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            return False
        return True

    def make(self, name: str) -> None:
        os.mkdir(name, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """A file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def remove_empty(self, name: str) -> bool:
        """A folder; False: something is in it, or it is not there."""
        try:
            os.rmdir(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            return False
        return True

    def names(self) -> list[str]:
        return os.listdir(self._fd)

    def sync(self) -> None:
        """Its names are on the disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
