"""oq on LMDB: one directory, group commits, trio runs the functions, no server."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from peers import kit

import oq
from oq.plugins import built_in_plugins

SUBMIT_BATCH = 2_000


class App:
    """One queue and its three functions."""

    def __init__(self, queue: oq.Queue) -> None:
        self.queue = queue

        @queue.task()
        async def noop(number: int) -> int:
            return number

        @queue.task()
        async def nap() -> None:
            await trio.sleep(kit.nap_time())

        @queue.task()
        async def urgent(path: str, index: int) -> None:
            kit.note_start(path, index)

        self.noop, self.nap, self.urgent = noop, nap, urgent


@asynccontextmanager
async def opened(options: kit.Options, workers: int, *, start: bool = False) -> AsyncIterator[App]:
    """The queue in the directory of this measurement; 0 workers for a client of another process."""
    queue = oq.open_queue(options.place / "queue", workers=workers, start=start, plugins=built_in_plugins())
    async with queue as opened_queue:
        yield App(opened_queue)


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("oq-core", "trio", "lmdb"),
        "submit": f"submit_many, {SUBMIT_BATCH:,} a call",
        "drain": "{variant} slots",
        "round_trips": "{variant}",
        "pick_up": f"{kit.SLOTS} slots, priorities",
        "kill": "All survives. What ran starts again as soon as the queue does.",
        "power": "The same; every commit is synced.",
        "results": "return values",
    }


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        async with opened(options, workers=0) as app:
            start = time.perf_counter()
            for first in range(0, options.tasks, SUBMIT_BATCH):
                numbers = range(first, min(first + SUBMIT_BATCH, options.tasks))
                await app.queue.submit_many([app.noop.spec(number) for number in numbers])
            return kit.rate(options.tasks, start)

    return trio.run(main)


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        async with opened(options, workers=int(options.variant.replace(",", ""))) as app:
            start = time.perf_counter()
            await app.queue.start()
            await app.queue.wait_idle()
            figures = kit.rate(options.tasks, start)
            done = (await app.queue.stats()).tasks.by_status[oq.Status.COMPLETED]
            assert done == options.tasks, f"{done} of {options.tasks} tasks are done"
            return figures

    return trio.run(main)


def work(options: kit.Options) -> None:
    async def main() -> None:
        async with opened(options, workers=kit.SLOTS, start=True):
            await trio.sleep_forever()

    trio.run(main)


def round_trips(options: kit.Options) -> kit.Figures:
    embedded = options.variant == "worker in this process"

    async def main() -> kit.Figures:
        async with opened(options, workers=kit.SLOTS if embedded else 0, start=embedded) as app:

            async def once(number: int) -> None:
                handle = await app.queue.submit(app.noop.spec(number))
                await handle.result()

            return await kit.measure_round_trips_async(once, options.samples)

    return trio.run(main)


def backlog(options: kit.Options) -> None:
    async def main() -> None:
        async with opened(options, workers=0) as app:
            low = attrs.evolve(app.nap.spec(), priority="low")
            for first in range(0, options.tasks, SUBMIT_BATCH):
                await app.queue.submit_many([low] * min(SUBMIT_BATCH, options.tasks - first))

    trio.run(main)


def pick_up(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        async with opened(options, workers=0) as app:

            async def urgent(index: int) -> None:
                await app.queue.submit(attrs.evolve(app.urgent.spec(options.starts, index), priority="critical"))

            return await kit.measure_pick_up_async(urgent, trio.sleep, options)

    return trio.run(main)


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)  # as `oq run` does
    kit.run(about, kit.prepare, submit, drain, work, round_trips, backlog, pick_up)
