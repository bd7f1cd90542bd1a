"""Records that could not be used: a bad key, a step that raised, a value that does not serialize.

Each is counted and told with what happened, the value and the place; its key's state is what it was. The log is limited
to the first of each kind and one line a LOG_EVERY_MS, since one bad file may hold a million of them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from mesh.core.events import Log, Millis

LOG_EVERY_MS = 10_000
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

    def record(self, step: str, where: str, value: object, error: BaseException | str, now: Millis) -> Log | None:
        """Count one record; the line to log, or None if this kind was told a moment ago."""
        kind = error if isinstance(error, str) else type(error).__name__
        told = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.count += 1
        self.first = self.first or f"{step} ({where}): {told[:200]}; the value was {value!r:.200}"
        seen = self._kinds.get((where, kind[:40]))
        if seen is None and len(self._kinds) < MAX_KINDS:
            seen = self._kinds[where, kind[:40]] = _Kind(0, now - LOG_EVERY_MS)
        if seen is None:
            return None
        seen.count += 1
        if now - seen.logged_at < LOG_EVERY_MS:
            return None
        seen.logged_at = now
        fields = {"step": step, "where": where, "value": f"{value!r:.200}", "error": told[:500], "so_far": seen.count}
        if not isinstance(error, str):
            fields["raised_at"] = _raised_at(error)
        return Log("record.set_aside", fields, "error")


def _raised_at(error: BaseException) -> str:
    """file:line of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
