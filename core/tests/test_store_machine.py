"""Every store that comes with oq agrees with the reference, whatever is sent to it in whatever order.

`OQ_MACHINE_EXAMPLES=2000` runs that many examples; the default is made for a quick look at each change.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from oq.errors import LeaseLost, StoreUnavailable
from oq.store.base import Finish, Finished, Store
from oq.store.lmdb import LmdbStore
from oq.store.memory import MemoryStore
from oq.testing import store_machine

sys.path.insert(0, str(Path(__file__).parent))

from trouble.bugs import BUGS
from trouble.neighbour import NeighbourProcess
from trouble.writes import FailingWrites

EXAMPLES = int(os.environ.get("OQ_MACHINE_EXAMPLES", "0"))
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


pytestmark = pytest.mark.timeout(3_600 if EXAMPLES else 600)  # a failing example takes minutes to be made small


def profile(examples: int) -> settings:
    return settings(
        max_examples=EXAMPLES or examples, stateful_step_count=100, deadline=None, suppress_health_check=QUIET
    )


def open_store(directory: Path, kind: type[LmdbStore] = LmdbStore) -> Store:
    return kind(directory, durability="relaxed", initial_bytes=2**20, max_bytes=2**44)  # to grow often, without an end


def reopen(store: Store) -> Store:
    store.close()
    return open_store(Path(store.location), type(store))


@pytest.fixture(scope="module")
def neighbour():
    """A process that lives as long as the tests of this module."""
    neighbour = NeighbourProcess()
    yield neighbour
    neighbour.end()


def test_the_memory_store_agrees_with_itself():
    run_state_machine_as_test(store_machine(lambda _: MemoryStore()), settings=profile(10))


def test_the_lmdb_store_agrees_with_the_memory_store():
    run_state_machine_as_test(store_machine(open_store, reopen), settings=profile(40))


def test_the_lmdb_store_agrees_though_writes_fail_and_another_process_writes(neighbour):
    machine = store_machine(open_store, reopen, trouble=FailingWrites, neighbour=neighbour.beside)
    run_state_machine_as_test(machine, settings=profile(40))


class Forgiving(MemoryStore):
    """Takes a late finish for a good one."""

    def _finish(self, op: Finish) -> Finished:
        try:
            return super()._finish(op)
        except LeaseLost:
            return Finished()


def found_soon(examples: int = 100) -> settings:
    """Settings under which the first example that fails is the last, and not made small."""
    return settings(
        profile(examples), derandomize=True, phases=[Phase.generate], print_blob=False, report_multiple_bugs=False
    )


def test_the_machine_notices_a_store_that_takes_late_finishes():
    with pytest.raises(AssertionError, match="reply differently"):
        run_state_machine_as_test(store_machine(lambda _: Forgiving()), settings=found_soon())


@pytest.mark.parametrize("bug", BUGS)
def test_the_machine_notices_a_store_that(bug, neighbour):
    machine = store_machine(partial(open_store, kind=bug), reopen, trouble=FailingWrites, neighbour=neighbour.beside)
    with pytest.raises((AssertionError, StoreUnavailable)):
        run_state_machine_as_test(machine, settings=found_soon(200))
