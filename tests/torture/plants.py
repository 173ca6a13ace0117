"""Bugs to plant, to see that the campaigns find them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from oq.store.base import Claim, Op, Reply
from oq.store.lmdb import LmdbStore, environment
from oq.store.lmdb.writer import Move, Writer
from oq.task import Phase


def _nothing(*arguments: Any, **options: Any) -> LmdbStore:
    return LmdbStore(*arguments, **options)


def _index_entry_stays(*arguments: Any, **options: Any) -> LmdbStore:
    """The timer of a retry is not removed when the task moves on."""
    remove = Writer.delete

    def delete(self: Writer, table: Any, key: bytes) -> bool:
        return False if table is self._timers else remove(self, table, key)

    Writer.delete = delete
    return LmdbStore(*arguments, **options)


class _SplitClaim(LmdbStore):
    """Commits the ready entries of a claim before the states of its tasks."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        claims = [op for op in ops if isinstance(op, Claim)]
        if not claims:
            return super().apply(ops)
        replies = super().apply([op for op in ops if not isinstance(op, Claim)]) if len(ops) > 1 else []
        late: list[Move] = []
        move_all = Writer.move_all

        def early(self: Writer, moves: Iterable[Move]) -> None:
            for move in moves:
                if move.before.phase is Phase.READY:
                    self.delete(self._ready, self.ready_key(move.seq, move.head, move.before))
                    late.append(move)

        Writer.move_all = early
        try:
            claimed = super().apply(claims)
        finally:
            Writer.move_all = move_all
        txn = self._environment.begin_write()
        writer = Writer(self._environment, txn, self._cache)
        writer.move_all(late)
        writer.flush()
        self._cache.txn_id = txn.id()
        txn.commit()
        rest = iter(replies)
        return [claimed.pop(0) if isinstance(op, Claim) else next(rest) for op in ops]


def _no_sync(*arguments: Any, **options: Any) -> LmdbStore:
    """Commits are not flushed to the disk."""
    opening = environment.lmdb.open

    def careless(*given: Any, **how: Any) -> Any:
        return opening(*given, **(how | {"sync": False, "metasync": False}))

    environment.lmdb.open = careless
    try:
        return LmdbStore(*arguments, **options)
    finally:
        environment.lmdb.open = opening


PLANTS: dict[str, Callable[..., LmdbStore]] = {
    "nothing": _nothing,
    "index": _index_entry_stays,
    "two-transactions": _SplitClaim,
    "no-sync": _no_sync,
}
