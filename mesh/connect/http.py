"""Records that producers send to `POST /v1/sources/NAME` of any node, a JSON value a line.

There is nothing to read, hence no splits: the node that is asked runs the source's steps on the lines and answers when
the owners of their keys have applied them.
"""

from __future__ import annotations

from typing import Any

from mesh.app.connectors import ConnectorError, Reader, Split


class _Http:
    endless = True
    blocking = False
    takes_posts = True

    def __repr__(self) -> str:
        return "mesh.http()"

    def splits(self) -> list[Split]:
        return []

    def open(self, split: Split, offset: int) -> Reader[Any]:
        raise ConnectorError("mesh.http has nothing to read: records are posted to it")


def http() -> _Http:
    """A source of the JSON values that are posted to it."""
    return _Http()
