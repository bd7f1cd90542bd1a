"""What came by HTTP, at the owner, where slots have copies: a piece is answered when all that came of it is committed.

What producers sent is known in the slots' windows as soon as it is applied, and a pack tells their copies; so does one
that has nothing but lines that were claimed. If a slot goes to another owner before, its records count as refused:
their producer's numbers went along with the slot, so that the next owner knows whether it has them. Records without a
producer have no numbers: nobody can say whether the next owner has them, and who sent them is told just that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from mesh.app.plan import Plan
from mesh.core.emitting_kept import KeptEmitting
from mesh.core.inject import Injects, Piece
from mesh.core.keeping import Keeping
from mesh.core.keys import slot_of_key
from mesh.core.messages import NodeId
from mesh.core.messages.outside import ClaimLines, Injected, LinesClaimed
from mesh.core.owner import Owner
from mesh.core.pace import Pace
from mesh.core.packs import Pack, Window
from mesh.core.windows import INDEX_BITS, numbers_from_bytes

UNKNOWN = "unknown"  # what is wrong with a piece of which nobody can say whether it was applied


class KeptInjects(Injects):
    """`keeping` takes the packs and brings them back."""

    _registers = True

    def __init__(
        self,
        plan: Plan,
        slots: int,
        seed: int,
        owner: Owner,
        keeping: Keeping,
        emitting: KeptEmitting,
        answer_own: Callable[[Injected | LinesClaimed], None],
    ) -> None:
        super().__init__(plan, slots, seed, owner, keeping, emitting, answer_own)
        self._keeping = keeping
        self._kept_emitting = emitting
        self._uncommitted = 0  # pieces and claims that are answered later

    def empty(self) -> bool:
        return super().empty() and not self._uncommitted

    def may_work(self) -> bool:
        return super().may_work() and self._keeping.open_for()

    # -- pieces

    def work_one(self) -> tuple[Pace, int] | None:
        if not self.may_work():
            return None
        piece = self._queue[0]
        pace = self._paces[piece.inject.stage]
        piece.epoch = min(piece.epoch, self._keeping.holdings.epoch)  # at its first part
        start, piece.done = piece.done, min(piece.done + pace.most, len(piece.slots))
        is_last = piece.done == len(piece.slots)
        if is_last:
            self._queue.popleft()
            self._uncommitted += 1
        known = len(piece.known)
        chosen = self._chosen(piece, start, piece.done)
        taken = [*chosen, *piece.known[known:]]
        self._keeping.add(self._packed(piece, chosen, taken), partial(self._committed, piece, taken, is_last))
        return pace, piece.done - start

    def _packed(self, piece: Piece, chosen: list[int], taken: list[int]) -> Pack:
        inject = piece.inject
        pack = Pack(b"", 0, inject.stage)
        if chosen:
            keys, slots = [inject.keys[index] for index in chosen], [piece.slots[index] for index in chosen]
            pack = self._kept_emitting.packed(inject.stage, keys, slots, self._applied(piece, chosen))
        if inject.producer and taken:
            ids, digests = numbers_from_bytes(inject.ids), numbers_from_bytes(inject.digests)
            pack.windows.append(
                Window(
                    inject.stage,
                    inject.producer,
                    [piece.slots[index] for index in taken],
                    [ids[index] for index in taken],
                    [digests[index] for index in taken],
                )
            )
        return pack

    def _committed(self, piece: Piece, taken: list[int], is_last: bool, withdrawn: Collection[int]) -> None:
        lost = dict.fromkeys(index for index in taken if piece.slots[index] in withdrawn)
        if lost and piece.inject.producer:
            piece.known = [index for index in piece.known if index not in lost]
            piece.refused = sorted([*piece.refused, *lost])
        elif lost:
            piece.wrong = piece.wrong or UNKNOWN
        if is_last:
            self._uncommitted -= 1
            self._answer(piece.sender, piece.answer(), piece.size)

    # -- claims

    def _claim(self, sender: NodeId | None, claim: ClaimLines, size: int) -> None:
        """What it found, or marked, may be taken from this node before it counts."""
        slot, answer = slot_of_key(claim.producer, self._seed, self._slots), self._judged(claim)
        lost = LinesClaimed(claim.number, "unavailable", 0)
        self._uncommitted += 1

        def committed(withdrawn: Collection[int]) -> None:
            self._uncommitted -= 1
            self._answer(sender, lost if withdrawn else answer, size)

        if answer.verdict:
            self._keeping.wait([slot] if slot in self._keeping.holdings.active else [], committed)
        else:
            self._keeping.add(self._marked(claim, slot), committed)

    def _marked(self, claim: ClaimLines, slot: int) -> Pack:
        digests = list(numbers_from_bytes(claim.digests))
        ids = [seq << INDEX_BITS for seq in range(claim.first, claim.first + len(digests))]
        window = Window(len(self._plan.stages), claim.producer, [slot] * len(ids), ids, digests)
        return Pack(b"", 0, 0, windows=[window])
