"""How a thread waits for its descriptors: it looks again and again for as long as that is likely to end soon, else it
sleeps.

To be woken costs more than most messages do: 40 us where a processor has gone to rest, three or four times while a
question goes to a key's owner and its answer comes back; and what runs there then runs slowly at first. Who talks to
somebody who answers hears again within a millisecond. So each wait that was over within LOOK_NS is a point, and whoever
has PRICE points begins the next wait with looking. One that lasts longer costs as many, for it was in vain: a node that
is idle, or hears something now and then, only sleeps.

Between two looks the processor is offered to whoever else wants it, a thread of this process or another one: what looks
takes only time that nobody needs. Is it away for AWAY_NS then, this process may have used up its ration of processor
time, as containers have: it only sleeps for REST_NS. Where the processor cannot be offered, nobody looks.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable

LOOK_MS = 1
LOOK_NS = LOOK_MS * 1_000_000
PRICE = 4  # of five waits that begin with looking, one may be in vain
MOST_POINTS = 4 * PRICE
AWAY_NS = 5_000_000  # longer than a turn of somebody else
REST_NS = 10_000_000_000  # to be stopped once in a while is one in many waits
_GIVE_WAY: Callable[[], None] | None = getattr(os, "sched_yield", None)


class Polling:
    """Waits until one of `descriptors` is readable. `clock` is in nanoseconds."""

    def __init__(
        self,
        descriptors: Iterable[int],
        clock: Callable[[], int] = time.monotonic_ns,
        give_way: Callable[[], None] | None = _GIVE_WAY,
    ) -> None:
        self._descriptors = list(descriptors)
        self._clock = clock
        self._give_way = give_way
        self._points = 0
        self._rests_until = 0

    def wait(self, timeout_ms: int) -> list[int]:
        """Those that are readable; none if the time was over first."""
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, select.POLLIN)
        started = self._clock()
        looks = timeout_ms > 0 and self._points >= PRICE and started >= self._rests_until
        ready = self._look(poll, started + LOOK_NS) if looks else []
        ready = ready or poll.poll(timeout_ms - LOOK_MS if looks else timeout_ms)
        if self._clock() - started >= LOOK_NS:
            self._points = max(0, self._points - PRICE)
        elif ready:
            self._points = min(self._points + 1, MOST_POINTS)
        return [descriptor for descriptor, _ in ready]

    def _look(self, poll: select.poll, until: int) -> list[tuple[int, int]]:
        """For as long; then nothing."""
        ready: list[tuple[int, int]] = []
        now = self._clock()
        while self._give_way is not None and not ready and now < until:
            self._give_way()
            ready, before, now = poll.poll(0), now, self._clock()
            if now - before >= AWAY_NS:
                self._rests_until = now + REST_NS
        return ready
