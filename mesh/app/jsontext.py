"""Values as JSON for people and scripts: sink lines, states. Never fails: what has no JSON becomes {"repr": ...}.

A dataclass is an object, bytes are {"bytes": unpadded base64url}, a tuple or a set is an array. Not meant to be read
back; between nodes values travel otherwise.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Any

_quote = json.encoder.encode_basestring


def to_json(value: object) -> str:
    """One line."""
    try:
        return _strict.encode(value)
    except Exception:  # an odd dict key, NaN, a cycle; or a property or a repr of the application's that raises
        return _strict.encode({"repr": _repr(value)})


def to_json_lines(items: Sequence[Any]) -> list[str]:
    """Many values. Most are (word, number) pairs; these have a way of their own, four times as fast."""
    return [
        f"[{_quote(item[0])}, {item[1]}]"
        if type(item) is tuple and len(item) == 2 and type(item[0]) is str and type(item[1]) is int
        else to_json(item)
        for item in items
    ]


def _plain(value: Any) -> Any:
    """What json itself does not know, one level at a time."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": base64.urlsafe_b64encode(value).rstrip(b"=").decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return {"repr": _repr(value)}


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
