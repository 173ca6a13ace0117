"""Runs attempts: each claimed task from its start to the moment when its ending is recorded."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol, cast

import outcome
import trio
from attrs import define, frozen

from oq.clock import Clock
from oq.codec import encode
from oq.committer import Committer
from oq.errors import (
    LeaseLost,
    PermanentError,
    RetryableError,
    RetryLater,
    UnknownExecutor,
)
from oq.executor import Chunk
from oq.failures import as_text, failure_of, is_not_its_own, unwrapped
from oq.registry import Registry
from oq.retry import RetryPolicy, next_delay
from oq.store.base import Block, Ending, Failed, Finish, Refused, Released, Reply, Retried, Run, Succeeded
from oq.streams import Output, Streams
from oq.task import Failure, Task, effective_timeout

log = logging.getLogger(__name__)


class Units(Protocol):
    """Where the units that a run holds go back to."""

    def release(self, run: Run, units: Sequence[str]) -> None: ...

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None: ...


class Stop(Enum):
    """Why a run is being ended from outside."""

    OVER = "over"
    """Its epoch ended: it was cancelled or counts as lost."""
    SHUTDOWN = "shutdown"
    """It is to be given back."""


@frozen(kw_only=True)
class RunDefaults:
    """What holds for a task that does not say."""

    retry: RetryPolicy
    timeout: float | None
    """Seconds for one attempt; None for no limit."""
    most_result: int
    """Bytes that a result may have."""
    most_details: int
    """Bytes that a failure's details may have."""


@define(eq=False)
class Active:
    """A run in progress; also the context that its executor gets."""

    run: Run
    _streams: Streams
    _registry: Registry
    _exchange: Callable[[str, Sequence[str]], Awaitable[str | None]]
    epoch: int
    attempt: int
    started_at: datetime
    units: tuple[str, ...]
    deadline: float
    scope: trio.CancelScope
    executed_on: str | None = None
    stop: Stop | None = None
    output: Output | None = None

    async def emit(self, chunk: Chunk | str) -> None:
        """See `oq.executor.Context.emit`."""
        if self.output is None:
            self.output = self._streams.open(self.run.head.id, self.run.seq, self.epoch)
        await self.output.emit(Chunk(text=chunk) if isinstance(chunk, str) else chunk)

    @property
    def emitted(self) -> int:
        """See `oq.executor.Context.emitted`."""
        return 0 if self.output is None else self.output.next_index

    async def exchange(self, unit: str, pools: Sequence[str]) -> str | None:
        """See `oq.executor.Context.exchange`."""
        if unit not in self.units:
            await trio.lowlevel.checkpoint()
            return None
        taken = await self._exchange(unit, pools)
        if taken is not None:
            held = list(self.units)
            held[held.index(unit)] = taken
            self.units = tuple(held)
        return taken

    async def delegate(self, executor: str, action: str, payload: Any) -> Any:
        """See `oq.executor.Context.delegate`."""
        task = Task(seq=self.run.seq, head=self.run.head, state=self.run.state, payload=None, past_attempts=())
        return await self._registry.delegate(task, self, executor, action, payload)


