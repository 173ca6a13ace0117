"""The contract of the executor itself: it outlasts its runs and its closing, and nothing of them is left behind."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import attrs
import trio
from attrs import frozen

from oq.errors import IllegalMove
from oq.retry import NO_RETRY
from oq.task import Status
from oq.testing.executor_contract.base import ExecutorFrame, Subject, on_trio, until_quiet
from oq.testing.executor_contract.watching import WatchedRun, said

MANY = 20
"""Runs at once, in a crowd."""
CROWDS = 3
"""One after the other, as it depends on the moments of the cancels what they do."""
SLOWER = 5
"""How many times as long the cancelled ones of a crowd may take as a single one, as they all want the processor."""


@frozen
class Belongings:
    """What this process holds that a run could leave behind."""

    tasks: int
    """Of trio."""
    children: frozenset[str]
    """Processes that it started, by their ids; empty where the system does not tell."""
    files: Counter[str]
    """What its file descriptors stand for; likewise."""
    threads: frozenset[str]
    """Those that Python knows of, but for the idle ones that trio keeps for a while."""


class Outlasting(ExecutorFrame):
    """It goes on."""

    @on_trio
    async def test_it_can_be_opened_closed_and_opened_again(self, subject: Subject) -> None:
        """Each time it runs tasks as if it had been opened for the first time."""
        for _ in range(3):
            await _run_quick_one(subject)

    @on_trio
    async def test_it_can_be_closed_while_nothing_has_run(self, subject: Subject) -> None:
        """A queue that only looks opens and closes it, and runs nothing."""
        async with subject.registry.opened():
            pass
        await _run_quick_one(subject)

    @on_trio
    async def test_it_runs_after_it_was_closed_on_a_cancelled_run(self, subject: Subject) -> None:
        """A shutdown in the midst of a run does not keep it from being opened again."""
        spec = subject.endless()
        async with subject.opened() as begin:
            run = begin(spec)
            await subject.until_under_way(run)
            await subject.until_cancelled(run)
        await _run_quick_one(subject)

    @on_trio
    async def test_a_cancel_does_not_disturb_the_neighbours(self, subject: Subject) -> None:
        """Runs beside one that is cancelled complete, and emit what they always do."""
        endless = subject.endless()
        others = subject.examples.completing
        async with subject.opened() as begin:
            alone: list[WatchedRun] = []
            for spec in others:
                alone.append(begin(spec))
                await subject.until_over(alone[-1])
            doomed = begin(endless)
            await subject.until_under_way(doomed)
            beside = [begin(spec) for spec in others]
            await trio.lowlevel.checkpoint()
            await subject.until_cancelled(doomed)
            for run, same in zip(beside, alone, strict=True):
                await subject.until_over(run)
                assert run.returned, f"beside a cancelled run, {run.task!r} {run.ending}"
                assert said(run.chunks) == said(same.chunks)

    @on_trio
    async def test_nothing_is_left_of_runs_that_have_ended(self, subject: Subject) -> None:
        """Once it is closed there is no task of trio, process, thread or open file more than before it was opened."""
        await _run_quick_one(subject)  # what is made once, such as an imported module's, is no leftover
        before = await _belongings()
        async with subject.opened() as begin:
            await subject.until_over(begin(subject.examples.quick))
            opened = await _belongings()
            for spec in subject.examples.good:
                run = begin(spec)
                if spec is subject.examples.endless:
                    await subject.until_under_way(run)
                    await subject.until_cancelled(run)
                await subject.until_over(run)
            more = len((await _belongings()).children) - len(opened.children)
            assert more <= 0, f"{more} processes outlive their runs"
        after = await _belongings()
        assert after.tasks == before.tasks, f"{after.tasks - before.tasks} tasks of trio are left"
        assert after.children <= before.children, f"processes are left: {', '.join(after.children - before.children)}"
        assert after.threads <= before.threads, f"threads are left: {', '.join(after.threads - before.threads)}"
        files = after.files - before.files
        assert not files, f"open files are left: {', '.join(files)}"

    @on_trio
    async def test_a_crowd_of_runs_and_cancels_leaves_it_as_it_was(self, subject: Subject) -> None:
        """Twenty runs at once, every second one cancelled at some moment: the others end well, and then so does one."""
        chance = random.Random(0)  # noqa: S311  # the same in every run of the tests
        good = subject.examples.good
        async with subject.opened() as begin:
            for _ in range(CROWDS):
                specs = [good[number % len(good)] for number in range(MANY)]
                runs = [(begin(spec), spec) for spec in specs]
                kept = [(run, spec) for run, spec in runs[::2] if spec is not subject.examples.endless]
                doomed = [run for run, spec in runs if (run, spec) not in kept]
                chance.shuffle(doomed)
                for run in doomed:
                    for _ in range(chance.randrange(30)):
                        await trio.lowlevel.checkpoint()
                    run.cancel()
                with trio.move_on_after(SLOWER * subject.cancel_within) as scope:
                    for run in doomed:
                        await run.over.wait()
                if scope.cancelled_caught:
                    subject.fail("a run in a crowd goes on after it was cancelled")
                for run, spec in kept:
                    await subject.until_over(run)
                    assert run.returned or spec is subject.examples.failing, f"in a crowd, {run.task!r} {run.ending}"
            last = begin(subject.examples.quick)
            await subject.until_over(last)
            assert last.returned, f"after a crowd, {last.task!r} {last.ending}"

    @on_trio
    async def test_a_queue_full_of_cancels_goes_on(self, subject: Subject) -> None:
        """Twenty tasks of a queue, half of them cancelled: all become final, all units free, and one more completes."""
        chance = random.Random(1)  # noqa: S311  # likewise
        good = subject.examples.good
        async with subject.queue(workers=MANY // 2) as queue:
            specs = [good[number % len(good)] for number in range(MANY)]
            handles = await queue.submit_many([attrs.evolve(spec, retry=NO_RETRY) for spec in specs])
            for number in chance.sample(range(MANY), MANY):
                await trio.lowlevel.checkpoint()
                if number % 2 or specs[number] is subject.examples.endless:
                    with suppress(IllegalMove):  # it has ended
                        await handles[number].cancel()
            async with subject.soon("not all tasks of a full queue come to an end"):
                tasks = [await handle.wait() for handle in handles]
            await subject.until_none_runs(queue, SLOWER * subject.cancel_within)
            for task, spec in zip(tasks, specs, strict=True):
                failed = task.status is Status.FAILED
                assert not failed or spec is subject.examples.failing, f"in a full queue: {task.failure}"
            async with subject.soon("after many cancels, the quick example does not complete"):
                assert (await (await queue.submit(subject.examples.quick)).wait()).status is Status.COMPLETED


async def _run_quick_one(subject: Subject) -> None:
    async with subject.opened() as begin:
        run = begin(subject.examples.quick)
        await subject.until_over(run)
        assert run.returned, f"the quick example {run.ending}"


async def _belongings() -> Belongings:
    await until_quiet()  # a server beside the executor may need a moment to notice that somebody has gone
    gc.collect()
    return _present_belongings()


def _present_belongings() -> Belongings:
    return Belongings(
        trio.lowlevel.current_statistics().tasks_living,
        frozenset(pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()),
        Counter(_file_of(descriptor) for descriptor in Path("/proc/self/fd").glob("*")),
        frozenset(thread.name for thread in threading.enumerate() if not thread.name.lower().startswith("trio")),
    )


def _file_of(descriptor: Path) -> str:
    """The kind of what a descriptor stands for: a file's name, or `socket`, `pipe`, …"""
    try:
        return str(descriptor.readlink()).partition(":[")[0]
    except OSError:  # that of the listing itself
        return "gone"
