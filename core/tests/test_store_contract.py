"""Every store that comes with oq passes the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from oq.errors import StoreInUse
from oq.store.base import AddMany, Store
from oq.store.memory import MemoryStore
from oq.testing import START, StoreContract, new_task

LANE = ("default", "test", "lane")


class TestMemoryStore(StoreContract):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore()


def test_one_queue_at_a_time_runs_an_exclusive_memory_store():
    store = MemoryStore()
    store.lock_run()
    with pytest.raises(StoreInUse):
        store.lock_run()
    store.unlock_run()
    store.lock_run()


def test_several_queues_may_run_a_memory_store_with_leases():
    store = MemoryStore(exclusive=False)
    store.lock_run()
    store.lock_run()


def test_a_memory_store_notices_what_is_missing_in_a_lane_and_what_is_too_much():
    store = MemoryStore()
    store.apply([AddMany(tasks=(new_task("a"), new_task("b")), now=START)])
    assert store.check() == []
    store._ready[LANE].append(store._ready[LANE][0])
    assert store.check() == ["the lanes hold 3 tasks, more than are ready"]
    del store._ready[LANE][0], store._ready[LANE][1]
    assert [sentence.partition(" is ")[0] for sentence in store.check()] == [
        "task a (#1)",
        "the lanes hold 1 tasks, more than are ready",
    ]


class TestMemoryStoreWithLeases(StoreContract):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore(exclusive=False)


class TestLmdbStore(StoreContract):
    def open_store(self, directory: Path) -> Store:
        try:
            from oq.store.lmdb import LmdbStore
        except ImportError as error:
            pytest.skip(f"the LMDB store cannot be imported: {error}")
        return LmdbStore(directory / "data", durability="relaxed")

    def reopen(self, store: Store) -> Store:
        from oq.store.lmdb import LmdbStore

        store.close()
        return LmdbStore(store.location, durability="relaxed")
