"""The owner's side of what came by HTTP: records that another node, or this one, was given for keys that live here.

States    of a piece: queued -> looked at record by record, in units -> answered, once, after its last record.
A record is refused if its slot is not ACTIVE here, or waits for its former owner (`handoff.shut`), or if what its stage
feeds has no room, or gets nothing any more (`ended`); and once one of a slot is refused, all that follow of that slot
in the piece are, so that a key's records stay in order. One that was applied before is known, and not applied again.
All others are applied like any batch's, and remembered in the same step as they are applied, so that no retry can come
between.

A batch says under which epoch it was packed, a piece need not: whoever asks has only one piece for a slot on its way at
a time, and a slot that is ACTIVE here, in the newest table that this node knows, is ACTIVE nowhere else.

Bounds    what came over a link is within its credit, which is given back with the answer; this node's own is bounded by
          who asks (`ingest`).
Invariant a piece is answered after the outputs of its records are in the router or in a sink's hands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.app.jsontext import to_json
from mesh.app.plan import Plan
from mesh.core import columns
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.emitting import Emitting
from mesh.core.events.planes import Consumed, Delivered, Transmit
from mesh.core.guard import Applied
from mesh.core.handoff import CONTROL, HandOff
from mesh.core.keeping import Keeping
from mesh.core.keys import slot_of_key
from mesh.core.messages import Message, NodeId
from mesh.core.messages.outside import ClaimLines, Inject, Injected, LinesClaimed
from mesh.core.owner import MAX_STATE, TOO_LARGE, Owner
from mesh.core.pace import Pace
from mesh.core.set_aside import told
from mesh.core.windows import INDEX_BITS, KNOWN, MAX_PRODUCER, MOST_SEQ, NEW, WINDOW, numbers_from_bytes

POSTS = 16  # the channel
MOST_RECORDS = 1 << 12  # of a piece
FIRST_RECORDS = 1  # of the first unit: nobody knows yet how slow a step is


@dataclass(slots=True)
class Piece:
    """Records that wait, and what has become of the first ones."""

    sender: NodeId | None  # None: this node itself
    inject: Inject
    size: int  # bytes of link credit to give back
    slots: list[int]
    epoch: int = 1 << 62  # no record is taken of a slot that was not active here since before this one
    done: int = 0
    known: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    refused_slots: dict[int, None] = field(default_factory=dict)
    wrong: str = ""
    wrong_seq: int = 0
    outputs: bytes = b""
    error: bytes = b""

    def answer(self) -> Injected:
        known, refused = columns.slots_to_bytes(self.known), columns.slots_to_bytes(self.refused)
        return Injected(self.inject.number, known, refused, self.wrong, self.wrong_seq, self.outputs, self.error)


class Injects:
    """All pieces that wait here. `answer_own` gets the answers to this node's own."""

    _registers = False  # producers, whose numbers then have no leaps

    def __init__(
        self,
        plan: Plan,
        slots: int,
        seed: int,
        owner: Owner,
        handoff: HandOff | Keeping,
        emitting: Emitting,
        answer_own: Callable[[Injected | LinesClaimed], None],
    ) -> None:
        self._plan = plan
        self._slots = slots
        self._seed = seed
        self._owner = owner
        self._handoff = handoff
        self._emitting = emitting
        self._answer_own = answer_own
        self._queue: deque[Piece] = deque()
        self._paces = [Pace(FIRST_RECORDS, MOST_RECORDS) for _ in plan.stages]
        self.records_keyed = 0
        self.ended = False  # every worker has claimed that it is asked for nothing any more

    def empty(self) -> bool:
        return not self._queue

    def may_work(self) -> bool:
        return bool(self._queue)

    # -- pieces come

    def delivered(self, event: Delivered, message: Message) -> None:
        """Raises Malformed, and then nothing is changed."""
        if isinstance(message, ClaimLines):
            _check_claim(message)
            self._claim(event.sender, message, len(event.payload))
            return
        if not isinstance(message, Inject) or message.stage >= len(self._plan.stages):
            raise Malformed("inject", "not records of a stage that is here")
        records = len(message.keys)
        if not 0 < records <= MOST_RECORDS or len(message.values) != records or not columns.all_keys_good(message.keys):
            raise Malformed("inject", "no records, too many, columns of different lengths, or bad keys")
        ids = 8 * records if message.producer else 0
        if not len(message.ids) == len(message.digests) == ids or len(message.producer) > MAX_PRODUCER:
            raise Malformed("inject", "not one id and one digest a record")
        if message.wants_outputs and records > 1:
            raise Malformed("inject", "outputs of more than one record")
        self._put(event.sender, message, len(event.payload))

    def put_own(self, inject: Inject) -> None:
        self._put(None, inject, 0)

    def _put(self, sender: NodeId | None, inject: Inject, size: int) -> None:
        shift = 33 - self._slots.bit_length()
        self._queue.append(Piece(sender, inject, size, columns.slots_of(inject.keys, self._seed, shift)))

    def claim_own(self, claim: ClaimLines) -> None:
        self._claim(None, claim, 0)

    def _claim(self, sender: NodeId | None, claim: ClaimLines, size: int) -> None:
        """At once: no code of the application's is run."""
        self._answer(sender, self._judged(claim), size)

    def _judged(self, claim: ClaimLines) -> LinesClaimed:
        slot = slot_of_key(claim.producer, self._seed, self._slots)
        if slot not in self._handoff.holdings.active:
            return LinesClaimed(claim.number, "unavailable", 0)
        stage, windows = len(self._plan.stages), self._owner.windows
        if self._registers:
            verdict, seq = windows.registered(slot, stage, claim.producer, claim.first)
            if verdict != NEW:
                return LinesClaimed(claim.number, verdict, seq)
        digests = numbers_from_bytes(claim.digests)
        return LinesClaimed(claim.number, *windows.claim(slot, stage, claim.producer, claim.first, digests))

    # -- and are applied

    def work_one(self) -> tuple[Pace, int] | None:
        """One unit, if there is any; whose pace it is, and how much it was."""
        if not self._queue:
            return None
        piece = self._queue[0]
        pace = self._paces[piece.inject.stage]
        start, piece.done = piece.done, min(piece.done + pace.most, len(piece.slots))
        self._apply(piece, self._chosen(piece, start, piece.done))
        if piece.done == len(piece.slots):
            self._queue.popleft()
            self._answer(piece.sender, piece.answer(), piece.size)
        return pace, piece.done - start

    def _chosen(self, piece: Piece, start: int, end: int) -> list[int]:
        """The records that are new, and may be applied here and now; all others are noted."""
        plan = self._plan.stages[piece.inject.stage]
        here, shut = self._handoff.holdings.active, self._handoff.shut(plan.level)
        never = piece.epoch + 1
        has_room = self._emitting.may_emit(plan.fragment) and not self.ended
        verdict_on = self._verdicts(piece)
        chosen = []
        for index in range(start, end):
            slot = piece.slots[index]
            if not has_room or here.get(slot, never) > piece.epoch or slot in shut or slot in piece.refused_slots:
                piece.refused_slots[slot] = None
                piece.refused.append(index)
            elif (verdict := verdict_on(index)) == NEW:
                chosen.append(index)
            elif verdict == KNOWN:
                piece.known.append(index)
            elif not piece.wrong:
                piece.wrong, piece.wrong_seq = verdict, numbers_from_bytes(piece.inject.ids)[index] >> INDEX_BITS
        return chosen

    def _verdicts(self, piece: Piece) -> Callable[[int], str]:
        inject = piece.inject
        if not inject.producer:
            return lambda index: NEW
        ids, digests = numbers_from_bytes(inject.ids), numbers_from_bytes(inject.digests)
        take, slots, stage, producer = self._owner.windows.take, piece.slots, inject.stage, inject.producer
        return lambda index: take(slots[index], stage, producer, ids[index], digests[index])

    def _apply(self, piece: Piece, chosen: list[int]) -> None:
        if not chosen:
            return
        applied, plan = self._applied(piece, chosen), self._plan.stages[piece.inject.stage]
        if applied.outs and not plan.fragment.empty:
            self._emitting.run(plan.fragment, applied.out_keys, applied.outs)

    def _applied(self, piece: Piece, chosen: list[int]) -> Applied:
        inject, plan = piece.inject, self._plan.stages[piece.inject.stage]
        keys, values = [inject.keys[index] for index in chosen], [inject.values[index] for index in chosen]
        applied = self._owner.apply(inject.stage, keys, values, wants_outputs=inject.wants_outputs)
        self.records_keyed += len(keys)
        for index, error in applied.failures:
            if inject.wants_outputs:
                piece.error = f"{plan.name} ({plan.where}): {told(error)}".encode("utf-8", "backslashreplace")
            else:
                self._emitting.failed(plan.name, plan.where, (keys[index], values[index]), error)
        if inject.wants_outputs:
            piece.outputs = _shown(applied.outs)
        return applied

    def _answer(self, sender: NodeId | None, answer: Injected | LinesClaimed, size: int) -> None:
        if sender is None:
            self._answer_own(answer)
            return
        self._emitting.effects.append(Transmit(sender, CONTROL, encode_with_values(answer)))
        self._emitting.effects.append(Consumed(sender, POSTS, size))


def _check_claim(claim: ClaimLines) -> None:
    named = 0 < len(claim.producer) <= MAX_PRODUCER and claim.producer.isascii()
    lines = len(claim.digests) // 8
    if not named or len(claim.digests) % 8 or not 0 < lines <= WINDOW or claim.first + lines > MOST_SEQ:
        raise Malformed("claim", "not consecutive lines of a producer")


def _shown(outputs: list[object]) -> bytes:
    text = f"[{', '.join(map(to_json, outputs))}]".encode("utf-8", "replace")
    return text if len(text) <= MAX_STATE else f"[{to_json(TOO_LARGE)}]".encode()
