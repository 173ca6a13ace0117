"""The memory store: everything in dictionaries, every question answered in the most obvious way.

It is the reference that other stores are compared with, and serves tests and queues that may be forgotten. What it
keeps is gone with the process.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from attrs import define, field
from msgspec.structs import replace

from oq.choose import Offer, Ready, choose
from oq.codec import decode_as
from oq.errors import (
    IdempotencyConflict,
    InvalidTask,
    OqError,
    StoreInUse,
    TaskExists,
    TaskInUse,
    TaskNotFound,
    UniqueKeyTaken,
    VersionConflict,
)
from oq.events import Event, EventKind, event_of
from oq.hookspecs import StoreFactory, hookimpl
from oq.query import Count, Page, QueueSettings, TaskFilter
from oq.store import transitions
from oq.store.base import (
    ANY_NUMBER,
    EVERY_QUEUE,
    QUEUES,
    Added,
    AddMany,
    Advance,
    Advanced,
    AppendChunks,
    Appended,
    Block,
    Cancel,
    Claim,
    Claimed,
    Delete,
    Entry,
    Finish,
    Finished,
    FullRecord,
    Moved,
    NewTask,
    Op,
    Purge,
    PurgeCursor,
    Purged,
    PutValue,
    Record,
    Refused,
    Renew,
    Renewed,
    Reply,
    Requeue,
    Room,
    Run,
    SetPriority,
    Stored,
    TakeOver,
    TookOver,
    Value,
)
from oq.store.transitions import KEPT_ATTEMPTS, RELEASED_AT_ONCE
from oq.task import Attempt, Outcome, Phase, Priority, Status, TaskHead, TaskState

if TYPE_CHECKING:
    from oq.config import Settings

Lane = tuple[str, str, str]

FINAL = tuple(status for status in Status if status.final)


@hookimpl
def oq_stores() -> Mapping[str, StoreFactory]:
    """The scheme `memory://`."""
    return {"memory": _open}


def _open(location: str, settings: Settings) -> MemoryStore:  # noqa: ARG001  # the signature of factories  # the signature of factories
    return MemoryStore()


@define
class _Kept:
    """All there is of one task."""

    seq: int
    head: TaskHead
    state: TaskState
    payload: bytes
    result: bytes | None = None
    attempts: list[Attempt] = field(factory=list)
    blocks: dict[int, dict[int, Block]] = field(factory=dict)
    """By epoch and first chunk, so that a block sent twice is kept once."""
    followers: list[int] = field(factory=list)
    """The tasks that come after this one and have not been told that it is settled."""


class MemoryStore:
    """Keeps tasks in this process's memory."""

    location = "memory"

    def __init__(self, *, exclusive: bool = True) -> None:
        """`exclusive=False` lets several queues of one process run the same tasks, by leases."""
        self.exclusive = exclusive
        self._tasks: dict[int, _Kept] = {}
        self._seqs: dict[str, int] = {}
        self._next_seq = 1
        self._ready: dict[Lane, list[Ready]] = {}
        self._lanes_version = 0
        self._unique: dict[str, int] = {}
        self._settling: set[int] = set()
        """Final tasks whose followers have not all been told."""
        self._idempotent: dict[str, tuple[str, tuple[Entry, ...], datetime]] = {}
        """By key, what tells one submission from another, what it gave, and when it came first."""
        self._claims: dict[str, tuple[str, tuple[Run, ...]]] = {}
        self._stops: set[tuple[int, int]] = set()
        self._values: dict[tuple[str, str], Value] = {}
        self._run_locked = False

    def lock_run(self) -> None:
        if self.exclusive and self._run_locked:
            raise StoreInUse(self.location, "another queue of this process")
        self._run_locked = True

    def unlock_run(self) -> None:
        self._run_locked = False

    def runner(self) -> str | None:
        return "this process" if self.exclusive and self._run_locked else None

    def close(self) -> None:
        """Nothing to close; what is kept stays for the next queue that is given this store."""

    # Ops

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        return [self._apply(op) for op in ops]

    def _apply(self, op: Op[Reply]) -> Reply:
        try:
            match op:
                case AddMany():
                    return self._add_many(op)
                case Claim():
                    return self._claim(op)
                case Finish():
                    return self._finish(op)
                case AppendChunks():
                    return self._append(op)
                case Renew():
                    return self._renew(op)
                case Cancel():
                    return self._cancel(op)
                case SetPriority():
                    return self._set_priority(op)
                case Requeue():
                    return self._requeue(op)
                case Delete():
                    return self._delete(op)
                case Purge():
                    return self._purge(op)
                case Advance():
                    return self._advance(op)
                case TakeOver():
                    return self._take_over(op)
                case PutValue():
                    return self._put_value(op)
                case _:
                    raise TypeError(f"not an op of this store: {op!r}")
        except OqError as error:
            return Refused(error=error)

    def _add_many(self, op: AddMany) -> Added:
        if op.idempotency is not None and op.idempotency in self._idempotent:
            digest, entries, _ = self._idempotent[op.idempotency]
            if digest != op.digest:
                raise IdempotencyConflict(op.idempotency)
            return Added(entries=entries)
        seen: dict[str, Entry] = {}
        held: dict[str, Entry] = {}
        fresh: list[tuple[NewTask, int]] = []
        given: list[Entry] = []
        for index, new in enumerate(op.tasks):
            head = new.head
            kept = self._find(head.id)
            if kept is not None and kept.head == head and kept.payload == new.payload:
                given.append(Entry(task_id=head.id, seq=kept.seq))
                continue
            if kept is not None or head.id in seen:
                raise TaskExists(head.id)
            for parent in head.after:
                if parent not in seen and parent not in self._seqs:
                    raise InvalidTask(f"there is no task {parent!r}", f"tasks[{index}].after")
            holder = self._holder(head.unique_key)
            if holder is None and head.unique_key is not None:
                holder = held.get(head.unique_key)
            if holder is not None:
                given.append(replace(holder, duplicate=True))
                continue
            entry = seen[head.id] = Entry(task_id=head.id, seq=self._next_seq + len(fresh))
            fresh.append((new, entry.seq))
            given.append(entry)
            if head.unique_key is not None:
                held[head.unique_key] = entry
        self._check_room(op.room, [new.head for new, _ in fresh])
        events = [event for new, seq in fresh for event in self._add(new, seq, op.now)]
        self._next_seq += len(fresh)
        entries = tuple(given)
        if op.idempotency is not None:
            self._idempotent[op.idempotency] = op.digest, entries, op.now
        return Added(entries=entries, events=tuple(events))

    def _check_room(self, room: Room, added: Sequence[TaskHead]) -> None:
        if room == ANY_NUMBER or not added:
            return
        heads = [kept.head for kept in self._tasks.values() if kept.state.status is Status.PENDING] + list(added)
        for queue in dict.fromkeys(head.queue for head in added):
            sizes = [head.size for head in heads if head.queue == queue]
            room.check(queue, len(sizes), sum(sizes))
        room.check(None, len(heads), sum(head.size for head in heads))

    def _add(self, new: NewTask, seq: int, now: datetime) -> Iterator[Event]:
        head = new.head
        parents = self._parents(seq, head)
        waiting = [parent for parent in parents if not parent.state.status.final]
        fallen = [parent for parent in parents if parent.state.status in (Status.FAILED, Status.CANCELLED)]
        state = transitions.submitted(head, new.priority, len(waiting), now)
        kept = self._tasks[seq] = _Kept(seq=seq, head=head, state=state, payload=new.payload)
        self._seqs[head.id] = seq
        self._enter(kept)
        yield event_of(EventKind.SUBMITTED, now, seq, head, state)
        if fallen and head.on_parent_failure == "fail":
            yield from self._settle(kept, fallen[0], now)
        else:
            for parent in waiting:
                insort(parent.followers, seq)

    def _claim(self, op: Claim) -> Claimed:
        token, runs = self._claims.get(op.worker, (None, ()))
        if token == op.token:
            runs = tuple(run for run in runs if self._runs(run.seq, run.state.epoch))
            return Claimed(runs=runs, more=True, lanes_version=self._lanes_version)
        offers = [offer for offer in op.offers if not self._paused(offer.queue)]

        def heads(offer: Offer) -> Iterator[Ready]:
            ready = self._ready.get((offer.queue, offer.executor, offer.lane), [])
            return (task for task in ready if offer.lowest <= -task.minus_priority <= offer.highest)

        chosen = choose(offers, heads, op.free, op.limit, idle=op.idle)
        claimed: list[Run] = []
        events: list[Event] = []
        for choice in chosen.choices:
            kept = self._tasks[choice.ready.seq]
            state = transitions.claimed(kept.head.id, kept.state, op.worker, op.lease_until, op.now)
            self._move(kept, state)
            claimed.append(Run(seq=kept.seq, head=kept.head, state=state, payload=kept.payload, units=choice.units))
            events.append(event_of(EventKind.STARTED, op.now, kept.seq, kept.head, state))
        self._claims[op.worker] = op.token, tuple(claimed)
        return Claimed(runs=tuple(claimed), more=chosen.more, lanes_version=self._lanes_version, events=tuple(events))

    def _finish(self, op: Finish) -> Finished:
        self._stops.discard((op.seq, op.epoch))
        kept = self._running(op.seq, op.epoch)
        before = kept.state
        after = transitions.ended(kept.head, before, op.ending, op.executed_on, op.now)
        if op.block is not None:
            kept.blocks.setdefault(op.epoch, {})[op.block.first] = op.block
        kept.result = transitions.result_of(op.ending)
        self._end(kept, after, transitions.outcome_of(op.ending), op.now)
        event = event_of(transitions.event_kind_of(op.ending), op.now, op.seq, kept.head, after)
        events, _ = self._tell_followers(op.now, RELEASED_AT_ONCE)
        return Finished(events=(event, *events), unsettled=bool(self._settling))

    def _append(self, op: AppendChunks) -> Appended:
        kept = self._running(op.seq, op.epoch)
        kept.blocks.setdefault(op.epoch, {})[op.block.first] = op.block
        return Appended()

    def _renew(self, op: Renew) -> Renewed:
        lost: list[tuple[int, int]] = []
        for seq, epoch in op.runs:
            try:
                kept = self._running(seq, epoch)
            except OqError:
                lost.append((seq, epoch))
            else:
                self._move(kept, transitions.renewed(kept.state, op.until))
        return Renewed(lost=tuple(lost))

    def _cancel(self, op: Cancel) -> Moved:
        kept = self._known(op.task_id)
        before = kept.state
        after = transitions.cancelled(op.task_id, before, op.now)
        if before.status is Status.RUNNING:
            self._stops.add((kept.seq, before.epoch))
            self._end(kept, after, Outcome.CANCELLED, op.now)
        else:
            self._move(kept, after)
        events, _ = self._tell_followers(op.now, RELEASED_AT_ONCE)
        event = event_of(EventKind.CANCELLED, op.now, kept.seq, kept.head, after)
        return Moved(events=(event, *events), unsettled=bool(self._settling))

    def _set_priority(self, op: SetPriority) -> Moved:
        kept = self._known(op.task_id)
        self._move(kept, transitions.reprioritized(op.task_id, kept.state, op.priority))
        return Moved(events=(event_of(EventKind.PRIORITY_CHANGED, op.now, kept.seq, kept.head, kept.state),))

    def _requeue(self, op: Requeue) -> Moved:
        kept = self._known(op.task_id)
        parents = self._parents(kept.seq, kept.head)
        waiting = [parent for parent in parents if kept.seq in parent.followers or not parent.state.status.final]
        after = transitions.requeued(op.task_id, kept.state, len(waiting), op.now)
        holder = self._holder(kept.head.unique_key)
        if holder is not None:
            raise UniqueKeyTaken(op.task_id, holder.task_id)
        for parent in waiting:
            if kept.seq not in parent.followers:
                insort(parent.followers, kept.seq)
        self._move(kept, after)
        return Moved(events=(event_of(EventKind.REQUEUED, op.now, kept.seq, kept.head, after),))

    def _delete(self, op: Delete) -> Moved:
        kept = self._known(op.task_id)
        transitions.check_deletable(op.task_id, kept.state)
        needed_by = self._needed_by().get(kept.seq)
        if needed_by is not None:
            raise TaskInUse(op.task_id, needed_by.head.id)
        return Moved(events=(self._remove(kept, op.now),))

    def _purge(self, op: Purge) -> Purged:
        needed_by = self._needed_by()
        events: list[Event] = []
        looked = 0
        cursor = op.cursor or PurgeCursor(status=FINAL[0])
        for status in FINAL[FINAL.index(cursor.status) :] if cursor.status else ():
            if cursor.status is not status:
                cursor = PurgeCursor(status=status)
            same = [kept for _, kept in sorted(self._tasks.items()) if kept.state.status is status]
            sieve = transitions.Sieve(op, status, cursor.left, len(same))
            last, left = cursor.seq, cursor.left
            for kept in same if not sieve.takes_none else ():
                if kept.seq <= cursor.seq:
                    continue
                if looked == op.limit:
                    return Purged(events=tuple(events), cursor=PurgeCursor(status=status, seq=last, left=left))
                if sieve.is_done_at(kept.head):
                    break
                looked += 1
                last = kept.seq
                if sieve.takes(kept.state) and kept.seq not in needed_by:
                    events.append(self._remove(kept, op.now))
                else:
                    left += 1
        until = op.idempotent_before
        old = sorted((at, key) for key, (_, _, at) in self._idempotent.items() if until is not None and at <= until)
        for _, key in old[: op.limit - looked]:
            del self._idempotent[key]
        done = len(old) <= op.limit - looked
        return Purged(events=tuple(events), cursor=None if done else PurgeCursor(status=None))

    def _advance(self, op: Advance) -> Advanced:
        events, steps = self._tell_followers(op.now, op.limit)
        timers = sorted(
            (wakes_at, kept.seq) for kept in self._tasks.values() if (wakes_at := kept.state.wakes_at) is not None
        )
        for _, seq in timers:
            wakes_at = self._tasks[seq].state.wakes_at  # a step before may have moved it
            if steps < op.limit and wakes_at is not None and wakes_at <= op.now:
                events += self._wake(self._tasks[seq], op.now)
                steps += 1
        next_at = min(
            (wakes_at for kept in self._tasks.values() if (wakes_at := kept.state.wakes_at) is not None), default=None
        )
        unsettled = bool(self._settling)
        return Advanced(
            events=tuple(events),
            unsettled=unsettled,
            next_at=next_at,
            more=unsettled or (next_at is not None and next_at <= op.now),
            lanes_version=self._lanes_version,
        )

    def _take_over(self, op: TakeOver) -> TookOver:
        self._stops.clear()
        self._claims.clear()
        running = [kept for kept in self._tasks.values() if kept.state.status is Status.RUNNING]
        events = [event for kept in running for event in self._lose(kept, op.now)]
        return TookOver(events=tuple(events), unsettled=bool(self._settling))

    def _put_value(self, op: PutValue) -> Stored:
        place = (op.namespace, op.key)
        version = self._values[place].version if place in self._values else 0
        if op.expect is not None and op.expect != version:
            raise VersionConflict(op.namespace, op.key, version)
        if op.value is None:
            self._values.pop(place, None)
            return Stored(version=0)
        self._values[place] = Value(op.value, version + 1)
        return Stored(version=version + 1)

    # Parts of ops

    def _find(self, task_id: str) -> _Kept | None:
        seq = self._seqs.get(task_id)
        return None if seq is None else self._tasks[seq]

    def _holder(self, unique_key: str | None) -> Entry | None:
        """The task that holds the key, as long as it is not final."""
        seq = None if unique_key is None else self._unique.get(unique_key)
        return None if seq is None else Entry(task_id=self._tasks[seq].head.id, seq=seq)

    def _known(self, task_id: str) -> _Kept:
        kept = self._find(task_id)
        if kept is None:
            raise TaskNotFound(task_id)
        return kept

    def _parents(self, seq: int, head: TaskHead) -> list[_Kept]:
        """The tasks that this one comes after, each once, but for those that were deleted.

        A later task may have the id of a deleted one; nobody comes after that.
        """
        seqs = [self._seqs[parent] for parent in dict.fromkeys(head.after) if parent in self._seqs]
        return [self._tasks[parent] for parent in seqs if parent < seq]

    def _needed_by(self) -> dict[int, _Kept]:
        """By sequence number, the first task that is not final and comes after the one of this number."""
        needed_by: dict[int, _Kept] = {}
        for _, kept in sorted(self._tasks.items()):
            if kept.head.after and not kept.state.status.final:
                for parent in self._parents(kept.seq, kept.head):
                    needed_by.setdefault(parent.seq, kept)
        return needed_by

    def _remove(self, kept: _Kept, now: datetime) -> Event:
        """Forget a final task."""
        for parent in self._parents(kept.seq, kept.head):
            if kept.seq in parent.followers:
                parent.followers.remove(kept.seq)
        self._settling.discard(kept.seq)
        del self._tasks[kept.seq], self._seqs[kept.head.id]
        return event_of(EventKind.DELETED, now, kept.seq, kept.head, kept.state)

    def _runs(self, seq: int, epoch: int) -> bool:
        """Whether this epoch is the one that runs."""
        kept = self._tasks.get(seq)
        return kept is not None and kept.state.status is Status.RUNNING and kept.state.epoch == epoch

    def _running(self, seq: int, epoch: int) -> _Kept:
        kept = self._tasks.get(seq)
        transitions.check_epoch(seq, None if kept is None else kept.state, epoch)
        return cast("_Kept", kept)

    def _paused(self, queue: str) -> bool:
        stored = (self._values.get((QUEUES, name)) for name in (queue, EVERY_QUEUE))
        return any(value and cast("QueueSettings", decode_as(value.data, QueueSettings)).paused for value in stored)

    def _move(self, kept: _Kept, state: TaskState) -> None:
        """Put the task in another state, and its lane and unique key in order."""
        if kept.state.phase is Phase.READY:
            self._ready[_lane(kept.head)].remove(_ready(kept))
        kept.state = state
        if state.status.final and kept.followers:
            self._settling.add(kept.seq)
        self._enter(kept)

    def _enter(self, kept: _Kept) -> None:
        lane = _lane(kept.head)
        if lane not in self._ready:  # before any of its tasks is ready, so that it is offered when one becomes so
            self._ready[lane] = []
            self._lanes_version += 1
        if kept.state.phase is Phase.READY:
            insort(self._ready[lane], _ready(kept))
        key = kept.head.unique_key
        if key is not None and kept.state.status.final:
            if self._unique.get(key) == kept.seq:
                del self._unique[key]
        elif key is not None:
            self._unique[key] = kept.seq

    def _end(self, kept: _Kept, state: TaskState, outcome: Outcome, now: datetime) -> None:
        """Move a running task on and keep the record of its run, unless that was a success."""
        if outcome is not Outcome.COMPLETED:
            ended = transitions.attempt_of(kept.state, state, outcome, now)
            recent = [attempt for attempt in kept.attempts if attempt.epoch > ended.epoch - KEPT_ATTEMPTS]
            kept.attempts = [*recent, ended]
        self._move(kept, state)

    def _lose(self, kept: _Kept, now: datetime) -> list[Event]:
        after = transitions.lost(kept.head.id, kept.state, now)
        self._end(kept, after, Outcome.LOST, now)
        kind = EventKind.FAILED if after.status.final else EventKind.LOST
        events, _ = self._tell_followers(now, RELEASED_AT_ONCE)
        return [event_of(kind, now, kept.seq, kept.head, after), *events]

    def _wake(self, kept: _Kept, now: datetime) -> list[Event]:
        """Do what the task's moment asks for."""
        state = kept.state
        if state.status is Status.RUNNING:
            return self._lose(kept, now)
        if state.status.final:
            if kept.seq in self._needed_by():
                self._move(kept, transitions.spared(state, now))
                return [event_of(EventKind.SPARED, now, kept.seq, kept.head, kept.state)]
            kept.result = None
            kept.blocks.clear()
            self._move(kept, transitions.dropped(state))
            return [event_of(EventKind.DROPPED, now, kept.seq, kept.head, kept.state)]
        if state.expires_at is not None and state.expires_at <= now:
            self._move(kept, transitions.expired(kept.head.id, state, now))
            events, _ = self._tell_followers(now, RELEASED_AT_ONCE)
            return [event_of(EventKind.FAILED, now, kept.seq, kept.head, kept.state), *events]
        self._move(kept, transitions.due(state))
        return [event_of(EventKind.READY, now, kept.seq, kept.head, kept.state)]

    def _tell_followers(self, now: datetime, limit: int) -> tuple[list[Event], int]:
        """Tell at most `limit` followers that what they wait for is settled; gives the events and their number."""
        events: list[Event] = []
        told = 0
        while self._settling and told < limit:
            parent = self._tasks[min(self._settling)]
            if parent.state.status.final and parent.followers:
                told += 1
                follower = self._tasks[parent.followers.pop(0)]
                if follower.state.phase is Phase.BLOCKED:
                    events += self._settle(follower, parent, now)
            if not parent.state.status.final or not parent.followers:
                self._settling.discard(parent.seq)
        return events, told

    def _settle(self, follower: _Kept, parent: _Kept, now: datetime) -> list[Event]:
        won = parent.state.status is Status.COMPLETED
        after = transitions.parent_settled(follower.head, follower.state, parent.head.id, won=won, now=now)
        self._move(follower, after)
        kind = transitions.settled_kind(after)
        return [event_of(kind, now, follower.seq, follower.head, after)] if kind else []

    # Reads

    def resolve(self, prefix: str, limit: int) -> list[str]:
        if prefix in self._seqs:
            return [prefix]
        return sorted(task_id for task_id in self._seqs if task_id.startswith(prefix))[:limit]

    def get(self, task_id: str) -> Record | None:
        kept = self._find(task_id)
        return None if kept is None else Record(seq=kept.seq, head=kept.head, state=kept.state)

    def load(self, task_id: str) -> FullRecord | None:
        kept = self._find(task_id)
        if kept is None:
            return None
        return FullRecord(
            seq=kept.seq,
            head=kept.head,
            state=kept.state,
            payload=kept.payload,
            result=kept.result,
            attempts=tuple(kept.attempts),
        )

    def blocks(self, seq: int, epoch: int, first: int, limit: int) -> list[Block]:
        kept = self._tasks.get(seq)
        blocks = kept.blocks.get(epoch, {}) if kept else {}
        return [block for _, block in sorted(blocks.items()) if block.first + block.count > first][:limit]

    def page(self, wanted: TaskFilter, cursor: int | None, limit: int) -> Page[Record]:
        found = [
            Record(seq=kept.seq, head=kept.head, state=kept.state)
            for kept in sorted(self._tasks.values(), key=lambda kept: -kept.seq)
            if (cursor is None or kept.seq < cursor) and wanted.matches(kept.head, kept.state)
        ]
        items = tuple(found[:limit])
        return Page(items=items, cursor=items[-1].seq if len(found) > limit else None)

    def counts(self) -> list[Count]:
        numbers = Counter(
            (kept.head.queue, kept.state.status, kept.state.phase, Priority(kept.state.priority))
            for kept in self._tasks.values()
        )
        return [
            Count(queue=queue, status=status, phase=phase, priority=priority, number=number)
            for (queue, status, phase, priority), number in numbers.items()
        ]

    def lanes(self) -> tuple[int, frozenset[Lane]]:
        return self._lanes_version, frozenset(self._ready)

    def stops(self) -> list[tuple[int, int]]:
        return sorted(self._stops)

    def value(self, namespace: str, key: str) -> Value | None:
        return self._values.get((namespace, key))

    def values(self, namespace: str) -> dict[str, Value]:
        return {key: value for (space, key), value in self._values.items() if space == namespace}

    def size(self) -> int:
        return sum(len(kept.payload) + len(kept.result or b"") for kept in self._tasks.values())

    def changes_fileno(self) -> int | None:
        return None

    def drain_changes(self) -> None:
        """Nobody else can change it."""

    def check(self) -> list[str]:
        wrong: list[str] = []
        for seq, kept in self._tasks.items():
            listed = _ready(kept) in self._ready.get(_lane(kept.head), [])
            if listed != (kept.state.phase is Phase.READY):
                wrong.append(f"task {kept.head.id} (#{seq}) is {kept.state.phase}, but in its lane: {listed}")
        ready = sum(len(lane) for lane in self._ready.values())
        if ready != sum(kept.state.phase is Phase.READY for kept in self._tasks.values()):
            wrong.append(f"the lanes hold {ready} tasks, more than are ready")
        for seq, kept in self._tasks.items():
            if kept.state.phase is Phase.BLOCKED:
                listed_under = sum(seq in parent.followers for parent in self._tasks.values())
                if listed_under != kept.state.waiting_on:
                    wrong.append(f"task {kept.head.id} (#{seq}) waits for {kept.state.waiting_on}, not {listed_under}")
            gone = [follower for follower in kept.followers if follower not in self._tasks]
            if gone:
                wrong.append(f"task {kept.head.id} (#{seq}) has followers that are not there: {gone}")
        return wrong


def _lane(head: TaskHead) -> Lane:
    return head.queue, head.executor, head.lane


def _ready(kept: _Kept) -> Ready:
    return Ready(-kept.state.priority, kept.seq, transitions.runs_alone(kept.state))
