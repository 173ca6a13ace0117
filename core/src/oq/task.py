"""The task model: what a user hands in, how it stands, and the frozen view of both.

`TaskSpec` and what users read are attrs classes. `TaskHead` and `TaskState`, which are decoded and replaced for every
transition of every task, are msgspec structs: the same frozen values at a tenth of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any, Final, Literal

from attrs import field, frozen
from msgspec import Struct

from oq.retry import RetryPolicy

DEFAULT_QUEUE: Final = "default"


class Priority(IntEnum):
    """How urgent a task is; the highest starts first."""

    LOW = 1
    NORMAL = 5
    HIGH = 10
    CRITICAL = 15

    @classmethod
    def parse(cls, value: object) -> Priority:
        """The priority named by `value`: a name in any case, or exactly one of the numbers.

        Raises ValueError for anything else.
        """
        if isinstance(value, Priority):
            return value
        if isinstance(value, str) and value.upper() in cls.__members__:
            return cls[value.upper()]
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and number in {member.value for member in cls}:
            return cls(number)
        names = ", ".join(f"{member.name.lower()} ({member.value})" for member in cls)
        raise ValueError(f"{value!r} is not a priority; use one of {names}")


def _priority(value: object) -> Priority:
    return Priority.parse(value)


class Status(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    final: bool
    """Whether nothing happens to the task by itself any more."""

    def __init__(self, value: str) -> None:
        self.final = value in ("completed", "failed", "cancelled")


class Phase(StrEnum):
    """What a pending task waits for."""

    READY = "ready"
    """A free unit in each of its pools."""
    SCHEDULED = "scheduled"
    """Its moment."""
    RETRYING = "retrying"
    """The moment of its next attempt."""
    BLOCKED = "blocked"
    """Other tasks."""
    PAUSED = "paused"
    """Its queue to be resumed. Stores keep such a task as ready; whoever looks at it is shown this phase."""


class Outcome(StrEnum):
    """How an epoch ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"
    CANCELLED = "cancelled"


@frozen(kw_only=True)
class Failure:
    """The recorded reason why an attempt, or a task, failed."""

    type: str
    """The name of the exception or of the condition: `ConnectError`, `Timeout`, `Expired`, `Poisoned`."""
    message: str
    """A sentence for people."""
    retryable: bool = True
    """Whether another attempt may mend it."""
    retry_after: float | None = None
    """Seconds that must pass before the next attempt, where the other side said so."""
    details: Mapping[str, Any] | None = None
    """What else is worth keeping: exit code, status, partial output."""


@frozen(kw_only=True)
class Attempt:
    """One run of a task that has ended."""

    epoch: int
    """The fence of the run: unique within the task, and growing."""
    number: int
    """What the retry policy counted, from 1."""
    outcome: Outcome
    started_at: datetime
    ended_at: datetime
    worker: str = ""
    """Which process ran it."""
    executed_on: str | None = None
    """The endpoint that answered, where there was a choice."""
    failure: Failure | None = None

    @property
    def duration(self) -> float:
        """Seconds from start to end by the wall clock, never negative."""
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


OnParentFailure = Literal["fail", "continue"]
"""What a task does when one that it comes after fails or is cancelled: fail too, or start all the same."""


@frozen(kw_only=True, slots=False)  # without slots it is made in two thirds of the time
class TaskSpec:
    """What to do, written once. Everything but `executor`, `action` and `payload` has a default."""

    executor: str
    """Who does it: `script`, `ollama`, `python`, …"""
    action: str
    """Which of the executor's actions."""
    payload: Any = None
    """What the action needs: an instance of its payload class, or a mapping that fits it."""
    priority: Priority = field(default=Priority.NORMAL, converter=_priority)
    queue: str = DEFAULT_QUEUE
    """The named stream, with its own limit and pause, that the task belongs to."""
    lane: str | None = None
    """The lane within executor and queue; chosen by the executor when None."""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(factory=dict)
    """Anything of the user's; kept and shown, never read."""
    id: str | None = None
    """An id of the user's choosing, unique in the store; made by oq when None."""
    run_at: datetime | None = None
    """Not before this moment (aware)."""
    delay: float | None = None
    """Seconds from submit; the other way to say `run_at`."""
    timeout: float | None = None
    """Seconds that one attempt may take; the queue's default when None, no limit when `math.inf`."""
    expires_at: datetime | None = None
    """A task that has not started by this moment (aware) fails as `Expired`."""
    retry: RetryPolicy | None = None
    """The queue's default policy when None."""
    result_ttl: float | None = None
    """Seconds after which result and output are dropped; kept when None."""
    unique_key: str | None = None
    """While a task with this key is not final, another submit gives that task back."""
    after: tuple[str, ...] = ()
    """Ids of the tasks that must be final before this one is ready."""
    on_parent_failure: OnParentFailure = "fail"
    group: str | None = None
    """A name under which several tasks are found together."""


class Omitted(Enum):
    """The type of `OMITTED`."""

    OMITTED = "omitted"

    def __repr__(self) -> str:
        return "<omitted>"


OMITTED: Final = Omitted.OMITTED
"""Stands for a payload or result that a list or an event leaves out; `Queue.get` has it."""


class TaskHead(Struct, frozen=True, gc=False, array_like=True):
    """What never changes after submit, but for the payload. Stored as an array: append fields, never reorder them."""

    id: str
    executor: str
    action: str
    queue: str
    lane: str
    submitted_at: datetime
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    summary: str = ""
    """At most 200 characters that tell a person what the task is about."""
    model: str | None = None
    """The model that the payload names, where it names one."""
    run_at: datetime | None = None
    timeout: float | None = None
    expires_at: datetime | None = None
    retry: RetryPolicy | None = None
    result_ttl: float | None = None
    unique_key: str | None = None
    after: tuple[str, ...] = ()
    on_parent_failure: OnParentFailure = "fail"
    group: str | None = None
    size: int = 0
    """Bytes of the stored payload."""


