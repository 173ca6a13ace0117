"""Each op on the LMDB store: decide by what is there, then write. `memory.py` has the same decisions in plain form."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import cast

from msgspec.structs import replace

from oq.choose import Choice, Offer, Ready, choose
from oq.errors import (
    DamagedRecord,
    IdempotencyConflict,
    InvalidTask,
    LeaseLost,
    OqError,
    QueueFull,
    TaskExists,
    UniqueKeyTaken,
    VersionConflict,
)
from oq.events import Event, EventKind, event_of
from oq.store import transitions
from oq.store.base import (
    QUEUES,
    Added,
    AddMany,
    Advance,
    Advanced,
    AppendChunks,
    Appended,
    Cancel,
    Claim,
    Claimed,
    Delete,
    Entry,
    Finish,
    Finished,
    Moved,
    NewTask,
    Op,
    Purge,
    PutValue,
    Refused,
    Renew,
    Renewed,
    Reply,
    Requeue,
    Run,
    SetPriority,
    Stored,
    TakeOver,
    TookOver,
    Value,
)
from oq.store.lmdb import mending
from oq.store.lmdb.deleting import delete, needing, purge
from oq.store.lmdb.environment import RESERVE
from oq.store.lmdb.following import settle, tell, tell_followers
from oq.store.lmdb.layout import (
    CLAIMS,
    IDEMPOTENT,
    PAIR,
    READY_KEY,
    SEQ,
    SEQ_EPOCH,
    STATES,
    STATUS_CODE,
    STATUS_KEY,
    VALUES,
    Idempotent,
    LastClaim,
    Unit,
    moment_of,
    since_key,
    text_key,
)
from oq.store.lmdb.writer import Lane, Move, Writer
from oq.task import Outcome, Phase, Status, TaskHead, TaskState

log = logging.getLogger(__name__)


def apply_ops(writer: Writer, ops: Sequence[Op[Reply]]) -> list[Reply]:
    """Apply the ops in order within the transaction; ends of runs that follow one another are written together."""
    replies: list[Reply] = []
    for kind, group in groupby(ops, type):
        if kind is Finish and not writer.cache.follower_edges:
            replies += _finish_all(writer, cast("list[Finish]", list(group)))
        else:
            replies += [apply_op(writer, op) for op in group]
    return replies


def apply_op(writer: Writer, op: Op[Reply]) -> Reply:
    """Apply one op within the transaction; a refusal has written nothing."""
    try:
        match op:
            case AddMany():
                return _add_many(writer, op)
            case Claim():
                return _claim(writer, op)
            case Finish():
                return _finish(writer, op)
            case AppendChunks():
                return _append(writer, op)
            case Renew():
                return _renew(writer, op)
            case Cancel():
                return _cancel(writer, op)
            case SetPriority():
                return _set_priority(writer, op)
            case Requeue():
                return _requeue(writer, op)
            case Delete():
                return delete(writer, op)
            case Purge():
                return purge(writer, op)
            case Advance():
                return _advance(writer, op)
            case TakeOver():
                return _take_over(writer, op)
            case PutValue():
                return _put_value(writer, op)
            case _:
                raise TypeError(f"not an op of this store: {op!r}")
    except OqError as error:
        return Refused(error=error)


def _add_many(writer: Writer, op: AddMany) -> Reply:
    if op.idempotency is not None:
        before = writer.load(b"idempotent", IDEMPOTENT, text_key(op.idempotency))
        if before is not None and before.digest != op.digest:
            raise IdempotencyConflict(op.idempotency)
        if before is not None:
            return Added(entries=before.entries)
    limit = writer.environment.max_bytes
    if writer.environment.is_over(writer.txn, limit):
        raise QueueFull("the size of the store in bytes", limit)
    given, fresh = _sort_out(writer, op)
    if fresh:
        writer.check_room(op.room, (new.head for new, _ in fresh))
        writer.take_seqs(len(fresh))
    events: list[Event] = []
    if any(new.head.after for new, _ in fresh):
        for new, seq in fresh:
            events += _add_one(writer, new, seq, op.now)
    else:
        added = [(new, seq, transitions.submitted(new.head, new.priority, 0, op.now)) for new, seq in fresh]
        writer.add(added)
        events = [event_of(EventKind.SUBMITTED, op.now, seq, new.head, state) for new, seq, state in added]
    if op.idempotency is not None:
        key = text_key(op.idempotency)
        writer.put(writer.table(b"idempotent"), key, IDEMPOTENT.dump(key, Idempotent(op.digest, given, op.now)))
        writer.put(writer.table(b"idempotent_since"), since_key(op.now, key), key)
    return Added(entries=given, events=tuple(events))


def _sort_out(writer: Writer, op: AddMany) -> tuple[tuple[Entry, ...], list[tuple[NewTask, int]]]:
    """What each task of the op gets, and those that are new with their sequence numbers; raises what refuses the op."""
    next_seq = writer.cache.next_seq
    seen: dict[str, Entry] = {}
    held: dict[str, Entry] = {}
    fresh: list[tuple[NewTask, int]] = []
    given: list[Entry] = []
    for index, new in enumerate(op.tasks):
        head = new.head
        stored = writer.find(head.id)
        if stored is not None and writer.head(stored) == head and writer.payload(stored) == new.payload:
            given.append(Entry(task_id=head.id, seq=stored))
            continue
        if stored is not None or head.id in seen:
            raise TaskExists(head.id)
        for parent in head.after:
            if parent in seen:
                continue
            place = writer.find(parent)
            if place is None:
                raise InvalidTask(f"there is no task {parent!r}", f"tasks[{index}].after")
            writer.state(place)  # so that a damaged one refuses the op before it has written
        if head.unique_key is not None:
            holder = held.get(head.unique_key) or writer.holder(head.unique_key)
            if holder is not None:
                given.append(replace(holder, duplicate=True))
                continue
        entry = seen[head.id] = Entry(task_id=head.id, seq=next_seq + len(fresh))
        fresh.append((new, entry.seq))
        given.append(entry)
        if head.unique_key is not None:
            held[head.unique_key] = entry
    return tuple(given), fresh


def _add_one(writer: Writer, new: NewTask, seq: int, now: datetime) -> list[Event]:
    """Add a task that may come after others."""
    head = new.head
    parents = [(parent, writer.state(parent)) for parent in writer.parents_of(seq, head)]
    waiting = [parent for parent, state in parents if not state.status.final]
    fallen = [(parent, state) for parent, state in parents if state.status in (Status.FAILED, Status.CANCELLED)]
    state = transitions.submitted(head, new.priority, len(waiting), now)
    writer.add([(new, seq, state)])
    event = event_of(EventKind.SUBMITTED, now, seq, head, state)
    if fallen and head.on_parent_failure == "fail":
        return [event, *settle(writer, seq, head, state, *fallen[0], now)]
    for parent in waiting:
        writer.add_follower(parent, seq)
    return [event]


def _claim(writer: Writer, op: Claim) -> Claimed:
    limit = writer.environment.max_bytes
    if writer.environment.is_over(writer.txn, limit + RESERVE // 2):
        raise QueueFull("the size of the store in bytes", limit)  # what is left is for the ends of what runs
    worker_key = text_key(op.worker)
    try:
        last = writer.load(b"claims", CLAIMS, worker_key)
    except DamagedRecord as error:
        log.error("whether a claim was sent twice cannot be told: %s", error)
        last = None
    if last is not None and last.token == op.token:
        return Claimed(runs=_runs_again(writer, last), more=True, lanes_version=writer.cache.lanes_version)
    offers = [offer for offer in op.offers if not writer.paused(offer.queue)]

    def heads(offer: Offer) -> Iterator[Ready]:
        return writer.ready_in((offer.queue, offer.executor, offer.lane), offer.lowest, offer.highest)

    chosen = choose(offers, heads, op.free, op.limit, idle=op.idle)
    runs = _start_all(writer, chosen.choices, op)
    if runs:
        units = tuple(Unit(run.seq, run.state.epoch, run.units) for run in runs)
        writer.put(writer.table(b"claims"), worker_key, CLAIMS.dump(worker_key, LastClaim(op.token, units)))
    return Claimed(
        runs=tuple(runs),
        more=chosen.more,
        set_aside=len(chosen.choices) - len(runs),
        lanes_version=writer.cache.lanes_version,
        events=tuple([event_of(EventKind.STARTED, op.now, run.seq, run.head, run.state) for run in runs]),
    )


def _start_all(writer: Writer, choices: Sequence[Choice], op: Claim) -> list[Run]:
    """Claim the chosen tasks but for those with damaged records, which are set aside, or entries, which are mended."""
    runs: list[Run] = []
    moves: list[Move] = []
    alike: TaskState | None = None
    found = list(writer.read_all(choice.ready.seq for choice in choices))
    for choice, records in zip(choices, found, strict=True):
        (minus_priority, seq, _), offer = choice.ready, choice.offer
        lane = (offer.queue, offer.executor, offer.lane)
        if isinstance(records, DamagedRecord):
            mending.set_aside(writer, _ready_key(writer, lane, choice.ready), offer.queue, records)
            continue
        head, before, payload = records
        place = (before.phase, -before.priority, (head.queue, head.executor, head.lane))
        if place != (Phase.READY, minus_priority, lane):
            mending.mend_ready(writer, _ready_key(writer, lane, choice.ready), head, before)
            continue
        if before is not alike:
            alike, after = before, transitions.claimed(head.id, before, op.worker, op.lease_until, op.now)
        moves.append(Move(seq, head, before, after))
        runs.append(Run(seq=seq, head=head, state=after, payload=payload, units=choice.units))
    writer.move_all(moves)
    return runs


def _ready_key(writer: Writer, lane: Lane, ready: Ready) -> bytes:
    """The key of an entry that a claim met."""
    return READY_KEY.pack(writer.cache.lanes[lane], 255 + ready.minus_priority, ready.seq)


def _runs_again(writer: Writer, last: LastClaim) -> tuple[Run, ...]:
    runs: list[Run] = []
    for unit in last.units:
        state = writer.load(b"states", STATES, SEQ.pack(unit.seq))
        if state is None:  # it was deleted
            continue
        if state.status is Status.RUNNING and state.epoch == unit.epoch:
            head, payload = writer.head(unit.seq), writer.payload(unit.seq)
            runs.append(Run(seq=unit.seq, head=head, state=state, payload=payload, units=unit.units))
    return tuple(runs)


def _finish_all(writer: Writer, ops: Sequence[Finish]) -> list[Reply]:
    """End runs, one op after the other, and write what that changes table by table."""
    replies: list[Reply] = []
    moves: dict[int, Move] = {}
    results: list[tuple[int, bytes]] = []
    for op in ops:
        try:
            move = moves[op.seq] = _ended(writer, op, moves)
        except LeaseLost as error:
            _stopped(writer, op.seq, op.epoch)
            replies.append(Refused(error=error))
        except OqError as error:
            replies.append(Refused(error=error))
        else:
            if (result := transitions.result_of(op.ending)) is not None:
                results.append((op.seq, result))
            kind = transitions.event_kind_of(op.ending)
            replies.append(Finished(events=(event_of(kind, op.now, op.seq, move.head, move.after),)))
    writer.keep_results(results)
    writer.move_all(moves.values())
    return replies


def _finish(writer: Writer, op: Finish) -> Reply:
    (reply,) = _finish_all(writer, [op])
    if isinstance(reply, Refused) or not writer.cache.follower_edges:
        return reply
    told, unsettled = tell_followers(writer, op.now)
    return Finished(events=(*reply.events, *told), unsettled=unsettled)


def _ended(writer: Writer, op: Finish, others: Container[int]) -> Move:
    """What the op makes of its task; keeps the last of its output, and the record of a run that did not succeed.

    `others` are the tasks that ops before this one have ended, though that is not written yet.
    """
    if op.seq in others:
        raise LeaseLost(op.seq, op.epoch)
    head, before = writer.running(op.seq, op.epoch)
    after = transitions.ended(head, before, op.ending, op.executed_on, op.now)
    if op.block is not None:
        writer.keep_block(op.seq, op.epoch, op.block)
    outcome = transitions.outcome_of(op.ending)
    if outcome is not Outcome.COMPLETED:
        writer.keep_attempt(op.seq, before, after, outcome, op.now)
    return Move(op.seq, head, before, after)


def _stopped(writer: Writer, seq: int, epoch: int) -> None:
    """The runner of a cancelled run says that it has stopped."""
    key = SEQ_EPOCH.pack(seq, epoch)
    if writer.txn.get(key, db=writer.table(b"stops")) is not None:
        writer.delete(writer.table(b"stops"), key)


def _append(writer: Writer, op: AppendChunks) -> Appended:
    writer.running(op.seq, op.epoch)
    writer.keep_block(op.seq, op.epoch, op.block)
    return Appended()


def _renew(writer: Writer, op: Renew) -> Renewed:
    lost: list[tuple[int, int]] = []
    for seq, epoch in op.runs:
        try:
            head, before = writer.running(seq, epoch)
        except LeaseLost:
            lost.append((seq, epoch))
        else:
            writer.move(seq, head, before, transitions.renewed(before, op.until))
    return Renewed(lost=tuple(lost))


def _cancel(writer: Writer, op: Cancel) -> Moved:
    seq, head, before = writer.known(op.task_id)
    after = transitions.cancelled(op.task_id, before, op.now)
    if before.status is Status.RUNNING:
        writer.put(writer.table(b"stops"), SEQ_EPOCH.pack(seq, before.epoch), b"")
        writer.keep_attempt(seq, before, after, Outcome.CANCELLED, op.now)
    writer.move(seq, head, before, after)
    told, unsettled = tell_followers(writer, op.now)
    event = event_of(EventKind.CANCELLED, op.now, seq, head, after)
    return Moved(events=(event, *told), unsettled=unsettled)


def _set_priority(writer: Writer, op: SetPriority) -> Moved:
    seq, head, before = writer.known(op.task_id)
    after = transitions.reprioritized(op.task_id, before, op.priority)
    writer.move(seq, head, before, after)
    return Moved(events=(event_of(EventKind.PRIORITY_CHANGED, op.now, seq, head, after),))


def _requeue(writer: Writer, op: Requeue) -> Moved:
    seq, head, before = writer.known(op.task_id)
    parents = [(parent, writer.has_follower(parent, seq)) for parent in writer.parents_of(seq, head)]
    waiting = [(parent, waits) for parent, waits in parents if waits or not writer.state(parent).status.final]
    after = transitions.requeued(op.task_id, before, len(waiting), op.now)
    holder = writer.holder(head.unique_key)
    if holder is not None:
        raise UniqueKeyTaken(op.task_id, holder.task_id)
    for parent, waits in waiting:
        if not waits:
            writer.add_follower(parent, seq)
    writer.move(seq, head, before, after)
    return Moved(events=(event_of(EventKind.REQUEUED, op.now, seq, head, after),))


def _advance(writer: Writer, op: Advance) -> Advanced:
    events, steps = tell(writer, op.now, op.limit)
    events += _wake_due(writer, op.now, op.limit - steps)
    next_at = writer.next_wake_at()
    return Advanced(
        events=tuple(events),
        next_at=next_at,
        more=writer.next_settling() is not None or (next_at is not None and next_at <= op.now),
        lanes_version=writer.cache.lanes_version,
        unsettled=writer.next_settling() is not None,
    )


def _wake_due(writer: Writer, now: datetime, limit: int) -> list[Event]:
    """Wake the tasks whose moment has come, at most `limit`, earliest first."""
    events: list[Event] = []
    for _ in range(limit):
        key = writer.next_timer()
        if key is None or moment_of(key) > now:
            break
        seq = PAIR.unpack(key)[1]
        try:
            head, before = writer.head(seq), writer.state(seq)
        except DamagedRecord as error:
            log.error("task #%d cannot be woken: %s", seq, error)
            writer.drop_timer(key)
            continue
        if before.wakes_at != moment_of(key):
            mending.mend_timer(writer, key, before)
        else:
            events += _wake(writer, seq, head, before, now)
    return events


def _wake(writer: Writer, seq: int, head: TaskHead, before: TaskState, now: datetime) -> list[Event]:
    """Do what the task's moment asks for."""
    if before.status is Status.RUNNING:
        return _lose(writer, seq, head, before, now)
    if before.status.final and needing(writer, seq) is not None:
        after, kind = transitions.spared(before, now), EventKind.SPARED
    elif before.status.final:
        after, kind = transitions.dropped(before), EventKind.DROPPED
        writer.drop_output(seq)
    elif before.expires_at is not None and before.expires_at <= now:
        after, kind = transitions.expired(head.id, before, now), EventKind.FAILED
    else:
        after, kind = transitions.due(before), EventKind.READY
    writer.move(seq, head, before, after)
    told, _ = tell_followers(writer, now)
    return [event_of(kind, now, seq, head, after), *told]


