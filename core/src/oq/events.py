"""Events: frozen statements that something happened, made by the store in the transaction that made it so."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from oq.task import Failure, Phase, Status, TaskHead, TaskState


class EventKind(StrEnum):
    """What happened."""

    SUBMITTED = "submitted"
    READY = "ready"
    """A task's moment came, or the last task it waited for was settled."""
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    RELEASED = "released"
    LOST = "lost"
    CANCELLED = "cancelled"
    REQUEUED = "requeued"
    PRIORITY_CHANGED = "priority_changed"
    SPARED = "spared"
    """Its result was to be dropped, but is kept for another while: a task that is not final may need it."""
    DROPPED = "dropped"
    """Its result and output are gone, because their time had passed."""
    DELETED = "deleted"
    """It is gone with everything of it; the event says how it stood before."""


class Event(Struct, frozen=True, gc=False):
    """One thing that happened to one task; a msgspec struct because every transition makes one."""

    kind: EventKind
    at: datetime
    task_id: str
    seq: int
    executor: str
    action: str
    queue: str
    lane: str
    priority: int
    status: Status
    phase: Phase | None
    epoch: int
    attempt: int
    due_at: datetime | None = None
    wakes_at: datetime | None = None
    """The next moment at which something is to be done with the task, unless it moves before."""
    failure: Failure | None = None

    @property
    def final(self) -> bool:
        """Whether the task reached a final status by this."""
        return self.status.final


def event_of(kind: EventKind, at: datetime, seq: int, head: TaskHead, state: TaskState) -> Event:
    """The event that says how `head` stands after the transition that made `state`."""
    return Event(  # by position, since sixteen names take six times as long
        kind,
        at,
        head.id,
        seq,
        head.executor,
        head.action,
        head.queue,
        head.lane,
        state.priority,
        state.status,
        state.phase,
        state.epoch,
        state.attempt,
        state.due_at,
        state.wakes_at,
        state.failure,
    )
