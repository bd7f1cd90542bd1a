"""The interpreter's search for cycles, in a process that has millions of objects which live long.

A full collection looks at all of them: with 300,000 states that stops every thread for 0.3 s, and it comes again
whenever a quarter of what there is has been made anew. So what has lived through one is frozen, and is not looked at
again; the next one sees only what came since. That a cycle of frozen objects dies is not noticed, so all is thawed, and
looked at once more, when AGAIN times as much has been frozen since the last such look as there was then.

Only for a process that is a node's alone.
"""

from __future__ import annotations

import gc
from typing import Any

OLDEST = 2  # the generation that a full collection looks at
LEAST = 500_000  # objects, some 50 MB: to look at so many takes about 50 ms
AGAIN = 3


class Freezing:
    """`told` is called by the collector."""

    def __init__(self) -> None:
        self._thawed = True  # the next full collection looks at everything
        self._found = 0  # by the last one that did
        self._since = 0  # frozen by others

    def told(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] != OLDEST:
            return
        alive = len(gc.get_objects(OLDEST))
        if self._thawed:
            self._thawed, self._found, self._since = False, alive, 0
        else:
            self._since += alive
        gc.freeze()
        if self._since > max(LEAST, AGAIN * self._found):
            self._thawed = True
            gc.unfreeze()


def freeze_what_stays() -> None:
    gc.callbacks.append(Freezing().told)
