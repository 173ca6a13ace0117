"""What each move of the lifecycle makes of a task's state: pure functions that every store shares.

Each takes the state before and the facts of the move, and gives the state after. A move that the table does not have
raises `IllegalMove`; an epoch that is over raises `LeaseLost`. Nothing here knows how or where state is kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from oq.errors import IllegalMove, LeaseLost
from oq.events import EventKind
from oq.lifecycle import Move, allowed
from oq.store.base import Ending, Failed, Purge, Released, Retried, Succeeded
from oq.task import Attempt, Failure, Outcome, Phase, Priority, Status, TaskHead, TaskState

RELEASED_AT_ONCE = 256
"""How many followers of a settled task one op tells; the rest waits for `Advance`."""

KEPT_ATTEMPTS = 100
"""Of how many epochs back the record of a run is kept."""

SPARED_FOR = 60.0
"""Seconds after which it is looked again whether a result that was in use may be dropped."""

LOSSES_BEFORE_ALONE = 2
"""A task whose process died this often runs alone, so that it cannot take others with it once more."""


def submitted(head: TaskHead, priority: Priority, waiting_on: int, now: datetime) -> TaskState:
    """The first state of a task that waits for `waiting_on` others."""
    fresh = TaskState(status=Status.PENDING, phase=None, priority=priority, expires_at=head.expires_at)
    return _pending(fresh, head.run_at, waiting_on, now)


def runs_alone(state: TaskState) -> bool:
    """Whether the task may only run while nothing else does."""
    return state.losses >= LOSSES_BEFORE_ALONE


def claimed(task_id: str, state: TaskState, worker: str, lease_until: datetime | None, now: datetime) -> TaskState:
    """Pending -> running, in a new epoch."""
    _check(task_id, state, Move.CLAIM)
    return replace(
        state,
        status=Status.RUNNING,
        phase=None,
        epoch=state.epoch + 1,
        attempt=state.attempt + 1,
        due_at=None,
        expires_at=None,
        worker=worker,
        lease_until=lease_until,
        started_at=now,
        finished_at=None,
        executed_on=None,
    )


def check_epoch(seq: int, state: TaskState | None, epoch: int) -> TaskState:
    """The state, if `epoch` is the one that runs; `LeaseLost` otherwise."""
    if state is None or state.status is not Status.RUNNING or state.epoch != epoch:
        raise LeaseLost(seq, epoch)
    return state


def ended(head: TaskHead, state: TaskState, ending: Ending, executed_on: str | None, now: datetime) -> TaskState:
    """Running -> what the run's ending makes of it."""
    task_id = head.id
    base = replace(state, lease_until=None, executed_on=executed_on)
    match ending:
        case Succeeded(result=result):
            _check(task_id, state, Move.SUCCEED)
            size = None if result is None else len(result)
            drop_at = None if head.result_ttl is None else now + timedelta(seconds=head.result_ttl)
            return replace(
                base, status=Status.COMPLETED, finished_at=now, failure=None, result_size=size, drop_at=drop_at
            )
        case Failed(failure=failure):
            _check(task_id, state, Move.FAIL)
            return replace(base, status=Status.FAILED, finished_at=now, failure=failure)
        case Retried(failure=failure, due_at=due_at, counted=counted):
            _check(task_id, state, Move.RETRY)
            return replace(
                base,
                status=Status.PENDING,
                phase=Phase.RETRYING,
                due_at=due_at,
                failure=failure,
                attempt=state.attempt if counted else state.attempt - 1,
            )
        case Released():
            _check(task_id, state, Move.RELEASE)
            return replace(base, status=Status.PENDING, phase=Phase.READY, attempt=state.attempt - 1)
        case _:
            assert_never(ending)


def renewed(state: TaskState, until: datetime) -> TaskState:
    """Running -> running, with its lease extended."""
    return replace(state, lease_until=until)


def lost(task_id: str, state: TaskState, now: datetime) -> TaskState:
    """Running -> pending, or failed when it was lost while it ran alone."""
    _check(task_id, state, Move.LOSE)
    losses = state.losses + 1
    if runs_alone(state):
        failure = Failure(
            type="Poisoned",
            message=f"the process that ran it died {losses} times, the last time with nothing else running",
            retryable=False,
        )
        return replace(state, status=Status.FAILED, finished_at=now, failure=failure, losses=losses, lease_until=None)
    return replace(
        state, status=Status.PENDING, phase=Phase.READY, losses=losses, attempt=state.attempt - 1, lease_until=None
    )


def cancelled(task_id: str, state: TaskState, now: datetime) -> TaskState:
    """Pending or running -> cancelled."""
    _check(task_id, state, Move.CANCEL)
    return replace(
        state,
        status=Status.CANCELLED,
        phase=None,
        finished_at=now,
        due_at=None,
        expires_at=None,
        lease_until=None,
        failure=None,
    )


def failed_unstarted(task_id: str, state: TaskState, failure: Failure, now: datetime) -> TaskState:
    """Pending -> failed: it expired, or a task that it comes after failed."""
    _check(task_id, state, Move.FAIL)
    return replace(
        state, status=Status.FAILED, phase=None, finished_at=now, due_at=None, expires_at=None, failure=failure
    )


def expired(task_id: str, state: TaskState, now: datetime) -> TaskState:
    """Pending -> failed, because its moment to expire has passed."""
    when = state.expires_at.isoformat() if state.expires_at else "its moment"
    failure = Failure(type="Expired", message=f"it had not started by {when}", retryable=False)
    return failed_unstarted(task_id, state, failure, now)


