"""Opens the LMDB environment in a directory, hands out transactions, and lets its map grow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

import lmdb

from oq.errors import StoreFormat, StoreInUse, StoreUnavailable
from oq.store.lmdb.bindings import Table, Txn
from oq.store.lmdb.layout import FORMAT, NUMBER, TABLES

Durability = Literal["strict", "relaxed"]

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"
MAX_READERS = 1022
LOCK_BYTES = 2**17
"""More than LMDB needs in its lock file for that many readers."""
FULL_DISK = 2**20
"""Bytes free on a disk below which it is called full: LMDB calls a write cut short an input/output error."""
RESERVE = 64 * 2**20
"""Bytes past the limit that only the ends of running work may take."""

_open_here: set[Path] = set()
_open_here_lock = threading.Lock()
"""LMDB must not open one environment twice in a process; the set is process-wide because that rule is."""


class Environment:
    """An open LMDB environment."""

    def __init__(
        self, path: str | os.PathLike[str], durability: Durability, max_bytes: int, initial_bytes: int
    ) -> None:
        """Open or create; raises StoreInUse, StoreFormat or StoreUnavailable."""
        self.path = Path(path).absolute()
        self.location = str(path)
        self.max_bytes = max_bytes
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFormat(self.location, f"it is not a directory that can be written: {error}") from None
        self._metasync = durability == "strict"
        self._map_lock = threading.RLock()
        self._claim_path()
        try:
            is_new = not (self.path / DATA_FILE).exists()
            self._map_size = max(min(initial_bytes, max_bytes), _size_of(self.path / DATA_FILE))
            self._open()
            if is_new:
                _sync_directories(self.path)
        except OSError as error:
            self.close()
            raise StoreUnavailable(self.location, str(error)) from error
        except BaseException:
            self.close()
            raise

    def forget_dead_readers(self) -> None:
        """Forget readers whose process died, so that their pages can be used again."""
        self._env.reader_check()

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._release_path()

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A read transaction; keep it short."""
        with self._map_lock, self._begin(write=False) as txn:
            yield txn

    def begin_write(self) -> Txn:
        """A write transaction of this thread; waits for other processes. Raises StoreUnavailable."""
        try:
            return self._begin(write=True)
        except lmdb.Error as error:
            raise StoreUnavailable(self.location, str(error)) from error

    def grow(self, limit: int) -> bool:
        """Double the map, up to `limit` bytes; False when it is there already. No transaction may be open here."""
        with self._map_lock:
            if self._map_size >= limit:
                return False
            self._map_size = min(self._map_size * 2, limit)
            self._env.set_mapsize(self._map_size)
            return True

    def size(self) -> int:
        """Bytes of the data file that hold something, or did."""
        return int((self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"])

    def used(self, txn: Txn) -> int:
        """Bytes that hold something now, as `txn` sees it."""
        total = 0
        for stat in (txn.stat(), *(txn.stat(table) for table in self.tables.values())):
            total += stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return total

    def _begin(self, *, write: bool) -> Txn:
        try:
            return cast("Txn", self._env.begin(write=write))
        except lmdb.MapResizedError:  # another process let the map grow
            with self._map_lock:
                self._env.set_mapsize(0)
                self._map_size = self._env.info()["map_size"]
            return cast("Txn", self._env.begin(write=write))

    def _open_tables(self) -> dict[bytes, Table]:
        """The tables, made if there are none.

        In a write transaction, though it writes nothing where they exist: handles opened in py-lmdb's read transactions
        do not outlive them.
        """
        txn = self.begin_write()
        try:
            if txn.stat()["entries"]:
                tables = self._existing_tables(txn)
            else:
                tables = {name: self._table(name, txn, create=True) for name in TABLES}
                txn.put(b"format", NUMBER.pack(FORMAT), db=tables[b"meta"])
            txn.commit()
        except lmdb.Error as error:
            raise StoreUnavailable(self.location, str(error)) from error
        finally:
            txn.abort()
        return tables

    def _existing_tables(self, txn: Txn) -> dict[bytes, Table]:
        try:
            found = txn.get(b"format", db=self._table(b"meta", txn, create=False))
        except lmdb.Error:
            raise StoreFormat(self.location, "it holds an LMDB database that is not oq's") from None
        version = NUMBER.unpack(found)[0] if found and len(found) == NUMBER.size else None
        if version != FORMAT:
            raise StoreFormat(self.location, f"its format is {version}, this oq reads {FORMAT}")
        try:
            return {name: self._table(name, txn, create=False) for name in TABLES}
        except lmdb.NotFoundError as error:
            raise StoreFormat(self.location, f"a table is missing: {error}") from None

    def _table(self, name: bytes, txn: Txn, *, create: bool) -> Table:
        return self._env.open_db(name, txn=cast("lmdb.Transaction[bytes]", txn), create=create)

    def _claim_path(self) -> None:
        real = self.path.resolve()
        with _open_here_lock:
            if real in _open_here:
                raise StoreInUse(self.location, "this process, which has it open already")
            _open_here.add(real)

    def _release_path(self) -> None:
        with _open_here_lock:
            _open_here.discard(self.path.resolve())


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _open_error(location: str, error: lmdb.Error) -> StoreFormat | StoreUnavailable:
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
        return StoreFormat(location, f"{DATA_FILE} is not an LMDB database, or it is damaged ({error})")
    return StoreUnavailable(location, str(error))
