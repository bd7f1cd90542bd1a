"""Reads of one key's state, asked at any node: answered here, or passed on to the node that owns the key's slot.

A slot is read where it is ACTIVE and nowhere else; while it moves, or its owner is away, or this node has lost touch
with the majority (`fenced`), the answer is `unavailable`. Reading creates nothing. Who waits for whom is in `lookups`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed, Transmit
from mesh.core.events.work import Answered, LookupAsked
from mesh.core.holdings import Holdings
from mesh.core.keys import BadKey, encode_key, hash_key, slot_of_hash
from mesh.core.lookups import UNAVAILABLE, Lookups
from mesh.core.messages import Message, NodeId
from mesh.core.messages.outside import Found, Lookup
from mesh.core.owner import ABSENT, UNKNOWN_STAGE, Owner
from mesh.core.slot import ACTIVE

CONTROL = 0  # the channel of reads
MAX_KEY = 1 << 20  # bytes of a key that another node is asked for


class Reads:
    """Both sides of a read."""

    def __init__(
        self, me: NodeId, stages: Sequence[StagePlan], slots: int, seed: int, owner: Owner, holdings: Holdings
    ) -> None:
        self._me = me
        self._stages = stages
        self._slots = slots
        self._seed = seed
        self._owner = owner
        self._holdings = holdings
        self._lookups = Lookups()
        self.table: TableAgreed | None = None
        self.fenced = False

    def next_deadline(self) -> Millis | None:
        return self._lookups.next_deadline()

    def overdue(self, now: Millis) -> list[Effect]:
        return self._lookups.overdue(now)

    def found(self, sender: NodeId, answer: Found) -> list[Effect]:
        return self._lookups.found(sender, answer)

    def asked(self, asked: LookupAsked, unreachable: Mapping[NodeId, None], now: Millis) -> list[Effect]:
        """Somebody at this node wants to know."""
        if all(stage.name != asked.stage for stage in self._stages):
            return [Answered(asked.ticket, UNKNOWN_STAGE)]
        if not _is_good(asked.key):
            return [Answered(asked.ticket, ABSENT)]  # no state can have such a key
        owner = self.owner_of(asked.key)
        if owner == self._me:
            return self._answer_here(asked, now)
        number = None
        if owner is not None and owner not in unreachable and not self.fenced:
            number = self._ask(owner, asked, now)
        if owner is None or number is None:
            return [Answered(asked.ticket, UNAVAILABLE)]
        return [sent(owner, Lookup(number, asked.stage, [asked.key]))]

    def is_elsewhere(self, key: Any) -> bool:
        """Would a read of it be passed on? What is here is shown by the application's own `__repr__`, for one."""
        return _is_good(key) and self.owner_of(key) not in (None, self._me)

    def _ask(self, owner: NodeId, asked: LookupAsked, now: Millis) -> int | None:
        return self._lookups.wait_for(owner, asked.ticket, now) if len(encode_key(asked.key)) <= MAX_KEY else None

    def asked_by_peer(self, sender: NodeId, lookup: Lookup) -> list[Effect]:
        """Raises Malformed."""
        if len(lookup.key) != 1 or not _is_good(lookup.key[0]):
            raise Malformed("lookup", "not one good key")
        return self._answer_peer(sender, lookup)

    def _answer_here(self, asked: LookupAsked, _now: Millis) -> list[Effect]:
        return [Answered(asked.ticket, *self._read_here(asked.stage, asked.key))]

    def _answer_peer(self, sender: NodeId, lookup: Lookup) -> list[Effect]:
        return [sent(sender, Found(lookup.number, *self._read_here(lookup.stage, lookup.key[0])))]

    def _read_here(self, stage: str, key: Any) -> tuple[str, bytes]:
        if self.fenced or self._slot_of(key) not in self._holdings.active:
            return UNAVAILABLE, b""
        return self._owner.read(stage, key)

    def owner_of(self, key: Any) -> NodeId | None:
        """Who can be asked for a key's state; None if nobody can."""
        table = self.table
        if table is None:
            return None
        slot = self._slot_of(key)
        owner = table.workers[table.owner_of_slot[slot]]
        return owner if table.status_of_slot[slot] == ACTIVE and owner not in table.down else None

    def _slot_of(self, key: Any) -> int:
        return slot_of_hash(hash_key(key, self._seed), self._slots)


def sent(to: NodeId, message: Message) -> Transmit:
    return Transmit(to, CONTROL, encode_with_values(message))


def _is_good(key: Any) -> bool:
    try:
        encode_key(key)
    except BadKey:
        return False
    return True
