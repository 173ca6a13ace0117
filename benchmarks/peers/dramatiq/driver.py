"""dramatiq on Redis: a list, a hash and a Lua script for each step of a message."""

from __future__ import annotations

import greenlets  # before all others: it patches the standard library

# isort: split

import time
from collections.abc import Callable

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from peers import kit

POLL = 2
"""Milliseconds that bound the back-off of an idle consumer; 2 makes it look every millisecond, 1 would spin."""
GREENLETS = 64
SUBMIT_THREADS = 16


class App:
    """One broker, its results in a database of their own, and three actors."""

    def __init__(self, options: kit.Options) -> None:
        self.results = redis.Redis(unix_socket_path=options.server, db=1)
        self.broker = RedisBroker(unix_socket_path=options.server)
        dramatiq.set_broker(self.broker)  # where messages look for their results
        self.broker.add_middleware(Results(backend=RedisBackend(client=self.results), store_results=True))
        self.done: list[int] = []
        self.noop = self._actor(self._noop, "noop")
        # The lower number goes first, but only among messages that were fetched: in a queue of their own, the urgent
        # ones are fetched however long the other queue is.
        self.nap = self._actor(lambda: time.sleep(kit.nap_time()), "nap", priority=10)
        self.urgent = self._actor(kit.note_start, "urgent", priority=0, queue_name="urgent")

    def _actor(self, function: Callable[..., object], name: str, **options: object) -> dramatiq.Actor:
        return dramatiq.actor(function, actor_name=name, broker=self.broker, **options)

    def _noop(self, number: int) -> int:
        self.done.append(number)  # in one step, whatever thread it is
        return number

    def consume(self, threads: int, poll: int) -> None:
        dramatiq.Worker(self.broker, worker_threads=threads, worker_timeout=poll).start()


def about(_: kit.Options) -> kit.Figures:
    return {
        "versions": kit.versions("dramatiq", "redis", "hiredis", "gevent"),
        "submit": f"no bulk call: {SUBMIT_THREADS} threads send",
        "drain": f"{GREENLETS} greenlets, {greenlets.PREFETCH} prefetched",
        "round_trips": "1 thread, polls every 1 ms; client blocks",
        "pick_up": f"{kit.SLOTS} threads, actor priority + own queue",
        "kill": "All survives. What ran comes back by chance maintenance, a minute after the last heartbeat.",
        "power": "The same; Redis syncs before it answers (appendfsync always).",
        "results": "return values, kept 10 minutes",
    }


def submit(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    kit.in_threads(app.noop.send, options.tasks, SUBMIT_THREADS)
    return kit.rate(options.tasks, start)


def drain(options: kit.Options) -> kit.Figures:
    app = App(options)
    start = time.perf_counter()
    app.consume(GREENLETS, 100)
    kit.wait_until(lambda: len(app.done) >= options.tasks)
    kit.wait_until(lambda: not app.broker.do_qsize("default"))
    figures = kit.rate(options.tasks, start)
    assert app.results.dbsize() == options.tasks
    return figures


def work(options: kit.Options) -> None:
    App(options).consume(kit.SLOTS if options.variant == "pick_up" else 1, POLL)
    kit.for_ever()


def round_trips(options: kit.Options) -> kit.Figures:
    app = App(options)
    return kit.measure_round_trips(
        lambda number: app.noop.send(number).get_result(block=True, timeout=60_000), options.samples
    )


def backlog(options: kit.Options) -> None:
    app = App(options)
    kit.in_threads(lambda _: app.nap.send(), options.tasks, SUBMIT_THREADS)


def pick_up(options: kit.Options) -> kit.Figures:
    app = App(options)
    return kit.measure_pick_up(lambda index: app.urgent.send(options.starts, index), options)


if __name__ == "__main__":
    kit.run(about, kit.prepare, submit, drain, work, round_trips, backlog, pick_up)
