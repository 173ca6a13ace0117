"""The processes that are killed: one that runs a queue, and one that only submits to it."""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import trio
from attrs import evolve

from oq.config import SchedulerSettings, Settings
from oq.events import EventKind
from oq.opening import open_queue
from oq.plugins import built_in_plugins
from oq.queue import Queue
from oq.store.lmdb import LmdbStore
from oq.task import Status
from torture.beacon import Beacon, SpyStore
from torture.journal import Journal
from torture.work import Worker, some_spec

INITIAL_BYTES = 2**17
BACKLOG = 60
"""Tasks that are not final, at which submitters wait."""

MakeStore = Callable[..., LmdbStore]


def run_queue(place: Path, seed: int, make_store: MakeStore = LmdbStore) -> None:
    """Run the queue and submit to it, until killed or told to end by SIGTERM."""
    trio.run(_run_queue, place, seed, make_store, True)


def finish_queue(place: Path, seed: int, make_store: MakeStore = LmdbStore) -> None:
    """Run the queue until everything in it is final."""
    trio.run(_run_queue, place, seed, make_store, False)


def submit_beside(place: Path, seed: int, make_store: MakeStore = LmdbStore) -> None:
    """Submit to a queue that another process runs, until killed."""
    trio.run(_submit_beside, place, seed, make_store)


async def _run_queue(place: Path, seed: int, make_store: MakeStore, submits: bool) -> None:
    journal = Journal(place / "journal")
    store = _open(place, make_store, "runner", "submit")
    settings = Settings(scheduler=SchedulerSettings(grace=0.0))
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with (
            open_queue(
                store,
                workers=8,
                executors=[Worker(journal)],
                plugins=built_in_plugins(),
                settings=settings,
                start=False,
            ) as queue,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(_listen, queue, journal)
            await queue.start()
            if submits:
                for number in range(3):
                    nursery.start_soon(_submit, queue, journal, random.Random(seed * 10 + number))
                await anext(aiter(signals))
            else:
                while await _unfinished(queue):  # noqa: ASYNC110  # counting is all that there is
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    store.close()


async def _submit_beside(place: Path, seed: int, make_store: MakeStore) -> None:
    journal = Journal(place / "journal")
    store = _open(place, make_store, "rival", "second-process submit")
    async with open_queue(store, workers=0, executors=[Worker(journal)], plugins=built_in_plugins()) as queue:
        await _submit(queue, journal, random.Random(seed))


def _open(place: Path, make_store: MakeStore, name: str, submit: str) -> SpyStore:
    logging.basicConfig(filename=place / f"{name}.log", level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    return SpyStore(make_store(place / "queue", initial_bytes=INITIAL_BYTES), Beacon(place / f"{name}.beacon"), submit)


async def _submit(queue: Queue, journal: Journal, chance: random.Random) -> None:
    parents: list[str] = []
    for number in itertools.count():
        specs = [some_spec(chance, f"{os.getpid()}-{chance.getrandbits(64):x}-{number}-{part}") for part in range(2)]
        if parents and chance.random() < 0.2:
            specs[1] = evolve(specs[1], after=(parents[-1],), on_parent_failure="continue")
        many = chance.random() < 0.5
        handles = await queue.submit_many(specs) if many else [await queue.submit(specs[0])]
        for handle, spec in zip(handles, specs, strict=False):
            journal.write("ack", handle.id, spec.payload.label)
        parents = [handle.id for handle in handles]
        while await _unfinished(queue) > BACKLOG:  # noqa: ASYNC110  # likewise
            await trio.sleep(0.01)


async def _unfinished(queue: Queue) -> int:
    tasks = (await queue.stats()).tasks
    return tasks.by_status[Status.PENDING] + tasks.by_status[Status.RUNNING]


async def _listen(queue: Queue, journal: Journal, task_status=trio.TASK_STATUS_IGNORED) -> None:
    """Write down what the queue says has happened, which must hold ever after."""
    with queue.subscribe(capacity=10**6) as events:
        task_status.started()
        async for event in events:
            if event.final and event.kind not in (EventKind.SPARED, EventKind.DROPPED, EventKind.DELETED):
                journal.write("final", event.task_id, event.epoch, event.status.value)
            elif event.due_at is not None:
                journal.write("due", event.task_id, event.epoch, event.due_at.timestamp())
