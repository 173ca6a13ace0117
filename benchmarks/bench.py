"""oq's own figures on this machine: `make bench`, or `python benchmarks/bench.py [--only NAME …] [--json FILE]`.

Each case runs in a process of its own on a fresh store, durable, with events on. The first line is the time of a bare
LMDB commit on this disk; compare figures of one run with each other and with that, not across machines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import trio

import oq
from oq.config import RetentionSettings, Settings
from oq.plugins import built_in_plugins
from oq.retention import FIRST_SWEEP, STEP
from oq.store.base import Purge
from oq.store.lmdb import LmdbStore
from oq.tuning import tune_process

Figures = dict[str, str]
Case = Callable[[Path], Coroutine[Any, Any, Figures]]
CASES: dict[str, Case] = {}

BULK = 1_000


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def rss_anon() -> int:
    """Anonymous memory of this process, in bytes; mapped pages of the store do not count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def percentile(times: list[float], share: int) -> float:
    return quantiles(times, n=100)[share - 1]


def rate(number: int, seconds: float) -> str:
    return f"{number / seconds:,.0f} /s"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


@asynccontextmanager
async def opened(directory: Path, workers: int = 4, **options: Any) -> AsyncIterator[tuple[oq.Queue, LmdbStore, Any]]:
    """A queue with a function that does nothing, and a subscriber that reads every event."""
    store = LmdbStore(directory / "queue")
    try:
        async with oq.open_queue(store, workers=workers, plugins=built_in_plugins(), **options) as queue:

            @queue.task(name="noop")
            async def noop(number: int) -> int:
                return number

            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    with queue.subscribe() as events:
                        async for _ in events:
                            pass

                nursery.start_soon(listen)
                yield queue, store, noop
                nursery.cancel_scope.cancel()
    finally:
        store.close()


async def fill(queue: oq.Queue, noop: Any, number: int, **changes: Any) -> None:
    for first in range(0, number, BULK):
        specs = [noop.spec(index) for index in range(first, min(first + BULK, number))]
        if changes:
            import attrs

            specs = [attrs.evolve(spec, **changes) for spec in specs]
        await queue.submit_many(specs)


@case
async def commit_alone(directory: Path) -> Figures:
    """A bare LMDB transaction of ten small puts."""
    import lmdb

    times = []
    with lmdb.open(str(directory / "bare"), map_size=2**26) as env:
        for index in range(500):
            start = time.perf_counter()
            with env.begin(write=True) as txn:
                for key in range(10):
                    txn.put(b"%08d%d" % (index, key), b"value" * 10)
            times.append(time.perf_counter() - start)
    p50, p99 = median(times), percentile(times, 99)
    return {"bare LMDB commit, p50": milliseconds(p50), "bare LMDB commit, p99": milliseconds(p99)}


@case
async def submit_one_by_one(directory: Path) -> Figures:
    async with opened(directory, start=False) as (queue, _, noop):
        number = 2_000
        start = time.perf_counter()
        for index in range(number):
            await queue.submit(noop.spec(index))
        return {"submit one by one": rate(number, time.perf_counter() - start)}


