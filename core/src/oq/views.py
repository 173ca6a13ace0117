"""Tasks as people see them: stored records with payload and result decoded, pauses told, in pages and in numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from attrs import evolve

from oq.codec import decode, decode_as
from oq.errors import AmbiguousId, InvalidQuery, TaskNotFound
from oq.query import Count, Page, QueueSettings, TaskFilter
from oq.registry import Registry
from oq.stats import QueueStats, add_up
from oq.store.base import EVERY_QUEUE, QUEUES, Record, Store
from oq.task import Phase, Task

STEP = 200
"""How many tasks are looked at before others run."""


class Views:
    """Looks into the store; each look takes a bounded time."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def whole(self, task_id: str) -> Task:
        """The task with payload, result and attempts; raises TaskNotFound or DamagedRecord."""
        full = self._store.load(task_id)
        if full is None:
            raise TaskNotFound(task_id)
        head = full.head
        return Task(
            seq=full.seq,
            head=head,
            state=full.state,
            paused=_is_paused(head.queue, self.paused()),
            payload=self._payload(head.executor, head.action, full.payload),
            result=None if full.result is None else self._result(head.executor, head.action, full.result),
            past_attempts=full.attempts,
        )

    def brief(self, task_id: str) -> Task:
        """The task without these; raises TaskNotFound or DamagedRecord."""
        record = self._store.get(task_id)
        if record is None:
            raise TaskNotFound(task_id)
        return _view(record, self.paused())

    def resolve(self, prefix: str) -> str:
        """The id that begins with `prefix`; raises TaskNotFound or AmbiguousId."""
        match self._store.resolve(prefix, 3) if prefix else []:
            case [only]:
                return only
            case []:
                raise TaskNotFound(prefix)
            case matches if prefix in matches:  # another id may be longer
                return prefix
            case matches:
                raise AmbiguousId(prefix, matches)

    def page(self, wanted: TaskFilter, cursor: int | None, limit: int) -> Page[Task]:
        """The newest tasks that fit; raises InvalidQuery for a limit below 1."""
        if limit < 1:
            raise InvalidQuery("the limit of a page must be 1 or more")
        paused = self.paused()
        phase = wanted.phase  # of a pause the records know nothing
        stored = evolve(wanted, phase=Phase.READY) if phase is Phase.PAUSED else wanted
        page = self._store.page(stored, cursor, limit)
        tasks = tuple(_view(record, paused) for record in page.items)
        if phase in (Phase.PAUSED, Phase.READY):
            tasks = tuple(task for task in tasks if task.phase is phase)
        return Page(items=tasks, cursor=page.cursor)

    def pages(self, wanted: TaskFilter) -> Iterator[tuple[Task, ...]]:
        """All tasks that fit, newest first, a step at a time."""
        cursor: int | None = None
        while True:
            page = self.page(wanted, cursor, STEP)
            yield page.items
            cursor = page.cursor
            if cursor is None:
                return

    def numbers(self) -> tuple[QueueStats, dict[str, QueueStats]]:
        """All tasks in numbers, and those of each queue."""
        by_queue: dict[str, list[Count]] = {}
        for count in self._store.counts():
            by_queue.setdefault(count.queue, []).append(count)
        stored = self.paused()
        paused = {name for name in by_queue if _is_paused(name, stored)}
        everything = [count for counts in by_queue.values() for count in counts]
        return add_up(everything, paused), {name: add_up(by_queue[name], paused) for name in sorted(by_queue)}

    def paused(self) -> set[str]:
        """The names of the queues that are paused, `*` for all."""
        return {
            name for name, value in self._store.values(QUEUES).items() if decode_as(value.data, QueueSettings).paused
        }

    def _payload(self, executor: str, action: str, data: bytes) -> Any:
        """The payload as its class where the executor is known, else as builtins."""
        try:
            return self._registry.decode_payload(executor, action, data)
        except Exception:  # noqa: BLE001  # it is not known here, or its class raises whatever
            return decode(data)

    def _result(self, executor: str, action: str, data: bytes) -> Any:
        """The result as its type where the executor is known, else as builtins."""
        try:
            return decode_as(data, self._registry.action(executor, action).result)
        except Exception:  # noqa: BLE001  # likewise
            return decode(data)


def _view(record: Record, paused: Collection[str]) -> Task:
    return Task(seq=record.seq, head=record.head, state=record.state, paused=_is_paused(record.head.queue, paused))


def _is_paused(queue: str, paused: Collection[str]) -> bool:
    return queue in paused or EVERY_QUEUE in paused
