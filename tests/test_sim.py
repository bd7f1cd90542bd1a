"""The simulated cluster: fixed seeds, fresh seeds, and what they once found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from mesh.sim.faults import SlowDisk
from mesh.sim.scenario import MOODS, scenario_of
from mesh.sim.transcript import Transcript
from mesh.sim.world import World
from tests.sim_kit import finished, scenario, survive

ROOT = Path(__file__).parent.parent
FRESH = int(os.environ.get("HASHMESH_SEEDS_FROM") or Random().randrange(1_000_000, 1_000_000_000))


@pytest.mark.parametrize("seed", range(40))
def test_a_known_seed_holds(seed: int) -> None:
    survive(seed)


@pytest.mark.parametrize("offset", range(10))
def test_a_seed_that_nobody_has_seen_holds(offset: int) -> None:
    print(f"seeds from {FRESH}; HASHMESH_SEEDS_FROM={FRESH} runs them again")
    survive(FRESH + offset)


def test_the_known_seeds_have_every_mood_and_size() -> None:
    scenarios = [scenario_of(seed) for seed in range(40)]
    assert {each.copies for each in scenarios} == {1, 2, 3}
    assert {each.copies for each in scenarios if each.stores is not None} >= {1, 2}
    assert {each.mood for each in scenarios} == set(MOODS)
    assert {len(each.setups) for each in scenarios} >= {1, 2, 3, 4, 5, 7}


# -- a seed decides everything ----------------------------------------------------------------------------------------


def transcript_in_a_process(seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-P", str(ROOT / "tools" / "simulate.py"), "--seed", str(seed), "--verbose"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("seed", [8, 9, 3])  # the last is durable
def test_a_seed_gives_the_same_transcript_under_any_hash_seed(seed: int) -> None:
    first, second = (transcript_in_a_process(seed, hash_seed) for hash_seed in ("1", "4242"))
    assert first.count("\n") > 100
    assert first == second


def test_watching_a_world_changes_nothing_in_it() -> None:
    silent = World(scenario_of(8)).run()
    lines: list[str] = []
    assert World(scenario_of(8), Transcript(lines.append, verbose=True)).run() == silent


def test_a_transcript_reads_like_a_story() -> None:
    lines: list[str] = []
    World(scenario(SlowDisk(0, 100, "beta")), Transcript(lines.append)).run()
    assert all(re.fullmatch(r" *\d+\.\d{3} s  (alpha|beta|gamma|\*{5}) +\S.*", line) for line in lines), lines
    told = [re.sub(r"^ *\d+\.\d{3} s +", "", line) for line in lines]
    assert "*****    the disk of beta is slow for 100 ms" in told
    assert "alpha    sees beta" in told
    assert "alpha    takes the partition of epoch 1: 16 slots for alpha beta gamma" in told
    assert told[-1].startswith("*****    all is done and right: ")


# -- what it found ----------------------------------------------------------------------------------------------------


def test_a_witness_that_learns_the_partition_last_hears_that_the_job_is_done() -> None:
    slow_disk = SlowDisk(0, 4_000, "gamma")
    _, summary = finished(scenario(slow_disk, workers=2, witness=True, disks=True, pace=0))
    assert summary.done


def test_what_a_node_says_of_its_work_never_goes_back() -> None:
    """The answer to an effect once overtook the effects that were asked for before it."""
    _, summary = finished(scenario(workers=2))
    assert summary.done
