"""What a node that keeps copies makes of bad input: one clear answer, nothing changed, and all others go on."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

import mesh
from mesh.app.connectors import Chunk, ConnectorError, Split
from mesh.app.plan import Plan
from mesh.app.plan import compile as compiled
from mesh.core.codec import MAX_INT, decode_with_values, encode_with_values
from mesh.core.columns import slots_to_bytes
from mesh.core.events import Effect, Rejected
from mesh.core.events.planes import Delivered, Transmit
from mesh.core.events.work import RecordAsked, SplitRead
from mesh.core.giving import REPLICATION
from mesh.core.handoff import CONTROL
from mesh.core.kept_outputs import Unfinished
from mesh.core.messages import Message
from mesh.core.messages.outside import Found, Lookup
from mesh.core.messages.states import LaneMark, OutputsKept, PackPart, PacksTaken
from mesh.core.messages.work import Batch, BatchDone, NumberedRun
from mesh.core.numbers import Numbers
from mesh.core.packs import Outputs, Pack, encoded
from mesh.core.reads_kept import ANSWER_BYTES, WAITING_BYTES
from mesh.core.replicas import FILLED, MOST_TOGETHER, SEALED
from mesh.core.slot_splits import split_key
from tests import test_posts
from tests.data_kept_kit import KeptCluster
from tests.data_kit import Given, Node, Nowhere
from tests.packs_kit import keys_of_slot
from tests.test_posts import KEYS, line, posted

SLOTS = 8
LEVEL = 1  # of the only stage: its channel


def plan_of(source: Any) -> Plan:
    app = mesh.App("counts")
    app.source("words", source).key_by(lambda word: word).fold("count", int, lambda n, _: n + 1).items().to(Nowhere())
    return compiled(app)


class Three:
    """The slots of each of three nodes have a copy at the next one. The last one says what the test makes it say."""

    def __init__(self) -> None:
        self.cluster = KeptCluster(plan_of(Given([])), Random(0), owners=3, copies=2, slots=SLOTS)
        self.a, self.b, self.liar = self.cluster.nodes
        for node in (self.a, self.b):
            while node.pending:
                self.cluster.give(node, node.pending.pop(0))

    def says(self, to: Node, channel: int, message: Message) -> list[str]:
        """The liar; why that is rejected."""
        return rejected(to.data.handle(Delivered(self.liar.id, channel, encode_with_values(message)), 0))

    def slot_of(self, node: Node) -> int:
        return next(
            slot for slot, place in enumerate(self.cluster.table.owner_of_slot) if self.cluster.nodes[place] is node
        )


def rejected(effects: list[Effect]) -> list[str]:
    return [effect.reason for effect in effects if isinstance(effect, Rejected)]


def work_all(node: Node) -> list[Effect]:
    effects = []
    while node.data.runnable(0):
        effects += node.data.work(0)
    return effects


def batch(number: int, keys: list[str], slots: list[int], numbers: list[int]) -> Batch:
    run = NumberedRun(False, 0, "x", b"", 0, b"".join(each.to_bytes(4, "little") for each in numbers))
    return Batch(0, 1, number, slots_to_bytes(slots), keys, None, (run,))


def part(number: int = 1, **fields: Any) -> PackPart:
    given: dict[str, Any] = {
        "epoch": 1, "more": False, "maker": b"\3" * 16, "pack": 1, "stage": 0, "slots": b"", "keys": [], "states": [],
        "splits": (), "stages": (), "windows": (), "outputs": (), "next_output": 0,
    }  # fmt: skip
    return PackPart(number, **{**given, **fields})


# -- a peer that lies: records, and answers


def test_records_of_another_node_s_slots_are_refused_also_under_the_newest_epoch() -> None:
    three = Three()
    mine, theirs = three.slot_of(three.a), three.slot_of(three.b)
    keys = [keys_of_slot(theirs, 1)[0], keys_of_slot(mine, 1)[0]]
    assert three.says(three.a, LEVEL, batch(1, keys, [theirs, mine], [0, 1])) == []
    work_all(three.a)
    assert [*three.a.data.owner.stages[0].states] == [keys[1]]


def test_an_answer_that_refuses_slots_that_there_are_not_changes_nothing() -> None:
    three = Three()
    slot = three.slot_of(three.liar)
    words = keys_of_slot(slot, 3)
    router = three.a.data.router
    router.put(0, words, words, Numbers([0, 1, 2], [0, 0, 0], [0], [(False, 0, "x")]))
    assert router.flush()
    lane = next(each for each in router.lanes() if each.owner == three.liar.id)
    assert three.says(three.a, CONTROL, BatchDone(0, 1, 1, slots_to_bytes([slot, 60_000]), (0, 0))) == ["batch-done"]
    lane.in_flight[0].take_back({slot: 0})  # its reign is over
    assert three.says(three.a, CONTROL, BatchDone(0, 1, 1, slots_to_bytes([60_000]), (0,))) == ["batch-done"]
    assert three.says(three.a, CONTROL, BatchDone(0, 1, 1, slots_to_bytes([slot]), (0,))) == []


# -- a peer that lies: packs


def backup_of_the_liar(three: Three) -> tuple[Node, int]:
    slot = three.slot_of(three.liar)
    return three.cluster.nodes[three.cluster.table.backups_of_slot[slot][0]], slot


def test_numbers_above_all_that_anybody_could_reach_are_refused() -> None:
    """Else this node's own outputs, or the records of a split that it reads on, would get numbers with no room."""
    three = Three()
    backup, slot = backup_of_the_liar(three)
    assert three.says(backup, REPLICATION, part(next_output=MAX_INT)) == ["pack"]
    state = (0, (MAX_INT, 0), False, 0, 0)
    place = part(stage=2, slots=slots_to_bytes([slot]), keys=[split_key(slot, 0, "x")], states=[state])
    assert three.says(backup, REPLICATION, place) == ["pack"]
    assert three.says(backup, REPLICATION, part()) == []  # the lane goes on where it was


