"""The world of one seed: a store that outlives the processes that run it, users, faults, and a calm end."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import trio

from oq.codec import decode_as
from oq.errors import LeaseLost
from oq.query import QueueSettings
from oq.store.base import (
    QUEUES,
    AddMany,
    AppendChunks,
    Claim,
    Claimed,
    Finish,
    Op,
    PutValue,
    Refused,
    Reply,
    Store,
    TakeOver,
)
from oq.store.lmdb.store import LmdbStore
from oq.store.memory import MemoryStore
from oq.task import Status
from oq.testing import audit
from oq.testing.audit import listed
from simulation.executors import SIM_LANES, SIM_POOLS
from simulation.gate import Disk, Gate
from simulation.ledger import Ledger, new_run
from simulation.plan import QUEUES as QUEUE_NAMES
from simulation.process import DEFAULT_RETRY, Process
from simulation.starting import Starting
from simulation.trial import Trial
from simulation.workload import Workload

STORM_AT_MOST = 400.0
"""Seconds after which faults stop, be all submitted or not."""
PATIENCE = 1_000.0
PATIENCE_PER_TASK = 60.0
"""Seconds that the calm may last until all is done."""
NOTICED_AFTER = 6.1
"""Seconds after a refusal by which everything has been tried again."""
CLOCK_READ_AFTER = 30.1
"""Seconds after a step of the clock by which it was noticed."""
SLACK = timedelta(microseconds=100)
"""By how much moments may differ from trio's time, which is a float."""


class Stuck(Exception):
    """Not even the end of everything makes an end; stops the event loop, come what may."""


