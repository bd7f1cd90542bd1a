"""What can be told about an author's functions before they run: that they can be called as they will be called."""

from __future__ import annotations

import inspect
from typing import Any


def describe(function: object) -> str:
    """A short name for people."""
    name = getattr(function, "__qualname__", None)
    return name.removeprefix("<locals>.") if isinstance(name, str) else repr(function)[:60]


def label(kind: str, function: object) -> str:
    """What a step is called in logs: steps have no names of their own."""
    return f"{kind}({describe(function).rpartition('<locals>.')[2]})"


def wrong_function(user: str, function: object, *arguments: str) -> str | None:
    """One sentence when `function` cannot be called with so many arguments; None when it can, or nobody knows."""
    given = f"({', '.join(arguments)})" if arguments else "no arguments"
    if not callable(function):
        return f"{user} needs a function that takes {given}, not {function!r:.60}"
    if inspect.iscoroutinefunction(function):
        return f"{user} needs a plain function: {describe(function)} is async, and nothing would await it"
    if not _takes(function, len(arguments)):
        return f"{user} needs a function that takes {given}, and {describe(function)} does not"
    return None


def _takes(function: Any, count: int) -> bool:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some builtins do not say what they take
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def wrong_class(user: str, kind: object) -> str | None:
    """One sentence when `kind` is no class that can be made without arguments and takes records."""
    if not isinstance(kind, type):
        return f"{user} needs a class with a method on_record, or a step as its third argument; got {describe(kind)}"
    on_record = getattr(kind, "on_record", None)
    if not callable(on_record):
        return f"{user} needs a class with a method on_record(self, record); {kind.__name__} has none"
    if not _takes(kind, 0):
        return f"{user} makes one {kind.__name__} a key, without arguments: give its fields defaults"
    return wrong_function(f"{user}: on_record", on_record, "self", "record")