def test_parts_that_never_end_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.core.replicas.MOST_TOGETHER", 1 << 16)
    three = Three()
    said = [three.says(three.a, REPLICATION, part(number, more=True)) for number in range(1, 100)]
    assert [] in said
    assert said[-1] == ["pack"]
    assert MOST_TOGETHER >= 64 << 20  # a batch of one slot's records never comes to that


def test_what_is_not_the_sender_s_changes_no_copy() -> None:
    three = Three()
    backup, slot = backup_of_the_liar(three)
    other = three.slot_of(three.a if backup is three.b else three.b)
    key, good = keys_of_slot(other, 1)[0], keys_of_slot(slot, 1)[0]
    keeping: Any = backup.data.handoff
    before = {each: copy.states for each, copy in keeping.replicas.copies.items()}
    assert three.says(backup, REPLICATION, part(1, slots=slots_to_bytes([other]), keys=[key], states=[7])) == []
    assert three.says(backup, REPLICATION, LaneMark(2, 1, SEALED, slots_to_bytes([other, slot]), (1, 1))) == []
    assert three.says(backup, REPLICATION, LaneMark(3, 1, FILLED, slots_to_bytes([other]), (2,))) == []
    assert three.says(backup, REPLICATION, OutputsKept(4, 1, 60_000, (), ())) == []
    assert {each: copy.states for each, copy in keeping.replicas.copies.items()} == before
    assert key not in backup.data.owner.stages[0].states
    assert three.says(backup, REPLICATION, part(5, slots=slots_to_bytes([slot]), keys=[good], states=[7])) == []
    assert keeping.replicas.copies[slot].states[0] == {good: 7}
    assert three.says(backup, REPLICATION, part(5, slots=slots_to_bytes([slot]), keys=[good], states=[8])) == ["pack"]
    assert keeping.replicas.copies[slot].states[0] == {good: 7}


