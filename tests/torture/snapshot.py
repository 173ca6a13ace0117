"""Everything that a store says at one moment, as plain values that outlive it."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from oq.codec import decode
from oq.query import TaskFilter
from oq.store.lmdb import LmdbStore
from oq.task import Outcome


@frozen
class Seen:
    """One task."""

    label: str
    status: str
    phase: str | None
    epoch: int
    attempt: int
    due_at: float | None
    result_size: int | None
    attempts: tuple[tuple[int, str], ...]
    """The epoch and outcome of the runs that did not succeed."""
    poisoned: bool

    @property
    def final(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @property
    def counted(self) -> int:
        """What the attempt should be, by the runs before."""
        failed = sum(outcome == Outcome.FAILED for _, outcome in self.attempts)
        return failed + (self.status in ("running", "completed") or self.poisoned)


@frozen
class Snapshot:
    """A whole store."""

    tasks: dict[str, Seen]
    problems: list[str]
    """What `Store.check` says."""
    txn_id: int


def take_snapshot(place: Path) -> Snapshot:
    """Open the store and read all of it."""
    store = LmdbStore(place / "queue", initial_bytes=2**20)
    try:
        problems = store.check()
        return Snapshot(_tasks(store), problems, store._environment._there.info()["last_txnid"])
    finally:
        store.close()


def _tasks(store: LmdbStore) -> dict[str, Seen]:
    tasks: dict[str, Seen] = {}
    cursor, more = None, True
    while more:
        page = store.page(TaskFilter(), cursor, 1_000)
        cursor, more = page.cursor, page.cursor is not None
        for record in page.items:
            full = store.load(record.head.id)
            state = full.state
            tasks[record.head.id] = Seen(
                label=decode(full.payload)["label"],
                status=state.status.value,
                phase=state.phase and state.phase.value,
                epoch=state.epoch,
                attempt=state.attempt,
                due_at=state.due_at and state.due_at.timestamp(),
                result_size=state.result_size,
                attempts=tuple((attempt.epoch, attempt.outcome.value) for attempt in full.attempts),
                poisoned=state.failure is not None and state.failure.type == "Poisoned",
            )
    return tasks
