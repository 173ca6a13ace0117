"""A store and its reference: sends the same ops to both and compares what they say, also when things go wrong."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define, field
from msgspec.structs import replace

from oq.errors import InvalidTask, OqError, StoreUnavailable
from oq.store.base import QUEUES, Advanced, Claimed, Op, Record, Refused, Reply, Store
from oq.task import Phase, Status
from oq.testing.audit import listed


class Unforeseen(Exception):
    """A failure that no store foresees, as one of its own defects would be; `Store.apply` lets it through."""


class Trouble(Protocol):
    """What may go wrong while one store writes; made for it by the `trouble` that `store_machine` is given."""

    kinds: Sequence[str]
    """What may happen: kinds that `Store.apply` answers with StoreUnavailable, copes with, or cannot foresee."""

    def plan(self, kind: str, writes: int) -> None:
        """Let the write after so many more ones go wrong; a commit is one too."""

    def has_happened(self) -> bool:
        """Whether all that was planned has come to pass."""


class Neighbour(Protocol):
    """Another process that has the same tasks open, or as good as; made by the `neighbour` of `store_machine`."""

    def apply(self, ops: Sequence[Op[Any]]) -> list[Reply]:
        """As `Store.apply` there."""

    def close(self) -> None: ...


@define
class SideBySide:
    """Two stores that must not differ in anything that can be told from outside."""

    reference: Store
    store: Store
    trouble: Trouble | None = None
    neighbour: Neighbour | None = None
    ahead: list[tuple[str, int]] = field(factory=list)
    """The trouble to come, one after the other: its kind and after how many writes."""
    _lane_sets: dict[int, frozenset[tuple[str, str, str]]] = field(factory=dict)

    def send(self, ops: Sequence[Op[Any]]) -> list[Reply]:
        """Apply the ops as one batch to both; gives the replies. A store that refuses gets them again."""
        return self._compare(ops, self._apply(ops))

    def send_from_elsewhere(self, ops: Sequence[Op[Any]]) -> list[Reply]:
        """Let the neighbour apply the ops, which the store must hear of."""
        assert self.neighbour is not None
        replies = self._compare(ops, self.neighbour.apply(ops))
        bell = self.store.changes_fileno()
        if bell is not None and any(reply.events for reply in replies):
            assert select.select([bell], [], [], 0)[0], "the store does not hear of what another process changed"
            self.store.drain_changes()
        return replies

    def reopened(self, store: Store, trouble: Trouble | None) -> None:
        """Go on with the same tasks in a store that was opened anew."""
        self.store, self.trouble = store, trouble
        self._lane_sets.clear()

    def agree(self) -> list[Record]:
        """Assert that both hold the same and say so; gives all tasks."""
        mine, theirs = self.reference, self.store
        records = listed(mine)
        assert listed(theirs) == records, "lists"
        assert tallied(theirs) == tallied(mine), "counts"
        assert sorted(theirs.stops()) == sorted(mine.stops()), "stops"
        for namespace in (QUEUES, "things"):
            assert theirs.values(namespace) == mine.values(namespace), "values"
        version, lanes = theirs.lanes()
        assert lanes >= ready_lanes(records), "lanes"
        assert self._lane_sets.setdefault(version, lanes) == lanes, "versions of lanes"
        return records

    def close(self) -> None:
        if self.neighbour is not None:
            self.neighbour.close()
        self.store.close()

    def _apply(self, ops: Sequence[Op[Any]]) -> list[Reply]:
        """The store's replies. When it refuses the batch, which only trouble excuses, nothing of it may be there."""
        while True:
            planned = self._plan()
            try:
                return self.store.apply(ops)
            except (StoreUnavailable, Unforeseen):
                if planned is None or not planned.has_happened():
                    raise
            self.agree()
            assert self.store.check() == [], "a batch that was refused left something behind"

    def _plan(self) -> Trouble | None:
        """Plan the next trouble, unless some is to come already; gives it where there is any."""
        if self.trouble is not None and self.trouble.has_happened():
            if not self.ahead:
                return None
            self.trouble.plan(*self.ahead.pop(0))
        return self.trouble

    def _compare(self, ops: Sequence[Op[Any]], theirs: Sequence[Reply]) -> list[Reply]:
        """The reference's replies to the ops, from which the store's must not differ."""
        mine = self.reference.apply(ops)
        assert len(theirs) == len(ops), "each op has a reply"
        for op, *replies in zip(ops, mine, theirs, strict=True):
            one, other = map(comparable, replies)
            assert other == one, f"the stores reply differently to {op}\n  the reference: {one}\n  the store: {other}"
        return mine


def ready_lanes(records: Sequence[Record]) -> set[tuple[str, str, str]]:
    """The (queue, executor, lane) of the tasks that are ready."""
    return {(r.head.queue, r.head.executor, r.head.lane) for r in records if r.state.phase is Phase.READY}


def running(records: Sequence[Record]) -> list[tuple[int, int]]:
    """The (seq, epoch) of the tasks that run."""
    return [(record.seq, record.state.epoch) for record in records if record.state.status is Status.RUNNING]


def tallied(store: Store) -> dict[tuple[object, ...], int]:
    """What the store counts, without the kinds of which there are none."""
    counts = store.counts()
    tally = {(count.queue, count.status, count.phase, count.priority): count.number for count in counts}
    assert len(tally) == len(counts), "each kind is counted once"
    return {kind: number for kind, number in tally.items() if number}


def comparable(reply: Reply) -> object:
    """The reply without what may differ between stores."""
    if isinstance(reply, Refused):
        return reply.events, reply.unsettled, described(reply.error)
    if isinstance(reply, Claimed | Advanced):
        return replace(reply, lanes_version=0)
    return reply


def described(error: OqError) -> tuple[object, ...]:
    """What an error says to programs; the sentence for people is each store's own where it is not built from ids."""
    if isinstance(error, InvalidTask):
        return type(error), tuple(problem.path for problem in error.problems)
    return type(error), str(error), vars(error)
