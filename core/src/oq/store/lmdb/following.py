"""Who waits for whom: tells the followers of settled tasks, a bounded number at a time."""

from __future__ import annotations

import logging
from datetime import datetime

from oq.errors import DamagedRecord
from oq.events import Event, event_of
from oq.store import transitions
from oq.store.lmdb.writer import Writer
from oq.store.transitions import RELEASED_AT_ONCE
from oq.task import Phase, Status, TaskHead, TaskState

log = logging.getLogger(__name__)


def tell_followers(writer: Writer, now: datetime) -> tuple[list[Event], bool]:
    """Tell the followers of settled tasks, as many as one op may; says whether some are left."""
    if not writer.cache.follower_edges:
        return [], False
    events, _ = tell(writer, now, RELEASED_AT_ONCE)
    return events, writer.next_settling() is not None


def tell(writer: Writer, now: datetime, limit: int) -> tuple[list[Event], int]:
    """Tell at most `limit` followers that what they wait for is settled; gives the events and how many were told."""
    events: list[Event] = []
    told = 0
    while told < limit and (parent := writer.next_settling()) is not None:
        follower = writer.next_follower(parent)
        if follower is None:
            writer.settled(parent)
            continue
        try:
            parent_state, head, before = writer.state(parent), writer.head(follower), writer.state(follower)
        except DamagedRecord as error:
            log.error("task #%d cannot be told that #%d is settled: %s", follower, parent, error)
            writer.drop_follower(parent, follower)
            continue
        if not parent_state.status.final:  # it was requeued in between, and will be settled again
            writer.settled(parent)
            continue
        told += 1
        writer.drop_follower(parent, follower)
        if before.phase is Phase.BLOCKED:
            events += settle(writer, follower, head, before, parent, parent_state, now)
        if writer.next_follower(parent) is None:
            writer.settled(parent)
    return events, told


def settle(
    writer: Writer,
    follower: int,
    head: TaskHead,
    before: TaskState,
    parent: int,
    parent_state: TaskState,
    now: datetime,
) -> list[Event]:
    """Tell one follower that what it waits for is settled."""
    won = parent_state.status is Status.COMPLETED
    after = transitions.parent_settled(head, before, writer.name_of(parent), won=won, now=now)
    writer.move(follower, head, before, after)
    kind = transitions.settled_kind(after)
    return [event_of(kind, now, follower, head, after)] if kind else []
