"""Sources in memory and on the standard input."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh.app.connectors import Source


@given(items=st.lists(st.integers()), splits=st.integers(1, 7), max_bytes=st.integers(1, 500))
def test_the_splits_of_items_are_the_items_in_order(items: list[int], splits: int, max_bytes: int) -> None:
    source = mesh.items(items, splits=splits)
    assert len(source.splits()) == splits
    found: list[int] = []
    for split in source.splits():
        reader, offset, ended = source.open(split, 0), 0, False
        while not ended:
            chunk = reader.read(max_bytes)
            assert source.open(split, offset).read(max_bytes) == chunk
            found += chunk.values
            offset, ended = chunk.next_offset, chunk.ended
    assert found == items


def test_none_among_items_is_nothing() -> None:
    source = mesh.items(["a", None, "b"])
    chunk = source.open(source.splits()[0], 0).read(1000)
    assert (chunk.values, chunk.next_offset, chunk.ended) == (["a", "b"], 3, True)


def stdin_of(stream: io.BufferedReader, monkeypatch: pytest.MonkeyPatch) -> Source[str]:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
    return mesh.stdin()


@pytest.mark.parametrize("content", [b"", b"a\nb", b"a\n\nb\r\n", "ä€\n\xff".encode() + b"\xff\n", b"\n"])
@pytest.mark.parametrize("max_bytes", [1, 3, 1000])
def test_standard_input_is_read_by_lines_to_its_end(
    content: bytes, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = stdin_of(io.BufferedReader(io.BytesIO(content)), monkeypatch)  # type: ignore[type-var, unused-ignore]
    (split,) = source.splits()
    reader, lines, ended = source.open(split, 0), [], False
    while not ended:
        chunk = reader.read(max_bytes)
        lines += chunk.values
        ended = chunk.ended
    assert "\n".join(lines) == content.decode("utf-8", "replace").removesuffix("\n")
    assert chunk.next_offset == len(content)


def test_a_line_of_standard_input_is_there_as_soon_as_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as typed:
        source = stdin_of(stream, monkeypatch)
        reader = source.open(source.splits()[0], 0)
        typed.write(b"first\nsec")
        assert reader.read(1000).values == ["first"]
        typed.write(b"ond\n")
        assert reader.read(1000).values == ["second"]


def test_standard_input_cannot_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source = stdin_of(io.BufferedReader(io.BytesIO(b"")), monkeypatch)  # type: ignore[type-var, unused-ignore]
    with pytest.raises(mesh.ConnectorError, match="before byte 5 cannot be read again"):
        source.open(source.splits()[0], 5)
