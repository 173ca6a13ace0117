"""Executors that behave well and badly, by chance that follows from the seed, the task and the epoch."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from oq.errors import PermanentError, RetryLater
from oq.executor import Action, Chunk, Context, LanePools
from oq.task import Task

if TYPE_CHECKING:
    from simulation.ledger import Run
    from simulation.process import Process


@frozen(kw_only=True)
class Part:
    """The payload: what part to play."""

    play: str
    token: int


PLAYS = {
    "quick": 30,
    "slow": 20,
    "stream": 20,
    "raising": 8,
    "permanent": 3,
    "later": 4,
    "uncounted": 3,
    "hanging": 4,
    "stubborn": 4,
    "late": 2,
    "clumsy": 2,
    "flood": 1,
    "invalid": 1,
    "group": 2,
    "exits": 1,
    "parent": 3,
}
"""What a task may do, and how often one does."""

SIM_POOLS = {"mem": 3, "e1": 1, "e2": 2, "e3": 1}
SIM_LANES: dict[str, LanePools] = {
    "sim": LanePools(),
    "m1": LanePools(needs=("mem",)),
    "m2": LanePools(choices=(("e1", "e2"), ("e3",))),
    "m3": LanePools(needs=("mem",), choices=(("e1",), ("e3", "e2"))),
    "m4": LanePools(needs=("mem", "mem")),
}


class PlainExecutor:
    """Plays its parts; without pools of its own."""

    version = "1"
    description = "Plays a part"
    name = "plain"

    def __init__(self, process: Process) -> None:
        self.process = process
        self.actions = {"play": Action(payload=Part, summary="Play a part", streams=True)}

    async def execute(self, task: Task, ctx: Context) -> Any:
        run = self.process.began(task, ctx)
        if run is None:
            return await trio.sleep_forever()
        chance = random.Random(f"{self.process.trial.plan.seed}/{task.payload.token}/{run.epoch}")
        try:
            result = await _PLAYS[task.payload.play](run, ctx, chance)
        except PermanentError:
            self.process.ended(run, "permanent")
            raise
        except RetryLater as error:
            self.process.ended(run, "later" if error.counted else "uncounted")
            raise
        except trio.Cancelled:
            self.process.ended(run, "cancelled")
            raise
        except BaseException:
            self.process.ended(run, "raised")
            raise
        self.process.ended(run, "invalid" if isinstance(result, _Unstorable) else "returned")
        return result


class SimExecutor(PlainExecutor):
    """Plays its parts in lanes that need units of pools, some with a choice of endpoints."""

    name = "sim"

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.units = dict(SIM_POOLS)
        self.lanes: dict[str, LanePools | None] = dict(SIM_LANES)
        self.tell: Callable[[], None] = lambda: None

    def lane(self, action: str, payload: Any, wanted: str | None) -> str:
        return wanted or self.name

    def pools(self) -> Mapping[str, int]:
        return self.units

    def lane_pools(self, lane: str) -> LanePools | None:
        return self.lanes[lane]

    def on_pools_change(self, tell: Callable[[], None]) -> None:
        self.tell = tell


class _Unstorable:
    """What no codec can encode."""


def result_of(run: Run) -> dict[str, int]:
    """What a run that goes well returns."""
    return {"seq": run.known.seq, "epoch": run.epoch}


def chunk_text(run: Run, index: int) -> str:
    """What a chunk says, but for what fills it up."""
    return f"{run.known.seq}.{run.epoch}.{index} "


async def _emit(run: Run, ctx: Context, filling: str = "") -> None:
    text = chunk_text(run, run.emitted) + filling
    await ctx.emit(text if len(text) % 2 else Chunk(text=text, data={"n": run.emitted}))
    run.emitted += 1


async def _quick(run: Run, _ctx: Context, chance: random.Random) -> Any:
    if chance.random() < 0.5:
        await trio.lowlevel.checkpoint()
    return result_of(run)


async def _slow(run: Run, _ctx: Context, chance: random.Random) -> Any:
    await trio.sleep(chance.choice((0.1, 1.0, chance.uniform(0, 12))))
    return result_of(run)


async def _stream(run: Run, ctx: Context, chance: random.Random) -> Any:
    for _ in range(chance.choice((1, 3, 10, 30))):
        await _emit(run, ctx)
        if chance.random() < 0.4:
            await trio.sleep(chance.choice((0.01, 0.1, 0.3, 1.0)))
    if chance.random() < 0.2:
        raise RuntimeError("it broke off")
    return result_of(run)


async def _flood(run: Run, ctx: Context, chance: random.Random) -> Any:
    for _ in range(chance.choice((5, 40))):
        await _emit(run, ctx, "x" * 40_000)
    return result_of(run)


async def _raising(run: Run, _ctx: Context, chance: random.Random) -> Any:
    await trio.sleep(chance.choice((0, 0, 0.5)))
    if chance.random() < 0.7:
        raise RuntimeError("it broke")
    return result_of(run)


async def _permanent(_run: Run, _ctx: Context, _chance: random.Random) -> Any:
    raise PermanentError("it will never work")


async def _later(run: Run, _ctx: Context, chance: random.Random) -> Any:
    if chance.random() < 0.6:
        raise RetryLater(chance.choice((0, 1.5, 20)), "busy")
    return result_of(run)


async def _uncounted(run: Run, _ctx: Context, chance: random.Random) -> Any:
    if run.epoch < 4 and chance.random() < 0.7:
        raise RetryLater(chance.choice((0, 0.25, 7)), "busy", counted=False)
    return result_of(run)


async def _hanging(_run: Run, _ctx: Context, _chance: random.Random) -> Any:
    await trio.sleep_forever()


async def _stubborn(run: Run, ctx: Context, chance: random.Random) -> Any:
    """Does not heed cancellation for a while, and emits meanwhile."""
    try:
        await trio.sleep(chance.uniform(0, 40))
    except trio.Cancelled:
        run.stubborn = True
        with trio.CancelScope(shield=True):
            await trio.sleep(chance.choice((0.1, 2, 9)))
            await _emit(run, ctx)
        run.stubborn = False
        raise
    return result_of(run)


async def _late(run: Run, _ctx: Context, chance: random.Random) -> Any:
    """Returns a result although it was cancelled."""
    try:
        await trio.sleep(chance.uniform(0, 40))
    except trio.Cancelled:
        run.stubborn = True
        with trio.CancelScope(shield=True):
            await trio.sleep(chance.choice((0, 1)))
        run.stubborn = False
    return result_of(run)


async def _clumsy(run: Run, _ctx: Context, chance: random.Random) -> Any:
    """Fails while it cleans up."""
    try:
        await trio.sleep(chance.uniform(0, 40))
    except trio.Cancelled:
        raise ValueError("cleaning up failed") from None
    return result_of(run)


async def _invalid(_run: Run, _ctx: Context, _chance: random.Random) -> Any:
    return _Unstorable()


async def _group(run: Run, _ctx: Context, chance: random.Random) -> Any:
    async def fail() -> None:
        await trio.sleep(chance.choice((0, 0.2)))
        raise RuntimeError("it broke inside")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        if chance.random() < 0.6:
            nursery.start_soon(fail)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    return result_of(run)


async def _exits(run: Run, _ctx: Context, chance: random.Random) -> Any:
    if chance.random() < 0.5:
        raise SystemExit(3)
    return result_of(run)


async def _parent(run: Run, _ctx: Context, _chance: random.Random) -> Any:
    """Submits another task."""
    await run.process.world.workload.submit_child(run)
    return result_of(run)


_PLAYS: dict[str, Callable[[Run, Context, random.Random], Awaitable[Any]]] = {
    "quick": _quick,
    "slow": _slow,
    "stream": _stream,
    "flood": _flood,
    "raising": _raising,
    "permanent": _permanent,
    "later": _later,
    "uncounted": _uncounted,
    "hanging": _hanging,
    "stubborn": _stubborn,
    "late": _late,
    "clumsy": _clumsy,
    "invalid": _invalid,
    "group": _group,
    "exits": _exits,
    "parent": _parent,
}
