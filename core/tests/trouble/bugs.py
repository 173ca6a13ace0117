"""LMDB stores with a bug, to see that the machine finds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from oq.store.base import Claim, Op, Reply
from oq.store.lmdb import LmdbStore, deleting
from oq.store.lmdb.writer import Cache, Move, Writer
from oq.task import Phase, TaskHead, TaskState


class BelievesItself(LmdbStore):
    """Goes on with what a failed transaction left in the cache."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cache = _Keeping("txn_id", -1)


class ForgetsOthers(LmdbStore):
    """Takes every transaction for the one after its own last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        begin = self._environment.begin_write

        def begin_write() -> Any:
            txn = begin()
            if self._cache.txn_id != -1:
                self._cache.txn_id = txn.id() - 1
            return txn

        self._environment.begin_write = begin_write


class RemembersRuns(LmdbStore):
    """Reads all anew when another process has written, but for the running tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cache = _Keeping("running", {})


class OneByOne(LmdbStore):
    """Applies each op of a batch in a transaction of its own."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        return [super(OneByOne, self).apply([op])[0] for op in ops]


class ClaimsInTwo(LmdbStore):
    """Commits that claimed tasks are not ready any more before it writes that they run."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        if not any(isinstance(op, Claim) for op in ops):
            return super().apply(ops)
        late: list[Move] = []
        move_all = Writer.move_all

        def half(writer: Writer, moves: Iterable[Move]) -> None:
            for move in moves:
                if move.before.phase is Phase.READY and move.after.phase is None:
                    writer.delete(writer._ready, writer.ready_key(move.seq, move.head, move.before))
                    late.append(move)
                else:
                    move_all(writer, [move])

        Writer.move_all = half
        try:
            replies = super().apply(ops)
        finally:
            Writer.move_all = move_all
        txn = self._environment.begin_write()
        try:
            writer = Writer(self._environment, txn, self._cache)
            writer.move_all(late)
            writer.flush()
            self._cache.txn_id = txn.id()
            txn.commit()
        except BaseException as error:
            self._cache.txn_id = -1
            raise self._environment.refusal(error) from error
        finally:
            txn.abort()
        return replies


class DeletesWhatIsNeeded(LmdbStore):
    """Never knows that a task is in use."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        with _replaced(deleting, "needing", lambda _writer, _seq: None):
            return super().apply(ops)


class LeavesEdges(LmdbStore):
    """Does not take a deleted follower off its parent's list."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        remove = deleting._remove

        def careless(writer: Writer, seq: int, head: TaskHead, state: TaskState) -> None:
            known, writer.cache.follower_edges = writer.cache.follower_edges, False
            remove(writer, seq, head, state)
            writer.cache.follower_edges = known

        with _replaced(deleting, "_remove", careless):
            return super().apply(ops)


class StaysInUse(LmdbStore):
    """Does not believe that a final task needs nothing any more."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        refer = Writer._refer

        def clinging(writer: Writer, seq: int, head: TaskHead, state: TaskState) -> None:
            if not state.status.final:
                refer(writer, seq, head, state)

        with _replaced(Writer, "_refer", clinging):
            return super().apply(ops)


@contextmanager
def _replaced(where: Any, name: str, value: Any) -> Iterator[None]:
    real = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, real)


class _Keeping(Cache):
    """A cache in which one field cannot be set to one value."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__()
        self._kept = name, value

    def __setattr__(self, name: str, value: Any) -> None:
        if (name, value) != self.__dict__.get("_kept"):
            super().__setattr__(name, value)


BUGS = (
    BelievesItself,
    ForgetsOthers,
    RemembersRuns,
    OneByOne,
    ClaimsInTwo,
    DeletesWhatIsNeeded,
    LeavesEdges,
    StaysInUse,
)
