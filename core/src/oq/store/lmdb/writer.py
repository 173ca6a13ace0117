"""One write transaction: records, and everything that is derived from them, changed together.

A task is changed only by `add`, `move` and `drop_output`; index entries and counters follow from the state before and
the state after, so no op can forget one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby, takewhile
from operator import attrgetter, itemgetter
from typing import cast

import lmdb
from attrs import define, field
from msgspec import Struct

from oq.choose import Ready
from oq.codec import decode_as
from oq.errors import DamagedRecord, TaskNotFound
from oq.query import QueueSettings
from oq.store import transitions
from oq.store.base import EVERY_QUEUE, Block, Entry, NewTask, Room
from oq.store.lmdb import layout, mending
from oq.store.lmdb.bindings import Table, Txn
from oq.store.lmdb.environment import Environment
from oq.store.lmdb.layout import (
    ALONE,
    ATTEMPTS,
    BLOCK_KEY,
    BLOCKS,
    HEADS,
    LANE_NUMBER,
    LANES,
    NUMBER,
    PAIR,
    READY_KEY,
    SEQ,
    SEQ_EPOCH,
    STATES,
    STATUS_CODE,
    STATUS_KEY,
    CountRow,
    KeptBlock,
    Sealed,
    T,
    seal,
    text_key,
    timer_key,
)
from oq.store.transitions import KEPT_ATTEMPTS
from oq.task import Outcome, Phase, Status, TaskHead, TaskState

log = logging.getLogger(__name__)

Lane = tuple[str, str, str]

MANY_LANES = 512
"""From this many lanes on, empty ones are forgotten whenever their number has doubled."""


@define
class Cache:
    """Small tables as this process's last write transaction left them; worthless once another process has written."""

    txn_id: int = -1
    next_seq: int = 1
    next_lane: int = 1
    lanes_version: int = 0
    lanes: dict[Lane, int] = field(factory=dict)
    lanes_sweep_at: int = MANY_LANES
    counts: dict[str, CountRow] = field(factory=dict)
    paused: frozenset[str] = frozenset()
    follower_edges: bool = False
    """Whether any task waits for another."""
    references: bool = False
    """Whether any task that is not final comes after another."""
    running: dict[int, tuple[TaskHead, TaskState]] = field(factory=dict)
    """The running tasks that this process claimed, so that their ends need not read them."""


class Move(Struct, frozen=True, gc=False):
    """A task on its way from one state to another."""

    seq: int
    head: TaskHead
    before: TaskState
    after: TaskState


