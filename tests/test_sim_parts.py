"""The simulator's own parts: the network does what it says, the books notice what they must, the command says it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from mesh.core.link import Links
from mesh.runtime.embedded import Embedded
from mesh.sim.drawn import random_workload
from mesh.sim.ledger import Ledger
from mesh.sim.network import Conditions, Letter, Network
from mesh.sim.scenario import scenario_of
from mesh.sim.workload import Line, Record, StageShape, tally
from tests.sim_kit import small_workload
from tools import simulate

AB, BA = ("a", "b"), ("b", "a")


# -- the network ------------------------------------------------------------------------------------------------------


class Wire:
    """A network on a clock of its own; what arrives is noted with its time."""

    def __init__(self, conditions: Conditions) -> None:
        self.now = 0
        self.arrived: list[tuple[int, bytes]] = []
        self._heap: list[tuple[int, int, Callable[[Letter], None], Letter]] = []
        self.network = Network(conditions, Random(1), self._at, self._deliver)

    def _at(self, time: int, function: Callable[[Letter], None], letter: Letter) -> None:
        heapq.heappush(self._heap, (time, len(self._heap) + 1_000 * time, function, letter))

    def _deliver(self, letter: Letter) -> None:
        self.arrived.append((self.now, letter.parts[0]))

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.network.send(AB, [b"%d" % number], self.now)

    def run(self, until: int) -> list[bytes]:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, function, letter = heapq.heappop(self._heap)
            function(letter)
        self.now = until
        return [part for _, part in self.arrived]


def test_a_message_takes_its_delay_and_never_more_than_the_jitter() -> None:
    wire = Wire(Conditions(delay=5, jitter=3, in_order=False))
    wire.send(*range(50))
    wire.run(100)
    assert {time for time, _ in wire.arrived} == {5, 6, 7, 8}


def test_messages_in_order_do_not_overtake_and_others_do() -> None:
    numbers = [b"%d" % number for number in range(50)]
    for in_order in (True, False):
        wire = Wire(Conditions(jitter=30, in_order=in_order))
        wire.send(*range(50))
        assert (wire.run(100) == numbers) == in_order


def test_a_share_is_lost_and_a_share_is_doubled() -> None:
    lossy = Wire(Conditions(lost=200))
    lossy.send(*range(1000))
    assert 150 < 1000 - len(lossy.run(10)) == lossy.network.lost < 250
    doubling = Wire(Conditions(doubled=200))
    doubling.send(*range(1000))
    assert 150 < len(doubling.run(10)) - 1000 == doubling.network.doubled < 250


def test_a_cut_stops_one_direction_until_it_is_mended_as_often_as_it_was_cut() -> None:
    wire = Wire(Conditions(delay=2))
    wire.network.cut(AB, wire.now)
    wire.network.cut(AB, wire.now)
    wire.send(1)
    wire.network.send(BA, [b"back"], 0)
    assert wire.run(10) == [b"back"]
    wire.network.mend(AB, 10)
    wire.send(2)
    wire.network.mend(AB, 10)
    wire.send(3)
    assert wire.run(20) == [b"back", b"3"]


def test_a_cut_that_holds_back_delivers_in_order_when_it_is_mended() -> None:
    wire = Wire(Conditions(delay=5, holds_back=True))
    wire.send(1)
    wire.run(2)
    wire.network.cut(AB, wire.now)  # the first is on its way and must wait as well
    wire.send(2, 3)
    assert wire.run(50) == []
    wire.network.mend(AB, 50)
    assert sorted(wire.run(60)) == [b"1", b"2", b"3"]


def test_a_reset_loses_what_is_on_its_way_in_that_direction_and_nothing_later() -> None:
    wire = Wire(Conditions(delay=5))
    wire.send(1, 2)
    wire.network.send(BA, [b"back"], 0)
    wire.network.reset(AB)
    wire.send(3)
    assert wire.run(10) == [b"back", b"3"]


# -- the workload and its books ---------------------------------------------------------------------------------------


class Nobody:
    """An observer that looks away."""

    def __init__(self) -> None:
        self._random = Random(1)

    def reading(self, stream: str, offset: int, lines: Sequence[Line]) -> None: ...

    def stepping(self, stage: int, record: Record, count: int) -> None: ...

    def writing(self, sink: str, items: Sequence[Any]) -> None: ...

    def random(self) -> Random:
        return self._random


@pytest.mark.parametrize("seed", range(20))
def test_the_oracle_says_what_one_process_does(seed: int) -> None:
    workload = random_workload(Random(seed), 400)
    embedded = Embedded(workload.plan(Nobody()), slots=16)
    embedded.run()
    states = [stage.states for stage in embedded.data.owner.stages]
    assert [{key: tally(state) for key, state in each.items()} for each in states] == workload.expected()


def test_some_workloads_have_records_in_trouble() -> None:
    workload = small_workload(1, StageShape("step", 20, True), lines=400)
    numbers = range(1_600)
    assert {workload.fate(0, number) for number in numbers} == {"out", "quiet", "raises"}
    assert {type(workload.key(0, number)) for number in numbers} == {str, float, type(None)}


LINES = [("0/0", 0, (0, 20, 40))]  # three records of one key at stage 0


def ledger() -> Ledger:
    made = Ledger(small_workload(1, lines=1))
    made.reading(b"reader", "0/0", 0, LINES)
    return made


@pytest.mark.parametrize(
    ("seqs", "rule", "why"),
    [
        ([0, 0], "I8", "again"),
        ([0, 1, 1], "I8", "again"),
        ([3], "I8", "nobody sent it"),
        ([1], "I9", "before 0"),
        ([0, 2], "I9", "before 1"),
    ],
)
def test_the_ledger_notices_what_comes_twice_too_early_or_from_nowhere(seqs: list[int], rule: str, why: str) -> None:
    book = ledger()
    for seq in seqs:
        book.stepping(b"owner", 0, ("0/0", seq, 20 * seq), 1)
    assert [violation.rule for violation in book.found] == [rule]
    assert why in book.found[0].detail


def test_the_ledger_is_complete_when_every_consumer_has_all_it_is_owed() -> None:
    book = ledger()
    key = small_workload().key(1, 0)
    for seq in range(3):
        book.stepping(b"owner", 0, ("0/0", seq, 20 * seq), seq + 1)
        assert not book.complete()
        book.stepping(b"owner", 1, ("0:key-0", seq + 1, 20 * seq), seq + 1)
        assert not book.complete()
        book.writing("last", [(key, (seq + 1, 0, 20 * seq))])
    assert not book.found
    assert book.arrived == book.sent


def test_the_ledger_notices_a_second_reader_and_a_line_left_out() -> None:
    book = ledger()
    book.reading(b"reader", "0/0", 5, [])
    book.reading(b"another", "0/0", 0, [])
    assert [violation.detail for violation in book.found] == [
        "split 0/0 is read from line 5, and 1 was the next",
        "split 0/0 is read from line 0, and 5 was the next",
    ]
    assert book.readers("0/0") == [b"reader", b"another"]


# -- the command ------------------------------------------------------------------------------------------------------


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--seeds", "3", "--start", "5", "--nodes", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("3 seeds, 0 of them durable, in ")
    assert first.endswith(": all hold")


def test_a_failing_seed_is_named_with_the_line_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Links, "_expected", lambda self, link, number: min(number, link.received + 1))
    seed = next(seed for seed in range(100) if scenario_of(seed, 3).conditions.doubled and scenario_of(seed, 3).pace)
    assert simulate.main(["--seeds", "1", "--start", str(seed), "--nodes", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"seed {seed} FAILS: I18: ")
    assert lines[1] == f"  python tools/simulate.py --seed {seed} --nodes 3"
    assert simulate.main(lines[1].split()[2:]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == lines[0].replace(f"seed {seed} FAILS:", "VIOLATED")


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--nodes", "51"], ["--seeds", "3", "--seed", "1"]])
def test_a_wrong_option_is_a_mistake_in_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        simulate.main(arguments)
    assert stopped.value.code == 2
