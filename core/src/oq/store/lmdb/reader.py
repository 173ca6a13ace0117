"""The questions that a read transaction answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from oq.errors import DamagedRecord
from oq.query import Count, Page, TaskFilter
from oq.store.base import Block, FullRecord, Record, Value
from oq.store.lmdb import layout
from oq.store.lmdb.bindings import Table, Txn
from oq.store.lmdb.environment import Environment
from oq.store.lmdb.layout import (
    ATTEMPTS,
    BLOCK_KEY,
    BLOCKS,
    HEADS,
    LANES,
    LARGEST_SEQ,
    NUMBER,
    SEQ,
    SEQ_EPOCH,
    STATES,
    STATUS_CODE,
    STATUS_KEY,
    VALUES,
    CountRow,
    Sealed,
    T,
    text_key,
)

log = logging.getLogger(__name__)

SCANNED_PER_PAGE = 2_000
"""The most tasks that one page looks at; a filter that few fit gives short pages with a cursor."""


def find(environment: Environment, txn: Txn, task_id: str) -> bytes | None:
    """The key of a task's records."""
    found: bytes | None = txn.get(text_key(task_id), db=environment.tables[b"ids"])
    return found


def resolve(environment: Environment, txn: Txn, prefix: str, limit: int) -> list[str]:
    if find(environment, txn, prefix) is not None:
        return [prefix]
    matches: list[str] = []
    for key in _keys_from(txn, environment.tables[b"ids"], prefix.encode()):
        if len(matches) >= limit or not key.startswith(prefix.encode()):
            break
        matches.append(key.decode())
    return matches


def get(environment: Environment, txn: Txn, task_id: str) -> Record | None:
    key = find(environment, txn, task_id)
    return None if key is None else _known(environment, txn, key, task_id)


def load(environment: Environment, txn: Txn, task_id: str) -> FullRecord | None:
    key = find(environment, txn, task_id)
    if key is None:
        return None
    record = _known(environment, txn, key, task_id)
    tables = environment.tables
    payload = txn.get(key, db=tables[b"payloads"])
    result = txn.get(key, db=tables[b"results"])
    if payload is None:
        raise DamagedRecord("payloads", layout.name_of(key), "it is missing")
    if (result is None) != (record.state.result_size is None):
        raise DamagedRecord("results", layout.name_of(key), "it is missing" if result is None else "it was dropped")
    return FullRecord(
        seq=record.seq,
        head=record.head,
        state=record.state,
        payload=layout.unseal("payloads", key, payload),
        result=None if result is None else layout.unseal("results", key, result),
        attempts=tuple(ATTEMPTS.load(at, found) for at, found in _items_below(txn, tables[b"attempts"], key)),
    )


def blocks(environment: Environment, txn: Txn, seq: int, epoch: int, first: int, limit: int) -> list[Block]:
    run = SEQ_EPOCH.pack(seq, epoch)
    found: list[Block] = []
    with txn.cursor(db=environment.tables[b"blocks"]) as cursor:
        # The block that holds `first` begins at or before it.
        there = cursor.set_range(BLOCK_KEY.pack(seq, epoch, first))
        if not there or cursor.key() != BLOCK_KEY.pack(seq, epoch, first):
            there = cursor.prev() if there else cursor.last()
            if there and not cursor.key().startswith(run):
                there = cursor.next()
        while there and len(found) < limit and cursor.key().startswith(run):
            key, record = cursor.item()
            kept = BLOCKS.load(key, record)
            start = BLOCK_KEY.unpack(key)[2]
            if start + kept.count > first:
                found.append(Block(first=start, count=kept.count, data=kept.data))
            there = cursor.next()
    return found


def page(environment: Environment, txn: Txn, wanted: TaskFilter, cursor: int | None, limit: int) -> Page[Record]:
    items: list[Record] = []
    scanned = 0
    last: int | None = None
    for key in _newest(environment, txn, wanted, cursor):
        if len(items) >= limit or scanned >= SCANNED_PER_PAGE:
            return Page(items=tuple(items), cursor=last)
        scanned += 1
        if len(key) != SEQ.size:
            continue
        last = SEQ.unpack(key)[0]
        try:
            record = _record(environment, txn, key)
        except DamagedRecord:
            continue  # `check` tells of it; a list shows what is whole
        if wanted.matches(record.head, record.state):
            items.append(record)
    return Page(items=tuple(items), cursor=None)


