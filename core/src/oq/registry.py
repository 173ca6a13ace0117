"""Executors by name: register, look up, check payloads, and run or stream a task directly, with no queue at all."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
import trio
from attrs import define, field, frozen
from msgspec import Struct

from oq.clock import Clock, wall_clock
from oq.codec import PayloadCodec, make_converter
from oq.errors import DuplicateExecutor, InvalidExecutor, InvalidTask, PluginError, UnknownAction, UnknownExecutor
from oq.executor import SUMMARY_LENGTH, Action, ChecksPayload, ChoosesLane, Chunk, Context, Executor, HasPools
from oq.task import Priority, Status, Task, TaskHead, TaskSpec, TaskState, effective_timeout

RESERVED_NAMES = ("all", "queue", "executor")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@frozen(kw_only=True)
class ExecutorInfo:
    """What `Registry.list` tells of an executor."""

    name: str
    version: str
    description: str
    actions: dict[str, str]
    """Name -> summary."""


class CheckedPayload(Struct, frozen=True, kw_only=True):
    """A payload that its executor takes."""

    value: Any
    """An instance of the action's payload class."""
    data: bytes
    """As it is stored."""
    lane: str
    summary: str
    model: str | None


@frozen(kw_only=True)
class _Bound:
    """What is needed of an executor for every task of one of its actions, looked up once."""

    action: Action
    codec: PayloadCodec[Any]
    check: Callable[[str, Any], None] | None
    lane: Callable[[str, Any, str | None], str] | None


