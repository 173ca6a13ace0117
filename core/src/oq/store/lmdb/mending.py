"""Mends what damage has hit, so that it costs no more than that: small tables that every write needs, and entries.

What can be derived from other records is derived anew; what cannot is set aside, as found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oq.errors import DamagedRecord
from oq.store import transitions
from oq.store.base import QUEUES
from oq.store.lmdb import layout
from oq.store.lmdb.layout import (
    ALONE,
    HEADS,
    LANE_NUMBER,
    LANES,
    LARGEST_SEQ,
    PAIR,
    READY_KEY,
    SEQ,
    STATES,
    STATUS_CODE,
    STATUS_KEY,
    VALUES,
    CountRow,
    timer_key,
)
from oq.task import Phase, Status, TaskState

if TYPE_CHECKING:
    from oq.store.base import Value
    from oq.store.lmdb.writer import Lane, Writer
    from oq.task import TaskHead

log = logging.getLogger(__name__)


def read_lanes(writer: Writer) -> dict[Lane, int]:
    """The lanes; one whose record is damaged is known by its ready tasks, and forgotten where it has none."""
    lanes: dict[Lane, int] = {}
    damaged: list[bytes] = []
    for key, record in writer.txn.cursor(db=writer.table(b"lanes")):
        try:
            lanes[LANES.load(key, record)] = LANE_NUMBER.unpack(key)[0]
        except DamagedRecord as error:
            log.error("a lane is made out anew: %s", error)
            damaged.append(key)
    for key in damaged:
        lane = next(_lanes_of_ready(writer, key), None)
        if lane is None:
            writer.delete(writer.table(b"lanes"), key)
        else:
            lanes[lane] = LANE_NUMBER.unpack(key)[0]
            writer.put(writer.table(b"lanes"), key, LANES.dump(key, lane))
    return lanes


def read_counts(writer: Writer) -> dict[str, CountRow]:
    """The counters; those that are damaged are counted anew, which reads every task once."""
    counts: dict[str, CountRow] = {}
    damaged: set[str] = set()
    for key, record in writer.txn.cursor(db=writer.table(b"counts")):
        try:
            counts[key.decode()] = CountRow.load(key, record)
        except DamagedRecord as error:
            log.error("the tasks are counted anew: %s", error)
            damaged.add(key.decode())
    if damaged:
        counts |= _counted(writer, damaged)
    return counts


def read_queue_settings(writer: Writer) -> Iterator[tuple[str, Value]]:
    """The settings of queues; damaged ones are set aside, so that the defaults hold until they are given again."""
    prefix = QUEUES.encode() + b"\0"
    values = writer.table(b"values")
    for key in list(writer.keys_below(b"values", prefix)):
        record = writer.txn.get(key, db=values) or b""
        name = key.removeprefix(prefix).decode()
        try:
            yield name, VALUES.load(key, record)
        except DamagedRecord as error:
            log.error("the pause and limit of queue %r are lost: %s", name, error)
            writer.put(writer.table(b"damaged"), b"values\0" + key[:480], record)
            writer.delete(values, key)


def least_next_seq(writer: Writer) -> int:
    """The first sequence number that no task has."""
    with writer.txn.cursor(db=writer.table(b"heads")) as cursor:
        return min(SEQ.unpack(cursor.key())[0] + 1, LARGEST_SEQ) if cursor.last() else 1


def least_next_lane(writer: Writer, lanes: dict[Lane, int]) -> int:
    """The first number that no lane has, nor a ready task."""
    with writer.txn.cursor(db=writer.table(b"ready")) as cursor:
        last = READY_KEY.unpack(cursor.key())[0] if cursor.last() else 0
    return max(last, *lanes.values(), 0) + 1


def set_aside(writer: Writer, ready_key: bytes, queue: str, error: DamagedRecord) -> None:
    """Take a ready task with a damaged record out of the order, so that it is not met again."""
    _, rank, seq = READY_KEY.unpack(ready_key)
    log.error("task #%d is set aside: %s", seq, error)
    key = SEQ.pack(seq)
    writer.delete_met(b"ready", ready_key)
    payload = writer.txn.get(key, db=writer.table(b"payloads"))
    size = 0 if payload is None else layout.body_size(payload)
    for table in (b"heads", b"states", b"payloads"):
        record = writer.txn.get(key, db=writer.table(table))
        if record is not None:
            writer.put(writer.table(b"damaged"), table + b"\0" + key, record)
    writer.delete(writer.table(b"status"), STATUS_KEY.pack(STATUS_CODE[Status.PENDING], seq))
    ready = TaskState(status=Status.PENDING, phase=Phase.READY, priority=255 - rank)
    writer.count_row(queue).add(ready, -1, -size)


def mend_ready(writer: Writer, ready_key: bytes, head: TaskHead, state: TaskState) -> None:
    """Put right an entry that does not stand for how its task is."""
    seq = READY_KEY.unpack(ready_key)[2]
    log.error("task #%d has a wrong place among the ready ones; it is %s", seq, state.phase or state.status)
    writer.delete_met(b"ready", ready_key)
    if state.phase is Phase.READY:
        alone = ALONE if transitions.runs_alone(state) else b""
        writer.put(writer.table(b"ready"), writer.ready_key(seq, head, state), alone)


def mend_timer(writer: Writer, key: bytes, state: TaskState) -> None:
    """Put right a timer that is not of the moment that its task says."""
    seq = PAIR.unpack(key)[1]
    log.error("task #%d has a timer of a wrong moment; it is to be woken at %s", seq, state.wakes_at)
    writer.drop_timer(key)
    if state.wakes_at is not None:
        writer.put(writer.table(b"timers"), timer_key(state.wakes_at, seq), b"")


def is_needed(writer: Writer, reference: bytes) -> bool:
    """Whether the task that needs another, by this reference, is not final; a reference of a final one is dropped."""
    parent, follower = PAIR.unpack(reference)
    key = SEQ.pack(follower)
    record = writer.txn.get(key, db=writer.table(b"states"))
    try:
        needed = record is not None and not STATES.load(key, record).status.final
    except DamagedRecord:
        return True
    if not needed:
        log.error("task #%d is said to be needed by #%d, which is not so", parent, follower)
        writer.delete_met(b"references", reference)
    return needed


def forget_key(writer: Writer, since: bytes) -> None:
    """Forget an idempotency key, given the note since when it is known; one that leads nowhere is dropped alone."""
    key = writer.txn.get(since, db=writer.table(b"idempotent_since"))
    writer.delete_met(b"idempotent_since", since)
    if key:
        writer.delete(writer.table(b"idempotent"), key)


def _lanes_of_ready(writer: Writer, prefix: bytes) -> Iterator[Lane]:
    """The lanes that ready tasks under a lane's number say they are in."""
    for key in writer.keys_below(b"ready", prefix):
        try:
            head = writer.head(READY_KEY.unpack(key)[2])
        except DamagedRecord:
            continue
        yield head.queue, head.executor, head.lane


def _counted(writer: Writer, queues: set[str]) -> dict[str, CountRow]:
    """The counters of these queues, by counting; written down too."""
    counts = {queue: CountRow() for queue in queues}
    set_aside = {key.partition(b"\0")[2] for key in writer.keys_below(b"damaged", b"")}
    for key, record in writer.txn.cursor(db=writer.table(b"states")):
        try:
            head, state = (
                HEADS.load(key, writer.txn.get(key, db=writer.table(b"heads")) or b""),
                STATES.load(key, record),
            )
        except DamagedRecord:
            continue
        if head.queue in queues and key not in set_aside:
            counts[head.queue].add(state, 1, head.size)
    for queue, row in counts.items():
        key = queue.encode()
        writer.put(writer.table(b"counts"), key, row.dump(key))
    return counts
