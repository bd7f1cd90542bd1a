"""Any Python value as JSON, for people and for files: what `mesh get` shows and what the JSON sinks write.

A dataclass is an object, bytes are {"bytes": unpadded base64url}, and what JSON has no form for is {"repr": ...}.
It is for reading only: values travel between nodes in another form, which comes back as it was.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from typing import Any

MAX_DEPTH = 100  # deeper than anybody reads; Python's own recursion limit is not far


def to_json(value: Any, depth: int = 0) -> Any:
    """A value that `json.dumps` takes as it is."""
    kind = type(value)
    if kind in (str, int, bool) or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"repr": repr(value)}
    if depth > MAX_DEPTH:
        return {"repr": "..."}
    if isinstance(value, dict):
        return _object(value, depth)
    if isinstance(value, list | tuple):
        return [to_json(item, depth + 1) for item in value]
    if kind is bytes:
        return {"bytes": base64.urlsafe_b64encode(value).rstrip(b"=").decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
    return {"repr": f"{value!r:.10000}"}


def _object(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str for key in value):
        return {key: to_json(item, depth + 1) for key, item in value.items()}
    return {"repr": f"{value!r:.10000}"}