class World:
    """Everything there is."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._directory: Path | None = None
        self.disk = Disk(trial, self._open_store())
        self.ledger = Ledger(trial, DEFAULT_RETRY)
        self.starting = Starting(trial, self.ledger)
        self.workload = Workload(self)
        self.process: Process | None = None
        """The one that is alive, or was last."""
        self.calm = False
        """Whether faults have stopped."""
        self._chance = trial.chance("faults")
        self._processes = 0
        self._stepped_at = -math.inf

    def close(self) -> None:
        """Leave nothing behind."""
        self.disk.store.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # Its course

    async def run(self) -> None:
        """Storm, then calm, then the last look."""
        with self.trial.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live, nursery)
                with trio.move_on_after(STORM_AT_MOST):
                    await self._storm()
                await self._settle()
                await self._look_back()

    async def _live(self, nursery: trio.Nursery) -> None:
        """Open the queue again and again, for as long as it ends before the end."""
        while True:
            self._processes += 1
            process = self.process = Process(self, self._processes)
            nursery.start_soon(process.live)
            await process.gone.wait()
            self._check_store()
            await trio.sleep(self._chance.choice((0, 0.001, 3)))

    async def _storm(self) -> None:
        """Faults at random, until everything has been submitted."""
        every, faults, chance = self.trial.plan.fault_every, self.trial.plan.faults, self._chance
        while not self.workload.done or trio.current_time() < self.trial.plan.storm:
            await trio.sleep(1.0 if every is None else chance.expovariate(1 / every))
            if every is None or self.process is None:
                continue
            match chance.choices(list(faults), list(faults.values()))[0]:
                case "refuse":
                    seconds = chance.choice((0.01, 0.5, 8.0))
                    self.trial.say(f"the store begins to refuse, for {seconds} s")
                    self.disk.refuses_until = trio.current_time() + seconds
                case "full":
                    self.trial.say("the disk is full")
                    self.disk.full_until = trio.current_time() + chance.uniform(0, 5)
                case "kill":
                    self.process.kill()
                case "die":
                    self.process.gate.die_after = chance.randint(0, 5)
                case "end":
                    self.process.end(chance.choice(("leave", "stop", "drain", "error")))
                case "step":
                    seconds = chance.uniform(-60, 60)
                    self.trial.say(f"the clock is stepped by {seconds:.1f} s")
                    self.trial.clock.step(seconds)
                    self._stepped_at = trio.current_time()

    async def _settle(self) -> None:
        """Stop all faults, serve everything, and wait until all is done."""
        self.calm = True
        self.disk.calm_down()
        if self.process is not None:
            self.process.gate.die_after = None
        self.trial.say("calm")
        await trio.sleep(20)  # who is on the way out gets out, and who could not open the queue can
        process = await self._living()
        process.sim.units |= SIM_POOLS
        process.sim.lanes |= SIM_LANES
        process.sim.tell()
        for queue in (None, *QUEUE_NAMES):
            process.changing_settings += 1
            await process.queue.resume(queue)
            if queue is not None:
                await process.queue.set_limit(queue, None)
            process.changing_settings -= 1
        deadline = trio.current_time() + PATIENCE + PATIENCE_PER_TASK * len(self.ledger.tasks)
        while self.ledger.unfinished:
            await trio.sleep(5)
            if trio.current_time() > deadline:
                left = [f"{known.name} ({known.stage})" for known in self.ledger.tasks.values() if not known.final]
                self.trial.broken(2, f"these never end: {', '.join(left)}")
                return
        self.trial.say("everything is final")
        await trio.sleep(60)  # slow readers and callbacks get to their ends

    async def _look_back(self) -> None:
        """When all is over: nothing is left in hand, streams can be read again, and the store is as it was told."""
        process = await self._living()
        for known in self.ledger.with_output():
            await process.listeners.read(process.queue.handle(known.head.id), self.trial.chance("again"), slow=False)
        with trio.move_on_after(0.001 if self.trial.plan.commits == "inline" else 2) as patience:
            await process.queue.wait_idle()
        self.trial.expect(not patience.cancelled_caught, 4, "wait_idle does not return though nothing is to be done")
        await trio.sleep(1)
        self._check_nothing_left(process)
        stats = await process.queue.stats()
        self.trial.expect(stats.tasks.total == len(self.ledger.tasks), 1, "stats count another number of tasks")
        self._check_store()
        process.end("leave")
        await process.gone.wait()
        self._check_store()
        self.trial.scope.cancel()

    async def _living(self) -> Process:
        """The process that runs the queue, once there is one."""
        with trio.move_on_after(PATIENCE):
            while self.process is None or not self.process.claiming:
                await trio.sleep(0.1)
            return self.process
        self.trial.broken(2, "no process comes to run the queue any more")
        return await trio.sleep_forever()

    # What passes the gate

    def handed(self, gate: Gate, ops: Sequence[Op[Reply]]) -> None:
        process = self.process
        if process is not None and process.gate is gate and not gate.dead:
            for op in ops:
                if isinstance(op, Claim):
                    self.starting.check_handed(process, op)

    def applied(self, gate: Gate, ops: Sequence[Op[Reply]], replies: Sequence[Reply]) -> None:
        process = self.process
        assert process is not None
        self.trial.expect(process.gate is gate, 2, "a process that is over wrote to the store")
        for op, reply in zip(ops, replies, strict=True):
            self._take_in(process, op, reply)

    def _take_in(self, process: Process, op: Op[Reply], reply: Reply) -> None:
        refused = isinstance(reply, Refused)
        if refused:
            self.trial.expect(not reply.events, 9, f"{type(op).__name__} was refused, but has events")
        match op:
            case AddMany() if not refused:
                for new in op.tasks:
                    self.ledger.announce(new.head)
            case Finish() | AppendChunks():
                self._check_fence(op, reply)
            case Claim() if isinstance(reply, Claimed):
                self.starting.check_claimed(op, reply)
        for event in reply.events:
            self.ledger.heard(event)
        match op:
            case Claim() if isinstance(reply, Claimed):
                for run in reply.runs:
                    known = self.ledger.tasks[run.seq]
                    made = new_run(known, run.state.epoch, process, run.units)
                    made.given_back = process.resting  # it was told to claim no more while this claim was on its way
                    if known.head.executor not in process.registered:
                        made.ended = "unregistered"
                    self.ledger.claimed(made)
            case PutValue(namespace=namespace, key=key, value=value) if namespace == QUEUES and not refused:
                assert value is not None
                self._set_queue(key, decode_as(value, QueueSettings))
            case TakeOver():
                running = [known.name for known in self.ledger.tasks.values() if known.stage is Status.RUNNING]
                self.trial.expect(not running, 2, f"{', '.join(running)} still run after a take-over")

    def _check_fence(self, op: Finish | AppendChunks, reply: Reply) -> None:
        what = f"{type(op).__name__} of #{op.seq} epoch {op.epoch}"
        if self.ledger.is_current(op.seq, op.epoch):
            self.trial.expect(not isinstance(reply, Refused), 2, f"{what}, which runs, was refused: {reply}")
        else:
            fenced = isinstance(reply, Refused) and isinstance(reply.error, LeaseLost)
            self.trial.expect(fenced, 2, f"{what}, which is over, was accepted")

    def _set_queue(self, queue: str, settings: QueueSettings) -> None:
        (self.starting.paused.add if settings.paused else self.starting.paused.discard)(queue)
        self.starting.limits[queue] = settings.limit

    def died(self) -> None:
        """A process died: a store on disk is opened anew, as the next process will find it."""
        if self._directory is not None:
            self.disk.store.close()
            self.disk.store = self._open_store()

    # At rest

    def at_rest(self) -> None:
        """Everybody waits, and time is about to pass: what could be done now must have been done."""
        process = self.process
        if trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf:
            if self.trial.violation is not None:
                raise Stuck
            self.trial.broken(4, "everybody waits, and nothing will ever happen")
        if self.trial.violation is not None:
            return
        if process is None or not process.opened or process.dead or process.gate.in_flight:
            return
        process.listeners.check_heard()
        if process.closed:
            return
        self._check_stops(process)
        committer = process.queue._committer
        if committer.failing is not None or committer._dead:
            return
        self._check_endings(process)
        if trio.current_time() > max(self.disk.refused_at + NOTICED_AFTER, self._stepped_at + CLOCK_READ_AFTER):
            self._check_moments()
        if process.claiming:
            left = self.starting.left_behind(process)
            if left is not None:
                self.trial.broken(4, f"{left.name} is ready and its units are free, but it was not started")

    def _check_stops(self, process: Process) -> None:
        now = trio.current_time()
        for run in self.ledger.open_runs.values():
            if run.process is not process or run.ended is not None:
                continue
            if run.began and run.recorded is not None and not run.stubborn:
                self.trial.broken(6, f"{run.name} goes on although it was {run.recorded}")
            if run.began and now > run.deadline + 1e-6 and not run.stubborn:
                self.trial.broken(10, f"{run.name} goes on after its time")
            if not run.began and run.recorded is None and process.claiming:
                self.trial.broken(4, f"{run.name} was claimed, but never began")

    def _check_endings(self, process: Process) -> None:
        for run in self.ledger.open_runs.values():
            if (
                run.process is process
                and run.ended is not None
                and run.recorded is None
                and run.ended != "unregistered"
            ):
                self.trial.broken(10, f"{run.name} ended ({run.ended}), which is not recorded")

    def _check_moments(self) -> None:
        now = self.trial.clock() - SLACK
        overdue = self.ledger.overdue(now)
        if overdue is not None:
            self.trial.broken(4, f"{overdue.name} ({overdue.stage}) was to be woken at {overdue.wakes_at}; it is {now}")
        blocked = self.ledger.needlessly_blocked()
        if blocked is not None:
            self.trial.broken(2, f"{blocked.name} is blocked, but all that it comes after is final")

    # At the end of a life

    def _check_store(self) -> None:
        """The store is sound and holds just what its events told."""
        if self.trial.violation is not None:
            return
        store = self.disk.store
        for wrong in [*store.check(), *audit(store)]:
            self.trial.broken(1, f"the store is not sound: {wrong}")
        records = listed(store)
        self.trial.expect(len(records) == len(self.ledger.tasks), 1, "the store has not all tasks")
        for record in records:
            known, state = self.ledger.tasks[record.seq], record.state
            stage = state.phase or state.status
            same = (known.stage, known.priority, known.epoch, known.attempt) == (
                stage,
                state.priority,
                state.epoch,
                state.attempt,
            )
            self.trial.expect(same, 1, f"{known.name} is stored as {state}, but was told to be {known.stage}")
            self.trial.expect(known.due_at == state.due_at, 8, f"{known.name} has lost its moment")

    def _check_nothing_left(self, process: Process) -> None:
        queue = process.queue
        scheduler, runner, streams, hub = queue._scheduler, queue._runner, queue._streams, queue._hub
        left = {
            "units": {name: pool.used for name, pool in scheduler._pools.items() if pool.used},
            "runs": dict(runner._active),
            "outputs": dict(streams._outputs),
            "young outputs": list(streams._young),
            "watches": dict(hub._watches),
            "callbacks": dict(hub._on_final),
            "ops": [*queue._committer._urgent, *queue._committer._others],
            "a run that is alone": scheduler._alone,
            "stops": self.disk.store.stops(),
            "open runs": list(self.ledger.open_runs.values()),
        }
        for what, things in left.items():
            self.trial.expect(not things, 10, f"these {what} are left at the end: {things}")

    def _open_store(self) -> Store:
        if self.trial.plan.store == "memory":
            return MemoryStore()
        if self._directory is None:
            shared = Path("/dev/shm")
            self._directory = Path(tempfile.mkdtemp(prefix="oq-simulation-", dir=shared if shared.is_dir() else None))
        return LmdbStore(self._directory, durability="relaxed", initial_bytes=2**24, max_bytes=2**44)
