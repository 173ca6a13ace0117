"""The seam between the queue and whatever keeps its tasks: ops, their replies, and the `Store` protocol.

An op is a frozen value that says everything it needs: moments, ids and chance are inside it, so a store decides the
same thing whenever it is applied. Each op decides first and then writes; a refusal leaves nothing behind and never
fails the other ops of its batch. Replies carry the events of what happened; events come from nowhere else.
`oq.testing.StoreContract` is the specification in tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from oq.choose import Offer
from oq.errors import OqError, QueueFull
from oq.events import Event
from oq.query import Count, Page, TaskFilter
from oq.task import Attempt, Failure, Priority, Status, TaskHead, TaskState

QUEUES = "queues"
"""The namespace of queue settings. A store obeys the pauses in it when it claims."""

EVERY_QUEUE = "*"
"""The key in `QUEUES` whose pause holds for all queues."""


class Reply(Struct, frozen=True, gc=False, kw_only=True):
    """What became of one op."""

    events: tuple[Event, ...] = ()
    unsettled: bool = False
    """Whether followers of a settled task were left for `Advance` to tell."""


class Refused(Reply, frozen=True, kw_only=True):
    """The op was not possible and changed nothing."""

    error: OqError


R_co = TypeVar("R_co", bound=Reply, covariant=True)


class Op(Struct, Generic[R_co], frozen=True, gc=False, kw_only=True):
    """One atomic change; the type parameter is the reply it gets unless it is refused."""


class Room(Struct, frozen=True, kw_only=True, gc=False):
    """How much may be pending once the tasks of an op are added; None for no limit."""

    tasks: int | None = None
    tasks_per_queue: int | None = None
    size: int | None = None
    """Bytes of payloads."""
    size_per_queue: int | None = None

    def check(self, queue: str | None, tasks: int, size: int) -> None:
        """Raise QueueFull when so much, in one queue or (None) in all, is more than may be."""
        most_tasks, most_size = (
            (self.tasks, self.size) if queue is None else (self.tasks_per_queue, self.size_per_queue)
        )
        where = "" if queue is None else f" in queue {queue!r}"
        if most_tasks is not None and tasks > most_tasks:
            raise QueueFull(f"the number of pending tasks{where}", most_tasks)
        if most_size is not None and size > most_size:
            raise QueueFull(f"the size of the payloads of pending tasks{where}, in bytes,", most_size)


ANY_NUMBER = Room()


class NewTask(Struct, frozen=True, gc=False, kw_only=True):
    """A checked task on its way into a store."""

    head: TaskHead
    priority: Priority
    payload: bytes


class Entry(Struct, frozen=True, gc=False, kw_only=True):
    """Where a submitted task is."""

    task_id: str
    seq: int
    duplicate: bool = False
    """Whether this is an older task with the same unique key."""


class Added(Reply, frozen=True, kw_only=True):
    entries: tuple[Entry, ...]
    """One for each task of the op, in its order."""


class AddMany(Op[Added], frozen=True, kw_only=True):
    """Add all of the tasks, or none.

    - A task id that exists is refused with `TaskExists`, unless the stored task is this very one (sent twice).
    - A `unique_key` that a task not yet final holds gives that task, marked duplicate, and adds nothing for it.
    - `after` may name stored tasks and earlier tasks of this op; an unknown id is `InvalidTask`.
    - More pending tasks or bytes than there is `room` for are refused with `QueueFull`.
    - An `idempotency` key seen before gives the same entries again, or `IdempotencyConflict` when `digest` differs.
    """

    tasks: tuple[NewTask, ...]
    now: datetime
    idempotency: str | None = None
    digest: str = ""
    """Tells one submission from another under the same idempotency key."""
    room: Room = ANY_NUMBER


class Run(Struct, frozen=True, gc=False, kw_only=True):
    """A task that was just claimed, with all that is needed to run it."""

    seq: int
    head: TaskHead
    state: TaskState
    payload: bytes
    units: tuple[str, ...]
    """The pools in which the claim reserved a unit for it."""


class Claimed(Reply, frozen=True, kw_only=True):
    runs: tuple[Run, ...]
    more: bool
    """Whether ready tasks were left that another claim could take once units are free."""
    lanes_version: int
    set_aside: int = 0
    """How many damaged tasks were met and set aside; as many others could be claimed at once."""


class Claim(Op[Claimed], frozen=True, kw_only=True):
    """Take ready tasks, best rank first, as far as the free units go (see `oq.choose`).

    - Only lanes that are offered are looked at, and no lane of a paused queue.
    - Each claim begins a new epoch of the task.
    - The same worker's last claim sent again under its token gives the same runs.
    - A damaged task is set aside, not given out.
    """

    token: str
    worker: str
    offers: tuple[Offer, ...]
    free: Mapping[str, int]
    """Units free in each pool that an offer names."""
    limit: int
    """The most tasks to take."""
    idle: bool
    """Whether the worker runs nothing, as a task that must run alone requires."""
    now: datetime
    lease_until: datetime | None = None
    """When a run not renewed counts as lost; None in a store that one process at a time runs."""


class Succeeded(Struct, frozen=True, gc=False):
    """The run gave a result (encoded), or None."""

    result: bytes | None


class Failed(Struct, frozen=True, gc=False):
    """The task is over without a result."""

    failure: Failure


class Retried(Struct, frozen=True, gc=False):
    """The attempt failed; the next one is due at `due_at`."""

    failure: Failure
    due_at: datetime
    counted: bool = True
    """Whether the attempt counts against the retry policy."""


class Released(Struct, frozen=True, gc=False):
    """The run is given back as if it had not been."""


Ending = Succeeded | Failed | Retried | Released
"""How a run ended, as its runner tells the store."""


class Block(Struct, frozen=True, gc=False, kw_only=True):
    """Several chunks of one run's output, encoded together."""

    first: int
    """The index of its first chunk in the run."""
    count: int
    data: bytes


