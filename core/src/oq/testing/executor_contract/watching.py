"""A run without a queue that a test watches from outside: what it emits, how it ends, and when."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import trio
from attrs import define, field

from oq.codec import decode, decode_as, encode
from oq.executor import Chunk
from oq.registry import Registry
from oq.task import Priority, Status, Task, TaskHead, TaskSpec, TaskState
from oq.testing.builders import START


@define(eq=False)
class WatchedRun:
    """A run of an executor; it is also the context that the executor gets."""

    task: Task
    _registry: Registry
    _taken: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """What `emit` waits for, as it waits for the store where much is emitted."""
    chunks: list[Chunk] = field(factory=list)
    """What it has emitted."""
    first_chunk: trio.Event = field(factory=trio.Event)
    over: trio.Event = field(factory=trio.Event)
    returned: bool = False
    """Whether it ended by returning something."""
    result: Any = None
    error: BaseException | None = None
    """What it raised, unless that was `trio.Cancelled` because of `cancel`."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    epoch: int = 1
    attempt: int = 1
    started_at: datetime = START
    deadline: float = math.inf
    units: tuple[str, ...] = ()
    executed_on: str | None = None

    def cancel(self) -> None:
        """Cancel it, as a cancel, a time-out or a shutdown does."""
        self._scope.cancel()

    @property
    def let_cancelled_pass(self) -> bool:
        """Whether it ended by `trio.Cancelled`."""
        return self._scope.cancelled_caught

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence about it."""
        if self.returned:
            return f"returned {self.result!r:.60}"
        return "let trio.Cancelled pass" if self.error is None else f"raised {self.error!r:.200}"

    async def perform(self) -> None:
        """Run it to its end; raises nothing that is the run's own."""
        try:
            with self._scope:
                executor = self._registry.get(self.task.executor)
                self.result = await executor.execute(self.task, self)
                self.returned = True
        except Exception as error:  # noqa: BLE001  # an executor may raise anything
            self.error = error
        finally:
            self.over.set()

    # For the executor

    @property
    def emitted(self) -> int:
        return len(self.chunks)

    async def emit(self, chunk: Chunk | str) -> None:
        await trio.lowlevel.checkpoint()
        chunk = Chunk(text=chunk) if isinstance(chunk, str) else chunk
        numbered = msgspec.structs.replace(chunk, epoch=self.epoch, index=len(self.chunks))
        self.chunks.append(decode_as(encode(numbered), Chunk))
        self.first_chunk.set()
        await self._taken()

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None:  # noqa: ARG002  # the protocol's signature
        return None

    async def delegate(self, executor: str, action: str, payload: Any) -> Any:
        return await self._registry.delegate(self.task, self, executor, action, payload)


Said = list[tuple[str, str, Any]]
"""Kind, text and data of what was emitted."""


def said(chunks: Iterable[object]) -> Said:
    """What the chunks say, however the text is cut: how much of it arrives at a time is often up to others."""
    told: Said = []
    for chunk in chunks:
        if isinstance(chunk, Chunk):
            data = decode(encode(chunk.data))
            if told and data is None and told[-1][2] is None and told[-1][0] == chunk.kind:
                told[-1] = (chunk.kind, told[-1][1] + chunk.text, None)
            else:
                told.append((chunk.kind, chunk.text, data))
    return told


def running_task(registry: Registry, spec: TaskSpec) -> Task:
    """The spec's task as its executor gets it, in its first attempt."""
    checked = registry.check(spec)
    head = TaskHead(
        id=spec.id or "watched",
        executor=spec.executor,
        action=spec.action,
        queue=spec.queue,
        lane=checked.lane,
        submitted_at=START,
        tags=spec.tags,
        metadata=dict(spec.metadata),
    )
    state = TaskState(
        status=Status.RUNNING, phase=None, priority=Priority(spec.priority), epoch=1, attempt=1, started_at=START
    )
    return Task(seq=0, head=head, state=state, payload=checked.value, past_attempts=())
