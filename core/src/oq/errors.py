"""Every exception of oq.

OqError
├── CallerError                 the caller's mistake: change the call
│   ├── InvalidTask             a spec or payload is wrong; names each field
│   ├── InvalidSchedule         a cron entry is wrong; names each field
│   ├── InvalidSettings         a setting is wrong; names each key
│   ├── InvalidQuery            a filter or cursor makes no sense
│   ├── TaskNotFound            no task has this id
│   ├── AmbiguousId             an id prefix fits several tasks
│   ├── TaskExists              the chosen id is taken
│   ├── UniqueKeyTaken          another task holds the unique key by now
│   ├── IdempotencyConflict     an idempotency key came again with another body
│   ├── IllegalMove             the task's status does not allow this
│   ├── TaskInUse               a task that is not final needs this one
│   ├── VersionConflict         a stored value changed since it was read
│   ├── UnknownExecutor         no such executor is installed
│   ├── UnknownAction           the executor has no such action
│   └── QueueClosed             the queue was closed
├── QueueFull                   a limit is reached; says which, and when to come back
├── LeaseLost                   this run's right to the task has ended
├── UnsuccessfulTask            what `result()` raises; holds the final task
│   ├── TaskFailed
│   └── TaskCancelled
├── PluginError                 a plugin's fault
│   ├── PluginLoadError         it could not be loaded
│   ├── InvalidExecutor         its executor breaks the protocol
│   └── DuplicateExecutor       two executors of one name
└── StoreError                  the outside broke, or is not ours
    ├── StoreInUse              another process runs this queue, or this process has it open
    ├── StoreUnavailable        the disk refused; the same call may succeed later
    ├── StoreFormat             written by another version of oq, or not by oq
    └── DamagedRecord           a record's checksum is wrong

Steering                        raised by executors to say what happens next
├── PermanentError              do not retry
├── RetryableError              retry as the task's policy says
└── RetryLater                  retry after so many seconds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from oq.task import Task


class OqError(Exception):
    """The root of what oq raises by itself."""


class CallerError(OqError):
    """The call was wrong; sending it again unchanged fails again."""


@frozen
class Problem:
    """One thing that is wrong with an input."""

    path: str
    """Where: a dotted path such as `payload.messages[0].role`; empty for the whole."""
    message: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def under(self, prefix: str) -> Problem:
        """The same problem, seen from one level further out."""
        if not self.path:
            return Problem(prefix, self.message)
        joint = "" if self.path.startswith("[") else "."
        return Problem(f"{prefix}{joint}{self.path}", self.message)


class _WithProblems(CallerError):
    """An input in which one or several things are wrong."""

    def __init__(self, problems: Sequence[Problem] | str, path: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(path, problems)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class InvalidTask(_WithProblems):
    """A task's spec or payload is wrong; nothing was stored."""


class InvalidSchedule(_WithProblems, ValueError):
    """A cron entry, its schedule, time zone or template is wrong. A ValueError too, since making an entry raises it."""


class InvalidSettings(_WithProblems):
    """A setting is unknown or has a wrong value."""


class InvalidQuery(CallerError):
    """A filter, cursor or limit makes no sense."""


class TaskNotFound(CallerError):
    """No task has this id."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"there is no task {task_id!r}")


class AmbiguousId(CallerError):
    """An id prefix fits more than one task."""

    def __init__(self, prefix: str, matches: Sequence[str]) -> None:
        self.prefix = prefix
        self.matches = tuple(matches)
        shown = ", ".join(self.matches[:2]) + (", …" if len(self.matches) > 2 else "")
        super().__init__(f"{prefix!r} fits several tasks ({shown}); give more characters")


class TaskExists(CallerError):
    """The id chosen for a new task is taken; the stored task is untouched."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"a task with the id {task_id!r} exists already; choose another id or leave it out")


class UniqueKeyTaken(CallerError):
    """A task cannot be requeued while another one holds its unique key."""

    def __init__(self, task_id: str, holder: str) -> None:
        self.task_id = task_id
        self.holder = holder
        super().__init__(
            f"task {task_id!r} cannot be requeued: task {holder!r} has the same unique key and is not final"
        )


class IdempotencyConflict(CallerError):
    """An idempotency key was used again for a different submission."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the idempotency key {key!r} was used before with other content")


class IllegalMove(CallerError):
    """The lifecycle does not allow this move from the task's present status."""

    def __init__(self, task_id: str, status: str, move: str) -> None:
        self.task_id = task_id
        self.status = status
        self.move = move
        super().__init__(f"task {task_id!r} is {status}; {move} is not possible")


class TaskInUse(CallerError):
    """A task cannot be deleted while one that comes after it is not final."""

    def __init__(self, task_id: str, needed_by: str) -> None:
        self.task_id = task_id
        self.needed_by = needed_by
        super().__init__(f"task {task_id!r} cannot be deleted: task {needed_by!r}, which comes after it, is not final")


class VersionConflict(CallerError):
    """A stored value is not at the version that the caller expected."""

    def __init__(self, namespace: str, key: str, found: int) -> None:
        self.namespace = namespace
        self.key = key
        self.found = found
        super().__init__(f"{namespace}/{key} is at version {found}; read it again and repeat the change")


