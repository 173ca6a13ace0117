"""pgqueuer on PostgreSQL: batches claimed with SKIP LOCKED, woken by NOTIFY, ends logged in batches."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from peers import kit

SUBMIT_BATCH = int(os.environ.get("TUNE_SUBMIT", "1000"))
MANAGERS = int(os.environ.get("TUNE_MANAGERS", "1"))
BATCH = int(os.environ.get("TUNE_BATCH", "100"))


async def connect(options: kit.Options) -> asyncpg.Connection:
    return await asyncpg.connect(host=options.server, user="bench", database="postgres")


async def client(options: kit.Options) -> Queries:
    return Queries(AsyncpgDriver(await connect(options)))


async def install(options: kit.Options) -> Queries:
    """Fresh tables, logged ones, tuned for autovacuum as pgqueuer's own guide says (`pgq autovac`)."""
    queries = await client(options)
    if await queries.has_table("pgqueuer"):
        await queries.uninstall()
    await queries.install()
    await queries.optimize_autovacuum()
    return queries


class Worker:
    """Some managers in one process, each with a connection of its own."""

    def __init__(self, options: kit.Options) -> None:
        self.options = options
        self.done = 0
        self.managers: list[PgQueuer] = []

    async def open(self, number: int) -> None:
        logging.getLogger("pgqueuer").setLevel(logging.ERROR)
        for _ in range(number):
            manager = PgQueuer.from_asyncpg_connection(await connect(self.options))
            manager.entrypoint("noop")(self.noop)
            manager.entrypoint("nap")(self.nap)
            manager.entrypoint("urgent")(self.urgent)
            self.managers.append(manager)

    async def noop(self, job: Job) -> None:
        self.done += 1

    async def nap(self, job: Job) -> None:
        await asyncio.sleep(kit.LOW_TASK)

    async def urgent(self, job: Job) -> None:
        kit.note_start(self.options.starts, int(job.payload))

    async def run(self, batch: int, most: int | None = None) -> None:
        await asyncio.gather(*(manager.run(batch_size=batch, max_concurrent_tasks=most) for manager in self.managers))


def about(_: kit.Options) -> kit.Figures:
    return {}


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        queries = await install(options)
        start = time.perf_counter()
        for first in range(0, options.tasks, SUBMIT_BATCH):
            numbers = range(first, min(first + SUBMIT_BATCH, options.tasks))
            await queries.enqueue(["noop"] * len(numbers), [b"%d" % n for n in numbers], [0] * len(numbers))
        return kit.rate(options.tasks, start)

    return uvloop.run(main())


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        look = await connect(options)
        worker = Worker(options)
        await worker.open(MANAGERS)
        start = time.perf_counter()
        task = asyncio.create_task(worker.run(BATCH))
        while worker.done < options.tasks:
            await asyncio.sleep(0.005)
        while await look.fetchval("SELECT count(*) FROM pgqueuer"):
            await asyncio.sleep(0.005)
        figures = kit.rate(options.tasks, start)
        assert await look.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'") == options.tasks
        assert not task.done()
        return figures

    return uvloop.run(kit.ending(main()))


def work(options: kit.Options) -> None:
    async def main() -> None:
        worker = Worker(options)
        await worker.open(1)
        if options.variant == "pick_up":
            await worker.run(2, kit.PICK_UP_SLOTS)
        else:
            await worker.run(1)

    uvloop.run(main())


def round_trips(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        queries = await client(options)
        driver = AsyncpgDriver(await connect(options))
        async with CompletionWatcher(driver, queries=queries, debounce=timedelta(0)) as watcher:

            async def once(number: int) -> None:
                [job] = await queries.enqueue("noop", b"%d" % number)
                await watcher.wait_for(job)

            return await kit.round_trips_async(once, options.samples)

    return uvloop.run(main())


if __name__ == "__main__":
    kit.run(about, submit, drain, work, round_trips)
