"""What is removed for good: tasks one by one, and by retention in bounded steps."""

from __future__ import annotations

import logging
from itertools import islice

from oq.errors import DamagedRecord, TaskInUse
from oq.events import Event, EventKind, event_of
from oq.store import transitions
from oq.store.base import Delete, Moved, Purge, PurgeCursor, Purged
from oq.store.lmdb import mending
from oq.store.lmdb.layout import PAIR, SEQ, STATUS_CODE, STATUS_KEY, moment_of, text_key, timer_key
from oq.store.lmdb.writer import Writer
from oq.task import Status, TaskHead, TaskState

log = logging.getLogger(__name__)

FINAL = tuple(status for status in Status if status.final)

MOST_WRITES = 2_000
"""How many entries a purge deletes before it leaves the rest for the next step: much output is many blocks."""


def delete(writer: Writer, op: Delete) -> Moved:
    seq, head, state = writer.known(op.task_id)
    transitions.check_deletable(op.task_id, state)
    needed_by = needing(writer, seq)
    if needed_by is not None:
        raise TaskInUse(op.task_id, writer.name_of(needed_by))
    _remove(writer, seq, head, state)
    return Moved(events=(event_of(EventKind.DELETED, op.now, seq, head, state),))


def purge(writer: Writer, op: Purge) -> Purged:
    events: list[Event] = []
    room, most_wrote = op.limit, writer.wrote + MOST_WRITES
    cursor = op.cursor or PurgeCursor(status=FINAL[0])
    for status in FINAL[FINAL.index(cursor.status) :] if cursor.status else ():
        place = cursor if cursor.status is status else PurgeCursor(status=status)
        looked, goes_on_at = _purge_status(writer, op, place, room, most_wrote, events)
        room -= looked
        if goes_on_at is not None:
            return Purged(events=tuple(events), cursor=goes_on_at)
    done = _forget_keys(writer, op, room)
    return Purged(events=tuple(events), cursor=None if done else PurgeCursor(status=None))


def needing(writer: Writer, seq: int) -> int | None:
    """The first task that is not final and comes after this one."""
    if not writer.cache.references:
        return None
    while (key := next(writer.keys_below(b"references", SEQ.pack(seq)), None)) is not None:
        if mending.is_needed(writer, key):
            return int(PAIR.unpack(key)[1])
    return None


def _purge_status(
    writer: Writer, op: Purge, cursor: PurgeCursor, limit: int, most_wrote: int, events: list[Event]
) -> tuple[int, PurgeCursor | None]:
    """Look at no more than `limit` tasks of one status; gives how many, and where to go on if that was not all.

    Ends early when the transaction has written more than `most_wrote` entries.
    """
    assert cursor.status is not None
    code = STATUS_CODE[cursor.status]
    completed = sum(row.completed for row in writer.cache.counts.values())
    sieve = transitions.Sieve(op, cursor.status, cursor.left, completed)
    if sieve.takes_none:
        return 0, None
    start = STATUS_KEY.pack(code, cursor.seq + 1)
    looked, last, left = 0, cursor.seq, cursor.left
    for key in list(islice(writer.keys_from(b"status", start, bytes([code])), limit + 1)):
        if looked == limit or writer.wrote > most_wrote:
            return looked, PurgeCursor(status=cursor.status, seq=last, left=left)
        seq = STATUS_KEY.unpack(key)[1]
        try:
            head, state = writer.head(seq), writer.state(seq)
        except DamagedRecord as error:
            log.warning("task #%d is not looked at by retention: %s", seq, error)
            looked, last, left = looked + 1, seq, left + 1
            continue
        if sieve.is_done_at(head):
            break
        looked, last = looked + 1, seq
        if state.status is cursor.status and sieve.takes(state) and needing(writer, seq) is None:
            _remove(writer, seq, head, state)
            events.append(event_of(EventKind.DELETED, op.now, seq, head, state))
        else:
            left += 1
    return looked, None


def _remove(writer: Writer, seq: int, head: TaskHead, state: TaskState) -> None:
    """Remove a final task from every table; what else names it, such as a claim, may find it gone."""
    key = SEQ.pack(seq)
    writer.drop_output(seq)
    for name in (b"heads", b"payloads", b"states"):
        writer.delete(writer.table(name), key)
    writer.delete(writer.table(b"ids"), text_key(head.id))
    writer.delete(writer.table(b"status"), STATUS_KEY.pack(STATUS_CODE[state.status], seq))
    for attempt in list(writer.keys_below(b"attempts", key)):
        writer.delete(writer.table(b"attempts"), attempt)
    if state.wakes_at is not None:
        writer.delete(writer.table(b"timers"), timer_key(state.wakes_at, seq))
    if writer.cache.follower_edges:
        for parent in writer.parents_of(seq, head):
            writer.delete(writer.table(b"followers"), PAIR.pack(parent, seq))
        for edge in list(writer.keys_below(b"followers", key)):  # final ones that have not been told
            writer.delete(writer.table(b"followers"), edge)
        writer.delete(writer.table(b"settling"), key)
    writer.count_row(head.queue).add(state, -1, head.size)


def _forget_keys(writer: Writer, op: Purge, limit: int) -> bool:
    """Forget the idempotency keys whose time has passed, at most `limit`; says whether these were all."""
    if op.idempotent_before is None:
        return True
    for since in list(islice(writer.keys_below(b"idempotent_since", b""), limit + 1)):
        if moment_of(since) > op.idempotent_before:
            return True
        if limit == 0:
            return False
        limit -= 1
        mending.forget_key(writer, since)
    return True
