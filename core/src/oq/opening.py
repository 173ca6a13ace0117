"""Opens a queue: finds the store, loads the plugins, takes the run lock, and sees to an orderly end."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Literal

import trio

from oq.clock import Clock, wall_clock
from oq.config import Settings
from oq.errors import InvalidSettings, StoreInUse
from oq.executor import Executor
from oq.plugins import Plugins, load_plugins
from oq.queue import LAST_WORDS, Queue
from oq.registry import Registry
from oq.store.base import Store

Location = str | os.PathLike[str]


@asynccontextmanager
async def open_queue(
    location: Location | Store | None = None,
    *,
    workers: int | None = None,
    executors: Iterable[Executor] = (),
    plugins: Plugins | None = None,
    settings: Settings | None = None,
    start: bool = True,
    if_run_elsewhere: Literal["fail", "watch"] = "fail",
    clock: Clock = wall_clock,
    inline_commits: bool | None = None,
    chance: random.Random | None = None,
) -> AsyncIterator[Queue]:
    """Open a queue for the length of the block.

    `location` is a directory, a store URL or a store (which stays open); `settings.queue.path` when None. `workers` is
    how many tasks run at once in this process; 0 opens the queue only to submit and to look, and the settings decide
    when None. `executors` join those of the installed plugins. With `start=False` nothing starts until `Queue.start`.
    When another process runs the queue already, `if_run_elsewhere="watch"` opens it without workers, not to fail.

    At the end of the block, running tasks get `settings.scheduler.grace` seconds, and are then given back; callbacks
    get a few seconds to end. When the block ends by an error or is cancelled, they are given back at once.

    Raises StoreInUse when another process runs the queue, StoreFormat, StoreUnavailable, PluginError, InvalidSettings.
    """
    settings = settings or Settings()
    plugins = plugins or load_plugins(settings.plugins.disabled)
    registry = Registry([*plugins.executors(settings), *executors])
    count = settings.scheduler.workers if workers is None else workers
    if isinstance(location, str | os.PathLike | None):
        store = open_store(settings.queue.path if location is None else location, settings, plugins)
        owned = True
    else:
        store, owned = location, False
    try:
        count = _lock(store, count, if_run_elsewhere)
        body_error: BaseException | None = None
        try:
            queue = Queue(
                store,
                registry,
                workers=count,
                executor_limits=settings.scheduler.limits,
                default_retry=settings.retry,
                default_timeout=settings.scheduler.timeout,
                grace=settings.scheduler.grace,
                limits=settings.limits,
                retention=settings.retention,
                clock=clock,
                inline_commits=inline_commits,
                chance=chance or random.Random(),  # noqa: S311  # jitter needs no secrets
            )
            async with registry.opened(), queue.opened():
                try:
                    if count and start:
                        await queue.start()
                    yield queue
                    await queue.stop()
                    with trio.move_on_after(LAST_WORDS):
                        await queue.finish_callbacks()
                except BaseException as error:  # noqa: BLE001  # raised again below, where no nursery wraps it in a group
                    body_error = error
                with trio.CancelScope(shield=True):
                    await queue.stop(grace=0)
        finally:
            if count:
                store.unlock_run()
        if body_error is not None:
            raise body_error
    finally:
        if owned:
            store.close()


def _lock(store: Store, workers: int, if_run_elsewhere: str) -> int:
    """Become the process that runs the queue, if there are to be workers; gives how many there may be."""
    if workers:
        try:
            store.lock_run()
        except StoreInUse:
            if if_run_elsewhere == "fail":
                raise
            return 0
    return workers


def open_store(location: Location, settings: Settings, plugins: Plugins) -> Store:
    """The store at a path or URL; raises StoreError, and InvalidSettings for a scheme that nobody knows."""
    text = os.fspath(location)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "lmdb", text
    stores = plugins.stores()
    if scheme not in stores:
        known = ", ".join(f"{name}://" for name in sorted(stores))
        raise InvalidSettings(f"no installed package opens {scheme}:// (known: {known}, or a directory)", "queue.path")
    return stores[scheme](rest if scheme == "lmdb" else text, settings)
