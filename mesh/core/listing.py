"""Pages of a stage's keys, in one order for the whole cluster, asked at any node.

States    of a page: asks the owner of the next slots -> (an answer) -> asks the next owner -> ... -> told
Events    `asked`, by somebody at this node; `asked_by_peer`; `told`, a peer's answer; `work`; `overdue`.

A page begins at a position (`places`) and goes through the slots in order: consecutive slots of one owner are one
question, to a peer or to this node itself (`slot_keys`). It ends when it has `limit` keys or PAGE_BYTES, behind the
last slot, or before a slot that is not ACTIVE or whose owner does not answer; if nothing was found before that one, the
page is unavailable, and says why. Where it ends, the next one begins. A position means the same on every node and in
every epoch: whoever walks from page to page meets every key that was there all the time, each once.

Bounds    MAX_PAGES wait, PAGE_MS each; one question of each is on its way.
Invariant every ticket is answered exactly once; the keys of a page rise strictly, and stand behind where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core import columns
from mesh.core.codec import Malformed, encode_with_values
from mesh.core.events import Effect, Millis
from mesh.core.events.planes import TableAgreed, Transmit
from mesh.core.events.work import Listed, ListingAsked
from mesh.core.holdings import Holdings
from mesh.core.lookups import UNAVAILABLE
from mesh.core.messages import Message, NodeId
from mesh.core.messages.outside import KeysAsked, KeysTold
from mesh.core.owner import FOUND, UNKNOWN_STAGE, Owner
from mesh.core.places import BadPosition, Place, Position, place_from, place_of, size_of
from mesh.core.slot import ACTIVE, LOST, PENDING
from mesh.core.slot_keys import Search, SlotKeys
from mesh.core.values import NotSerializable

CONTROL = 0  # the channel of listings
MAX_LIMIT = 10_000  # keys of a page
MAX_PAGES = 64
PAGE_BYTES = 1 << 20
PAGE_MS = 4_000  # the HTTP door waits a little longer
_STATUS = {PENDING: "pending", LOST: "lost"}


@dataclass(slots=True)
class _Page:
    """Listed up to `position`; slots up to `last` have been asked for, of `owner`."""

    ticket: int
    stage: int
    limit: int
    until: Millis
    position: Position
    begun: Position
    last: int = 0
    owner: NodeId = b""
    keys: list[Any] = field(default_factory=list)
    size: int = 0

    def full(self) -> bool:
        return len(self.keys) >= self.limit or self.size >= PAGE_BYTES


class Listing:
    """Both sides of it."""

    def __init__(
        self, me: NodeId, stages: Sequence[StagePlan], slots: int, seed: int, owner: Owner, holdings: Holdings,
        unreachable: Callable[[], Mapping[NodeId, None]],
    ) -> None:  # fmt: skip
        self._me = me
        self._stages = {stage.name: number for number, stage in enumerate(stages)}
        self._names = [stage.name for stage in stages]
        self._slots = slots
        self._seed = seed
        self._shift = 33 - slots.bit_length()  # as in the router
        self._unreachable = unreachable
        self._slot_keys = SlotKeys(owner, holdings, self._searched)
        self._pages: dict[int, _Page] = {}  # by the number of the question that is on its way
        self._last_number = 0
        self._effects: list[Effect] = []
        self.table: TableAgreed | None = None
        self.fenced = False

    def _taken(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # -- somebody at this node asks

    def asked(self, asked: ListingAsked, now: Millis) -> list[Effect]:
        """For a page."""
        stage = self._stages.get(asked.stage)
        if stage is None:
            return [Listed(asked.ticket, UNKNOWN_STAGE)]
        if len(self._pages) >= MAX_PAGES:
            return [Listed(asked.ticket, UNAVAILABLE, why=f"{MAX_PAGES} listings are under way here already")]
        limit = min(asked.limit, MAX_LIMIT)
        self._go_on(_Page(asked.ticket, stage, limit, now + PAGE_MS, asked.position, asked.position))
        return self._taken()

    def _go_on(self, page: _Page) -> None:
        """Ask whoever has the next slots."""
        why = self._hindrance(page.position[0])
        if why:
            self._give_up(page, why)
            return
        page.owner, page.last = self._run(page.position[0])
        self._last_number += 1
        self._pages[self._last_number] = page
        slot, after = page.position
        limit = page.limit - len(page.keys)
        if page.owner != self._me:
            asked = KeysAsked(self._last_number, self._names[page.stage], slot, page.last, list(after[1:]), limit)
            self._send(page.owner, asked)
        elif not self._slot_keys.look(Search(self._me, self._last_number, page.stage, slot, page.last, after, limit)):
            del self._pages[self._last_number]
            self._give_up(page, "too many listings are under way here")

    def _hindrance(self, slot: int) -> str:
        """Why nobody can be asked for a slot's keys; empty if somebody can."""
        table = self.table
        if table is None:
            return "the cluster is not founded yet"
        if self.fenced:
            return "this node has lost touch with the majority"
        if table.status_of_slot[slot] != ACTIVE:
            return f"slot {slot} is {_STATUS[table.status_of_slot[slot]]}"
        owner = table.workers[table.owner_of_slot[slot]]
        if owner in table.down or owner in self._unreachable():
            return f"slot {slot} is unavailable: its owner does not answer"
        return ""

    def _run(self, first: int) -> tuple[NodeId, int]:
        """The owner of a slot, and the last of the slots behind it that are all its own and ACTIVE."""
        assert self.table is not None
        owner = self.table.owner_of_slot[first]
        pairs = zip(self.table.owner_of_slot[first:], self.table.status_of_slot[first:], strict=True)
        other = (slot for slot, pair in enumerate(pairs, first) if pair != (owner, ACTIVE))
        return self.table.workers[owner], next(other, self._slots) - 1

    def _give_up(self, page: _Page, why: str, *, late: bool = False) -> None:
        """What was found is told, also that a long way led to nothing; else why nothing was."""
        if page.keys or (late and page.position != page.begun):
            self._effects.append(Listed(page.ticket, FOUND, page.keys, page.position))
        else:
            self._effects.append(Listed(page.ticket, UNAVAILABLE, why=why))

    def _came(self, page: _Page, keys: list[Any], more: bool) -> None:
        page.keys += keys
        page.size += sum(map(size_of, keys))
        page.position = self._position_of(keys[-1]) if more else (page.last + 1, ())
        if page.position[0] >= self._slots:
            self._effects.append(Listed(page.ticket, FOUND, page.keys))
        elif page.full():
            self._effects.append(Listed(page.ticket, FOUND, page.keys, page.position))
        else:
            self._go_on(page)

    def _position_of(self, key: Any) -> Position:
        return columns.slots_of([key], self._seed, self._shift)[0], place_of(key)

    def next_deadline(self) -> Millis | None:
        return min([page.until for page in self._pages.values()]) if self._pages else None

    def overdue(self, now: Millis) -> list[Effect]:
        """Give up on those that waited too long."""
        for number in [number for number, page in self._pages.items() if page.until <= now]:
            page = self._pages.pop(number)
            self._slot_keys.forget(self._me, number)
            self._give_up(page, f"the owner of slot {page.position[0]} did not answer in time", late=True)
        return self._taken()

    # -- peers answer

    def told(self, sender: NodeId, answer: KeysTold) -> list[Effect]:
        """One that was not asked for, or comes late, changes nothing. Raises Malformed."""
        page = self._pages.get(answer.number)
        if page is None or page.owner != sender:
            return []
        self._check(page, answer)
        del self._pages[answer.number]
        if answer.outcome == FOUND:
            self._came(page, answer.keys, answer.more)
        else:
            self._give_up(page, self._refused(page))
        return self._taken()

    def _refused(self, page: _Page) -> str:
        return f"of the slots {page.position[0]} to {page.last} one is pending, or their owner is too busy to list them"

    def _check(self, page: _Page, answer: KeysTold) -> None:
        keys = answer.keys
        if len(keys) > page.limit - len(page.keys) or not columns.all_keys_good(keys) or (answer.more and not keys):
            raise Malformed("keys-told", "too many keys, bad ones, or none where there are more")
        slots = columns.slots_of(keys, self._seed, self._shift)
        before = page.position
        for position in zip(slots, map(place_of, keys), strict=True):
            if position <= before or position[0] > page.last:
                raise Malformed("keys-told", "keys that were not asked for, or are not in their order")
            before = position

    # -- peers ask

    def asked_by_peer(self, sender: NodeId, asked: KeysAsked) -> list[Effect]:
        """Raises Malformed."""
        after = self._checked(asked)
        stage = self._stages.get(asked.stage)
        if stage is None:
            self._send(sender, KeysTold(asked.number, UNKNOWN_STAGE, [], False))
        else:
            search = Search(sender, asked.number, stage, asked.first, asked.last, after, asked.limit)
            if self.fenced or not self._slot_keys.look(search):
                self._send(sender, KeysTold(asked.number, UNAVAILABLE, [], False))
        return self._taken()

    def _checked(self, asked: KeysAsked) -> Place:
        if not asked.first <= asked.last < self._slots or not 1 <= asked.limit <= MAX_LIMIT:
            raise Malformed("keys-asked", "no slots, or no number of keys")
        try:
            return place_from(*asked.after) if asked.after else ()
        except (BadPosition, TypeError):
            raise Malformed("keys-asked", "no place of a key") from None

    # -- this node looks

    def may_work(self) -> bool:
        return self._slot_keys.may_work()

    def work(self) -> list[Effect]:
        self._slot_keys.work()
        return self._taken()

    def _searched(self, search: Search, found: bool) -> None:
        if search.asker != self._me:
            outcome = FOUND if found else UNAVAILABLE
            self._send(search.asker, KeysTold(search.number, outcome, search.keys, search.more and found))
            return
        page = self._pages.pop(search.number, None)
        if page is not None and found:
            self._came(page, search.keys, search.more)
        elif page is not None:
            self._give_up(page, self._refused(page))

    def _send(self, to: NodeId, message: Message) -> None:
        try:
            payload = encode_with_values(message)
        except NotSerializable:  # a key of many MB, which a link does not take
            assert isinstance(message, KeysTold)
            payload = encode_with_values(KeysTold(message.number, UNAVAILABLE, [], False))
        self._effects.append(Transmit(to, CONTROL, payload))
