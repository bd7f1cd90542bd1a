"""The interpreter's search for cycles, in a process that has millions of objects which live long.

A full collection looks at all of them: with 300,000 states that stops every thread for 0.3 s, and it comes again
whenever a quarter of what there is has been made anew. So what has lived through one is frozen, and is not looked at
again; the next one sees only what came since.

That a cycle of frozen objects dies is not noticed, so all is thawed, and looked at once more, when AGAIN times as much
has been frozen since the last such look as there was then, and is more than the states explain that have come: a node
that is loaded, or filled with copies, is not stopped for a second because it has more to do with.

Only for a process that is a node's alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

OLDEST = 2  # the generation that a full collection looks at
LEAST = 500_000  # objects, some 50 MB: to look at so many takes about 50 ms
AGAIN = 3
MOST_OF_A_STATE = 64  # objects: what was there with few states was not all theirs


class Freezing:
    """`told` is called by the collector, in any thread. `states`: how many there are in memory."""

    def __init__(self, states: Callable[[], int]) -> None:
        self._states = states
        self._thawed = True  # the next full collection looks at everything
        self._found = 0  # by the last one that did
        self._states_then = 0
        self._since = 0  # frozen by others, since it was last asked whether states explain it

    def told(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] != OLDEST:
            return
        if not self._thawed:
            self._since += len(gc.get_objects(OLDEST))
        gc.freeze()
        if self._thawed:
            self._thawed, self._found, self._since = False, gc.get_freeze_count(), 0
            self._states_then = self._states()
        elif self._since > max(LEAST, AGAIN * self._found):
            self._since = 0
            self._thawed = gc.get_freeze_count() > (1 + AGAIN) * self._explained()
            if self._thawed:
                gc.unfreeze()

    def _explained(self) -> float:
        """So many objects, if states are as large as they were, and there were enough to say so."""
        if self._found <= LEAST or not self._states_then:
            return self._found
        each = min(self._found / self._states_then, MOST_OF_A_STATE)
        return self._found + each * max(0, self._states() - self._states_then)


def freeze_what_stays(states: Callable[[], int]) -> None:
    gc.callbacks.append(Freezing(states).told)