def _lose(writer: Writer, seq: int, head: TaskHead, before: TaskState, now: datetime) -> list[Event]:
    after = transitions.lost(head.id, before, now)
    writer.keep_attempt(seq, before, after, Outcome.LOST, now)
    writer.move(seq, head, before, after)
    kind = EventKind.FAILED if after.status.final else EventKind.LOST
    told, _ = tell_followers(writer, now)
    return [event_of(kind, now, seq, head, after), *told]


def _take_over(writer: Writer, op: TakeOver) -> TookOver:
    for name in (b"stops", b"claims"):
        for key in list(writer.keys_below(name, b"")):
            writer.delete(writer.table(name), key)
    running = [STATUS_KEY.unpack(key)[1] for key in writer.keys_below(b"status", bytes([STATUS_CODE[Status.RUNNING]]))]
    events: list[Event] = []
    for seq in running:
        try:
            head, before = writer.head(seq), writer.state(seq)
        except DamagedRecord as error:
            log.error("task #%d, which was running, cannot be taken over: %s", seq, error)
        else:
            events += _lose(writer, seq, head, before, op.now)
    return TookOver(events=tuple(events), unsettled=writer.next_settling() is not None)


def _put_value(writer: Writer, op: PutValue) -> Stored:
    key = text_key(f"{op.namespace}\0{op.key}")
    stored = writer.load(b"values", VALUES, key)
    version = stored.version if stored else 0
    if op.expect is not None and op.expect != version:
        raise VersionConflict(op.namespace, op.key, version)
    table = writer.table(b"values")
    if op.value is None:
        version = 0
        writer.delete(table, key)
    else:
        version += 1
        writer.put(table, key, VALUES.dump(key, Value(op.value, version)))
    if op.namespace == QUEUES:
        writer.reload_pauses()
    return Stored(version=version)
