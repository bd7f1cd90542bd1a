"""Where things stand in a TOML text: from a key path, as in ("node", 1, "listen"), to line and column.

tomllib knows positions of syntax errors only. This scanner runs over a text that tomllib has already accepted, so it
checks nothing: it only has to find its way through keys, headers, arrays, inline tables, strings and comments, and
note where each began. What it does not know it does not claim: `place` falls back to the nearest enclosing table.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
_MULTILINE_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL)
_MULTILINE_LITERAL = re.compile(r"'''.*?'{3,5}", re.DOTALL)
_PLAIN = re.compile(r"[^,\]}#\n]*")
_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


class Locator:
    """The places of one text. A table's value is where its header begins."""

    def __init__(self, text: str) -> None:
        scanner = _Scanner(text.replace("\r\n", "\n"))
        scanner.document()
        self._keys = scanner.keys
        self._values = scanner.values
        self._starts = scanner.line_starts()

    def key(self, path: Path) -> Place:
        """Where the last name of the path was written."""
        return self._place(self._keys.get(path)) or self.value(path)

    def value(self, path: Path) -> Place:
        """Where the value begins; for what is not in the text, its nearest enclosing table."""
        while path:
            found = self._place(self._values.get(path))
            if found:
                return found
            path = path[:-1]
        return Place(1, 1)

    def _place(self, offset: int | None) -> Place | None:
        if offset is None:
            return None
        line = bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


class _Scanner:
    """One pass over a valid text; fills `keys` and `values` with offsets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}  # tables seen so far of each [[array]]

    def line_starts(self) -> list[int]:
        return [0] + [match.end() for match in re.finditer("\n", self.text)]

    def document(self) -> None:
        table: Path = ()
        self._skip(_GAP)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_GAP)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _looking_at(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def _header(self) -> Path:
        start = self.at
        brackets = 2 if self._looking_at("[[") else 1
        self.at += brackets
        path: Path = ()
        parts = self._key_parts()
        for number, (name, offset) in enumerate(parts, 1):
            path = (*path, name)
            self._note(path, offset, start)
            if path in self._counts and not (number == len(parts) and brackets == 2):
                path = (*path, self._counts[path] - 1)  # [array.child] belongs to the array's last table
        self.at += brackets
        if brackets == 2:
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
            self._note(path, parts[-1][1], start)
        return path

    def _note(self, path: Path, key: int, value: int) -> None:
        self.keys.setdefault(path, key)
        self.values.setdefault(path, value)

    def _key_parts(self) -> list[tuple[str, int]]:
        parts = []
        while True:
            self._skip(_BLANK)
            parts.append(self._name())
            self._skip(_BLANK)
            if not self._looking_at("."):
                return parts
            self.at += 1

    def _name(self) -> tuple[str, int]:
        start = self.at
        quoted = self.text[start] in "\"'"
        self._skip((_BASIC if self._looking_at('"') else _LITERAL) if quoted else _BARE_KEY)
        written = self.text[start : self.at]
        if quoted:
            return str(tomllib.loads(f"name = {written}")["name"]), start
        return written, start

    def _pair(self, table: Path) -> None:
        path = table
        for name, offset in self._key_parts():
            path = (*path, name)
            self._note(path, offset, offset)
        self.at += 1  # the equals sign
        self._skip(_BLANK)
        self.values[path] = self.at
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._looking_at("["):
            self._array(path)
        elif self._looking_at("{"):
            self._inline_table(path)
        else:
            self._skip(self._scalar())

    def _scalar(self) -> re.Pattern[str]:
        for opening, pattern in (('"""', _MULTILINE_BASIC), ("'''", _MULTILINE_LITERAL)):
            if self._looking_at(opening):
                return pattern
        if self._looking_at('"'):
            return _BASIC
        return _LITERAL if self._looking_at("'") else _PLAIN

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        self._skip(_GAP)
        while not self._looking_at("]"):
            self.values[(*path, index)] = self.at
            self._value((*path, index))
            index += 1
            self._past_comma()
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip(_GAP)
        while not self._looking_at("}"):
            self._pair(path)
            self._past_comma()
        self.at += 1

    def _past_comma(self) -> None:
        self._skip(_GAP)
        if self._looking_at(","):
            self.at += 1
            self._skip(_GAP)