class Runner:
    """Runs claimed tasks, each in a slot; a slot is a coroutine that lives on and takes the next run."""

    def __init__(
        self,
        registry: Registry,
        committer: Committer,
        streams: Streams,
        units: Units,
        defaults: RunDefaults,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._registry = registry
        self._committer = committer
        self._streams = streams
        self._units = units
        self._defaults = defaults
        self._clock = clock
        self._chance = chance
        self._active: dict[tuple[int, int], Active] = {}
        self._idle_slots: list[trio.lowlevel.Task] = []
        self._nursery: trio.Nursery | None = None
        self._life = trio.CancelScope(shield=True)
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def running(self) -> int:
        """How many runs are in progress."""
        return len(self._active)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the slots, until closed. Shielded: runs are given back, not cut off, when all else is cancelled."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._active.clear()
            self._changed.unpark_all()

    def close(self) -> None:
        """Let `run` end. What is in progress is cut off, so it should have been given back."""
        self._life.cancel()

    def start(self, run: Run) -> None:
        """Start a claimed task, in a slot that is idle or in a new one."""
        timeout = effective_timeout(run.head.timeout, self._defaults.timeout)
        deadline = math.inf if timeout == math.inf else trio.current_time() + timeout
        active = Active(
            run=run,
            streams=self._streams,
            registry=self._registry,
            exchange=self._units.exchange,
            epoch=run.state.epoch,
            attempt=run.state.attempt,
            started_at=run.state.started_at or self._clock(),
            units=run.units,
            deadline=deadline,
            scope=trio.CancelScope(deadline=deadline),
        )
        self._active[run.seq, run.state.epoch] = active
        if self._idle_slots:
            trio.lowlevel.reschedule(self._idle_slots.pop(), outcome.Value(active))
        else:
            assert self._nursery is not None, "the runner has not been started"
            self._nursery.start_soon(self._slot, active)

    def decline(self, run: Run) -> None:
        """Give back a claimed task that is not to be started any more."""
        self._units.release(run, run.units)
        finish = Finish(seq=run.seq, epoch=run.state.epoch, ending=Released(), now=self._clock())
        self._committer.post(finish, self._recorded)

    def end_over(self, seq: int, epoch: int) -> None:
        """The epoch of a run is over, if it is one of ours: stop it."""
        if (active := self._active.get((seq, epoch))) is not None:
            active.stop = Stop.OVER
            active.scope.cancel()

    def give_back(self) -> None:
        """Stop every run, and give it back as if it had not been."""
        for active in self._active.values():
            active.stop = active.stop or Stop.SHUTDOWN
            active.scope.cancel()

    async def wait_none_running(self) -> None:
        """Return when no run is in progress."""
        while self._active:
            await self._changed.park()

    def in_progress(self) -> list[Run]:
        """The runs in progress."""
        return [active.run for active in self._active.values()]

    async def _slot(self, active: Active) -> None:
        while True:
            ending = await self._execute(active)
            self._record(active, ending)
            active = await self._next()

    async def _next(self) -> Active:
        """Wait, idle, for the next run."""
        task = trio.lowlevel.current_task()
        self._idle_slots.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle_slots.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        return cast("Active", await trio.lowlevel.wait_task_rescheduled(abort))

    async def _execute(self, active: Active) -> Ending:
        """Run the executor within its time, and say how that ended."""
        run = active.run
        try:
            executor = self._registry.get(run.head.executor)
            payload = self._registry.decode_payload(run.head.executor, run.head.action, run.payload)
        except UnknownExecutor:
            return Released()  # it was unregistered in between; the task waits until it is back
        except Exception as error:  # noqa: BLE001  # a payload's class may raise anything
            return Failed(failure_of(error, self._defaults.most_details, retryable=False))
        task = Task(seq=run.seq, head=run.head, state=run.state, payload=payload, past_attempts=())
        try:
            with active.scope:
                result = await executor.execute(task, active)
                return _success(result, self._defaults.most_result)
        except BaseException as error:  # whatever an executor raises is its attempt's failure, and no one else's
            if is_not_its_own(error):
                raise
            return self._ending_of(error, run) if active.stop is None else Released()
        if active.stop is not None:
            return Released()
        timeout = effective_timeout(run.head.timeout, self._defaults.timeout)
        return self._ending_of(RetryableError(f"it took longer than {timeout:g} s", type="Timeout"), run)

    def _ending_of(self, error: BaseException, run: Run) -> Ending:
        """What the failed attempt means for its task."""
        error = unwrapped(error)
        now = self._clock()
        failure = failure_of(error, self._defaults.most_details, retryable=not isinstance(error, PermanentError))
        if isinstance(error, RetryLater) and not error.counted:
            return Retried(failure, now + timedelta(seconds=failure.retry_after or 0.0), counted=False)
        policy = run.head.retry or self._defaults.retry
        delay = next_delay(policy, run.state.attempt, failure, self._chance.random())
        if delay is None:
            return Failed(failure)
        return Retried(failure, now + timedelta(seconds=delay))

    def _record(self, active: Active, ending: Ending) -> None:
        """Hand the ending to the store, and its units to whoever is next."""
        run, output = active.run, active.output
        block: Block | None = output.take_block() if output is not None else None
        finish = Finish(
            seq=run.seq,
            epoch=run.state.epoch,
            ending=ending,
            now=self._clock(),
            executed_on=None if active.executed_on is None else as_text(active.executed_on),
            block=block,
        )
        del self._active[run.seq, run.state.epoch]
        units, active.units = active.units, ()
        self._units.release(run, units)
        self._committer.post(finish, self._recorded if output is None else self._recorded_with(output))
        if not self._active:
            self._changed.unpark_all()

    def _recorded_with(self, output: Output) -> Callable[[Reply], None]:
        def done(reply: Reply) -> None:
            self._streams.close(output)
            self._recorded(reply)

        return done

    def _recorded(self, reply: Reply) -> None:
        if isinstance(reply, Refused) and isinstance(reply.error, LeaseLost):
            log.debug("an ending came too late: %s", reply.error)
        elif isinstance(reply, Refused):
            log.error("an ending could not be recorded: %s", reply.error)


def _success(result: Any, most_bytes: int) -> Ending:
    if result is None:
        return Succeeded(None)
    try:
        data = encode(result)
    except Exception as error:  # noqa: BLE001  # to look into a result may raise anything
        message = f"the result, of type {type(result).__name__}, cannot be stored: {as_text(error)}"
        return Failed(Failure(type="InvalidResult", message=message, retryable=False))
    if len(data) > most_bytes:
        message = f"the result takes {len(data):,} bytes; at most {most_bytes:,} are kept (limits.result)"
        return Failed(Failure(type="ResultTooLarge", message=message, retryable=False))
    return Succeeded(data)
