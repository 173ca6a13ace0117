"""Mends the small tables that every write needs, so that damage in them costs no more than what it hit.

What can be derived from other records is derived anew; what cannot is set aside, as found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oq.errors import DamagedRecord
from oq.store.base import QUEUES
from oq.store.lmdb.layout import (
    HEADS,
    LANE_NUMBER,
    LANES,
    LARGEST_SEQ,
    READY_KEY,
    SEQ,
    STATES,
    VALUES,
    CountRow,
)

if TYPE_CHECKING:
    from oq.store.base import Value
    from oq.store.lmdb.writer import Lane, Writer

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
