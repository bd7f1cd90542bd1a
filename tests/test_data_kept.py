"""Data planes that keep copies do what those do that keep none, and every copy has all of it."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data_kept_kit import KeptCluster
from tests.test_data import Shape, built, expected, shapes


@settings(max_examples=30)
@given(
    shape=shapes(),
    owners=st.integers(1, 4),
    copies=st.integers(1, 3),
    witnesses=st.integers(0, 1),
    slots=st.sampled_from([4, 16]),
    window=st.sampled_from([1, 60, 500, 1 << 20]),
    batch_records=st.sampled_from([1, 3, 4096]),
    seed=st.integers(0, 1 << 32),
)
def test_many_nodes_do_what_one_process_would(
    shape: Shape, owners: int, copies: int, witnesses: int, slots: int, window: int, batch_records: int, seed: int
) -> None:
    cluster = KeptCluster(
        built(shape),
        Random(seed),
        owners=owners,
        copies=copies,
        witnesses=witnesses,
        slots=slots,
        window=window,
        batch_records=batch_records,
    )
    cluster.run()
    wanted = expected(shape)
    for number, states in enumerate(wanted.states):
        got = cluster.states(f"t{number}")
        if shape.stages[number].kind == "class":
            got = {key: sorted(kept.values) for key, kept in got.items()}
        assert got == states
    assert cluster.total("records_keyed") == wanted.keyed
    for producer, outputs in enumerate(wanted.outputs):
        assert Counter(cluster.items(producer)) == outputs
    assert not any(node.rejected for node in cluster.nodes)
    cluster.come_to_rest()
    cluster.check_copies()
