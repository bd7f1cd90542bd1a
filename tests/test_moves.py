"""Slots and their states move between living nodes while records flow: what comes out is what one process would do."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.moves_kit import Job, Moving

jobs = st.builds(
    Job,
    st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple),
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    st.booleans(),
)


@given(
    job=jobs,
    founders=st.integers(1, 4),
    slots=st.sampled_from([1, 4, 16]),
    window=st.sampled_from([1, 100, 1 << 20]),
    batch_records=st.sampled_from([1, 3, 4096]),
    changes=st.integers(0, 40),
    seed=st.integers(0, 1 << 32),
)
def test_slots_move_and_every_record_is_applied_once_in_order_where_it_belongs(
    job: Job, founders: int, slots: int, window: int, batch_records: int, changes: int, seed: int
) -> None:
    cluster = Moving(
        job,
        Random(seed),
        founders=founders,
        slots=slots,
        changes=changes,
        window=window,
        batch_records=batch_records,
    )
    cluster.run()
    cluster.check_everything_applied()
    cluster.check_states()
