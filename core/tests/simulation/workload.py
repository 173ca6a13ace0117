"""What users do: they submit, cancel, requeue, pause, wait, read and meddle, all at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from attrs import frozen

from oq.codec import encode
from oq.errors import (
    CallerError,
    LeaseLost,
    OqError,
    QueueClosed,
    QueueFull,
    StoreUnavailable,
    TaskInUse,
    TaskNotFound,
)
from oq.handle import TaskHandle
from oq.retry import NO_RETRY, RetryPolicy
from oq.store.base import AppendChunks, Block, Finish, Released, Renew, Succeeded
from oq.store.base import Failed as FailedEnding
from oq.task import Status, TaskSpec
from oq.testing import failure
from simulation.executors import PLAYS, SIM_LANES, SIM_POOLS
from simulation.plan import QUEUES

if TYPE_CHECKING:
    from simulation.ledger import Run
    from simulation.process import Process
    from simulation.world import World

T = TypeVar("T")

SUBMITTERS = 3

MEDDLES_EVERY = 0.5
"""Mean seconds; half of them come at once after another."""

POLICIES = (
    NO_RETRY,
    RetryPolicy(max_attempts=2, delay=0, jitter=0),
    RetryPolicy(max_attempts=4, delay=0.5, factor=2, jitter=0),
    RetryPolicy(max_attempts=5, delay=3, factor=1.5, max_delay=10, jitter=0.5),
)


class GaveUp(OqError):
    """The caller did not wait for the answer."""


@frozen
class Answer:
    """What a call gave: a value, or an error that it may raise."""

    value: Any = None
    error: OqError | None = None


class Workload:
    """Drives a process's queue."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trial = world.trial
        self._chance = world.trial.chance("workload")
        self.tokens_left = world.trial.plan.tasks
        self._token = 0

    @property
    def done(self) -> bool:
        """Whether all that is to be submitted has been."""
        return self.tokens_left <= 0

    def populate(self, process: Process, users: trio.Nursery) -> None:
        """Let users loose on a queue that has just been opened."""
        hub_start = len(process.gate.events)
        process.subscriber_at = hub_start
        users.start_soon(self._subscribe, process, hub_start)
        users.start_soon(self._subscribe_slowly, process, hub_start)
        for _ in range(SUBMITTERS):
            users.start_soon(self._submit, process, users)
        users.start_soon(self._meddle, process, users)

    # Submitting

    async def _submit(self, process: Process, users: trio.Nursery) -> None:
        chance = self._chance
        while not self.done and not process.closing:
            if chance.random() < 0.4:
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(chance.expovariate(1 / self._trial.plan.submit_every))
            if self.done:
                return
            if chance.random() < 0.05:
                await self._submit_wrongly(process)
                continue
            specs = [self._spec() for _ in range(1 if chance.random() < 0.75 else chance.randint(2, 8))]
            if len(specs) > 1:
                specs = self._chained(specs)
            on_final = process.listeners.new_callback(chance) if chance.random() < 0.3 else None
            handles = await self._hand_in(process, specs, on_final)
            for handle in handles:
                self._listen(process, users, handle)

    async def _hand_in(self, process: Process, specs: Sequence[TaskSpec], on_final: Any) -> Sequence[TaskHandle]:
        """Submit and check what is acknowledged."""
        tokens = [spec.metadata["token"] for spec in specs]
        registered = []

        async def call() -> Sequence[TaskHandle]:
            if len(specs) == 1:
                handles: Sequence[TaskHandle] = [await process.queue.submit(specs[0], on_final=on_final)]
            else:
                handles = await process.queue.submit_many(specs, on_final=on_final)
            if on_final is not None:
                for handle in handles:
                    process.listeners.expect_call(handle.id)
                registered.append(True)
            return handles

        answer = await self._call(process, f"submit {tokens}", call)
        if process.dead:
            return []
        ledger, expect = self._world.ledger, self._trial.expect
        if answer.error is not None:
            stored = [token for token in tokens if token in ledger.tokens]
            expect(not stored, 9, f"a submit was refused ({answer.error!r}), but tokens {stored} are stored")
            return []
        for spec, handle in zip(specs, answer.value, strict=True):
            known = ledger.ids.get(handle.id)
            if known is None:
                self._trial.broken(1, f"token {spec.metadata['token']} was acknowledged, but is not stored")
                return []
            known.acknowledged = True
            same = known.head.metadata["token"] == spec.metadata["token"]
            expect(same != handle.duplicate, 1, f"{known.name} was given for token {spec.metadata['token']}")
            expect(same or known.head.unique_key == spec.unique_key, 1, f"{known.name} is no duplicate of its key")
        return answer.value

    async def submit_child(self, run: Run) -> None:
        """Submit a task from within another one's run."""
        spec = self._spec()
        fields = {name: getattr(spec, name) for name in ("executor", "action", "metadata", "lane", "priority")}
        child = TaskSpec(payload={"play": "quick", "token": spec.metadata["token"]}, **fields)
        await self._hand_in(run.process, [child], None)

    async def _submit_wrongly(self, process: Process) -> None:
        spec = self._spec()
        wrong = self._chance.choice(
            (
                {"executor": "nobody"},
                {"action": "nothing"},
                {"delay": -1.0},
                {"payload": {"play": 7}},
                {"after": ("no-such-task",)},
                {"queue": ""},
            )
        )
        fields = {name: getattr(spec, name) for name in ("executor", "action", "payload", "metadata")}
        bad = TaskSpec(**{**fields, **wrong})
        answer = await self._call(process, f"submit wrongly {wrong}", lambda: process.queue.submit(bad))
        if not process.dead:
            self._trial.expect(answer.error is not None, 9, f"a task with {wrong} was taken")
            self._trial.expect(spec.metadata["token"] not in self._world.ledger.tokens, 9, "a refused task is stored")

    def _spec(self) -> TaskSpec:
        chance = self._chance
        self._token += 1
        self.tokens_left -= 1
        now = self._trial.clock()
        executor = chance.choices(("sim", "plain"), (3, 1))[0]
        play = chance.choices(list(PLAYS), list(PLAYS.values()))[0]
        fields: dict[str, Any] = {}

        def maybe(likely: float, name: str, make: Callable[[], Any]) -> None:
            if chance.random() < likely:
                fields[name] = make()

        known = self._world.ledger.recent(20)
        if executor == "sim":
            fields["lane"] = chance.choice(list(SIM_LANES))
        else:
            maybe(0.2, "lane", lambda: "side")
        maybe(0.5, "priority", lambda: chance.choice(("low", "normal", "high", "critical")))
        maybe(0.4, "queue", lambda: chance.choice(QUEUES))
        maybe(0.1, "id", lambda: f"chosen-{chance.randint(1, 200)}")
        maybe(0.12, "unique_key", lambda: f"key-{chance.randint(1, 4)}")
        maybe(0.15, "delay", lambda: chance.choice((0, 0.001, chance.uniform(0, 50))))
        if "delay" not in fields:
            maybe(0.1, "run_at", lambda: now + timedelta(seconds=chance.uniform(-10, 50)))
        maybe(0.1, "expires_at", lambda: now + timedelta(seconds=chance.uniform(0, 60)))
        maybe(0.3, "timeout", lambda: chance.choice((0.2, 3.0, 15.0)))
        maybe(0.4, "retry", lambda: chance.choice(POLICIES))
        maybe(0.12, "result_ttl", lambda: chance.choice((0, 5.0, 40.0)))
        if known and chance.random() < 0.2:
            fields["after"] = tuple({chance.choice(known).head.id: None for _ in range(chance.randint(1, 3))})
            maybe(0.5, "on_parent_failure", lambda: "continue")
        return TaskSpec(
            executor=executor,
            action="play",
            payload={"play": play, "token": self._token},
            metadata={"token": self._token},
            **fields,
        )

    def _chained(self, specs: list[TaskSpec]) -> list[TaskSpec]:
        """A workflow: some come after those before them."""
        import attrs

        chained: list[TaskSpec] = []
        for spec in specs:
            task_id = spec.id or f"flow-{spec.metadata['token']}"
            after = spec.after
            if chained and self._chance.random() < 0.6:
                after = (*after, self._chance.choice(chained).id)
            chained.append(attrs.evolve(spec, id=task_id, after=tuple(dict.fromkeys(after))))
        return chained

    # Listening

    def _listen(self, process: Process, users: trio.Nursery, handle: TaskHandle) -> None:
        chance, listeners = self._chance, process.listeners
        if chance.random() < 0.4:
            by_result = chance.random() < 0.3
            users.start_soon(self._for_a_while, lambda: listeners.wait(handle, by_result=by_result))
        if chance.random() < 0.3:
            slow = chance.random() < 0.3
            reading = self._trial.chance(f"reader/{handle.id}")
            users.start_soon(self._for_a_while, lambda: listeners.read(handle, reading, slow=slow))

    async def _for_a_while(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Listen to the end, or give up before."""
        with trio.move_on_after(self._chance.uniform(0, 5) if self._chance.random() < 0.1 else math.inf):
            await listen()

    async def _subscribe(self, process: Process, start: int) -> None:
        with process.queue.subscribe(capacity=100_000) as events:
            await process.listeners.subscribe(events, start)

    async def _subscribe_slowly(self, process: Process, start: int) -> None:
        with process.queue.subscribe(capacity=self._chance.choice((1, 5))) as events:
            await process.listeners.subscribe_slowly(events, start, self._trial.chance(f"{process.name}/slow"))

    # Meddling

    async def _meddle(self, process: Process, users: trio.Nursery) -> None:
        chance = self._chance
        deeds: dict[Callable[[Process], Awaitable[None]], int] = {
            self._cancel: 30,
            self._requeue: 15,
            self._cancel_and_requeue: 5,
            self._set_priority: 12,
            self._delete: 12,
            self._pause: 6,
            self._resume: 8,
            self._limit: 6,
            self._look: 8,
            self._come_late: 12,
            self._change_pools: 8,
            self._change_lane: 5,
            self._unregister: 2,
            self._rest: 2,
            self._wait_idle: 2,
        }
        while not process.closing and not self._world.calm:
            await trio.sleep(chance.choice((0, chance.expovariate(1 / MEDDLES_EVERY))))
            if self._world.calm or process.closing:
                return
            deed = chance.choices(list(deeds), list(deeds.values()))[0]
            if chance.random() < 0.5:
                users.start_soon(deed, process)
            else:
                await deed(process)

    async def _cancel(self, process: Process) -> None:
        await self._act(process, "cancel", process.queue.cancel)

    async def _requeue(self, process: Process) -> None:
        await self._act(process, "requeue", process.queue.requeue)

    async def _delete(self, process: Process) -> None:
        """Delete a task, mostly a final one; never one with an id that may come again."""
        known = self._world.ledger.some_final(self._chance)
        if known is None or known.head.id.startswith("chosen-"):
            return
        answer = await self._call(process, f"delete {known.name}", lambda: process.queue.delete(known.head.id))
        if answer.error is None and not process.dead:
            self._trial.expect(known.deleted, 1, f"{known.name} was to be deleted, but nothing happened")
        if isinstance(answer.error, TaskInUse):
            by = self._world.ledger.ids[answer.error.needed_by]
            self._trial.expect(known.head.id in by.head.after, 1, f"{known.name} is not deleted for want of a reason")

    async def _cancel_and_requeue(self, process: Process) -> None:
        """Both at once, so that they may share a flush."""
        known = self._world.ledger.some(self._chance, unfinished=True)
        if known is not None:
            async with trio.open_nursery() as nursery:
                for what in ("cancel", "requeue"):
                    call = getattr(process.queue, what)
                    nursery.start_soon(
                        self._call, process, f"{what} {known.name}", lambda call=call: call(known.head.id)
                    )

    async def _set_priority(self, process: Process) -> None:
        priority = self._chance.choice(("low", "normal", "high", "critical"))
        await self._act(process, f"set {priority}", lambda task_id: process.queue.set_priority(task_id, priority))

    async def _act(self, process: Process, what: str, call: Callable[[str], Awaitable[Any]]) -> None:
        ledger = self._world.ledger
        known = ledger.some(self._chance, unfinished=what != "requeue")
        if what != "requeue" and self._chance.random() < 0.4:
            known = ledger.some_ready(self._chance) or known
        if known is None:
            return
        finals, events = len(known.finals), ledger.events
        answer = await self._call(process, f"{what} {known.name}", lambda: call(known.head.id))
        if answer.error is None and not process.dead:
            self._trial.expect(
                ledger.events > events, 6, f"{what} of {known.name} was acknowledged, but nothing happened"
            )
            if what == "cancel":
                self._trial.expect(len(known.finals) > finals, 6, f"the cancel of {known.name} did nothing")

    async def _pause(self, process: Process) -> None:
        queue = self._chance.choice((None, *QUEUES))
        await self._set(process, f"pause {queue}", lambda: process.queue.pause(queue))

    async def _resume(self, process: Process) -> None:
        queue = self._chance.choice((None, *QUEUES))
        await self._set(process, f"resume {queue}", lambda: process.queue.resume(queue))

    async def _limit(self, process: Process) -> None:
        queue, limit = self._chance.choice(QUEUES), self._chance.choice((None, 1, 2, 4))
        await self._set(process, f"limit {queue} to {limit}", lambda: process.queue.set_limit(queue, limit))

    async def _set(self, process: Process, what: str, call: Callable[[], Awaitable[Any]]) -> None:
        process.changing_settings += 1
        try:
            await self._call(process, what, call)
        finally:
            process.changing_settings -= 1

    async def _look(self, process: Process) -> None:
        known = self._world.ledger.some(self._chance)
        ledger, expect = self._world.ledger, self._trial.expect

        async def look() -> None:
            stats = await process.queue.stats()
            stages = [
                task.stage if isinstance(task.stage, Status) else Status.PENDING for task in ledger.tasks.values()
            ]
            counted = {status: number for status, number in stats.tasks.by_status.items() if number}
            expect(counted == Counter(stages), 1, f"stats count {counted}, but there are {Counter(stages)}")
            page = await process.queue.list(limit=5)
            newest = sorted(ledger.tasks, reverse=True)[:5]
            expect([task.seq for task in page.items] == newest, 1, "a list is not of the newest tasks")
            if known is not None and not known.deleted:
                try:
                    task = await process.queue.get(known.head.id)
                except TaskNotFound as error:
                    expect(known.deleted, 1, f"a look raised {error}")  # it was deleted just before it was looked at
                    return
                told = (task.state.phase or task.status, task.epoch, task.attempt)
                expect(told == (known.stage, known.epoch, known.attempt), 1, f"{known.name} is not as get says: {told}")

        answer = await self._call(process, "look", look)
        expect(
            process.dead or isinstance(answer.error, GaveUp | QueueClosed | None), 1, f"a look raised {answer.error}"
        )

    async def _come_late(self, process: Process) -> None:
        """Say something in the name of a run whose epoch is over."""
        run = self._world.ledger.some_earlier_run(self._chance)
        if run is None:
            return
        seq, epoch, now = run.known.seq, run.epoch, self._trial.clock()
        block = Block(first=run.emitted, count=1, data=encode([]))
        op: Any = self._chance.choice(
            (
                Finish(seq=seq, epoch=epoch, ending=Succeeded(encode("late")), now=now),
                Finish(seq=seq, epoch=epoch, ending=Released(), now=now, block=block),
                Finish(seq=seq, epoch=epoch, ending=FailedEnding(failure()), now=now),
                AppendChunks(seq=seq, epoch=epoch, block=block),
                Renew(runs=((seq, epoch),), until=now + timedelta(seconds=60)),
            )
        )
        what = f"late {type(op).__name__} of {run.name}"
        answer = await self._call(process, what, lambda: process.queue._committer.apply(op))
        if answer.error is None and not process.dead:
            lost = isinstance(op, Renew) and answer.value.lost == ((seq, epoch),)
            self._trial.expect(lost, 2, f"a {what}, whose epoch is over, was accepted")

    async def _change_pools(self, process: Process) -> None:
        pool = self._chance.choice(list(SIM_POOLS))
        process.sim.units[pool] = self._chance.randint(0, 4)
        self._trial.say(f"pool {pool} has {process.sim.units[pool]} units")
        process.sim.tell()

    async def _change_lane(self, process: Process) -> None:
        lane = self._chance.choice(list(SIM_LANES))
        served = process.sim.lanes[lane] is None
        process.sim.lanes[lane] = SIM_LANES[lane] if served else None
        self._trial.say(f"lane {lane} is {'served' if served else 'not served'}")
        process.sim.tell()

    async def _unregister(self, process: Process) -> None:
        """Take an executor out for a while."""
        name = self._chance.choice(("sim", "plain"))
        if name not in process.registered:
            return
        self._trial.say(f"{name} is unregistered")
        process.registered.remove(name)
        process.queue.executors.unregister(name)
        for run in self._world.ledger.open_runs.values():
            if run.known.head.executor == name and not run.began:
                run.ended = "unregistered"
        try:
            await trio.sleep(self._chance.uniform(0.1, 5))
        finally:
            process.registered.add(name)
            if not process.dead:
                self._trial.say(f"{name} is back")
                process.queue.executors.register(process.sim if name == "sim" else process.plain)

    async def _wait_idle(self, process: Process) -> None:
        """Wait for a moment at which nothing is to be done."""

        async def wait() -> None:
            await process.queue.wait_idle()
            if process.dead:
                return
            runs = [run.name for run in self._world.ledger.open_runs.values() if run.process is process and run.began]
            self._trial.expect(not runs, 4, f"wait_idle returned, but {', '.join(runs)} run")
            if process.claiming and not (process.gate.in_flight or process.changing_settings):
                left = self._world.starting.left_behind(process)
                self._trial.expect(left is None, 4, f"wait_idle returned, but {left and left.name} is about to start")

        with trio.move_on_after(self._chance.uniform(1, 100)):
            await self._call(process, "wait_idle", wait)

    async def _rest(self, process: Process) -> None:
        """Let it run nothing for a while."""
        if not process.claiming:
            return
        process.rest()
        if self._chance.random() < 0.5:
            answer = await self._call(process, "drain", process.queue.drain)
        else:
            answer = await self._call(process, "stop", lambda: process.queue.stop(grace=0.5))
        busy = process.queue._runner.running
        rested = process.dead or answer.error is not None or busy == 0 or process.stubborn
        self._trial.expect(rested, 10, f"{busy} runs are left after a rest")
        await trio.sleep(self._chance.choice((0, 1)))
        if not process.closing:
            await process.start()

    # Calling

    async def _call(self, process: Process, what: str, call: Callable[[], Awaitable[Any]]) -> Answer:
        """Make a call and judge the error that it raises, if it does."""
        disk, expect = self._world.disk, self._trial.expect
        refusals, fulls = disk.refusals, disk.fulls
        if process.dead:
            return Answer(error=QueueClosed())
        patience = self._chance.choice((0.0, 0.01, 1.0)) if self._chance.random() < 0.1 else math.inf
        answer = Answer()
        with trio.move_on_after(patience) as scope:
            try:
                answer = Answer(await call())
            except OqError as error:
                answer = Answer(error=error)
        if scope.cancelled_caught:
            answer = Answer(error=GaveUp())
        if process.dead:
            return answer
        self._trial.say(f"{process.name}: {what}: {'done' if answer.error is None else repr(answer.error)}")
        match answer.error:
            case StoreUnavailable():
                expect(disk.refusals > refusals, 9, f"{what} was refused, but the store did not refuse")
            case QueueFull():
                expect(disk.fulls > fulls, 9, f"{what} found the queue full, but the disk was not")
            case QueueClosed():
                expect(process.closing, 9, f"{what} found the queue closed")
            case None | CallerError() | LeaseLost() | GaveUp():
                pass
            case error:
                self._trial.broken(0, f"{what} raised {error!r}")
        return answer
