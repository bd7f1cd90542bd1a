"""Values that come from outside the file: `--set` before the environment before the file.

    --set NAME=VALUE               an application's parameter
    --set cluster.KEY=VALUE        a value of [cluster]; app.module and app.params.NAME go the same way
    MESH__CLUSTER__KEY=VALUE       the same from the environment, and
    MESH__APP__PARAMS__NAME=VALUE  (names in the environment are lower-cased)

Nodes have no overrides: which node is which is the file's to say. Each override keeps how it was typed, because that
is the place that a mistake about it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodes.mistakes import Mistake, did_you_mean
from nodes.schema import KNOWN_KEYS

PREFIX = "MESH__"
_SECTIONS = ("cluster", "app")
_WHOLE_NUMBERS = ("slots", "copies", "seed", "expect")


@dataclass(frozen=True, slots=True)
class Override:
    """One value and where it was typed."""

    path: tuple[str, ...]
    value: object
    typed: str  # as in `--set cluster.copies=2`


def from_command_line(pairs: Iterable[str]) -> list[Override | Mistake]:
    """What `--set` gave, in its order."""
    return [_command_line(pair) for pair in pairs]


def from_environment(environment: Mapping[str, str]) -> list[Override | Mistake]:
    """All variables with our prefix, by name."""
    return [_variable(name, environment[name]) for name in sorted(environment) if name.startswith(PREFIX)]


def _command_line(pair: str) -> Override | Mistake:
    typed = f"--set {pair}"
    name, equals, value = pair.partition("=")
    if not (equals and name):
        return Mistake(typed, 0, 0, "must be NAME=VALUE")
    parts = tuple(name.split("."))
    path = ("app", "params", name) if len(parts) == 1 else parts
    return _checked(path, value, typed)


def _variable(name: str, value: str) -> Override | Mistake:
    return _checked(tuple(name[len(PREFIX) :].lower().split("__")), value, f"{name}={value}")


def _checked(path: tuple[str, ...], value: str, typed: str) -> Override | Mistake:
    section, rest = path[0], path[1:]
    if section == "node":
        return Mistake(typed, 0, 0, "nodes are set in the topology file only")
    if section not in _SECTIONS:
        return Mistake(typed, 0, 0, f'unknown section "{section}"{did_you_mean(section, _SECTIONS)}')
    if not rest or rest[0] not in KNOWN_KEYS[section]:
        name = ".".join(rest)
        return Mistake(typed, 0, 0, f'unknown key "{name}" in [{section}]{did_you_mean(name, KNOWN_KEYS[section])}')
    if len(rest) != (2 if rest[0] == "params" else 1):
        return Mistake(typed, 0, 0, "one parameter at a time: app.params.NAME" if rest[0] == "params" else "too deep")
    return Override(path, _number_if_wanted(rest[0], value), typed)


def _number_if_wanted(key: str, value: str) -> object:
    """A text that is not a number stays one, and the schema says what is wrong with it."""
    digits = value.removeprefix("-")
    return int(value) if key in _WHOLE_NUMBERS and digits.isascii() and digits.isdigit() and len(digits) < 20 else value
