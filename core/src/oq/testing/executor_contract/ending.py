"""The contract of runs that are ended from outside: by a cancel, a time-out or a shutdown."""

from __future__ import annotations

import attrs
import trio

from oq.retry import NO_RETRY
from oq.task import Outcome, Status
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio

MOMENT = 0.05
"""Seconds; a time-out that the endless example runs into."""


class Ending(ExecutorFrame):
    """It ends when it is told to."""

    @on_trio
    async def test_a_cancelled_run_ends_soon_and_lets_cancelled_pass(self, subject: Subject) -> None:
        """Cancelled in the midst of its work, the run ends within a second and by `trio.Cancelled`."""
        async with subject.opened() as begin:
            run = begin(subject.endless())
            await subject.until_under_way(run)
            await subject.until_cancelled(run)

    @on_trio
    async def test_a_run_can_be_cancelled_at_once(self, subject: Subject) -> None:
        """A run that is cancelled before it has done anything ends likewise."""
        async with subject.opened() as begin:
            await subject.until_cancelled(begin(subject.endless()))

    @on_trio
    async def test_a_run_can_be_cancelled_at_any_moment(self, subject: Subject) -> None:
        """So does one that is cancelled while it is still getting under way."""
        spec = subject.endless()
        async with subject.opened() as begin:
            for moments in range(1, 20):
                run = begin(spec)
                for _ in range(moments):
                    await trio.lowlevel.checkpoint()
                await subject.until_cancelled(run)

    @on_trio
    async def test_a_run_can_be_cancelled_while_it_emits(self, subject: Subject) -> None:
        """So does one that waits in `emit`, because the store is behind."""
        spec = subject.streaming()
        async with subject.opened() as begin:
            run = begin(spec, trio.sleep_forever)
            async with subject.soon("the streaming example emits nothing"):
                await run.first_chunk.wait()
            await subject.until_cancelled(run)

    @on_trio
    async def test_a_run_whose_reader_goes_away_ends(self, subject: Subject) -> None:
        """Who leaves the block of `Registry.stream` early does not have to wait for the run's end."""
        spec = subject.streaming()
        async with subject.registry.opened():
            with trio.move_on_after(subject.patience + subject.cancel_within) as scope:
                async with subject.registry.stream(spec) as chunks:
                    await anext(chunks)
        if scope.cancelled_caught:
            subject.fail("a run goes on though nobody reads its output any more")

    @on_trio
    async def test_a_cancel_frees_the_unit(self, subject: Subject) -> None:
        """A cancelled task is final as `cancelled`, and what waited for its unit starts and completes."""
        spec = subject.endless()
        async with subject.queue(workers=1) as queue:
            endless = await queue.submit(spec)
            await subject.until_task_under_way(endless, spec)
            quick = await queue.submit(subject.examples.quick)
            await endless.cancel()
            await subject.until_none_runs(queue, subject.cancel_within)
            async with subject.soon("what waited for the unit of a cancelled task does not complete"):
                assert (await quick.wait()).status is Status.COMPLETED
            assert (await endless.refresh()).status is Status.CANCELLED
            assert (await queue.stats()).busy == 0

    @on_trio
    async def test_a_time_out_is_a_failure(self, subject: Subject) -> None:
        """A run that takes longer than its task allows is ended, and the task fails as `Timeout`."""
        spec = attrs.evolve(subject.endless(), timeout=MOMENT, retry=NO_RETRY)
        async with subject.queue(workers=1) as queue:
            handle = await queue.submit(spec)
            with trio.move_on_after(subject.cancel_within + subject.patience) as scope:
                task = await handle.wait()
            if scope.cancelled_caught:
                subject.fail("a run goes on after its time")
            assert task.failure is not None, f"a run that was ended by its time-out {task.status}"
            assert (task.status, task.failure.type) == (Status.FAILED, "Timeout")

    @on_trio
    async def test_a_shutdown_gives_the_attempt_back(self, subject: Subject) -> None:
        """A run that the end of the queue ends is pending again, as if it had not been: not counted, no failure."""
        spec = subject.endless()
        async with subject.queue(workers=1) as queue:
            handle = await queue.submit(spec)
            await subject.until_task_under_way(handle, spec)
            await queue.stop(grace=0)
            task = await handle.refresh()
            if task.status is not Status.PENDING:
                subject.fail(f"a run that was to be given back left its task {task.status}")
            assert task.attempt == 0, "the attempt counts"
            assert [(attempt.outcome, attempt.failure) for attempt in task.attempts] == [(Outcome.RELEASED, None)]
