"""Topology files: read, checked as a whole, turned into what a node is told at its start.

Every mistake is found in one go, each at its file, line and column. So a check never relies on another having passed:
pydantic says which single values are bad, and the checks of values against one another look only at good ones.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mesh.runtime.config import ClusterConfig, NodeConfig
from nodes.contradictions import contradictions
from nodes.locator import Locator, Path, Place
from nodes.mistakes import Mistake, Mistaken, near
from nodes.overrides import Override, from_command_line, from_environment
from nodes.schema import KNOWN_KEYS, AppSection, NodeSection, TopologyFile, sentence

MAX_FILE = 1 << 20  # bytes; 10,000 nodes fit


@dataclass(frozen=True, slots=True)
class ParamValue:
    """What the operator wants a parameter to be. Relative paths in it start at `base`."""

    name: str
    value: object  # of the file's own type, or a str from the command line or the environment
    base: str
    place: Mistake  # where it was written; its text is empty


@dataclass(frozen=True, slots=True)
class AppChoice:
    """Which application, with which parameters."""

    module: str  # absolute file.py[:attr], or package.module[:attr]
    place: Mistake  # where it was named; its text is empty
    base: str  # the folder that packages are looked for in, after all others
    params: tuple[ParamValue, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """A file without mistakes."""

    file: str
    cluster: ClusterConfig
    nodes: tuple[NodeConfig, ...]
    node_places: tuple[Mistake, ...]
    app: AppChoice

    def node(self, name: str) -> NodeConfig | None:
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file came to: a topology, or mistakes; the app may be known all the same."""

    topology: Topology | None
    mistakes: tuple[Mistake, ...]
    app: AppChoice | None


