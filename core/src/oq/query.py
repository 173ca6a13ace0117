"""What can be asked about many tasks at once: filters, pages and counts."""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen
from msgspec import Struct

from oq.task import Phase, Priority, Status, TaskHead, TaskState


@frozen(kw_only=True)
class TaskFilter:
    """Which tasks are wanted; every field that is not None must fit."""

    status: Status | None = None
    queue: str | None = None
    executor: str | None = None
    action: str | None = None
    tag: str | None = None
    priority: Priority | None = None
    group: str | None = None

    def matches(self, head: TaskHead, state: TaskState) -> bool:
        """Whether this task is wanted."""
        return (
            (self.status is None or state.status is self.status)
            and (self.queue is None or head.queue == self.queue)
            and (self.executor is None or head.executor == self.executor)
            and (self.action is None or head.action == self.action)
            and (self.tag is None or self.tag in head.tags)
            and (self.priority is None or state.priority == self.priority)
            and (self.group is None or head.group == self.group)
        )


T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Some of what was asked for, and where to go on."""

    items: tuple[T, ...]
    cursor: int | None
    """Give it back to get what follows; None after the last. A page may be empty and still have a cursor."""


class Count(Struct, frozen=True, kw_only=True):
    """How many tasks of one queue and priority are in one status and phase."""

    queue: str
    status: Status
    phase: Phase | None
    priority: Priority
    number: int


class QueueSettings(Struct, frozen=True, kw_only=True):
    """What is stored about one queue, or about all of them under the name `*`."""

    paused: bool = False
    limit: int | None = None
    """How many of its tasks may run at once; None for no limit of its own."""