def counts(environment: Environment, txn: Txn) -> list[Count]:
    return [
        count
        for key, record in txn.cursor(db=environment.tables[b"counts"])
        for count in CountRow.load(key, record).counts(key.decode())
    ]


def lanes(environment: Environment, txn: Txn) -> tuple[int, frozenset[tuple[str, str, str]]]:
    version = txn.get(b"lanes_version", db=environment.tables[b"meta"])
    return (
        NUMBER.unpack(version)[0] if version else 0,
        frozenset(_sound(LANES, txn.cursor(db=environment.tables[b"lanes"])).values()),
    )


def stops(environment: Environment, txn: Txn) -> list[tuple[int, int]]:
    return [SEQ_EPOCH.unpack(key) for key in _keys_from(txn, environment.tables[b"stops"], b"")]


def value(environment: Environment, txn: Txn, namespace: str, key: str) -> Value | None:
    place = text_key(f"{namespace}\0{key}")
    record = txn.get(place, db=environment.tables[b"values"])
    return None if record is None else VALUES.load(place, record)


def values(environment: Environment, txn: Txn, namespace: str) -> dict[str, Value]:
    prefix = f"{namespace}\0".encode()
    found = _sound(VALUES, _items_below(txn, environment.tables[b"values"], prefix))
    return {key.removeprefix(prefix).decode(): value for key, value in found.items()}


def _known(environment: Environment, txn: Txn, key: bytes, task_id: str) -> Record:
    """The record that an id leads to; raises DamagedRecord when that is another task's."""
    record = _record(environment, txn, key)
    if record.head.id != task_id:
        raise DamagedRecord("ids", repr(task_id), f"it leads to task {record.head.id!r}")
    return record


def _record(environment: Environment, txn: Txn, key: bytes) -> Record:
    head = txn.get(key, db=environment.tables[b"heads"])
    state = txn.get(key, db=environment.tables[b"states"])
    if head is None or state is None:
        raise DamagedRecord("heads" if head is None else "states", layout.name_of(key), "it is missing")
    return Record(seq=SEQ.unpack(key)[0], head=HEADS.load(key, head), state=STATES.load(key, state))


def _newest(environment: Environment, txn: Txn, wanted: TaskFilter, cursor: int | None) -> Iterator[bytes]:
    """Keys of tasks before `cursor`, newest first, out of the narrowest index that fits."""
    before = LARGEST_SEQ if cursor is None else cursor
    if wanted.status is None:
        yield from _keys_before(txn, environment.tables[b"heads"], SEQ.pack(before), b"")
    else:
        code = STATUS_CODE[wanted.status]
        start, prefix = STATUS_KEY.pack(code, before), bytes([code])
        for key in _keys_before(txn, environment.tables[b"status"], start, prefix):
            yield key[1:]


def _keys_before(txn: Txn, table: Table, start: bytes, prefix: bytes) -> Iterator[bytes]:
    """Keys below `start` that begin with `prefix`, downwards."""
    with txn.cursor(db=table) as cursor:
        there = cursor.prev() if cursor.set_range(start) else cursor.last()
        while there and cursor.key().startswith(prefix):
            yield cursor.key()
            there = cursor.prev()


def _keys_from(txn: Txn, table: Table, start: bytes) -> Iterator[bytes]:
    with txn.cursor(db=table) as cursor:
        if cursor.set_range(start):
            yield from cursor.iternext(keys=True, values=False)


def _sound(sealed: Sealed[T], items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, T]:
    """The values of the records that are whole."""
    found: dict[bytes, T] = {}
    for key, record in items:
        try:
            found[key] = sealed.load(key, record)
        except DamagedRecord as error:
            log.error("it is passed over: %s", error)
    return found


def _items_below(txn: Txn, table: Table, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor(db=table) as cursor:
        if cursor.set_range(prefix):
            for key, record in cursor:
                if not key.startswith(prefix):
                    return
                yield key, record
