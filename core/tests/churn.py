"""A program that submits very many small tasks while slow listeners are attached, and prints what memory that takes.

Arguments: the directory of the queue, how many tasks, and whether they `run` or `wait`. It prints a line for each tenth
of the tasks: how many have run, and the bytes of anonymous memory, which is all but the pages of files.
"""

import contextlib
import math
import sys
from pathlib import Path

import attrs
import trio

import oq
from oq.config import SchedulerSettings, Settings
from oq.plugins import built_in_plugins

BATCH = 500
WORKERS = 100
TENTHS = 10


@attrs.frozen
class Nothing:
    """A payload without anything in it."""


class Dripping:
    """An executor whose only action emits chunks for ever."""

    name = "dripping"
    version = "1"
    description = "Emits chunks for ever"
    actions = {"drip": oq.Action(payload=Nothing, summary="Emit chunks for ever", streams=True)}  # noqa: RUF012  # as the protocol has it

    async def execute(self, task, ctx):
        while True:
            await ctx.emit("drip " * 40)
            await trio.sleep(0.002)


DRIP = oq.TaskSpec(executor="dripping", action="drip", payload=Nothing(), queue="drips", timeout=math.inf)


async def main(directory, number, what):
    settings = Settings(scheduler=SchedulerSettings(grace=0.0))
    async with (
        oq.open_queue(
            directory, workers=WORKERS, executors=[Dripping()], plugins=built_in_plugins(), settings=settings
        ) as queue,
        trio.open_nursery() as nursery,
        contextlib.AsyncExitStack() as listeners,
    ):
        drip = await queue.submit(DRIP)
        listeners.enter_context(queue.subscribe())  # and never read
        nursery.start_soon(slowly, listeners.enter_context(queue.subscribe()))
        nursery.start_soon(slowly, await listeners.enter_async_context(drip.stream()))
        await anext(await listeners.enter_async_context(drip.stream()))  # and no more
        nursery.start_soon(drip.wait)
        if what == "wait":
            await queue.pause("default")
        await churn(queue, number, backlog=number if what == "wait" else 2 * BATCH)
        nursery.cancel_scope.cancel()


async def slowly(things):
    """Take one thing a second."""
    async for _ in things:
        await trio.sleep(1)


async def churn(queue, number, backlog):
    """Submit so many tasks in batches; the next one when at most `backlog` tasks wait."""
    ran = 0
    batch_ran = trio.Event()

    @queue.task()
    async def noop(number: int) -> int:
        nonlocal ran, batch_ran
        ran += 1
        if ran % BATCH == 0:
            batch_ran.set()
            batch_ran = trio.Event()
        return number

    for tenth in range(1, TENTHS + 1):
        for submitted in range(number // TENTHS * (tenth - 1), number // TENTHS * tenth, BATCH):
            await queue.submit_many([noop.spec(submitted + index) for index in range(BATCH)])
            while ran < submitted + BATCH - backlog:
                await batch_ran.wait()
        print(ran, anonymous_bytes(), flush=True)  # noqa: T201  # for the test


def anonymous_bytes():
    """How much memory this process holds that is no file's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