class Finished(Reply, frozen=True, kw_only=True):
    """The ending is recorded; the events say what it made of the task and its followers."""


class Finish(Op[Finished], frozen=True, kw_only=True):
    """End a run; refused with `LeaseLost` unless `epoch` is the one that runs.

    At most a few hundred followers are told at once; the store remembers the rest for `Advance`.
    """

    seq: int
    epoch: int
    ending: Ending
    now: datetime
    executed_on: str | None = None
    block: Block | None = None
    """The last of the output."""


class Appended(Reply, frozen=True, kw_only=True):
    """The block is kept."""


class AppendChunks(Op[Appended], frozen=True, kw_only=True):
    """Keep a block of output; refused with `LeaseLost` unless `epoch` is the one that runs."""

    seq: int
    epoch: int
    block: Block


class Renewed(Reply, frozen=True, kw_only=True):
    lost: tuple[tuple[int, int], ...]
    """The (seq, epoch) of runs whose lease is gone."""


class Renew(Op[Renewed], frozen=True, kw_only=True):
    """Extend the leases of these (seq, epoch) runs."""

    runs: tuple[tuple[int, int], ...]
    until: datetime


class Moved(Reply, frozen=True, kw_only=True):
    """The one task was changed; the event says how."""


class Cancel(Op[Moved], frozen=True, kw_only=True):
    """Make a pending or running task cancelled. A run in progress is listed by `Store.stops` until it has stopped."""

    task_id: str
    now: datetime


class SetPriority(Op[Moved], frozen=True, kw_only=True):
    """Change the priority of a task that is not final; its sequence number stays."""

    task_id: str
    priority: Priority
    now: datetime


class Requeue(Op[Moved], frozen=True, kw_only=True):
    """Make a failed or cancelled task pending again, with a fresh count of attempts.

    Refused with `UniqueKeyTaken` while another task holds its unique key.
    """

    task_id: str
    now: datetime


class Delete(Op[Moved], frozen=True, kw_only=True):
    """Remove a final task with everything of it, as if it had never been.

    - Refused with `IllegalMove` unless the task is final, and with `TaskInUse` while a task that is not final comes
      after it.
    - A task whose run was cancelled and has not stopped yet stays in `Store.stops` until it has.
    - For tasks that come after it and are requeued later, it counts as settled; so does one that takes its id.
    - Its idempotency key goes on giving its entry.
    """

    task_id: str
    now: datetime


class PurgeCursor(Struct, frozen=True, kw_only=True, gc=False):
    """Where a purge goes on."""

    status: Status | None
    """Of the tasks to look at next; None when only idempotency keys are left."""
    seq: int = 0
    """The last of these tasks that was looked at."""
    left: int = 0
    """How many of them were looked at and left."""


class Purged(Reply, frozen=True, kw_only=True):
    """The events say which tasks were removed."""

    cursor: PurgeCursor | None
    """Where to go on; None when all was looked at."""


