"""taskiq on Redis Streams, the broker of its that acknowledges; asyncio runs the tasks."""

from __future__ import annotations

import asyncio
import logging
import time

import uvloop
from peers import kit
from redis.asyncio import Redis
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

AT_ONCE = 100
PREFETCH = 500
FETCH = 1_000
"""Messages in a read; after each read comes a look for abandoned ones, which costs several round trips."""
SUBMITTERS = 50
CONNECTIONS = 50
POLL = 0.001
"""Seconds between two looks of the client at the result: there is no wake-up."""


class App:
    """One broker with its results in a database of their own, and one task."""

    def __init__(self, options: kit.Options) -> None:
        url = f"unix://{options.server}"
        results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(
            f"{url}?db=1", max_connection_pool_size=CONNECTIONS
        )
        self.redis = Redis.from_url(url)
        self.results = Redis.from_url(f"{url}?db=1")
        self.broker = (
            RedisStreamBroker(url, consumer_id="0", xread_count=FETCH, max_connection_pool_size=CONNECTIONS)
            .with_result_backend(results)
            .with_serializer(ORJSONSerializer())
        )
        self.done = 0

        @self.broker.task(task_name="noop")
        async def noop(number: int) -> int:
            self.done += 1
            return number

        self.noop = noop

    async def receive(self) -> None:
        """What `taskiq worker --workers 1 --no-parse` runs in its one worker process."""
        logging.getLogger("taskiq").setLevel(logging.ERROR)  # a line for each task costs as much as the task
        await run_receiver_task(
            self.broker, max_async_tasks=AT_ONCE, max_prefetch=PREFETCH, validate_params=False, run_startup=True
        )

    async def unacknowledged(self) -> int:
        [group] = await self.redis.xinfo_groups("taskiq")
        return group["pending"]


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("taskiq", "taskiq-redis", "redis", "hiredis", "orjson", "uvloop"),
        "submit": f"no bulk call: {SUBMITTERS} coroutines send",
        "drain": f"{AT_ONCE} coroutines, {FETCH:,} a fetch, uvloop",
        "round_trips": f"worker blocks; client polls every {POLL * 1e3:.0f} ms",
        "pick_up": "",
        "kill": "All survives. What ran is claimed again after 10 minutes, and so is what runs longer than that.",
        "power": "The same; Redis syncs before it answers (appendfsync always).",
        "results": "return values; the stream itself keeps every message",
    }


def submit(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        await app.broker.startup()

        async def some(first: int) -> None:
            for number in range(first, options.tasks, SUBMITTERS):
                await app.noop.kiq(number)

        start = time.perf_counter()
        await asyncio.gather(*map(some, range(SUBMITTERS)))
        return kit.rate(options.tasks, start)

    return uvloop.run(main())


def drain(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        start = time.perf_counter()
        worker = asyncio.create_task(app.receive())
        while app.done < options.tasks or await app.unacknowledged():
            assert not worker.done()
            await asyncio.sleep(0.005)
        figures = kit.rate(options.tasks, start)
        assert await app.results.dbsize() == options.tasks
        return figures

    return uvloop.run(kit.finishing(main()))


def work(options: kit.Options) -> None:
    uvloop.run(App(options).receive())


def round_trips(options: kit.Options) -> kit.Figures:
    async def main() -> kit.Figures:
        app = App(options)
        await app.broker.startup()

        async def once(number: int) -> None:
            task = await app.noop.kiq(number)
            await task.wait_result(check_interval=POLL)

        return await kit.measure_round_trips_async(once, options.samples)

    return uvloop.run(main())


if __name__ == "__main__":
    kit.run(about, kit.prepare, submit, drain, work, round_trips)
