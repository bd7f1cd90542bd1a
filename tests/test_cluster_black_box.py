"""The whole of it from outside: unique ids in, states and a directory of lines out, while nodes are killed, paused, cut
off, joined and drained, in an order drawn from a seed. Needs root and iproute2 on Linux, for the cuts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.deaths_kit import Splits
from tests.namespace_kit import hosted, why_not
from tests.test_cluster_rounds import the_same_as_in_one_process
from tests.windows_kit import EXAMPLE, Producer, start_windows

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

FOUR = ("alpha", "beta", "gamma", "delta")


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_doubled_or_out_of_order_whatever_is_done_to_the_nodes(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with hosted(tmp_path, *FOUR, app=EXAMPLE, copies=2) as made:
        start_windows(made)
        splits = Splits(made, random, 2)
        splits.until_at_rest()
        producers = [Producer(f"p{number}", made, Random(random.random()), copied=True) for number in range(2)]
        for producer in producers:
            producer.start()
        splits.one_of_each()
        for producer in producers:
            producer.stop()
            print(producer.name, dict(producer.answers), f"{producer.reads} reads, {len(producer.sent)} lines")
            assert producer.reads
        the_same_as_in_one_process(made, [line for producer in producers for line in producer.sent], random)
        assert made.alarms_of("partition.lost", "node.crashed", "record.set_aside") == []
        assert made.noise() == []