class Registry:
    """Executors by name."""

    def __init__(self, executors: Iterable[Executor] = ()) -> None:
        self._executors: dict[str, Executor] = {}
        self._bound: dict[tuple[str, str], _Bound] = {}
        self._converter = make_converter()
        self._holder: _Holder | None = None
        self._tell: list[Callable[[], None]] = []
        for executor in executors:
            self.register(executor)

    def register(self, executor: Executor) -> None:
        """Add an executor.

        Raises DuplicateExecutor when its name is taken, and InvalidExecutor when it breaks the protocol. An executor
        that is an async context manager must be registered before the registry is opened.
        """
        name = getattr(executor, "name", None)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidExecutor(str(name), "the name must be lower-case letters, digits, _ and -")
        if name in RESERVED_NAMES:
            raise InvalidExecutor(name, "the name begins the names of oq's own pools; choose another one")
        if name in self._executors:
            raise DuplicateExecutor(name)
        for attribute in ("version", "description", "actions", "execute"):
            if not hasattr(executor, attribute):
                raise InvalidExecutor(name, f"it has no attribute {attribute!r}")
        if self._holder is not None and isinstance(executor, AbstractAsyncContextManager):
            raise InvalidExecutor(name, "it holds resources, so it must be registered before the queue starts")
        if not isinstance(executor.actions, Mapping):
            raise InvalidExecutor(name, "its actions must be a mapping of names to Action")
        self._bound |= {(name, action_name): self._bind(executor, action_name) for action_name in executor.actions}
        self._executors[name] = executor
        if isinstance(executor, HasPools):
            executor.on_pools_change(self._changed)
        self._changed()

    def unregister(self, name: str) -> None:
        """Take an executor out; its pending tasks wait until it is back. Raises UnknownExecutor."""
        self.get(name)
        del self._executors[name]
        for key in [key for key in self._bound if key[0] == name]:
            del self._bound[key]
        self._changed()

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever executors, their functions or their pools have changed."""
        self._tell.append(tell)

    def get(self, name: str) -> Executor:
        """The executor of this name; raises UnknownExecutor."""
        try:
            return self._executors[name]
        except KeyError:
            raise UnknownExecutor(name, sorted(self._executors)) from None

    def executors(self) -> tuple[Executor, ...]:
        """All of them, in the order in which they were registered."""
        return tuple(self._executors.values())

    def list(self) -> list[ExecutorInfo]:
        """What there is, by name."""
        return [
            ExecutorInfo(
                name=name,
                version=executor.version,
                description=executor.description,
                actions={action: what.summary for action, what in sorted(executor.actions.items())},
            )
            for name, executor in sorted(self._executors.items())
        ]

    def __contains__(self, name: object) -> bool:
        return name in self._executors

    def action(self, executor: str, action: str) -> Action:
        """What the executor says of this action; raises UnknownExecutor and UnknownAction."""
        return self._find(executor, action).action

    def check(self, spec: TaskSpec) -> CheckedPayload:
        """The spec's payload, checked; raises InvalidTask, UnknownExecutor or UnknownAction."""
        bound = self._find(spec.executor, spec.action)
        value, data = bound.codec.parse(spec.payload)
        if bound.check is not None:
            bound.check(spec.action, value)
        lane = spec.lane or spec.executor
        if bound.lane is not None:
            lane = bound.lane(spec.action, value, spec.lane)
        describe = bound.action.describe
        model = getattr(value, "model", None)
        return CheckedPayload(
            value=value,
            data=data,
            lane=lane,
            summary="" if describe is None else " ".join(describe(value).split())[:SUMMARY_LENGTH],
            model=model if isinstance(model, str) else None,
        )

    def can_execute(self, spec: TaskSpec) -> bool:
        """Whether `check` would pass."""
        try:
            self.check(spec)
        except (InvalidTask, UnknownExecutor, UnknownAction):
            return False
        return True

    def decode_payload(self, executor: str, action: str, data: bytes) -> Any:
        """A stored payload as an instance of its class.

        Raises UnknownExecutor or UnknownAction, and InvalidTask when it does not fit the class any more.
        """
        bound = self._find(executor, action)
        try:
            return bound.codec.decode(data)
        except msgspec.DecodeError as error:
            raise InvalidTask(
                f"the stored payload does not fit {executor}/{action} any more: {error}", "payload"
            ) from None

    async def execute(self, spec: TaskSpec, *, clock: Clock = wall_clock) -> Any:
        """Run the task here and now, without a queue, and return what the executor returns; raises what it raises.

        Raises TooSlowError when `spec.timeout` passes. The registry must be open (`async with registry.opened()`) for
        executors that hold resources.
        """
        return await self._run(spec, _DirectContext(self, clock(), None), clock)

    async def delegate(self, task: Task, ctx: Context, executor: str, action: str, payload: Any) -> Any:
        """Do another thing within the run of `task`; see `oq.executor.Context.delegate`."""
        checked = self.check(TaskSpec(executor=executor, action=action, payload=payload))
        head = msgspec.structs.replace(
            task.head, executor=executor, action=action, lane=checked.lane, model=checked.model
        )
        part = Task(seq=task.seq, head=head, state=task.state, payload=checked.value, past_attempts=())
        return await self.get(executor).execute(part, ctx)

    @asynccontextmanager
    async def stream(self, spec: TaskSpec, *, clock: Clock = wall_clock) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Run the task here and now; within the block, iterate over its chunks. What the executor raises comes out."""
        send, receive = trio.open_memory_channel[Chunk](0)
        errors: list[Exception] = []

        async def run() -> None:
            async with send:
                try:
                    await self._run(spec, _DirectContext(self, clock(), send), clock)
                except Exception as error:  # noqa: BLE001  # re-raised below, where no nursery wraps it in a group
                    errors.append(error)

        async with trio.open_nursery() as nursery, receive:
            nursery.start_soon(run)
            try:
                yield aiter(receive)
            except Exception as error:  # noqa: BLE001  # re-raised below, where no nursery wraps it in a group
                errors.insert(0, error)
            nursery.cancel_scope.cancel()
        if errors:
            raise errors[0]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the resources of all executors for the length of the block.

        Raises RuntimeError if they are held already, what an executor raises when it is entered, and PluginError when
        something of its own breaks while it is open; the block is cancelled then.
        """
        if self._holder is not None:
            raise RuntimeError("the registry is open already")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            holder = self._holder = _Holder(nursery)
            try:
                for executor in self._executors.values():
                    if isinstance(executor, AbstractAsyncContextManager):
                        await nursery.start(holder.hold, executor.name, executor)
                yield
            except Exception as error:  # noqa: BLE001  # re-raised below, where no nursery wraps it in a group
                failure = error
            finally:
                holder.release.set()
                self._holder = None
        if holder.broken is not None:
            raise holder.broken
        if failure is not None:
            raise failure

    def _changed(self) -> None:
        for tell in self._tell:
            tell()

    async def _run(self, spec: TaskSpec, ctx: _DirectContext, clock: Clock) -> Any:
        checked = self.check(spec)
        now = clock()
        head = TaskHead(
            id=spec.id or "direct",
            executor=spec.executor,
            action=spec.action,
            queue=spec.queue,
            lane=checked.lane,
            submitted_at=now,
            tags=spec.tags,
            metadata=dict(spec.metadata),
        )
        state = TaskState(
            status=Status.RUNNING, phase=None, priority=Priority(spec.priority), epoch=1, attempt=1, started_at=now
        )
        task = ctx.task = Task(seq=0, head=head, state=state, payload=checked.value, past_attempts=())
        limit = effective_timeout(spec.timeout, None)
        ctx.deadline = trio.current_time() + limit
        with trio.fail_at(ctx.deadline) if limit < math.inf else trio.CancelScope():
            return await self._executors[spec.executor].execute(task, ctx)

    def _find(self, executor_name: str, action_name: str) -> _Bound:
        bound = self._bound.get((executor_name, action_name))
        if bound is None:
            executor = self.get(executor_name)
            if action_name not in executor.actions:
                raise UnknownAction(executor_name, action_name, sorted(executor.actions))
            bound = self._bound[executor_name, action_name] = self._bind(executor, action_name)
        return bound

    def _bind(self, executor: Executor, action_name: str) -> _Bound:
        action = executor.actions[action_name]
        if not isinstance(action, Action):
            raise InvalidExecutor(executor.name, f"{action_name!r} is not an Action")
        try:
            codec = PayloadCodec(action.payload, self._converter)
        except TypeError as error:
            raise InvalidExecutor(executor.name, f"the payload of {action_name!r} cannot be stored: {error}") from None
        return _Bound(
            action=action,
            codec=codec,
            check=executor.check if isinstance(executor, ChecksPayload) else None,
            lane=executor.lane if isinstance(executor, ChoosesLane) else None,
        )


