"""A Hypothesis machine that drives any store beside the memory store, which is the reference, and compares them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oq.choose import Offer
from oq.query import TaskFilter
from oq.store.base import (
    Added,
    AddMany,
    Advance,
    AppendChunks,
    Block,
    Cancel,
    Claimed,
    Delete,
    Ending,
    Failed,
    Finish,
    NewTask,
    Op,
    Purge,
    PurgeCursor,
    Purged,
    PutValue,
    Released,
    Renew,
    Reply,
    Requeue,
    Room,
    SetPriority,
    Store,
    Succeeded,
    TakeOver,
)
from oq.store.memory import MemoryStore
from oq.store.transitions import RELEASED_AT_ONCE
from oq.task import OnParentFailure, Priority, Status
from oq.testing.arbitrary import (
    EVERY_LANE,
    NOBODY,
    endings,
    filters,
    free,
    new_tasks,
    offers,
    priorities,
    purges,
    rooms,
    seconds,
    seldom,
    sometimes,
    values,
)
from oq.testing.audit import listed
from oq.testing.builders import PLENTY, at, block, claim, failure, new_task
from oq.testing.side_by_side import Neighbour, SideBySide, Trouble, ready_lanes, running

ANYBODYS = (AddMany, Cancel, Delete, Requeue, SetPriority, PutValue)
"""What a process that does not run the queue may send, too."""


def store_machine(
    open_store: Callable[[Path], Store],
    reopen: Callable[[Store], Store] | None = None,
    *,
    reference: Callable[[], Store] = MemoryStore,
    trouble: Callable[[Store], Trouble] | None = None,
    neighbour: Callable[[Store], Neighbour] | None = None,
) -> type[RuleBasedStateMachine]:
    """A state machine for the store that `open_store` opens fresh in an empty directory.

    `reopen`, for a durable store, closes it and opens it again. Run it with
    `hypothesis.stateful.run_state_machine_as_test(store_machine(...), settings=...)`. A store agrees with the reference
    when its replies are equal in value, events in order included. Beyond the letter of the protocol that asks for:
    sequence numbers without gaps, and an `Advance` that tells followers first (parents and followers by sequence
    number) and then does what is due, earliest moment first.

    `trouble` says what may go wrong in the store's writes: it must refuse the batch whole, or cope, and then go on
    agreeing. `neighbour` opens what `open_store` opened as another process would, which submits, cancels and so on in
    between: the store must not believe in what it remembers.
    """

    class Machine(_StoreMachine):
        durable = reopen is not None

        def open(self, directory: Path) -> Store:
            return open_store(directory)

        def open_again(self, store: Store) -> Store:
            assert reopen is not None
            return reopen(store)

        def open_reference(self) -> Store:
            return reference()

        def trouble_of(self, store: Store) -> Trouble | None:
            return None if trouble is None else trouble(store)

        def neighbour_of(self, store: Store) -> Neighbour | None:
            return None if neighbour is None else neighbour(store)

    return Machine


class _StoreMachine(RuleBasedStateMachine):
    """Sends the same random ops to two stores, one by one and in batches."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(mkdtemp(prefix="oq-machine-"))
        store = self.open(self.directory / "store")
        self.pair = SideBySide(
            reference=self.open_reference(),
            store=store,
            trouble=self.trouble_of(store),
            neighbour=self.neighbour_of(store),
        )
        self.clock = 0
        self.serial = 0
        """Makes ids and tokens that were not used before."""
        self.ids: list[str] = []
        self.runs: list[tuple[int, int]] = []
        """Every (seq, epoch) that was claimed; most are over."""
        self.going: list[tuple[int, int]] = []
        """Those that go on, as of the last look."""
        self.ready: set[tuple[str, str, str]] = set()
        """Lanes with a ready task, as of the last look."""
        self.crowded = False
        self.chunks: Counter[tuple[int, int]] = Counter()
        """How many chunks each run put out."""
        self.held: list[Op[Any]] = []
        """Ops that wait to be sent in one batch with the next one."""
        self.sent: list[Op[Any]] = []
        """What was sent since the last look."""
        self.needs: dict[int, set[int]] = {}
        """By the number of each task that is not final, those it comes after, as of the last look."""
        self.purged_to: PurgeCursor | None = None
        """Where the last purge has left off."""
        self.elsewhere = 0
        """How many of the next ops that any process may send come from another one."""

    def open(self, directory: Path) -> Store:
        raise NotImplementedError

    def open_again(self, store: Store) -> Store:
        raise NotImplementedError

    def open_reference(self) -> Store:
        raise NotImplementedError

    def trouble_of(self, store: Store) -> Trouble | None:
        raise NotImplementedError

    def neighbour_of(self, store: Store) -> Neighbour | None:
        raise NotImplementedError

    def teardown(self) -> None:
        self.pair.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # What happens

    @rule(data=st.data(), count=st.integers(1, 4), room=rooms, again=seldom)
    def add(self, data: st.DataObject, count: int, room: Room, again: bool) -> None:
        """Add a few tasks, seldom with an id or a parent that cannot be, seldom twice."""
        tasks = [data.draw(new_tasks(self.ids[-8:], self._fresh("t"), self.clock)) for _ in range(count)]
        self._add(AddMany(tasks=tuple(tasks), now=at(self.clock), room=room), again=again)

    @rule(data=st.data(), key=st.sampled_from(["once", "twice"]), digest=st.sampled_from(["this", "this", "that"]))
    def add_idempotently(self, data: st.DataObject, key: str, digest: str) -> None:
        task = data.draw(new_tasks(self.ids[-8:], self._fresh("t"), self.clock))
        self._add(AddMany(tasks=(task,), now=at(self.clock), idempotency=key, digest=digest), again=False)

    @rule(data=st.data(), count=st.integers(2, 6))
    def add_workflow(self, data: st.DataObject, count: int) -> None:
        """Add tasks that come after each other, in one op."""
        tasks: list[NewTask] = []
        for _ in range(count):
            known = [task.head.id for task in tasks]
            tasks.append(data.draw(new_tasks(known, self._fresh("t"), self.clock)))
        self._add(AddMany(tasks=tuple(tasks), now=at(self.clock)), again=False)

    @precondition(lambda self: not self.crowded)
    @rule(wanted=seldom, on_parent_failure=st.sampled_from(["fail", "continue"]), end=st.booleans())
    def add_a_crowd(self, wanted: bool, on_parent_failure: OnParentFailure, end: bool) -> None:
        """Add more followers of one task than any op tells at once; seldom and once, because it makes all slow."""
        if not wanted:
            return
        self.crowded = True
        parent, *others = [self._fresh("crowd") for _ in range(RELEASED_AT_ONCE + 40)]
        followers = (
            new_task(name, lane="x", after=(parent,), on_parent_failure=on_parent_failure, submitted_at=at(self.clock))
            for name in others
        )
        first = new_task(parent, lane="y", priority=Priority.CRITICAL, submitted_at=at(self.clock))
        self._add(AddMany(tasks=(first, *followers), now=at(self.clock)), again=False)
        self.ids.remove(parent)
        self.ids.append(parent)  # so that the next steps are likely to choose it
        if end:
            self._send(Cancel(task_id=parent, now=at(self.clock)))

    @rule(
        offers=offers(),
        free=free,
        limit=st.integers(1, 6),
        idle=st.booleans(),
        worker=st.sampled_from(["v", "w"]),
        lease=st.none() | seconds,
        again=sometimes,
    )
    def claim_some(
        self,
        offers: list[Offer],
        free: Mapping[str, int],
        limit: int,
        idle: bool,
        worker: str,
        lease: int | None,
        again: bool,
    ) -> None:
        """Claim from some lanes with some units, sometimes the same claim twice."""
        lease_until = None if lease is None else at(self.clock + lease)
        fields = {"worker": worker, "free": free, "limit": limit, "idle": idle, "lease_until": lease_until}
        self._claim(*offers, again=again, **fields)

    @precondition(lambda self: self.ready)
    @rule(limit=st.integers(1, 4))
    def claim_the_best(self, limit: int) -> None:
        """Claim from every lane with units to spare."""
        self._claim(*EVERY_LANE, limit=limit)

    @precondition(lambda self: self.ready)
    @rule(limit=st.integers(1, 4), lease=seconds)
    def lease_the_best(self, limit: int, lease: int) -> None:
        self._claim(*EVERY_LANE, limit=limit, lease_until=at(self.clock + lease))

    @precondition(lambda self: self.going)
    @rule(data=st.data(), result=st.sampled_from([None, b"", b"result"]))
    def succeed(self, data: st.DataObject, result: bytes | None) -> None:
        self._finish(data, Succeeded(result))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self._finish(data, Failed(failure()))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def finish_somehow(self, data: st.DataObject) -> None:
        self._finish(data, data.draw(endings(self.clock)))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def finish_several(self, data: st.DataObject) -> None:
        """End some runs in one batch, seldom one of them twice."""
        runs = data.draw(st.lists(st.sampled_from(self.going), min_size=2, max_size=6))
        now, ending = at(self.clock), endings(self.clock)
        self._send(*(Finish(seq=seq, epoch=epoch, ending=data.draw(ending), now=now) for seq, epoch in runs))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        """End a run that is mostly over already, or was cancelled and is to stop; seldom one that never was."""
        seq, epoch = data.draw(st.sampled_from([*self.runs, *self.pair.reference.stops() * 3]))
        epoch += data.draw(seldom)
        ending = data.draw(endings(self.clock))
        self._later_or_now(data, Finish(seq=seq, epoch=epoch, ending=ending, now=at(self.clock)))

    @precondition(lambda self: self.going)
    @rule(data=st.data(), count=st.integers(1, 3), again=sometimes)
    def append(self, data: st.DataObject, count: int, again: bool) -> None:
        """Keep the next block of a run's output, sometimes twice."""
        seq, epoch = self._run(data)
        op = AppendChunks(seq=seq, epoch=epoch, block=self._block(seq, epoch, count))
        self._send(op, *[op] * again)

    @precondition(lambda self: self.going)
    @rule(data=st.data(), until=seconds)
    def renew(self, data: st.DataObject, until: int) -> None:
        runs = {self._run(data): None for _ in range(data.draw(st.integers(0, 3)))}
        self._later_or_now(data, Renew(runs=tuple(runs), until=at(self.clock + until)))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._later_or_now(data, Cancel(task_id=self._id(data), now=at(self.clock)))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        fallen = [
            record.head.id
            for record in listed(self.pair.reference)
            if record.state.status in (Status.FAILED, Status.CANCELLED)
        ]
        task_id = data.draw(st.sampled_from(fallen)) if fallen else self._id(data)
        self._later_or_now(data, Requeue(task_id=task_id, now=at(self.clock)))

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a task, mostly a final one."""
        final = [record.head.id for record in listed(self.pair.reference) if record.state.status.final]
        task_id = data.draw(st.sampled_from(final)) if final and not data.draw(seldom) else self._id(data)
        self._later_or_now(data, Delete(task_id=task_id, now=at(self.clock)))

    @rule(purge=purges, on=sometimes)
    def purge(self, purge: Mapping[str, Any], on: bool) -> None:
        """Look for what was kept long enough, sometimes on from where the last step has left off."""
        ages, until = purge["ages"], purge["idempotent_age"]
        cursor = self.purged_to if on else None
        for _ in range(purge["steps"]):
            op = Purge(
                now=at(self.clock),
                before={status: at(self.clock - age) for status, age in ages.items()},
                most_completed=purge["most_completed"],
                idempotent_before=None if until is None else at(self.clock - until),
                limit=purge["limit"],
                cursor=cursor,
            )
            (reply,) = self._send(op)
            assert isinstance(reply, Purged)
            cursor = self.purged_to = reply.cursor
            if cursor is None:
                return

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), priority=priorities)
    def set_priority(self, data: st.DataObject, priority: Priority) -> None:
        self._later_or_now(data, SetPriority(task_id=self._id(data), priority=priority, now=at(self.clock)))

    @rule(data=st.data(), step=seconds, limit=st.sampled_from([500, 500, 3, 2, 1]))
    def advance(self, data: st.DataObject, step: int, limit: int) -> None:
        """Let the clock go on, or back, and do what that makes due."""
        self.clock += step
        self._later_or_now(data, Advance(now=at(self.clock), limit=limit))

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def take_over(self, data: st.DataObject) -> None:
        self._later_or_now(data, TakeOver(now=at(self.clock)))

    @rule(data=st.data())
    def put_value(self, data: st.DataObject) -> None:
        """Pause or resume a queue, or put any other value."""
        self._later_or_now(data, data.draw(values))

    @precondition(lambda self: self.durable)
    @rule()
    def reopen(self) -> None:
        self._send()
        store = self.open_again(self.pair.store)
        self.pair.reopened(store, self.trouble_of(store))

    @precondition(lambda self: self.pair.trouble is not None)
    @rule(data=st.data(), writes=st.lists(st.integers(0, 12), min_size=1, max_size=6))
    def expect_trouble(self, data: st.DataObject, writes: list[int]) -> None:
        """Let something go wrong in some of the next transactions, each time after so many writes."""
        assert self.pair.trouble is not None
        kinds = st.sampled_from(self.pair.trouble.kinds)
        self.pair.ahead += [(data.draw(kinds), number) for number in writes]

    @precondition(lambda self: self.pair.neighbour is not None)
    @rule(ops=st.integers(1, 15))
    def go_elsewhere(self, ops: int) -> None:
        """Let another process send the next few ops that any process may send."""
        self.elsewhere = ops

    @precondition(lambda self: self.pair.neighbour is not None and self.going)
    @rule(data=st.data())
    def cancel_elsewhere(self, data: st.DataObject) -> None:
        """Let another process cancel a task that runs here."""
        self._send()
        names = [record.head.id for record in listed(self.pair.reference) if record.state.status is Status.RUNNING]
        if names:
            cancel = Cancel(task_id=data.draw(st.sampled_from(names)), now=at(self.clock))
            self.pair.send_from_elsewhere([cancel])

    @precondition(lambda self: self.ready)
    @rule(unlikely=sometimes)
    def claim_everything_and_give_it_back(self, unlikely: bool) -> None:
        """Show in which order the lanes would give their tasks."""
        if unlikely:
            runs = self._claim(*EVERY_LANE)
            self._send(*(Finish(seq=seq, epoch=epoch, ending=Released(), now=at(self.clock)) for seq, epoch in runs))

    # What must hold

    @invariant()
    def the_stores_agree(self) -> None:
        records = self.pair.agree()
        self.going, self.ready = running(records), ready_lanes(records)

    @invariant()
    def whatever_is_needed_is_there(self) -> None:
        """No task was deleted while one that comes after it was not final."""
        records = listed(self.pair.store)
        seqs = {record.head.id: record.seq for record in records}
        unfinished = [record for record in records if not record.state.status.final]
        if not any(isinstance(op, Requeue) for op in self.sent):  # such a one may have been final in between
            there = set(seqs.values())
            for record in unfinished:
                assert self.needs.get(record.seq, set()) <= there, f"what {record.head.id!r} comes after is gone"
        self.sent.clear()
        self.needs = {
            record.seq: {seqs[parent] for parent in record.head.after if seqs.get(parent, record.seq) < record.seq}
            for record in unfinished
        }

    @invariant()
    def the_store_finds_itself_whole(self) -> None:
        assert self.pair.store.check() == []

    @rule(data=st.data(), wanted=filters, limit=st.integers(1, 9))
    def look_closely(self, data: st.DataObject, wanted: TaskFilter, limit: int) -> None:
        mine, theirs = self.pair.reference, self.pair.store
        assert listed(theirs, wanted, limit) == listed(mine, wanted, limit)
        for task_id in [*self.ids, NOBODY]:
            assert theirs.get(task_id) == mine.get(task_id)
            assert theirs.load(task_id) == mine.load(task_id)
            assert theirs.resolve(task_id, 3) == mine.resolve(task_id, 3)
        assert sorted(theirs.resolve("t", PLENTY)) == sorted(mine.resolve("t", PLENTY))
        first = data.draw(st.integers(0, 6))
        for seq, epoch in self.runs:
            assert theirs.blocks(seq, epoch, first, limit) == mine.blocks(seq, epoch, first, limit)
        for key in "kl":
            assert theirs.value("things", key) == mine.value("things", key)

    # Sending

    def _send(self, *ops: Op[Any]) -> list[Reply]:
        """Apply what was held back and these ops as one batch to both stores; gives the replies to these."""
        self.sent += [*self.held, *ops]
        if ops and self.elsewhere and all(isinstance(op, ANYBODYS) for op in ops):
            self._send()
            self.elsewhere -= 1
            return self.pair.send_from_elsewhere(ops)
        batch = [*self.held, *ops]
        self.held.clear()
        return self.pair.send(batch)[len(batch) - len(ops) :]

    def _later_or_now(self, data: st.DataObject, op: Op[Any]) -> None:
        if data.draw(sometimes, label="held back"):
            self.held.append(op)
        else:
            self._send(op)

    def _add(self, op: AddMany, *, again: bool) -> None:
        for reply in self._send(op, *[op] * again):
            if isinstance(reply, Added):
                self.ids += [entry.task_id for entry in reply.entries if entry.task_id not in self.ids]

    def _claim(self, *offers: Offer, again: bool = False, **fields: Any) -> list[tuple[int, int]]:
        op = claim(*offers, token=self._fresh("token"), now=at(self.clock), **fields)
        (reply,) = self._send(op)
        assert isinstance(reply, Claimed)
        if again and reply.runs:  # a claim that took nothing may as well be decided anew
            (same,) = self.pair.send([op])
            assert isinstance(same, Claimed)
            assert (same.runs, same.events) == (reply.runs, ()), "a claim sent again"
        runs = [(run.seq, run.state.epoch) for run in reply.runs]
        self.runs += runs
        return runs

    def _finish(self, data: st.DataObject, ending: Ending) -> None:
        """End a run that goes on, sometimes with the last of its output."""
        seq, epoch = data.draw(st.sampled_from(self.going))
        last = self._block(seq, epoch, 1) if data.draw(sometimes) else None
        on = data.draw(st.sampled_from([None, "gpu-1"]))
        op = Finish(seq=seq, epoch=epoch, ending=ending, now=at(self.clock), executed_on=on, block=last)
        self._later_or_now(data, op)

    # Drawing

    def _fresh(self, prefix: str) -> str:
        self.serial += 1
        return f"{prefix}{self.serial}"

    def _block(self, seq: int, epoch: int, count: int) -> Block:
        """The next block of the run, whose output has no gaps."""
        first = self.chunks[seq, epoch]
        self.chunks[seq, epoch] += count
        return block(first, count)

    def _id(self, data: st.DataObject) -> str:
        return NOBODY if data.draw(seldom) else data.draw(st.sampled_from(self.ids[-12:]))

    def _run(self, data: st.DataObject) -> tuple[int, int]:
        """A run, mostly one that goes on."""
        over = data.draw(sometimes)
        return data.draw(st.sampled_from(self.runs if over else self.going))
