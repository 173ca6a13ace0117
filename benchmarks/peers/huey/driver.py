"""huey on SQLite: one file, one connection behind a lock, a commit for each step of a task."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable

from huey import SqliteHuey
from huey.api import TaskWrapper
from huey.consumer import Consumer
from peers import kit

WORKERS = 4
POLL = 0.001
"""Seconds between two looks at the queue by an idle worker, and at the result by a client: there is no wake-up."""


class App:
    """One huey and its three tasks."""

    def __init__(self, options: kit.Options) -> None:
        # WAL is huey's default; fsync=True is `PRAGMA synchronous=FULL`, which syncs the log at every commit.
        self.huey = SqliteHuey("bench", filename=str(options.place / "huey.db"), fsync=True, timeout=60)
        self.done: list[int] = []
        self.noop = self._task(self._noop, "noop")
        self.nap = self._task(lambda: time.sleep(kit.nap_time()), "nap")
        self.urgent = self._task(kit.note_start, "urgent")

    def _task(self, function: Callable[..., object], name: str) -> TaskWrapper:
        return self.huey.task(name=name)(function)

    def _noop(self, number: int) -> int:
        self.done.append(number)  # in one step, whatever thread it is
        return number

    def consume(self, workers: int) -> None:
        logging.getLogger("huey").setLevel(logging.ERROR)  # a line for each task costs as much as the task
        Consumer(self.huey, workers=workers, periodic=False, initial_delay=POLL, backoff=1.0, max_delay=POLL).start()


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": f"{kit.versions('huey')}, SQLite {sqlite3.sqlite_version}",
        "submit": "no bulk call: a commit for each",
        "drain": f"{WORKERS} threads",
        "round_trips": f"1 thread; both sides poll every {POLL * 1e3:.0f} ms",
        "pick_up": f"{kit.SLOTS} threads, priorities",
        "kill": "What waits survives. Tasks that run are lost: they leave the queue before they start.",
        "power": "The same; every commit is synced (WAL, synchronous=FULL).",
        "results": "return values",
    }


def submit(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    for number in range(options.tasks):
        app.noop(number)
    return kit.rate(options.tasks, start)


def drain(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    app.consume(WORKERS)
    kit.wait_until(lambda: len(app.done) >= options.tasks)
    kit.wait_until(lambda: app.huey.result_count() == options.tasks)
    return kit.rate(options.tasks, start)


def work(options: kit.Options) -> None:
    App(options).consume(kit.SLOTS if options.variant == "pick_up" else 1)
    kit.for_ever()


def round_trips(options: kit.Options) -> kit.Figures:
    app = App(options)

    def once(number: int) -> None:
        result = app.noop(number)
        kit.wait_until(lambda: result.get(preserve=True) is not None, every=POLL)  # a read, no transaction

    return kit.measure_round_trips(once, options.samples)


def backlog(options: kit.Options) -> None:
    app = App(options)
    for _ in range(options.tasks):
        app.huey.enqueue(app.nap.s(priority=1))


def pick_up(options: kit.Options) -> kit.Figures:
    app = App(options)
    return kit.measure_pick_up(
        lambda index: app.huey.enqueue(app.urgent.s(options.starts, index, priority=15)), options
    )


if __name__ == "__main__":
    kit.run(about, kit.prepare, submit, drain, work, round_trips, backlog, pick_up)
