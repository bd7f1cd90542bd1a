"""`mesh keys`: a walk through the pages of a door."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mesh.runtime.status import KeysPage
from nodes.commands import listing
from tests.commands import call_mesh
from tests.served import FakeNode, serving

Capture = pytest.CaptureFixture[str]
ALL = ['"a\\n"', '"é"', "-3", "12", '{"bytes":"AA"}']


@pytest.fixture
def node() -> FakeNode:
    keys: list[str | int | bytes] = [12, "é", b"\x00", "a\n", -3]
    return FakeNode(states={("count", key): 1 for key in keys})


@pytest.fixture
def at(node: FakeNode) -> Iterator[str]:
    with serving(node) as url:
        yield url


@pytest.mark.parametrize("in_a_page", [1, 2, 5, 10_000])
def test_all_pages_are_walked_one_key_a_line(
    capsys: Capture, at: str, monkeypatch: pytest.MonkeyPatch, in_a_page: int
) -> None:
    monkeypatch.setattr(listing, "MAX_LIMIT", in_a_page)
    ended = call_mesh(capsys, "keys", "count", "--at", at)
    assert (ended.code, ended.out.splitlines(), ended.err) == (0, ALL, "")


@pytest.mark.parametrize("in_a_page", [1, 2, 10_000])
def test_a_limit_is_kept(capsys: Capture, at: str, monkeypatch: pytest.MonkeyPatch, in_a_page: int) -> None:
    monkeypatch.setattr(listing, "MAX_LIMIT", in_a_page)
    assert call_mesh(capsys, "keys", "count", "--limit", "3", "--at", at).out.splitlines() == ALL[:3]
    assert call_mesh(capsys, "keys", "count", "--limit", "9", "--at", at).out.splitlines() == ALL
    ended = call_mesh(capsys, "keys", "count", "--limit", "1", "--key-type", "int", "--at", at)
    assert ended.out.splitlines() == ["-3"]


@pytest.mark.parametrize(("key_type", "shown"), [("str", ALL[:2]), ("int", ALL[2:4]), ("bytes", ALL[4:])])
def test_keys_of_one_type(capsys: Capture, at: str, key_type: str, shown: list[str]) -> None:
    assert call_mesh(capsys, "keys", "count", "--key-type", key_type, "--at", at).out.splitlines() == shown


@pytest.mark.parametrize("in_a_page", [2, 10_000])
def test_json_is_one_page_of_all_that_was_asked_for(
    capsys: Capture, at: str, monkeypatch: pytest.MonkeyPatch, in_a_page: int
) -> None:
    monkeypatch.setattr(listing, "MAX_LIMIT", in_a_page)
    ended = call_mesh(capsys, "keys", "count", "--json", "--at", at)
    assert ended.out == f'{{"keys":[{",".join(ALL)}],"next":null}}\n'
    body = json.loads(call_mesh(capsys, "keys", "count", "--json", "--limit", "3", "--at", at).out)
    assert body["keys"] == json.loads(f"[{','.join(ALL[:3])}]")
    assert body["next"]


def test_a_number_of_many_digits(capsys: Capture, at: str, node: FakeNode) -> None:
    node.states = {("count", 10**6000): 1, ("count", 1): 1}
    assert call_mesh(capsys, "keys", "count", "--at", at).out.split() == ["1", "1" + "0" * 6000]


class Moving(FakeNode):
    """Slots move between the first page and the second."""

    refusals = 0

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        if after is not None and self.refusals > 0:
            self.refusals -= 1
            return KeysPage("unavailable", why="slot 0 is pending")
        return super().keys(stage, limit, after, timeout)


def test_a_walk_waits_for_slots_that_move_but_not_for_ever(
    capsys: Capture, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_LIMIT", 2)
    monkeypatch.setattr(listing, "PAUSE_SECONDS", 0.001)
    moving = Moving(states=node.states)
    with serving(moving) as at:
        moving.refusals = 2
        assert call_mesh(capsys, "keys", "count", "--at", at).out.splitlines() == ALL
        monkeypatch.setattr(listing, "PATIENCE_SECONDS", 0.0)
        moving.refusals = 1_000_000
        ended = call_mesh(capsys, "keys", "count", "--at", at)
    assert (ended.code, ended.out.splitlines(), ended.err) == (3, ALL[:2], "mesh: slot 0 is pending\n")


def test_a_node_that_cannot_answer_is_told_at_once(capsys: Capture, at: str, node: FakeNode) -> None:
    node.unavailable = True
    ended = call_mesh(capsys, "keys", "count", "--json", "--at", at)
    assert (ended.code, json.loads(ended.out)["error"], ended.err) == (3, "unavailable", "mesh: slot 7 is pending\n")
