"""How much one unit of work may take on, so that a node looks up often enough however slow the application's code is.

A unit is quick when steps are quick: thousands of records, a few milliseconds. With a step of half a second the same
unit would keep reads of states, and a stop, waiting for half an hour. So each producer has a pace: an amount that
begins small, is doubled while units are short, and cut when one took too long.
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
