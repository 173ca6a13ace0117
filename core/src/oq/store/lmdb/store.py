"""The LMDB store: batches of ops in one transaction each, and reads beside them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import lmdb

from oq.errors import DamagedRecord, QueueFull, StoreUnavailable
from oq.query import Count, Page, TaskFilter
from oq.store.base import AddMany, AppendChunks, Block, FullRecord, Op, Record, Refused, Reply, Value
from oq.store.lmdb import check, reader
from oq.store.lmdb.doorbell import Doorbell
from oq.store.lmdb.environment import BAD_KEY, RESERVE, Durability, Environment
from oq.store.lmdb.ops import apply_op, apply_ops
from oq.store.lmdb.runlock import RunLock
from oq.store.lmdb.writer import Cache, Lane, Writer

log = logging.getLogger(__name__)

INITIAL_BYTES = 256 * 2**20
"""The map to begin with; on most file systems it takes up only what is written."""

READER_CHECK_EVERY = 1_000
"""Commits between two looks for readers whose process died, and which keep old pages from being used again."""


_NEEDS_ROOM = (AddMany, AppendChunks)
"""What may not use the reserve beyond the limit."""


class LmdbStore:
    """Keeps tasks in a directory. One process at a time runs them; any other may read, submit, cancel and requeue."""

    exclusive = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "strict",
        max_bytes: int = 32 * 2**30,
        initial_bytes: int = INITIAL_BYTES,
    ) -> None:
        """Open the directory, or create it.

        Raises StoreInUse when this process has it open already, StoreFormat when it holds something else, and
        StoreUnavailable when the disk refuses.
        """
        self.location = str(path)
        self._environment = Environment(path, durability, max_bytes, initial_bytes)
        self._cache = Cache()
        self._run_lock = RunLock(self._environment.path, self.location)
        self._bell = Doorbell(self._environment.path)
        self.commits = 0
        """How many transactions were committed since the store was opened."""
        self.writes = 0
        """How many entries these put or deleted."""

    def close(self) -> None:
        self._run_lock.release()
        self._bell.close()
        self._environment.close()

    def lock_run(self) -> None:
        self._run_lock.acquire()
        self._environment.forget_dead_readers()

    def unlock_run(self) -> None:
        self._run_lock.release()

    def runner(self) -> str | None:
        return self._run_lock.holder()

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        """Apply the ops in one transaction.

        When the map is full it grows up to the limit. At the limit, submits and output are refused with QueueFull; what
        ends running work may use a reserve beyond it.
        """
        full: Reply | None = None
        while True:
            try:
                return self._apply_once(ops, full)
            except lmdb.MapFullError:
                limit = self._environment.max_bytes
                if self._environment.grow(limit):
                    continue
                if full is None and any(isinstance(op, _NEEDS_ROOM) for op in ops):
                    full = Refused(error=QueueFull("the size of the store in bytes", limit))
                elif not self._environment.grow(limit + RESERVE):
                    raise StoreUnavailable(self.location, f"its limit of {limit:,} bytes is used up") from None

    def _apply_once(self, ops: Sequence[Op[Reply]], full: Reply | None) -> list[Reply]:
        """One transaction; what needs room gets `full` when that is given."""
        txn = self._environment.begin_write()
        committed = False
        try:
            writer = Writer(self._environment, txn, self._cache)
            if full is None:
                replies = apply_ops(writer, ops)
            else:
                replies = [full if isinstance(op, _NEEDS_ROOM) else apply_op(writer, op) for op in ops]
            if writer.wrote:
                writer.flush()
                txn_id = txn.id()
                txn.commit()
                self._cache.txn_id = txn_id
            committed = True
        except lmdb.MapFullError:
            raise
        except (lmdb.Error, OSError, DamagedRecord, *BAD_KEY) as error:
            raise self._environment.refusal(error) from error
        finally:
            if not committed:
                self._cache.txn_id = -1
            txn.abort()
        if writer.wrote:
            self._follow_commit(writer.wrote)
        return replies

    def _follow_commit(self, writes: int) -> None:
        """What comes after a commit. Nothing in here may fail: the batch is stored."""
        self.commits += 1
        self.writes += writes
        if self.commits % READER_CHECK_EVERY == 0:
            try:
                self._environment.forget_dead_readers()
            except lmdb.Error as error:
                log.warning("dead readers of %s are not forgotten: %s", self.location, error)
        self._bell.ring()

    def resolve(self, prefix: str, limit: int) -> list[str]:
        with self._environment.read() as txn:
            return reader.resolve(self._environment, txn, prefix, limit)

    def get(self, task_id: str) -> Record | None:
        with self._environment.read() as txn:
            return reader.get(self._environment, txn, task_id)

    def load(self, task_id: str) -> FullRecord | None:
        with self._environment.read() as txn:
            return reader.load(self._environment, txn, task_id)

    def blocks(self, seq: int, epoch: int, first: int, limit: int) -> list[Block]:
        with self._environment.read() as txn:
            return reader.blocks(self._environment, txn, seq, epoch, first, limit)

    def page(self, wanted: TaskFilter, cursor: int | None, limit: int) -> Page[Record]:
        with self._environment.read() as txn:
            return reader.page(self._environment, txn, wanted, cursor, limit)

    def counts(self) -> list[Count]:
        with self._environment.read() as txn:
            return reader.counts(self._environment, txn)

    def lanes(self) -> tuple[int, frozenset[Lane]]:
        with self._environment.read() as txn:
            return reader.lanes(self._environment, txn)

    def stops(self) -> list[tuple[int, int]]:
        with self._environment.read() as txn:
            return reader.stops(self._environment, txn)

    def value(self, namespace: str, key: str) -> Value | None:
        with self._environment.read() as txn:
            return reader.value(self._environment, txn, namespace, key)

    def values(self, namespace: str) -> dict[str, Value]:
        with self._environment.read() as txn:
            return reader.values(self._environment, txn, namespace)

    def size(self) -> int:
        return self._environment.size()

    def changes_fileno(self) -> int | None:
        return self._bell.fileno()

    def drain_changes(self) -> None:
        self._bell.drain()

    def check(self) -> list[str]:
        with self._environment.read() as txn:
            return check.check(self._environment, txn)
