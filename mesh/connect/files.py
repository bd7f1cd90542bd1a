"""Lines of text files. A file is one stream; a large one is cut into several, at line ends.

A cut is a byte position. The line that crosses it belongs to the part before it: a part has the lines that *begin* in
it, so every line is in exactly one part, whatever the bytes are. Only "\\n" ends a line, as for `str.split("\\n")`; a
"\\r" stays. Offsets are bytes from the part's own start, and always stand at the beginning of a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from mesh.app.connectors import LONGEST_LINE, Chunk, ConnectorError, Split
from mesh.app.params import Param

SPLIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    start: int
    end: int


class _Files:
    endless = False
    blocking = False

    def __init__(
        self, path: str | Path | Param[Path], patterns: Sequence[str], exclude: Sequence[str | Path], split_bytes: int
    ) -> None:
        self.path = path
        self.patterns = tuple(patterns)
        self.exclude = tuple(exclude)  # a str is a pattern for names, a Path is that path
        self.split_bytes = max(1, split_bytes)
        self._parts: dict[str, _Part] = {}

    def __repr__(self) -> str:
        return f"mesh.files({str(self._root())!r})"

    def splits(self) -> list[Split]:
        self._parts = dict(self._cut(self._root()))
        return [Split(name, part.end - part.start) for name, part in self._parts.items()]

    def open(self, split: Split, offset: int) -> _LinesReader:
        if split.name not in self._parts:
            self.splits()
        if split.name not in self._parts:
            raise ConnectorError(f"mesh.files: {str(self._root())!r} no longer has {split.name!r}")
        return _LinesReader(self._parts[split.name], offset)

    def _root(self) -> Path:
        return Path(self.path.value if isinstance(self.path, Param) else self.path)

    def _cut(self, root: Path) -> Iterator[tuple[str, _Part]]:
        for name, path in self._found(root):
            size = _size(path)
            starts = range(0, max(size, 1), self.split_bytes)
            for number, start in enumerate(starts):
                part = name if len(starts) == 1 else f"{name}/#{number}"  # no file's name: a file has nothing below it
                yield (
                    part.encode("utf-8", "backslashreplace").decode(),
                    _Part(path, start, min(start + self.split_bytes, size)),
                )

    def _found(self, root: Path) -> Iterator[tuple[str, Path]]:
        if root.is_dir():
            paths = sorted(self._walk(root), key=lambda path: path.relative_to(root).parts)
            yield from ((path.relative_to(root).as_posix(), path) for path in paths)
        elif root.is_file():
            yield root.name, root
        elif root.exists():
            raise ConnectorError(f"mesh.files: {str(root)!r} is neither a file nor a directory")
        else:
            raise ConnectorError(f"mesh.files: there is no file or directory {str(root)!r} (in {str(Path.cwd())!r})")

    def _walk(self, directory: Path) -> Iterator[Path]:
        try:
            entries = list(directory.iterdir())
        except OSError as error:
            raise ConnectorError(f"mesh.files: cannot list {str(directory)!r}: {error.strerror}") from None
        for path in entries:
            if path.is_symlink() or self._is_excluded(path):
                continue
            if path.is_dir():
                yield from self._walk(path)
            elif path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in self.patterns):
                yield path

    def _is_excluded(self, path: Path) -> bool:
        return any(path == each if isinstance(each, Path) else fnmatchcase(path.name, each) for each in self.exclude)


class _LinesReader:
    def __init__(self, part: _Part, offset: int) -> None:
        self.part = part
        self.file = _open(part.path)
        self.position = part.start + offset if offset else self._first_line()

    def read(self, max_bytes: int) -> Chunk[str]:
        """Whole lines, about `max_bytes` of them, at least one."""
        if self.position >= self.part.end:
            return self._chunk([], ended=True)
        block = self._block(max(1, max_bytes))
        self.position += len(block)
        lines = block.decode("utf-8", "replace").split("\n")
        if not lines[-1]:
            lines.pop()  # what stands behind the last "\n" is no line
        return self._chunk(lines, ended=self.position >= self.part.end or not block)

    def close(self) -> None:
        self.file.close()

    def _chunk(self, lines: list[str], ended: bool) -> Chunk[str]:
        return Chunk(lines, self.position - self.part.start, ended)

    def _first_line(self) -> int:
        """The first line that begins at or after the part's start."""
        if self.part.start == 0:
            return 0
        return self._line_end(self.part.start - 1)

    def _block(self, size: int) -> bytes:
        """From the position to a line end: the last one within `size` bytes, or the next one after them."""
        within = min(size, self.part.end - self.position)
        block = self._bytes(self.position, within)
        whole = block.rfind(b"\n") + 1
        if whole and within < self.part.end - self.position:
            return block[:whole]
        if len(block) < within or block.endswith(b"\n"):
            return block  # the file is shorter than it was, or the part ends with its last line
        end = self._line_end(self.position + within)
        return block + self._bytes(self.position + within, end - self.position - within)

    def _line_end(self, position: int) -> int:
        """Behind the first "\\n" at or after `position`, or the end of the file."""
        start, size = position, 1 << 12
        while block := self._bytes(position, size):
            found = block.find(b"\n")
            if found >= 0:
                return position + found + 1
            position += len(block)
            size = min(size * 2, 1 << 20)
            if position - start > LONGEST_LINE:
                text = f"a line of more than {LONGEST_LINE >> 20} MiB begins before byte {start}; this is no text file"
                raise ConnectorError(f"mesh.files: {str(self.part.path)!r}: {text}")
        return position

    def _bytes(self, position: int, size: int) -> bytes:
        try:
            self.file.seek(position)
            return self.file.read(size)
        except OSError as error:
            raise ConnectorError(f"mesh.files: cannot read {str(self.part.path)!r}: {error.strerror}") from None


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise ConnectorError(f"mesh.files: cannot open {str(path)!r}: {error.strerror}") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ConnectorError(f"mesh.files: cannot look at {str(path)!r}: {error.strerror}") from None


def files(
    path: str | Path | Param[Path],
    *,
    patterns: Sequence[str] = ("*.py", "*.txt", "*.md"),
    exclude: Sequence[str | Path] = (),
    split_bytes: int = SPLIT_BYTES,
) -> _Files:
    """A source of the lines of a file, or of all files in a directory whose names match: recursive, sorted, without
    symbolic links. `exclude` leaves out files and directories, by name (str) or one by its path (Path).
    What is not UTF-8 becomes U+FFFD."""
    return _Files(path, patterns, exclude, split_bytes)