def due(state: TaskState) -> TaskState:
    """Scheduled or retrying -> ready, because its moment has come."""
    return replace(state, phase=Phase.READY, due_at=None)


def dropped(state: TaskState) -> TaskState:
    """Completed -> completed without its result, because that has been kept long enough."""
    return replace(state, result_size=None, drop_at=None)


def spared(state: TaskState, now: datetime) -> TaskState:
    """Completed -> completed, with its result kept for another while, because a task that is not final may need it."""
    return replace(state, drop_at=now + timedelta(seconds=SPARED_FOR))


def check_deletable(task_id: str, state: TaskState) -> None:
    """Raise IllegalMove unless the task is final."""
    if not state.status.final:
        raise IllegalMove(task_id, state.status, "delete")


class Sieve:
    """Tells which of the final tasks of one status a purge deletes; takes them in the order of their numbers."""

    def __init__(self, op: Purge, status: Status, left: int, completed: int) -> None:
        """`left` tasks were looked at before and left; `completed` is how many such tasks there are in all."""
        self._now = op.now
        self._before = op.before.get(status)
        self._beyond = 0
        """How many of the next tasks are too many, whenever they ended."""
        if status is Status.COMPLETED and op.most_completed is not None:
            self._beyond = completed - op.most_completed - left

    def takes(self, state: TaskState) -> bool:
        """Whether the next task was kept long enough."""
        self._beyond -= 1
        ended_at, before = state.finished_at, self._before
        return self._beyond >= 0 or (before is not None and ended_at is not None and ended_at <= before)

    def is_done_at(self, head: TaskHead) -> bool:
        """Whether neither the next task, which has this head, nor any after it can be one to delete.

        One from the future, by a clock that was wrong, says nothing of those after it.
        """
        return self._beyond <= 0 and (self._before is None or self._before < head.submitted_at <= self._now)

    @property
    def takes_none(self) -> bool:
        """Whether no task needs to be looked at."""
        return self._beyond <= 0 and self._before is None


def parent_settled(head: TaskHead, state: TaskState, parent: str, *, won: bool, now: datetime) -> TaskState:
    """Pending -> less blocked, ready, scheduled, or failed, because the task `parent` is final (`won`: completed)."""
    if not won and head.on_parent_failure == "fail":
        failure = Failure(
            type="ParentFailed", message=f"task {parent!r}, which it comes after, did not complete", retryable=False
        )
        return failed_unstarted(head.id, state, failure, now)
    return _pending(state, head.run_at, state.waiting_on - 1, now)


def settled_kind(after: TaskState) -> EventKind | None:
    """What `parent_settled` is called as an event; None while the task waits for other tasks.

    One that waits for its moment from now on has an event too, or nobody would know when to wake.
    """
    if after.status is Status.FAILED:
        return EventKind.FAILED
    return None if after.phase is Phase.BLOCKED else EventKind.READY


def requeued(task_id: str, state: TaskState, waiting_on: int, now: datetime) -> TaskState:
    """Failed or cancelled -> pending, with its attempts counted from the start. The epoch goes on."""
    _check(task_id, state, Move.REQUEUE)
    fresh = TaskState(status=Status.PENDING, phase=None, priority=state.priority, epoch=state.epoch)
    return _pending(fresh, None, waiting_on, now)


def reprioritized(task_id: str, state: TaskState, priority: Priority) -> TaskState:
    """The same state at another priority; a final task has none to change."""
    if state.status.final:
        raise IllegalMove(task_id, state.status, "set_priority")
    return replace(state, priority=priority)


def attempt_of(before: TaskState, after: TaskState, outcome: Outcome, now: datetime) -> Attempt:
    """The record of the run that `before` describes and that ended by the move to `after`."""
    return Attempt(
        epoch=before.epoch,
        number=before.attempt,
        outcome=outcome,
        started_at=before.started_at or now,
        ended_at=now,
        worker=before.worker,
        executed_on=after.executed_on,
        failure=after.failure if outcome is Outcome.FAILED or after.status is Status.FAILED else None,
    )


def event_kind_of(ending: Ending) -> EventKind:
    """What the run's ending is called as an event."""
    match ending:
        case Succeeded():
            return EventKind.COMPLETED
        case Failed():
            return EventKind.FAILED
        case Retried():
            return EventKind.RETRYING
        case Released():
            return EventKind.RELEASED
        case _:
            assert_never(ending)


def result_of(ending: Ending) -> bytes | None:
    """What the run gave."""
    return ending.result if isinstance(ending, Succeeded) else None


def outcome_of(ending: Ending) -> Outcome:
    """How the epoch that ended this way is recorded."""
    match ending:
        case Succeeded():
            return Outcome.COMPLETED
        case Failed() | Retried():
            return Outcome.FAILED
        case Released():
            return Outcome.RELEASED
        case _:
            assert_never(ending)


def _check(task_id: str, state: TaskState, move: Move) -> None:
    if not allowed(state.status, move):
        raise IllegalMove(task_id, state.status, move)


def _pending(state: TaskState, run_at: datetime | None, waiting_on: int, now: datetime) -> TaskState:
    """`state` as pending, in the phase that follows from what it waits for."""
    if waiting_on > 0:
        return replace(state, phase=Phase.BLOCKED, waiting_on=waiting_on)
    if run_at is not None and run_at > now:
        return replace(state, phase=Phase.SCHEDULED, due_at=run_at, waiting_on=0)
    return replace(state, phase=Phase.READY, waiting_on=0)