def load_topology(file: str, sets: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> Topology:
    """Raises `Mistaken` with every mistake. Relative paths of `sets` and environment start in the working directory."""
    examined = examine_topology(file, outside_values(sets, environment))
    if examined.topology is None:
        raise Mistaken(examined.mistakes)
    return examined.topology


def outside_values(sets: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[Override | Mistake]:
    """What comes from outside the file; later ones win."""
    return [*from_environment(environment), *from_command_line(sets)]


def examine_topology(file: str, overrides: Sequence[Override | Mistake], text: str | None = None) -> Examined:
    """Read a file (or `text`, as if it stood there) and whatever overrides it."""
    reader = _Reader(file, text)
    try:
        return reader.examine(overrides)
    except Mistaken as unreadable:
        return Examined(None, unreadable.mistakes, None)


class _Reader:
    """One reading of one file."""

    def __init__(self, file: str, text: str | None) -> None:
        self.file = file
        self.text = text
        self.cwd = os.getcwd()
        self.base = os.path.abspath(os.path.dirname(file))
        self.mistakes: list[Mistake] = []
        self.tree: dict[str, Any] = {}
        self.locator = Locator("")
        self.typed: dict[Path, str] = {}  # values that do not come from the file, and how they were typed
        self.bad: set[Path] = set()  # values that no further check may look at

    def examine(self, overrides: Sequence[Override | Mistake]) -> Examined:
        self._parse()
        for override in overrides:
            self._overlay(override)
        self._validate()
        for path, text in contradictions(self.tree, self._good):
            self._mistake(path, text)
        mistakes = tuple(sorted(dict.fromkeys(self.mistakes), key=_place_order))
        app = self._app()
        if mistakes or app is None:
            return Examined(None, mistakes, app)
        return Examined(self._topology(TopologyFile.model_validate(self.tree), app), (), app)

    def _parse(self) -> None:
        text = self._text() if self.text is None else self.text
        try:
            self.tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Mistaken([self._syntax(text, str(error))]) from None
        except RecursionError:
            raise Mistaken([Mistake(self.file, 0, 0, "is nested too deeply")]) from None
        self.locator = Locator(text)

    def _text(self) -> str:
        try:
            with open(self.file, "rb") as stream:
                raw = stream.read(MAX_FILE + 1)
        except OSError as error:
            raise Mistaken([Mistake(self.file, 0, 0, f"cannot be read: {error.strerror}")]) from None
        if len(raw) > MAX_FILE:
            raise Mistaken([Mistake(self.file, 0, 0, f"is longer than {MAX_FILE} bytes")])
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise Mistaken([Mistake(self.file, line, 0, "is not UTF-8")]) from None

    def _syntax(self, text: str, message: str) -> Mistake:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
        if not found:
            return Mistake(self.file, 0, 0, message)
        lines = text.split("\n")
        line, column = (found[2], found[3]) if found[2] else (len(lines), len(lines[-1]) + 1)
        what = found[1][:1].lower() + found[1][1:]
        return Mistake(self.file, int(line), int(column), f"not TOML: {what}")

    def _overlay(self, override: Override | Mistake) -> None:
        if isinstance(override, Mistake):
            self.mistakes.append(override)
            return
        table: Any = self.tree
        for name in override.path[:-1]:
            table = table.setdefault(name, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):  # else the file has something that is no table there, which is told anyway
            table[override.path[-1]] = override.value
            self.typed[override.path] = override.typed

    def _validate(self) -> None:
        try:
            TopologyFile.model_validate(self.tree)
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            return
        guessed = {self._guess(detail["loc"]) for detail in details if detail["type"] == "extra_forbidden"}
        for detail in details:
            path = detail["loc"]
            self.bad.add(path)
            misspelt = any(path[:length] in guessed for length in range(1, len(path) + 1))
            if not (detail["type"] == "missing" and misspelt):  # that key was told already
                self._mistake(path, sentence(detail), at_key=detail["type"] == "extra_forbidden")

    @staticmethod
    def _guess(path: Path) -> Path:
        section = str(path[0]) if len(path) > 1 else ""
        return (*path[:-1], near(str(path[-1]), KNOWN_KEYS[section]) or "")

    def _good(self, path: Path) -> bool:
        return not any(path[:length] in self.bad for length in range(1, len(path) + 1))

    def _mistake(self, path: Path, text: str, *, at_key: bool = False) -> None:
        place = self.where(path, at_key=at_key)
        self.mistakes.append(Mistake(place.file, place.line, place.column, text))

    def where(self, path: Path, *, at_key: bool = False) -> Mistake:
        """The place of a value, as a mistake without its text."""
        if path in self.typed:
            return Mistake(self.typed[path], 0, 0, "")
        place: Place = self.locator.key(path) if at_key else self.locator.value(path)
        return Mistake(self.file, place.line, place.column, "")

    def _base(self, path: Path) -> str:
        return self.cwd if path in self.typed else self.base

    # -- a file without mistakes --------------------------------------------------------------------------------------

    def _topology(self, model: TopologyFile, app: AppChoice) -> Topology:
        nodes = tuple(self._node(node) for node in model.node)
        places = tuple(self.where(("node", index)) for index in range(len(nodes)))
        return Topology(self.file, _cluster(model), nodes, places, app)

    def _app(self) -> AppChoice | None:
        """Also of a file with mistakes, if this part has none."""
        try:
            section = AppSection.model_validate(self.tree.get("app"))
        except ValidationError:
            return None
        params = tuple(self._param(name, value) for name, value in section.params.items())
        base = self._base(("app", "module"))
        return AppChoice(self._module(section.module), self.where(("app", "module")), base, params)

    def _module(self, module: str) -> str:
        """A file's name becomes absolute; the name of a package's module stays."""
        if not is_file_spec(module):
            return module
        return os.path.normpath(os.path.join(self._base(("app", "module")), module))

    def _param(self, name: str, value: object) -> ParamValue:
        path = ("app", "params", name)
        return ParamValue(name, value, self._base(path), self.where(path))

    def _node(self, node: NodeSection) -> NodeConfig:
        fields = node.model_dump()
        if node.data_dir:
            fields["data_dir"] = os.path.normpath(os.path.join(self.base, node.data_dir))
        return NodeConfig(**fields)


def is_file_spec(module: str) -> bool:
    """Whether `module[:attr]` names a file rather than an importable module."""
    path = module.rpartition(":")[0] if re.search(r":\w*$", module) else module
    return path.endswith(".py") or os.sep in path or "/" in path


def _cluster(model: TopologyFile) -> ClusterConfig:
    section = model.cluster
    workers = sum(node.role == "worker" for node in model.node)
    return ClusterConfig(**{**section.model_dump(), "expect": section.expect or workers})


def _place_order(mistake: Mistake) -> tuple[bool, str, int, int]:
    """The file first, from its top; then what was typed."""
    return mistake.line == 0, mistake.file, mistake.line, mistake.column
