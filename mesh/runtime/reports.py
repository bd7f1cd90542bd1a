"""What may be told again: one line a minute for each reason, so that a hostile peer cannot fill a disk."""

from __future__ import annotations

from mesh.core.events import Millis

EVERY_MS = 60_000


class RateLimited:
    """Reasons are short fixed words, so there are few."""

    def __init__(self) -> None:
        self._told: dict[str, Millis] = {}

    def may_tell(self, reason: str, now: Millis) -> bool:
        last = self._told.get(reason)
        if last is not None and now - last < EVERY_MS:
            return False
        self._told[reason] = now
        return True