class Writer:
    """A write transaction with the verbs that ops are made of."""

    def __init__(self, environment: Environment, txn: Txn, cache: Cache) -> None:
        self.txn = txn
        self.cache = cache
        self.environment = environment
        self.wrote = 0
        """How many entries this transaction put or deleted."""
        self._touched_counts: set[str] = set()
        tables = environment.tables
        self._heads = tables[b"heads"]
        self._payloads = tables[b"payloads"]
        self._states = tables[b"states"]
        self._results = tables[b"results"]
        self._attempts = tables[b"attempts"]
        self._blocks = tables[b"blocks"]
        self._ids = tables[b"ids"]
        self._status = tables[b"status"]
        self._ready = tables[b"ready"]
        self._timers = tables[b"timers"]
        self._unique = tables[b"unique"]
        self._followers = tables[b"followers"]
        self._references = tables[b"references"]
        self._settling = tables[b"settling"]
        self._lanes = tables[b"lanes"]
        self._counts = tables[b"counts"]
        self._meta = tables[b"meta"]
        if cache.txn_id + 1 != txn.id():
            self._reload()

    # Plain access

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        self.wrote += 1
        self.txn.put(key, value, db=table)

    def put_all(self, table: Table, items: Sequence[tuple[bytes, bytes]], *, append: bool = False) -> None:
        """Put the items; `append` says that their keys come after all others, which must be so."""
        if not items:
            return
        self.wrote += len(items)
        with self.txn.cursor(db=table) as cursor:
            _, added = cursor.putmulti(items, append=append)
        if append and added != len(items):
            raise lmdb.Error("sequence numbers are not in order")  # no refusal, since part of it is written

    def delete(self, table: Table, key: bytes) -> bool:
        """Whether there was something to delete.

        If not, that does not count: LMDB does not number a commit that changes nothing, and the cache goes by numbers.
        """
        found = self.txn.delete(key, db=table)
        self.wrote += found
        return found

    def delete_met(self, table: bytes, key: bytes) -> None:
        """Delete an entry that a scan came by, be it in a wrong place because of a damaged neighbour.

        Otherwise it would be met for ever.
        """
        if self.delete(self.environment.tables[table], key):
            return
        with self.txn.cursor(db=self.environment.tables[table]) as cursor:
            there = cursor.set_range(b"")
            while there and cursor.key() != key:
                there = cursor.next()
            if there:
                self.wrote += cursor.delete()

    def table(self, name: bytes) -> Table:
        return self.environment.tables[name]

    def load(self, table: bytes, sealed: Sealed[T], key: bytes) -> T | None:
        """The value of a record, or None; raises DamagedRecord."""
        record = self.txn.get(key, db=self.environment.tables[table])
        return None if record is None else sealed.load(key, record)

    def keys_below(self, table: bytes, prefix: bytes) -> Iterator[bytes]:
        """The keys that begin with `prefix`; nothing may be written to the table meanwhile."""
        return self.keys_from(table, prefix, prefix)

    def keys_from(self, table: bytes, start: bytes, prefix: bytes) -> Iterator[bytes]:
        """Those of them that are not before `start`."""
        cursor = self.txn.cursor(db=self.environment.tables[table])
        if cursor.set_range(start):
            for key in cursor.iternext(keys=True, values=False):
                if not key.startswith(prefix):
                    return
                yield key

    # Tasks

    def find(self, task_id: str) -> int | None:
        """The sequence number of a task."""
        key = self.txn.get(text_key(task_id), db=self._ids)
        return None if key is None else SEQ.unpack(key)[0]

    def known(self, task_id: str) -> tuple[int, TaskHead, TaskState]:
        """The task; raises TaskNotFound or DamagedRecord."""
        seq = self.find(task_id)
        if seq is None:
            raise TaskNotFound(task_id)
        head = self.head(seq)
        if head.id != task_id:
            raise DamagedRecord("ids", repr(task_id), f"it leads to task {head.id!r}")
        return seq, head, self.state(seq)

    def head(self, seq: int) -> TaskHead:
        key = SEQ.pack(seq)
        return HEADS.load(key, self._there("heads", key, self.txn.get(key, db=self._heads)))

    def state(self, seq: int) -> TaskState:
        key = SEQ.pack(seq)
        return STATES.load(key, self._there("states", key, self.txn.get(key, db=self._states)))

    def running(self, seq: int, epoch: int) -> tuple[TaskHead, TaskState]:
        """A running task; raises LeaseLost unless `epoch` is the one that runs, or DamagedRecord."""
        known = self.cache.running.get(seq)
        if known is None:
            key = SEQ.pack(seq)
            record = self.txn.get(key, db=self._states)
            state = transitions.check_epoch(seq, None if record is None else STATES.load(key, record), epoch)
            return self.head(seq), state
        transitions.check_epoch(seq, known[1], epoch)
        return known

    def name_of(self, seq: int) -> str:
        """The task's id, for messages; its number where that cannot be read."""
        try:
            return self.head(seq).id
        except DamagedRecord:
            return f"#{seq}"

    def payload(self, seq: int) -> bytes:
        key = SEQ.pack(seq)
        return layout.unseal("payloads", key, self._there("payloads", key, self.txn.get(key, db=self._payloads)))

    def read_all(self, seqs: Iterable[int]) -> Iterator[tuple[TaskHead, TaskState, bytes] | DamagedRecord]:
        """Head, state and payload of each of these tasks, or what is wrong with them; nothing may be written meanwhile.

        Tasks that stand alike get the very same state, which most of the ready ones do.
        """
        with (
            self.txn.cursor(db=self._heads) as heads,
            self.txn.cursor(db=self._states) as states,
            self.txn.cursor(db=self._payloads) as payloads,
        ):
            known_body, state = None, None
            for seq in seqs:
                key = SEQ.pack(seq)
                try:
                    head = HEADS.load(key, self._there("heads", key, heads.get(key)))
                    body = layout.unseal("states", key, self._there("states", key, states.get(key)))
                    if body != known_body or state is None:
                        known_body, state = body, STATES.decode(key, body)
                    yield head, state, layout.unseal("payloads", key, self._there("payloads", key, payloads.get(key)))
                except DamagedRecord as error:
                    yield error

    def add(self, tasks: Iterable[tuple[NewTask, int, TaskState]]) -> None:
        """Keep new tasks, table by table, each in its initial state."""
        heads, payloads, states, ids, status, ready, timers, unique = ([] for _ in range(8))
        for state, group in groupby(tasks, key=itemgetter(2)):  # the tasks of one op mostly stand alike
            alike = list(group)
            body, code, wakes_at = layout.encode(state), STATUS_CODE[state.status], state.wakes_at
            is_ready, is_final = state.phase is Phase.READY, state.status.final
            for new, seq, _ in alike:
                key = SEQ.pack(seq)
                head = new.head
                heads.append((key, HEADS.dump(key, head)))
                payloads.append((key, seal(key, new.payload)))
                states.append((key, seal(key, body)))
                ids.append((text_key(head.id), key))
                status.append((STATUS_KEY.pack(code, seq), b""))
                ready_key = self.ready_key(seq, head, state)  # makes the lane, to be offered before the task is ready
                if is_ready:
                    ready.append((ready_key, b""))
                if wakes_at is not None:
                    timers.append((timer_key(wakes_at, seq), b""))
                if head.after and not is_final:
                    self._refer(seq, head, state)
                if head.unique_key is not None and not is_final:
                    unique.append((text_key(head.unique_key), key))
            for queue, (number, size) in _sums(new.head for new, _, _ in alike).items():
                self.count_row(queue).add(state, number, size)
        self.put_all(self._heads, heads, append=True)
        self.put_all(self._payloads, payloads, append=True)
        self.put_all(self._states, states, append=True)
        self.put_all(self._ids, ids)
        self.put_all(self._status, status)
        self.put_all(self._ready, ready)
        self.put_all(self._timers, timers)
        self.put_all(self._unique, unique)

    def move(self, seq: int, head: TaskHead, before: TaskState, after: TaskState) -> None:
        """Rewrite the state of a task, and every entry and counter that follows from it."""
        self.move_all([Move(seq, head, before, after)])

    def move_all(self, moves: Iterable[Move]) -> None:
        """Move each of these different tasks: first what goes, one by one, then what comes, table by table."""
        states, status, ready, timers = ([] for _ in range(4))
        alike: TaskState | None = None
        for move in moves:
            seq, head, before, after = move.seq, move.head, move.before, move.after
            key = SEQ.pack(seq)
            if after is not alike:  # tasks claimed together mostly stand alike
                alike, body = after, layout.encode(after)
            states.append((key, seal(key, body)))
            if before.status is not after.status:
                self.delete(self._status, STATUS_KEY.pack(STATUS_CODE[before.status], seq))
                status.append((STATUS_KEY.pack(STATUS_CODE[after.status], seq), b""))
                if head.unique_key is not None:
                    self._hold_unique_key(seq, head.unique_key, after)
                if after.status.final and self.cache.follower_edges and self.next_follower(seq) is not None:
                    self.put(self._settling, key, b"")
                if head.after and before.status.final is not after.status.final:
                    self._refer(seq, head, after)
            if before.phase is Phase.READY:
                self.delete(self._ready, self.ready_key(seq, head, before))
            if after.phase is Phase.READY:
                ready.append((self.ready_key(seq, head, after), ALONE if transitions.runs_alone(after) else b""))
            woke_at, wakes_at = before.wakes_at, after.wakes_at
            if woke_at != wakes_at:
                if woke_at is not None:
                    self.delete(self._timers, timer_key(woke_at, seq))
                if wakes_at is not None:
                    timers.append((timer_key(wakes_at, seq), b""))
            if after.status is Status.RUNNING:
                self.cache.running[seq] = head, after
            else:
                self.cache.running.pop(seq, None)
            self.count_row(head.queue).move(before, after, head.size)
        self.put_all(self._states, states)
        self.put_all(self._status, status)
        self.put_all(self._ready, ready)
        self.put_all(self._timers, timers)

    def keep_results(self, results: Sequence[tuple[int, bytes]]) -> None:
        """Keep the results of these tasks."""
        items = [(key, seal(key, result)) for key, result in ((SEQ.pack(seq), result) for seq, result in results)]
        self.put_all(self._results, items)

    def keep_block(self, seq: int, epoch: int, block: Block) -> None:
        key = BLOCK_KEY.pack(seq, epoch, block.first)
        self.put(self._blocks, key, BLOCKS.dump(key, KeptBlock(block.count, block.data)))

    def keep_attempt(self, seq: int, before: TaskState, after: TaskState, outcome: Outcome, now: datetime) -> None:
        key = SEQ_EPOCH.pack(seq, before.epoch)
        self.put(self._attempts, key, ATTEMPTS.dump(key, transitions.attempt_of(before, after, outcome, now)))
        if before.epoch > KEPT_ATTEMPTS:
            oldest = SEQ_EPOCH.pack(seq, before.epoch - KEPT_ATTEMPTS)
            for old in list(takewhile(lambda key: key <= oldest, self.keys_below(b"attempts", SEQ.pack(seq)))):
                self.delete(self._attempts, old)

    def drop_output(self, seq: int) -> None:
        """Forget a task's result and chunks."""
        key = SEQ.pack(seq)
        self.delete(self._results, key)
        for block in list(self.keys_below(b"blocks", key)):
            self.delete(self._blocks, block)

    # Who comes after whom

    def parents_of(self, seq: int, head: TaskHead) -> list[int]:
        """The tasks that this one comes after, each once, but for those that were deleted.

        A later task may have the id of a deleted one; nobody comes after that.
        """
        found = [self.find(parent) for parent in dict.fromkeys(head.after)]
        return [parent for parent in found if parent is not None and parent < seq]

    def _refer(self, seq: int, head: TaskHead, state: TaskState) -> None:
        """Note that a task needs those that it comes after, or that it does so no more."""
        for parent in self.parents_of(seq, head):
            if state.status.final:
                self.delete(self._references, PAIR.pack(parent, seq))
            else:
                self.put(self._references, PAIR.pack(parent, seq), b"")
                self.cache.references = True

    def add_follower(self, parent: int, child: int) -> None:
        self.put(self._followers, PAIR.pack(parent, child), b"")
        self.cache.follower_edges = True

    def drop_follower(self, parent: int, child: int) -> None:
        self.delete_met(b"followers", PAIR.pack(parent, child))

    def has_follower(self, parent: int, child: int) -> bool:
        return self.txn.get(PAIR.pack(parent, child), db=self._followers) is not None

    def next_follower(self, parent: int) -> int | None:
        """The first task that waits for `parent` and has not been told that it is settled."""
        key = next(self.keys_below(b"followers", SEQ.pack(parent)), None)
        return None if key is None else PAIR.unpack(key)[1]

    def next_settling(self) -> int | None:
        """The first final task that has followers to tell."""
        key = next(self.keys_below(b"settling", b""), None)
        return None if key is None else SEQ.unpack(key)[0]

    def settled(self, parent: int) -> None:
        """Note that all followers have been told."""
        self.delete_met(b"settling", SEQ.pack(parent))

    # Timers

    def next_timer(self) -> bytes | None:
        """The key of the earliest timer."""
        return next(self.keys_below(b"timers", b""), None)

    def next_wake_at(self) -> datetime | None:
        """The earliest moment at which a task is to be woken."""
        key = self.next_timer()
        return None if key is None else layout.moment_of(key)

    def drop_timer(self, key: bytes) -> None:
        """Forget a timer that no task can be woken by."""
        self.delete_met(b"timers", key)

    # Unique keys

    def holder(self, unique_key: str | None) -> Entry | None:
        """The task that holds the key, as long as it is not final."""
        key = None if unique_key is None else self.txn.get(text_key(unique_key), db=self._unique)
        if key is None:
            return None
        seq = SEQ.unpack(key)[0]
        head = self.head(seq)
        if head.unique_key != unique_key:
            raise DamagedRecord("unique", repr(unique_key), f"it leads to task {head.id!r}")
        return Entry(task_id=head.id, seq=seq)

    def _hold_unique_key(self, seq: int, unique_key: str, after: TaskState) -> None:
        if not after.status.final:
            self.put(self._unique, text_key(unique_key), SEQ.pack(seq))
        elif self.txn.get(text_key(unique_key), db=self._unique) == SEQ.pack(seq):
            self.delete(self._unique, text_key(unique_key))

    # Lanes

    def ready_key(self, seq: int, head: TaskHead, state: TaskState) -> bytes:
        """Where the task stands in its lane; the lane is made when there is none."""
        lane = (head.queue, head.executor, head.lane)
        number = self.cache.lanes.get(lane)
        if number is None:
            number = self._new_lane(lane)
        return READY_KEY.pack(number, 255 - state.priority, seq)

    def ready_in(self, lane: Lane, lowest: int, highest: int) -> Iterator[Ready]:
        """The ready tasks of a lane with these priorities, best first; no ready entry may be written meanwhile."""
        number = self.cache.lanes.get(lane)
        if number is None:
            return
        with self.txn.cursor(db=self._ready) as cursor:
            if not cursor.set_range(READY_KEY.pack(number, 255 - highest, 0)):
                return
            for key, value in cursor:
                found, rank, seq = READY_KEY.unpack(key)
                if found != number or rank > 255 - lowest:
                    return
                yield Ready(rank - 255, seq, value == ALONE)

    def _new_lane(self, lane: Lane) -> int:
        cache = self.cache
        if len(cache.lanes) >= cache.lanes_sweep_at:
            self._forget_empty_lanes()
        number = cache.next_lane
        cache.next_lane += 1
        cache.lanes_version += 1
        cache.lanes[lane] = number
        key = LANE_NUMBER.pack(number)
        self.put(self._lanes, key, LANES.dump(key, lane))
        self.put_number(b"next_lane", cache.next_lane)
        self.put_number(b"lanes_version", cache.lanes_version)
        return number

    def _forget_empty_lanes(self) -> None:
        cache = self.cache
        for lane, number in list(cache.lanes.items()):
            if next(self.ready_in(lane, 0, 255), None) is None:
                del cache.lanes[lane]
                self.delete(self._lanes, LANE_NUMBER.pack(number))
        cache.lanes_sweep_at = max(MANY_LANES, 2 * len(cache.lanes))

    # Counters and numbers

    def take_seqs(self, number: int) -> int:
        """The first of `number` fresh sequence numbers."""
        first = self.cache.next_seq
        self.cache.next_seq += number
        self.put_number(b"next_seq", self.cache.next_seq)
        return first

    def put_number(self, name: bytes, number: int) -> None:
        self.put(self._meta, name, NUMBER.pack(number))

    def count_row(self, queue: str) -> CountRow:
        """The counters of a queue, to be changed and then written by `flush`."""
        self._touched_counts.add(queue)
        row = self.cache.counts.get(queue)
        if row is None:
            row = self.cache.counts[queue] = CountRow()
        return row

    def check_room(self, room: Room, added: Iterable[TaskHead]) -> None:
        """Raise QueueFull when there is no room for these tasks beside what is pending."""
        rows = self.cache.counts
        pending = sum(row.pending for row in rows.values())
        pending_size = sum(row.pending_size for row in rows.values())
        for queue, (number, size) in _sums(added).items():
            row = rows.get(queue) or CountRow()
            room.check(queue, row.pending + number, row.pending_size + size)
            pending += number
            pending_size += size
        room.check(None, pending, pending_size)

    def flush(self) -> None:
        """Write the counters that changed; the last thing before a commit."""
        for queue in self._touched_counts:
            key = queue.encode()
            self.put(self._counts, key, self.cache.counts[queue].dump(key))
        self._touched_counts.clear()

    # Reading what another process wrote

    def _reload(self) -> None:
        cache, txn = self.cache, self.txn
        numbers = {bytes(name): value for name, value in txn.cursor(db=self._meta)}
        cache.lanes = mending.read_lanes(self)
        cache.counts = mending.read_counts(self)
        cache.next_seq = max(_number(numbers, b"next_seq", 1), mending.least_next_seq(self))
        cache.next_lane = max(_number(numbers, b"next_lane", 1), mending.least_next_lane(self, cache.lanes))
        cache.lanes_version = _number(numbers, b"lanes_version", 0)
        cache.running = {}
        cache.follower_edges = txn.stat(self._followers)["entries"] > 0
        cache.references = txn.stat(self._references)["entries"] > 0
        self.reload_pauses()

    def reload_pauses(self) -> None:
        """Read which queues are paused."""
        self.cache.paused = frozenset(
            queue for queue, value in mending.read_queue_settings(self) if _settings(value.data).paused
        )

    def paused(self, queue: str) -> bool:
        return bool(self.cache.paused) and (queue in self.cache.paused or EVERY_QUEUE in self.cache.paused)

    def _there(self, table: str, key: bytes, record: bytes | None) -> bytes:
        if record is None:
            raise DamagedRecord(table, layout.name_of(key), "it is missing")
        return record


def _sums(heads: Iterable[TaskHead]) -> dict[str, tuple[int, int]]:
    """How many of the tasks are in each queue, and how many bytes their payloads have."""
    sums: dict[str, tuple[int, int]] = {}
    for queue, group in groupby(heads, key=attrgetter("queue")):
        sizes = [head.size for head in group]
        number, size = sums.get(queue, (0, 0))
        sums[queue] = number + len(sizes), size + sum(sizes)
    return sums


def _settings(data: bytes) -> QueueSettings:
    return cast("QueueSettings", decode_as(data, QueueSettings))


def _number(numbers: Mapping[bytes, bytes], name: bytes, default: int) -> int:
    return int(NUMBER.unpack(numbers[name])[0]) if name in numbers else default