def test_acknowledgements_of_what_was_never_sent_are_refused_and_repeated_ones_cost_nothing() -> None:
    three = Three()
    keeping: Any = three.a.data.handoff
    lane = keeping.committing._lane(three.liar.id)
    assert three.says(three.a, CONTROL, PacksTaken(lane.last_number + 1, 1)) == ["packs-taken"]
    lane.mark(SEALED, 1, {})
    assert three.says(three.a, CONTROL, PacksTaken(lane.last_number, MAX_INT)) == []
    for epoch in range(1_000):
        assert three.says(three.a, CONTROL, PacksTaken(lane.last_number, MAX_INT - epoch)) == []
        assert three.says(three.a, CONTROL, PacksTaken(lane.last_number, epoch + 2)) == []
    assert len(lane._judged) == 1


# -- sources


class Named(Given):
    """Splits of any names and sizes."""

    def __init__(self, named: list[tuple[str, int, list[str]]]) -> None:
        super().__init__([list(values) for *_, values in named])
        self.named = [Split(name, size) for name, size, _ in named]

    def splits(self) -> list[Split]:
        return self.named

    def chunk(self, split: Split, offset: int, random: Random) -> Chunk[Any]:
        return super().chunk(Split(str([each.name for each in self.named].index(split.name))), offset, random)


def test_splits_whose_names_cannot_travel_are_left_out_and_told_and_all_others_are_read() -> None:
    named = [("\udcff", 1, ["a"]), ("n" * 1025, 1, ["b"]), ("n" * 1024, 1, ["c"]), ("", 1, ["d"]), ("é\x00", 1, ["e"])]
    cluster = KeptCluster(plan_of(Named(named)), Random(1), owners=3, copies=2, slots=SLOTS)
    cluster.run()
    assert cluster.states("count") == {"c": 1, "d": 1, "e": 1}
    for node in cluster.nodes:
        (log,) = node.logs
        assert "2 splits left out: names must differ, and be UTF-8 of up to 1024 bytes" in str(log.fields["error"])
    cluster.come_to_rest()
    cluster.check_copies()


def test_sizes_of_splits_may_be_anything() -> None:
    cluster = KeptCluster(
        plan_of(Named([("x", -1, ["a"]), ("y", 1 << 70, ["b"])])), Random(1), owners=2, copies=2, slots=SLOTS
    )
    cluster.run()
    assert cluster.states("count") == {"a": 1, "b": 1}
    cluster.come_to_rest()
    cluster.check_copies()


@pytest.mark.parametrize("offset", [-1, 1 << 63, "7", None])
def test_an_offset_that_could_be_saved_nowhere_is_told_at_once(offset: Any) -> None:
    cluster = KeptCluster(plan_of(Given([["a"]])), Random(1), owners=1, copies=1, slots=SLOTS)
    (node,) = cluster.nodes
    cluster.run(until=lambda: any(isinstance(each, SplitRead) for each in node.pending))
    read = next(each for each in node.pending if isinstance(each, SplitRead))
    with pytest.raises(ConnectorError, match=r'source "words" gave .* as an offset'):
        node.data.handle(SplitRead(read.source, read.split, ["a"], offset, False), 0)


# -- requests


class Two(test_posts.Two, KeptCluster):
    def __init__(self) -> None:
        super().__init__()
        KeptCluster.__init__(self, test_posts.application(), Random(0), owners=2, copies=2)
        self.run(lambda: not self._choices())


CANNOT = ["\udcff", {"\ud800": 1}, [0] * 1_000_000]


@pytest.mark.parametrize("value", CANNOT, ids=["text", "name", "large"])
def test_a_value_that_could_not_be_copied_is_told_to_who_sent_it_whoever_owns_its_key(value: Any) -> None:
    two = Two()
    good = line(*((key, 1) for key in KEYS))
    for key in KEYS[:6]:
        outcome, body = two.told(posted([good, line((key, value)), good], producer="p"))
        assert (outcome, body["line"]) == ("bad-line", 2)
        assert two.told(RecordAsked(1, "list", key, [key, value]))[0] == "bad-line"
    assert not two.lists()
    assert not two.set_aside()
    assert two.told(posted([good, good], producer="p")) == ("committed", {"committed": 2, "duplicates": 0})
    assert two.told(posted([good, line((KEYS[0], 2))], producer="p"))[0] == "conflict"
    assert two.lists() == {key: [1, 1] for key in KEYS}
    two.come_to_rest()
    two.check_copies()


