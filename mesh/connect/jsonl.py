"""JSON lines in a directory that the nodes of one run share; every writer adds a part of its own.

The directory must be new or empty but for hidden files, or hold parts of the same run only: mixed results of two runs
cannot be told apart by who reads them. The names of the parts are the marker: they begin with the run's id. A writer
first makes its own part, then looks who else is there; so of two runs that start at once, at least one sees the other
and stops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TextIO

from mesh.app.connectors import ConnectorError, run_of
from mesh.app.jsontext import to_json_lines
from mesh.app.params import Param

SHOWN = 3  # names in an error


class _JsonLines:
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
        directory = self._given()
        assert directory is not None, "a sink that discards is not opened"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path, file = _new_part(directory, writer)
        except OSError as error:
            raise ConnectorError(f"mesh.jsonl: cannot write into {str(directory)!r}: {error.strerror}") from None
        names = [each.name for each in directory.iterdir() if not each.name.startswith(".")]
        strangers = sorted(name for name in names if run_of(name) != run_of(writer))
        if strangers:
            file.close()
            path.unlink()
            raise ConnectorError(_occupied(directory, strangers))
        return _JsonLinesWriter(file)


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
