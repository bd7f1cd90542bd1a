"""Splits change their reader: some go to who joins, all that is left go away from who leaves.

States    of a split, at the giver: mine -> offered (nobody reads it) -> given, or mine again
Events    `joined`, `give_away`, `asked` (TakeSplits), `answered` (SplitsTaken), `farewell`.

A reader gives a newcomer its fair share of the splits that it has not opened. A leaving node gives what it has not read
to its end, wherever it stands in it, once all that it has read has been applied; so a split's records keep their order.
It offers them only to nodes that may still take some: who stays, is there, and has not claimed to have read everything.
While there is nobody, it reads on itself.

Invariants a split is read by one node at a time: it is taken from `sources` before it is offered, and the link says
          everything once. Who leaves, or has claimed that it is through with reading, takes nothing, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mesh.app.connectors import Split
from mesh.core.codec import MAX_TEXT, Malformed, encode_with_values
from mesh.core.events import Effect
from mesh.core.events.planes import Transmit
from mesh.core.messages import Message, NodeId
from mesh.core.messages.work import SplitsTaken, TakeSplits
from mesh.core.sources import Place, Sources, deal

CONTROL = 0  # the channel
MOST = 1_000  # splits in one message


@dataclass(frozen=True, slots=True)
class _Offer:
    to: NodeId
    source: int
    places: tuple[Place, ...]


class SplitMoves:
    """What this node has offered, and what it is offered."""

    def __init__(self, sources: Sources, count: int) -> None:
        self._sources = sources
        self._count = count  # of sources
        self._offers: dict[int, _Offer] = {}
        self._last_number = 0
        self._refusers: dict[NodeId, None] = {}  # take nothing any more

    def pending(self) -> bool:
        """Some offer is unanswered."""
        return bool(self._offers)

    def takers(self, nodes: Sequence[NodeId]) -> list[NodeId]:
        """Those of them that have not refused."""
        return [node for node in nodes if node not in self._refusers]

    # -- the giver

    def joined(self, newcomers: Sequence[NodeId], workers: int) -> list[Effect]:
        """Of `workers` readers some are new: each gets as many unread splits of this node's as it keeps itself."""
        effects: list[Effect] = []
        for source in range(self._count):
            share = self._sources.unread(source) // workers
            for node in self.takers(newcomers):  # a table may be old news: one has come, and said farewell
                effects += self._offer(node, source, self._sources.give_unread(source, share))
        return effects

    def give_away(self, takers: Sequence[NodeId]) -> list[Effect]:
        """Everything that is not read to its end."""
        effects: list[Effect] = []
        for source in range(self._count):
            places = self._sources.give_all(source)
            readers = deal([split for split, _ in places], takers)
            for node in takers:
                theirs = [place for place, reader in zip(places, readers, strict=True) if reader == node]
                effects += self._offer(node, source, theirs)
        return effects

    def _offer(self, to: NodeId, source: int, places: Sequence[Place]) -> list[Effect]:
        effects: list[Effect] = []
        for start in range(0, len(places), MOST):
            some = tuple(places[start : start + MOST])
            self._last_number += 1
            self._offers[self._last_number] = _Offer(to, source, some)
            names, sizes = tuple(split.name for split, _ in some), tuple(split.size for split, _ in some)
            offsets = tuple(offset for _, offset in some)
            effects.append(_sent(to, TakeSplits(self._last_number, source, names, sizes, offsets)))
        return effects

    def answered(self, sender: NodeId, answer: SplitsTaken) -> None:
        """Raises Malformed for an answer to nothing."""
        offer = self._offers.get(answer.number)
        if offer is None and not answer.taken and sender in self._refusers:
            return  # its farewell had said so already
        if offer is None or offer.to != sender:
            raise Malformed("splits", f"no offer {answer.number} was made to this node")
        del self._offers[answer.number]
        if answer.taken:
            self._sources.given(offer.source, len(offer.places))
        else:
            self._refusers[sender] = None
            self._sources.restored(offer.source, offer.places)

    def ended(self, workers: Collection[NodeId]) -> None:
        """Who is no worker any more, and said no farewell, may have read what it was offered: it is lost."""
        for number in [number for number, offer in self._offers.items() if offer.to not in workers]:
            offer = self._offers.pop(number)
            self._sources.given(offer.source, len(offer.places))

    def farewell(self, node: NodeId) -> None:
        """It left, and what it has not taken by now it never will."""
        self._refusers[node] = None
        for number in [number for number, offer in self._offers.items() if offer.to == node]:
            offer = self._offers.pop(number)
            self._sources.restored(offer.source, offer.places)

    # -- the taker

    def asked(self, sender: NodeId, offer: TakeSplits, *, may_take: bool) -> list[Effect]:
        """Raises Malformed."""
        if not len(offer.names) == len(offer.sizes) == len(offer.offsets) or offer.source >= self._count:
            raise Malformed("splits", "columns of different lengths, or no such source")
        if may_take:
            columns = zip(offer.names, offer.sizes, offer.offsets, strict=True)
            self._sources.received(offer.source, [(Split(name, size), offset) for name, size, offset in columns])
        return [_sent(sender, SplitsTaken(offer.number, may_take))]


def can_travel(split: Split) -> bool:
    return len(split.name.encode("utf-8", "surrogatepass")) <= MAX_TEXT


def _sent(to: NodeId, message: Message) -> Transmit:
    return Transmit(to, CONTROL, encode_with_values(message))
