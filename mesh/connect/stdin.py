"""Lines of the standard input: one stream that cannot be read again, so exactly-once begins with the reading.

It is the input of one process, so it is for apps on one node.
"""

from __future__ import annotations

import sys
from io import BufferedReader, RawIOBase
from typing import cast

from mesh.app.connectors import LONGEST_LINE, Chunk, ConnectorError, Split


class _Stdin:
    endless = False
    blocking = True

    def __repr__(self) -> str:
        return "mesh.stdin()"

    def splits(self) -> list[Split]:
        return [Split("stdin")]

    def open(self, split: Split, offset: int) -> _StdinReader:
        if offset:
            raise ConnectorError(f"mesh.stdin: what was read before byte {offset} cannot be read again")
        return _StdinReader(cast(RawIOBase, cast(BufferedReader, sys.stdin.buffer).raw))


class _StdinReader:
    def __init__(self, stream: RawIOBase) -> None:
        self.stream = stream  # unbuffered: the interpreter cannot end while a thread waits with a buffer's lock
        self.rest: list[bytes] = []  # of a line that has not ended
        self.offset = 0

    def read(self, max_bytes: int) -> Chunk[str]:
        block = self.stream.read(max(1, max_bytes)) or b""  # what is there, without waiting for more
        whole = block.rfind(b"\n") + 1
        if block and not whole:
            self.rest.append(block)
            self._check_length()
            return Chunk([], self.offset, False)
        text = b"".join([*self.rest, block[:whole]])
        self.rest = [block[whole:]] if block else []
        self.offset += len(text)
        lines = text.decode("utf-8", "replace").split("\n")
        if not lines[-1]:
            lines.pop()
        return Chunk(lines, self.offset, not block)

    def _check_length(self) -> None:
        if sum(map(len, self.rest)) > LONGEST_LINE:
            raise ConnectorError(f"mesh.stdin: a line of more than {LONGEST_LINE >> 20} MiB begins at {self.offset}")

    def close(self) -> None:
        pass  # the process's own


def stdin() -> _Stdin:
    """A source of the lines of the standard input, until its end."""
    return _Stdin()
