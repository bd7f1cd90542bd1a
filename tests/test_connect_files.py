"""Lines of files: every line in exactly one split, whatever the bytes are and wherever the cuts fall."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mesh
from mesh.app.connectors import LONGEST_LINE, Chunk, ConnectorError, Source, Split

PIECES = st.sampled_from(
    [b"\n", b"\n\n", b"\r\n", b"\r", b"a", b"two words", "ä".encode(), "€𝄞".encode(), b"\xe2\x82", b"\xff"]
)
CONTENTS = st.lists(PIECES, max_size=30).map(b"".join)


def lines_of(content: bytes) -> list[str]:
    """What the lines are, by definition."""
    lines = content.decode("utf-8", "replace").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_split(source: Source[str], split: Split, max_bytes: int, offset: int = 0) -> list[Chunk[str]]:
    reader = source.open(split, offset)
    chunks = [reader.read(max_bytes)]
    while not chunks[-1].ended:
        chunks.append(reader.read(max_bytes))
    reader.close()
    return chunks


def read_all(source: Source[str], max_bytes: int = 64) -> list[str]:
    chunks = [chunk for split in source.splits() for chunk in read_split(source, split, max_bytes)]
    return [line for chunk in chunks for line in chunk.values]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=CONTENTS, split_bytes=st.integers(1, 40), max_bytes=st.integers(1, 50))
@example(content=b"a\nb\n", split_bytes=2, max_bytes=1)  # a cut right behind a line end
@example(content=b"\n\n\n", split_bytes=1, max_bytes=1)
@example(content=b"no line end at all", split_bytes=3, max_bytes=2)
def test_the_splits_together_are_the_lines(tmp_path: Path, content: bytes, split_bytes: int, max_bytes: int) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    source = mesh.files(file, split_bytes=split_bytes)
    assert read_all(source, max_bytes) == lines_of(content)
    assert sum(split.size for split in source.splits()) == len(content)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=CONTENTS, split_bytes=st.integers(1, 40), max_bytes=st.integers(1, 50), data=st.data())
def test_every_offset_that_was_given_out_can_be_opened_again(
    tmp_path: Path, content: bytes, split_bytes: int, max_bytes: int, data: st.DataObject
) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    source = mesh.files(file, split_bytes=split_bytes)
    split = data.draw(st.sampled_from(source.splits()))
    chunks = read_split(source, split, max_bytes)
    stop = data.draw(st.integers(0, len(chunks) - 1))
    again = read_split(source, split, 7, chunks[stop].next_offset)
    expected = [line for chunk in chunks[stop + 1 :] for line in chunk.values]
    assert [line for chunk in again for line in chunk.values] == expected


def test_a_directory_is_read_in_order_without_symlinks_and_other_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/c.py", "a.txt", "skip.bin", "out/x.txt", "one/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "a")
    source = mesh.files(tmp_path, exclude=["ou*", tmp_path / "one"])
    assert [split.name for split in source.splits()] == ["a/c.py", "a/z.md", "a.txt", "b.txt"]
    assert read_all(source) == ["a/c.py", "a/z.md", "a.txt", "b.txt"]
    assert [split.name for split in mesh.files(tmp_path, patterns=["*.bin"]).splits()] == ["skip.bin"]


def test_another_node_opens_a_split_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    split = mesh.files(tmp_path, split_bytes=4).splits()[1]
    (chunk,) = read_split(mesh.files(tmp_path, split_bytes=4), split, 100)
    assert chunk.values == ["two"]


def test_a_line_that_is_longer_than_a_read_comes_whole(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("x" * 50_000 + "\nend")
    assert read_all(mesh.files(file), 10) == ["x" * 50_000, "end"]


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge.txt"
    with file.open("wb") as sparse:
        sparse.truncate(LONGEST_LINE * 2)
    with pytest.raises(mesh.ConnectorError, match="a line of more than 64 MiB"):
        read_all(mesh.files(file), 100)


def test_a_file_that_shrinks_while_it_is_read_ends(tmp_path: Path) -> None:
    file = tmp_path / "shrinks.txt"
    file.write_text("one\ntwo\nthree\n")
    source = mesh.files(file)
    reader = source.open(source.splits()[0], 0)
    assert reader.read(5).values == ["one"]
    file.write_text("one\n")
    assert reader.read(5) == Chunk([], 4, True)
    reader.close()


def test_an_empty_file_is_one_split_without_lines(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    source = mesh.files(tmp_path / "empty.txt")
    assert [split.size for split in source.splits()] == [0]
    assert read_all(source) == []


def test_a_missing_path_is_named() -> None:
    with pytest.raises(mesh.ConnectorError, match=r"there is no file or directory 'no/such/book.txt'"):
        mesh.files("no/such/book.txt").splits()


def test_a_split_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(mesh.ConnectorError, match=r"no longer has 'gone.txt'"):
        mesh.files(tmp_path).open(Split("gone.txt"), 0)


def test_the_path_may_be_set_after_the_app_was_made(tmp_path: Path) -> None:
    where = mesh.param("input", default=Path("nowhere"))
    app = mesh.App("app")
    source = mesh.files(where)
    app.source("lines", source).to(mesh.stdout())
    (tmp_path / "a.txt").write_text("hello")
    app.set_params({"input": "a.txt"}, base=tmp_path)
    assert read_all(source) == ["hello"]


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConnectorError, match="neither a file nor a directory"):
        mesh.files(tmp_path / "pipe").splits()
