"""What can be asked about many tasks at once: filters, pages and counts."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from attrs import frozen
from msgspec import Struct

from oq.task import Phase, Priority, Status, TaskHead, TaskState


@frozen(kw_only=True)
class TaskFilter:
    """Which tasks are wanted; every field that is not None must fit."""

    status: Status | None = None
    phase: Phase | None = None
    """What pending tasks wait for."""
    queue: str | None = None
    executor: str | None = None
    action: str | None = None
    lane: str | None = None
    model: str | None = None
    tag: str | None = None
    priority: Priority | None = None
    group: str | None = None
    failure_type: str | None = None
    """What the last failure is called, such as `ConnectError`."""
    since: datetime | None = None
    """Submitted at this moment or later …"""
    until: datetime | None = None
    """… and before this one."""
    id_prefix: str | None = None
    text: str | None = None
    """Part of the summary, whatever its case."""

    def matches(self, head: TaskHead, state: TaskState) -> bool:
        """Whether this task is wanted."""
        return (
            (self.status is None or state.status is self.status)
            and (self.phase is None or state.phase is self.phase)
            and (self.queue is None or head.queue == self.queue)
            and (self.executor is None or head.executor == self.executor)
            and (self.action is None or head.action == self.action)
            and (self.lane is None or head.lane == self.lane)
            and (self.model is None or head.model == self.model)
            and (self.tag is None or self.tag in head.tags)
            and (self.priority is None or state.priority == self.priority)
            and (self.group is None or head.group == self.group)
            and (self.failure_type is None or (state.failure is not None and state.failure.type == self.failure_type))
            and (self.since is None or head.submitted_at >= self.since)
            and (self.until is None or head.submitted_at < self.until)
            and (self.id_prefix is None or head.id.startswith(self.id_prefix))
            and (self.text is None or self.text.casefold() in head.summary.casefold())
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
