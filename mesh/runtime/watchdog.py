"""Ends a process in which nothing pumps any more, not even the heart: C code keeps the interpreter's lock.

Others have long declared it dead, and a node that cannot speak must not go on by itself. faulthandler's own thread
needs no interpreter: it waits for DEAD_LOOP_S, says where each thread is, and exits.
"""

from __future__ import annotations

import faulthandler

from mesh.core.events import Millis

DEAD_LOOP_S = 120
REARM_MS = 5_000


class Watchdog:
    """Armed at every pump, which costs something now and then only."""

    def __init__(self) -> None:
        self._armed_at: Millis = 0

    def arm(self, now: Millis) -> None:
        if now - self._armed_at > REARM_MS:
            self._armed_at = now
            faulthandler.dump_traceback_later(DEAD_LOOP_S, exit=True, file=2)

    def disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
