"""Short ways to make the values that tests of a store are full of: tasks, offers, claims, failures and moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from oq.choose import Offer
from oq.codec import encode
from oq.query import QueueSettings
from oq.store.base import QUEUES, Block, Claim, NewTask, PutValue
from oq.task import Failure, Priority, TaskHead

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
"""The moment at which tests begin."""

POOL = "all"
"""The pool that offers need a unit of, unless they say otherwise."""

PLENTY = 1_000
"""More than any test uses up."""


def at(seconds: float) -> datetime:
    """The moment `seconds` after START; before it, where negative."""
    return START + timedelta(seconds=seconds)


def new_task(
    task_id: str,
    *,
    priority: Priority = Priority.NORMAL,
    queue: str = "default",
    lane: str = "lane",
    executor: str = "test",
    payload: bytes = b"payload",
    submitted_at: datetime = START,
    **head: Any,
) -> NewTask:
    """A task that is ready at once unless `head`, the other fields of `TaskHead`, say otherwise."""
    fields: dict[str, Any] = {"action": "run", "size": len(payload), **head}
    return NewTask(
        head=TaskHead(id=task_id, executor=executor, queue=queue, lane=lane, submitted_at=submitted_at, **fields),
        priority=priority,
        payload=payload,
    )


def offer(
    lane: str = "lane",
    *,
    queue: str = "default",
    executor: str = "test",
    needs: Sequence[str] = (POOL,),
    choices: Sequence[Sequence[str]] = (),
    lowest: int = 0,
    highest: int = 255,
) -> Offer:
    """An offer to run tasks of the lane, each with a unit of every pool in `needs` and of one of the `choices`."""
    return Offer(
        queue=queue,
        executor=executor,
        lane=lane,
        needs=tuple(needs),
        choices=tuple(tuple(group) for group in choices),
        lowest=lowest,
        highest=highest,
    )


def claim(
    *offers: Offer,
    token: str | None = None,
    worker: str = "worker",
    free: Mapping[str, int] | None = None,
    limit: int = PLENTY,
    idle: bool = True,
    now: datetime = START,
    lease_until: datetime | None = None,
) -> Claim:
    """A claim of the offers (if none, of the default lane) under a token never used before, with units to spare."""
    return Claim(
        token=uuid4().hex if token is None else token,
        worker=worker,
        offers=offers or (offer(),),
        free={POOL: PLENTY} if free is None else free,
        limit=limit,
        idle=idle,
        now=now,
        lease_until=lease_until,
    )


def block(first: int, count: int, data: bytes | None = None) -> Block:
    """A block of output that holds the chunks from `first` on; its data says which unless it is given."""
    return Block(first=first, count=count, data=f"{first}+{count}".encode() if data is None else data)


def failure(message: str = "it broke", **fields: Any) -> Failure:
    """A failure that another attempt may mend, unless `fields` say otherwise."""
    return Failure(**{"type": "Broken", "message": message, **fields})


def pause(queue: str, *, paused: bool = True) -> PutValue:
    """The op that pauses a queue (`*` for all of them), or resumes it."""
    return PutValue(namespace=QUEUES, key=queue, value=encode(QueueSettings(paused=paused)))
