"""The frame that every part of the contract stands in: a fresh store before each test, a thorough look after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oq.store.base import Store
from oq.testing.audit import audit
from oq.testing.driver import StoreDriver


class ContractFrame:
    """Opens a store for each test and looks it over when the test is done."""

    def open_store(self, directory: Path) -> Store:
        """A fresh, empty store; `directory` is an empty one that it may live in. Every subclass has one."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """Close the store and open it again with what it keeps. Stores that are durable override this."""
        pytest.skip(f"what {type(store).__name__} keeps does not outlive it")

    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[StoreDriver]:
        """Drives a fresh store; afterwards it must be whole, and its events must have told all."""
        driver = StoreDriver(store=self.open_store(tmp_path))
        try:
            yield driver
            assert driver.store.check() == [], "the store finds itself broken"
            assert audit(driver.store) == [], "what the store tells does not fit together"
            assert driver.unheard() == [], "a task changed without an event"
        finally:
            driver.store.close()
