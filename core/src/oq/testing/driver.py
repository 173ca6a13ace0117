"""A store with a seat: sends ops one at a time, gives typed replies, and watches that the events tell the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import define, field

from oq.choose import Offer
from oq.errors import OqError
from oq.events import Event, EventKind, event_of
from oq.query import TaskFilter
from oq.store.base import (
    Added,
    AddMany,
    Advance,
    Advanced,
    Block,
    Cancel,
    Claimed,
    Delete,
    Ending,
    Entry,
    Failed,
    Finish,
    Finished,
    FullRecord,
    Moved,
    NewTask,
    Op,
    Purge,
    PutValue,
    Record,
    Refused,
    Released,
    Reply,
    Requeue,
    Retried,
    Run,
    SetPriority,
    Store,
    Succeeded,
    TakeOver,
    TookOver,
)
from oq.task import Priority, Status, TaskState
from oq.testing.audit import EVERYTHING, listed, pages
from oq.testing.builders import PLENTY, START, at, claim, failure

R = TypeVar("R", bound=Reply)
E = TypeVar("E", bound=OqError)


@define
class StoreDriver:
    """Drives one store in a test, by plain calls at moments that the test names.

    Every reply is checked on its way: a task's last event must describe it as it stands, and one version of the lanes
    must not stand for two sets of them.
    """

    store: Store
    last_events: dict[str, Event] = field(factory=dict)
    """The last event of each task: all that somebody knows who only listens."""
    namespaces: set[str] = field(factory=set)
    """Where values were put."""
    _lane_sets: dict[int, frozenset[tuple[str, str, str]]] = field(factory=dict)

    # Sending

    def apply(self, *ops: Op[Any]) -> list[Reply]:
        """Apply the ops as one batch; gives their replies, refusals included."""
        replies = self.store.apply(ops)
        assert len(replies) == len(ops), "each op has a reply"
        self.namespaces |= {op.namespace for op in ops if isinstance(op, PutValue)}
        told = {event.task_id: event for reply in replies for event in reply.events}
        self.last_events |= told
        for event in told.values():
            self._check_event(event)
        version, lanes = self.store.lanes()
        assert self._lane_sets.setdefault(version, lanes) == lanes, "equal versions mean equal sets of lanes"
        return replies

    def send(self, op: Op[R]) -> R:
        """Apply the op alone and give its reply; raises the error of a refused one."""
        (reply,) = self.apply(op)
        if isinstance(reply, Refused):
            raise reply.error
        return reply  # type: ignore[return-value]  # the op says which reply it gets

    def refused(self, op: Op[Any], error: type[E], *, stop: tuple[int, int] | None = None) -> E:
        """Send an op that must be refused with `error`, without events and without a trace; gives the error.

        A run's last word may be refused and still end the `stop` it was asked for (see `Store.stops`).
        """
        before = self.snapshot()
        (reply,) = self.apply(op)
        assert isinstance(reply, Refused), f"{op} was not refused"
        assert type(reply.error) is error, repr(reply.error)
        assert reply.events == (), "a refused op has no events"
        before["stops"] = [run for run in before["stops"] if run != stop]
        assert self.snapshot() == before, "a refused op changes nothing"
        return reply.error

    def reopened(self, store: Store) -> None:
        """Go on with the same tasks in a store that was opened anew."""
        self.store = store
        self._lane_sets.clear()

    # Ops

    def add(self, *tasks: NewTask, now: datetime = START, **fields: Any) -> Added:
        """Add the tasks; `fields` are the others of `AddMany`."""
        return self.send(AddMany(tasks=tasks, now=now, **fields))

    def claim(self, *offers: Offer, **fields: Any) -> Claimed:
        """Claim as `oq.testing.claim` does with the same arguments."""
        return self.send(claim(*offers, **fields))

    def start(self, task_id: str, **fields: Any) -> Run:
        """Claim from the default lane until this task runs; gives its run."""
        runs = {run.head.id: run for run in self.claim(**fields).runs}
        assert task_id in runs, f"{task_id!r} was not claimed"
        return runs[task_id]

    def finish(self, run: Run, ending: Ending, *, now: datetime = START, block: Block | None = None) -> Finished:
        return self.send(Finish(seq=run.seq, epoch=run.state.epoch, ending=ending, now=now, block=block))

    def succeed(self, run: Run, result: bytes | None = None, *, now: datetime = START) -> Finished:
        return self.finish(run, Succeeded(result), now=now)

    def fail(self, run: Run, *, now: datetime = START) -> Finished:
        return self.finish(run, Failed(failure()), now=now)

    def retry(self, run: Run, *, due_at: datetime = START, counted: bool = True, now: datetime = START) -> Finished:
        return self.finish(run, Retried(failure(), due_at, counted), now=now)

    def release(self, run: Run, *, now: datetime = START) -> Finished:
        return self.finish(run, Released(), now=now)

    def cancel(self, task_id: str, *, now: datetime = START) -> Moved:
        return self.send(Cancel(task_id=task_id, now=now))

    def requeue(self, task_id: str, *, now: datetime = START) -> Moved:
        return self.send(Requeue(task_id=task_id, now=now))

    def set_priority(self, task_id: str, priority: Priority, *, now: datetime = START) -> Moved:
        return self.send(SetPriority(task_id=task_id, priority=priority, now=now))

    def delete(self, task_id: str, *, now: datetime = START) -> Moved:
        return self.send(Delete(task_id=task_id, now=now))

    def purge(self, seconds: float = 0, *, limit: int = 100, **fields: Any) -> list[str]:
        """Purge at the moment `seconds` after START, in steps, until all was looked at; gives the ids of the deleted.

        `fields` are those of `Purge`; `before` may be a number of seconds after START, for all final statuses.
        """
        before = fields.pop("before", {})
        if not isinstance(before, Mapping):
            before = dict.fromkeys([status for status in Status if status.final], at(before))
        gone: list[str] = []
        cursor = None
        for _ in range(PLENTY):
            reply = self.send(Purge(now=at(seconds), before=before, limit=limit, cursor=cursor, **fields))
            assert len(reply.events) <= limit
            gone += [event.task_id for event in reply.events]
            cursor = reply.cursor
            if cursor is None:
                return gone
        raise AssertionError("Purge never gets to the end")

    def advance(self, seconds: float = 0, *, limit: int = 500) -> Advanced:
        """Advance to the moment `seconds` after START."""
        return self.send(Advance(now=at(seconds), limit=limit))

    def advance_fully(self, seconds: float = 0, *, limit: int = 500) -> list[Event]:
        """Advance to the moment `seconds` after START until nothing is left to do; gives all events."""
        events: list[Event] = []
        for _ in range(PLENTY):
            reply = self.advance(seconds, limit=limit)
            events += reply.events
            if not reply.more:
                return events
        raise AssertionError("Advance never gets to the end")

    def take_over(self, *, now: datetime = START) -> TookOver:
        return self.send(TakeOver(now=now))

    def lose(self, task_id: str, times: int = 1) -> None:
        """Claim the task and let the process that runs it die, several times over."""
        for _ in range(times):
            self.start(task_id)
            self.take_over()

    # Reads

    def record(self, task_id: str) -> Record:
        record = self.store.get(task_id)
        assert record is not None, f"there is no task {task_id!r}"
        return record

    def state(self, task_id: str) -> TaskState:
        return self.record(task_id).state

    def full(self, task_id: str) -> FullRecord:
        record = self.store.load(task_id)
        assert record is not None, f"there is no task {task_id!r}"
        return record

    def pages(self, wanted: TaskFilter = EVERYTHING, limit: int = 100) -> Iterator[tuple[Record, ...]]:
        """Page after page of the tasks that match, newest first."""
        return pages(self.store, wanted, limit)

    def records(self, wanted: TaskFilter = EVERYTHING) -> list[Record]:
        """Every task that matches, newest first."""
        return listed(self.store, wanted)

    def ids(self, wanted: TaskFilter = EVERYTHING) -> list[str]:
        """The id of every task that matches, newest first."""
        return [record.head.id for record in self.records(wanted)]

    def snapshot(self) -> dict[str, Any]:
        """Everything that can be read, in a shape that compares; the lanes without their version."""
        store = self.store
        records = self.records()
        return {
            "records": records,
            "full": [store.load(record.head.id) for record in records],
            "blocks": {
                (record.seq, epoch): store.blocks(record.seq, epoch, 0, PLENTY)
                for record in records
                for epoch in range(1, record.state.epoch + 1)
            },
            "counts": sorted(repr(count) for count in store.counts() if count.number),
            "values": {namespace: store.values(namespace) for namespace in sorted(self.namespaces)},
            "stops": sorted(store.stops()),
            "lanes": store.lanes()[1],
        }

    def unheard(self) -> list[str]:
        """A sentence for each task that is not as its events say; empty for a store that tells everything."""
        return [
            f"task {record.head.id!r} is {told_of(record.state)}, but its last event said {told and told_of(told)}"
            for record in self.records()
            if (told := self.last_events.get(record.head.id)) is None or told_of(told) != told_of(record.state)
        ]

    def _check_event(self, event: Event) -> None:
        if event.kind is EventKind.DELETED:
            assert self.store.get(event.task_id) is None
            return
        record = self.record(event.task_id)
        assert event == event_of(event.kind, event.at, record.seq, record.head, record.state)


def told_of(state: TaskState | Event) -> tuple[object, ...]:
    """What an event tells of a task's state, but for `wakes_at`, which renewals change without one."""
    return state.status, state.phase, state.priority, state.epoch, state.attempt, state.due_at, state.failure


def task_ids(values: Sequence[Run | Record | Event | Entry]) -> list[str]:
    """The task that each value is about."""
    return [value.head.id if isinstance(value, Run | Record) else value.task_id for value in values]
