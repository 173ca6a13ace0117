"""The queue: submit, wait, stream, cancel, list, pause, and the life of the parts that make it go."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from oq.admission import admit, admit_all
from oq.bulk import CANCELLABLE, FINAL, REQUEUEABLE, UNFINISHED, change_all
from oq.clock import Clock
from oq.codec import decode_as, encode
from oq.committer import Committer
from oq.errors import (
    DamagedRecord,
    InvalidTask,
    OqError,
    QueueClosed,
    QueueFull,
    TaskNotFound,
    VersionConflict,
)
from oq.functions import Functions
from oq.handle import TaskHandle
from oq.hub import EVERYTHING, EventFilter, Hub, Subscription
from oq.ids import IdMaker
from oq.limits import Limits
from oq.query import Page, QueueSettings, TaskFilter
from oq.registry import Registry
from oq.retention import Cleaner
from oq.retry import RetryPolicy
from oq.runner import RunDefaults, Runner
from oq.scheduler import LONGEST_SLEEP, Scheduler, new_worker_name
from oq.stats import Stats
from oq.store.base import (
    EVERY_QUEUE,
    QUEUES,
    AddMany,
    Cancel,
    Delete,
    Moved,
    NewTask,
    Op,
    PutValue,
    Reply,
    Requeue,
    Room,
    SetPriority,
    Store,
    TakeOver,
)
from oq.streams import ChunkStream, Streams
from oq.task import Phase, Priority, Status, Task, TaskSpec
from oq.views import Views

if TYPE_CHECKING:
    from oq.config.tables import RetentionSettings

log = logging.getLogger(__name__)

LAST_WORDS = 5.0
"""Seconds that cancelled attempts get to clean up at a shutdown, before they are left behind as lost."""

ALL_TASKS = TaskFilter()

OnFinal = Callable[[Task], Awaitable[object] | object]


class Queue:
    """A durable, priority-ordered queue of tasks; made by `oq.open_queue`."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        workers: int,
        executor_limits: Mapping[str, int],
        default_retry: RetryPolicy,
        default_timeout: float | None,
        grace: float,
        limits: Limits,
        retention: RetentionSettings,
        clock: Clock,
        inline_commits: bool | None,
        chance: random.Random,
    ) -> None:
        self.executors = registry
        """The executors by name."""
        self.functions = Functions()
        """The executor of this queue's own functions; see `task`."""
        self.task = self.functions.task
        """Decorator that makes an async function a task: `@queue.task(name="add")`."""
        registry.register(self.functions)
        self._store = store
        self._views = Views(store, registry)
        self._clock = clock
        self._workers = workers
        self._grace = grace
        self._limits = limits
        self._room = Room(
            tasks=limits.pending,
            tasks_per_queue=limits.pending_per_queue,
            size=limits.pending_bytes,
            size_per_queue=limits.pending_bytes_per_queue,
        )
        self._hub = Hub()
        self._scheduler = Scheduler(
            store,
            registry,
            clock,
            workers=max(workers, 1),
            executor_limits=executor_limits,
            worker_name=new_worker_name(),
        )
        self._committer = Committer(
            store, before_flush=self._scheduler.before_flush, heard=self.heard, inline=inline_commits
        )
        self._streams = Streams(store, self._committer, self._hub, limits.output)
        self._runner = Runner(
            registry,
            self._committer,
            self._streams,
            self._scheduler,
            RunDefaults(
                retry=default_retry, timeout=default_timeout, most_result=limits.result, most_details=limits.failure
            ),
            clock,
            chance,
        )
        self._scheduler.connect(self._committer, self._runner)
        registry.on_change(self._scheduler.look_around)
        self._cleaner = Cleaner(self._committer, clock, retention)
        self._make_id = IdMaker()
        self._nursery: trio.Nursery | None = None
        self._running = False
        self._closed = False
        self._callbacks = 0
        """How many callbacks are under way."""
        self._callback_ended = trio.lowlevel.ParkingLot()

    # Handing in

    async def submit(self, spec: TaskSpec, *, on_final: OnFinal | None = None) -> TaskHandle:
        """Store the task durably and return its handle.

        `on_final` is called once in this process, with the final task. Raises InvalidTask, UnknownExecutor,
        UnknownAction, TaskExists, QueueFull, QueueClosed or StoreUnavailable, and then nothing is stored.
        """
        self._check_open()
        now = self._clock()
        task = admit(spec, self.executors, self._make_id, self._limits.payload, now)
        return (await self._add((task,), now, on_final))[0]

    async def submit_many(self, specs: Sequence[TaskSpec], *, on_final: OnFinal | None = None) -> Sequence[TaskHandle]:
        """Store all of the tasks, or none, and return their handles in the same order.

        A task may come `after` those before it in the list. `on_final` is called once for each. Raises what `submit`
        raises, with paths that begin with `tasks[index]`.
        """
        self._check_open()
        now = self._clock()
        tasks = admit_all(specs, self.executors, self._make_id, self._limits.payload, now)
        return await self._add(tasks, now, on_final)

    # Looking

    async def get(self, task_id: str) -> Task:
        """The task with payload, result and attempts; raises TaskNotFound or DamagedRecord."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        return self._views.whole(task_id)

    def handle(self, task_id: str) -> TaskHandle:
        """The handle of a task submitted earlier, here or elsewhere."""
        return TaskHandle(task_id, False, self)

    async def resolve(self, prefix: str) -> str:
        """The id that begins with `prefix`; raises TaskNotFound or AmbiguousId."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        return self._views.resolve(prefix)

    async def list(self, wanted: TaskFilter = ALL_TASKS, *, cursor: int | None = None, limit: int = 50) -> Page[Task]:
        """The newest tasks that fit, without payload, result and attempts.

        Pass the page's `cursor` to get the next one. A page may hold fewer than `limit` and still not be the last.
        Raises InvalidQuery for a limit below 1.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        return self._views.page(wanted, cursor, limit)

    async def stats(self) -> Stats:
        """How many tasks there are of each kind; costs the same however many there are."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        tasks, queues = self._views.numbers()
        return Stats(
            tasks=tasks,
            queues=queues,
            paused=tuple(sorted(self._views.paused())),
            workers=self._workers,
            busy=self._runner.running,
            store_bytes=self._store.size(),
        )

    def subscribe(
        self, wanted: EventFilter = EVERYTHING, *, capacity: int | None = None
    ) -> AbstractContextManager[Subscription]:
        """Get events within the block: `with queue.subscribe() as events: async for event in events: …`.

        They are those of this process's commits. At most `capacity` events wait; `events.missed` counts the others. The
        iteration ends when the queue closes.
        """
        self._check_open()
        return self._hub.subscribe(wanted, self._limits.events if capacity is None else capacity)

    # Waiting

    async def wait(self, task_id: str) -> Task:
        """Return the task once it is final.

        Raises TaskNotFound, also when it was deleted meanwhile, or QueueClosed when the queue closes before.
        """
        with self._hub.watch(task_id) as watch:
            while True:
                seen = watch.version
                self._check_open()
                record = self._store.get(task_id)
                if record is None:
                    raise TaskNotFound(task_id)
                if record.state.status.final and (task := await self.get(task_id)).final:
                    return task  # it may have been requeued in between
                await watch.changed(seen)

    async def wait_idle(self) -> None:
        """Return when nothing runs here, nothing is ready, and nothing waits for its next attempt.

        Tasks that are scheduled, paused, or blocked by those, and tasks whose executor is missing, do not count. Those
        that wait for an endpoint that rests do.
        """
        with self._hub.subscribe(capacity=1) as events:
            while True:
                await self._runner.wait_none_running()
                await self._committer.wait_settled()
                self._check_open()
                if not self._scheduler.is_idle:
                    continue
                if not (self._running and (self._scheduler.some_wait or self._some_wait_for_an_attempt())):
                    return
                events.receive_nowait()
                await anext(events, None)

    @asynccontextmanager
    async def stream(self, task_id: str, *, follow: bool = True) -> AsyncIterator[ChunkStream]:
        """The task's output from its first chunk to its end: `async with queue.stream(id) as chunks: async for …`.

        Any number may read; each sees every chunk in order, whenever it comes. A task that runs again announces that
        by a `StreamRestarted`. Without `follow` it ends with what there is by now. Raises TaskNotFound, or QueueClosed
        when the queue closes before the end.
        """
        async with aclosing(self._streams.read(task_id, follow=follow)) as chunks:
            yield chunks

    # Acting

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that is not final; a run in progress is stopped. Raises TaskNotFound or IllegalMove."""
        self._check_open()
        record = self._store.get(task_id)
        if record is not None:
            self._streams.send_of(record.seq)
        return await self._move(task_id, Cancel(task_id=task_id, now=self._clock()))

    async def set_priority(self, task_id: str, priority: Priority | str | int) -> Task:
        """Change the priority of a task that is not final; its place among equals stays. Raises as `cancel` does."""
        parsed = _priority(priority)
        return await self._move(task_id, SetPriority(task_id=task_id, priority=parsed, now=self._clock()))

    async def requeue(self, task_id: str) -> Task:
        """Make a failed or cancelled task pending again, with a fresh count of attempts. Raises as `cancel` does."""
        return await self._move(task_id, Requeue(task_id=task_id, now=self._clock()))

    async def cancel_all(self, wanted: TaskFilter) -> int:
        """Cancel all tasks that fit and are not final, in steps; how many there were. Raises StoreUnavailable."""

        def make(task: Task) -> Cancel:
            self._streams.send_of(task.seq)
            return Cancel(task_id=task.id, now=self._clock())

        return await self._change_all(wanted, CANCELLABLE, make)

    async def set_priority_all(self, wanted: TaskFilter, priority: Priority | str | int) -> int:
        """Change the priority of all tasks that fit and are not final, in steps; how many there were."""
        parsed = _priority(priority)
        return await self._change_all(
            wanted, UNFINISHED, lambda task: SetPriority(task_id=task.id, priority=parsed, now=self._clock())
        )

    async def requeue_all(self, wanted: TaskFilter) -> int:
        """Make all failed and cancelled tasks that fit pending again, in steps; how many there were."""
        return await self._change_all(wanted, REQUEUEABLE, lambda task: Requeue(task_id=task.id, now=self._clock()))

    async def delete(self, task_id: str) -> Task:
        """Remove a final task with payload, result, output and attempts; returns it as it was, without these.

        Raises TaskNotFound, IllegalMove unless it is final, TaskInUse while a task that comes after it is not final, or
        DamagedRecord.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        task = self._views.brief(task_id)
        await self._committer.apply(Delete(task_id=task_id, now=self._clock()))
        return task

    async def delete_all(self, wanted: TaskFilter) -> int:
        """Remove all final tasks that fit and are not in use, in steps; how many there were."""
        return await self._change_all(wanted, FINAL, lambda task: Delete(task_id=task.id, now=self._clock()))

    async def pause(self, queue: str | None = None) -> None:
        """Start nothing of this queue (None: of any) until it is resumed. What runs goes on; the pause is stored."""
        await self._change_queue(EVERY_QUEUE if queue is None else queue, paused=True)

    async def resume(self, queue: str | None = None) -> None:
        """Undo `pause`. Resuming all queues does not resume those that were paused by name."""
        await self._change_queue(EVERY_QUEUE if queue is None else queue, paused=False)

    async def set_limit(self, queue: str, limit: int | None) -> None:
        """Let at most `limit` tasks of a queue run at once; None for no limit of its own. Stored.

        Raises InvalidTask for what is no such limit.
        """
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise InvalidTask("must be a whole number, 1 or more; use pause to start nothing", "limit")
        if queue == EVERY_QUEUE:
            raise InvalidTask(f"{EVERY_QUEUE!r} stands for all queues, whose limit is the number of workers", "queue")
        await self._change_queue(queue, limit=limit)

    # Running

    async def start(self) -> None:
        """Begin to start tasks. `open_queue` does it unless told otherwise."""
        self._check_open()
        if not self._workers:
            raise InvalidTask("this queue was opened without workers", "workers")
        await trio.lowlevel.checkpoint()
        self._running = True
        self._scheduler.begin_claiming()

    async def drain(self) -> None:
        """Start nothing more, and return when what runs has finished."""
        self._scheduler.stop_claiming()
        self._running = False
        await self._runner.wait_none_running()
        await self._committer.wait_settled()

    async def stop(self, grace: float | None = None) -> None:
        """Start nothing more, give what runs `grace` seconds to finish, and give back what is left, uncounted."""
        self._scheduler.stop_claiming()
        self._running = False
        with trio.move_on_after(self._grace if grace is None else grace):
            await self._runner.wait_none_running()
        self._runner.give_back()
        with trio.move_on_after(LAST_WORDS) as patience:
            await self._runner.wait_none_running()
        if patience.cancelled_caught:
            log.error("%d attempts do not end though they were cancelled", self._runner.running)
        with trio.move_on_after(LAST_WORDS) as patience:
            await self._committer.wait_settled()
        if patience.cancelled_caught:
            log.error("the store takes no commits; runs whose end it does not know will run again")

    async def finish_callbacks(self) -> None:
        """Return when no callback is under way."""
        await trio.lowlevel.checkpoint()
        while self._callbacks:
            await self._callback_ended.park()

    def run_by(self) -> str | None:
        """Who runs this queue's tasks, in words; None when nobody does."""
        return self._store.runner()

    @property
    def is_running(self) -> bool:
        """Whether this process starts tasks."""
        return self._running

    def heard(self, reply: Reply) -> None:
        """Pass on what a commit made happen; called by the committer."""
        if reply.events or reply.unsettled:
            self._scheduler.heard(reply)
            self._hub.publish(reply.events)

    # Inside

    async def _add(self, tasks: tuple[NewTask, ...], now: datetime, on_final: OnFinal | None) -> Sequence[TaskHandle]:
        if not tasks:
            await trio.lowlevel.checkpoint()
            return []
        lanes = {(task.head.queue, task.head.executor, task.head.lane) for task in tasks}
        for lane in lanes:
            self._scheduler.offers.note(lane)
        self._scheduler.look()  # so that the claim goes along in the same commit
        try:
            added = await self._committer.apply(AddMany(tasks=tasks, now=now, room=self._room))
        except OqError as error:
            self._scheduler.offers.forget(lanes)
            if isinstance(error, QueueFull):
                raise QueueFull(error.what, error.limit, self._scheduler.starts.time_for(len(tasks))) from None
            raise
        if on_final is not None:
            for entry in added.entries:
                self._call_at_final(entry.task_id, on_final)
        return [TaskHandle(entry.task_id, entry.duplicate, self) for entry in added.entries]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Let the parts run for the length of the block; `oq.open_queue` does this."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await _start_shielded(nursery, self._committer.run)
            try:
                nursery.start_soon(self._streams.run)
                nursery.start_soon(self._listen)
                if self._workers:
                    if self._store.exclusive:
                        await self._committer.apply(TakeOver(now=self._clock()))
                    await _start_shielded(nursery, self._runner.run)
                    nursery.start_soon(self._scheduler.run)
                    nursery.start_soon(self._scheduler.renew)
                    nursery.start_soon(self._cleaner.run)
                yield
            except Exception as error:  # noqa: BLE001  # re-raised below, where no nursery wraps it in a group
                failure = error
            finally:
                self._closed = True
                self._streams.end()
                self._hub.close()
                self._runner.close()
                self._committer.close()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _listen(self) -> None:
        """Hear of changes that others make to the store, until cancelled; late, where the store cannot tell."""
        descriptor = self._store.changes_fileno()
        while True:
            if descriptor is None:
                await trio.sleep(LONGEST_SLEEP)
            else:
                await trio.lowlevel.wait_readable(descriptor)
            self._store.drain_changes()
            self._scheduler.look_around()
            for seq, epoch in self._store.stops():
                self._runner.end_over(seq, epoch)
            self._hub.touch_all()
            for task_id in self._hub.awaited():
                self._call_if_final(task_id)

    def _call_at_final(self, task_id: str, on_final: OnFinal) -> None:
        self._hub.call_at_final(task_id, lambda: self._spawn_callback(task_id, on_final))
        self._call_if_final(task_id)

    def _call_if_final(self, task_id: str) -> None:
        try:
            record = self._store.get(task_id)
        except DamagedRecord as error:
            log.warning("whether task %s is final cannot be told: %s", task_id, error)
            return
        if record is None or record.state.status.final:
            self._hub.became_final(task_id)

    def _spawn_callback(self, task_id: str, on_final: OnFinal) -> None:
        if self._nursery is not None and not self._closed:
            self._callbacks += 1
            self._nursery.start_soon(self._callback, task_id, on_final)

    async def _callback(self, task_id: str, on_final: OnFinal) -> None:
        try:
            try:
                task = await self.get(task_id)
            except TaskNotFound:
                log.warning("task %s was deleted before its callback could be called", task_id)
                return
            if not task.final:  # it was requeued in between
                self._call_at_final(task_id, on_final)
                return
            answer = on_final(task)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # a callback's failure is its own
            log.exception("the callback of task %s failed", task_id)
        finally:
            self._callbacks -= 1
            self._callback_ended.unpark_all()

    async def _move(self, task_id: str, op: Op[Moved]) -> Task:
        self._check_open()
        await self._committer.apply(op)
        return self._views.brief(task_id)

    async def _change_all(
        self, wanted: TaskFilter, statuses: Collection[Status], make: Callable[[Task], Op[Moved]]
    ) -> int:
        self._check_open()
        return await change_all(self._views, self._committer, wanted, statuses, make)

    async def _change_queue(self, queue: str, **changes: Any) -> None:
        """Change a queue's stored settings, however many others do so at the same time."""
        self._check_open()
        while True:
            stored = self._store.value(QUEUES, queue)
            settings = QueueSettings() if stored is None else decode_as(stored.data, QueueSettings)
            changed = msgspec.structs.replace(settings, **changes)
            expect = 0 if stored is None else stored.version
            try:
                await self._committer.apply(PutValue(namespace=QUEUES, key=queue, value=encode(changed), expect=expect))
            except VersionConflict:
                continue
            self._scheduler.look_around()
            return

    def _some_wait_for_an_attempt(self) -> bool:
        return any(count.phase is Phase.RETRYING and count.number for count in self._store.counts())

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed


async def _start_shielded(nursery: trio.Nursery, part: Callable[..., Awaitable[None]]) -> None:
    """Start a part that shields itself: cancelled in here, it would go on for ever, and the nursery wait for it."""
    with trio.CancelScope(shield=True):
        await nursery.start(part)


def _priority(priority: Priority | str | int) -> Priority:
    try:
        return Priority.parse(priority)
    except ValueError as error:
        raise InvalidTask(str(error), "priority") from None
