"""The locator finds every key and value of odd but valid TOML, at the place where a person would look."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.locator import Locator, Path, Place

ODD = '''\
# a comment with [brackets] and = signs
top.dotted . "quoted key" = 1   # trailing
'literal key'.x = [1, 2]
[ cluster ]  # spaces and a comment
  name = "a # no comment = here"
"slots" = 1_024
text = """
[not.a.header]
key = "no key" ""\\" """
raw = \'\'\'
[[neither]]\'\'\'
[cluster.inner]
when = 1979-05-27 07:32:00
[[node]]
name = "alpha"
inline = { a = 1, b.c = { d = "x, y}" }, "e" = [ { f = 1 }, { f = 2 } ] }
[node.child]
deep = true
[[node]]
name = \'beta\'
many = [
  1, # one
  [2, 3],
  "four]",
]
[node.child]
deep = false
[[node.grand]]
x = 1
[[node.grand]]
x = 2
[a."b.c".\'d\']
z = 0
'''


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), (2, 1), (2, 1)),
        (("top", "dotted", "quoted key"), (2, 14), (2, 29)),
        (("literal key", "x"), (3, 15), (3, 19)),
        (("literal key", "x", 1), (3, 23), (3, 23)),
        (("cluster",), (4, 3), (4, 1)),
        (("cluster", "name"), (5, 3), (5, 10)),
        (("cluster", "slots"), (6, 1), (6, 11)),
        (("cluster", "text"), (7, 1), (7, 8)),
        (("cluster", "raw"), (10, 1), (10, 7)),
        (("cluster", "inner"), (12, 10), (12, 1)),
        (("cluster", "inner", "when"), (13, 1), (13, 8)),
        (("node", 0), (14, 3), (14, 1)),
        (("node", 0, "inline", "b", "c", "d"), (16, 27), (16, 31)),
        (("node", 0, "inline", "e", 1, "f"), (16, 63), (16, 67)),
        (("node", 0, "child", "deep"), (18, 1), (18, 8)),
        (("node", 1), (19, 3), (19, 1)),
        (("node", 1, "name"), (20, 1), (20, 8)),
        (("node", 1, "many", 1, 1), (23, 7), (23, 7)),
        (("node", 1, "many", 2), (24, 3), (24, 3)),
        (("node", 1, "child", "deep"), (27, 1), (27, 8)),
        (("node", 1, "grand", 1, "x"), (31, 1), (31, 5)),
        (("a", "b.c", "d", "z"), (33, 1), (33, 5)),
        (("a", "b.c"), (32, 4), (32, 1)),
    ],
)
def test_places_in_odd_toml(path: Path, key: tuple[int, int], value: tuple[int, int]) -> None:
    locator = Locator(ODD)
    assert locator.key(path) == Place(*key)
    assert locator.value(path) == Place(*value)


def test_every_path_that_tomllib_reads_is_located_at_its_own_name() -> None:
    lines = ODD.splitlines()
    locator = Locator(ODD)
    for path in _paths(tomllib.loads(ODD)):
        place = locator.key(path)
        name = path[-1]
        if isinstance(name, str):
            assert lines[place.line - 1][place.column - 1 :].lstrip("\"'").startswith(name), path


def test_what_is_missing_is_placed_at_its_table() -> None:
    locator = Locator('[cluster]\nname = "a"\n\n[[node]]\nname = "b"\n')
    assert locator.value(("node", 0, "listen")) == Place(4, 1)
    assert locator.value(("app", "module")) == Place(1, 1)


def test_windows_line_ends_count_once() -> None:
    assert Locator('[cluster]\r\nname = "a"\r\n').value(("cluster", "name")) == Place(2, 8)


def test_an_empty_text_has_only_its_beginning() -> None:
    assert Locator("").key(("cluster",)) == Place(1, 1)


_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)
_values = st.recursive(
    st.integers(-99, 99) | st.booleans() | _names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_names, _values, max_size=4), st.sampled_from([" ", '  # [c] = "d"\n', "\n\t"]))
def test_the_value_at_each_place_is_the_value_that_tomllib_reads(tree: dict[str, Any], gap: str) -> None:
    text = "".join(f"{_quote(name)} = {_write(value, gap)} # end\n" for name, value in tree.items())
    locator = Locator(text)
    lines = text.split("\n")
    for path, value in _leaves(tomllib.loads(text)):
        place = locator.value(path)
        assert lines[place.line - 1][place.column - 1 :].startswith(_write(value, gap)), (path, text)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(value: Any, gap: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(name)} = {_write(item, gap)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + f",{gap}".join(_write(item, gap) for item in value) + "]"
    return _quote(value) if isinstance(value, str) else str(value)


def _paths(tree: Any, path: Path = ()) -> list[Path]:
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [path] * bool(path) + [below for name, item in items for below in _paths(item, (*path, name))]


def _leaves(tree: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for name, item in items for leaf in _leaves(item, (*path, name))]
    return [(path, tree)]
