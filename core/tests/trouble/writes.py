"""Lets a chosen write of an LMDB store fail, in the ways in which writes do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import lmdb

from oq.store.lmdb import LmdbStore
from oq.testing.side_by_side import Unforeseen

DISK_FULL = "the disk is full"
MAP_FULL = "the map is full"
PANIC = "a commit fails half-way, after which LMDB refuses everything"
NO_MEMORY = "the map is full, and there is no memory for a larger one"
DEFECT = "a defect"

ERRORS = {
    DISK_FULL: lmdb.DiskError,
    MAP_FULL: lmdb.MapFullError,
    PANIC: lmdb.DiskError,
    NO_MEMORY: lmdb.MapFullError,
    DEFECT: Unforeseen,
}


class FailingWrites:
    """A `Trouble` for one store. What fails, fails before it has done anything, but for the part of a `putmulti`."""

    kinds = (DISK_FULL, MAP_FULL, PANIC, NO_MEMORY, DEFECT)

    def __init__(self, store: LmdbStore) -> None:
        self._environment = store._environment
        self._begin = self._environment.begin_write
        self._environment.begin_write = self._begin_write
        self._kind = ""
        self._left: int | None = None
        """Writes that are still to succeed; None when nothing is planned."""

    def plan(self, kind: str, writes: int) -> None:
        self._kind, self._left = kind, writes

    def has_happened(self) -> bool:
        return self._left is None

    def forget(self) -> None:
        """Let nothing happen that was planned."""
        self._left = None

    def room_for(self, wanted: int) -> int:
        """How many of these writes go well, before `fail` is to be called; all of them while nothing is planned."""
        if self._left is None:
            return wanted
        if self._kind == PANIC:
            self._left = max(0, self._left - wanted)
            return wanted
        well = min(wanted, self._left)
        self._left -= well
        return well

    def commits(self) -> None:
        """A commit is about to be made."""
        if self._kind == PANIC and self._left == 0:
            self._environment._env = _Panicking(self._environment._env)
            self.fail()
        elif not self.room_for(1):
            self.fail()

    def fail(self) -> None:
        """Raise what was planned."""
        self._left = None
        if self._kind == NO_MEMORY:
            self._environment._env = _Unmappable(self._environment._env)
        raise ERRORS[self._kind]("planned")

    def _begin_write(self) -> Any:
        txn = self._begin()
        return txn if self._left is None else _Txn(txn, self)


class _Txn:
    """A write transaction in which each write asks whether it may succeed."""

    def __init__(self, txn: Any, trouble: FailingWrites) -> None:
        self._txn = txn
        self._trouble = trouble

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self._ask()
        return self._txn.put(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self._ask()
        return self._txn.delete(*args, **kwargs)

    def cursor(self, *args: Any, **kwargs: Any) -> _Cursor:
        return _Cursor(self._txn.cursor(*args, **kwargs), self._trouble)

    def commit(self) -> None:
        self._trouble.commits()
        self._txn.commit()

    def _ask(self) -> None:
        if not self._trouble.room_for(1):
            self._trouble.fail()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)


class _Cursor:
    """A cursor of such a transaction."""

    def __init__(self, cursor: Any, trouble: FailingWrites) -> None:
        self._cursor = cursor
        self._trouble = trouble

    def putmulti(self, items: Any, **kwargs: Any) -> Any:
        items = list(items)
        well = self._trouble.room_for(len(items))
        done = self._cursor.putmulti(items[:well], **kwargs)
        if well < len(items):
            self._trouble.fail()
        return done

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self._ask()
        return self._cursor.put(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self._ask()
        return self._cursor.delete(*args, **kwargs)

    def _ask(self) -> None:
        if not self._trouble.room_for(1):
            self._trouble.fail()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.__exit__(*exc)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._cursor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class _Panicking:
    """An environment that refuses everything until it is opened anew."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def begin(self, **_: Any) -> Any:
        raise lmdb.PanicError("planned")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class _Unmappable:
    """An environment whose map cannot be resized; as py-lmdb's, it is closed by the attempt."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def set_mapsize(self, _: int) -> None:
        self._env.close()
        raise lmdb.MemoryError("planned")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)
