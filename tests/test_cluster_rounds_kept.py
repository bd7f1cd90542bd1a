"""The ten rounds of `test_cluster_rounds` where each slot has two copies, all of it on disk.

Who comes again under its old name finds its directory as it left it: what the others have gone on without.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.deaths_kit import directory, on_disk
from tests.test_cluster_rounds import THREE, Rounds, ten_rounds
from tests.windows_kit import windows


@pytest.mark.parametrize("seed", [1])
def test_ten_rounds_of_join_and_leave_with_copies_on_disk(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    random = Random(seed)
    with windows(tmp_path, *THREE, **on_disk(*THREE, copies=2)) as made:
        ten_rounds(made, random, Rounds(made, random, lambda name: ("--data-dir", directory(name))), copied=True)
