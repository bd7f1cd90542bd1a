"""What sinks write: lines that others read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mesh
from mesh.app.connectors import run_of, writer_name
from mesh.app.jsontext import to_json, to_json_lines


@dataclass
class Point:
    x: int
    label: bytes


def write(directory: Path, writer: str, items: list[Any]) -> None:
    opened = mesh.jsonl(directory).open(writer)
    opened.write(items)
    opened.flush()
    opened.close()


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_every_writer_adds_a_part_and_every_item_is_a_line(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    write(out, writer_name("run1", "alpha"), [("to", 1), ("be", 2), ["x"], {"a": None}, "text\nwith a line end"])
    write(out, writer_name("run1", "beta"), [("naïve €", 3)])
    assert names(out) == ["run1.alpha.jsonl", "run1.beta.jsonl"]
    lines = (out / "run1.alpha.jsonl").read_text("utf-8").splitlines()
    assert lines == ['["to", 1]', '["be", 2]', '["x"]', '{"a": null}', '"text\\nwith a line end"']
    assert (out / "run1.beta.jsonl").read_bytes() == '["naïve €", 3]\n'.encode()


def test_a_writer_that_comes_again_adds_another_part(tmp_path: Path) -> None:
    write(tmp_path, "run1.alpha", [1])
    write(tmp_path, "run1.alpha", [2])
    assert names(tmp_path) == ["run1.alpha.2.jsonl", "run1.alpha.jsonl"]


def test_a_directory_with_anything_else_in_it_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "run1.alpha", [1])
    with pytest.raises(mesh.ConnectorError, match=r"must be new or empty, but it holds run1.alpha.jsonl"):
        write(tmp_path, "run2.alpha", [2])
    assert names(tmp_path) == ["run1.alpha.jsonl"]


def test_a_path_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(mesh.ConnectorError, match=str(tmp_path / "file")):
        write(tmp_path / "file", "run1.alpha", [1])


def test_a_param_that_is_not_set_discards(tmp_path: Path) -> None:
    output = mesh.param("output", default=None, kind=Path)
    sink = mesh.jsonl(output)
    assert sink.discards
    output.set(tmp_path)
    assert not sink.discards
    assert not mesh.jsonl(tmp_path).discards


def test_writer_names_tell_their_run() -> None:
    assert run_of(writer_name("3f9a", "alpha-1.2")) == "3f9a"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (("a", 1, None, True), '["a", 1, null, true]'),
        (Point(1, b"\xff\xfe"), '{"x": 1, "label": {"bytes": "__4"}}'),
        ({"p": [Point(1, b"")]}, '{"p": [{"x": 1, "label": {"bytes": ""}}]}'),
        ({2, 1}, "[1, 2]"),
        (float("nan"), '{"repr": "nan"}'),
        ({("a", 1): 2}, '{"repr": "{(\'a\', 1): 2}"}'),
        (1j, '{"repr": "1j"}'),
        (Point, f'{{"repr": "{Point!r}"}}'),
    ],
)
def test_everything_has_a_json_form(value: object, text: str) -> None:
    assert to_json(value) == text


@pytest.mark.parametrize(
    "pair", [("a", 1), ('"\\\n\x00', -5), ("a", True), ("a", 1.5), (1, 1), ("a", 1, 2), ("\ud800", 2**70)]
)
def test_the_fast_way_of_pairs_writes_what_json_writes(pair: tuple[Any, ...]) -> None:
    (line,) = to_json_lines([pair])
    assert line == json.dumps(pair, ensure_ascii=False)


def test_a_lone_surrogate_is_written_as_json_escapes_it(tmp_path: Path) -> None:
    write(tmp_path, "run1.alpha", [("\ud800", 1)])
    text = (tmp_path / "run1.alpha.jsonl").read_text("utf-8")
    assert text == '["\\ud800", 1]\n'
    assert json.loads(text) == ["\ud800", 1]


def test_stdout_prints_text_as_it_is_and_the_rest_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    writer = mesh.stdout().open("run1.alpha")
    writer.write(["plain", ("a", 1), Point(1, b"")])
    writer.write([])
    writer.write(["\ud800"])
    writer.close()
    assert capsys.readouterr().out == 'plain\n["a", 1]\n{"x": 1, "label": {"bytes": ""}}\n\\ud800\n'


def test_hidden_files_do_not_occupy_a_directory(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    writer = mesh.jsonl(tmp_path).open(writer_name("run", "part"))
    writer.write([("a", 1)])
    writer.close()
    assert (tmp_path / "run.part.jsonl").read_text() == '["a", 1]\n'
