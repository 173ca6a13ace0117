"""pgqueuer on PostgreSQL: jobs claimed in batches with SKIP LOCKED, woken by NOTIFY, their ends logged in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import asyncpg
import uvloop
from peers import kit
from pgqueuer import PgQueuer
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

SUBMIT_BATCH = 2_000
BATCH = 1_000
"""Jobs in a claim, and in a commit of their ends."""


async def connect(options: kit.Options) -> asyncpg.Connection:
    return await asyncpg.connect(host=options.server, user="bench", database="postgres")


async def client(options: kit.Options) -> Queries:
    return Queries(AsyncpgDriver(await connect(options)))


async def enqueue(queries: Queries, entrypoint: str, number: int) -> None:
    """Bulk submit, a statement for each batch."""
    for first in range(0, number, SUBMIT_BATCH):
        payloads = [b"%d" % index for index in range(first, min(first + SUBMIT_BATCH, number))]
        await queries.enqueue([entrypoint] * len(payloads), payloads, [1] * len(payloads))


class Worker:
    """One manager on a connection of its own, as pgqueuer's guide says, and three entrypoints."""

    def __init__(self, options: kit.Options, connection: asyncpg.Connection) -> None:
        logging.getLogger("pgqueuer").setLevel(logging.ERROR)
        self.options = options
        self.done = 0
        self.manager = PgQueuer.from_asyncpg_connection(connection)
        for entrypoint in (self.noop, self.nap, self.urgent):
            self.manager.entrypoint(entrypoint.__name__)(entrypoint)

    async def noop(self, _: Job) -> None:
        self.done += 1

    async def nap(self, _: Job) -> None:
        await asyncio.sleep(kit.nap_time())

    async def urgent(self, job: Job) -> None:
        kit.note_start(self.options.starts, int(job.payload or b""))


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("pgqueuer", "asyncpg", "uvloop"),
        "submit": f"enqueue, {SUBMIT_BATCH:,} a call",
        "drain": f"batches of {BATCH:,}, uvloop",
        "round_trips": "batches of 1; both sides listen",
        "pick_up": f"{kit.SLOTS} at once, batches of {kit.SLOTS // 2}, priorities",
        "kill": "All survives. What ran comes back 30 s after the last heartbeat; a batch of ends may run twice.",
        "power": "The same; every commit is synced (logged tables, synchronous_commit=on).",
        "results": "the status only; return values are not stored",
    }


def prepare(options: kit.Options) -> None:
    async def main() -> None:
        queries = await client(options)
        await queries.install()  # the default durability: all tables logged
        await queries.optimize_autovacuum()  # `pgq autovac`, which pgqueuer's tuning guide recommends

    uvloop.run(main())


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        queries = await client(options)
        start = time.perf_counter()
        await enqueue(queries, "noop", options.tasks)
        return kit.rate(options.tasks, start)

    return uvloop.run(main())


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        look = await connect(options)
        worker = Worker(options, await connect(options))
        start = time.perf_counter()
        running = asyncio.create_task(worker.manager.run(batch_size=BATCH))
        while worker.done < options.tasks or await look.fetchval("SELECT count(*) FROM pgqueuer"):
            assert not running.done()
            await asyncio.sleep(0.005)
        figures = kit.rate(options.tasks, start)
        assert await look.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'") == options.tasks
        return figures

    return uvloop.run(kit.finishing(main()))


def work(options: kit.Options) -> None:
    async def main() -> None:
        manager = Worker(options, await connect(options)).manager
        if options.variant == "pick_up":
            await manager.run(batch_size=kit.SLOTS // 2, max_concurrent_tasks=kit.SLOTS)
        else:
            await manager.run(batch_size=1)

    uvloop.run(main())


def round_trips(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        queries = await client(options)
        look = AsyncpgDriver(await connect(options))
        async with CompletionWatcher(look, queries=Queries(look), debounce=timedelta(0)) as watcher:

            async def once(number: int) -> None:
                [job] = await queries.enqueue("noop", b"%d" % number)
                await watcher.wait_for(job)

            return await kit.measure_round_trips_async(once, options.samples)

    return uvloop.run(main())


def backlog(options: kit.Options) -> None:
    async def main() -> None:
        await enqueue(await client(options), "nap", options.tasks)

    uvloop.run(main())


def pick_up(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        queries = await client(options)

        async def urgent(index: int) -> None:
            await queries.enqueue("urgent", b"%d" % index, priority=15)

        return await kit.measure_pick_up_async(urgent, asyncio.sleep, options)

    return uvloop.run(main())


if __name__ == "__main__":
    kit.run(about, prepare, submit, drain, work, round_trips, backlog, pick_up)
