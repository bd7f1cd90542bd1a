"""What a node has in its store: the order of puts, what is in memory, what a start reads, what goes."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mesh
from mesh.app.plan import Plan, compile
from mesh.core import shelved_states
from mesh.core import windows as windows_module
from mesh.core.data import DataPlane
from mesh.core.events import Effect, Event, Log, Woke
from mesh.core.events.planes import SlotsInstalled, TableAgreed
from mesh.core.events.work import (
    Answered,
    CommitStore,
    Listed,
    ListingAsked,
    ListSplits,
    LookupAsked,
    ReadSplit,
    SplitRead,
    SplitsListed,
    StoreCommitted,
)
from mesh.core.kept_outputs import KeptOutputs
from mesh.core.keys import slot_of_key
from mesh.core.marks import Marks
from mesh.core.packs import Pack, Window
from mesh.core.places import START
from mesh.core.shelf import RETRY_MS, SPLITS, Shelf
from mesh.core.shelved_states import ShelvedStates, packed_keys, unpacked_key
from mesh.core.shelving import Meta, Shelving
from mesh.core.slot import PENDING
from mesh.core.storing import StateUnreadable, StoreDamaged
from mesh.core.windows import Windows
from mesh.runtime.store import MemoryStore
from tests.data_kit import Given, Nowhere
from tests.shelf_kit import ForgetfulStore, shelf_of
from tests.tables import agreed

ME, NEXT, OTHER = (bytes([number]) * 16 for number in (1, 2, 3))
SLOTS = 4
WORDS = [f"w{number % 50}" for number in range(200)]


def counting(words: list[str], new: Any = int, step: Any = None) -> Plan:
    app = mesh.App("count")
    keyed = app.source("s", Given([words])).key_by(lambda word: word)
    keyed.fold("count", new, step or (lambda n, _: n + 1)).to(Nowhere())
    return compile(app)


def table(epoch: int, me: bytes, **changes: Any) -> TableAgreed:
    found = replace(
        agreed(epoch, [me], [0] * SLOTS),
        since_of_slot=(epoch,) * SLOTS,
        term_of_slot=(epoch,) * SLOTS,
        backups_of_slot=((),) * SLOTS,
        joining_of_slot=(-1,) * SLOTS,
    )
    return replace(found, **changes)


@dataclass
class One:
    """A node that has all slots, and a store."""

    me: bytes
    plan: Plan
    store: ForgetfulStore
    warm: int = 1 << 20

    def __post_init__(self) -> None:
        self.data = DataPlane(
            self.me, self.plan, SLOTS, 0, 1 << 20, 8, keeps=True, store=self.store, warm_bytes=self.warm
        )
        self.told: list[Effect] = []
        self.now = 0
        self.most_warm = 0
        self.late: list[int] = []  # commits that found no room

    def give(self, *events: Event) -> None:
        """And all that follows, but for reads of the source."""
        waiting: deque[Event] = deque(events)
        while waiting:
            for effect in self.data.handle(waiting.popleft(), self.now):
                waiting.extend(self._answers(effect))
                self.told.append(effect)

    def _answers(self, effect: Effect) -> list[Event]:
        if isinstance(effect, CommitStore):
            if self.store.full:
                self.late.append(effect.number)
                return []
            self.store.commit()
            return [StoreCommitted(effect.number)]
        if isinstance(effect, ListSplits):
            return [SplitsListed(0, Given([[""] * len(WORDS)]).splits())]
        if isinstance(effect, ReadSplit):
            end = effect.offset + 10
            return [SplitRead(0, effect.split, WORDS[effect.offset : end], end, end >= len(WORDS))]
        return []

    def has_room_again(self) -> None:
        self.store.full = False
        self.now += RETRY_MS
        self.give(Woke(), Woke())
        self.store.commit()
        self.give(*map(StoreCommitted, self.late))

    def work(self) -> None:
        """Until nothing is left to do."""
        for _ in range(1000):
            self.now += 10
            self.give(Woke())
            effects = self.data.work(self.now)
            self.told += effects
            self.give(*(event for effect in effects for event in self._answers(effect)))
            self.most_warm = max(self.most_warm, sum(each.warm_keys() for each in self.stages()))
            if not self.data.runnable(self.now) and self.data.quiet() and not self.data._reading.next_at():
                return

    def shelf(self) -> Shelf:
        return shelf_of(self.data)

    def stages(self) -> list[ShelvedStates]:
        return [stage for stage in self.data.owner.stages if isinstance(stage, ShelvedStates)]

    def read(self, key: str) -> Any:
        self.told.clear()
        self.give(LookupAsked(1, "count", key))
        answer = next(each for each in self.told if isinstance(each, Answered))
        return json.loads(answer.state) if answer.outcome == "found" else answer.outcome

    def restarted(self, me: bytes = NEXT) -> One:
        """Another process, which is promoted."""
        again = One(me, self.plan, self.store.crash(Random(0)), self.warm)
        again.store.states_read = 0
        again.give(table(2, me, status_of_slot=(PENDING,) * SLOTS, donor_of_slot=(0,) * SLOTS))
        again.give(table(3, me, term_of_slot=(2,) * SLOTS, since_of_slot=(2,) * SLOTS))
        return again


def done(**settings: Any) -> One:
    node = One(ME, counting(WORDS), ForgetfulStore(), **settings)
    node.give(table(1, ME))
    node.work()
    assert node.data.owner.key_count() == 50
    return node


# -- the order of puts ------------------------------------------------------------------------------------------------


def commits(effects: list[Effect]) -> list[int]:
    return [each.number for each in effects if isinstance(each, CommitStore)]


def test_one_commit_is_under_way_and_the_next_one_covers_all_that_was_put_meanwhile() -> None:
    shelf = Shelf(MemoryStore(), 1 << 20)
    shelf.change(1, 0, b"a", b"1")
    shelf.flush()
    assert commits(shelf.take_effects()) == [1]
    for number in range(3):
        shelf.change(1, 0, b"b", b"%d" % number)
        shelf.flush()
    assert commits(shelf.take_effects()) == []
    shelf.committed(1)
    assert (shelf.durable, commits(shelf.take_effects())) == (1, [4])


def test_what_has_no_room_waits_in_order_is_read_and_goes_by_itself() -> None:
    store = ForgetfulStore()
    shelf = Shelf(store, 1 << 20)
    store.full = True
    for value in (b"1", b"2"):
        shelf.change(1, 0, b"a", value)
        shelf.flush()
        shelf.retry(0)
    assert shelf.get(1, 0, b"a") == b"2"
    assert Shelf(store, 1).get(1, 0, b"a") is None
    assert not shelf.has_room()
    effects = shelf.take_effects()
    assert [each.event for each in effects if isinstance(each, Log)] == ["store.full"]
    assert commits(effects) == []
    store.full = False
    shelf.retry(RETRY_MS - 1)
    assert shelf.stalls(), "it is not time yet"
    shelf.retry(RETRY_MS)
    assert Shelf(store, 1).get(1, 0, b"a") == b"2"
    assert commits(shelf.take_effects()) == [2]
    assert shelf.has_room()


def test_a_slot_that_is_dropped_while_nothing_has_room_is_gone() -> None:
    store = ForgetfulStore()
    shelf = Shelf(store, 1 << 20)
    shelf.change(1, 0, b"a", b"1")
    shelf.flush()
    store.full = True
    shelf.drop(1)
    shelf.flush()
    assert shelf.get(1, 0, b"a") is None
    shelf.change(1, 0, b"a", b"2")
    shelf.flush()
    store.full = False
    shelf.retry(RETRY_MS)
    assert shelf.get(1, 0, b"a") == Shelf(store, 1).get(1, 0, b"a") == b"2"


def test_what_is_not_durable_is_bounded() -> None:
    shelf = Shelf(MemoryStore(), 100)
    shelf.change(1, 0, b"a", b"1" * 100)
    shelf.flush()
    assert not shelf.has_room()
    shelf.committed(1)
    assert shelf.has_room()


def test_a_node_whose_disk_is_full_applies_nothing_more_and_goes_on_later() -> None:
    node = One(ME, counting(WORDS), ForgetfulStore())
    node.give(table(1, ME))
    node.store.full = True
    node.work()
    assert node.data.owner.key_count() < 50
    assert [each.event for each in node.told if isinstance(each, Log)] == ["store.full"]
    node.has_room_again()
    node.work()
    assert [node.read(f"w{number}") for number in range(50)] == [4] * 50


# -- a start ----------------------------------------------------------------------------------------------------------


def test_a_start_reads_no_states_and_all_are_there() -> None:
    again = done().restarted()
    assert again.store.states_read == 0
    assert again.data.owner.key_count() == 50
    assert [again.read(f"w{number}") for number in range(50)] == [4] * 50


def test_a_split_goes_on_where_it_was_and_what_has_ended_is_not_read_again() -> None:
    again = done().restarted()
    again.work()
    assert not [each for each in again.told if isinstance(each, ReadSplit)]
    assert again.read("w7") == 4


def test_who_returns_owns_nothing_before_it_is_asked_and_says_so_when_that_is_durable() -> None:
    node = done()
    again = One(NEXT, node.plan, node.store.crash(Random(0)))
    again.store.full = True
    again.give(table(2, NEXT, status_of_slot=(PENDING,) * SLOTS, donor_of_slot=(0,) * SLOTS))
    assert again.read("w7") == "unavailable"
    assert not [each for each in again.told if isinstance(each, SlotsInstalled)]
    again.has_room_again()
    claimed = [slot for each in again.told if isinstance(each, SlotsInstalled) for slot, _ in each.slots]
    assert sorted(claimed) == [0, 1, 2, 3]


def test_who_returns_to_slots_whose_loss_was_accepted_begins_empty() -> None:
    node = done()
    again = One(NEXT, node.plan, node.store.crash(Random(0)))
    again.give(table(5, NEXT))
    assert again.read("w7") == "absent"
    assert again.data.owner.key_count() == 0


def test_what_others_have_gone_on_without_is_dropped_and_leaves_nothing() -> None:
    node = done()
    again = One(NEXT, node.plan, node.store.crash(Random(0)))
    again.give(table(1, ME))
    assert len(again.shelf().metas()) == SLOTS, "it was the owner, as far as this process knows"
    again.give(table(4, OTHER))
    assert again.shelf().metas() == {}
    assert [again.shelf().scan(slot).states for slot in range(SLOTS)] == [[]] * SLOTS


def test_a_copy_that_was_being_filled_is_dropped_at_the_start() -> None:
    node = done()
    node.shelf().meta(1, Meta(True, None).to_bytes())
    node.shelf().flush()
    node.store.commit()
    again = node.restarted()
    assert all(stage == SPLITS for stage, *_ in again.shelf().scan(1).states)
    wanted = ["absent" if slot_of_key(f"w{number}", 0, SLOTS) == 1 else 4 for number in range(50)]
    assert [again.read(f"w{number}") for number in range(50)] == wanted


def test_keys_of_a_copy_are_counted_when_they_are_this_nodes_own() -> None:
    node = done()
    for slot in range(SLOTS):
        node.shelf().meta(slot, Meta(False, None).to_bytes())
    node.shelf().flush()
    node.store.commit()
    again = node.restarted()
    assert again.data.owner.key_count() == 0
    again.work()
    assert again.data.owner.key_count() == 50


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_has_what_was_used_of_late_and_no_more() -> None:
    node = done(warm=10 * shelved_states.SMALL_WEIGHT)
    assert node.most_warm < 30, "of 50 keys; a batch has 8"
    assert [node.read(f"w{number}") for number in range(50)] == [4] * 50


def test_what_fits_stays_and_is_not_read_again() -> None:
    node = done()
    before = node.store.states_read
    assert node.read("w7") == 4
    assert node.store.states_read == before


def test_large_states_weigh_what_they_are() -> None:
    node = One(ME, counting(WORDS, str, lambda text, _: text + "x" * 1000), ForgetfulStore(), warm=40_000)
    node.give(table(1, ME))
    node.work()
    assert node.most_warm < 40
    assert node.read("w7") == "x" * 4000


def test_a_record_after_which_its_state_cannot_be_packed_is_set_aside_and_the_state_stays_as_it_was() -> None:
    app = mesh.App("odd")
    keyed = app.source("s", Given([WORDS])).key_by(lambda word: word)
    keyed.stateful("count", list, lambda state, word: ([object, *state] if state else [word], None))
    node = One(ME, compile(app), ForgetfulStore(), warm=0)
    node.give(table(1, ME))
    node.work()
    assert node.data.set_aside.count == len(WORDS) - 50
    assert not [each for each in node.told if isinstance(each, Log) and each.event == "state.not_copied"]
    assert [node.read(f"w{number}") for number in range(50)] == [[f"w{number}"] for number in range(50)]


def test_keys_are_listed_from_the_store_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelved_states, "PAGE_BYTES", 10)
    node = done(warm=0)
    node.give(ListingAsked(1, "count", START, 1000))
    node.work()
    listed = next(each for each in node.told if isinstance(each, Listed))
    assert sorted(listed.keys) == sorted(set(WORDS))


# -- what is wrong with it --------------------------------------------------------------------------------------------


def test_a_state_that_this_version_cannot_read_is_no_records_fault() -> None:
    node = done(warm=0)
    slot = slot_of_key("w7", 0, SLOTS)
    node.shelf().change(slot, 0, packed_keys(["w7"])[0], b"\xc1")
    node.shelf().flush()
    with pytest.raises(StateUnreadable, match="stage count, key 'w7'"):
        node.data.owner.apply(0, ["w6", "w7"], ["w6", "w7"])
    outcome, told = node.data.owner.read("count", "w7")
    assert outcome == "unreadable"  # who only asks is told, and nothing ends
    assert b"stage count, key 'w7'" in told
    assert node.data.owner.read("count", "w6")[0] == "found"


def test_damage_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    node = done(warm=0)

    def damaged(*place: Any) -> bytes:
        raise StoreDamaged("a checksum", *place)

    monkeypatch.setattr(node.shelf(), "get", damaged)
    with pytest.raises(StoreDamaged):
        node.data.owner.apply(0, ["w6"], ["w6"])


# -- what producers sent ----------------------------------------------------------------------------------------------


def test_what_a_window_has_forgotten_is_in_the_store_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_module, "WINDOW", 100)
    store, windows = MemoryStore(), Windows()
    shelf = Shelf(store, 1 << 20)
    shelving = Shelving(shelf, [], windows)
    for seq in range(1000):
        record = seq << windows_module.INDEX_BITS
        assert windows.take(3, 0, "p", record, seq) == ""
        shelving.keep(Pack(ME, 1, 1, windows=[Window(0, "p", [3], [record], [seq])]), own=True)
        shelving.flush()
    assert len(shelf.scan(3).states) <= 1 + 125 // 64 + 1
    again = Windows()
    splits: Any = None
    Shelving(Shelf(store, 1 << 20), [], again).begin(ME, Marks(0, 4), splits, KeptOutputs())
    for seq in (0, 500, 999):
        record = seq << windows_module.INDEX_BITS
        assert again.take(3, 0, "p", record, seq) == windows.take(3, 0, "p", record, seq) != ""


# -- how things are called --------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.binary())))
def test_keys_have_names_of_their_own_that_say_them(keys: list[Any]) -> None:
    names = packed_keys(keys)
    found = [unpacked_key(name) for name in names]
    assert list(zip(map(type, found), found, strict=True)) == list(zip(map(type, keys), keys, strict=True))
    assert len(set(names)) == len(set(zip(map(type, keys), keys, strict=True)))
    assert all(name < shelved_states.LAST for name in names)
