"""JSON lines in a directory that the nodes of one run share; every writer adds a part of its own.

The directory must be new or empty but for hidden files, or hold parts of the same run only: mixed results of two runs
cannot be told apart by who reads them. The names of the parts are the marker: they begin with the run's id. A writer
first makes its own part, then looks who else is there; so of two runs that start at once, at least one sees the other
and stops.

Opened with names, a writer adds a part at each flush, whole, and each item is in one part whoever writes it: see
`commit_log`. Its first part takes the place of the empty one that it made first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import IO, TextIO

from mesh.app.connectors import ConnectorError, ItemName, run_of
from mesh.app.jsontext import to_json_lines
from mesh.app.params import Param
from mesh.connect.commit_log import CommitLog, Folders
from mesh.connect.folder import Folder
from mesh.connect.parts import PartsWriter

SUFFIX = ".jsonl"
SHOWN = 3  # names in an error


class _JsonLines:
    folders: Folders = Folder

    def __init__(self, directory: str | Path | Param[Path] | Param[Path | None]) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"mesh.jsonl({str(self._given())!r})"

    @property
    def discards(self) -> bool:
        """No directory is given: nothing shall be written."""
        return self._given() is None

    def _given(self) -> Path | None:
        given = self.directory.value if isinstance(self.directory, Param) else self.directory
        return None if given is None else Path(given)

    def open(self, writer: str) -> _JsonLinesWriter:
        directory, path, file = self._begun(writer)
        _refuse_strangers(directory, writer, path, file)
        return _JsonLinesWriter(file)

    def open_named(self, writer: str) -> _NamedLinesWriter:
        directory, path, file = self._begun(writer)
        _refuse_strangers(directory, writer, path, file)
        file.close()
        stem = path.name.removesuffix(SUFFIX)
        with _told(directory):
            log = CommitLog(directory, run_of(writer), stem, self.folders)
        return _NamedLinesWriter(directory, PartsWriter(log, stem, path.name))

    def _begun(self, writer: str) -> tuple[Path, Path, TextIO]:
        """The directory, and the writer's own part in it."""
        directory = self._given()
        assert directory is not None, "a sink that discards is not opened"
        with _told(directory):
            directory.mkdir(parents=True, exist_ok=True)
            return directory, *_new_part(directory, writer)


class _JsonLinesWriter:
    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, items: Sequence[object]) -> None:
        if items:
            self.file.write("\n".join(to_json_lines(items)) + "\n")

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class _NamedLinesWriter:
    def __init__(self, directory: Path, parts: PartsWriter) -> None:
        self.directory = directory
        self.parts = parts

    def write(self, items: Sequence[object]) -> None:
        with _told(self.directory):
            self.parts.write(to_json_lines(items), [None] * len(items))

    def write_named(self, items: Sequence[object], names: Sequence[ItemName]) -> None:
        with _told(self.directory):
            self.parts.write(to_json_lines(items), names)

    def flush(self) -> None:
        with _told(self.directory):
            self.parts.flush()

    def pause(self) -> None:
        with _told(self.directory):
            self.parts.pause()

    def close(self) -> None:
        with _told(self.directory):
            self.parts.close()


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConnectorError(f"mesh.jsonl: cannot write into {str(directory)!r}: {error.strerror}") from None


def _refuse_strangers(directory: Path, writer: str, path: Path, file: IO[str]) -> None:
    """Leaves the directory as it was."""
    names = [each.name for each in directory.iterdir() if not each.name.startswith(".")]
    strangers = sorted(name for name in names if run_of(name) != run_of(writer))
    if strangers:
        file.close()
        path.unlink()
        raise ConnectorError(_occupied(directory, strangers))


def _new_part(directory: Path, writer: str) -> tuple[Path, TextIO]:
    """A writer that comes twice (two sinks of one directory, or closed and opened again) gets a second part."""
    for number in count(1):
        path = directory / (f"{writer}.jsonl" if number == 1 else f"{writer}.{number}.jsonl")
        with contextlib.suppress(FileExistsError):
            return path, path.open("x", encoding="utf-8", errors="backslashreplace", newline="\n")
    raise AssertionError("numbers do not end")


def _occupied(directory: Path, strangers: list[str]) -> str:
    shown = ", ".join(strangers[:SHOWN]) + (", ..." if len(strangers) > SHOWN else "")
    return f"mesh.jsonl: the directory {str(directory)!r} must be new or empty, but it holds {shown}"


def jsonl(directory: str | Path | Param[Path] | Param[Path | None]) -> _JsonLines:
    """A sink that writes one JSON line an item. A param whose value is None means: write nothing."""
    return _JsonLines(directory)
