"""The whole queue on virtual time with faults: many seeds in which every promise holds, and bugs that they find."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulation.planted import planted
from simulation.simulate import simulate

SEEDS = int(os.environ.get("OQ_SIMULATION_SEEDS", "100"))
SOON = 60
"""Seeds within which a planted bug must be found."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, 20))
def test_every_promise_holds_whatever_goes_wrong(first):
    for seed in range(first, min(first + 20, SEEDS + 1)):
        report = simulate(seed)
        assert report.violation is None, str(report)


def test_a_seed_gives_the_same_run_to_the_last_event():
    assert simulate(7).trace == simulate(7).trace


@pytest.mark.parametrize(
    "bug",
    [
        "a late finish of an old epoch is accepted",
        "the ready entry is not removed on a claim",
        "units are not released at a timeout",
        "priorities are ignored",
        "a requeue starts epochs anew",
    ],
)
def test_a_planted_bug_is_found_soon(bug):
    with planted(bug):
        assert any(simulate(seed).violation is not None for seed in range(1, SOON + 1))
