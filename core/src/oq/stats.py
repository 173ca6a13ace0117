"""A queue in numbers, added up from the store's counters, so that the number of tasks does not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from attrs import frozen

from oq.query import Count
from oq.task import Phase, Priority, Status


@frozen(kw_only=True)
class QueueStats:
    """The tasks of a queue, or of all, in numbers."""

    total: int
    by_status: Mapping[Status, int]
    by_phase: Mapping[Phase, int]
    """The pending tasks by what they wait for."""
    by_priority: Mapping[Priority, int]
    """The pending tasks by priority."""


@frozen(kw_only=True)
class Stats:
    """A queue's numbers at one moment."""

    tasks: QueueStats
    queues: Mapping[str, QueueStats]
    paused: tuple[str, ...]
    """The names of paused queues; `*` when all are."""
    workers: int
    """How many tasks this process runs at most at once; 0 where it runs none."""
    busy: int
    """How many it runs now."""
    store_bytes: int

    @property
    def idle(self) -> int:
        return self.workers - self.busy


def add_up(counts: Iterable[Count], paused: Collection[str]) -> QueueStats:
    """The sum of these counters; ready tasks of queues named in `paused` count as paused."""
    by_status: Counter[Status] = Counter()
    by_phase: Counter[Phase] = Counter()
    by_priority: Counter[Priority] = Counter()
    for count in counts:
        by_status[count.status] += count.number
        if count.phase is not None:
            phase = Phase.PAUSED if count.phase is Phase.READY and count.queue in paused else count.phase
            by_phase[phase] += count.number
            by_priority[count.priority] += count.number
    return QueueStats(
        total=sum(by_status.values()),
        by_status={status: by_status[status] for status in Status},
        by_phase={phase: by_phase[phase] for phase in Phase},
        by_priority={priority: by_priority[priority] for priority in Priority},
    )
