"""huey on SQLite: one file, one connection behind a lock, a commit for each step of a task."""

from __future__ import annotations

import logging
import os
import sqlite3
import time

from huey import SqliteHuey
from huey.api import TaskWrapper
from huey.consumer import Consumer

from peers import kit

DRAIN_WORKERS = int(os.environ.get("TUNE_WORKERS", "8"))
POLL = 0.001
"""Seconds between two looks at the queue by an idle worker, and at the result by a client; huey has no wake-up here."""


class App:
    """One huey and its three tasks."""

    def __init__(self, options: kit.Options) -> None:
        # WAL is huey's default; fsync=True is `PRAGMA synchronous=FULL`, which syncs the log at every commit.
        self.huey = SqliteHuey("bench", filename=str(options.place / "huey.db"), fsync=True, timeout=60)
        self.noop = self._task(lambda number: number, "noop")
        self.nap = self._task(lambda: time.sleep(kit.LOW_TASK), "nap")
        self.urgent = self._task(kit.note_start, "urgent")

    def _task(self, function: object, name: str) -> TaskWrapper:
        return self.huey.task(name=name)(function)

    def consume(self, workers: int) -> Consumer:
        logging.getLogger("huey").setLevel(logging.ERROR)  # a line for each task costs as much as the task
        consumer = Consumer(
            self.huey, workers=workers, periodic=False, initial_delay=POLL, backoff=1.0, max_delay=POLL
        )
        consumer.start()
        return consumer


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": f"{kit.versions('huey')}, SQLite {sqlite3.sqlite_version}",
        "submit": "no bulk call: one enqueue, one commit, after the other",
        "drain": f"{DRAIN_WORKERS} worker threads",
        "round_trips": f"1 worker thread; worker and client poll every {POLL * 1e3:.0f} ms",
        "pick_up": "priorities in the queue's index",
        "durable": "WAL, synchronous=FULL: a submit is on disk when it returns, and so is a result.",
        "lost": "A task leaves the queue before it runs: a kill or a power loss loses the tasks that run.",
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
    app.consume(DRAIN_WORKERS)
    kit.wait_until(lambda: not app.huey.storage.queue_size(), every=0.02)
    kit.wait_until(lambda: app.huey.result_count() == options.tasks)
    return kit.rate(options.tasks, start)


def work(options: kit.Options) -> None:
    App(options).consume(kit.PICK_UP_SLOTS if options.variant == "pick_up" else 1).run()


def round_trips(options: kit.Options) -> kit.Figures:
    app = App(options)

    def once(number: int) -> None:
        result = app.noop(number)
        kit.wait_until(result.is_ready, every=POLL)

    return kit.round_trips(once, options.samples)


def backlog(options: kit.Options) -> None:
    app = App(options)
    for _ in range(options.tasks):
        app.huey.enqueue(app.nap.s(priority=1))


def pick_up(options: kit.Options) -> kit.Figures:
    app = App(options)

    def urgent(index: int) -> None:
        app.huey.enqueue(app.urgent.s(str(options.starts), index, priority=15))

    return kit.pick_up(urgent, options)


if __name__ == "__main__":
    kit.run(about, submit, drain, work, round_trips, backlog, pick_up)
