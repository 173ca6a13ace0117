"""An executor whose runs do what a test tells them, when it tells them; and a store that refuses when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field, frozen

from oq._version import __version__
from oq.errors import StoreUnavailable
from oq.executor import Action, Chunk, Context, LanePools
from oq.store.base import Op, Reply, Store
from oq.task import Task, TaskSpec

if TYPE_CHECKING:
    from oq.store.memory import MemoryStore as _StoreBase  # so that type checkers take a SteeredStore for a store
else:
    _StoreBase = object


@frozen(kw_only=True)
class Scripted:
    """The payload of a scripted task."""

    label: str = ""
    """Tells it from others in the test."""
    value: Any = None
    """Anything."""


@define(eq=False)
class ScriptedRun:
    """A run in progress. It does nothing but wait for the next word of the test, unless its executor has a `behave`."""

    task: Task
    """As the executor got it."""
    ctx: Context
    """Likewise."""
    cancelled: bool = False
    """Whether it was cancelled, and has ended by that."""
    over: bool = False
    """Whether it has ended."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _steps: deque[Callable[[], Awaitable[_Ending | None]]] = field(factory=deque, init=False)
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def label(self) -> str:
        """The label of its task."""
        return str(self.task.payload.label)

    def complete(self, result: Any = None) -> None:
        """Let it return `result`."""

        async def step() -> _Ending:
            return _Ending(result)

        self._do(step)

    def fail(self, error: BaseException) -> None:
        """Let it raise `error`."""

        async def step() -> None:
            raise error

        self._do(step)

    async def emit(self, *chunks: Chunk | str) -> None:
        """Let it emit these chunks, and return when it has, or has ended."""
        done = False

        async def step() -> None:
            nonlocal done
            for chunk in chunks:
                await self.ctx.emit(chunk)
            done = True
            self._changed.unpark_all()

        self._do(step)
        while not (done or self.over):
            await self._changed.park()

    def ignore_cancellation(self) -> None:
        """Let it go on as if nothing were, when it is cancelled: until told to heed it, or to end."""
        self._scope.shield = True

    def heed_cancellation(self) -> None:
        """Let it end when it is cancelled, or at once if it was."""
        self._scope.shield = False

    async def wait_over(self) -> None:
        """Return when it has ended."""
        await trio.lowlevel.checkpoint()
        while not self.over:
            await self._changed.park()

    def _do(self, step: Callable[[], Awaitable[_Ending | None]]) -> None:
        self._steps.append(step)
        self._lot.unpark_all()

    async def _perform(self, behave: Callable[[ScriptedRun], Awaitable[Any]] | None) -> Any:
        try:
            with self._scope:
                if behave is not None:
                    return await behave(self)
                while True:
                    while not self._steps:
                        await self._lot.park()
                    ending = await self._steps.popleft()()
                    if ending is not None:
                        return ending.result
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self.over = True
            self._changed.unpark_all()


@frozen
class _Ending:
    """The word to return this."""

    result: Any


class ScriptedExecutor:
    """Runs tasks as a test says, in lanes and pools as a test says.

    A task's lane is the one that its spec wishes for, else the executor's name; lanes need nothing, unless `serve` says
    more. Runs wait to be steered one by one (`next_run`), unless `behave` is given, which then runs each of them.
    """

    version = __version__
    description = "Does what the test says"

    def __init__(
        self,
        name: str = "scripted",
        *,
        behave: Callable[[ScriptedRun], Awaitable[Any]] | None = None,
        pools: Mapping[str, int] | None = None,
        lanes: Mapping[str, LanePools] | None = None,
    ) -> None:
        self.name = name
        self.actions = {"run": Action(payload=Scripted, summary="Do what the test says", streams=True)}
        self.runs: list[ScriptedRun] = []
        """Every run that has started, in that order."""
        self.most_at_once = 0
        """The largest number of runs that were in progress at the same time."""
        self._behave = behave
        self._pools = dict(pools or {})
        self._lanes: dict[str, LanePools | None] = dict(lanes or {})
        self._tell: Callable[[], None] = lambda: None
        self._given = 0
        self._started = trio.lowlevel.ParkingLot()

    # For the test

    def spec(self, label: str = "", value: Any = None, **fields: Any) -> TaskSpec:
        """A task for this executor; `fields` are those of `TaskSpec`."""
        return TaskSpec(executor=self.name, action="run", payload=Scripted(label=label, value=value), **fields)

    @property
    def labels(self) -> list[str]:
        """The labels of the runs that have started, in that order."""
        return [run.label for run in self.runs]

    @property
    def running(self) -> list[ScriptedRun]:
        """The runs in progress."""
        return [run for run in self.runs if not run.over]

    async def next_run(self) -> ScriptedRun:
        """The first run that was not given out before; waits for one to start."""
        await trio.lowlevel.checkpoint()
        while self._given >= len(self.runs):
            await self._started.park()
        self._given += 1
        return self.runs[self._given - 1]

    def set_pool(self, pool: str, units: int) -> None:
        """Change how many units a pool has."""
        self._pools[pool] = units
        self._tell()

    def serve(self, lane: str, needs: LanePools | None) -> None:
        """Change what tasks of a lane need; None for a lane that cannot be served at present."""
        self._lanes[lane] = needs
        self._tell()

    # For the queue

    def lane(self, action: str, payload: Any, wanted: str | None) -> str:  # noqa: ARG002  # as the protocol has it
        return wanted or self.name

    def pools(self) -> Mapping[str, int]:
        return dict(self._pools)

    def lane_pools(self, lane: str) -> LanePools | None:
        return self._lanes.get(lane, LanePools())

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    async def execute(self, task: Task, ctx: Context) -> Any:
        run = ScriptedRun(task, ctx)
        self.runs.append(run)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self._started.unpark_all()
        return await run._perform(self._behave)  # noqa: SLF001  # the other half of this class


class SteeredStore(_StoreBase):
    """Stands before a store and refuses when told to, as a full disk does. What is not an op goes through."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failure: BaseException | None = None
        """What `apply` raises instead of storing anything, while it is set."""
        self.batches: list[tuple[Op[Reply], ...]] = []
        """Every batch that was stored."""

    def refuse(self) -> None:
        """Raise StoreUnavailable from now on."""
        self.failure = StoreUnavailable(self.location, "no space left on device")

    def recover(self) -> None:
        """Store what comes from now on."""
        self.failure = None

    def apply(self, ops: Sequence[Op[Reply]]) -> list[Reply]:
        if self.failure is not None:
            raise self.failure
        self.batches.append(tuple(ops))
        return self._store.apply(ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
