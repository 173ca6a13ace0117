"""oq on LMDB: one directory, group commits, trio runs the functions; no server."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

import oq
from oq.plugins import built_in_plugins
from peers import kit

BULK = 1_000
"""Tasks in a `submit_many`, as in benchmarks/bench.py."""


@asynccontextmanager
async def opened(options: kit.Options, workers: int, *, start: bool = False) -> AsyncIterator[App]:
    plugins = built_in_plugins()
    async with oq.open_queue(options.place / "queue", workers=workers, start=start, plugins=plugins) as queue:
        yield App(queue)


class App:
    """One queue and its three functions."""

    def __init__(self, queue: oq.Queue) -> None:
        self.queue = queue

        @queue.task(name="noop")
        async def noop(number: int) -> int:
            return number

        @queue.task(name="nap")
        async def nap() -> None:
            await trio.sleep(kit.LOW_TASK)

        @queue.task(name="urgent")
        async def urgent(path: str, index: int) -> None:
            kit.note_start(path, index)

        self.noop, self.nap, self.urgent = noop, nap, urgent

    async def fill(self, specs: list[oq.TaskSpec]) -> None:
        for first in range(0, len(specs), BULK):
            await self.queue.submit_many(specs[first : first + BULK])


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": f"{kit.versions('oq-core', 'trio', 'lmdb')}",
        "submit": f"submit_many, {BULK:,} at a time",
        "drain": "",
        "round_trips": "4 slots",
        "pick_up": "priorities in the queue's order",
        "durable": "",
        "lost": "",
    }


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        async with opened(options, 0) as app:
            start = time.perf_counter()
            for first in range(0, options.tasks, BULK):
                await app.queue.submit_many([app.noop.spec(i) for i in range(first, min(first + BULK, options.tasks))])
            return kit.rate(options.tasks, start)

    return trio.run(main)


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        async with opened(options, int(options.variant or 4)) as app:
            start = time.perf_counter()
            await app.queue.start()
            await app.queue.wait_idle()
            figures = kit.rate(options.tasks, start)
            done = (await app.queue.stats()).tasks.by_status[oq.Status.COMPLETED]
            assert done == options.tasks, f"{done} of {options.tasks} tasks are done"
            return figures

    return trio.run(main)

def work(options):
    async def main():
        async with opened(options, 4, start=True) as app:
            await trio.sleep_forever()
    trio.run(main)

def round_trips(options):
    async def main():
        async with opened(options, 4 if options.variant=="embedded" else 0, start=options.variant=="embedded") as app:
            async def once(number):
                h = await app.queue.submit(app.noop.spec(number))
                await h.result()
            return await kit.round_trips_async(once, options.samples)
    return trio.run(main)

if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    kit.run(about, submit, drain, work, round_trips)
