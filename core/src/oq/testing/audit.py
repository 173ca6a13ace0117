"""What must hold in any store at any moment, judged by nothing but its reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from oq.query import TaskFilter
from oq.store.base import FullRecord, Record, Store
from oq.task import Phase, Status

EVERYTHING = TaskFilter()
"""The filter that every task matches."""


def audit(store: Store) -> list[str]:
    """A sentence for each thing that reads of the store contradict each other about; empty when all is well.

    It complements `Store.check`, which knows the store from inside. Reads everything.
    """
    return list(_audit(store))


def listed(store: Store, wanted: TaskFilter = EVERYTHING, limit: int = 100) -> list[Record]:
    """Every task that matches, newest first, read in pages of at most `limit`."""
    return [record for page in pages(store, wanted, limit) for record in page]


def pages(store: Store, wanted: TaskFilter = EVERYTHING, limit: int = 100) -> Iterator[tuple[Record, ...]]:
    """Page after page of the tasks that match."""
    cursor = None
    while True:
        page = store.page(wanted, cursor, limit)
        assert len(page.items) <= limit, "a page holds no more than it was asked for"
        yield page.items
        if page.cursor is None:
            return
        assert cursor is None or page.cursor < cursor, "a cursor goes on"
        cursor = page.cursor


def _audit(store: Store) -> Iterator[str]:
    records = listed(store)
    seqs = [record.seq for record in records]
    if seqs != sorted(set(seqs), reverse=True):
        yield f"a list is not newest first, each task once: {seqs}"
    _, lanes = store.lanes()
    holders: dict[str, str] = {}
    for record in records:
        name, head = f"task {record.head.id!r}", record.head
        if store.get(head.id) != record:
            yield f"{name} is listed as {record.state}, but read as {store.get(head.id)}"
        full = store.load(head.id)
        if full is None or (full.seq, full.head, full.state) != (record.seq, head, record.state):
            yield f"{name} is listed as {record.state}, but loaded as {full}"
        else:
            yield from (f"{name} {wrong}" for wrong in _contradictions(full))
        if record.state.phase is Phase.READY and (head.queue, head.executor, head.lane) not in lanes:
            yield f"{name} is ready, but its lane is not among {sorted(lanes)}"
        if head.unique_key is not None and not record.state.status.final:
            other = holders.setdefault(head.unique_key, head.id)
            if other != head.id:
                yield f"{name} and task {other!r} hold the unique key {head.unique_key!r} at once"
    running = {(record.seq, record.state.epoch) for record in records if record.state.status is Status.RUNNING}
    yield from (f"run {stop} goes on, though it is to stop" for stop in store.stops() if stop in running)
    yield from _miscounts(store, records)


def _contradictions(full: FullRecord) -> Iterator[str]:
    """What is wrong with one task, as the end of a sentence about it."""
    state = full.state
    pending, running = state.status is Status.PENDING, state.status is Status.RUNNING
    timed = state.phase in (Phase.SCHEDULED, Phase.RETRYING)
    epochs = [attempt.epoch for attempt in full.attempts]
    size = None if full.result is None else len(full.result)
    rules = {
        "has a phase unless it is not pending": pending == (state.phase is not None),
        "is stored as paused never": state.phase is not Phase.PAUSED,
        "waits for others while it is blocked": not pending or (state.phase is Phase.BLOCKED) == (state.waiting_on > 0),
        "has a moment while it waits for one": timed == (state.due_at is not None),
        "expires only while it is pending": pending or state.expires_at is None,
        "has an epoch and a worker while it runs": not running or (state.epoch > 0 and bool(state.worker)),
        "has a lease only while it runs": running or state.lease_until is None,
        "has begun, but not ended, while it runs": not running
        or (state.started_at is not None and state.finished_at is None),
        "has ended once it is final": not state.status.final or state.finished_at is not None,
        "has a failure once it failed": state.status is not Status.FAILED or state.failure is not None,
        "has no failure once it completed": state.status is not Status.COMPLETED or state.failure is None,
        "has a result only once it completed": state.status is Status.COMPLETED or size is None,
        "has a result of the size it says": state.result_size == size,
        "drops its result only once it completed": state.status is Status.COMPLETED or state.drop_at is None,
        "counts attempts from 0": state.attempt >= 0,
        "counts no more attempts than epochs": state.attempt <= state.epoch,
        "keeps its runs in order, each once": epochs == sorted(set(epochs)),
        "keeps the runs that it had": not epochs or (epochs[0] > 0 and epochs[-1] <= state.epoch),
        "keeps the runs that ended": not running or state.epoch not in epochs,
    }
    yield from (
        f"does not hold to this: it {rule} ({state}, runs {epochs})" for rule, holds in rules.items() if not holds
    )


def _miscounts(store: Store, records: list[Record]) -> Iterator[str]:
    found = Counter((r.head.queue, r.state.status, r.state.phase, r.state.priority) for r in records)
    said: Counter[tuple[str, Status, Phase | None, int]] = Counter()
    for count in store.counts():
        kind = (count.queue, count.status, count.phase, int(count.priority))
        if kind in said:
            yield f"the tasks of kind {kind} are counted twice"
        said[kind] = count.number
    for kind in found.keys() | said.keys():
        if found[kind] != said[kind]:
            yield f"{said[kind]} tasks of kind {kind} are counted, but {found[kind]} are listed"
