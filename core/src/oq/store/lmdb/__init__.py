"""The embedded store: one directory, one LMDB environment, shared by the processes of one machine.

`layout.py` says what is kept where, `environment.py` opens it, `writer.py` and `ops.py` change it, `reader.py` reads
it, `check.py` doubts it, and `store.py` puts these together. Only this package knows LMDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oq.hookspecs import StoreFactory, hookimpl
from oq.store.lmdb.store import LmdbStore

if TYPE_CHECKING:
    from oq.config import Settings

__all__ = ["LmdbStore", "oq_stores"]


@hookimpl
def oq_stores() -> Mapping[str, StoreFactory]:
    """The scheme `lmdb://`; a plain path means the same."""
    return {"lmdb": _open}


def _open(location: str, settings: Settings) -> LmdbStore:
    return LmdbStore(location, durability=settings.queue.durability, max_bytes=settings.queue.max_bytes)
