"""The promises of DESIGN.md §4 hold in many worlds, and the simulation would notice if they did not.

Each world is a seed. `SIMULATION_SEEDS=1000` runs more of them; `make simulate` does so outside of pytest.
"""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from simulation.determinism import run_deterministically
from simulation.planted import BUGS, planted
from simulation.simulate import simulate

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "100"))
TASKS = 40
AT_ONCE = 10

OFTEN_ENOUGH = 30
"""Seeds within which a bug must be found."""
MUST_BE_FOUND = (
    "a late finish of an old epoch is accepted",
    "the ready entry is not removed on a claim",
    "units are not released at a timeout",
    "a cancel is not fenced",
    "the timer is not set for an earlier moment",
)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_promise_holds_in_the_worlds_of_these_seeds(first):
    for seed in range(first, min(first + AT_ONCE, SEEDS)):
        report = simulate(seed, TASKS)
        assert report.violation is None, str(report)


@pytest.mark.parametrize("bug", MUST_BE_FOUND)
def test_a_planted_bug_is_found(bug):
    with planted(bug):
        reports = (simulate(seed, TASKS, "memory") for seed in range(OFTEN_ENOUGH))
        assert any(report.violation is not None for report in reports)


@pytest.mark.parametrize("bug", BUGS)
def test_what_is_to_be_planted_still_fits_the_code(bug):
    with planted(bug):
        pass


def test_a_report_of_a_failure_says_all_that_is_needed_to_see_it_again():
    with planted("priorities are ignored"):
        report = next(report for seed in range(OFTEN_ENOUGH) if (report := simulate(seed, TASKS, "memory")).violation)
    text = str(report)
    assert f"SEED={report.plan.seed} COUNT=1 TASKS={TASKS}" in text
    assert "promise 3 is broken: " in text
    assert len(report.violation.trace) > 10


class TestDeterminism:
    @pytest.mark.parametrize("seed", [1, 2, 3, 8])
    def test_a_seed_runs_the_same_way_again(self, seed):
        assert simulate(seed, TASKS).trace == simulate(seed, TASKS).trace

    def test_other_processes_with_other_hashes_run_a_seed_the_same_way(self):
        assert _trace_elsewhere("1") == _trace_elsewhere("2") == _digest(simulate(5, TASKS).trace)

    def test_trio_takes_its_chance_from_the_seed(self):
        assert _order_of_tasks(7) == _order_of_tasks(7)
        assert len({_order_of_tasks(seed) for seed in range(10)}) > 5

    def test_trio_is_as_it_was_afterwards(self):
        run = trio._core._run
        before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
        _order_of_tasks(7)
        assert (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()) == before

    def test_the_clock_jumps_and_says_so_before(self):
        moments = []

        async def main():
            await trio.sleep(3600)
            await trio.sleep(10)

        run_deterministically(1, main, lambda: moments.append(trio.current_time()))
        assert [moment for moment in moments if moment < 3610] == [0, 3600]


def _order_of_tasks(seed):
    order = []

    async def step(name):
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(name)

    async def main():
        async with trio.open_nursery() as nursery:
            for name in random.Random(0).sample("abcdef", 6):
                nursery.start_soon(step, name)

    run_deterministically(seed, main, lambda: None)
    return "".join(order)


def _digest(trace):
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()


def _trace_elsewhere(hash_seed):
    command = [sys.executable, str(Path(__file__).parent), "--seed", "5", "--tasks", str(TASKS), "--digest"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return out.split()[0]
