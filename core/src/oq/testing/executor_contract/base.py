"""The frame that every part of the contract stands in: a fresh executor in its surroundings, and trio around it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar, NoReturn, TypeVar

import attrs
import pytest
import trio
from attrs import define, field, frozen
from trio.testing import wait_all_tasks_blocked

from oq.executor import Action, Executor
from oq.failures import unwrapped
from oq.handle import TaskHandle
from oq.queue import Queue
from oq.registry import Registry
from oq.retry import NO_RETRY
from oq.task import Status, TaskSpec
from oq.testing.clocks import virtual_queue
from oq.testing.executor_contract.watching import WatchedRun, running_task

BREATH = 0.01
"""Seconds for which nothing happens in a run that is under way, most of the time;"""
MOMENT = 0.1
"""and seconds after which it counts as under way in any case."""
AFTERMATH = 15.0
"""Seconds that everything gets to end once it is known what is wrong."""


@frozen(kw_only=True)
class ExecutorExamples:
    """What the executor can run, for the contract to try; each must do the same however often it is run."""

    quick: TaskSpec
    """Completes soon, by itself."""
    others: Sequence[TaskSpec] = ()
    """Likewise; together with `quick` and `streaming`, at least one of each action."""
    streaming: TaskSpec | None = None
    """Completes soon, and emits the same in the same order each time. None where no action streams."""
    failing: TaskSpec | None = None
    """Fails soon. None where no good payload leads to a failure."""
    endless: TaskSpec | None = None
    """Runs until it is cancelled; where its action streams, it emits once it is under way. None where all end soon."""
    bad_payloads: Sequence[tuple[str, Mapping[str, Any], str]] = ()
    """Action, payload, and the path of the error, such as `payload.url`; what only the executor itself can know."""

    @property
    def completing(self) -> list[TaskSpec]:
        """Those that complete."""
        return [self.quick, *self.others, *([] if self.streaming is None else [self.streaming])]

    @property
    def good(self) -> list[TaskSpec]:
        """Those whose payloads are right."""
        return self.completing + [spec for spec in (self.failing, self.endless) if spec is not None]


@define(eq=False)
class Subject:
    """The executor under test."""

    executor: Executor
    examples: ExecutorExamples
    registry: Registry
    """Has the executor and those beside it; not open yet."""
    patience: float
    cancel_within: float
    open_queue: Callable[..., AbstractAsyncContextManager[Queue]]
    """With these executors and so many workers."""
    make_another: Callable[[], Executor]
    """Another executor, made in the same way."""
    _wrong: list[str] = field(factory=list)
    """What `fail` was told."""
    _settled: Event = field(factory=Event)
    """Whether it was told anything."""

    def fail(self, sentence: str) -> NoReturn:
        """Fail the test; the sentence is told even if nothing here ever ends."""
        self._wrong.append(sentence)
        self._settled.set()
        raise AssertionError(sentence)

    def action_of(self, spec: TaskSpec) -> Action:
        """The action of a spec."""
        return self.registry.action(spec.executor, spec.action)

    def endless(self) -> TaskSpec:
        """The endless example; skips the test where there is none."""
        if self.examples.endless is None:
            pytest.skip("there is no endless example")
        return self.examples.endless

    def failing(self) -> TaskSpec:
        """The failing example, without retries; skips the test where there is none."""
        if self.examples.failing is None:
            pytest.skip("there is no failing example")
        return attrs.evolve(self.examples.failing, retry=NO_RETRY)

    def streaming(self) -> TaskSpec:
        """The streaming example; skips the test where there is none."""
        if self.examples.streaming is None:
            pytest.skip("there is no streaming example")
        return self.examples.streaming

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Callable[..., WatchedRun]]:
        """Hold the executor's resources; within the block, what is given here begins a run. All are over at its end."""
        async with self.registry.opened(), trio.open_nursery() as nursery:

            def begin(spec: TaskSpec, taken: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> WatchedRun:
                run = WatchedRun(running_task(self.registry, spec), self.registry, taken)
                nursery.start_soon(run.perform)
                return run

            try:
                yield begin
            finally:
                nursery.cancel_scope.cancel()

    def queue(self, workers: int) -> AbstractAsyncContextManager[Queue]:
        """A running queue in memory with the executor."""
        return self.open_queue(*self.registry.executors(), workers=workers)

    @asynccontextmanager
    async def soon(self, what: str) -> AsyncIterator[None]:
        """Fail, saying that `what` takes too long, when the block takes longer than the patience."""
        with trio.move_on_after(self.patience) as scope:
            yield
        if scope.cancelled_caught:
            self.fail(f"{what} within {self.patience:g} s")

    async def until_over(self, run: WatchedRun) -> None:
        """Return when the run has ended by itself."""
        async with self.soon(f"{run.task!r} does not end"):
            await run.over.wait()

    async def until_under_way(self, run: WatchedRun) -> None:
        """Return when the run is in the midst of its work."""
        if self.registry.action(run.task.executor, run.task.action).streams:
            async with self.soon("the endless example, of an action that streams, emits nothing"):
                await run.first_chunk.wait()
        await until_quiet()
        if run.over.is_set():
            self.fail(f"the endless example is not endless: it {run.ending}")

    async def until_task_under_way(self, handle: TaskHandle, spec: TaskSpec) -> None:
        """Likewise, for a task of a queue."""
        if self.action_of(spec).streams:
            async with (
                self.soon("the endless example, of an action that streams, emits nothing"),
                handle.stream() as chunks,
            ):
                await anext(chunks, None)
        await until_quiet()
        status = (await handle.refresh()).status
        if status is not Status.RUNNING:
            self.fail(f"the endless example is not endless: it is {status}")

    async def until_cancelled(self, run: WatchedRun) -> None:
        """Cancel the run and return when it has ended; fail when that takes longer than it may."""
        run.cancel()
        with trio.move_on_after(self.cancel_within) as scope:
            await run.over.wait()
        if scope.cancelled_caught:
            self.fail(f"{run.task!r} still runs {self.cancel_within:g} s after it was cancelled")
        if not run.let_cancelled_pass:
            self.fail(f"trio.Cancelled was swallowed: the cancelled run {run.ending}")

    async def until_none_runs(self, queue: Queue, seconds: float) -> None:
        """Start nothing until nothing runs, as all that does was cancelled; fail when that takes longer than this."""
        with trio.move_on_after(seconds) as scope:
            await queue.drain()
        if scope.cancelled_caught:
            self.fail(f"{(await queue.stats()).busy} runs go on {seconds:g} s after they were cancelled")
        await queue.start()

    async def result_of(self, spec: TaskSpec) -> Any:
        """What a run of the task gives, without a queue; the registry must be open."""
        async with self.soon(f"{spec.action!r} does not complete"):
            result = await self.registry.execute(spec)
        return result  # noqa: RET504  # for all that mypy knows, `soon` swallows errors


class ExecutorFrame:
    """Makes the executor for each test and runs the test in trio."""

    patience: ClassVar[float] = 20.0
    """Seconds by which whatever ends by itself must have ended."""
    cancel_within: ClassVar[float] = 1.0
    """Seconds within which a cancelled run must have ended, clean-up included."""
    give_up_after: ClassVar[float] = 90.0
    """Seconds after which a test fails whose runs neither end nor heed a cancel; they are left behind."""
    entry_point: ClassVar[str | None] = None
    """The name of the plugin's entry point in the group `oq`, where it is installed when its tests run."""

    def make_executor(self, directory: Path) -> Executor:
        """A new executor; `directory` is one that it may use. Every subclass has this."""
        raise NotImplementedError

    def examples(self, directory: Path) -> ExecutorExamples:
        """What it can run. Every subclass has this."""
        raise NotImplementedError

    def surroundings(self, directory: Path) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002  # for those who override it
        """What must be there meanwhile, such as a server. It is entered first, and may note on `self` what it made."""
        return _nothing()

    def beside(self, directory: Path) -> Sequence[Executor]:  # noqa: ARG002  # likewise
        """Further executors, where it delegates to them or needs their pools."""
        return ()

    def open_queue(self, *executors: Executor, workers: int) -> AbstractAsyncContextManager[Queue]:
        """A running queue in memory with these executors."""
        return virtual_queue(*executors, workers=workers)


C = TypeVar("C", bound=ExecutorFrame)


def on_trio(test: Callable[[C, Subject], Awaitable[None]]) -> Callable[[C, Path], None]:
    """Make a plain test of an async one, which gets the subject.

    It runs in a thread of its own, so that an executor that never ends, or never lets anything else run, fails the test
    rather than hang it.
    """

    @functools.wraps(test)
    def in_thread(self: C, tmp_path: Path) -> None:
        wrong: list[str] = []
        endings: list[BaseException | None] = []
        settled = Event()

        async def main() -> None:
            async with self.surroundings(tmp_path):
                executor = self.make_executor(tmp_path)
                subject = Subject(
                    executor=executor,
                    examples=self.examples(tmp_path),
                    registry=Registry([*self.beside(tmp_path), executor]),
                    patience=self.patience,
                    cancel_within=self.cancel_within,
                    open_queue=self.open_queue,
                    make_another=functools.partial(self.make_executor, tmp_path),
                    wrong=wrong,
                    settled=settled,
                )
                await test(self, subject)

        def run() -> None:
            try:
                trio.run(main)
                endings.append(None)
            except BaseException as error:  # noqa: BLE001  # raised again in the thread of pytest
                endings.append(error)
            settled.set()

        thread = Thread(target=run, daemon=True)
        thread.start()
        settled.wait(self.give_up_after)
        if wrong:
            thread.join(min(AFTERMATH, self.give_up_after))
            raise AssertionError(wrong[0]) from (endings[0] if endings else None)
        assert endings, f"after {self.give_up_after:g} s a run neither ends nor lets others run nor heeds a cancel"
        match endings[0]:
            case BaseExceptionGroup() as group:
                raise unwrapped(group) from None
            case BaseException() as error:
                raise error

    parameters = list(inspect.signature(in_thread, follow_wrapped=False).parameters.values())
    in_thread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what pytest goes by
    return in_thread


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def until_quiet() -> None:
    """Return when nothing happens, or goes on happening."""
    with trio.move_on_after(MOMENT):
        await wait_all_tasks_blocked(BREATH)


def one_line(text: object) -> bool:
    """Whether it is a text of one line with something in it."""
    return isinstance(text, str) and bool(text.strip()) and "\n" not in text
