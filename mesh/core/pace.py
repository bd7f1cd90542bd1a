"""How much one unit of work may take on, so that a node looks up often enough however slow the application's code is.

A unit is quick when steps are quick: thousands of records, a few milliseconds. With a step of half a second the same
unit would keep reads of states, and a stop, waiting for half an hour. So each producer has a pace: an amount that
begins small, is doubled while units are short, and cut when one took too long.

What is done in the background has a share of the time, so that the work in front of it goes on almost as before.
"""

from __future__ import annotations

from mesh.core.events import Millis

UNIT_MS = 100  # what a unit is meant to stay below; a person does not notice it


class Pace:
    """`most` records or bytes for the next unit; between 1 and `ceiling`."""

    def __init__(self, start: int, ceiling: int) -> None:
        self.most = start
        self._ceiling = ceiling

    def took(self, amount: int, elapsed: Millis) -> None:
        """A unit of so much took so long."""
        if elapsed > UNIT_MS:
            self.most = max(1, min(self._ceiling, amount * UNIT_MS // (2 * elapsed)))
        elif elapsed < UNIT_MS // 4 and amount >= self.most:
            self.most = min(self._ceiling, self.most * 2)


class Share:
    """Work in the background: after a unit of it there is none for so many times as long as it took, as long as other
    work is done in between."""

    def __init__(self, part: int) -> None:
        """One part in so many."""
        self._part = part
        self._busy = False  # something else was done since the last unit
        self.next_at: Millis = 0

    def may(self, now: Millis) -> bool:
        return now >= self.next_at

    def worked(self) -> None:
        """Something else was done."""
        self._busy = True

    def took(self, began: Millis, elapsed: Millis) -> None:
        """A unit in the background."""
        self.next_at = began + max(1, elapsed) * (self._part if self._busy else 1)
        self._busy = False
