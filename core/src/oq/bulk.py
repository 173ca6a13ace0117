"""One change for all tasks that fit a filter, in steps that let others run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import trio
from attrs import evolve

from oq.committer import Committer
from oq.errors import IllegalMove, TaskInUse, TaskNotFound, UniqueKeyTaken
from oq.lifecycle import Move, allowed
from oq.query import TaskFilter
from oq.store.base import Moved, Op, Refused, Reply
from oq.task import Status, Task
from oq.views import Views

CANCELLABLE = frozenset(status for status in Status if allowed(status, Move.CANCEL))
REQUEUEABLE = frozenset(status for status in Status if allowed(status, Move.REQUEUE))
FINAL = frozenset(status for status in Status if status.final)
UNFINISHED = frozenset(status for status in Status if not status.final)

_OF_ONE_TASK = (IllegalMove, TaskInUse, TaskNotFound, UniqueKeyTaken)
"""What refuses one task and stands in no other's way."""


async def change_all(
    views: Views,
    committer: Committer,
    wanted: TaskFilter,
    statuses: Collection[Status],
    make: Callable[[Task], Op[Moved]],
) -> int:
    """Apply the op that `make` gives to every task that fits and has one of these statuses; how many were changed.

    A task that moves by itself in between is passed over, one that comes to fit meanwhile may be, and so is one that
    cannot be deleted because it is in use.
    """
    changed = 0
    for narrowed in _narrowed(wanted, statuses):
        for tasks in views.pages(narrowed):
            replies = await _apply(committer, [make(task) for task in tasks])
            changed += sum(not isinstance(reply, Refused) for reply in replies)
    return changed


def _narrowed(wanted: TaskFilter, statuses: Collection[Status]) -> Iterator[TaskFilter]:
    """The same filter for each status, so that tasks in other ones are not even looked at."""
    for status in Status:
        if status in statuses and wanted.status in (None, status):
            yield evolve(wanted, status=status)


async def _apply(committer: Committer, ops: Sequence[Op[Moved]]) -> list[Reply]:
    """The replies to ops that share a flush; raises what stands in the way of all of them, such as a full disk."""
    await trio.lowlevel.checkpoint()
    replies: list[Reply] = []
    replied = trio.Event()

    def done(reply: Reply) -> None:
        replies.append(reply)
        if len(replies) == len(ops):
            replied.set()

    for op in ops:
        committer.post(op, done)
    if ops:
        await replied.wait()
    for reply in replies:
        if isinstance(reply, Refused) and not isinstance(reply.error, _OF_ONE_TASK):
            raise reply.error
    return replies
