"""What runs tasks: the Executor protocol, what it says of itself, and the context that a run gets.

An executor is any object with the attributes of `Executor`. What it may have besides is a protocol of its own here
(`ChecksPayload`, `ChoosesLane`, `HasPools`), and an executor that holds resources is an async context manager.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from attrs import frozen
from msgspec import Struct

from oq.task import Priority, Task

SUMMARY_LENGTH = 200
"""Characters; the most that is kept of a task's summary."""


class Chunk(Struct, frozen=True, gc=False, kw_only=True):
    """A piece of streamed output; a msgspec struct, because models emit them by the thousand."""

    text: str = ""
    kind: str = "output"
    """What it is: `output`, `stdout`, `stderr`, `thinking`, `tool_call`, `progress`, …"""
    data: Any = None
    """Anything else that can be stored."""
    epoch: int = 0
    """The run it belongs to; set by the queue."""
    index: int = 0
    """Its place in the run, from 0; set by the queue."""


@frozen(kw_only=True)
class Action:
    """One thing an executor can do."""

    payload: type[Any]
    """The attrs class of what it needs. Its fields are made of builtins, literals, enums, datetimes, lists, tuples,
    mappings, optionals and further attrs classes."""
    summary: str
    """A sentence for `oq plugins` and the docs."""
    streams: bool = False
    """Whether it emits chunks."""
    result: Any = Any
    """The type of its result; with one, `result()` gives an instance instead of builtins."""
    describe: Callable[[Any], str] | None = None
    """Payload -> a line that tells a person what the task is about; at most 200 characters are kept."""
    show: Callable[[Any], str] | None = None
    """Result (of the type above) -> what `--wait` prints of it for people; without it, JSON."""


Choices = tuple[tuple[str, ...], ...]
"""Groups of pools, the best group first; a unit of one pool is needed (see `oq.choose.Offer`)."""


@frozen(kw_only=True)
class Urgent:
    """Other choices for the urgent tasks of a lane."""

    priority: Priority
    """For tasks of at least this priority."""
    choices: Choices
    backlog: int = 0
    """Only while at least so many tasks of their queue are ready."""


@frozen(kw_only=True)
class LanePools:
    """The pools in which a task of a lane needs a unit, besides those of oq itself."""

    needs: tuple[str, ...] = ()
    """A unit of each."""
    choices: Choices = ()
    """And a unit of one out of these."""
    urgent: tuple[Urgent, ...] = ()
    """What holds instead of `choices` for some tasks; of several that apply to a task, the last."""

    def choices_for(self, priority: Priority, backlog: int) -> Choices:
        """The choices of a task of this priority, while so many tasks of its queue are ready."""
        applying = [rule for rule in self.urgent if priority >= rule.priority and backlog >= rule.backlog]
        return applying[-1].choices if applying else self.choices


class Context(Protocol):
    """What a run may know of itself, and how it speaks to those who watch."""

    epoch: int
    attempt: int
    """From 1, as the retry policy counts."""
    started_at: datetime
    deadline: float
    """When the attempt times out, by `trio.current_time()`; `math.inf` for never."""
    units: tuple[str, ...]
    """The pools that the run holds a unit of."""
    executed_on: str | None
    """To be set by an executor with several endpoints: the one that answered."""

    @property
    def emitted(self) -> int:
        """How many chunks the run has emitted."""

    async def emit(self, chunk: Chunk | str) -> None:
        """Add to the run's output. A checkpoint; waits while the store is behind with keeping what was emitted."""

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None:
        """Give the unit of one pool back for one of another: of the first of `pools` that has one free.

        Gives the name of that pool; None when none has a unit free, and then the old one is kept. It does not wait for
        one to come free.
        """

    async def delegate(self, executor: str, action: str, payload: Any) -> Any:
        """Let another installed executor do the work within this run, and return its result.

        Its chunks become chunks of this run. Raises InvalidTask, UnknownExecutor or UnknownAction as a submit would,
        and what the other executor raises.
        """


class Executor(Protocol):
    """Runs tasks. An exception that is no steering one (`PermanentError`, `RetryLater`) is a failure to be retried."""

    @property
    def name(self) -> str:
        """What specs call it: lower-case letters, digits, `_` and `-`."""

    @property
    def version(self) -> str: ...

    @property
    def description(self) -> str:
        """A sentence for `oq plugins`."""

    @property
    def actions(self) -> Mapping[str, Action]: ...

    async def execute(self, task: Task, ctx: Context) -> Any:
        """Run `task` (its payload is an instance of the action's class) and return its result.

        Cancellation means a time-out, a cancel or a shutdown: clean up, be quick, let `trio.Cancelled` pass.
        """


@runtime_checkable
class ChecksPayload(Protocol):
    """An executor that knows more about a good payload than its types tell."""

    def check(self, action: str, payload: Any) -> None:
        """Raise `InvalidTask` if the payload cannot be run, by the executor's present settings."""


@runtime_checkable
class ChoosesLane(Protocol):
    """An executor whose tasks do not all wait in one lane."""

    def lane(self, action: str, payload: Any, wanted: str | None) -> str:
        """The lane of a new task, given what its spec wishes for (None: nothing)."""


@runtime_checkable
class HasPools(Protocol):
    """An executor whose lanes need units of pools of its own, such as endpoints."""

    def pools(self) -> Mapping[str, int]:
        """How many units there are of each pool."""

    def lane_pools(self, lane: str) -> LanePools | None:
        """What a task of this lane needs; None when it cannot be served at present."""

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever one of the two answers above has changed."""


Execute = Callable[[Task, Context], Awaitable[Any]]
"""The signature of `Executor.execute`."""