class Purge(Op[Purged], frozen=True, kw_only=True):
    """A step of retention: look at no more than `limit` final tasks, and delete those that were kept long enough.

    A store may look at fewer, but at one at least.

    - The tasks of each status are looked at in the order of their sequence numbers, only as far as may be of use:
      those submitted after a moment did not end before it.
    - Tasks that are in use, see `Delete`, are passed over, and so are damaged ones.
    - Then idempotency keys are forgotten, at most as many as are left of the limit.
    """

    now: datetime
    before: Mapping[Status, datetime]
    """By final status, the moment until which a task must have ended to be deleted."""
    most_completed: int | None = None
    """Completed tasks beyond so many are deleted, whenever they ended: those that were submitted first."""
    idempotent_before: datetime | None = None
    """The moment until which a key must have come for the first time to be forgotten."""
    limit: int = 100
    cursor: PurgeCursor | None = None
    """Where the step before has left off."""


class Advanced(Reply, frozen=True, kw_only=True):
    next_at: datetime | None
    """The next moment at which `Advance` has something to do."""
    more: bool
    """Whether `limit` left something to do now."""
    lanes_version: int


class Advance(Op[Advanced], frozen=True, kw_only=True):
    """Do what `now` makes due, at most `limit` steps.

    Scheduled and retrying tasks become ready, pending ones expire, runs whose lease has passed are lost, results past
    their TTL are dropped, and followers left over from a finish are told. The result of a task that is in use (see
    `Delete`) is kept for another while.
    """

    now: datetime
    limit: int = 500


class TookOver(Reply, frozen=True, kw_only=True):
    """Nothing runs any more."""


class TakeOver(Op[TookOver], frozen=True, kw_only=True):
    """Lose every run there is: the caller holds the run lock, so the processes they belonged to are dead."""

    now: datetime


class Stored(Reply, frozen=True, kw_only=True):
    version: int
    """The value's version from now on; 0 where it was deleted."""


class PutValue(Op[Stored], frozen=True, kw_only=True):
    """Keep a small value under a name, or delete it (`value=None`).

    Refused with `VersionConflict` when `expect` is given and is not the version at hand (0: there is none).
    """

    namespace: str
    key: str
    value: bytes | None
    expect: int | None = None


class Value(Struct, frozen=True):
    """A stored value and its version, which grows by one with each put."""

    data: bytes
    version: int


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """A task as a list shows it."""

    seq: int
    head: TaskHead
    state: TaskState


class FullRecord(Struct, frozen=True, gc=False, kw_only=True):
    """A task with everything but its output, read at one moment."""

    seq: int
    head: TaskHead
    state: TaskState
    payload: bytes
    result: bytes | None
    attempts: tuple[Attempt, ...]


class Store(Protocol):
    """Keeps tasks. Synchronous, without threads or a clock; the module's docstring has the rules of ops."""

    location: str
    """What to call it in messages: a path or URL."""
    exclusive: bool
    """Whether one process at a time runs tasks, so that runs need no lease."""

    def lock_run(self) -> None:
        """Become the process that runs tasks, where there can be only one; `StoreInUse` when another one is."""

    def unlock_run(self) -> None:
        """Let another process run tasks."""

    def runner(self) -> str | None:
        """Who runs tasks now, in words; None when nobody does, or where any number may."""

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        """Apply the ops in order; what is not refused is durable on return.

        Raises StoreUnavailable when nothing of the batch was stored and it may be sent again.
        """

    def resolve(self, prefix: str, limit: int) -> list[str]:
        """At most `limit` ids that begin with `prefix`; the exact one alone where there is one."""

    def get(self, task_id: str) -> Record | None: ...

    def load(self, task_id: str) -> FullRecord | None: ...

    def blocks(self, seq: int, epoch: int, first: int, limit: int) -> list[Block]:
        """At most `limit` blocks of a run's output, from the one that holds chunk `first`."""

    def page(self, wanted: TaskFilter, cursor: int | None, limit: int) -> Page[Record]:
        """The newest tasks that match, older than `cursor`; scans a bounded number."""

    def counts(self) -> list[Count]:
        """How many tasks there are of each kind; costs the same however many there are."""

    def lanes(self) -> tuple[int, frozenset[tuple[str, str, str]]]:
        """A version, and the (queue, executor, lane) in which tasks may be ready. Equal versions mean equal sets."""

    def stops(self) -> list[tuple[int, int]]:
        """The (seq, epoch) of runs that were cancelled but whose runner has not said yet that they stopped."""

    def value(self, namespace: str, key: str) -> Value | None: ...

    def values(self, namespace: str) -> dict[str, Value]: ...

    def size(self) -> int:
        """Bytes that the store takes up."""

    def changes_fileno(self) -> int | None:
        """A file descriptor that can be read when another process changed the store; None where there is none."""

    def drain_changes(self) -> None:
        """Take note of the changes that the descriptor told of."""

    def check(self) -> list[str]:
        """A sentence for each invariant that does not hold; slow, reads everything."""

    def close(self) -> None: ...
