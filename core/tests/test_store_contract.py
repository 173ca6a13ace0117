"""Every store that comes with oq passes the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from oq.store.base import Store
from oq.store.memory import MemoryStore
from oq.testing import StoreContract


class TestMemoryStore(StoreContract):
    def open_store(self, directory: Path) -> Store:
        return MemoryStore()


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
