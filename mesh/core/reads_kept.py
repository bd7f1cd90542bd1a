"""Reads of one key's state where states have copies: what was read counts once the owner knows that it still is one.

What an owner has applied may not be committed yet, and may be taken from it; and whoever was promoted in its place may
have taken more. So an answer waits until all that was applied before it is committed, and until the backups of the
key's slot have acknowledged something that was sent after the question came. If the slot went to another owner
meanwhile, nothing was read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.core.events import Answered, Effect, LookupAsked, Millis
from mesh.core.lookups import UNAVAILABLE
from mesh.core.messages import Found, Lookup, NodeId
from mesh.core.reads import Reads, sent
from mesh.core.tokens import Wait


class KeptReads(Reads):
    """`wait` and `effects` are the data plane's."""

    def __init__(self, *args: Any, wait: Wait, effects: list[Effect]) -> None:
        super().__init__(*args)
        self._wait = wait
        self._effects = effects

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
        if outcome == UNAVAILABLE:
            tell(Found(lookup.number, outcome, state))
            return
        lost = Found(lookup.number, UNAVAILABLE, b"")
        found = Found(lookup.number, outcome, state)
        self._wait([self._slot_of(lookup.key[0])], lambda withdrawn: tell(lost if withdrawn else found))
