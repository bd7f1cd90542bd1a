"""Records that could not be used: a bad key, a step that raised, a value that does not serialize.

Each is counted and told with what happened, the value and the place; its key's state is what it was. The log is limited
to the first of each kind and one line a LOG_EVERY_MS, since one bad file may hold a million of them. What is shown is
the application's own, so its `__repr__` and `__str__` may raise or be huge: `show` bounds both.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.events import Log, Millis
from mesh.core.values import show

LOG_EVERY_MS = 10_000
MAX_TOLD = 500  # characters of an error
MAX_KINDS = 1_000  # kinds are (place, error type): as many as the application has lines


@dataclass(slots=True)
class _Kind:
    count: int
    logged_at: Millis


class SetAside:
    """Counts by place and error, and when each was last told."""

    def __init__(self) -> None:
        self.count = 0
        self.first: str = ""  # for the last line of a run
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def record(self, step: str, where: str, value: object, error: BaseException, now: Millis) -> Log | None:
        """Count one record; the line to log, or None if this kind was told a moment ago."""
        self.count += 1
        self.first = self.first or f"{step} ({where}): {told(error)}; the value was {show(value)}"
        kind = where, type(error).__name__
        seen = self._kinds.get(kind)
        if seen is None and len(self._kinds) < MAX_KINDS:
            seen = self._kinds[kind] = _Kind(0, now - LOG_EVERY_MS)
        if seen is None:
            return None
        seen.count += 1
        if now - seen.logged_at < LOG_EVERY_MS:
            return None
        seen.logged_at = now
        fields = {"step": step, "where": where, "value": show(value), "error": told(error), "so_far": seen.count}
        place = raised_at(error)
        return Log("record.set_aside", fields | ({"raised_at": place} if place else {}), "error")


def told(error: BaseException) -> str:
    """Its type and, within bounds, its text."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text[:MAX_TOLD]}"


def raised_at(error: BaseException) -> str:
    """file:line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
