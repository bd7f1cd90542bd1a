"""One line an item to the standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mesh.app.jsontext import to_json_lines


class _Stdout:
    def __repr__(self) -> str:
        return "mesh.stdout()"

    def open(self, writer: str) -> _StdoutWriter:
        return _StdoutWriter()


class _StdoutWriter:
    def write(self, items: Sequence[object]) -> None:
        if not items:
            return
        lines = [item if type(item) is str else to_json_lines([item])[0] for item in items]
        text = "\n".join(lines) + "\n"
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        sys.stdout.flush()

    def close(self) -> None:
        self.flush()  # the stream is the process's own


def stdout() -> _Stdout:
    """A sink that prints: strings as they are, everything else as JSON."""
    return _Stdout()