@define
class _Holder:
    """Keeps the resources of executors, each in a task of its own."""

    nursery: trio.Nursery
    release: trio.Event = field(factory=trio.Event)
    broken: PluginError | None = None
    """Which executor has broken, and how."""

    async def hold(
        self,
        name: str,
        executor: AbstractAsyncContextManager[object],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        is_open = False
        try:
            with trio.CancelScope() as scope:
                async with executor:
                    is_open = True
                    task_status.started()
                    scope.shield = True  # cancelled attempts need the resources to clean up
                    await self.release.wait()  # or until something of the executor's own breaks, and cancels this
                    scope.shield = False
        except Exception as error:
            if not is_open or self.release.is_set():
                raise
            self.broken = PluginError(f"executor {name!r} broke while it was open: {_innermost(error)!r}")
            self.broken.__cause__ = error
            self.nursery.cancel_scope.cancel()


def _innermost(error: BaseException) -> BaseException:
    """The first error in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@define
class _DirectContext:
    """The context of a run without a queue."""

    _registry: Registry
    started_at: datetime
    _sink: trio.MemorySendChannel[Chunk] | None
    task: Task | None = None
    epoch: int = 1
    attempt: int = 1
    deadline: float = math.inf
    units: tuple[str, ...] = ()
    executed_on: str | None = None
    emitted: int = 0

    async def emit(self, chunk: Chunk | str) -> None:
        chunk = Chunk(text=chunk) if isinstance(chunk, str) else chunk
        numbered = msgspec.structs.replace(chunk, epoch=self.epoch, index=self.emitted)
        self.emitted += 1
        if self._sink is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._sink.send(numbered)

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None:  # noqa: ARG002  # the protocol's signature
        """Nobody counts units here."""
        await trio.lowlevel.checkpoint()
        return None

    async def delegate(self, executor: str, action: str, payload: Any) -> Any:
        assert self.task is not None, "a run begins with its task"
        return await self._registry.delegate(self.task, self, executor, action, payload)