@case
async def submit_from_100_tasks(directory: Path) -> Figures:
    async with opened(directory, start=False) as (queue, _, noop):
        number, tasks = 20_000, 100

        async def some() -> None:
            for index in range(number // tasks):
                await queue.submit(noop.spec(index))

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(some)
        return {"submit from 100 tasks": rate(number, time.perf_counter() - start)}


@case
async def submit_in_bulk(directory: Path) -> Figures:
    async with opened(directory, start=False) as (queue, _, noop):
        number = 100_000
        start = time.perf_counter()
        await fill(queue, noop, number)
        return {f"submit in bulk ({BULK:,} each)": rate(number, time.perf_counter() - start)}


async def _drain(directory: Path, slots: int, number: int = 20_000) -> Figures:
    async with opened(directory, workers=slots, start=False) as (queue, store, noop):
        await fill(queue, noop, number)
        commits, writes = store.commits, store.writes
        start = time.perf_counter()
        await queue.start()
        await queue.wait_idle()
        seconds = time.perf_counter() - start
        done = (await queue.stats()).tasks.by_status[oq.Status.COMPLETED]
        assert done == number, f"{done} of {number} tasks are done"
        return {
            f"drain {number:,} no-op functions, {slots:,} slots": rate(number, seconds),
            f"  commits per task, {slots:,} slots": f"{(store.commits - commits) / number:.3f}",
            f"  writes per task, {slots:,} slots": f"{(store.writes - writes) / number:.1f}",
        }


@case
async def drain_beside_purge(directory: Path) -> Figures:
    """A drain while retention deletes 100,000 completed tasks, and the same drain without that."""
    kept, number = 100_000, 60_000

    async def drain(where: Path, completed: float | None) -> tuple[float, int]:
        """Tasks a second, and how many completed ones are left."""
        async with opened(where, workers=200, start=False) as (queue, _, noop):
            await fill(queue, noop, kept)
            await queue.start()
            await queue.wait_idle()
        settings = Settings(retention=RetentionSettings(completed=completed))
        async with opened(where, workers=200, start=False, settings=settings) as (queue, _, noop):
            await fill(queue, noop, number)
            await trio.sleep(FIRST_SWEEP)
            start = time.perf_counter()
            await queue.start()
            await queue.wait_idle()
            speed = number / (time.perf_counter() - start)
            return speed, (await queue.stats()).tasks.by_status[oq.Status.COMPLETED]

    speeds: dict[float | None, list[float]] = {None: [], 0.0: []}
    deleted = []
    for turn in range(2):  # by turns, since the machine is not always as quick
        for completed, measured in speeds.items():
            speed, left = await drain(directory / f"{turn} {completed}", completed)
            measured.append(speed)
            deleted.append(kept + number - left)
    without, beside = max(speeds[None]), max(speeds[0.0])
    return {
        f"drain {number:,} beside {kept:,} completed tasks": f"{without:,.0f} /s",
        "  while retention deletes those": f"{beside:,.0f} /s, {beside / without:.2f} of it",
        "  deleted until the drain was over": f"{max(deleted):,}",
    }


@case
async def purge_alone(directory: Path) -> Figures:
    """Deleting 100,000 completed tasks while nothing else is done."""
    async with opened(directory, workers=200) as (queue, store, noop):
        number = 100_000
        await fill(queue, noop, number)
        await queue.wait_idle()
        writes, start, cursor = store.writes, time.perf_counter(), None
        steps = []
        while True:
            now = datetime.now(UTC)
            began = time.perf_counter()
            (purged,) = store.apply([Purge(now=now, before={oq.Status.COMPLETED: now}, limit=STEP, cursor=cursor)])
            steps.append(time.perf_counter() - began)
            cursor = purged.cursor
            if cursor is None:
                break
        return {
            "purge": rate(number, time.perf_counter() - start),
            "  one step of it, p50": milliseconds(median(steps)),
            "  writes per deleted task": f"{(store.writes - writes) / number:.1f}",
        }


@case
async def drain_4(directory: Path) -> Figures:
    return await _drain(directory, 4)


@case
async def drain_200(directory: Path) -> Figures:
    return await _drain(directory, 200)


@case
async def drain_1000(directory: Path) -> Figures:
    return await _drain(directory, 1_000)


@case
async def round_trip(directory: Path) -> Figures:
    async with opened(directory) as (queue, store, noop):
        times = []
        commits, writes = store.commits, store.writes
        number = 1_000
        for index in range(number):
            start = time.perf_counter()
            handle = await queue.submit(noop.spec(index))
            await handle.result()
            times.append(time.perf_counter() - start)
        return {
            "submit to result, idle queue, p50": milliseconds(median(times)),
            "submit to result, idle queue, p99": milliseconds(percentile(times, 99)),
            "  commits per task, idle queue": f"{(store.commits - commits) / number:.2f}",
            "  writes per task life, submit included": f"{(store.writes - writes) / number:.1f}",
        }


async def _pick_up(queue: oq.Queue, noop: Any, number: int) -> list[float]:
    """How long a critical task takes from submit to start, with the queue running."""
    import attrs

    times = []
    for index in range(number):
        with queue.subscribe(oq.EventFilter(kinds=frozenset({oq.EventKind.STARTED}))) as events:
            start = time.perf_counter()
            await queue.submit(attrs.evolve(noop.spec(index), priority="critical", queue="urgent"))
            async for event in events:
                if event.queue == "urgent":
                    break
            times.append(time.perf_counter() - start)
    return times


async def _pick_up_behind(directory: Path, backlog: int) -> Figures:
    async with opened(directory) as (queue, _, noop):
        times = await _pick_up(queue, noop, 200)
        empty = median(times)
        await queue.stop(0)
        await fill(queue, noop, backlog, priority="low")
        await queue.pause("default")  # the backlog stays; the claim looks at its lane all the same
        await queue.start()
        times = await _pick_up(queue, noop, 200)
        behind = median(times)
        return {
            "pick-up of a critical task, empty queue, p50": milliseconds(empty),
            f"pick-up with {backlog:,} low ones pending, p50": milliseconds(behind),
            "  ratio to the empty queue": f"{behind / empty:.2f}",
        }


@case
async def pick_up_100k(directory: Path) -> Figures:
    return await _pick_up_behind(directory, 100_000)


@case
async def pick_up_1m(directory: Path) -> Figures:
    return await _pick_up_behind(directory, 1_000_000)


async def _start_up(directory: Path, backlog: int) -> Figures:
    async with opened(directory, start=False) as (queue, _, noop):
        await fill(queue, noop, backlog)
    command = [sys.executable, __file__, "--start-up", str(directory), str(backlog)]
    shown = await trio.run_process(command, capture_stdout=True)
    return json.loads(shown.stdout)


async def start_up_child(directory: Path, backlog: int) -> Figures:
    """In a process of its own: open the store, and drain some of it."""
    before = time.perf_counter()
    async with opened(directory, workers=200, start=False) as (queue, _, _noop):
        ready = time.perf_counter() - before
        memory = rss_anon()
        await queue.start()
        most = memory
        end = time.perf_counter() + 3
        while time.perf_counter() < end:
            await trio.sleep(0.05)
            most = max(most, rss_anon())
        await queue.stop(0)
    return {
        f"open with {backlog:,} pending": milliseconds(ready),
        f"RssAnon with {backlog:,} pending, opened": f"{memory / 2**20:.0f} MB",
        f"RssAnon with {backlog:,} pending, draining": f"{most / 2**20:.0f} MB",
    }


@case
async def start_up_100k(directory: Path) -> Figures:
    return await _start_up(directory, 100_000)


@case
async def start_up_1m(directory: Path) -> Figures:
    return await _start_up(directory, 1_000_000)


@case
async def sleepers(directory: Path) -> Figures:
    async with opened(directory, workers=200) as (queue, _, noop):

        @queue.task()
        async def nap() -> None:
            await trio.sleep(0.1)

        await queue.pause()
        for _ in range(2):
            await queue.submit_many([nap.spec() for _ in range(1_000)])

        async def submit_aside() -> None:
            for index in range(1_000):
                await queue.submit(noop.spec(index))
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            start = time.perf_counter()
            await queue.resume()
            nursery.start_soon(submit_aside)
            done = 0
            wanted = oq.EventFilter(kinds=frozenset({oq.EventKind.COMPLETED}))
            with queue.subscribe(wanted, capacity=100_000) as events:
                async for event in events:
                    done += event.action == "nap"
                    if done == 2_000:
                        break
            seconds = time.perf_counter() - start
            nursery.cancel_scope.cancel()
        return {"2,000 tasks of 100 ms, 200 slots, submitting aside": f"{seconds:.2f} s"}


@case
async def large_payload(directory: Path) -> Figures:
    async with opened(directory) as (queue, _, _noop):

        @queue.task()
        async def swallow(text: str) -> None:
            pass

        await queue.stop(0)
        figures: dict[str, float] = {}
        for name, size in (("1 kB", 1_000), ("1 MiB", 2**20)):
            handle = await queue.submit(swallow.spec("x" * size))
            times = []
            for index in range(200):
                start = time.perf_counter()
                await handle.set_priority("high" if index % 2 else "low")
                times.append(time.perf_counter() - start)
            figures[name] = median(times)
        return {
            **{f"transition with a payload of {name}, p50": milliseconds(value) for name, value in figures.items()},
            "  ratio 1 MiB to 1 kB": f"{figures['1 MiB'] / figures['1 kB']:.2f}",
        }


@case
async def stream_of_a_model(directory: Path) -> Figures:
    from streaming import streaming  # the only case that needs a plugin

    return await streaming(directory)


SLOW = {"pick_up_1m", "start_up_1m"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="just these cases")
    parser.add_argument("--quick", action="store_true", help="leave out the cases with a million tasks")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--start-up", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tune_process()  # as `oq run` does
    if arguments.start_up:
        print(json.dumps(trio.run(start_up_child, Path(arguments.start_up[0]), int(arguments.start_up[1]))))
        return
    if arguments.case:
        with tempfile.TemporaryDirectory(prefix="oq-bench-", dir=".") as directory:
            print(json.dumps(trio.run(CASES[arguments.case], Path(directory))))
        return
    figures: Figures = {}
    for name in arguments.only or CASES:
        if arguments.quick and name in SLOW and not arguments.only:
            continue
        child = subprocess.run(
            [sys.executable, __file__, "--case", name], stdout=subprocess.PIPE, check=False, text=True
        )
        if child.returncode:
            sys.exit(f"the case {name} failed")
        found = json.loads(child.stdout)
        for what, figure in found.items():
            print(f"{what:58} {figure:>14}", flush=True)
        figures |= found
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
