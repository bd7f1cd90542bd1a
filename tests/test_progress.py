"""Nobody claims early, whatever becomes of the reports; everybody claims in the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mesh.core.progress import Progress


class ProgressMachine(RuleBasedStateMachine):
    """Nodes with records at levels; one moves up a level, perhaps at another node, or is gone. A node claims when it
    may and has nothing of its own. Reports are kept for ever and delivered at any time, in any order, any number of
    times.
    """

    @initialize(
        nodes=st.integers(1, 4),
        levels=st.integers(1, 4),
        records=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 0)), max_size=8),
    )
    def begin(self, nodes: int, levels: int, records: list[tuple[int, int]]) -> None:
        self.ids = [bytes([number]) * 16 for number in range(nodes)]
        self.levels = levels
        self.records = [(at % nodes, level) for at, level in records]  # all sources begin at level 0
        self.progress = [Progress(levels) for _ in self.ids]
        self.flushed = [False] * nodes
        self.reports = [(number, 0, True) for number in range(nodes)]
        for me, progress in enumerate(self.progress):
            progress.set_workers(each for each in self.ids if each != self.ids[me])

    @rule(data=st.data(), to=st.integers(0, 3), up=st.booleans())
    def a_record_moves(self, data: Any, to: int, up: bool) -> None:
        if not self.records:
            return
        at, level = self.records.pop(data.draw(st.integers(0, len(self.records) - 1)))
        assert self.progress[at].drained <= level, "a level was drained where it still had a record"
        if up and level + 1 < self.levels:
            self.records.append((to % len(self.ids), level + 1))

    @rule(node=st.integers(0, 3))
    def claims(self, node: int) -> None:
        node %= len(self.ids)
        progress = self.progress[node]
        if progress.may_drain() and not any(at == node for at, _ in self.records):
            progress.drain()
        elif progress.may_flush() and not self.flushed[node]:
            assert not self.records, "flushed with records on their way"
            self.flushed[node] = True
            progress.flushed()
        self.reports.append((node, progress.drained, any((at, level) == (node, 0) for at, level in self.records)))

    @rule(data=st.data(), to=st.integers(0, 3))
    def a_report_arrives(self, data: Any, to: int) -> None:
        sender, drained, reading = data.draw(st.sampled_from(self.reports))
        to %= len(self.ids)
        if sender != to:
            self.progress[to].reported(self.ids[sender], drained, reading)

    @rule(to=st.integers(0, 3), drained=st.integers(0, 9))
    def a_stranger_reports(self, to: int, drained: int) -> None:
        self.progress[to % len(self.ids)].reported(b"stranger" * 2, drained, False)

    @invariant()
    def done_is_never_early(self) -> None:
        for progress in getattr(self, "progress", []):
            if progress.done():
                assert not self.records
                assert all(self.flushed)

    @invariant()
    def nobody_is_ahead_by_more_than_one(self) -> None:
        claims = [each.drained for each in getattr(self, "progress", [])]
        assert not claims or max(claims) - min(claims) <= 1

    def teardown(self) -> None:
        """With all records gone and all reports delivered, everybody gets to the end."""
        if not hasattr(self, "progress"):
            return
        self.records.clear()
        for _ in range(self.levels + 3):
            for node in range(len(self.ids)):
                self.claims(node)
            for sender, progress in enumerate(self.progress):
                for to, other in enumerate(self.progress):
                    if sender != to:
                        other.reported(self.ids[sender], progress.drained, False)
        assert all(progress.done() for progress in self.progress)


TestProgress = ProgressMachine.TestCase


def test_a_node_alone_goes_through_all_levels_by_itself() -> None:
    progress = Progress(2)
    progress.set_workers([])
    progress.drain()
    assert not progress.may_flush()
    progress.drain()
    assert not progress.may_drain()
    assert progress.may_flush()
    assert not progress.done()
    progress.flushed()
    assert progress.done()
    assert not progress.may_flush()


def test_an_older_report_takes_nothing_back() -> None:
    other = b"o" * 16
    progress = Progress(1)
    progress.set_workers([other])
    progress.reported(other, 1, False)
    progress.reported(other, 0, False)
    progress.drain()
    assert progress.may_flush()


def test_a_level_cannot_be_drained_before_the_others_have_drained_those_below() -> None:
    progress = Progress(2)
    progress.set_workers([b"o" * 16])
    progress.reported(b"o" * 16, 0, False)
    progress.drain()
    assert not progress.may_drain()
    with pytest.raises(AssertionError):
        progress.drain()


def test_nobody_is_through_with_reading_while_others_have_splits_that_they_may_give_away() -> None:
    reader, idle = b"r" * 16, b"i" * 16
    progress = Progress(1)
    progress.set_workers([reader, idle])
    progress.reported(idle, 0, False)
    assert not progress.may_drain(), "one has said nothing yet"
    progress.reported(reader, 0, True)
    assert not progress.may_drain()
    progress.reported(reader, 0, False)
    assert progress.may_drain()


def test_who_left_properly_is_not_asked_and_who_is_gone_otherwise_is() -> None:
    leaver, lost, late = b"v" * 16, b"x" * 16, b"n" * 16
    progress = Progress(1)
    progress.set_workers([leaver, lost])
    progress.set_workers([late], [leaver])
    for node in (lost, late):
        progress.reported(node, 0, False)
    progress.drain()
    progress.reported(late, 1, False)
    assert not progress.may_flush(), "one took its work along"
    progress.reported(lost, 1, False)
    assert progress.may_flush()


def test_what_a_worker_has_claimed_stands_when_others_come() -> None:
    one, two = b"1" * 16, b"2" * 16
    progress = Progress(1)
    progress.set_workers([one])
    progress.reported(one, 1, False)
    progress.drain()
    progress.set_workers([one, two])
    assert not progress.may_flush()
    progress.reported(two, 1, False)
    assert progress.may_flush()
