"""Removes what was kept long enough, in small steps that get in nobody's way."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import trio

from oq.clock import Clock
from oq.committer import Committer
from oq.errors import OqError, QueueClosed
from oq.store.base import Purge, PurgeCursor, Purged
from oq.task import Status

if TYPE_CHECKING:
    from oq.config.tables import RetentionSettings

log = logging.getLogger(__name__)

STEP = 100
"""How many tasks one step looks at; as many deletions take about as long as as many submits."""

FIRST_SWEEP = 0.5
"""Seconds after the start at which it begins: late enough not to slow that down, and early enough for a process that
is restarted often to get to it."""

SHARE = 4
"""It pauses this many times as long as its last step took, so work has the most of the store's time."""

LEAST_PAUSE = 0.005
"""Seconds; the shortest pause."""

IDEMPOTENCY_KEPT = timedelta(days=1)
"""How long a key that was used for a submission gives the same tasks again."""


class Cleaner:
    """Goes through the final tasks every now and then."""

    def __init__(self, committer: Committer, clock: Clock, settings: RetentionSettings) -> None:
        self._committer = committer
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Sweep at each interval, until cancelled or the queue closes.

        Where all tasks are kept, once a day is enough, for the idempotency keys.
        """
        settings = self._settings
        keeps_all = settings.completed is settings.failed is settings.cancelled is settings.max_completed_tasks is None
        interval = IDEMPOTENCY_KEPT.total_seconds() if keeps_all else settings.cleanup_interval
        await trio.sleep(min(FIRST_SWEEP, interval))
        while True:
            try:
                removed = await self.sweep()
            except QueueClosed:
                return
            except OqError as error:
                log.warning("what was kept long enough is not removed: %s; it is tried again later", error)
            else:
                if removed:
                    log.info("retention removed %d tasks", removed)
            await trio.sleep(interval)

    async def sweep(self) -> int:
        """Look at all that may have been kept long enough, and remove it; how many tasks these were.

        Raises what the store says when it refuses.
        """
        removed = 0
        cursor: PurgeCursor | None = None
        while True:
            began = trio.current_time()
            purged: Purged = await self._committer.apply(self._step(cursor))
            removed += len(purged.events)
            cursor = purged.cursor
            if cursor is None:
                return removed
            await trio.sleep(max(LEAST_PAUSE, SHARE * (trio.current_time() - began)))

    def _step(self, cursor: PurgeCursor | None) -> Purge:
        now, settings = self._clock(), self._settings
        ages = {
            Status.COMPLETED: settings.completed,
            Status.FAILED: settings.failed,
            Status.CANCELLED: settings.cancelled,
        }
        return Purge(
            now=now,
            before={status: now - timedelta(seconds=age) for status, age in ages.items() if age is not None},
            most_completed=settings.max_completed_tasks,
            idempotent_before=now - IDEMPOTENCY_KEPT,
            limit=STEP,
            cursor=cursor,
        )
