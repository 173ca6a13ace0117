"""What a victim is doing, in memory that outlives it: the kinds of the ops that its store applies at this moment."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from struct import Struct
from typing import Any

from oq.store.base import AddMany, Advance, AppendChunks, Claim, Finish, Op, Reply, Retried
from oq.store.lmdb import LmdbStore
from oq.store.lmdb.layout import PAIR, SEQ, STATES, moment_of

KINDS = ("submit", "claim", "finish", "stream block", "retry", "retention", "map growth", "second-process submit")
BIT = {kind: 1 << place for place, kind in enumerate(KINDS)}

_LAYOUT = Struct("<IIQ")
"""Kinds in flight, applies so far, the last transaction before the one in flight."""


class Beacon:
    """A few shared bytes."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(mmap.PAGESIZE)
            self._shared = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def read(self) -> tuple[int, int, int]:
        mask, applies, txn_id = _LAYOUT.unpack_from(self._shared)
        return mask, applies, txn_id

    def show(self, mask: int, applies: int, txn_id: int) -> None:
        _LAYOUT.pack_into(self._shared, 0, mask, applies, txn_id)

    def close(self) -> None:
        self._shared.close()


class SpyStore:
    """A store that tells its beacon what it applies."""

    def __init__(self, store: LmdbStore, beacon: Beacon, submit: str = "submit") -> None:
        self._store = store
        self._beacon = beacon
        self._submit = BIT[submit]
        self._mask = self._applies = self._txn_id = 0
        self._grow = store._environment.grow
        store._environment.grow = self._growing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        self._applies += 1
        self._txn_id = self._store._environment._there.info()["last_txnid"]
        self._mask = self._mask_of(ops)
        self._tell()
        try:
            return self._store.apply(ops)
        finally:
            self._mask = 0
            self._tell()

    def _growing(self, limit: int) -> bool:
        self._mask |= BIT["map growth"]
        self._tell()
        return self._grow(limit)

    def _tell(self) -> None:
        self._beacon.show(self._mask, self._applies, self._txn_id)

    def _mask_of(self, ops: Sequence[Op[Reply]]) -> int:
        mask = 0
        for op in ops:
            match op:
                case AddMany():
                    mask |= self._submit
                case Claim():
                    mask |= BIT["claim"]
                case AppendChunks():
                    mask |= BIT["stream block"]
                case Finish():
                    mask |= BIT["retry" if isinstance(op.ending, Retried) else "finish"]
                    mask |= BIT["stream block"] if op.block else 0
                case Advance() if self._drops_something(op.now):
                    mask |= BIT["retention"]
        return mask

    def _drops_something(self, now: datetime) -> bool:
        """Whether the earliest timer is that of a result that has been kept long enough."""
        environment = self._store._environment
        with environment.read() as txn, txn.cursor(db=environment.tables[b"timers"]) as cursor:
            if not cursor.set_range(b"") or moment_of(cursor.key()) > now:
                return False
            key = SEQ.pack(PAIR.unpack(cursor.key())[1])
            state = txn.get(key, db=environment.tables[b"states"])
            return state is not None and STATES.load(key, state).status.final
