"""The owner's side of copies: every pack goes to the backups of its slots, and counts when all of them have it.

States    of a pack: applied and sent -> acknowledged by every lane that must -> committed, in the order of applying
          of a slot here: active -> sealed (PENDING, from here) -> another's; or active again, if it is called off
          of a copy that joins: waits -> begun -> all pieces sent -> needed, acknowledged -> told (`filled`)
Events    `set_table`, `add`, `wait` (for nothing but that this node still has these slots), `taken`, `over` (outputs
          that their consumers have committed), `send_some`
Results   `commit`: what may be answered and given out now; `filled`; `take_effects`

Until a pack is committed its batch is not answered, its outputs go nowhere, and who has read it waits. Nothing is ever
rolled back: a slot that goes to another owner is *withdrawn* from what is not committed. Its records there are refused,
and sent to the new owner under their numbers; if that one has them, its marks say so. The new owner also gives out the
slot's outputs again, under their numbers, until their consumers have them.

A joining copy is needed from the moment at which it has been sent everything, hence before anybody can hear that it
is one: a table that names it a backup may be chosen long before it is known here.

While a slot is sealed its last packs wait for the backups of the last ACTIVE configuration, as before, since each of
these may become its owner.

Bounds    a window of bytes a lane (`open_for` says no beyond it). Outputs are kept until they are over: as many as the
          router may have on its way, and what is not committed.
Invariants a committed pack is at every backup that the newest ACTIVE table may name. Packs commit in order. A backup
          that no table names any more holds up nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.core.configuration import Configuration
from mesh.core.copy_lane import CopyLane
from mesh.core.events import Effect
from mesh.core.filling import CHUNK_BYTES, Fill, Pieces, Snapshot
from mesh.core.kept_outputs import KeptOutputs, SlotOutputs, Unfinished
from mesh.core.messages import NodeId
from mesh.core.packs import PART_BYTES, Outputs, Pack
from mesh.core.replicas import ASKED, BEGINS, FILLED, SEALED, Taken
from mesh.core.slot import ACTIVE, PENDING
from mesh.core.values import NotSerializable

WINDOW_BYTES = 4 << 20  # of a lane
TOLD_AT_ONCE = 32  # packs whose outputs are over
SLOTS_AT_ONCE = 256  # of which a joining copy is sent something in one go


@dataclass(slots=True)
class Committed:
    """A batch, or a part of one, that counts now, but for the slots that went to another owner before."""

    token: Any  # the caller's
    pack: Pack
    withdrawn: dict[int, None]  # their records are refused
    outputs: list[Outputs]  # to be given out


@dataclass(slots=True)
class _Entry:
    token: Any
    pack: Pack
    touched: frozenset[int]
    need: dict[NodeId, int] = field(default_factory=dict)  # lane -> the number that it must have acknowledged
    withdrawn: dict[int, None] = field(default_factory=dict)
    put: int = 0  # which must be durable in this node's own store


class Committing:
    """All lanes of this node to its backups."""

    def __init__(
        self,
        me: NodeId,
        snapshot: Snapshot,
        window_bytes: int = WINDOW_BYTES,
        part_bytes: int = PART_BYTES,
        stages: int = 1,
    ) -> None:
        self._me = me
        self._stages = stages
        self._snapshot = snapshot
        self._window_bytes = window_bytes
        self._part_bytes = min(part_bytes, window_bytes)
        self._epoch = 0
        self._slots: dict[int, Configuration] = {}  # whose packs are this node's
        self._lanes: dict[NodeId, CopyLane] = {}
        self._queue: deque[_Entry] = deque()  # not committed, in order
        self._fills: dict[int, Fill] = {}
        self._unsent: dict[int, Fill] = {}  # those of them of which pieces are left
        self._untold: dict[int, Fill] = {}  # those of which all was sent, and `filled` has not told
        self.outputs = KeptOutputs()  # of slots that are here
        self._unfinished = Unfinished(me, stages)  # of any slot
        self._over: dict[NodeId, list[int]] = {}  # maker -> packs of which the backups are to be told
        self.applied = 0  # packs; a read of what they made waits until as many
        self.committed = 0  # are
        self.durable = 0  # puts into this node's own store
        self._newest_put = 0  # of what was applied
        self._unmarked: list[tuple[int, NodeId, dict[int, int]]] = []  # sealed slots' terms, when a put is durable
        self._effects: list[Effect] = []
        self.left_out: list[tuple[Pack, NotSerializable]] = []  # one key, or output, each: nobody has a copy of it

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        for lane in self._lanes.values():
            lane.left()
        return effects

    # -- the partition

    def set_table(self, epoch: int, changed: Mapping[int, Configuration], workers: Collection[NodeId]) -> None:
        """`changed`: the slots whose configuration is another than before."""
        self._epoch = epoch
        sealed: dict[NodeId, dict[int, int]] = {}
        for slot, now in changed.items():
            if now.source != self._me or now.status not in (ACTIVE, PENDING):
                self._gone(slot)
            elif now.status == ACTIVE:
                self._active(slot, now)
            else:
                if now.promotes:
                    self._gone(slot)  # in a table that was leapt over a copy was asked, and has refused what is here
                self._sealed(slot, now)
                for node in (now.owner, *now.backups):
                    if now.owner != self._me and now.has_copy(node):
                        sealed.setdefault(node, {})[slot] = now.term
        self._unmarked += [(self._newest_put, node, terms) for node, terms in sealed.items()]
        self._mark_sealed()
        for node in [node for node in self._lanes if node not in workers]:
            assert not self._lanes[node].needed, "a table names a backup that is no worker"
            del self._lanes[node]
        self._need_less()
        for lane in self._lanes.values():
            lane.learn(epoch)

    def _active(self, slot: int, now: Configuration) -> None:
        self._slots[slot] = now
        fill = self._fills.get(slot)
        if fill is not None and (fill.joiner, fill.term) != (now.joining, now.term):
            self._forget_fill(slot)
        if now.joining is not None and slot not in self._fills:
            self._fills[slot] = self._unsent[slot] = Fill(slot, now.term, now.joining)
        wanted = [*now.backups, *([now.joining] if slot in self._fills and self._fills[slot].begun else [])]
        for node, lane in self._lanes.items():
            if node not in wanted:
                lane.carried.pop(slot, None)
            if node not in now.backups and not (node == now.joining and self._fills[slot].ended):
                lane.needed.pop(slot, None)
        for node in now.backups:
            lane = self._lane(node)
            lane.carried[slot] = lane.needed[slot] = None

    def _forget_fill(self, slot: int) -> None:
        for fills in (self._fills, self._unsent, self._untold):
            fills.pop(slot, None)

    def _sealed(self, slot: int, now: Configuration) -> None:
        self._forget_fill(slot)
        self._slots[slot] = now
        for node, lane in self._lanes.items():
            if not now.has_copy(node):
                lane.carried.pop(slot, None)
                lane.needed.pop(slot, None)

    def _gone(self, slot: int) -> None:
        if self._slots.pop(slot, None) is None:
            return
        self._forget_fill(slot)
        for lane in self._lanes.values():
            lane.carried.pop(slot, None)
            lane.needed.pop(slot, None)
        for entry in self._queue:
            if slot in entry.touched and slot not in entry.withdrawn:  # it may have gone, come back and gone again
                entry.withdrawn[slot] = None
                self._forget_outputs(entry.pack, slot)
        self.outputs.free_slot(slot)  # those that were given out are only counted from now on

    def _forget_outputs(self, pack: Pack, slot: int) -> None:
        """They were not given out, and never will be by this node."""
        count = sum(out.origins.count(slot) for out in pack.outputs)
        if count:
            self._over_of(pack.maker, pack.pack, count)

    def _need_less(self) -> None:
        for entry in self._queue:
            left = [slot for slot in entry.touched if slot not in entry.withdrawn]
            entry.need = {
                node: number
                for node, number in entry.need.items()
                if node in self._lanes and any(slot in self._lanes[node].needed for slot in left)
            }

    def _mark_sealed(self) -> None:
        """Whoever goes on takes all that comes before the mark for held by all, this node too."""
        later = []
        for put, node, terms in self._unmarked:
            if put > self.durable:
                later.append((put, node, terms))
                continue
            asked = {slot: term for slot, term in terms.items() if self._still_asks(slot, term, node)}
            if asked:
                self._effects.append(self._lane(node).mark(SEALED, self._epoch, asked))
        self._unmarked = later

    def _still_asks(self, slot: int, term: int, node: NodeId) -> bool:
        now = self._slots.get(slot)
        return now is not None and now.status == PENDING and now.term == term and now.has_copy(node)

    def _lane(self, node: NodeId) -> CopyLane:
        if node not in self._lanes:
            self._lanes[node] = CopyLane(node, self._window_bytes)
        return self._lanes[node]

    # -- packs

    def add(self, pack: Pack, token: Any) -> None:
        """It has been applied here."""
        self.applied += 1
        pack.maker, pack.pack = self._me, self.applied
        entry = _Entry(token, pack, pack.touched())
        assert all(slot in self._slots and self._slots[slot].status == ACTIVE for slot in entry.touched)
        self._unfinished.made(pack.pack, pack.stage, pack.outputs)
        for out in pack.outputs:
            self.outputs.add((pack.maker, pack.pack), pack.stage, out)
        for node, lane in self._lanes.items():
            wanted = lane.carried.keys() & entry.touched
            if wanted:
                self._send(lane, pack if len(wanted) == len(entry.touched) else pack.restricted(wanted))
                if not wanted.isdisjoint(lane.needed):
                    entry.need[node] = lane.last_number
        self._queue.append(entry)

    def wait(self, slots: Collection[int], token: Any) -> None:
        """Until all that was added before is committed, and the backups of these slots have answered something that is
        sent from now on: by then this node knows of any other owner that could have gone on without it."""
        self.applied += 1
        entry = _Entry(token, Pack(self._me, 0, 0), frozenset(slots))
        for slot in slots:
            if slot not in self._slots or self._slots[slot].status != ACTIVE:
                entry.withdrawn[slot] = None
        for node, lane in self._lanes.items():
            if not entry.touched.isdisjoint(lane.needed):
                if not lane.leaving:
                    self._effects.append(lane.mark(ASKED, self._epoch, {}))
                entry.need[node] = lane.last_number
        self._queue.append(entry)

    def _send(self, lane: CopyLane, pack: Pack) -> int:
        """How many bytes it was."""
        effects, sent = lane.pack(pack, self._epoch, self._part_bytes)
        self._effects += effects
        self.left_out += sent.left_out
        return sum(map(len, sent.payloads))

    def taken(self, sender: NodeId, number: int, epoch: int) -> None:
        """A backup's acknowledgement; raises Malformed."""
        lane = self._lanes.get(sender)
        if lane is not None:  # else it is no worker any more
            lane.taken(number, epoch, self._epoch)

    def commit(self) -> list[Committed]:
        """What may be answered and given out now, in order."""
        committed = []
        while self._queue and self._is_held(self._queue[0]):
            entry = self._queue.popleft()
            self.committed += 1
            outputs = entry.pack.outputs
            if entry.withdrawn and outputs:
                outputs = [out.chosen([slot not in entry.withdrawn for slot in out.origins]) for out in outputs]
            committed.append(Committed(entry.token, entry.pack, entry.withdrawn, outputs))
        return committed

    def _is_held(self, entry: _Entry) -> bool:
        """By all who must have it."""
        durable = entry.put <= self.durable
        return durable and all(self._lanes[node].acked >= number for node, number in entry.need.items())

    def needs(self, put: int) -> None:
        """What was added last counts when this put is durable."""
        self._queue[-1].put = self._newest_put = put

    def has_put(self, durable: int) -> None:
        """This node's own store has all up to this one for good."""
        self.durable = durable
        self._mark_sealed()

    def open_for(self) -> bool:
        """May more be applied?"""
        return all(lane.has_room() for lane in self._lanes.values() if lane.carried)

    # -- outputs

    def adopt(self, slot: int, taken: Taken) -> None:
        """Of a slot that is this node's since `set_table`: they are committed, and are to be given out again."""
        for maker, pack, stage, out in taken.outputs:
            self.outputs.add((maker, pack), stage, out)
            self._unfinished.adopted((maker, pack), stage, out)
        packs = [*dict.fromkeys((maker, pack) for maker, pack, _, _ in taken.outputs)]
        self._effects += [lane.kept(slot, packs, self._epoch) for lane in self._lanes.values() if slot in lane.carried]

    def outputs_of(self, slot: int) -> SlotOutputs:
        """Those that are not over, as a copy keeps them."""
        return self.outputs.of_slot(slot)

    def over(self, stage: int, origins: Sequence[int], numbers: Sequence[int]) -> None:
        """These outputs have been committed by their consumers, or set aside."""
        for (maker, pack), count in self._unfinished.names_of(stage, origins, numbers).items():
            self._over_of(maker, pack, count)

    def _over_of(self, maker: NodeId, pack: int, count: int) -> None:
        if self._unfinished.over((maker, pack), count):
            self.outputs.forget((maker, pack))
            self._over.setdefault(maker, []).append(pack)

    def tell_over(self) -> None:
        """To the backups: with what else they are sent, or when it is worth it, or when there is nothing else."""
        if not self._over or (self._goes_on() and sum(map(len, self._over.values())) < TOLD_AT_ONCE):
            return
        for lane in self._lanes.values():
            if lane.carried:
                self._effects += [lane.freed(maker, packs, self._epoch) for maker, packs in self._over.items()]
        self._over.clear()

    def _goes_on(self) -> bool:
        """Will there be more to tell, and does nothing leave now?"""
        return bool(self._queue or self._unfinished) and not any(lane.leaving for lane in self._lanes.values())

    # -- copies that join

    def may_send(self) -> bool:
        return any(self._lane(node).may_fill() for node in dict.fromkeys(fill.joiner for fill in self._unsent.values()))

    def send_some(self) -> None:
        """The next pieces to each joining copy that has room: of one slot after the other, of many if there is little
        of each."""
        if not self.may_send() or not self._snapshot.ready():
            return
        fills: dict[NodeId, list[Fill]] = {}
        for fill in self._unsent.values():
            fills.setdefault(fill.joiner, []).append(fill)
        for node, of_lane in fills.items():
            if self._lane(node).may_fill():
                self._send_pieces(of_lane[:SLOTS_AT_ONCE], self._lane(node))

    def _send_pieces(self, fills: Sequence[Fill], lane: CopyLane) -> None:
        """About a chunk."""
        begun = [fill for fill in fills if not fill.begun]
        if begun:
            self._begin(begun, lane)
        most, through = lane.bytes_in_flight + CHUNK_BYTES, []
        pieces = Pieces(lane.keys_at_once, self._stages)
        for fill in fills:
            while (has_room := lane.may_fill() and lane.bytes_in_flight < most) and pieces.add_next(
                self._snapshot, fill
            ):
                if pieces.is_full():
                    self._send_all(pieces, lane)
            if not has_room:
                break
            through.append(fill)
        self._send_all(pieces, lane)
        if through:
            self._end(through, lane)

    def _send_all(self, pieces: Pieces, lane: CopyLane) -> None:
        size = sum(self._send(lane, pack) for pack in pieces.packs.values())
        if size:
            lane.keys_at_once = pieces.measured(size)
        pieces.clear(lane.keys_at_once)

    def _begin(self, fills: Sequence[Fill], lane: CopyLane) -> None:
        slots = {fill.slot: fill.term for fill in fills}
        lane.carried.update(dict.fromkeys(slots))
        self._effects.append(lane.mark(BEGINS, self._epoch, slots))
        for pack in self._snapshot.marks([*slots]):
            self._send(lane, pack)
        for fill in fills:
            fill.begun = True
            for maker, number, stage, out in self.outputs_of(fill.slot):
                self._send(lane, Pack(maker, number, stage, outputs=[out], next_output=1 + max(out.numbers)))

    def _end(self, fills: Sequence[Fill], lane: CopyLane) -> None:
        slots = {fill.slot: fill.term for fill in fills}
        self._effects.append(lane.mark(FILLED, self._epoch, slots))
        lane.needed.update(dict.fromkeys(slots))
        for fill in fills:
            fill.ended = lane.last_number
            self._untold[fill.slot] = self._unsent.pop(fill.slot)
        for entry in self._queue:
            if any(slot in entry.touched and slot not in entry.withdrawn for slot in slots):
                entry.need[lane.node] = lane.last_number

    def filled(self) -> list[tuple[int, int]]:
        """(slot, term) of which the joining copy has all since the last call."""
        found = [fill for fill in self._untold.values() if self._lane(fill.joiner).acked >= fill.ended]
        for fill in found:
            del self._untold[fill.slot]
        return [(fill.slot, fill.term) for fill in found]

    # -- for whoever asks

    def lanes(self) -> Iterable[CopyLane]:
        return self._lanes.values()

    def busy(self) -> bool:
        return bool(self._queue or self._unfinished or self._unsent or self._untold)
