"""The topology file's sections as pydantic models, and its errors as sentences.

The models say what one value may be; what values mean together is `topology`'s to check. Field errors are raised as
the end of a sentence that starts with the field's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from nodes.addresses import parse_host_port, parse_listen, parse_tcp
from nodes.mistakes import did_you_mean

MAX_NAME = 64  # every envelope on the wire carries the cluster's name
MAX_SLOTS = 65536  # a slot travels as 16 bits
MAX_COPIES = 3

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME:
        raise ValueError(f"must be 1 to {MAX_NAME} of a-z, 0-9, _ and -, not starting with _ or -; it is {shown(text)}")
    return text


def _slots(number: int) -> int:
    if not (1 <= number <= MAX_SLOTS and number & (number - 1) == 0):
        raise ValueError(f"must be a power of two from 1 to {MAX_SLOTS}, not {number}{_nearest_power(number)}")
    return number


def _nearest_power(number: int) -> str:
    if not 1 < number < MAX_SLOTS:
        return ""
    below = 1 << (number.bit_length() - 1)
    return f"; the nearest are {below} and {below * 2}"


def _between(low: int, high: int) -> Callable[[int], int]:
    def check(number: int) -> int:
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}, not {number}")
        return number

    return check


def _one_of(*words: str) -> Callable[[str], str]:
    def check(word: str) -> str:
        if word not in words:
            raise ValueError(f"must be {' or '.join(words)}, not {shown(word)}{did_you_mean(word, words)}")
        return word

    return check


def _parsed_by(parse: Callable[[str], object], *, may_be_empty: bool = False) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text or not may_be_empty:
            parse(text)
        return text

    return check


Name = Annotated[str, AfterValidator(_name)]


class Section(BaseModel):
    """Unknown keys are mistakes, and nothing is converted: a file has types of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ClusterSection(Section):
    """What all nodes must agree on."""

    name: Name
    slots: Annotated[int, AfterValidator(_slots)] = 1024
    copies: Annotated[int, AfterValidator(_between(1, MAX_COPIES))] = 1
    durability: Annotated[str, AfterValidator(_one_of("memory", "disk"))] = "memory"
    seed: Annotated[int, AfterValidator(_between(0, 2**32 - 1))] = 0
    expect: Annotated[int, AfterValidator(_between(1, 10_000))] | None = None
    network: Annotated[str, AfterValidator(_one_of("auto", "loopback", "lan", "wan"))] = "auto"


class AppSection(Section):
    """Which application, and what its author left to the operator."""

    module: Annotated[str, Field(min_length=1)]
    params: dict[str, Any] = {}


class NodeSection(Section):
    """One node. Each has an HTTP door on loopback unless it says otherwise."""

    name: Name
    listen: Annotated[str, AfterValidator(_parsed_by(parse_listen))]
    advertise: Annotated[str, AfterValidator(_parsed_by(parse_tcp, may_be_empty=True))] = ""
    http: Annotated[str, AfterValidator(_parsed_by(parse_host_port, may_be_empty=True))] = "127.0.0.1:0"
    role: Annotated[str, AfterValidator(_one_of("worker", "witness"))] = "worker"
    zone: Annotated[str, Field(max_length=MAX_NAME)] = ""
    data_dir: str = ""


class TopologyFile(Section):
    """The whole file."""

    cluster: ClusterSection
    app: AppSection
    node: Annotated[list[NodeSection], Field(min_length=1)]


KNOWN_KEYS = {
    "": tuple(TopologyFile.model_fields),
    "cluster": tuple(ClusterSection.model_fields),
    "app": tuple(AppSection.model_fields),
    "node": tuple(NodeSection.model_fields),
}


def shown(value: object) -> str:
    """A value as the file would write it, cut to a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def sentence(error: ErrorDetails) -> str:
    """One pydantic error in the operator's words."""
    path = error["loc"]
    table, name = str(path[0]), str(path[-1])
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        section = table if len(path) > 1 else ""
        return f"unknown {_thing(value)} {shown(name)}{_inside(section)}{did_you_mean(name, KNOWN_KEYS[section])}"
    if kind == "missing":
        return f"{_heading(table)} is missing" if len(path) == 1 else f'{_heading(table)} needs "{name}"'
    if kind == "value_error":
        return f"{name} {error['ctx']['error']}"
    if kind in ("model_type", "dict_type", "list_type", "too_short"):
        return f"{name} must be written as {_heading('.'.join(map(str, path)))}, not {shown(value)}"
    wanted = {"int_type": "must be a whole number", "string_type": "must be text in quotes"}.get(kind)
    return f"{name} {wanted}, not {shown(value)}" if wanted else f"{name}: {error['msg']}, not {shown(value)}"


def _thing(value: object) -> str:
    return "table" if isinstance(value, dict) or (isinstance(value, list) and value and _is_tables(value)) else "key"


def _is_tables(value: list[object]) -> bool:
    return all(isinstance(item, dict) for item in value)


def _inside(section: str) -> str:
    return f" in {_heading(section)}" if section else ""


def _heading(table: str) -> str:
    return "[[node]]" if table.startswith("node") else f"[{table}]"
