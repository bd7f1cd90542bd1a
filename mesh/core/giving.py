"""The donor's side of a hand-over: the states of a slot become chunks, and chunks leave through a window.

States    per target: slots to give, one after the other; of the first one a place (stage, key) -> chunks on their
          way -> given. A slot that is not to be given any more is forgotten, wherever it stands. One with a state that
          cannot travel is rooted here: the operator is told, and the planner, who lets this node keep it.
Bounds    CHUNK_BYTES a chunk, or one state; WINDOW_BYTES on their way to a target, and one chunk.
Invariant nothing is applied to a slot while it is here, so its keys and states are what they were when it was sealed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.core.codec import Malformed, encode_with_values
from mesh.core.events import Effect, Log
from mesh.core.events.planes import SlotsRooted, Transmit
from mesh.core.messages import NodeId
from mesh.core.messages.states import SlotChunk
from mesh.core.owner import Owner
from mesh.core.values import NotSerializable, show

REPLICATION = 15  # the channel
CHUNK_BYTES = 128 << 10  # a few milliseconds of packing
WINDOW_BYTES = 1 << 20  # ~8 chunks: enough to keep a link busy
FIRST_KEYS = 256  # of a chunk, before anything is known of the states' sizes


@dataclass(slots=True)
class Given:
    """A slot that is to be given, and how far that has got."""

    slot: int
    term: int
    target: NodeId
    epoch: int  # in which it was sealed
    stage: int = 0
    key: int = 0  # the next one of that stage


@dataclass(slots=True)
class _Target:
    """What one new owner is sent."""

    waiting: deque[Given] = field(default_factory=deque)
    last_number: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (number, bytes)
    bytes_in_flight: int = 0
    at_once: int = FIRST_KEYS


class Giving:
    """All slots that leave this node."""

    def __init__(self, owner: Owner, window_bytes: int) -> None:
        self._owner = owner
        self._window = min(WINDOW_BYTES, window_bytes)
        self._targets: dict[NodeId, _Target] = {}

    def give(self, given: Given) -> None:
        self._targets.setdefault(given.target, _Target()).waiting.append(given)

    def forget(self, is_wanted: Callable[[Given], bool], workers: Collection[NodeId]) -> None:
        """A new table: what is not wanted any more is not given, and who is no worker any more gets nothing."""
        self._targets = {node: target for node, target in self._targets.items() if node in workers}
        for target in self._targets.values():
            target.waiting = deque(given for given in target.waiting if is_wanted(given))

    def busy(self) -> bool:
        return any(target.waiting for target in self._targets.values())

    def may_send(self) -> bool:
        return bool(self._targets) and any(self._has_room(target) for target in self._targets.values())

    def _has_room(self, target: _Target) -> bool:
        return bool(target.waiting) and target.bytes_in_flight < self._window

    def send_some(self, epoch: int, unsettled: Callable[[Given], int]) -> tuple[list[Effect], list[tuple[Given, int]]]:
        """The next chunk to each target that has room; before the first one, all keys are filed by their slots.
        `unsettled` goes along. Also the slots of which all has left now, with what was unsettled then."""
        effects: list[Effect] = []
        through: list[tuple[Given, int]] = []
        if self.may_send() and self._owner.file_some():
            for node, target in self._targets.items():
                if self._has_room(target):
                    given = target.waiting[0]
                    owed = unsettled(given)
                    effects += self._next_effects(node, target, given, epoch, owed)
                    if self._is_last(given, 0):
                        through.append((target.waiting.popleft(), owed))
        return effects, through

    def _next_effects(self, node: NodeId, target: _Target, given: Given, epoch: int, unsettled: int) -> list[Effect]:
        self._skip_empty_stages(given)
        try:
            return [Transmit(node, REPLICATION, self._next_chunk(target, given, epoch, unsettled))]
        except NotSerializable as error:
            target.waiting.popleft()  # it stays, as nobody could take it
            return [self._cannot_move(given, error), SlotsRooted(((given.slot, given.term),))]

    def _skip_empty_stages(self, given: Given) -> None:
        while given.key >= len(self._keys(given)) and given.stage + 1 < len(self._owner.parts):
            given.stage, given.key = given.stage + 1, 0

    def _keys(self, given: Given) -> Sequence[Any]:
        return self._owner.parts[given.stage].keys_of(given.slot)

    def _is_last(self, given: Given, more: int) -> bool:
        """Is nothing left of the slot after `more` keys?"""
        later = self._owner.parts[given.stage + 1 :]
        return given.key + more >= len(self._keys(given)) and not any(part.keys_of(given.slot) for part in later)

    def _next_chunk(self, target: _Target, given: Given, epoch: int, unsettled: int) -> bytes:
        """As many keys as make a chunk; raises NotSerializable for a state that cannot travel."""
        most = target.at_once
        while True:
            keys = list(self._keys(given)[given.key : given.key + most])
            try:
                payload = self._encoded(target.last_number + 1, given, keys, epoch, unsettled)
            except NotSerializable:
                if len(keys) <= 1:
                    raise
                most = max(1, len(keys) // 2)
                continue
            if len(keys) <= 1 or len(payload) <= 2 * CHUNK_BYTES:
                break
            most = max(1, len(keys) * CHUNK_BYTES // len(payload))
        self._sent(target, given, len(keys), len(payload))
        return payload

    def _encoded(self, number: int, given: Given, keys: list[Any], epoch: int, unsettled: int) -> bytes:
        states = list(map(self._owner.parts[given.stage].states.__getitem__, keys))
        last = self._is_last(given, len(keys))
        chunk = SlotChunk(epoch, number, given.slot, given.term, given.stage, keys, states, last, unsettled)
        return encode_with_values(chunk)

    def _sent(self, target: _Target, given: Given, keys: int, size: int) -> None:
        target.last_number += 1
        target.in_flight.append((target.last_number, size))
        target.bytes_in_flight += size
        given.key += keys
        if keys:
            target.at_once = max(1, min(2 * keys + FIRST_KEYS, CHUNK_BYTES * keys // size))

    def _cannot_move(self, given: Given, error: NotSerializable) -> Effect:
        stage, key = self._owner.parts[given.stage].name, self._keys(given)[given.key]
        fields = {"slot": given.slot, "stage": stage, "key": show(key), "error": str(error)}
        return Log("slot.cannot_move", fields, "error")

    def taken(self, sender: NodeId, number: int) -> None:
        """All chunks up to this one have been looked at. Raises Malformed."""
        target = self._targets.get(sender)
        if target is None:
            return  # no worker any more
        if number > target.last_number:
            raise Malformed("chunks-taken", f"chunk {number} was never sent, the last is {target.last_number}")
        while target.in_flight and target.in_flight[0][0] <= number:
            target.bytes_in_flight -= target.in_flight.popleft()[1]
