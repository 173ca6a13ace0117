"""What a process takes of memory does not grow with the tasks that it has run, nor with listeners that do not keep up.

`OQ_MEMORY_TASKS=200000` runs that many tasks; the default is made for a quick look at each change.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = int(os.environ.get("OQ_MEMORY_TASKS", "60000"))
CHURN = Path(__file__).with_name("churn.py")
MARGIN = 2**20
"""Bytes by which it may grow after the first fifth of the tasks: 22 for each of the others by default."""


pytestmark = [
    pytest.mark.timeout(60 + TASKS / 1_000),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read the memory from"),
]


def growth(path, what):
    """Bytes by which a process grows at most after the first fifth of its tasks, with slow listeners attached."""
    command = [sys.executable, CHURN, path / "queue", str(TASKS), what]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    _, before, *after = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    return max(after) - before


def test_memory_stays_flat_while_many_tasks_run(tmp_path):
    assert growth(tmp_path, "run") < MARGIN


def test_tasks_that_wait_take_no_memory(tmp_path):
    assert growth(tmp_path, "wait") < MARGIN
