"""taskiq on Redis Streams: the broker that acknowledges; asyncio runs the tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import time

import uvloop
from redis.asyncio import Redis
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from peers import kit

DRAIN_TASKS = int(os.environ.get("TUNE_WORKERS", "100"))
FETCH = int(os.environ.get("TUNE_FETCH", "100"))
PREFETCH = int(os.environ.get("TUNE_PREFETCH", "0"))
SUBMIT_TASKS = int(os.environ.get("TUNE_SUBMIT", "64"))
CONNS = int(os.environ.get("TUNE_CONNS", "50"))
POLL = 0.001
"""Seconds between two looks at the result by a client; taskiq has no wake-up there."""


class App:
    """One broker with its result store."""

    def __init__(self, options: kit.Options) -> None:
        url = f"unix://{options.server}"
        results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(f"{url}?db=1", max_connection_pool_size=CONNS)
        self.redis = Redis.from_url(url)
        self.results = Redis.from_url(f"{url}?db=1")
        self.broker = (
            RedisStreamBroker(url, consumer_id="0", xread_count=FETCH, max_connection_pool_size=CONNS)
            .with_result_backend(results)
            .with_serializer(ORJSONSerializer())
        )
        self.noop = self.broker.task(task_name="noop")(noop)

    async def receive(self, tasks: int) -> None:
        """What `taskiq worker --workers 1 --no-parse --max-async-tasks …` runs."""
        logging.getLogger("taskiq").setLevel(logging.ERROR)  # a line for each task costs as much as the task
        await run_receiver_task(
            self.broker, max_async_tasks=tasks, max_prefetch=PREFETCH, validate_params=False, run_startup=True
        )

    async def unacknowledged(self) -> int:
        groups = await self.redis.xinfo_groups("taskiq")
        return groups[0]["pending"] + (groups[0]["lag"] or 0)


async def noop(number: int) -> int:
    return number


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"),
        "submit": f"no bulk call: {SUBMIT_TASKS} at a time, whose syncs Redis shares",
        "drain": f"{DRAIN_TASKS} async tasks, fetched by {FETCH}, uvloop, orjson, no parameter checks",
        "round_trips": f"worker blocks on the stream, client polls the result every {POLL * 1e3:.0f} ms",
        "pick_up": "",
        "durable": "appendfsync always: a submit is on disk when it returns; acknowledged when the result is.",
        "lost": "Nothing; what a killed worker ran comes back after 10 minutes. The stream keeps what is done.",
    }


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        await app.broker.startup()

        async def some(first: int) -> None:
            for number in range(first, options.tasks, SUBMIT_TASKS):
                await app.noop.kiq(number)

        start = time.perf_counter()
        await asyncio.gather(*map(some, range(SUBMIT_TASKS)))
        return kit.rate(options.tasks, start)

    return uvloop.run(main())


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        await app.broker.startup()
        start = time.perf_counter()
        worker = asyncio.create_task(app.receive(DRAIN_TASKS))
        while await app.unacknowledged():
            await asyncio.sleep(0.01)
        figures = kit.rate(options.tasks, start)
        assert await app.results.dbsize() == options.tasks
        assert not worker.done()
        return figures

    return uvloop.run(kit.ending(main()))


def work(options: kit.Options) -> None:
    uvloop.run(App(options).receive(DRAIN_TASKS))


def round_trips(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        await app.broker.startup()

        async def once(number: int) -> None:
            task = await app.noop.kiq(number)
            await task.wait_result(check_interval=POLL)

        return await kit.round_trips_async(once, options.samples)

    return uvloop.run(main())


if __name__ == "__main__":
    kit.run(about, submit, drain, work, round_trips)
