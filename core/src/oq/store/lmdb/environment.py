"""Opens the LMDB environment in a directory, hands out transactions, and lets its map grow."""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

import lmdb

from oq.errors import DamagedRecord, StoreFormat, StoreInUse, StoreUnavailable
from oq.store.lmdb.bindings import Table, Txn
from oq.store.lmdb.layout import FORMAT, NUMBER, TABLES

log = logging.getLogger(__name__)

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
BAD_KEY = (struct.error, UnicodeDecodeError)
"""What comes of a damaged key, which has no checksum of its own."""

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
        self._env: lmdb.Environment | None = None
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
        with self._map_lock:
            if self._env is not None:
                self._env.reader_check()

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._release_path()

    @contextmanager
    def read(self) -> Iterator[Txn]:
        """A read transaction; keep it short. Raises DamagedRecord for a damaged page, and StoreUnavailable."""
        try:
            with self._map_lock, self._begin(write=False) as txn:
                yield txn
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, *BAD_KEY) as error:
            raise DamagedRecord("data file", self.location, str(error)) from error
        except lmdb.Error as error:
            raise self.refusal(error) from error

    def begin_write(self) -> Txn:
        """A write transaction of this thread; waits for other processes. Raises StoreUnavailable."""
        try:
            return self._begin(write=True)
        except lmdb.Error as error:
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> StoreUnavailable:
        """What to tell of an error of LMDB or the operating system."""
        disk = os.statvfs(self.path)
        if disk.f_bavail * disk.f_frsize < FULL_DISK:
            return StoreUnavailable(self.location, f"the disk is full ({error})")
        return StoreUnavailable(self.location, str(error))

    def grow(self, limit: int) -> bool:
        """Double the map, up to `limit` bytes; False when it is there already. Raises StoreUnavailable.

        No transaction may be open here.
        """
        with self._map_lock:
            if self._map_size >= limit:
                return False
            try:
                self._resize(self._there, min(self._map_size * 2, limit))
            except lmdb.Error as error:
                raise self.refusal(error) from error
            return True

    def size(self) -> int:
        """Bytes of the data file that hold something, or did."""
        return int((self._there.info()["last_pgno"] + 1) * self._there.stat()["psize"])

    def is_over(self, txn: Txn, limit: int) -> bool:
        """Whether more than so many bytes hold something now."""
        return self.size() > limit and self.used(txn) > limit

    def used(self, txn: Txn) -> int:
        """Bytes that hold something now, as `txn` sees it."""
        total = 0
        for stat in (txn.stat(), *(txn.stat(table) for table in self.tables.values())):
            total += stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return total

    @property
    def _there(self) -> lmdb.Environment:
        """The environment; raises StoreUnavailable while it cannot be opened again."""
        if self._env is None:
            raise StoreUnavailable(self.location, "it is closed after a failed write")
        return self._env

    def _begin(self, *, write: bool) -> Txn:
        if self._env is None:
            self._reopen()
        try:
            return self._begin_in(self._there, write=write)
        except lmdb.PanicError:  # the write that completes a commit failed: LMDB refuses everything from then on
            self._reopen()
        return self._begin_in(self._there, write=write)

    def _begin_in(self, env: lmdb.Environment, *, write: bool) -> Txn:
        while True:
            size = self._map_size
            try:
                return cast("Txn", env.begin(write=write))
            except lmdb.MapResizedError:  # another process let the map grow
                with self._map_lock:
                    if self._map_size == size:  # else another thread has seen to it, and may be writing by now
                        self._resize(env, 0)

    def _resize(self, env: lmdb.Environment, size: int) -> None:
        """Give the map this size; 0 for what another process gave it. Raises lmdb.Error."""
        try:
            env.set_mapsize(size)
        except lmdb.Error:
            if self._env is env and _is_closed(env):  # no address space was left, say; it has to be opened again
                self._env = None
                env.close()
            raise
        self._map_size = size or env.info()["map_size"]

    def _reopen(self) -> None:
        """Open the environment anew, unless another thread just did; raises StoreUnavailable."""
        with self._map_lock:
            if self._env is not None:
                try:
                    self._env.begin().abort()
                except lmdb.PanicError:
                    log.warning("%s is opened again after a failed write", self.location)
                    env, self._env = self._env, None
                    env.close()
                else:
                    return
            try:
                self._open()
            except (OSError, StoreFormat) as error:
                raise self.refusal(error) from error

    def _open(self) -> None:
        """Open the environment and its tables. Raises StoreFormat, StoreUnavailable and OSError."""
        _reserve(self.path / LOCK_FILE, LOCK_BYTES)
        try:
            self._env = lmdb.open(
                str(self.path),
                map_size=self._map_size,
                max_dbs=len(TABLES),
                max_readers=MAX_READERS,
                metasync=self._metasync,
                meminit=False,
            )
        except lmdb.Error as error:
            if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
                reason = f"{DATA_FILE} is not an LMDB database, or it is damaged ({error})"
                raise StoreFormat(self.location, reason) from error
            raise self.refusal(error) from error
        try:
            self._env.reader_check()
            self.tables = self._open_tables(self._env)
        except BaseException:
            env, self._env = self._env, None
            env.close()
            raise

    def _open_tables(self, env: lmdb.Environment) -> dict[bytes, Table]:
        """The tables, made if there are none.

        In a write transaction, though it writes nothing where they exist: handles opened in py-lmdb's read transactions
        do not outlive them.
        """
        try:
            txn = self._begin_in(env, write=True)
        except lmdb.Error as error:
            raise self.refusal(error) from error
        try:
            if txn.stat()["entries"]:
                tables = self._existing_tables(env, txn)
            else:
                tables = {name: _table(env, name, txn, create=True) for name in TABLES}
                txn.put(b"format", NUMBER.pack(FORMAT), db=tables[b"meta"])
            txn.commit()
        except lmdb.Error as error:
            raise self.refusal(error) from error
        finally:
            txn.abort()
        return tables

    def _existing_tables(self, env: lmdb.Environment, txn: Txn) -> dict[bytes, Table]:
        try:
            found = txn.get(b"format", db=_table(env, b"meta", txn, create=False))
        except lmdb.Error:
            raise StoreFormat(self.location, "it holds an LMDB database that is not oq's") from None
        version = NUMBER.unpack(found)[0] if found and len(found) == NUMBER.size else None
        if version != FORMAT:
            raise StoreFormat(self.location, f"its format is {version}, this oq reads {FORMAT}")
        try:
            return {name: _table(env, name, txn, create=False) for name in TABLES}
        except lmdb.NotFoundError as error:
            raise StoreFormat(self.location, f"a table is missing: {error}") from None

    def _claim_path(self) -> None:
        real = self.path.resolve()
        with _open_here_lock:
            if real in _open_here:
                raise StoreInUse(self.location, "this process, which has it open already")
            _open_here.add(real)

    def _release_path(self) -> None:
        with _open_here_lock:
            _open_here.discard(self.path.resolve())


def _table(env: lmdb.Environment, name: bytes, txn: Txn, *, create: bool) -> Table:
    return env.open_db(name, txn=cast("lmdb.Transaction[bytes]", txn), create=create)


def _is_closed(env: lmdb.Environment) -> bool:
    """Whether py-lmdb has closed the environment, as it does when the map cannot be made anew."""
    try:
        env.info()
    except lmdb.Error:
        return True
    return False


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _reserve(file: Path, size: int) -> None:
    """Let a file have room on the disk for what is written to it through a map, since such writes fail by a signal."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(descriptor).st_blocks * 512 < size:
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _sync_directories(path: Path) -> None:
    """Make a new file in the directory durable, and the directory itself."""
    for directory in (path, path.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
