"""dramatiq on Redis: lists and a Lua script for each step of a message; threads run the actors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

DRAIN_THREADS = int(os.environ.get("TUNE_WORKERS", "8"))
PREFETCH = int(os.environ.get("TUNE_PREFETCH", "0"))
SUBMIT_THREADS = int(os.environ.get("TUNE_SUBMIT", "8"))
POLL = int(os.environ.get("TUNE_POLL", "2"))
"""Milliseconds: the longest back-off of the consumer's poll, which dramatiq calls the worker's time-out."""
if PREFETCH:
    os.environ["dramatiq_queue_prefetch"] = str(PREFETCH)
if os.environ.get("GEVENT"):
    from gevent import monkey
    monkey.patch_all()

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers import kit


class App:
    """One broker, its result store in a database of its own, and three actors."""

    def __init__(self, options: kit.Options) -> None:
        self.results = redis.Redis(unix_socket_path=options.server, db=1)
        self.broker = RedisBroker(unix_socket_path=options.server)
        self.broker.add_middleware(Results(backend=RedisBackend(client=self.results), store_results=True))
        self.noop = self._actor(lambda number: number, "noop")
        # Lower numbers go first, and only among messages that were fetched already: a queue of its own lets the urgent
        # ones be fetched at all.
        self.nap = self._actor(lambda: time.sleep(kit.LOW_TASK), "nap", priority=10)
        self.urgent = self._actor(kit.note_start, "urgent", priority=0, queue_name="urgent")

    def _actor(self, function: Callable[..., object], name: str, **options: object) -> dramatiq.Actor:
        return dramatiq.actor(function, actor_name=name, broker=self.broker, **options)

    def consume(self, threads: int, poll: int) -> dramatiq.Worker:
        worker = dramatiq.Worker(self.broker, worker_threads=threads, worker_timeout=poll)
        worker.start()
        return worker

    def unfinished(self) -> int:
        return self.broker.do_qsize("default")


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("dramatiq", "redis", "hiredis"),
        "submit": f"no bulk call: sends from {SUBMIT_THREADS} threads, whose syncs Redis shares",
        "drain": f"{DRAIN_THREADS} threads",
        "round_trips": f"1 thread, consumer polls every {POLL} ms, client blocks on the result",
        "pick_up": "an actor priority and a queue of its own; within one queue there is no priority",
        "durable": "appendfsync always: a submit is on disk when it returns, and so is a result, kept 10 minutes.",
        "lost": "Nothing; what a killed worker ran comes back when its heartbeat is a minute old.",
    }


def submit(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    kit.in_threads(app.noop.send, options.tasks, SUBMIT_THREADS)
    return kit.rate(options.tasks, start)


def drain(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    app.consume(DRAIN_THREADS, 100)
    kit.wait_until(lambda: not app.unfinished(), every=0.005)
    figures = kit.rate(options.tasks, start)
    assert app.results.dbsize() == options.tasks
    return figures


def work(options: kit.Options) -> None:
    App(options).consume(kit.PICK_UP_SLOTS if options.variant == "pick_up" else 1, POLL)
    kit.for_ever()


def round_trips(options: kit.Options) -> kit.Figures:
    app = App(options)
    return kit.round_trips(lambda number: app.noop.send(number).get_result(block=True, timeout=60_000), options.samples)


def backlog(options: kit.Options) -> None:
    app = App(options)
    kit.in_threads(lambda _: app.nap.send(), options.tasks, SUBMIT_THREADS)


def pick_up(options: kit.Options) -> kit.Figures:
    app = App(options)
    return kit.pick_up(lambda index: app.urgent.send(str(options.starts), index), options)


if __name__ == "__main__":
    kit.run(about, submit, drain, work, round_trips, backlog, pick_up)
