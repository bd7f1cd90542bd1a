from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.history import KEPT, History, record, record_name


def stored(*epochs: int) -> dict[str, bytes]:
    return {record_name(epoch): record(epoch, b"%d" % epoch) for epoch in epochs}


def test_the_newest_are_kept_and_told_in_order() -> None:
    history = History({})
    assert (history.epoch, history.newest, history.since(1)) == (0, None, [])
    for epoch in range(1, KEPT + 3):
        history.add(epoch, b"%d" % epoch)
    assert (history.epoch, history.newest) == (KEPT + 2, b"%d" % (KEPT + 2))
    assert [epoch for epoch, _ in history.since(KEPT + 1)] == [KEPT + 1, KEPT + 2]
    assert [epoch for epoch, _ in history.since(3)] == list(range(3, KEPT + 3))
    assert [epoch for epoch, _ in history.since(2)] == [KEPT + 2]  # forgotten: the newest alone
    assert history.since(KEPT + 3) == []
    assert history.get(2) is None


def test_a_leap_forgets_what_was_before_it() -> None:
    history = History(stored(1, 2))
    history.add(9, b"9")
    assert history.since(2) == history.since(9) == [(9, b"9")]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_what_is_on_the_disk_comes_back_without_a_gap(steps: list[int]) -> None:
    """Whatever was leapt over: records of older epochs may still lie about."""
    history, disk = History({}), dict[str, bytes]()
    for step in steps:
        epoch = history.epoch + step
        history.add(epoch, b"%d" % epoch)
        disk |= stored(epoch)
    again = History(disk)
    assert len(disk) <= KEPT
    assert again.epoch == history.epoch
    epochs = [epoch for epoch, _ in again.since(again.epoch - KEPT + 1)] or [again.epoch]
    assert epochs == list(range(epochs[0], again.epoch + 1))
    assert all(again.get(epoch) == b"%d" % epoch for epoch in epochs)
