"""The specification of a store, as tests that run over any store."""

from __future__ import annotations

from oq.testing.store_contract.adding import Adding
from oq.testing.store_contract.claiming import Claiming
from oq.testing.store_contract.deleting import Deleting
from oq.testing.store_contract.following import Following
from oq.testing.store_contract.keeping import Keeping
from oq.testing.store_contract.limiting import Limiting
from oq.testing.store_contract.moving import Moving
from oq.testing.store_contract.passing import Passing
from oq.testing.store_contract.reading import Reading
from oq.testing.store_contract.running import Running

__all__ = ["StoreContract"]


class StoreContract(Adding, Limiting, Claiming, Running, Moving, Following, Passing, Reading, Keeping, Deleting):
    """What every store does. Its author subclasses it, says how to open the store, and passes all of it::

        class TestMyStore(oq.testing.StoreContract):
            def open_store(self, directory):
                return MyStore(directory / "data")

            def reopen(self, store):      # where what it keeps outlives it
                store.close()
                return MyStore(store.location)

    After each test the store must also find itself whole (`Store.check`), its reads must fit together
    (`oq.testing.audit`), and its events must have told everything that happened.
    """