OFFICIAL_EXECUTORS = ("script", "ollama", "openai", "http")
"""Those of oq's own packages; of other names nobody knows which package brings them."""


class UnknownExecutor(CallerError):
    """No executor of this name is registered."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        have = ", ".join(self.known) or "none"
        hint = f"; install oq-{name}" if name in OFFICIAL_EXECUTORS else ""
        super().__init__(f"no executor {name!r} is installed (there are: {have}){hint}")


class UnknownAction(CallerError):
    """The executor has no action of this name."""

    def __init__(self, executor: str, action: str, known: Sequence[str]) -> None:
        self.executor = executor
        self.action = action
        self.known = tuple(known)
        super().__init__(f"executor {executor!r} has no action {action!r} (it has: {', '.join(self.known) or 'none'})")


class QueueClosed(CallerError):
    """The queue was closed, so it takes no more work."""

    def __init__(self) -> None:
        super().__init__("the queue is closed")


class QueueFull(OqError):
    """A limit of the queue is reached; nothing of this submission was stored."""

    def __init__(self, what: str, limit: int, retry_after: float | None = None) -> None:
        self.what = what
        self.limit = limit
        self.retry_after = retry_after
        """Seconds after which room is likely, or None where nothing drains."""
        when = "" if retry_after is None else f"; try again in {retry_after:.0f} s"
        super().__init__(f"the queue is full: {what} is at its limit of {limit:,}{when}")


class LeaseLost(OqError):
    """The run's epoch is over (cancelled, lost, released, finished); what it says changes nothing."""

    def __init__(self, seq: int, epoch: int) -> None:
        self.seq = seq
        self.epoch = epoch
        super().__init__(f"epoch {epoch} of task #{seq} is over")


class UnsuccessfulTask(OqError):
    """A task whose result was asked for did not complete."""

    def __init__(self, task: Task) -> None:
        self.task = task
        failure = task.failure
        why = f": {failure.type}: {failure.message}" if failure else ""
        super().__init__(f"task {task.id!r} {task.status}{why}")


class TaskFailed(UnsuccessfulTask):
    """The task whose result was asked for failed."""


class TaskCancelled(UnsuccessfulTask):
    """The task whose result was asked for was cancelled."""


class PluginError(OqError):
    """A plugin is at fault."""


class PluginLoadError(PluginError):
    """A plugin could not be loaded."""

    def __init__(self, plugin: str, distribution: str, version: str, reason: str) -> None:
        self.plugin = plugin
        self.distribution = distribution
        self.version = version
        self.reason = reason
        super().__init__(
            f"plugin {plugin!r} ({distribution} {version}) cannot be loaded: {reason}; "
            f"repair it, uninstall {distribution}, or disable it with OQ_DISABLED_PLUGINS={plugin}"
        )


class InvalidExecutor(PluginError):
    """An executor does not fulfil the protocol."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"executor {name!r}: {reason}")


class DuplicateExecutor(PluginError):
    """Two executors want the same name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an executor named {name!r} is registered already; unregister or disable one of the two")


class StoreError(OqError):
    """The store cannot do what was asked."""


class StoreInUse(StoreError):
    """Somebody else holds what can be held once."""

    def __init__(self, location: str, holder: str) -> None:
        self.location = location
        self.holder = holder
        super().__init__(f"the queue in {location} is run by {holder}; stop that one, or open it without workers")


class StoreUnavailable(StoreError):
    """The disk or the server refused; nothing of this batch was stored, and it may be sent again."""

    def __init__(self, location: str, reason: str) -> None:
        self.location = location
        self.reason = reason
        super().__init__(f"the store in {location} cannot write: {reason}")


class StoreFormat(StoreError):
    """The data was not written by a version of oq that this one can read."""

    def __init__(self, location: str, reason: str) -> None:
        self.location = location
        self.reason = reason
        super().__init__(f"cannot open {location}: {reason}")


class DamagedRecord(StoreError):
    """A stored record fails its checksum or cannot be decoded."""

    def __init__(self, kind: str, key: str, reason: str) -> None:
        self.kind = kind
        self.key = key
        self.reason = reason
        super().__init__(f"the {kind} record of {key} is damaged ({reason}); `oq check` tells more")


class Steering(Exception):
    """Raised by an executor to steer what happens to its task."""


class _Described(Steering):
    """A failed attempt, described by whoever raises it."""

    def __init__(self, message: str, *, type: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        self.message = message
        self.type = type or self.__class__.__name__
        """What the failure is called in the task's record."""
        self.details = details
        """Anything that can be stored: exit code, status, partial output."""
        super().__init__(message)


class PermanentError(_Described):
    """The attempt failed in a way that a retry cannot mend."""


class RetryableError(_Described):
    """The attempt failed and may be repeated as the task's policy says; any other exception means the same."""


class RetryLater(_Described):
    """The attempt should be repeated `after` seconds from now, at the earliest."""

    def __init__(
        self,
        after: float,
        message: str = "asked to be retried later",
        *,
        counted: bool = True,
        type: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, type=type, details=details)
        self.after = after
        """Seconds; the least wait."""
        self.counted = counted
        """Whether this attempt counts against the retry policy."""
