"""How a node's data plane leaves: it waits until it has nothing left, says farewell to all, and has that confirmed.

    staying -> leaving -> empty (nothing to read, to send, to apply, to hand over) -> all others have heard -> gone

Why a farewell: a sender must know of each record whether it was applied. While the link lives the answer comes; once
this process has exited it never will. After its farewell a node applies nothing, so what it has not answered by then is
refused, and since the farewell travels behind the answers, who has confirmed it has them all.

Invariant HandedOver is said once, after every worker has confirmed. Also who is away is waited for, as long as it has a
seat: it may return with records that only this node can answer for.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.core.codec import encode_with_values
from mesh.core.events import Effect, HandedOver, Transmit
from mesh.core.messages import Farewell, NodeId

CONTROL = 0  # the channel


class Departure:
    """`leaving` from StartLeaving on."""

    def __init__(self) -> None:
        self.leaving = False
        self.heard: dict[NodeId, bool] = {}  # who was told -> has confirmed
        self._gone = False

    def step(self, epoch: int, empty: bool, others: Sequence[NodeId]) -> list[Effect]:
        """What to say now; `others` are the workers."""
        if not self.leaving or not (empty or self.heard):
            return []
        untold = [node for node in others if node not in self.heard]
        self.heard |= dict.fromkeys(untold, False)
        effects: list[Effect] = [Transmit(node, CONTROL, encode_with_values(Farewell(epoch))) for node in untold]
        if not self._gone and all(self.heard.get(node) for node in others):
            self._gone = True
            effects.append(HandedOver())
        return effects

    def confirmed(self, sender: NodeId) -> None:
        if sender in self.heard:
            self.heard[sender] = True
