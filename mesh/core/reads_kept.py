"""Reads of one key's state where states have copies: what was read counts once the owner knows that it still is one.

What an owner has applied may not be committed yet, and may be taken from it; and whoever was promoted in its place may
have taken more. So an answer waits until all that was applied before it is committed, and until the backups of the
key's slot have acknowledged something that was sent after the question came. If the slot went to another owner
meanwhile, nothing was read.

Bounds    answers that wait here weigh WAITING_BYTES at most; who asks for more while a backup is silent is told that
          there is no answer now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from mesh.core.events import Effect, Millis
from mesh.core.events.work import Answered, LookupAsked
from mesh.core.lookups import UNAVAILABLE
from mesh.core.messages import NodeId
from mesh.core.messages.outside import Found, Lookup
from mesh.core.reads import Reads, sent
from mesh.core.tokens import Wait

WAITING_BYTES = 32 << 20
ANSWER_BYTES = 1 << 10  # of one in memory, beside what was read


class KeptReads(Reads):
    """`wait` and `effects` are the data plane's."""

    def __init__(self, *args: Any, wait: Wait, effects: list[Effect]) -> None:
        super().__init__(*args)
        self._wait = wait
        self._effects = effects
        self._waiting_bytes = 0

    def _answer_here(self, asked: LookupAsked, now: Millis) -> list[Effect]:
        """Like a peer's, since it may take as long."""
        number = self._lookups.wait_for(self._me, asked.ticket, now)
        if number is None:
            return [Answered(asked.ticket, UNAVAILABLE)]
        self._when_settled(
            Lookup(number, asked.stage, [asked.key]),
            lambda found: self._effects.extend(self._lookups.found(self._me, found)),
        )
        return []

    def _answer_peer(self, sender: NodeId, lookup: Lookup) -> list[Effect]:
        self._when_settled(lookup, lambda found: self._effects.append(sent(sender, found)))
        return []

    def _when_settled(self, lookup: Lookup, tell: Callable[[Found], None]) -> None:
        """What is here now, unless it is not this node's when it counts."""
        outcome, state = self._read_here(lookup.stage, lookup.key[0])
        found, lost = Found(lookup.number, outcome, state), Found(lookup.number, UNAVAILABLE, b"")
        size = len(state) + ANSWER_BYTES
        if outcome == UNAVAILABLE or self._waiting_bytes + size > WAITING_BYTES:
            tell(lost)
            return
        self._waiting_bytes += size

        def settled(withdrawn: Collection[int]) -> None:
            self._waiting_bytes -= size
            tell(lost if withdrawn else found)

        self._wait([self._slot_of(lookup.key[0])], settled)
