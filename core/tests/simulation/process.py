"""One life of a process that runs the queue: from opening it to its orderly end or its sudden death."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import trio
from attrs import frozen

from oq.config import SchedulerSettings, Settings
from oq.errors import StoreUnavailable
from oq.executor import Context, LanePools
from oq.ids import IdMaker
from oq.opening import open_queue
from oq.plugins import built_in_plugins
from oq.queue import Queue
from oq.retry import RetryPolicy
from oq.task import Task, effective_timeout
from simulation.executors import PlainExecutor, SimExecutor
from simulation.gate import Gate
from simulation.ledger import Run
from simulation.listeners import Listeners

if TYPE_CHECKING:
    from simulation.world import World

DEFAULT_RETRY = RetryPolicy(max_attempts=3, delay=1.0, factor=2.0, max_delay=30.0, jitter=0.1)

End = Literal["leave", "stop", "drain", "error"]


class AppError(Exception):
    """Ends the block of `open_queue` by an error."""


@frozen
class Served:
    """Which lanes a process serves."""

    _registered: frozenset[str]
    _sim_lanes: Mapping[str, LanePools | None]

    def wanted(self, executor: str, lane: str) -> LanePools | None:
        """What a task of a lane needs besides oq's own pools; None when it cannot run."""
        if executor not in self._registered:
            return None
        return self._sim_lanes[lane] if executor == "sim" else LanePools()


class Process:
    """A process, as far as the queue knows."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.trial = world.trial
        self.name = f"P{number}"
        self.gate = Gate(world.disk, world.trial, world)
        self.gate.die = self.kill
        self.sim = SimExecutor(self)
        self.plain = PlainExecutor(self)
        self.registered = {"sim", "plain"}
        self.listeners = Listeners(world.trial, world.ledger, self)
        self.changing_settings = 0
        """How many changes of queues' settings are under way."""
        self.subscriber_at = 0
        self.queue: Queue
        self.opened = False
        self.claiming = False
        self.resting = False
        """Whether it was told to stop or drain, and not to start again yet."""
        self.closing = False
        """Whether it has begun to end."""
        self.closed = False
        """Whether its queue is closed."""
        self.over = False
        """Whether it is no more."""
        self.dead = False
        """Whether it died."""
        self.gone = trio.Event()
        self._end = trio.Event()
        self._how: End = "leave"
        self._scope = trio.CancelScope()

    # Its life

    async def live(self) -> None:
        """Open the queue, let the workload use it, and end as told."""
        self.trial.say(f"{self.name} opens the queue")
        try:
            with self._scope:
                async with trio.open_nursery() as users:
                    await self._run_queue(users)
                    self.closed = self.closing = True
                    if not self.dead:
                        await trio.sleep(0.001)  # it comes to rest, and everybody must have been told
                    users.cancel_scope.cancel()
        except Exception as error:
            if not self.dead and self.trial.violation is None:
                self.trial.broken(0, f"the queue broke down: {error!r}")
        finally:
            self.over = True
            self.world.ledger.process_over(self)
            self.gone.set()

    async def _run_queue(self, users: trio.Nursery) -> None:
        plan, refusals = self.trial.plan, self.world.disk.refusals
        settings = Settings(
            scheduler=SchedulerSettings(
                workers=plan.workers, timeout=plan.timeout, grace=plan.grace, limits=plan.executor_limits
            ),
            retry=DEFAULT_RETRY,
        )
        chance = self.trial.chance(f"{self.name}/queue")
        try:
            async with open_queue(
                self.gate,
                executors=[self.sim, self.plain],
                plugins=built_in_plugins(),
                settings=settings,
                start=False,
                clock=self.trial.clock,
                inline_commits={"inline": True, "thread": False, "either": None}[plan.commits],
                chance=chance,
            ) as queue:
                self.queue = queue
                queue._make_id = IdMaker(chance)
                queue._scheduler._worker = self.name
                self.opened = True
                self.world.workload.populate(self, users)
                await self.start()
                await self._end.wait()
                self.claiming = False
                self.closing = True
                self.trial.say(f"{self.name} ends: {self._how}")
                match self._how:
                    case "drain":
                        await queue.drain()
                    case "stop":
                        await queue.stop(grace=1)
                    case "error":
                        raise AppError
                    case "leave":
                        pass
        except AppError:
            pass
        except StoreUnavailable:
            if not self.dead:
                self.trial.say(f"{self.name} could not open the queue")
                self.trial.expect(
                    not self.opened and self.world.disk.refusals > refusals,
                    9,
                    "StoreUnavailable came out of open_queue",
                )

    async def start(self) -> None:
        """Begin to claim."""
        await self.queue.start()
        self.claiming, self.resting = True, False

    def rest(self) -> None:
        """It is about to be told to claim no more."""
        self.claiming, self.resting = False, True
        for run in self.world.ledger.open_runs.values():
            run.given_back = run.given_back or run.process is self

    def end(self, how: End) -> None:
        """Let it end in this way."""
        self._how = how
        self._end.set()

    def kill(self) -> None:
        """Let it die this very moment: nothing that it does reaches the store any more."""
        if self.over:
            return
        self.trial.say(f"{self.name} dies")
        self.dead = self.over = self.closing = self.gate.dead = True
        self.claiming = False
        self.gate.unlock_run()
        self.world.ledger.process_over(self)
        self.world.died()
        self._scope.cancel()
        self.gone.set()

    # What the scheduler is to know of it

    @property
    def units(self) -> dict[str, int]:
        """The executors' own pools."""
        return self.sim.units if "sim" in self.registered else {}

    def served(self) -> Served:
        """Which lanes are served at this moment."""
        return Served(frozenset(self.registered), dict(self.sim.lanes))

    @property
    def stubborn(self) -> bool:
        """Whether some run does not heed cancellation."""
        return any(run.process is self and run.stubborn for run in self.world.ledger.open_runs.values())

    # What executors tell

    def began(self, task: Task, ctx: Context) -> Run | None:
        """An executor got a run; None when it is one that has died."""
        if self.dead:
            return None
        run = self.world.ledger.runs[task.seq, task.epoch]
        expect, now = self.trial.expect, trio.current_time()
        self.trial.say(f"{run.name} begins")
        expect(not run.began, 2, f"{run.name} was given to an executor twice")
        expect(run.process is self, 2, f"{run.name} runs in a process that did not claim it")
        expect((ctx.epoch, ctx.units) == (run.epoch, run.units), 3, f"{run.name} was told the wrong epoch or units")
        timeout = effective_timeout(run.known.head.timeout, self.trial.plan.timeout)
        expect(abs(ctx.deadline - now - timeout) < 1e-6, 10, f"{run.name} has not the time that its task allows")
        for other in self.world.ledger.open_runs.values():
            beside = other.known is run.known and other is not run and other.began and other.recorded is None
            expect(not beside, 2, f"{run.name} began while {other.name} runs")
        run.began, run.deadline, run.ended = True, ctx.deadline, None
        return run

    def ended(self, run: Run, how: str) -> None:
        """An executor is done with a run."""
        if self.dead:
            return
        self.trial.say(f"{run.name} ends: {how}")
        run.ended = how
        run.timed_out = trio.current_time() >= run.deadline - 1e-9
        run.given_back = run.given_back or self.closing or self.resting
        self.world.ledger.run_ended(run)