def test_large_keys_travel_and_are_copied() -> None:
    two = Two()
    big = {key * 150_000: 1 for key in KEYS[:4]}
    assert two.told(posted([line(*big.items())], producer="p"))[0] == "committed"
    assert two.lists() == {key: [1] for key in big}
    two.come_to_rest()
    two.check_copies()


# -- what cannot travel


def test_marks_that_cannot_travel_are_left_out_and_named() -> None:
    pack = Pack(b"\1" * 16, 1, 0)
    pack.splits.append(((0, "\udcff"), [1, 2], [5, 6]))
    done = encoded(pack, 1, 1)
    assert done.payloads == []
    assert len(done.left_out) == 2


class Alien:
    """A state that no other node would know."""

    def on_record(self, value: str) -> str:
        return value


def test_a_state_that_could_not_be_copied_is_told_at_the_key_s_first_record_and_is_not_there() -> None:
    app = mesh.App("aliens")
    app.source("words", Given([["a", "b", "a"]])).key_by(lambda word: word).stateful("kept", Alien).to(Nowhere())
    cluster = KeptCluster(compiled(app), Random(0), owners=2, copies=2, slots=SLOTS)
    cluster.run()
    assert cluster.states("kept") == {}
    assert cluster.items(0) == []
    assert sum(node.data.set_aside.count for node in cluster.nodes) == 3
    told = [str(log.fields["error"]) for node in cluster.nodes for log in node.logs]
    assert told
    assert all("Alien cannot travel between nodes" in each for each in told)
    cluster.come_to_rest()
    cluster.check_copies()


def test_an_output_that_nobody_takes_for_long_costs_no_memory_for_those_that_are_taken() -> None:
    me, packs = b"\1" * 16, 5_000
    unfinished = Unfinished(me, 1)
    for pack in range(1, packs + 1):
        unfinished.made(pack, 0, [Outputs(0, [0, 0], [2 * pack, 2 * pack + 1], ["a", "b"], ["a", "b"])])
        if pack % 1_000:  # else it waits
            assert unfinished.names_of(0, [0, 0], [2 * pack, 2 * pack + 1]) == {(me, pack): 2}
            assert unfinished.over((me, pack), 2)
        assert sum(map(len, unfinished._firsts)) < 1_100
    for pack in range(1_000, packs + 1, 1_000):
        assert unfinished.names_of(0, [0], [2 * pack + 1]) == {(me, pack): 1}
        assert unfinished.over((me, pack), 1) is False
        assert unfinished.over((me, pack), 1)
    assert not unfinished


def test_reads_that_nobody_confirms_are_bounded_in_bytes_and_answered_when_somebody_does() -> None:
    three = Three()
    key = keys_of_slot(three.slot_of(three.a), 1)[0]
    effects = []
    for number in range(1, 40_001):
        lookup = encode_with_values(Lookup(number, "count", [key]))
        effects += three.a.data.handle(Delivered(three.liar.id, CONTROL, lookup), 0)
    answers = [each for each in effects if isinstance(each, Transmit) and each.to == three.liar.id]
    waiting = 40_000 - len(answers)
    assert 0 < waiting <= WAITING_BYTES // ANSWER_BYTES
    lane: Any = next(iter(three.a.data.handoff.committing.lanes()))  # type: ignore[union-attr]
    taken = encode_with_values(PacksTaken(lane.last_number, 1))
    effects = three.a.data.handle(Delivered(lane.node, CONTROL, taken), 0)
    found = [decode_with_values(each.payload) for each in effects if isinstance(each, Transmit)]
    assert [each.outcome for each in found if isinstance(each, Found)] == ["absent"] * waiting
