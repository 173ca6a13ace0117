"""Every store that comes with oq agrees with the reference, whatever is sent to it in whatever order.

`OQ_MACHINE_EXAMPLES=2000` runs that many examples; the default is made for a quick look at each change.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from oq.errors import LeaseLost
from oq.store.base import Finish, Finished, Store
from oq.store.memory import MemoryStore
from oq.testing import store_machine

EXAMPLES = int(os.environ.get("OQ_MACHINE_EXAMPLES", "0"))
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


pytestmark = pytest.mark.timeout(3_600 if EXAMPLES else 600)  # a failing example takes minutes to be made small


def profile(examples: int) -> settings:
    return settings(
        max_examples=EXAMPLES or examples, stateful_step_count=100, deadline=None, suppress_health_check=QUIET
    )


def test_the_memory_store_agrees_with_itself():
    run_state_machine_as_test(store_machine(lambda _: MemoryStore()), settings=profile(10))


def test_the_lmdb_store_agrees_with_the_memory_store():
    try:
        from oq.store.lmdb import LmdbStore
    except ImportError as error:
        pytest.skip(f"the LMDB store cannot be imported: {error}")

    def open_store(directory: Path) -> Store:
        return LmdbStore(directory, durability="relaxed")

    def reopen(store: Store) -> Store:
        store.close()
        return LmdbStore(store.location, durability="relaxed")

    run_state_machine_as_test(store_machine(open_store, reopen), settings=profile(60))


class Forgiving(MemoryStore):
    """Takes a late finish for a good one."""

    def _finish(self, op: Finish) -> Finished:
        try:
            return super()._finish(op)
        except LeaseLost:
            return Finished()


def test_the_machine_notices_a_store_that_takes_late_finishes():
    found = settings(profile(100), derandomize=True, phases=[Phase.generate], print_blob=False)
    with pytest.raises(AssertionError, match="reply differently"):
        run_state_machine_as_test(store_machine(lambda _: Forgiving()), settings=found)
