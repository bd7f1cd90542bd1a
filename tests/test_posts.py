"""One request after the other, between two owners: what is applied, what is told, and what changes nothing."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from random import Random
from typing import Any

import pytest

import mesh
from mesh.app.plan import Plan, compile
from mesh.core import codec, windows
from mesh.core.events import Effect
from mesh.core.events.planes import Delivered, Fenced, HandedOver, StartLeaving
from mesh.core.events.work import Answered, LinesPosted, RecordAsked
from mesh.core.ingest import MOST_REQUESTS
from mesh.core.inject import POSTS
from mesh.core.keys import slot_of_key
from mesh.core.messages import Message
from mesh.core.messages.outside import ClaimLines, Inject, Injected
from tests.data_kit import Cluster, Given, Node, Nowhere


def step(state: list[Any], value: Any) -> tuple[list[Any], Any]:
    if value == "raise":
        state.append("a trace")
        raise ValueError("it is told")
    return [*state, value], value


def application() -> Plan:
    app = mesh.App("posts")
    events = app.source("events", mesh.http()).flat_map(lambda event: event["records"])
    app.source("given", Given([])).key_by(str).fold("given", int, lambda count, _: count + 1)
    events.key_by(lambda record: record[0]).stateful("list", list, lambda state, record: step(state, record[1]))
    events.filter(lambda record: record[1] == "tell").to(Nowhere())
    return compile(app)


class Two(Cluster):
    """Two owners, whose answers are kept by ticket."""

    def __init__(self, witnesses: int = 0, plan: Plan | None = None) -> None:
        super().__init__(plan or application(), Random(0), owners=2, witnesses=witnesses)
        self.outcomes: dict[int, tuple[str, Any]] = {}
        self.handed_over: list[Node] = []
        self.run(lambda: not self._choices())

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answered):
                assert effect.ticket not in self.outcomes
                self.outcomes[effect.ticket] = effect.outcome, json.loads(effect.state) if effect.state else None
            elif isinstance(effect, HandedOver):
                self.handed_over.append(node)
            else:
                super()._perform(node, [effect])

    def told(self, event: LinesPosted | RecordAsked, *, node: int = 0) -> tuple[str, Any]:
        self.outcomes.clear()
        self.give(self.nodes[node], event)
        self.run(lambda: event.ticket in self.outcomes)
        return self.outcomes[event.ticket]

    def lists(self) -> dict[Any, Any]:
        return self.states("list")

    def set_aside(self) -> int:
        return sum(node.data.set_aside.count for node in self.nodes)


def line(*records: tuple[Any, Any]) -> dict[str, Any]:
    return {"records": [list(record) for record in records]}


def posted(lines: list[Any], *, producer: str = "", first: int = 0, source: str = "events") -> LinesPosted:
    return LinesPosted(1, source, lines, producer, first, [hash_of(each) for each in lines])


def hash_of(value: Any) -> int:
    return zlib.crc32(repr(value).encode())


KEYS = [f"key-{number}" for number in range(20)]  # of both owners


def test_a_line_that_a_step_does_not_take_is_named_and_nothing_is_applied() -> None:
    two = Two()
    good = line(*((key, 1) for key in KEYS))
    for bad in ({}, {"records": [["x"]]}, {"records": 3}, line((1.5, 1)), line((True, 1)), line(("\ud800", 1))):
        outcome, body = two.told(posted([good, good, bad, good]))
        assert (outcome, body["line"]) == ("bad-line", 3)
    assert not two.lists()
    assert not two.set_aside()
    assert two.told(posted([good])) == ("committed", {"committed": 1, "duplicates": 0})
    assert two.lists() == {key: [1] for key in KEYS}


def ending() -> Plan:
    app = mesh.App("ending")
    app.source("given", Given([])).key_by(str).fold("count", int, lambda count, _: count + 1).to(Nowhere())
    return compile(app)


def test_nothing_is_taken_that_would_come_after_the_end_of_a_job() -> None:
    two = Two(plan=ending())
    two.run()
    for node in (0, 1):
        assert two.told(RecordAsked(1, "count", "x", "x"), node=node) == ("unavailable", None)


def test_who_leaves_says_farewell_only_after_it_has_answered_whoever_waits() -> None:
    two = Two()
    leaver, other = two.nodes
    two.give(other, Fenced(True))
    two.give(leaver, posted([line(*((key, 1) for key in KEYS))]))
    two.run(lambda: not two._choices())
    without = replace(two.table, epoch=5, owner_of_slot=(1,) * 8, term_of_slot=(2,) * 8)
    for event in (StartLeaving(), without):
        two.give(leaver, event)
    two.run(lambda: not two._choices())
    assert not two.outcomes
    assert not two.handed_over
    two.give(other, without)
    two.give(other, Fenced(False))
    two.run(lambda: two.handed_over == [leaver])
    assert two.outcomes[1][0] == "committed"


def test_a_line_without_a_record_or_of_null_is_committed() -> None:
    two = Two()
    assert two.told(posted([line(), None, line((None, 1))])) == ("committed", {"committed": 3, "duplicates": 0})
    assert two.told(posted([])) == ("committed", {"committed": 0, "duplicates": 0})
    assert not two.lists()


def test_a_step_of_a_stage_that_raises_is_set_aside_and_the_others_count() -> None:
    two = Two()
    lines = [line((key, value)) for key in KEYS for value in (1, "raise", 2)]
    assert two.told(posted(lines, producer="p")) == ("committed", {"committed": 60, "duplicates": 0})
    assert two.lists() == {key: [1, 2] for key in KEYS}
    assert two.set_aside() == len(KEYS)
    assert two.told(posted(lines, producer="p"), node=1) == ("committed", {"committed": 60, "duplicates": 60})
    assert two.lists() == {key: [1, 2] for key in KEYS}
    assert two.set_aside() == len(KEYS)


def test_a_number_is_for_one_line_whatever_its_key() -> None:
    two = Two()
    for key in KEYS:
        assert two.told(posted([line((key, 1))], producer=key))[0] == "committed"
        other = [line((f"other-{key}", 1)), line((key, 2))]
        assert two.told(posted(other, producer=key), node=1) == ("conflict", {"seq": 0})
        assert two.told(posted(other[::-1], producer=key, first=0)) == ("conflict", {"seq": 0})
    assert two.lists() == {key: [1] for key in KEYS}


def test_a_number_that_is_long_past_is_neither_applied_nor_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 8)
    two = Two()
    lines = [line((key, number)) for number, key in enumerate(KEYS)]
    assert two.told(posted(lines, producer="p"))[0] == "committed"
    assert two.told(posted(lines[:1], producer="p")) == ("too-old", {"seq": 0})
    assert two.told(posted(lines[-4:], producer="p", first=16)) == ("committed", {"committed": 4, "duplicates": 4})
    assert two.lists() == {key: [number] for number, key in enumerate(KEYS)}


def test_half_of_a_line_may_have_been_applied_before() -> None:
    two = Two()
    lines = [line(*((key, number) for key in KEYS)) for number in range(3)]
    two.give(two.nodes[0], posted(lines, producer="p"))
    two.run(lambda: len(two.lists()) > 0)
    assert len(two.lists()) < len(KEYS)
    assert two.told(replace(posted(lines, producer="p"), ticket=2), node=1)[0] == "committed"
    two.run(lambda: all(node.data.quiet() for node in two.nodes))
    assert two.lists() == {key: [0, 1, 2] for key in KEYS}


def test_only_sources_that_are_posted_to_are_known() -> None:
    two = Two()
    assert two.told(posted([1], source="given")) == ("unknown-source", {"exists": True})
    assert two.told(posted([1], source="list")) == ("unknown-source", {"exists": False})


def test_what_goes_straight_to_a_sink_is_written_when_all_else_is_applied() -> None:
    two = Two()
    assert two.told(posted([line(("a", "tell"), ("b", 1))]), node=1)[0] == "committed"
    assert two.nodes[1].items == {0: [["a", "tell"]]}


def test_an_ask_gives_the_outputs_that_nobody_else_reads() -> None:
    two = Two()
    for node, key in enumerate(KEYS):
        assert two.told(RecordAsked(1, "list", key, [key, 5]), node=node % 2) == ("answered", {"outputs": [5]})
        assert two.told(RecordAsked(2, "given", key, "x"), node=node % 2) == ("answered", {"outputs": [1]})
        assert two.told(RecordAsked(3, "list", key, [key, None]), node=node % 2) == ("answered", {"outputs": []})
    assert two.lists() == {key: [5, None] for key in KEYS}


def test_an_ask_whose_step_raises_is_told_and_changes_nothing() -> None:
    two = Two()
    for key in KEYS:
        outcome, body = two.told(RecordAsked(1, "list", key, [key, "raise"]))
        assert outcome == "raised"
        assert "ValueError: it is told" in body["detail"]
    assert not two.lists()
    assert not two.set_aside()


def test_a_node_without_slots_takes_posts_too() -> None:
    two = Two(witnesses=1)
    assert two.told(posted([line(*((key, 1) for key in KEYS))], producer="p"), node=2)[0] == "committed"
    assert two.told(posted([line(*((key, 1) for key in KEYS))], producer="p"))[1] == {"committed": 1, "duplicates": 1}
    assert two.told(RecordAsked(1, "list", "a", ["a", 2]), node=2)[0] == "answered"


def test_an_ask_for_no_stage_or_a_bad_key_is_told() -> None:
    two = Two()
    assert two.told(RecordAsked(1, "lists", "a", 1)) == ("unknown-stage", None)
    assert two.told(RecordAsked(1, "list", "\ud800", 1))[0] == "bad-line"


def test_too_many_at_once_are_told_to_come_again() -> None:
    two = Two()
    for ticket in range(MOST_REQUESTS):
        two.give(two.nodes[0], LinesPosted(ticket, "events", [line(("a", 1))]))
    two.give(two.nodes[0], LinesPosted(1000, "events", [line(("a", 1))]))
    assert two.outcomes == {1000: ("busy", None)}
    two.run(lambda: len(two.outcomes) > MOST_REQUESTS)
    assert two.lists() == {"a": [1] * MOST_REQUESTS}


def test_out_of_touch_with_the_majority_nothing_is_taken() -> None:
    two = Two()
    two.give(two.nodes[0], Fenced(True))
    assert two.told(RecordAsked(1, "list", "a", 1)) == ("unavailable", None)
    two.give(two.nodes[0], Fenced(False))
    assert two.told(RecordAsked(1, "list", "a", ["a", 1]))[0] == "answered"


def test_an_owner_that_does_not_answer_leaves_the_outcome_unknown() -> None:
    two = Two()
    two.give(two.nodes[0], Fenced(True))
    two.give(two.nodes[1], posted([line(*((key, 1) for key in KEYS))]))
    two.run(lambda: 1 in two.outcomes)
    assert two.outcomes[1] == ("unknown", None)
    two.give(two.nodes[0], Fenced(False))
    two.run(lambda: all(node.data.quiet() for node in two.nodes))
    assert two.lists() == {key: [1] for key in KEYS}


def test_keys_and_values_of_any_size_travel_or_are_told() -> None:
    two = Two()
    big = {key * 100_000: 1 for key in KEYS}
    assert two.told(posted([line(*big.items())]))[0] == "committed"
    assert two.lists() == {key: [1] for key in big}
    huge = [0] * 1_000_000  # more than a node accepts of another
    outcomes = {two.told(RecordAsked(1, "list", key, [key, huge]))[0] for key in KEYS}
    assert outcomes == {"answered", "raised"}


@pytest.mark.parametrize(
    "message",
    [
        Inject(1, 9, ["a"], [1], "", b"", b"", False),
        Inject(1, 0, [], [], "", b"", b"", False),
        Inject(1, 0, ["a"], [1, 2], "", b"", b"", False),
        Inject(1, 0, [1.5], [1], "", b"", b"", False),
        Inject(1, 0, ["a"], [1], "p", b"", b"", False),
        Inject(1, 0, ["a"], [1], "", bytes(8), bytes(8), False),
        Inject(1, 0, ["a"], [1], "p" * 300, bytes(8), bytes(8), False),
        Inject(1, 0, ["a", "b"], [1, 2], "", b"", b"", True),
        Inject(1, 0, ["a"] * 5000, [1] * 5000, "", b"", b"", False),
        ClaimLines(1, "", 0, bytes(8)),
        ClaimLines(1, "p", 0, bytes(7)),
        ClaimLines(1, "p", 0, b""),
        ClaimLines(1, "p", 1 << 41, bytes(8)),
        Injected(1, b"", b"", "", 0, b"", b""),
    ],
)
def test_a_bad_piece_is_rejected_and_changes_nothing(message: Message) -> None:
    two = Two()
    payload = codec.encode_with_values(message)
    two.unconsumed[two.nodes[1].id, two.nodes[0].id, POSTS] = len(payload)
    two.give(two.nodes[0], Delivered(two.nodes[1].id, POSTS, payload))
    assert len(two.nodes[0].rejected) == 1
    assert two.nodes[0].data.quiet()
    assert not two.lists()
    assert not two.unconsumed[two.nodes[1].id, two.nodes[0].id, POSTS], "its credit is given back"


@pytest.mark.parametrize(
    ("known", "refused"), [(b"\x00", b""), (b"", b"\x05\x00"), (b"\x00\x00", b"\x00\x00"), (b"\x00\x00\x00\x00", b"")]
)
def test_an_answer_about_records_that_were_not_sent_is_rejected(known: bytes, refused: bytes) -> None:
    two = Two()
    two.give(two.nodes[1], Fenced(True))
    key = next(key for key in KEYS if slot_of_key(key, 0, 8) >= 4)
    two.give(two.nodes[0], RecordAsked(1, "list", key, 1))
    answer = Injected(two.nodes[0].data._posts._ingest._last_number, known, refused, "", 0, b"", b"")
    payload = codec.encode_with_values(answer)
    two.unconsumed[two.nodes[1].id, two.nodes[0].id, 0] = len(payload)
    two.give(two.nodes[0], Delivered(two.nodes[1].id, 0, payload))
    assert len(two.nodes[0].rejected) == 1
    assert not two.outcomes