class TaskState(Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """What changes with every transition. Stored as an array: append fields, never reorder them."""

    status: Status
    phase: Phase | None
    """Set while pending; never `PAUSED` in a store."""
    priority: int
    epoch: int = 0
    """The last epoch that a claim gave; never reset."""
    attempt: int = 0
    """Attempts that count since the last submit or requeue, a running one included."""
    losses: int = 0
    """How often the process that ran it died, since the last submit or requeue."""
    due_at: datetime | None = None
    """When a scheduled or retrying task becomes ready."""
    expires_at: datetime | None = None
    """When it fails unless a first run has started; None from then on."""
    waiting_on: int = 0
    """How many of the tasks that it comes after are not settled yet."""
    worker: str = ""
    """Who runs it, or ran it last."""
    lease_until: datetime | None = None
    """When a run not renewed counts as lost; None where the store's run lock decides."""
    started_at: datetime | None = None
    """When the present or last run started."""
    finished_at: datetime | None = None
    executed_on: str | None = None
    failure: Failure | None = None
    """Why the last attempt, or the task, failed; None after a success."""
    result_size: int | None = None
    """Bytes of the stored result; None where there is none (not completed, or dropped after its TTL)."""
    drop_at: datetime | None = None
    """When result and output are dropped."""

    @property
    def wakes_at(self) -> datetime | None:
        """The next moment at which something is to be done with the task, unless it moves before.

        Each of the four moments is None wherever it has no meaning.
        """
        due_at, expires_at = self.due_at, self.expires_at
        if due_at is None:
            return expires_at or self.lease_until or self.drop_at
        return due_at if expires_at is None or due_at < expires_at else expires_at


@frozen(kw_only=True, repr=False, slots=False)  # as with `TaskSpec`
class Task:
    """A frozen view of a task at one moment."""

    seq: int
    """The rank among tasks of one priority; given once, at submit."""
    head: TaskHead
    state: TaskState
    paused: bool = False
    """Whether its queue was paused at that moment."""
    payload: Any = OMITTED
    result: Any = OMITTED
    """What the run gave; None before completion, after its TTL, and when the run gave nothing."""
    past_attempts: tuple[Attempt, ...] | Omitted = OMITTED
    """Runs that did not end in success, oldest first."""

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.executor}/{self.action} {self.status} {self.priority.name.lower()}>"

    @property
    def id(self) -> str:
        return self.head.id

    @property
    def executor(self) -> str:
        return self.head.executor

    @property
    def action(self) -> str:
        return self.head.action

    @property
    def queue(self) -> str:
        return self.head.queue

    @property
    def lane(self) -> str:
        return self.head.lane

    @property
    def tags(self) -> tuple[str, ...]:
        return self.head.tags

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.head.metadata

    @property
    def summary(self) -> str:
        return self.head.summary

    @property
    def model(self) -> str | None:
        return self.head.model

    @property
    def group(self) -> str | None:
        return self.head.group

    @property
    def after(self) -> tuple[str, ...]:
        return self.head.after

    @property
    def run_at(self) -> datetime | None:
        return self.head.run_at

    @property
    def expires_at(self) -> datetime | None:
        return self.head.expires_at

    @property
    def timeout(self) -> float | None:
        """Seconds for one attempt, where the task says so itself."""
        return self.head.timeout

    @property
    def retry(self) -> RetryPolicy | None:
        """The retry policy, where the task has its own."""
        return self.head.retry

    @property
    def unique_key(self) -> str | None:
        return self.head.unique_key

    @property
    def submitted_at(self) -> datetime:
        return self.head.submitted_at

    @property
    def priority(self) -> Priority:
        return Priority(self.state.priority)

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def phase(self) -> Phase | None:
        """What a pending task waits for; None otherwise."""
        return Phase.PAUSED if self.paused and self.state.phase is Phase.READY else self.state.phase

    @property
    def final(self) -> bool:
        return self.state.status.final

    @property
    def epoch(self) -> int:
        return self.state.epoch

    @property
    def attempt(self) -> int:
        return self.state.attempt

    @property
    def due_at(self) -> datetime | None:
        return self.state.due_at

    @property
    def started_at(self) -> datetime | None:
        return self.state.started_at

    @property
    def finished_at(self) -> datetime | None:
        return self.state.finished_at

    @property
    def executed_on(self) -> str | None:
        return self.state.executed_on

    @property
    def failure(self) -> Failure | None:
        return self.state.failure

    @property
    def duration(self) -> float | None:
        """Seconds that the last run took by the wall clock; None before it ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every run that has ended, oldest first. Needs a task from `Queue.get`, `wait` or an executor's hands."""
        if isinstance(self.past_attempts, Omitted):
            raise AttributeError(f"this view of task {self.id!r} leaves its attempts out; Queue.get has them")
        state = self.state
        if state.status is not Status.COMPLETED or state.started_at is None or state.finished_at is None:
            return self.past_attempts
        success = Attempt(
            epoch=state.epoch,
            number=state.attempt,
            outcome=Outcome.COMPLETED,
            started_at=state.started_at,
            ended_at=state.finished_at,
            worker=state.worker,
            executed_on=state.executed_on,
        )
        return (*self.past_attempts, success)


def effective_timeout(spec_timeout: float | None, default: float | None) -> float:
    """Seconds that an attempt may take: its own limit, else the default, else no limit (`math.inf`)."""
    if spec_timeout is not None:
        return spec_timeout
    return math.inf if default is None else default
